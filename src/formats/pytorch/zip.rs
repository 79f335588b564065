//! Reads the directory of a zip archive: where each entry's bytes lie. Stored entries only, with or without zip64.
//!
//! Readers of zip disagree on archives that contradict themselves, and such an archive could hold one thing for
//! PyTorch and another one here. So whatever is said twice has to agree, entries must not overlap, and there is no
//! searching for archives inside other files.

use std::collections::HashMap;

use crate::formats::{Budget, FormatError, FormatFault, limits};
use crate::source::ByteRange;

const LOCAL: &[u8; 4] = b"PK\x03\x04";
const CENTRAL: &[u8; 4] = b"PK\x01\x02";
const END: &[u8; 4] = b"PK\x05\x06";
const END64: &[u8; 4] = b"PK\x06\x06";
const LOCATOR64: &[u8; 4] = b"PK\x06\x07";
/// Lengths of the fixed parts of the records.
const LOCAL_LEN: usize = 30;
const CENTRAL_LEN: usize = 46;
const END_LEN: usize = 22;
const END64_LEN: usize = 56;
const LOCATOR64_LEN: usize = 20;
/// The identifier of the extra field with 64-bit sizes.
const EXTRA64: u16 = 1;
/// What a 32-bit field holds whose value is in the extra field or in the zip64 record.
const SENTINEL: u64 = 0xffff_ffff;
/// The bits of the flags that mark encryption, and sizes that follow the data.
const ENCRYPTED: u16 = 1 | 1 << 6 | 1 << 13;
const SIZES_FOLLOW: u16 = 1 << 3;

/// The directory of an archive.
#[derive(Debug)]
pub(super) struct Archive<'a> {
    first: Option<&'a str>,
    /// The fault of the first entry that is compressed.
    compressed: Option<FormatError>,
    entries: HashMap<&'a str, ByteRange>,
}

impl<'a> Archive<'a> {
    /// Reads and checks the directory. `file`: all bytes of the archive.
    pub(super) fn read(file: &'a [u8], budget: &Budget) -> Result<Self, FormatError> {
        let directory = Directory::find(file)?;
        // The most that is needed at once; the names are the file's.
        let at = directory.range.start();
        budget.loan().take_at(at, directory.count * limits::ZIP_ENTRY_BYTES)?;
        let mut entries = Vec::new();
        let mut at = directory.range.start();
        for _ in 0..directory.count {
            let (entry, next) = Entry::read(file, at, directory.range.end())?;
            entries.push(entry);
            at = next;
        }
        if at != directory.range.end() {
            return Err(malformed(at, "zip archive: its directory is longer than its entries"));
        }
        let mut places = Vec::with_capacity(entries.len());
        let mut by_name = HashMap::with_capacity(entries.len());
        for entry in &entries {
            let data = entry.data(file, directory.range.start())?;
            if by_name.insert(entry.name, data).is_some() {
                return Err(FormatError::new(entry.at, FormatFault::Duplicate(entry.name.into())));
            }
            places.push((entry.header, data.end(), entry));
        }
        places.sort_unstable_by_key(|&(header, end, _)| (header, end));
        for pair in places.windows(2) {
            if let [(_, end, _), (header, _, entry)] = pair
                && end > header
            {
                return Err(entry.fault("overlaps the one before it"));
            }
        }
        let first = entries.first().map(|entry| entry.name);
        let compressed = entries.iter().find(|entry| entry.method != 0);
        let compressed = compressed.map(|entry| entry.fault("is compressed; torch.save stores entries as they are"));
        Ok(Self { first, compressed, entries: by_name })
    }

    /// Refuses the archive where an entry is compressed: its bytes are of no use in place. Until then names may be
    /// looked at, to say what it is instead.
    pub(super) fn stored(self) -> Result<Self, FormatError> {
        match self.compressed {
            Some(fault) => Err(fault),
            None => Ok(self),
        }
    }

    /// The name of the entry that is first in the directory.
    pub(super) fn first(&self) -> Option<&'a str> {
        self.first
    }

    /// All names, in no order.
    pub(super) fn names(&self) -> impl Iterator<Item = &'a str> {
        self.entries.keys().copied()
    }

    /// Where in the file the bytes of an entry lie.
    pub(super) fn get(&self, name: &str) -> Option<ByteRange> {
        self.entries.get(name).copied()
    }
}

fn malformed(at: u64, what: &'static str) -> FormatError {
    FormatError::new(at, FormatFault::Malformed(what))
}

/// A record's bytes: fields outside of them read as 0, so lengths are checked when a record is taken.
#[derive(Clone, Copy)]
struct Record<'a>(&'a [u8]);

