//! The text of a family file as a tree: every value with its line, every mapping in its order.

use std::fmt;
use std::marker::PhantomData;

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
        let Spanned { value, referenced, .. } = Spanned::<Located>::deserialize(deserializer)?;
        Ok(Self { line: referenced.line(), value: value.0 })
    }
}

/// A tree without lines, which cost two thirds of reading: of a file in which nothing is wrong.
pub(super) struct Unplaced(pub Tree);

impl<'de> Deserialize<'de> for Unplaced {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = deserializer.deserialize_any(ValueVisitor::<Self, String>(PhantomData))?;
        Ok(Self(Tree { line: 0, value }))
    }
}

struct Located(Value);

impl<'de> Deserialize<'de> for Located {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor::<Tree, Spanned<String>>(PhantomData)).map(Self)
    }
}

impl From<Unplaced> for Tree {
    fn from(Unplaced(tree): Unplaced) -> Self {
        tree
    }
}

/// A key of a mapping, and its line where that is known.
trait Key {
    fn placed(self) -> (String, u64);
}

impl Key for String {
    fn placed(self) -> (String, u64) {
        (self, 0)
    }
}

impl Key for Spanned<String> {
    fn placed(self) -> (String, u64) {
        (self.value, self.referenced.line())
    }
}

/// Reads values whose parts are read as `T`, and their keys as `K`.
struct ValueVisitor<T, K>(PhantomData<(T, K)>);

impl<'de, T: Deserialize<'de> + Into<Tree>, K: Deserialize<'de> + Key> Visitor<'de> for ValueVisitor<T, K> {
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
        while let Some(value) = list.next_element::<T>()? {
            values.push(value.into());
        }
        Ok(Value::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<K>()? {
            let (key, line) = key.placed();
            entries.push(Entry { key, line, value: map.next_value::<T>()?.into() });
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

    #[test]
    fn without_lines_the_values_are_the_same() {
        fn show(tree: &Tree) -> String {
            match &tree.value {
                Value::Nothing => "~".to_owned(),
                Value::Scalar(text) => format!("{text:?}"),
                Value::List(values) => format!("{:?}", values.iter().map(show).collect::<Vec<_>>()),
                Value::Map(entries) => {
                    format!("{:?}", entries.iter().map(|entry| (&entry.key, show(&entry.value))).collect::<Vec<_>>())
                }
            }
        }
        for (name, text) in crate::model::texts::family_texts() {
            let placed: Tree = crate::model::yaml_text::read_as(text).unwrap();
            let Unplaced(tree) = crate::model::yaml_text::read_as(text).unwrap();
            assert_eq!(show(&tree), show(&placed), "{name}");
        }
    }
}
