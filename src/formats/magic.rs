//! How files of the formats begin: what the parsers of other formats must know to say which file it is.

use super::limits;

/// Bytes of the length that a safetensors file begins with.
const LENGTH_BYTES: usize = 8;

/// Whether the file begins with a plausible length of a safetensors header and the brace of one.
pub(super) fn is_safetensors(file: &[u8]) -> bool {
    let length = file.first_chunk::<LENGTH_BYTES>().map(|length| u64::from_le_bytes(*length));
    file.get(LENGTH_BYTES) == Some(&b'{') && length.is_some_and(|n| n <= limits::MAX_SAFETENSORS_HEADER)
}

/// Whether the file begins with a record of a `.ckpt`, with padding before the first one, or as an encrypted one.
pub(super) fn is_ckpt(file: &[u8]) -> bool {
    // 0x0a: field 1 (a record), 0x7a: field 15 (padding before the first record).
    matches!(file.first(), Some(0x0a | 0x7a)) || encryption(file).is_some()
}

/// Whether the file begins as a zip archive or an empty one, as a pickle of protocol 2 to 5 (`torch.save` uses 2), or as a tar
/// archive, of which `ustar` is in the first header block.
pub(super) fn is_pytorch(file: &[u8]) -> bool {
    is_zip(file) || is_pickle(file) || is_tar(file)
}

/// Whether the file begins with an entry of a zip archive, or is an empty archive.
pub(super) fn is_zip(file: &[u8]) -> bool {
    file.starts_with(b"PK\x03\x04") || file.starts_with(b"PK\x05\x06")
}

/// Whether the file begins as a pickle of protocol 2 to 5.
pub(super) fn is_pickle(file: &[u8]) -> bool {
    matches!(file, [0x80, 2..=5, ..])
}

/// Whether the first block is of a tar archive.
pub(super) fn is_tar(file: &[u8]) -> bool {
    file.get(257..262) == Some(b"ustar")
}

/// Whether the file begins as a checkpoint of any format.
pub(super) fn is_checkpoint(file: &[u8]) -> bool {
    is_safetensors(file) || is_gguf(file) || is_pytorch(file) || is_ckpt(file)
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