impl<'a> Record<'a> {
    /// `len` bytes at an offset, or the fault that the file ends before.
    fn at(file: &'a [u8], at: u64, len: usize, field: &'static str) -> Result<Self, FormatError> {
        let rest = usize::try_from(at).ok().and_then(|at| file.get(at..)).unwrap_or_default();
        rest.get(..len).map(Self).ok_or_else(|| {
            let (need, have) = (len as u64, rest.len() as u64);
            FormatError::new(at, FormatFault::Truncated { field, need, have })
        })
    }

    fn number(self, at: usize, len: usize) -> u64 {
        let bytes = self.0.get(at..at + len).unwrap_or_default();
        bytes.iter().rev().fold(0, |n, &byte| n << 8 | u64::from(byte))
    }

    fn u16(self, at: usize) -> u16 {
        // Two bytes never exceed it.
        u16::try_from(self.number(at, 2)).unwrap_or_default()
    }

    fn u32(self, at: usize) -> u64 {
        self.number(at, 4)
    }

    fn u64(self, at: usize) -> u64 {
        self.number(at, 8)
    }
}

/// Where the directory lies, and how many entries it has.
struct Directory {
    range: ByteRange,
    count: u64,
}

impl Directory {
    fn find(file: &[u8]) -> Result<Self, FormatError> {
        let at = Self::end_record(file)
            .ok_or_else(|| malformed(0, "zip archive: its end record is missing, so the file is cut short"))?;
        let end = Record::at(file, at, END_LEN, "end record")?;
        if end.u16(4) != 0 || end.u16(6) != 0 || end.u16(8) != end.u16(10) {
            return Err(malformed(at, "zip archive: it is split over several files"));
        }
        let (mut count, mut size, mut start) = (end.u16(10).into(), end.u32(12), end.u32(16));
        let mut behind = at;
        if let Some(locator_at) = at.checked_sub(LOCATOR64_LEN as u64)
            && let locator = Record::at(file, locator_at, LOCATOR64_LEN, "zip64 locator")?
            && locator.0.starts_with(LOCATOR64)
        {
            behind = locator.u64(8);
            let end64 = Record::at(file, behind, END64_LEN, "zip64 end record")?;
            let goes_on = end64.u64(4).checked_add(12).and_then(|len| len.checked_add(behind)) == Some(locator_at);
            if !end64.0.starts_with(END64) || !goes_on {
                return Err(malformed(behind, "zip archive: its zip64 end record"));
            }
            let one_file = locator.u32(4) == 0 && locator.u32(16) <= 1 && end64.u32(16) == 0 && end64.u32(20) == 0;
            if !one_file || end64.u64(24) != end64.u64(32) {
                return Err(malformed(behind, "zip archive: it is split over several files"));
            }
            let agree = |short: u64, sentinel: u64, long: u64| short == sentinel || short == long;
            if !agree(count, 0xffff, end64.u64(32))
                || !agree(size, SENTINEL, end64.u64(40))
                || !agree(start, SENTINEL, end64.u64(48))
            {
                return Err(malformed(behind, "zip archive: its two end records contradict each other"));
            }
            (count, size, start) = (end64.u64(32), end64.u64(40), end64.u64(48));
        }
        let range = ByteRange::new(start, size).filter(|range| range.end() == behind);
        let range = range.ok_or_else(|| malformed(at, "zip archive: its directory does not end at the end record"))?;
        let limit = (range.len() / CENTRAL_LEN as u64).min(limits::MAX_ENTRIES as u64);
        if count > limit {
            return Err(FormatError::new(at, FormatFault::LimitExceeded { field: "zip entries", asked: count, limit }));
        }
        Ok(Self { range, count })
    }

    /// The end record: the last one whose comment ends with the file.
    fn end_record(file: &[u8]) -> Option<u64> {
        let last = file.len().checked_sub(END_LEN)?;
        let first = last.saturating_sub(usize::from(u16::MAX));
        let fits = |at: &usize| {
            let record = Record(file.get(*at..).unwrap_or_default());
            record.0.starts_with(END) && usize::from(record.u16(20)) == last - at
        };
        (first..=last).rev().find(fits).map(|at| at as u64)
    }
}

/// What the directory says of an entry.
struct Entry<'a> {
    name: &'a str,
    /// Where its record in the directory is.
    at: u64,
    flags: u16,
    /// 0: stored.
    method: u16,
    /// Its bytes in the file, and once they are unpacked.
    packed: u64,
    unpacked: u64,
    /// Where its local header is.
    header: u64,
}

