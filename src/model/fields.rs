//! The fields of a configuration, hostile or not: `config.json`, `params.json`, a yaml's mapping.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::Value as Json;

use super::error::SpecError;
use super::size::{Configuration, Value};
use super::yaml_text::check_size;

/// The most characters of a value that a message shows.
const SHOWN: usize = 80;

/// What a rule reads a field as.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Wanted {
    /// A size: a positive whole number.
    Size,
    /// A number of layers or the number of one, which may be 0.
    Count,
    /// True or false.
    Flag,
    /// A number between two.
    Between(f64, f64),
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size => f.write_str("a positive whole number"),
            Self::Count => f.write_str("a whole number"),
            Self::Flag => f.write_str("true or false"),
            Self::Between(from, to) => write!(f, "a number between {from} and {to}"),
        }
    }
}

/// The fields of one configuration. What is null, or the text "None" of a yaml, counts as absent.
pub(super) struct Fields(Vec<(String, Json)>);

impl Fields {
    /// Reads the object that the bytes are. A field twice is an error, for readers differ on which of them counts.
    pub(super) fn json(bytes: &[u8]) -> Result<Self, SpecError> {
        check_size(bytes.len())?;
        // serde_json itself stops at 128 levels.
        serde_json::from_slice(bytes).map_err(|e| SpecError::Unreadable(e.to_string()))
    }

    /// The fields of a mapping of a yaml, and those of mappings in it under both names: `moe_config.expert_num`.
    pub(super) fn yaml(mapping: &Json) -> Self {
        let mut fields = Vec::new();
        for (name, value) in mapping.as_object().into_iter().flatten() {
            for (inner, value) in value.as_object().into_iter().flatten() {
                fields.push((format!("{name}.{inner}"), value.clone()));
            }
            fields.push((name.clone(), value.clone()));
        }
        fields.retain(|(_, value)| value.as_str() != Some("None"));
        Self(fields)
    }

    /// Only those of mappings in it.
    pub(super) fn inner(mut self) -> Self {
        self.0.retain(|(name, _)| name.contains('.'));
        self
    }

    /// The fields of another mapping after these.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// The values of a field, but for null: one, or none, or of a yaml those of both places where it may be.
    pub(super) fn all(&self, field: &str) -> impl Iterator<Item = &Json> {
        self.0.iter().filter(move |(name, value)| name == field && !value.is_null()).map(|(_, value)| value)
    }

    /// The value of a field, unless it is absent or null.
    pub(super) fn present(&self, field: &str) -> Option<&Json> {
        self.all(field).next()
    }

    /// The first of these fields that is there.
    pub(super) fn first_of<'a>(&self, fields: &[&'a str]) -> Option<&'a str> {
        fields.iter().copied().find(|field| self.present(field).is_some())
    }

    /// Takes a field away.
    pub(super) fn remove(&mut self, field: &str) {
        self.0.retain(|(name, _)| name != field);
    }

    /// Has a field say a number.
    pub(super) fn set(&mut self, field: &str, number: u64) {
        self.remove(field);
        self.0.push((field.to_owned(), number.into()));
    }

    /// A string.
    pub(super) fn text(&self, field: &str) -> Result<Option<&str>, SpecError> {
        let Some(value) = self.present(field) else { return Ok(None) };
        value.as_str().map(Some).ok_or_else(|| bad(field, value, "a string"))
    }

    /// A field as a rule expects it.
    pub(super) fn value(&self, field: &str, wanted: Wanted) -> Result<Option<Value>, SpecError> {
        let Some(value) = self.present(field) else { return Ok(None) };
        // Dimensions above this would overflow products; no model comes near.
        let whole = |from: u64| {
            #[expect(clippy::cast_precision_loss, reason = "below 2^32")]
            value.as_u64().filter(|n| (from..1 << 32).contains(n)).map(|n| Value::Number(n as f64))
        };
        let found = match wanted {
            Wanted::Size => whole(1),
            Wanted::Count => whole(0),
            Wanted::Flag => value.as_bool().map(Value::Flag),
            Wanted::Between(from, to) => value.as_f64().filter(|f| (from..=to).contains(f)).map(Value::Number),
        };
        found.map(Some).ok_or_else(|| bad(field, value, &wanted.to_string()))
    }

    /// What the rules of a family read of it.
    pub(super) fn configuration(&self, wanted: &[(String, Wanted)]) -> Result<Configuration, SpecError> {
        let mut read = Configuration::new();
        for (field, wanted) in wanted {
            if let Some(value) = self.value(field, *wanted)? {
                read.insert(field.clone(), value);
            }
        }
        Ok(read)
    }
}

/// The error of a value that is not what it should be.
pub(super) fn bad(field: &str, value: &Json, wanted: &str) -> SpecError {
    SpecError::BadValue { field: field.to_owned(), value: show(value), wanted: wanted.to_owned() }
}

/// A value as an error shows it: as long as a line allows.
pub(super) fn show(value: &Json) -> String {
    let text = value.to_string();
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("`{shown}`")
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let mut fields: Vec<(String, Json)> = Vec::new();
        let mut seen = HashSet::new();
        while let Some((name, value)) = map.next_entry::<String, Json>()? {
            if !seen.insert(name.clone()) {
                return Err(A::Error::custom(format_args!("the field {name:?} is there twice")));
            }
            fields.push((name, value));
        }
        Ok(Fields(fields))
    }
}
