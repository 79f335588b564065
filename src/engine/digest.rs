//! Checksums of what was written, made of checksums of its chunks in whatever order they came.
//!
//! CRC-64/NVME for the manifest: it costs a fraction of the copy, and the sums of chunks can be joined, so that chunks need
//! not come in order. It finds damage; it is no protection against deliberate changes to the data.

use std::collections::HashMap;

use crc_fast::CrcAlgorithm::{Crc32IsoHdlc, Crc64Nvme};
use crc_fast::checksum;

/// A CRC-64/NVME.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crc64(pub u64);

impl Crc64 {
    /// The sum of no bytes.
    pub const EMPTY: Self = Self(0);

    /// The sum of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(checksum(Crc64Nvme, bytes))
    }

    /// The sum of what this is the sum of, followed by `len` bytes whose sum is `next`.
    #[must_use]
    pub fn followed_by(self, next: Self, len: u64) -> Self {
        Self(crc_fast::checksum_combine(Crc64Nvme, self.0, next.0, len))
    }
}

impl std::fmt::Display for Crc64 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What is summed, and by which sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Of {
    /// A tensor of the file, by CRC-64/NVME, for the manifest.
    Tensor(usize),
    /// A range of the file whose CRC-32 the file itself holds, by its number among those.
    Covered(usize),
}

/// The sum of one chunk of a tensor or a covered range.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChunkSum {
    /// Index of the file.
    pub file: usize,
    pub of: Of,
    /// Where in the tensor or, for a covered range, in the file the chunk begins.
    pub at: u64,
    /// Its bytes.
    pub len: u64,
    sum: u64,
}

impl ChunkSum {
    pub(super) fn of_tensor(file: usize, tensor: usize, at: u64, bytes: &[u8]) -> Self {
        let mut sum = TensorSum::new(file, tensor, at);
        sum.add(bytes);
        sum.finish()
    }

    pub(super) fn covered(file: usize, range: usize, at: u64, bytes: &[u8]) -> Self {
        Self { file, of: Of::Covered(range), at, len: bytes.len() as u64, sum: checksum(Crc32IsoHdlc, bytes) }
    }
}

/// The sum of one chunk of a tensor, made step by step.
pub(super) struct TensorSum {
    file: usize,
    tensor: usize,
    at: u64,
    digest: crc_fast::Digest,
    len: u64,
}

impl TensorSum {
    pub(super) fn new(file: usize, tensor: usize, at: u64) -> Self {
        Self { file, tensor, at, digest: crc_fast::Digest::new(Crc64Nvme), len: 0 }
    }

    /// The bytes that follow.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
        self.len += bytes.len() as u64;
    }

    pub(super) fn finish(self) -> ChunkSum {
        let Self { file, tensor, at, digest, len } = self;
        ChunkSum { file, of: Of::Tensor(tensor), at, len, sum: digest.finalize() }
    }
}

/// A reflected CRC whose initial and final masks are all ones, as far as joining sums goes.
///
/// The sum of A followed by B is `sum(A) * x^(8 * len(B)) + sum(B)` in the polynomials over GF(2) modulo the generator (Mark
/// Adler's `crc32_combine` in zlib). The powers are kept, since chunks have few different lengths: `crc_fast` can join two sums
/// too, but works the power out anew each time, which for the chunks of a large model took a tenth of the run.
struct Joiner {
    /// The generator without its highest term, the coefficient of x^0 in the highest bit.
    generator: u64,
    /// x^0.
    one: u64,
    /// Chunk length to x^(8 * length).
    powers: HashMap<u64, u64>,
}

impl Joiner {
    const CRC64_NVME: (u64, u64) = (0x9a6c_9329_ac4b_c9b5, 1 << 63);
    const CRC32: (u64, u64) = (0xedb8_8320, 1 << 31);

    fn new((generator, one): (u64, u64)) -> Self {
        Self { generator, one, powers: HashMap::new() }
    }

    /// The product of two polynomials.
    fn times(&self, a: u64, mut b: u64) -> u64 {
        let mut product = 0;
        let mut term = self.one;
        while term != 0 {
            if a & term != 0 {
                product ^= b;
            }
            b = if b & 1 == 0 { b >> 1 } else { (b >> 1) ^ self.generator };
            term >>= 1;
        }
        product
    }