impl<'a> Entry<'a> {
    /// The entry at an offset of the directory, and where the next one begins.
    fn read(file: &'a [u8], at: u64, end: u64) -> Result<(Self, u64), FormatError> {
        let field = "zip directory";
        let record = Record::at(file, at, CENTRAL_LEN, field)?;
        if !record.0.starts_with(CENTRAL) {
            return Err(malformed(at, "zip archive: its directory"));
        }
        let [name, extra, comment] = [28, 30, 32].map(|at| usize::from(record.u16(at)));
        let len = CENTRAL_LEN + name + extra + comment;
        let whole = Record::at(file, at, len, field)?;
        let next = at + len as u64;
        if next > end {
            return Err(malformed(at, "zip archive: its directory is shorter than its entries"));
        }
        let bytes = whole.0.get(CENTRAL_LEN..CENTRAL_LEN + name).unwrap_or_default();
        let Ok(name) = std::str::from_utf8(bytes) else {
            return Err(fault(at, &String::from_utf8_lossy(bytes), "has a name that is not UTF-8"));
        };
        let extra = whole.0.get(CENTRAL_LEN + bytes.len()..CENTRAL_LEN + bytes.len() + extra).unwrap_or_default();
        let mut long = Long::find(extra);
        let unpacked = long.value(record.u32(24));
        let packed = long.value(record.u32(20));
        let header = long.value(record.u32(42));
        let (Some(unpacked), Some(packed), Some(header)) = (unpacked, packed, header) else {
            return Err(fault(at, name, "lacks its zip64 sizes"));
        };
        let entry = Self { name, at, flags: record.u16(8), method: record.u16(10), packed, unpacked, header };
        if entry.flags & ENCRYPTED != 0 {
            return Err(entry.fault("is encrypted"));
        }
        if entry.method == 0 && packed != unpacked {
            return Err(entry.fault("has two sizes, though it is not compressed"));
        }
        if !matches!(record.u16(34), 0 | 0xffff) {
            return Err(entry.fault("lies in another file"));
        }
        Ok((entry, next))
    }

    fn fault(&self, why: &'static str) -> FormatError {
        fault(self.at, self.name, why)
    }

    /// Where the entry's bytes lie, once its local header is found to say the same as the directory.
    fn data(&self, file: &[u8], directory: u64) -> Result<ByteRange, FormatError> {
        let outside = || self.fault("lies outside of the file");
        let record = Record::at(file, self.header, LOCAL_LEN, "zip entry").map_err(|_| outside())?;
        let lies = || self.fault("has a local header that contradicts the directory");
        let [name, extra] = [26, 28].map(|at| usize::from(record.u16(at)));
        let len = LOCAL_LEN + name + extra;
        let whole = Record::at(file, self.header, len, "zip entry").map_err(|_| outside())?;
        let same_name = whole.0.get(LOCAL_LEN..LOCAL_LEN + name) == Some(self.name.as_bytes());
        let flags = record.u16(6);
        let same = (flags ^ self.flags) & (ENCRYPTED | SIZES_FOLLOW) == 0 && record.u16(8) == self.method;
        if !whole.0.starts_with(LOCAL) || !same_name || !same {
            return Err(lies());
        }
        let mut long = Long::find(whole.0.get(LOCAL_LEN + name..).unwrap_or_default());
        for (short, size) in [(record.u32(22), self.unpacked), (record.u32(18), self.packed)] {
            let unknown = flags & SIZES_FOLLOW != 0 && matches!(short, 0 | SENTINEL);
            if !unknown && long.value(short) != Some(size) {
                return Err(lies());
            }
        }
        let start = self.header.checked_add(len as u64);
        let range = start.and_then(|start| ByteRange::new(start, self.packed)).ok_or_else(outside)?;
        if range.end() > directory { Err(outside()) } else { Ok(range) }
    }
}

fn fault(at: u64, name: &str, why: &'static str) -> FormatError {
    let entry = name.chars().take(200).collect();
    FormatError::new(at, FormatFault::ZipEntry { entry, why })
}

/// The 64-bit values of an extra field: one for each 32-bit field that holds the sentinel, in a fixed order.
struct Long<'a>(&'a [u8]);

impl<'a> Long<'a> {
    fn find(mut extra: &'a [u8]) -> Self {
        while let Some((head, rest)) = extra.split_first_chunk::<4>() {
            let [id, len] = [0, 2].map(|at| Record(head).u16(at));
            let Some((field, next)) = rest.split_at_checked(usize::from(len)) else { break };
            if id == EXTRA64 {
                return Self(field);
            }
            extra = next;
        }
        Self(&[])
    }

    /// The value of a field that reads `short`, or `None` where it should be here and is not.
    fn value(&mut self, short: u64) -> Option<u64> {
        if short != SENTINEL {
            return Some(short);
        }
        let (value, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*value))
    }
}

#[cfg(test)]
#[path = "zip_tests.rs"]
mod tests;
