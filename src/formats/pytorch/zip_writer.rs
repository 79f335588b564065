//! Writes checkpoints as `torch.save` does: a zip archive of stored entries, the data of each tensor at a multiple of 64.
//!
//! The CRC-32 of an entry is part of a zip archive, but is known only when the data have been moved: a
//! [late](crate::formats::Segment::Late) segment, after the data and in the directory. PyTorch never looks at it (its
//! reader is built with `MINIZ_DISABLE_ZIP_READER_CRC32_CHECKS`, and `torch.serialization.set_crc32_options` leaves it
//! out on request); other programs, Python's `zipfile` for one, refuse to extract entries without it.

use super::pickle_writer;
use crate::formats::mindspore::crc32;
use crate::formats::{Checksum, ChecksumKind, Encoding, FileLayout, FormatError, FormatFault, TensorToWrite};
use crate::source::ByteRange;

/// The name of the archive, before the slash of every entry: what `torch.save` writes where it knows no file name.
const ARCHIVE: &str = "archive";
/// The data of a tensor begin at a multiple of this, as in PyTorch (`storage_alignment`), so that mapped elements are
/// aligned.
const ALIGNMENT: u64 = 64;
/// Tensors of fewer bytes than this are not moved to another [phase](TensorToWrite::phase): it would cost up to a block.
const WORTH_A_PHASE: u64 = 16 * FileLayout::BLOCK;
/// What the 32-bit fields hold whose value does not fit.
const SENTINEL: u32 = u32::MAX;
/// Bit 3: CRC-32 and sizes follow the data. Bit 11: the name is UTF-8. PyTorch sets both.
const FLAGS: u16 = 1 << 3 | 1 << 11;
/// Zip 4.5, the version with zip64.
const VERSION: u16 = 45;

/// The segments of a checkpoint that holds the tensors in the given order, for `torch.load`, mapped or not.
///
/// Errors (at offset 0): as for the pickle; a file beyond 2^63 bytes.
pub fn layout(tensors: &[TensorToWrite]) -> Result<FileLayout, FormatError> {
    let mut archive = Archive::default();
    archive.small("data.pkl", &pickle_writer::state_dict(tensors)?);
    archive.small("byteorder", b"little");
    for (index, tensor) in tensors.iter().enumerate() {
        let size = tensor.shape.bytes(tensor.dtype);
        if archive.at.checked_add(size).is_none_or(|end| end > i64::MAX.cast_unsigned()) {
            let why = "the file would be longer than 2^63 bytes";
            let tensor = tensor.name.to_string();
            return Err(FormatError::new(0, FormatFault::CannotExpress { tensor, why }));
        }
        archive.tensor(index, size, tensor.phase);
    }
    // The version of the format that every PyTorch since 1.6 reads.
    archive.small("version", b"3\n");
    archive.finish();
    Ok(archive.file)
}

#[derive(Default)]
struct Archive {
    file: FileLayout,
    /// The length of the file so far.
    at: u64,
    entries: Vec<Entry>,
}

struct Entry {
    name: String,
    header: u64,
    size: u64,
    crc: Crc,
}

/// The CRC-32 of an entry.
#[derive(Clone, Copy)]
enum Crc {
    Known(u32),
    /// That of these bytes of the file.
    Late(ByteRange),
}

impl Archive {
    fn literal(&mut self, bytes: &[u8]) {
        self.file.literal(bytes);
        self.at += bytes.len() as u64;
    }

    fn crc(&mut self, crc: Crc) {
        match crc {
            Crc::Known(crc) => self.literal(&crc.to_le_bytes()),
            Crc::Late(of) => {
                let checksum = Checksum { kind: ChecksumKind::Crc32, of, encoding: Encoding::LittleEndian };
                self.file.checksum(checksum);
                self.at += checksum.len();
            }
        }
    }

    fn small(&mut self, name: &str, content: &[u8]) {
        let size = content.len() as u64;
        let name = format!("{ARCHIVE}/{name}");
        let header = self.header(&name, size, None);
        self.literal(content);
        self.finish_entry(Entry { name, header, size, crc: Crc::Known(crc32(content)) });
    }

    fn tensor(&mut self, index: usize, size: u64, phase: Option<u64>) {
        let name = format!("{ARCHIVE}/data/{index}");
        let header = self.header(&name, size, phase);
        let data = ByteRange::new(self.at, size).filter(|data| !data.is_empty());
        if let Some(range) = ByteRange::new(0, size) {
            self.file.data(index, range);
        }
        self.at += size;
        self.finish_entry(Entry { name, header, size, crc: data.map_or(Crc::Known(0), Crc::Late) });
    }

