//! All formats, and which of them a file is of, known from its first bytes.

use super::format::Format;
use super::gguf::Gguf;
use super::mindspore::Ckpt;
use super::pytorch::Pytorch;
use super::safetensors::Safetensors;

/// A format, as it is handed around.
pub type FormatRef = &'static dyn Format;

/// MindSpore's protobuf `.ckpt`.
pub const CKPT: FormatRef = &Ckpt;
/// Hugging Face's safetensors.
pub const SAFETENSORS: FormatRef = &Safetensors;
/// PyTorch's zip archive or its legacy form.
pub const PYTORCH: FormatRef = &Pytorch;

/// llama.cpp's container, which is read only.
pub const GGUF: FormatRef = &Gguf;

/// All formats. Of several that a file could be of the first is taken.
pub static FORMATS: [FormatRef; 4] = [SAFETENSORS, GGUF, PYTORCH, CKPT];

/// What kind of checkpoint the bytes begin, or `None` where they begin none.
///
/// An encrypted `.ckpt` counts as [`CKPT`], so that its parser can name the encryption; a safetensors file whose header is cut
/// short counts as [`SAFETENSORS`] for the same reason, and any zip archive, pickle or tar archive as [`PYTORCH`].
pub fn detect(file: &[u8]) -> Option<FormatRef> {
    FORMATS.into_iter().find(|format| format.begins(file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::magic;

    #[test]
    fn content_decides() {
        assert_eq!(detect(b""), None);
        assert_eq!(detect(b"GGUF\x03\0\0\0"), Some(GGUF));
        assert_eq!(detect(b"PK\x03\x04"), Some(PYTORCH));
        assert_eq!(detect(b"\x80\x02\x8a\x0al\xfc\x9cF"), Some(PYTORCH));
        // A header of 640 bytes begins like a pickle.
        assert_eq!(detect(b"\x80\x02\0\0\0\0\0\0{\"__"), Some(SAFETENSORS));
        assert_eq!(detect(b"\x08\x02\x12\x00"), None, "a strategy file is no checkpoint");
        assert_eq!(detect(b"\x0a\x00"), Some(CKPT));
        assert_eq!(detect(b"\x7a\x06\0\0\0\0\0\0\x0a\x00"), Some(CKPT));
        assert_eq!(detect(b"\xda\x5e\x3a\x7f"), Some(CKPT));
        assert_eq!(detect(b"\x02\0\0\0\0\0\0\0{}"), Some(SAFETENSORS));
        // 0x0a as the low byte of a header length is no record.
        assert_eq!(detect(b"\x0a\x01\0\0\0\0\0\0{\"__"), Some(SAFETENSORS));
        assert_eq!(detect(b"\x00\0\0\0\0\0\0\x01{}"), None);
    }

    #[test]
    fn what_no_format_begins_is_no_checkpoint_to_any_parser() {
        let tar = [&[0; 257][..], b"ustar"].concat();
        let heads: [&[u8]; 7] =
            [b"", b"PK\x05\x06", b"\x80\x05", &tar, b"\x7a\x01", b"\x08\x02", b"\x02\0\0\0\0\0\0\0{}"];
        for head in heads {
            assert_eq!(magic::is_checkpoint(head), detect(head).is_some(), "{head:?}");
        }
        let titles: std::collections::HashSet<_> = FORMATS.iter().map(|format| format.title()).collect();
        assert_eq!(titles.len(), FORMATS.len(), "each has a title of its own");
    }
}
