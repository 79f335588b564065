//! A `config.json` as text: single fields changed, every other byte as it was.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::error::SpecError;

/// The fields of the outermost object, in file order, and where their values are.
#[derive(Clone, Debug)]
pub struct ConfigText<'a> {
    text: &'a str,
    fields: Vec<(String, &'a RawValue)>,
}

impl<'a> ConfigText<'a> {
    /// Reads the object that the bytes are.
    ///
    /// # Errors
    /// No JSON object.
    pub fn read(json: &'a [u8]) -> Result<Self, SpecError> {
        let text = std::str::from_utf8(json).map_err(|e| SpecError::Unreadable(e.to_string()))?;
        let Object(fields) = serde_json::from_str(text).map_err(|e| SpecError::Unreadable(e.to_string()))?;
        Ok(Self { text, fields })
    }

    /// The JSON text of a field's value, unless it is absent or null.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        Some(self.value(name)?.get()).filter(|text| *text != "null")
    }

    /// The value of a field. Where a field is there twice the last counts, as for Python.
    fn value(&self, name: &str) -> Option<&'a RawValue> {
        self.fields.iter().rfind(|(field, _)| field == name).map(|(_, value)| *value)
    }

    /// The text with these fields saying this (as JSON text): in their place, or at the end where they were not there.
    pub fn with(&self, changes: &[(&str, String)]) -> String {
        let mut edits: Vec<(usize, usize, String)> = Vec::new();
        for (name, value) in changes {
            if let Some(old) = self.value(name) {
                let from = self.offset(old);
                edits.push((from, from + old.get().len(), value.clone()));
            } else {
                let name = serde_json::Value::from(*name);
                let (at, comma) = match self.fields.last() {
                    Some((_, last)) => (self.offset(last) + last.get().len(), ","),
                    None => (self.text.find('{').map_or(0, |at| at + 1), ""),
                };
                edits.push((at, at, format!("{comma}{}{name}: {value}", self.indentation())));
            }
        }
        // From back to front, so that offsets stay.
        edits.sort_by_key(|(from, ..)| *from);
        let mut text = self.text.to_owned();
        for (from, to, value) in edits.iter().rev() {
            text.replace_range(from..to, value);
        }
        text
    }

    /// Where a value begins in the text, of which it is a part.
    fn offset(&self, value: &RawValue) -> usize {
        value.get().as_ptr() as usize - self.text.as_ptr() as usize
    }

    /// What is between the brace and the first field.
    fn indentation(&self) -> &'a str {
        let inside = self.text.find('{').map_or("", |at| &self.text[at + 1..]);
        &inside[..inside.find('"').unwrap_or(0)]
    }
}

struct Object<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor)
    }
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = Object<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
        let mut fields = Vec::new();
        while let Some(entry) = map.next_entry::<String, &RawValue>()? {
            fields.push(entry);
        }
        Ok(Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(json: &str, changes: &[(&str, &str)]) -> String {
        let changes: Vec<_> = changes.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        ConfigText::read(json.as_bytes()).unwrap().with(&changes)
    }

    #[test]
    fn only_the_values_of_the_fields_change() {
        let json =
            "{\n  \"b\" : 1.50,\n  \"dtype\":\"x\", \"in\": {\"dtype\": \"y\", \"tie\": 1},\n\t\"tie\": true\n}\n";
        let wanted = json.replace("\"x\"", "\"float16\"").replace("\"tie\": true", "\"tie\": false");
        assert_eq!(changed(json, &[("tie", "false"), ("dtype", "\"float16\"")]), wanted);
        assert_eq!(changed(json, &[]), json);
    }

    #[test]
    fn an_absent_field_is_added_as_the_others_are_written() {
        assert_eq!(changed("{\n  \"a\": 1\n}\n", &[("b", "true")]), "{\n  \"a\": 1,\n  \"b\": true\n}\n");
        assert_eq!(changed("{\"a\":[1]}", &[("b", "true")]), "{\"a\":[1],\"b\": true}");
        assert_eq!(changed("{}", &[("b", "true")]), "{\"b\": true}");
    }

    #[test]
    fn of_a_field_that_is_there_twice_the_last_counts() {
        let json = "{\"a\": 1, \"a\": 2}";
        assert_eq!(ConfigText::read(json.as_bytes()).unwrap().get("a"), Some("2"));
        assert_eq!(changed(json, &[("a", "3")]), "{\"a\": 1, \"a\": 3}");
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for json in ["", "[]", "{", "{\"a\": 1} x"] {
            assert!(ConfigText::read(json.as_bytes()).is_err(), "{json}");
        }
        let null = ConfigText::read(b"{\"a\": null, \"b\": \"c\"}").unwrap();
        assert_eq!((null.get("a"), null.get("b"), null.get("d")), (None, Some("\"c\""), None));
    }
}