    /// The local header, with padding in an extra field so that the data begin where they should. Returns its offset.
    fn header(&mut self, name: &str, data: u64, phase: Option<u64>) -> u64 {
        let header = self.at;
        let mut bytes = Vec::new();
        bytes.extend(b"PK\x03\x04");
        for number in [VERSION, FLAGS, 0, 0, 0] {
            bytes.extend(number.to_le_bytes());
        }
        let large = data >= u64::from(SENTINEL);
        let size = if large { SENTINEL } else { 0 };
        for number in [0, size, size] {
            bytes.extend(number.to_le_bytes());
        }
        let long = if large { extra64(&[data, data]) } else { Vec::new() };
        let fixed = bytes.len() + 4 + name.len() + long.len() + 4;
        let padding = padding(self.at + fixed as u64, phase.filter(|_| data >= WORTH_A_PHASE));
        bytes.extend(short(name.len()));
        bytes.extend(short(long.len() + 4 + padding));
        bytes.extend(name.as_bytes());
        bytes.extend(long);
        // PyTorch's own padding field.
        bytes.extend(b"FB");
        bytes.extend(short(padding));
        bytes.resize(bytes.len() + padding, b'Z');
        self.literal(&bytes);
        header
    }

    /// CRC-32 and sizes of an entry, after its data.
    fn finish_entry(&mut self, entry: Entry) {
        self.literal(b"PK\x07\x08");
        self.crc(entry.crc);
        let mut bytes = Vec::new();
        for _ in 0..2 {
            match u32::try_from(entry.size) {
                Ok(size) if size != SENTINEL => bytes.extend(size.to_le_bytes()),
                _ => bytes.extend(entry.size.to_le_bytes()),
            }
        }
        self.literal(&bytes);
        self.entries.push(entry);
    }

    /// The directory and the end records.
    fn finish(&mut self) {
        let start = self.at;
        let entries = std::mem::take(&mut self.entries);
        for entry in &entries {
            entry.list(self);
        }
        let (count, size) = (entries.len() as u64, self.at - start);
        self.literal(&end_records(count, size, start, self.at));
    }
}

impl Entry {
    /// Its record in the directory.
    fn list(&self, archive: &mut Archive) {
        archive.literal(b"PK\x01\x02");
        for number in [VERSION, VERSION, FLAGS, 0, 0, 0] {
            archive.literal(&number.to_le_bytes());
        }
        archive.crc(self.crc);
        let mut directory = Vec::new();
        let fits = |n: u64| u32::try_from(n).ok().filter(|&n| n != SENTINEL);
        let mut long: Vec<u64> = Vec::new();
        let mut number = |n: u64, times: usize| {
            let field = fits(n).unwrap_or_else(|| {
                long.extend(std::iter::repeat_n(n, times));
                SENTINEL
            });
            field.to_le_bytes()
        };
        let size = number(self.size, 2);
        let header = number(self.header, 1);
        let extra = if long.is_empty() { Vec::new() } else { extra64(&long) };
        directory.extend(size);
        directory.extend(size);
        directory.extend(short(self.name.len()));
        directory.extend(short(extra.len()));
        // No comment, the first and only file, no attributes.
        directory.extend([0; 10]);
        directory.extend(header);
        directory.extend(self.name.as_bytes());
        directory.extend(extra);
        archive.literal(&directory);
    }
}

/// The padding after `at` so that what follows has the phase, or the alignment where it has none.
fn padding(at: u64, phase: Option<u64>) -> usize {
    let pad = match phase.map(|phase| phase % FileLayout::BLOCK).filter(|phase| phase.is_multiple_of(ALIGNMENT)) {
        Some(phase) => (phase + FileLayout::BLOCK - at % FileLayout::BLOCK) % FileLayout::BLOCK,
        None => at.next_multiple_of(ALIGNMENT) - at,
    };
    usize::try_from(pad).unwrap_or(0) // less than a block
}

/// A length of the few that fit in 16 bits: names and extra fields of this module.
fn short(len: usize) -> [u8; 2] {
    u16::try_from(len).unwrap_or(u16::MAX).to_le_bytes()
}

/// The extra field with the values of 32-bit fields that overflow.
fn extra64(values: &[u64]) -> Vec<u8> {
    let mut extra = vec![1, 0];
    extra.extend(short(values.len() * 8));
    extra.extend(values.iter().flat_map(|n| n.to_le_bytes()));
    extra
}

/// The end records with 64 and with 32 bits; like PyTorch, both always.
fn end_records(count: u64, size: u64, start: u64, at: u64) -> Vec<u8> {
    let mut end = b"PK\x06\x06".to_vec();
    end.extend(44u64.to_le_bytes());
    end.extend(VERSION.to_le_bytes());
    end.extend(VERSION.to_le_bytes());
    end.extend([0; 8]); // the number of this file, and of the one where the directory begins
    for number in [count, count, size, start] {
        end.extend(number.to_le_bytes());
    }
    end.extend(b"PK\x06\x07");
    end.extend([0; 4]);
    end.extend(at.to_le_bytes());
    end.extend(1u32.to_le_bytes());
    end.extend(b"PK\x05\x06");
    end.extend([0; 4]);
    let entries = u16::try_from(count).unwrap_or(u16::MAX).to_le_bytes();
    end.extend(entries);
    end.extend(entries);
    for number in [size, start] {
        end.extend(u32::try_from(number).unwrap_or(SENTINEL).to_le_bytes());
    }
    end.extend([0; 2]);
    end
}

#[cfg(test)]
#[path = "zip_writer_tests.rs"]
mod tests;
