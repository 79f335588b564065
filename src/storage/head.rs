//! The beginning of a blob, as much of it as a parser asks for.

use super::blob::Blob;
use crate::sys::FileError;

/// The bytes that are read first: most headers are shorter.
const FIRST: u64 = 64 << 10;

/// The beginning of a blob. Of one that is mapped nothing is copied; of others no more is read than is requested, in pieces of at
/// least 64 KiB.
#[derive(Debug)]
pub struct Head<'b> {
    blob: &'b dyn Blob,
    read: Vec<u8>,
}

impl<'b> Head<'b> {
    /// Of a blob, of which nothing is read yet.
    pub fn of(blob: &'b dyn Blob) -> Self {
        Self { blob, read: Vec::new() }
    }

    /// The first bytes: `wanted` of them, or all that there are.
    ///
    /// # Errors
    /// What the blob says.
    pub fn to(&mut self, wanted: u64) -> Result<&[u8], FileError> {
        let wanted = wanted.min(self.blob.len());
        let len = usize::try_from(wanted).unwrap_or(usize::MAX);
        if let Some(all) = self.blob.mapped() {
            return Ok(&all[..len.min(all.len())]);
        }
        let have = self.read.len();
        if have < len {
            let to = usize::try_from(wanted.max(FIRST).min(self.blob.len())).unwrap_or(usize::MAX);
            self.read.resize(to, 0);
            if let Err(e) = self.blob.read_at(&mut self.read[have..], have as u64) {
                self.read.truncate(have);
                return Err(e);
            }
        }
        Ok(&self.read[..len])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::MemoryBlob;

    #[test]
    fn no_more_is_read_than_is_asked_for_and_nothing_twice() {
        let bytes: Vec<u8> = (0..200_000u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
        let blob = MemoryBlob::damaged(bytes.clone(), 160_000);
        let mut head = Head::of(&blob);
        assert_eq!(head.to(8).unwrap(), &bytes[..8]);
        assert_eq!(head.to(60_000).unwrap(), &bytes[..60_000]);
        assert_eq!(head.to(90_000).unwrap(), &bytes[..90_000]);
        assert_eq!(blob.reads(), [(0, 64 << 10), (64 << 10, 90_000 - (64 << 10))]);
        assert_eq!(head.to(150_000).unwrap().len(), 150_000);
        assert!(head.to(u64::MAX).unwrap_err().to_string().contains("far"));
        assert_eq!(head.to(150_000).unwrap(), &bytes[..150_000], "what was read is still there");
        assert_eq!(Head::of(&MemoryBlob::far(vec![1, 2])).to(100).unwrap(), [1, 2]);
    }
}
