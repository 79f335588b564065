//! What a checkpoint holds, read where a plan asks for it: piece by piece, and no more than the question takes.

use super::{Input, LoadedFile};
use crate::plan::{Evidence, InFile, Unread, fingerprint};
use crate::source::{ByteRange, Extents, ReadAhead};
use crate::storage::{Blob, LocalBlob};
use crate::sys::FileError;

/// How many bytes are looked at before more are read ahead.
const FIRST_LOOK: u64 = 64 << 10;

/// How many bytes of a tensor are in memory at a time.
const PIECE: u64 = 1 << 20;

impl Evidence for Input {
    fn same(&self, one: InFile, other: InFile) -> Result<bool, Unread> {
        let (mut one, mut other) = (Tensor::of(self, one), Tensor::of(self, other));
        if one.extents.len() != other.extents.len() {
            return Ok(false);
        }
        let mut at = 0;
        while at < one.extents.len() {
            // A look at the beginning spares reading ahead where the two differ at once, as blocks of one tensor do.
            let len = if at == 0 { FIRST_LOOK } else { PIECE };
            if one.read(at, len)? != other.read(at, len)? {
                return Ok(false);
            }
            if at == 0 {
                one.will_be_read(len);
                other.will_be_read(len);
            }
            at += len;
        }
        Ok(true)
    }

    fn is_constant(&self, tensor: InFile) -> Result<bool, Unread> {
        let mut tensor = Tensor::of(self, tensor);
        let mut first = None;
        let mut at = 0;
        while at < tensor.extents.len() {
            let bytes = tensor.read(at, PIECE)?;
            let first = *first.get_or_insert(bytes[0]);
            if bytes.iter().any(|byte| *byte != first) {
                return Ok(false);
            }
            at += PIECE;
        }
        Ok(true)
    }

    fn beginning(&self, tensor: InFile, len: u64) -> Result<Option<u64>, Unread> {
        Ok(fingerprint(Tensor::of(self, tensor).read(0, len)?))
    }
}

/// A tensor that is read in pieces.
struct Tensor<'a> {
    blob: &'a LocalBlob,
    extents: &'a Extents,
    piece: Vec<u8>,
}

impl<'a> Tensor<'a> {
    fn of(input: &'a Input, (file, entry): InFile) -> Self {
        let LoadedFile { mapping, entries, .. } = &input.files[file];
        Self { blob: mapping, extents: &entries[entry].extents, piece: Vec::new() }
    }

    /// The bytes `at ..` of it, as many of `len` as there are.
    fn read(&mut self, at: u64, len: u64) -> Result<&[u8], FileError> {
        read_tensor(self.blob, self.extents, (at, len), &mut self.piece)?;
        Ok(&self.piece)
    }

    /// Says that all of it but the first bytes will be read.
    fn will_be_read(&self, but: u64) {
        self.extents.locate(but, u64::MAX).for_each(|range| self.blob.will_read(range));
    }
}

/// Reads bytes of a tensor, as many as there are of those that are wanted (the first, and how many).
///
/// # Errors
/// What the system says.
pub fn read_tensor(
    blob: &LocalBlob,
    extents: &Extents,
    wanted: (u64, u64),
    into: &mut Vec<u8>,
) -> Result<(), FileError> {
    into.clear();
    for range in extents.locate(wanted.0, wanted.1) {
        let from = into.len();
        into.resize(from + length(range), 0);
        Blob::read_at(blob, &mut into[from..], range.start())?;
        // The pages are the kernel's again: of a mapping they would stay in the process.
        blob.release(range.start(), range.len());
    }
    Ok(())
}

/// The length of a range that is read to memory.
fn length(range: ByteRange) -> usize {
    usize::try_from(range.len()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::formats::{CKPT, Entry};
    use crate::input::counters::Counters;
    use crate::sys::StableInputs;
    use crate::tensor::{Dtype, Shape};

    /// A file that holds tensors, each in parts with a byte before each part.
    fn file(tensors: &[&[&[u8]]]) -> (Vec<u8>, Vec<Entry>) {
        let (mut bytes, mut entries) = (Vec::new(), Vec::new());
        for parts in tensors {
            let mut extents = Extents::default();
            for part in *parts {
                bytes.push(0xee);
                extents.push(ByteRange::new(bytes.len() as u64, part.len() as u64).unwrap());
                bytes.extend_from_slice(part);
            }
            let shape = Shape::new([extents.len()]).unwrap();
            entries.push(Entry { name: "a".into(), dtype: Dtype::U8, shape, extents });
        }
        (bytes, entries)
    }

    fn input(files: Vec<(LocalBlob, Vec<Entry>)>) -> Input {
        let file = |(mapping, entries)| LoadedFile {
            rank: 0,
            mapping: Arc::new(mapping),
            entries,
            format: CKPT,
            crc: None,
            strides: Vec::new(),
            others: Vec::new(),
            metadata: Vec::new(),
            counters: Counters::default(),
        };
        Input { files: files.into_iter().map(file).collect(), format: CKPT, why: None }
    }

    #[test]
    fn tensors_are_compared_wherever_files_split_them() {
        let first = usize::try_from(FIRST_LOOK).unwrap();
        let whole: Vec<u8> = (0..=250).cycle().take(first + (2 << 20) + 5).collect();
        let long = whole.len();
        let mut ends_otherwise = whole.clone();
        ends_otherwise[long - 1] ^= 1;
        let ones = vec![1; long];
        let mut nearly_ones = ones.clone();
        nearly_ones[long - 1] = 2;
        let (a, b) = whole.split_at(first - 3);
        let contents: [&[&[u8]]; 7] =
            [&[&whole], &[a, b], &[&ends_otherwise], &[&ones], &[&nearly_ones], &[&whole[..9]], &[]];
        let (bytes, entries) = file(&contents);
        let input = input(vec![(LocalBlob::in_memory(&bytes).unwrap(), entries)]);
        for (i, one) in contents.iter().enumerate() {
            let one = one.concat();
            for (j, other) in contents.iter().enumerate() {
                assert_eq!(input.same((0, i), (0, j)), Ok(one == other.concat()), "{i} {j}");
            }
            assert_eq!(input.is_constant((0, i)), Ok(one.windows(2).all(|pair| pair[0] == pair[1])), "{i}");
        }
        let beginning = |i| input.beginning((0, i), 64).unwrap();
        assert!(beginning(0).is_some() && beginning(0) == beginning(1) && beginning(0) != beginning(5));
        assert_eq!((beginning(3), beginning(6)), (None, None));
    }

    #[test]
    fn what_cannot_be_read_is_an_error_and_no_answer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rank_0.ckpt");
        let zeros = vec![0; 1 << 16];
        let (bytes, entries) = file(&[&[&zeros], &[&zeros]]);
        std::fs::write(&path, &bytes).unwrap();
        let mapping = LocalBlob::open(&path, StableInputs::in_test()).unwrap();
        std::fs::File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
        let input = input(vec![(mapping, entries)]);
        let said = |error: Unread| error.into_file_error().to_string();
        let begins = format!("cannot read {}: ", path.display());
        for error in [
            input.same((0, 0), (0, 1)).unwrap_err(),
            input.is_constant((0, 0)).unwrap_err(),
            input.beginning((0, 0), 8).unwrap_err(),
        ] {
            assert!(said(error.clone()).starts_with(&begins), "{error}");
        }
    }
}