    /// x^(8 * bytes).
    fn power(&mut self, bytes: u64) -> u64 {
        if let Some(&known) = self.powers.get(&bytes) {
            return known;
        }
        // x^8, then its squares.
        let (mut power, mut square) = (self.one, self.one >> 8);
        let mut rest = bytes;
        while rest != 0 {
            if rest & 1 != 0 {
                power = self.times(power, square);
            }
            square = self.times(square, square);
            rest >>= 1;
        }
        self.powers.insert(bytes, power);
        power
    }

    /// The sum of chunks that follow one another.
    fn join(&mut self, chunks: &[ChunkSum]) -> u64 {
        // The sum of nothing is 0: both masks are all ones.
        chunks.iter().fold(0, |sum, chunk| {
            let power = self.power(chunk.len);
            self.times(power, sum) ^ chunk.sum
        })
    }
}

/// The sums of all tensors and covered ranges, by file.
pub(super) struct Sums {
    chunks: Vec<ChunkSum>,
    crc64: Joiner,
    crc32: Joiner,
}

impl Sums {
    pub(super) fn new(mut chunks: Vec<ChunkSum>) -> Self {
        chunks.sort_unstable_by_key(|c| (c.file, c.of, c.at));
        Self { chunks, crc64: Joiner::new(Joiner::CRC64_NVME), crc32: Joiner::new(Joiner::CRC32) }
    }

    /// The sum of a tensor's bytes.
    pub(super) fn tensor(&mut self, file: usize, tensor: usize) -> Crc64 {
        Crc64(self.crc64.join(of(&self.chunks, file, Of::Tensor(tensor))))
    }

    /// The CRC-32 of a covered range.
    pub(super) fn covered(&mut self, file: usize, range: usize) -> u32 {
        let sum = self.crc32.join(of(&self.chunks, file, Of::Covered(range)));
        u32::try_from(sum & u64::from(u32::MAX)).unwrap_or(0)
    }
}

/// The chunks of one tensor or covered range, among sorted ones.
fn of(chunks: &[ChunkSum], file: usize, what: Of) -> &[ChunkSum] {
    let from = chunks.partition_point(|c| (c.file, c.of) < (file, what));
    let to = chunks.partition_point(|c| (c.file, c.of) <= (file, what));
    &chunks[from..to]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_in_any_order_give_the_sum_of_the_whole() {
        let bytes: Vec<u8> = (0..10_000u32).map(|i| i.to_le_bytes()[0] ^ 0x5a).collect();
        let cuts = [(7000, 10_000), (0, 1), (1, 4096), (4096, 7000)];
        let mut sums =
            Sums::new(cuts.iter().map(|&(a, b)| ChunkSum::of_tensor(0, 2, a as u64, &bytes[a..b])).collect());
        assert_eq!(sums.tensor(0, 2).0, checksum(Crc64Nvme, &bytes));
        let mut covered =
            Sums::new(cuts.iter().map(|&(a, b)| ChunkSum::covered(3, 1, a as u64, &bytes[a..b])).collect());
        assert_eq!(u64::from(covered.covered(3, 1)), checksum(Crc32IsoHdlc, &bytes));
        assert_eq!(covered.covered(3, 0), 0, "the CRC of nothing");
        // The check value of the catalogue of CRC parameters for "123456789".
        let mut nine = Sums::new(vec![ChunkSum::of_tensor(1, 0, 4, b"56789"), ChunkSum::of_tensor(1, 0, 0, b"1234")]);
        assert_eq!(nine.tensor(1, 0).0, 0xae8b_1486_0a79_9888);
        let mut nine = Sums::new(vec![ChunkSum::covered(1, 0, 4, b"56789"), ChunkSum::covered(1, 0, 0, b"1234")]);
        assert_eq!(nine.covered(1, 0), 0xcbf4_3926);
        assert_eq!(
            Crc64::EMPTY.followed_by(Crc64::of(b"1234"), 4).followed_by(Crc64::of(b"56789"), 5),
            Crc64::of(b"123456789")
        );
    }
}
