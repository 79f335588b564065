//! The form before PyTorch 1.6 (`_use_new_zipfile_serialization=False`): pickles of a magic number, a version, facts
//! about the machine, the checkpoint and the list of storages, and then each storage after the number of its elements.

use std::collections::HashMap;

use super::contents::PytorchFile;
use super::machine::Lent;
use super::value::{Pickle, Storage, Value};
use super::{machine, state_dict};
use crate::formats::{Budget, FormatError, FormatFault};
use crate::source::ByteRange;

/// `MAGIC_NUMBER` of `serialization.py`, 0x1950a86a20f9469cfc6c, as `LONG1` stores it.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const PROTOCOL: i64 = 1001;

pub(super) fn read(file: &[u8], budget: &Budget) -> Result<PytorchFile, FormatError> {
    let wrong = |at, what| Err(FormatError::new(at, FormatFault::NotThisFormat(what)));
    let lent = &mut Lent::of(budget);
    let magic = next(file, 0, lent)?;
    if !matches!(magic.root(), Value::Long(bytes) if **bytes == MAGIC) {
        return wrong(0, "this is a pickle, but not one that torch.save wrote");
    }
    let version = next(file, magic.end, lent)?;
    if !matches!(version.root(), Value::Int(PROTOCOL)) {
        return wrong(magic.end, "this checkpoint is of a version of PyTorch's legacy form that is not known");
    }
    let machine = next(file, version.end, lent)?;
    match fact(&machine, "little_endian") {
        Some(Value::Bool(true)) => {}
        Some(Value::Bool(false)) => {
            return wrong(version.end, "this checkpoint was written on a big-endian machine, which is not read");
        }
        _ => return Err(malformed(version.end, "legacy checkpoint: no byte order")),
    }
    let pickle = next(file, machine.end, lent)?;
    let keys = next(file, pickle.end, lent)?;
    let places = places(file, &pickle, &keys)?;
    state_dict::read(&pickle, machine.end, budget, |storage| places.get(storage.key).copied())
}

fn malformed(at: u64, what: &'static str) -> FormatError {
    FormatError::new(at, FormatFault::Malformed(what))
}

/// The pickle at an offset.
fn next<'a>(file: &'a [u8], at: u64, lent: &mut Lent<'_>) -> Result<Pickle<'a>, FormatError> {
    let rest = usize::try_from(at).ok().and_then(|at| file.get(at..)).unwrap_or_default();
    machine::run(rest, at, lent)
}

/// A value of the dict that a pickle holds.
fn fact<'p, 'a>(pickle: &'p Pickle<'a>, name: &str) -> Option<&'p Value<'a>> {
    let Value::Dict(items) = pickle.root() else { return None };
    let item = items.iter().find(|(key, _)| matches!(pickle.get(*key), Value::Text(key) if *key == name));
    item.map(|&(_, value)| pickle.get(value))
}

/// Where each storage lies: after the list, in its order, each after eight bytes with the number of its elements.
fn places<'a>(file: &[u8], pickle: &Pickle<'a>, keys: &Pickle<'a>) -> Result<HashMap<&'a str, ByteRange>, FormatError> {
    let Value::List(list) = keys.root() else {
        return Err(malformed(pickle.end, "legacy checkpoint: no list of storages"));
    };
    let known: HashMap<&str, &Storage<'_>> = pickle.storages.iter().map(|s| (s.key, s)).collect();
    let mut places = HashMap::with_capacity(known.len());
    let mut at = keys.end;
    for &key in list {
        let &Value::Text(key) = keys.get(key) else {
            return Err(malformed(pickle.end, "legacy checkpoint: a storage whose key is no text"));
        };
        let Some(storage) = known.get(key) else {
            return Err(malformed(pickle.end, "legacy checkpoint: a storage that no tensor uses"));
        };
        let (numel, rest) = numel(file, at)?;
        let Some(bytes) = storage.bytes().filter(|_| numel == storage.numel) else {
            let (storage, elements, have) = (key.into(), storage.numel, numel);
            return Err(FormatError::new(at, FormatFault::StorageCount { storage, elements, have }));
        };
        if bytes > rest {
            let what = FormatFault::Truncated { field: "storage", need: bytes, have: rest };
            return Err(FormatError::new(at + 8, what));
        }
        let range = ByteRange::new(at + 8, bytes).ok_or_else(|| malformed(at, "legacy checkpoint: a storage"))?;
        at = range.end();
        if places.insert(key, range).is_some() {
            return Err(FormatError::new(pickle.end, FormatFault::Duplicate(key.into())));
        }
    }
    match (file.len() as u64).saturating_sub(at) {
        0 => Ok(places),
        more => Err(FormatError::new(at, FormatFault::TrailingBytes(more))),
    }
}

/// The number of elements at an offset, and how many bytes follow it.
fn numel(file: &[u8], at: u64) -> Result<(u64, u64), FormatError> {
    let rest = usize::try_from(at).ok().and_then(|at| file.get(at..)).unwrap_or_default();
    let Some((count, behind)) = rest.split_first_chunk::<8>() else {
        let what = FormatFault::Truncated { field: "count of a storage", need: 8, have: rest.len() as u64 };
        return Err(FormatError::new(at, what));
    };
    Ok((u64::from_le_bytes(*count), behind.len() as u64))
}
