//! The text of a family file as a tree: every value with its line, every mapping in its order.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_yaml::Spanned;

/// What is wrong, and in which line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub line: u64,
    pub why: String,
}

/// All that is wrong with a value. Empty where it only follows from what is wrong elsewhere.
pub(super) type Faults = Vec<Fault>;

/// A value.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    pub line: u64,
    value: Value,
}

#[derive(Clone, Debug)]
enum Value {
    Nothing,
    /// A flag or a number as it can be read again, or a text.
    Scalar(String),
    List(Vec<Tree>),
    Map(Vec<Entry>),
}

/// An entry of a mapping.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub key: String,
    pub line: u64,
    pub value: Tree,
}

impl Tree {
    /// The error of this value.
    pub(super) fn fault(&self, why: impl Into<String>) -> Faults {
        vec![Fault { line: self.line, why: why.into() }]
    }

    pub(super) fn is_nothing(&self) -> bool {
        matches!(self.value, Value::Nothing)
    }

    /// A text, a number or a flag as text; `None` for any other.
    pub(super) fn scalar(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(text) => Some(text),
            _ => None,
        }
    }

    /// A text; numbers and flags are texts of expressions.
    pub(super) fn text(&self) -> Result<&str, Faults> {
        self.scalar().ok_or_else(|| self.fault("it is not a text"))
    }

    /// True or false.
    pub(super) fn flag(&self) -> Result<bool, Faults> {
        match self.scalar() {
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            _ => Err(self.fault("it is neither true nor false")),
        }
    }

    /// The values of a list.
    pub(super) fn list(&self) -> Result<&[Tree], Faults> {
        match &self.value {
            Value::List(values) => Ok(values),
            _ => Err(self.fault("it is not a list")),
        }
    }

    /// A list of texts.
    pub(super) fn texts(&self) -> Result<Vec<String>, Faults> {
        self.list()?.iter().map(|value| value.text().map(str::to_owned)).collect()
    }

    /// The entries of a mapping. An empty value has none.
    pub(super) fn entries(&self) -> Result<&[Entry], Faults> {
        match &self.value {
            Value::Map(entries) => Ok(entries),
            Value::Nothing => Ok(&[]),
            _ => Err(self.fault("it is not a mapping")),
        }
    }

    /// The values of these keys of a mapping. Any other key is an error.
    pub(super) fn keys<const N: usize>(&self, known: [&str; N]) -> Result<[Option<&Tree>; N], Faults> {
        let mut found = [None; N];
        let mut faults = Faults::new();
        for entry in self.entries()? {
            if let Some(at) = known.iter().position(|key| *key == entry.key) {
                found[at] = Some(&entry.value);
            } else {
                let why = format!("`{}` is not a key here; known are {}", entry.key, known.join(", "));
                faults.push(Fault { line: entry.line, why });
            }
        }
        if faults.is_empty() { Ok(found) } else { Err(faults) }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value, referenced, .. } = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self { line: referenced.line(), value })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Nothing)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Nothing)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Scalar(flag.to_string()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Scalar(number.to_string()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Scalar(number.to_string()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Scalar(number.to_string()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Scalar(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element()? {
            values.push(value);
        }
        Ok(Value::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(Spanned { value: key, referenced, .. }) = map.next_key::<Spanned<String>>()? {
            entries.push(Entry { key, line: referenced.line(), value: map.next_value()? });
        }
        Ok(Value::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_and_key_has_its_line() {
        let text = "a: 1\nb:\n  c: [x,\n      true]\n  d: &same {e: 1.5}\n\nf: *same\ng: null\n";
        let tree: Tree = serde_yaml::from_str(text).unwrap();
        let lines: Vec<(&str, u64)> = tree.entries().unwrap().iter().map(|e| (&*e.key, e.line)).collect();
        assert_eq!(lines, [("a", 1), ("b", 2), ("f", 7), ("g", 8)]);
        let [one, inner, alias, nothing] = tree.keys(["a", "b", "f", "g"]).unwrap().map(Option::unwrap);
        assert_eq!((one.text().unwrap(), nothing.is_nothing()), ("1", true));
        let [list, anchor] = inner.keys(["c", "d"]).unwrap().map(Option::unwrap);
        let list = list.list().unwrap();
        assert_eq!((list[0].text().unwrap(), list[0].line, list[1].flag().unwrap(), list[1].line), ("x", 3, true, 4));
        assert_eq!(anchor.entries().unwrap()[0].value.text().unwrap(), "1.5");
        // What an alias repeats is where the alias is: there it is wrong.
        assert_eq!((alias.line, alias.entries().unwrap().len()), (7, 1));
        let faults = tree.keys(["a"]).unwrap_err();
        assert_eq!(faults.iter().map(|fault| fault.line).collect::<Vec<_>>(), [2, 7, 8]);
    }
}
