//! The fields of a JSON object, hostile or not: `config.json` and `params.json`.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::Value;

use super::super::SpecError;

/// The largest file that is read. Real ones have a few KiB, with long label lists some 100.
const MAX_BYTES: usize = 4 << 20;

/// The most characters of a value that a message shows.
const SHOWN: usize = 80;

/// The fields of one object. What is null counts as absent.
pub(super) struct Fields(Vec<(String, Value)>);

impl Fields {
    /// Reads the object that the bytes are. A field twice is an error, for readers differ on which of them counts.
    pub(super) fn read(json: &[u8]) -> Result<Self, SpecError> {
        if json.len() > MAX_BYTES {
            return Err(SpecError::Unreadable(format!("{} bytes, more than {MAX_BYTES}", json.len())));
        }
        // serde_json itself stops at 128 levels.
        serde_json::from_slice(json).map_err(|e| SpecError::Unreadable(e.to_string()))
    }

    /// The value of a field, unless it is absent or null.
    pub(super) fn present(&self, field: &str) -> Option<&Value> {
        self.0.iter().find(|(name, _)| name == field).map(|(_, value)| value).filter(|value| !value.is_null())
    }

    /// The first of these fields that is there.
    pub(super) fn first_of(&self, fields: &[&'static str]) -> Option<&'static str> {
        fields.iter().copied().find(|field| self.present(field).is_some())
    }

    /// A positive whole number.
    pub(super) fn number(&self, field: &'static str) -> Result<Option<u64>, SpecError> {
        let Some(value) = self.present(field) else { return Ok(None) };
        // Dimensions above this would overflow products; no model comes near.
        let number = value.as_u64().filter(|n| (1..1 << 32).contains(n));
        number.map(Some).ok_or_else(|| bad(field, value, "a positive whole number"))
    }

    /// A positive whole number that must be there.
    pub(super) fn required(&self, field: &'static str) -> Result<u64, SpecError> {
        self.number(field)?.ok_or(SpecError::Missing(field))
    }

    /// True or false; false where it is absent.
    pub(super) fn flag(&self, field: &'static str) -> Result<bool, SpecError> {
        let Some(value) = self.present(field) else { return Ok(false) };
        value.as_bool().ok_or_else(|| bad(field, value, "true or false"))
    }

    /// A string.
    pub(super) fn text(&self, field: &'static str) -> Result<Option<&str>, SpecError> {
        let Some(value) = self.present(field) else { return Ok(None) };
        value.as_str().map(Some).ok_or_else(|| bad(field, value, "a string"))
    }
}

/// The error of a value that is not what it should be.
pub(super) fn bad(field: &'static str, value: &Value, wanted: &'static str) -> SpecError {
    let text = value.to_string();
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    SpecError::BadValue { field, value: format!("`{shown}`"), wanted }
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
        let mut fields: Vec<(String, Value)> = Vec::new();
        let mut seen = HashSet::new();
        while let Some((name, value)) = map.next_entry::<String, Value>()? {
            if !seen.insert(name.clone()) {
                return Err(A::Error::custom(format_args!("the field {name:?} is there twice")));
            }
            fields.push((name, value));
        }
        Ok(Fields(fields))
    }
}
