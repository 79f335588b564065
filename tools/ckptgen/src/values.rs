//! The bytes of a full tensor as a function of seed, name and position.

use clap::ValueEnum;

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
const LANES16: u64 = 0x0001_0001_0001_0001;
const LANES32: u64 = 0x0000_0001_0000_0001;

#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub(crate) enum Dtype {
    Fp16,
    Bf16,
    Fp32,
}

impl Dtype {
    pub(crate) fn size(self) -> u64 {
        if self == Self::Fp32 { 4 } else { 2 }
    }

    pub(crate) fn ckpt_name(self) -> &'static str {
        match self {
            Self::Fp16 => "Float16",
            Self::Bf16 => "BFloat16",
            Self::Fp32 => "Float32",
        }
    }

    pub(crate) fn safetensors_name(self) -> &'static str {
        match self {
            Self::Fp16 => "F16",
            Self::Bf16 => "BF16",
            Self::Fp32 => "F32",
        }
    }

    /// (bits kept, bits set, then subtracted) in each element of an 8-byte block: sign, fraction and the low
    /// three bits of the exponent are random, so that the exponent is one of -8..=-1.
    pub(crate) fn masks(self) -> (u64, u64, u64) {
        match self {
            Self::Fp16 => (0x9fff * LANES16, 0x2000 * LANES16, 0x0400 * LANES16),
            Self::Bf16 => (0x83ff * LANES16, 0x3c00 * LANES16, 0x0080 * LANES16),
            Self::Fp32 => (0x83ff_ffff * LANES32, 0x3c00_0000 * LANES32, 0x0080_0000 * LANES32),
        }
    }
}

/// The last steps of splitmix64.
pub(crate) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The bytes of one full tensor as a function of the position.
#[derive(Clone, Copy)]
pub(crate) struct Source {
    pub(crate) key: u64,
    pub(crate) masks: (u64, u64, u64),
}

impl Source {
    pub(crate) fn new(seed: u64, name: &str, dtype: Dtype) -> Self {
        let fnv =
            name.bytes().fold(0xcbf2_9ce4_8422_2325, |h: u64, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        Self { key: mix(mix(seed.wrapping_add(GOLDEN)) ^ fnv), masks: dtype.masks() }
    }

    pub(crate) fn block(self, index: u64) -> [u8; 8] {
        let (keep, set, subtract) = self.masks;
        let word = mix(self.key.wrapping_add(index.wrapping_mul(GOLDEN)));
        (((word & keep) | set) - subtract).to_le_bytes()
    }

    /// Fills `buf` with the tensor's bytes from byte `at` on.
    pub(crate) fn fill(self, mut at: u64, mut buf: &mut [u8]) {
        let skip = (at % 8) as usize;
        if skip != 0 {
            let n = buf.len().min(8 - skip);
            let (head, rest) = buf.split_at_mut(n);
            head.copy_from_slice(&self.block(at / 8)[skip..skip + n]);
            at += n as u64;
            buf = rest;
        }
        let mut index = at / 8;
        let mut blocks = buf.chunks_exact_mut(8);
        for block in &mut blocks {
            block.copy_from_slice(&self.block(index));
            index += 1;
        }
        let tail = blocks.into_remainder();
        tail.copy_from_slice(&self.block(index)[..tail.len()]);
    }
}
