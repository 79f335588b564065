//! Which container a checkpoint file is, told by its content.

use super::{FormatKind, magic, pytorch};

/// What kind of checkpoint the bytes begin, or `None` where they begin neither.
///
/// An encrypted `.ckpt` counts as [`FormatKind::Ckpt`], so that its parser can name the encryption; a safetensors file
/// whose header is cut short counts as [`FormatKind::Safetensors`] for the same reason, and any zip archive, pickle or
/// tar archive as [`FormatKind::PyTorch`].
pub fn detect(file: &[u8]) -> Option<FormatKind> {
    if magic::is_safetensors(file) {
        return Some(FormatKind::Safetensors);
    }
    if magic::is_gguf(file) {
        return Some(FormatKind::Gguf);
    }
    if pytorch::looks_like(file) {
        return Some(FormatKind::PyTorch);
    }
    // 0x0a: field 1 (a record), 0x7a: field 15 (padding before the first record).
    let record = matches!(file.first(), Some(0x0a | 0x7a));
    (record || magic::encryption(file).is_some()).then_some(FormatKind::Ckpt)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_decides() {
        assert_eq!(detect(b""), None);
        assert_eq!(detect(b"GGUF\x03\0\0\0"), Some(FormatKind::Gguf));
        assert_eq!(detect(b"PK\x03\x04"), Some(FormatKind::PyTorch));
        assert_eq!(detect(b"\x80\x02\x8a\x0al\xfc\x9cF"), Some(FormatKind::PyTorch));
        // A header of 640 bytes begins like a pickle.
        assert_eq!(detect(b"\x80\x02\0\0\0\0\0\0{\"__"), Some(FormatKind::Safetensors));
        assert_eq!(detect(b"\x08\x02\x12\x00"), None, "a strategy file is no checkpoint");
        assert_eq!(detect(b"\x0a\x00"), Some(FormatKind::Ckpt));
        assert_eq!(detect(b"\x7a\x06\0\0\0\0\0\0\x0a\x00"), Some(FormatKind::Ckpt));
        assert_eq!(detect(b"\xda\x5e\x3a\x7f"), Some(FormatKind::Ckpt));
        assert_eq!(detect(b"\x02\0\0\0\0\0\0\0{}"), Some(FormatKind::Safetensors));
        // 0x0a as the low byte of a header length is no record.
        assert_eq!(detect(b"\x0a\x01\0\0\0\0\0\0{\"__"), Some(FormatKind::Safetensors));
        assert_eq!(detect(b"\x00\0\0\0\0\0\0\x01{}"), None);
    }
}
