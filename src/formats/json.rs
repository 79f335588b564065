//! JSON trees that keep the order of keys and every duplicate, so that a duplicate can be refused by name.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::budget::Loan;
use super::{Budget, FormatError, FormatFault, limits};

/// A JSON value. Numbers that are no 64-bit integers are [`Node::Other`]: no field of the formats is a fraction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    /// An integer.
    Integer(i64),
    /// A string.
    Text(String),
    /// An array.
    List(Vec<Node>),
    /// An object, in file order.
    Map(Vec<(String, Node)>),
    /// `null`, a boolean, a fraction, or an integer beyond `i64`.
    Other,
}

impl Node {
    /// The value of a key, where this is an object that has it.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Map(pairs) => pairs.iter().find(|(k, _)| k == key).map(|(_, node)| node),
            _ => None,
        }
    }

    /// The integer that it is.
    pub(super) fn integer(&self) -> Option<i64> {
        match self {
            Self::Integer(n) => Some(*n),
            _ => None,
        }
    }

    /// The integers of an array of nothing else.
    pub(super) fn integers(&self) -> Option<Vec<i64>> {
        match self {
            Self::List(nodes) => nodes.iter().map(Self::integer).collect(),
            _ => None,
        }
    }

    /// The first key that is twice in one object, here or below. Recursion is bounded by `serde_json`'s own limit
    /// of 128 levels at parsing.
    fn duplicate(&self) -> Option<&str> {
        match self {
            Self::List(nodes) => nodes.iter().find_map(Self::duplicate),
            Self::Map(pairs) => {
                let mut seen = std::collections::HashSet::with_capacity(pairs.len());
                let own = pairs.iter().find(|(key, _)| !seen.insert(key.as_str()));
                own.map(|(key, _)| key.as_str()).or_else(|| pairs.iter().find_map(|(_, node)| node.duplicate()))
            }
            _ => None,
        }
    }
}

/// The tree of a whole JSON file.
///
/// Errors: too large a file, invalid JSON, a key twice in one object.
pub(super) fn tree(file: &[u8]) -> Result<Node, FormatError> {
    tree_within(file, &mut Budget::unlimited().loan())
}

/// As [`tree`], in memory that is lent.
pub(super) fn tree_within(file: &[u8], loan: &mut Loan<'_>) -> Result<Node, FormatError> {
    let size = file.len() as u64;
    if size > limits::MAX_SIDE_FILE_BYTES {
        let (field, limit) = ("file size", limits::MAX_SIDE_FILE_BYTES);
        return Err(FormatError::new(0, FormatFault::LimitExceeded { field, asked: size, limit }));
    }
    let mut fault_of_memory = None;
    let mut parser = serde_json::Deserializer::from_slice(file);
    let parsed = Seed { loan, fault: &mut fault_of_memory }.deserialize(&mut parser);
    let parsed = parsed.and_then(|node| parser.end().map(|()| node));
    let node = match (fault_of_memory, parsed) {
        (Some(fault), _) => return Err(fault),
        (None, parsed) => parsed.map_err(|error| fault(file, 0, &error))?,
    };
    match node.duplicate() {
        Some(key) => Err(FormatError::new(0, FormatFault::Duplicate(key.to_owned()))),
        None => Ok(node),
    }
}

/// A parser's error in `text`, which is at offset `base` of the file, with the byte offset that line and column
/// give.
pub(super) fn fault(text: &[u8], base: u64, error: &serde_json::Error) -> FormatError {
    let lines = text.split(|&byte| byte == b'\n').take(error.line().saturating_sub(1));
    let line_start: usize = lines.map(|line| line.len() + 1).sum();
    let at = base + (line_start + error.column().saturating_sub(1)) as u64;
    FormatError::new(at, FormatFault::Json(format!("invalid JSON: {error}")))
}

/// Makes a node, where there is memory for it.
struct Seed<'a, 'b> {
    loan: &'a mut Loan<'b>,
    /// Why there is none.
    fault: &'a mut Option<FormatError>,
}

impl<'b> Seed<'_, 'b> {
    fn take<E: serde::de::Error>(&mut self, text: usize) -> Result<(), E> {
        self.loan.take_at(0, limits::JSON_NODE_BYTES + text as u64).map_err(|fault| {
            *self.fault = Some(fault);
            E::custom("too large")
        })
    }

    fn inner(&mut self) -> Seed<'_, 'b> {
        Seed { loan: &mut *self.loan, fault: &mut *self.fault }
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_, '_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_, '_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: serde::de::Error>(mut self) -> Result<Node, E> {
        self.take(0)?;
        Ok(Node::Other)
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<Node, E> {
        self.visit_unit()
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<Node, E> {
        self.visit_unit()
    }

    fn visit_i64<E: serde::de::Error>(mut self, value: i64) -> Result<Node, E> {
        self.take(0)?;
        Ok(Node::Integer(value))
    }

    fn visit_u64<E: serde::de::Error>(mut self, value: u64) -> Result<Node, E> {
        self.take(0)?;
        Ok(i64::try_from(value).map_or(Node::Other, Node::Integer))
    }

    fn visit_str<E: serde::de::Error>(mut self, value: &str) -> Result<Node, E> {
        self.take(value.len())?;
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<Node, A::Error> {
        self.take(0)?;
        let mut nodes = Vec::new();
        while let Some(node) = seq.next_element_seed(self.inner())? {
            nodes.push(node);
        }
        Ok(Node::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Node, A::Error> {
        self.take(0)?;
        let mut pairs = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            self.take(key.len())?;
            let value = map.next_value_seed(self.inner())?;
            pairs.push((key, value));
        }
        Ok(Node::Map(pairs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_kept_and_duplicates_are_named() {
        let node = tree(br#"{"b":[1,-2],"a":{"x":"y"}}"#).unwrap();
        let Node::Map(pairs) = &node else { panic!() };
        assert_eq!(pairs.iter().map(|(k, _)| k.as_str()).collect::<Vec<_>>(), ["b", "a"]);
        assert_eq!(node.get("b").and_then(Node::integers), Some(vec![1, -2]));
        let twice = tree(br#"{"b":[{"x":1,"x":1}]}"#).unwrap_err();
        assert_eq!(twice.what, FormatFault::Duplicate("x".into()));
    }

    #[test]
    fn errors_state_the_byte() {
        assert_eq!(tree(b"{\n\"a\": ?}").unwrap_err().at, 7);
        assert!(tree(b"").is_err());
        assert!(tree("[".repeat(10_000).as_bytes()).is_err(), "nesting is limited");
    }
}
