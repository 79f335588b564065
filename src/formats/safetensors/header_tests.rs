//! Hand-built and cut files. The goldens of MindSpore itself are checked in `tests/it/formats.rs`.

use super::*;
use crate::formats::{SAFETENSORS, ScanError, Segment};
use crate::storage::MemoryBlob;

const MINI: &[u8] = include_bytes!("../../../tests/data/formats/mini_plain.safetensors");

fn file(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

fn fault(header: &str, data: &[u8]) -> FormatFault {
    read(&file(header, data)).expect_err(header).what
}

#[test]
fn entries_come_in_data_order_whatever_the_header_says() {
    let header = r#"{"b":{"dtype":"U8","shape":[2],"data_offsets":[4,6]},"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"z":{"dtype":"I8","shape":[0,4],"data_offsets":[4,4]}}   "#;
    let found = read(&file(header, b"abcdef")).unwrap();
    let names: Vec<_> = found.entries.iter().map(|e| e.name.as_str()).collect();
    assert_eq!(names, ["a", "z", "b"]);
    let data = 8 + header.len() as u64;
    assert_eq!(found.entries[2].extents.as_contiguous(), ByteRange::new(data + 4, 2));
    assert!(found.entries[0].shape.dims().is_empty() && found.metadata.is_empty());
    assert!(read(&file("{}", b"")).unwrap().entries.is_empty());
}

#[test]
fn int4_is_marked_in_the_metadata() {
    let header = r#"{"__metadata__":{"q":"Int4","format":"ms"},"q":{"dtype":"I8","shape":[1],"data_offsets":[0,1]}}"#;
    let found = read(&file(header, b"a")).unwrap();
    assert_eq!(found.entries[0].dtype, Dtype::Int4);
    assert_eq!(found.metadata["format"], "ms");
    let wide = header.replace("I8", "I16").replace("[0,1]", "[0,2]");
    assert!(matches!(fault(&wide, b"ab"), FormatFault::UnsupportedDtype { .. }));
}

#[test]
fn hostile_headers_are_refused() {
    let t = |dtype, shape, offsets| format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}"#);
    let w = t("U8", "[2]", "[0,2]");
    for (header, what) in [
        (format!(r#"{{"w":{w},"w":{w}}}"#), "twice"),
        (format!(r#"{{"w":{w},"v":{w}}}"#), "overlaps"),
        (format!(r#"{{"w":{w},"v":{}}}"#, t("U8", "[1]", "[1,2]")), "overlaps"),
        (format!(r#"{{"w":{}}}"#, t("U8", "[1]", "[1,2]")), "hole"),
        (format!(r#"{{"w":{}}}"#, t("U8", "[1]", "[0,1]")), "1 bytes follow the last tensor"),
        (format!(r#"{{"w":{}}}"#, t("U8", "[3]", "[0,3]")), "cut short"),
        (format!(r#"{{"w":{}}}"#, t("U8", "[3]", "[0,2]")), "holds 2 bytes"),
        (format!(r#"{{"w":{}}}"#, t("U8", "[2]", "[2,0]")), "hole"),
        (format!(r#"{{"w":{}}}"#, t("U8", "[2]", "[18446744073709551613,18446744073709551615]")), "hole"),
        (format!(r#"{{"w":{}}}"#, t("F8_E4M3", "[2]", "[0,2]")), "unsupported dtype `F8_E4M3`"),
        (format!(r#"{{"w":{}}}"#, t("U8", "[4294967296,4294967296]", "[0,2]")), "too large"),
        (format!(r#"{{"w":{}}}"#, t("U8", "[-2]", "[0,2]")), "invalid JSON"),
        (format!(r#"{{"w":{}}}"#, t("U8", "[2]", "[0,2,4]")), "invalid JSON"),
        (format!(r#"{{"w":{w},"x":1}}"#), "invalid JSON"),
        (r#"{"w":{"dtype":"U8","shape":[2],"data_offsets":[0,2],"x":1}}"#.into(), "unknown field"),
        (r#"{"w":{"dtype":"U8","shape":[2]}}"#.into(), "missing field"),
        (r#"{"w":{"dtype":"U8","dtype":"U8","shape":[2],"data_offsets":[0,2]}}"#.into(), "duplicate field"),
        (format!(r#"{{"__metadata__":{{"a":"1","a":"2"}},"w":{w}}}"#), "twice"),
        (format!(r#"{{"__metadata__":{{}},"__metadata__":{{}},"w":{w}}}"#), "twice"),
        (format!(r#"{{"__metadata__":{{"a":1}},"w":{w}}}"#), "invalid JSON"),
        (format!(r#"{{"w":{w}}}x"#), "trailing"),
        ("[]".into(), "does not begin"),
        (" {}".into(), "does not begin"),
        (String::new(), "does not begin"),
    ] {
        assert!(fault(&header, b"ab").to_string().contains(what), "{header}: {}", fault(&header, b"ab"));
    }
}

#[test]
fn the_header_length_is_not_trusted() {
    let refused = |file: &[u8]| read(file).unwrap_err().what;
    assert_eq!(refused(b""), FormatFault::Empty);
    assert!(matches!(refused(b"\x02\0\0"), FormatFault::Truncated { .. }));
    assert!(matches!(refused(b"\x03\0\0\0\0\0\0\0{}"), FormatFault::Truncated { .. }));
    assert!(matches!(refused(&[0xff; 16]), FormatFault::LimitExceeded { .. }));
    let ckpt = include_bytes!("../../../tests/data/formats/mini_plain.ckpt");
    assert!(matches!(refused(ckpt), FormatFault::NotThisFormat(_)));
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    assert_eq!(read(MINI).unwrap().entries.len(), 6);
    for cut in 0..MINI.len() {
        assert!(read(&MINI[..cut]).is_err(), "cut at {cut}");
    }
    assert_eq!(read(&[MINI, b"x"].concat()).unwrap_err().what, FormatFault::TrailingBytes(1));
}

#[test]
fn a_flipped_bit_never_panics() {
    let mut file = MINI.to_vec();
    for at in 0..620 {
        for bit in 0..8 {
            file[at] ^= 1 << bit;
            let _ = read(&file);
            file[at] ^= 1 << bit;
        }
    }
}

/// `save_checkpoint(format="safetensors", crc_check=True)` of MindSpore 2.10 wrote the file.
#[test]
fn the_checksum_is_mindspores() {
    let bytes = include_bytes!("../../../tests/data/formats/mini_crc.safetensors");
    let file = read(bytes).unwrap();
    assert_eq!(file.crc, Some(426_666_949));
    let summed = crc::summed(bytes.len() as u64, &file.entries).unwrap();
    let part = |segment: &Segment| match segment {
        Segment::Data { range, .. } => summed
            .place
            .locate(range.start(), range.len())
            .flat_map(|range| range.of(bytes).unwrap().to_vec())
            .collect(),
        Segment::Literal(name) => name.clone(),
        Segment::Late(_) => unreachable!("a file states one checksum"),
    };
    let summed: Vec<u8> = summed.segments.iter().flat_map(part).collect();
    assert_eq!(crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, &summed), 426_666_949);
    assert!(crc::summed(bytes.len() as u64 - 1, &file.entries).is_err(), "entries of another file");
}

#[test]
fn a_checksum_that_is_no_number_is_refused() {
    for (number, stated) in
        [("\"7\"", Some(Some(7))), ("\" 7\"", Some(Some(7))), ("\"x\"", None), ("\"4294967296\"", None)]
    {
        let header = format!("{{\"__metadata__\":{{\"crc_num\":{number}}}}}");
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat();
        assert_eq!(read(&bytes).ok().map(|file| file.crc), stated, "{number}");
    }
}

/// Of a file that is elsewhere only the header is read.
#[test]
fn a_header_is_read_without_the_data() {
    let header = r#"{"w":{"dtype":"U8","shape":[300000],"data_offsets":[0,300000]}}"#;
    let bytes = file(header, &vec![1; 300_000]);
    let blob = MemoryBlob::damaged(bytes.clone(), 64 << 10);
    let found = SAFETENSORS.scan(&blob, &Budget::unlimited()).unwrap();
    assert_eq!(found.entries, read(&bytes).unwrap().entries);
    assert_eq!(blob.reads(), [(0, 64 << 10)]);
    // What is cut short is so wherever it is.
    for len in [0, 5, 8, 40, bytes.len() - 1] {
        let cut = MemoryBlob::far(bytes[..len].to_vec());
        let said = SAFETENSORS.scan(&cut, &Budget::unlimited()).unwrap_err().to_string();
        assert_eq!(said, read(&bytes[..len]).unwrap_err().to_string());
    }
    let far = SAFETENSORS.scan(&MemoryBlob::damaged(bytes, 4), &Budget::unlimited()).unwrap_err();
    assert!(matches!(far, ScanError::File(_)), "{far}");
}
