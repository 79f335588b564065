//! Arithmetic of the oracle, written to be obvious: casts through exact values in `f64`, checksums bit by bit.

/// A floating-point format with 1 sign bit, some exponent bits and some mantissa bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Float {
    Fp16,
    Bf16,
    Fp32,
}

impl Float {
    pub(crate) const ALL: [Self; 3] = [Self::Fp16, Self::Bf16, Self::Fp32];

    pub(crate) fn size(self) -> usize {
        if self == Self::Fp32 { 4 } else { 2 }
    }

    /// The name for `-p`.
    pub(crate) fn option(self) -> &'static str {
        ["fp16", "bf16", "fp32"][self as usize]
    }

    /// MindSpore's name.
    pub(crate) fn dtype(self) -> &'static str {
        ["Float16", "BFloat16", "Float32"][self as usize]
    }

    fn exponent_bits(self) -> u32 {
        if self == Self::Fp16 { 5 } else { 8 }
    }

    fn mantissa_bits(self) -> u32 {
        [10, 7, 23][self as usize]
    }

    /// The value of these bits.
    pub(crate) fn value(self, bits: u32) -> f64 {
        let (m, bias) = (self.mantissa_bits(), (1 << (self.exponent_bits() - 1)) - 1);
        let mantissa = f64::from(bits & ((1 << m) - 1)) / f64::from(1u32 << m);
        let exponent = i32::try_from(bits >> m & ((1 << self.exponent_bits()) - 1)).expect("small");
        let magnitude = if exponent == 0 {
            mantissa * 2f64.powi(1 - bias)
        } else if exponent == 2 * bias + 1 {
            if mantissa == 0.0 { f64::INFINITY } else { f64::NAN }
        } else {
            (1.0 + mantissa) * 2f64.powi(exponent - bias)
        };
        if bits >> (m + self.exponent_bits()) & 1 == 1 { -magnitude } else { magnitude }
    }

    /// The bits nearest to a value, of two that are as near the even one. Found by halving: no rounding trick to get wrong.
    pub(crate) fn nearest(self, value: f64) -> u32 {
        let sign = u32::from(value.is_sign_negative()) << (self.mantissa_bits() + self.exponent_bits());
        let infinity = ((1 << self.exponent_bits()) - 1) << self.mantissa_bits();
        if value.is_infinite() {
            return sign | infinity;
        }
        // The largest bits whose value is not above.
        let (mut low, mut high) = (0, infinity);
        while high - low > 1 {
            let middle = u32::midpoint(low, high);
            if self.value(middle) <= value.abs() { low = middle } else { high = middle }
        }
        let below = self.value(low);
        // What would follow the largest finite number, were there more exponents.
        let above = if low + 1 == infinity { 2.0 * below - self.value(low - 1) } else { self.value(low + 1) };
        let (to_below, to_above) = (value.abs() - below, above - value.abs());
        let up = if low & 1 == 1 { to_above <= to_below } else { to_above < to_below };
        sign | (low + u32::from(up))
    }
}

/// Casts all elements (no NaN among them). Returns the bytes and how many finite values became infinite.
pub(crate) fn cast(from: Float, to: Float, bytes: &[u8]) -> (Vec<u8>, u64) {
    let mut overflowed = 0;
    let mut out = Vec::new();
    for element in bytes.chunks(from.size()) {
        let mut word = [0; 4];
        word[..element.len()].copy_from_slice(element);
        let value = from.value(u32::from_le_bytes(word));
        assert!(!value.is_nan(), "the oracle casts numbers only");
        let bits = to.nearest(value);
        overflowed += u64::from(value.is_finite() && to.value(bits).is_infinite());
        out.extend(&bits.to_le_bytes()[..to.size()]);
    }
    (out, overflowed)
}

/// CRC-32 as zlib computes it.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    let sum = crc(0xedb8_8320, u64::from(u32::MAX), bytes);
    u32::try_from(sum).expect("32 bits")
}

/// CRC-64/NVME.
pub(crate) fn crc64_nvme(bytes: &[u8]) -> u64 {
    crc(0x9a6c_9329_ac4b_c9b5, u64::MAX, bytes)
}

fn crc(polynomial: u64, mask: u64, bytes: &[u8]) -> u64 {
    let mut sum = mask;
    for byte in bytes {
        sum ^= u64::from(*byte);
        for _ in 0..8 {
            sum = if sum & 1 == 1 { sum >> 1 ^ polynomial } else { sum >> 1 };
        }
    }
    sum ^ mask
}

#[test]
fn the_oracles_arithmetic_is_that_of_the_standards() {
    assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    assert_eq!(crc64_nvme(b"123456789"), 0xae8b_1486_0a79_9888);
    let to_half = |x: f32| {
        let (bytes, overflowed) = cast(Float::Fp32, Float::Fp16, &x.to_le_bytes());
        (u16::from_le_bytes([bytes[0], bytes[1]]), overflowed)
    };
    // IEEE 754: the largest half, the two neighbours of the point where rounding overflows, ties, the smallest subnormal.
    assert_eq!(to_half(65504.0), (0x7bff, 0));
    assert_eq!(to_half(65519.996), (0x7bff, 0));
    assert_eq!(to_half(65520.0), (0x7c00, 1));
    assert_eq!(to_half(-1e30), (0xfc00, 1));
    assert_eq!(to_half(f32::INFINITY), (0x7c00, 0));
    assert_eq!(to_half(2049.0), (0x6800, 0));
    assert_eq!(to_half(2051.0), (0x6802, 0));
    assert_eq!(to_half(2f32.powi(-24)), (1, 0));
    assert_eq!(to_half(2f32.powi(-25)), (0, 0));
    assert_eq!(to_half(-0.0), (0x8000, 0));
    assert_eq!(cast(Float::Fp32, Float::Bf16, &f32::MAX.to_le_bytes()), (vec![0x80, 0x7f], 1));
    assert_eq!(cast(Float::Bf16, Float::Fp32, &[0x80, 0x3f]), (1f32.to_le_bytes().to_vec(), 0));
}
