//! How much memory a JSON text takes as a tree of `serde_json`'s, found without making it.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::limits;

/// Bytes of memory of the tree of a JSON text, an estimate from above; of an invalid text, of what is before the fault.
pub fn json_cost(text: &[u8]) -> u64 {
    let mut cost = 0;
    // What is wrong with it is reported by the code that makes the tree.
    let _ = Cost(&mut cost).deserialize(&mut serde_json::Deserializer::from_slice(text));
    cost
}

struct Cost<'a>(&'a mut u64);

impl<'de> DeserializeSeed<'de> for Cost<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Cost<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        *self.0 += limits::JSON_NODE_BYTES;
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        self.visit_unit()
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        self.visit_unit()
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        self.visit_unit()
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        self.visit_unit()
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        *self.0 += value.len() as u64;
        self.visit_unit()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        *self.0 += limits::JSON_NODE_BYTES;
        while seq.next_element_seed(Cost(&mut *self.0))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        // Keys are kept in nodes that have space for eleven.
        *self.0 += limits::JSON_NODE_BYTES + limits::JSON_MAP_BYTES;
        let mut keys = 0;
        while let Some(key) = map.next_key::<Cow<'_, str>>()? {
            *self.0 += 32 + key.len() as u64;
            keys += 1;
            if keys % 6 == 0 {
                *self.0 += limits::JSON_MAP_BYTES;
            }
            map.next_value_seed(Cost(&mut *self.0))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_texts_of_large_trees_are_known_for_it() {
        let (of_numbers, of_objects) = ("0,".repeat(100_000), r#"{"":0},"#.repeat(100_000));
        let list = |items: &str| format!("[{}]", items.trim_end_matches(','));
        assert!(json_cost(list(&of_numbers).as_bytes()) >= 100_000 * 32);
        assert!(json_cost(list(&of_objects).as_bytes()) >= 100_000 * 640);
        // A tensor of a manifest is no such thing.
        let tensor = r#"{"name":"model.layers.0.attention.wq.weight","file":"rank_0/checkpoint_0.ckpt","offset":4096,"length":33554432,"hash":"ae8b14860a799888","shape":[4096,4096],"dtype":"Float16"}"#;
        assert!(json_cost(tensor.as_bytes()) < 20 * tensor.len() as u64);
        assert_eq!(json_cost(b"[0,?"), 2 * limits::JSON_NODE_BYTES);
    }
}
