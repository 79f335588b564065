//! What a rank's file says of the moment at which it was saved: the counters that every rank has alike.

use std::collections::BTreeMap;

use crate::formats::Entry;
use crate::model::naming::SAVE_MARKS;
use crate::tensor::Dtype;

/// The counters of a file by name, as text.
pub(super) type Counters = BTreeMap<&'static str, String>;

/// Reads the counters of a file: a few bytes each.
pub(super) fn counters(file: &[u8], entries: &[Entry]) -> Counters {
    let value = |name: &'static str| {
        let entry = entries.iter().find(|entry| *entry.name == *name && entry.shape.elements() == 1)?;
        let bytes = entry.extents.as_contiguous()?.of(file)?;
        Some((name, number(entry.dtype, bytes)?))
    };
    SAVE_MARKS.iter().filter_map(|name| value(name)).collect()
}

fn number(dtype: Dtype, bytes: &[u8]) -> Option<String> {
    Some(match dtype {
        Dtype::I32 => i32::from_le_bytes(bytes.try_into().ok()?).to_string(),
        Dtype::U32 => u32::from_le_bytes(bytes.try_into().ok()?).to_string(),
        Dtype::I64 => i64::from_le_bytes(bytes.try_into().ok()?).to_string(),
        Dtype::U64 => u64::from_le_bytes(bytes.try_into().ok()?).to_string(),
        Dtype::F32 => f32::from_le_bytes(bytes.try_into().ok()?).to_string(),
        Dtype::F64 => f64::from_le_bytes(bytes.try_into().ok()?).to_string(),
        _ => return None,
    })
}
