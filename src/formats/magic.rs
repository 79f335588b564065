//! How files of the formats begin: what the parsers of other formats must know to say which file it is.

use super::limits;

/// Bytes of the length that a safetensors file begins with.
const LENGTH_BYTES: usize = 8;

/// Whether the file begins with a plausible length of a safetensors header and the brace of one.
pub(super) fn is_safetensors(file: &[u8]) -> bool {
    let length = file.first_chunk::<LENGTH_BYTES>().map(|length| u64::from_le_bytes(*length));
    file.get(LENGTH_BYTES) == Some(&b'{') && length.is_some_and(|n| n <= limits::MAX_SAFETENSORS_HEADER)
}

/// Whether the file begins as llama.cpp's do.
pub(super) fn is_gguf(file: &[u8]) -> bool {
    file.starts_with(b"GGUF")
}

/// The cipher of MindSpore's encrypted container, known from its magic number. Releases before 2.x used the first one for
/// all ciphers.
pub(super) fn encryption(file: &[u8]) -> Option<&'static str> {
    match u32::from_le_bytes(*file.first_chunk::<4>()?) {
        0x7F3A_5ED8 => Some("AES-GCM"),
        0x7F3A_5ED9 => Some("AES-CBC"),
        0x7F3A_5EDA => Some("SM4-CBC"),
        _ => None,
    }
}
