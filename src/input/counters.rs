//! What a rank's file says of the moment at which it was saved: the counters that every rank has alike.

use std::collections::BTreeMap;
use std::path::Path;

use super::load::{LoadedFile, load};
use super::{InputError, save_name};
use crate::formats::Entry;
use crate::model::naming::SAVE_MARKS;
use crate::sys::StableInputs;
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

/// The steps that are stored in a file. None where it cannot be read: whoever wants that file gets the error.
pub(super) fn stored_steps(path: &Path, promise: StableInputs) -> Vec<u64> {
    let Ok(file) = load(0, path, promise) else { return Vec::new() };
    let steps = file.counters.iter().filter(|(name, _)| name.ends_with("step") || name.ends_with("step_num"));
    steps.filter_map(|(_, value)| value.parse().ok()).collect()
}

/// Every file must be that of the rank in whose directory it is, and all of one save.
pub(super) fn check_ranks(files: &[LoadedFile]) -> Result<(), InputError> {
    for file in files {
        if let Some((named, rank)) = save_name::contradiction(file.mapping.path()) {
            return Err(InputError::OtherRank { path: file.mapping.path().to_owned(), named, rank });
        }
    }
    for name in SAVE_MARKS {
        let mut ranks: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
        for file in files {
            if let Some(value) = file.counters.get(name) {
                ranks.entry(value).or_default().push(file.rank);
            }
        }
        if ranks.len() > 1 {
            let mut values: Vec<(String, Vec<u32>)> =
                ranks.into_iter().map(|(value, ranks)| (value.to_owned(), ranks)).collect();
            values.sort_by_key(|(_, ranks)| ranks.first().copied());
            return Err(InputError::OtherSave { name, values });
        }
    }
    Ok(())
}

/// `60 in rank_0, rank_1; 70 in rank_2`.
pub(super) fn values_text(values: &[(String, Vec<u32>)]) -> String {
    const SHOWN: usize = 4;
    let side = |(value, ranks): &(String, Vec<u32>)| {
        let shown: Vec<String> = ranks.iter().take(SHOWN).map(|rank| format!("rank_{rank}")).collect();
        let more = ranks.len().saturating_sub(SHOWN);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{value} in {}{more}", shown.join(", "))
    };
    let shown: Vec<String> = values.iter().take(SHOWN).map(side).collect();
    let more = values.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!("; and {more} other values") } else { String::new() };
    format!("{}{more}", shown.join("; "))
}
