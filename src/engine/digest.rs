//! Checksums of what was written, made of checksums of its chunks in whatever order they came.
//!
//! CRC-64/NVME for the manifest: it costs a fraction of the copy, and the sums of chunks can be joined, so that chunks need
//! not come in order. It finds damage; it is no protection against somebody who changes data on purpose.

use crc_fast::CrcAlgorithm::{Crc32IsoHdlc, Crc64Nvme};
use crc_fast::{checksum, checksum_combine};

/// A CRC-64/NVME.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crc64(pub u64);

impl std::fmt::Display for Crc64 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The sum of one chunk of a tensor or a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChunkSum {
    /// Index of the file.
    pub file: usize,
    /// Index of the tensor in the file; `None` for the bytes of the file itself (CRC-32).
    pub tensor: Option<usize>,
    /// Where in the tensor or the file the chunk begins.
    pub at: u64,
    /// Its bytes.
    pub len: u64,
    sum: u64,
}

impl ChunkSum {
    pub(super) fn of_tensor(file: usize, tensor: usize, at: u64, bytes: &[u8]) -> Self {
        Self { file, tensor: Some(tensor), at, len: bytes.len() as u64, sum: checksum(Crc64Nvme, bytes) }
    }

    pub(super) fn of_file(file: usize, at: u64, bytes: &[u8]) -> Self {
        Self { file, tensor: None, at, len: bytes.len() as u64, sum: checksum(Crc32IsoHdlc, bytes) }
    }
}

/// Joins sums of chunks that follow one another. Chunks of one tensor or file, in order.
fn join(algorithm: crc_fast::CrcAlgorithm, chunks: &[ChunkSum]) -> u64 {
    let empty = checksum(algorithm, &[]);
    chunks.iter().fold(empty, |sum, chunk| checksum_combine(algorithm, sum, chunk.sum, chunk.len))
}

/// The sums of all tensors and files, by (file, tensor).
#[derive(Debug, Default)]
pub(super) struct Sums(Vec<ChunkSum>);

impl Sums {
    pub(super) fn new(mut chunks: Vec<ChunkSum>) -> Self {
        chunks.sort_unstable_by_key(|c| (c.file, c.tensor, c.at));
        Self(chunks)
    }

    fn chunks(&self, file: usize, tensor: Option<usize>) -> &[ChunkSum] {
        let from = self.0.partition_point(|c| (c.file, c.tensor) < (file, tensor));
        let to = self.0.partition_point(|c| (c.file, c.tensor) <= (file, tensor));
        &self.0[from..to]
    }

    /// The sum of a tensor's bytes.
    pub(super) fn tensor(&self, file: usize, tensor: usize) -> Crc64 {
        Crc64(join(Crc64Nvme, self.chunks(file, Some(tensor))))
    }

    /// The CRC-32 of a file's bytes.
    pub(super) fn file(&self, file: usize) -> u32 {
        let sum = join(Crc32IsoHdlc, self.chunks(file, None));
        u32::try_from(sum & u64::from(u32::MAX)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_in_any_order_give_the_sum_of_the_whole() {
        let bytes: Vec<u8> = (0..10_000u32).map(|i| i.to_le_bytes()[0] ^ 0x5a).collect();
        let cuts = [(7000, 10_000), (0, 1), (1, 4096), (4096, 7000)];
        let sums = Sums::new(cuts.iter().map(|&(a, b)| ChunkSum::of_tensor(0, 2, a as u64, &bytes[a..b])).collect());
        assert_eq!(sums.tensor(0, 2).0, checksum(Crc64Nvme, &bytes));
        // The check value of the catalogue of CRC parameters for "123456789".
        let nine = Sums::new(vec![ChunkSum::of_tensor(1, 0, 4, b"56789"), ChunkSum::of_tensor(1, 0, 0, b"1234")]);
        assert_eq!(nine.tensor(1, 0).0, 0xae8b_1486_0a79_9888);
        let nine = Sums::new(vec![ChunkSum::of_file(1, 4, b"56789"), ChunkSum::of_file(1, 0, b"1234")]);
        assert_eq!(nine.file(1), 0xcbf4_3926);
    }
}
