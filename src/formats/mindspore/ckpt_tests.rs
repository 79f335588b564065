//! Hand-built and cut files. The goldens of MindSpore itself are checked in `tests/it/formats.rs`.

use super::*;
use crate::formats::StatedCrc;

const MINI: &[u8] = include_bytes!("../../../tests/data/formats/mini_plain.ckpt");
const CRC: &[u8] = include_bytes!("../../../tests/data/formats/mini_multichunk_bytes3k_crc.ckpt");

/// A length-delimited field with a one-byte length.
fn field(key: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![key, u8::try_from(content.len()).unwrap()];
    assert!(content.len() < 128);
    out.extend_from_slice(content);
    out
}

/// A record of one tag with the given fields of the tensor.
fn record(tag: &str, tensor: &[&[u8]]) -> Vec<u8> {
    field(0x0a, &[field(0x0a, tag.as_bytes()), field(0x12, &tensor.concat())].concat())
}

const INT8: &[u8] = b"\x12\x04Int8";
const STR: &[u8] = b"\x12\x03str";

fn fault(file: &[u8]) -> FormatFault {
    scan(file).expect_err("must be refused").what
}

fn one(file: &[u8]) -> Entry {
    let mut entries = scan(file).unwrap().entries;
    assert_eq!(entries.len(), 1);
    entries.remove(0)
}

fn bytes_of(entry: &Entry, file: &[u8]) -> Vec<u8> {
    entry.extents.parts().iter().flat_map(|(_, range)| range.of(file).unwrap()).copied().collect()
}

#[test]
fn fields_stand_in_any_order_among_unknown_ones() {
    let tensor = field(0x12, &[b"\x1a\x02ab", &b"\x48\x01"[..], INT8, b"\x08\x82\x80\x00"].concat());
    let value = [b"\x4a\x01x".to_vec(), tensor, field(0x0a, b"w"), b"\x53\x54".to_vec()].concat();
    let file = [b"\x7a\x03\0\0\0".to_vec(), field(0x0a, &value), b"\x15abcd".to_vec()].concat();
    let entry = one(&file);
    assert_eq!((entry.name.as_str(), entry.dtype, entry.shape.dims()), ("w", Dtype::I8, &[2][..]));
    assert_eq!(bytes_of(&entry, &file), b"ab");
}

#[test]
fn dims_are_unpacked_packed_or_both() {
    for dims in [&b"\x08\x01\x08\x02"[..], b"\x0a\x02\x01\x02", b"\x08\x01\x0a\x01\x02"] {
        assert_eq!(one(&record("w", &[dims, INT8, b"\x1a\x02ab"])).shape.dims(), [1, 2]);
    }
}

#[test]
fn over_long_lengths_are_read_over_long_keys_are_not() {
    let content = b"\x1a\x82\x80\x80\x80\x80\x80\x80\x80\x80\x00ab";
    assert_eq!(one(&record("w", &[b"\x08\x02", INT8, content])).extents.len(), 2);
    let file = record("w", &[b"\x08\x02", INT8, b"\x9a\x00\x02ab"]);
    assert!(fault(&file).to_string().contains("over-long"), "{}", fault(&file));
}

#[test]
fn adjacent_records_join_and_only_the_last_dims_count() {
    let file = [
        record("w", &[INT8, b"\x1a\x02ab"]),
        b"\x7a\x02\0\0".to_vec(),
        record("w", &[b"\x08\x63", INT8, b"\x1a\x00"]),
        record("w", &[b"\x08\x03", INT8, b"\x1a\x01c"]),
        record("v", &[b"\x08\x01", INT8, b"\x1a\x01d"]),
    ]
    .concat();
    let entries = scan(&file).unwrap().entries;
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[0].shape.dims(), [3]);
    assert_eq!(bytes_of(&entries[0], &file), b"abc");
    assert_eq!(entries[0].extents.parts().len(), 2);
    assert_eq!(bytes_of(&entries[1], &file), b"d");
}

#[test]
fn a_parameter_twice_is_refused() {
    let part = record("w", &[b"\x08\x02", INT8, b"\x1a\x01a"]);
    let whole = record("w", &[b"\x08\x01", INT8, b"\x1a\x01a"]);
    let other = record("v", &[b"\x08\x01", INT8, b"\x1a\x01a"]);
    assert_eq!(fault(&[&*whole, &*other, &*whole].concat()), FormatFault::Duplicate("w".into()));
    assert_eq!(fault(&[&*whole, &*whole].concat()), FormatFault::Duplicate("w".into()));
    let (need, have) = (2, 1);
    let interleaved = [&*part, &*other, &*part].concat();
    assert_eq!(fault(&interleaved), FormatFault::WrongLength { tensor: "w".into(), need, have });
    assert_eq!(one(&[&*part, &*part].concat()).extents.len(), 2);
}

#[test]
fn texts_and_scalars_have_their_own_dims() {
    let text = one(&record("note", &[b"\x08\x00", STR, b"\x1a\x08h\0\0\0i\0\0\0"]));
    assert_eq!((text.dtype, text.shape.dims()), (Dtype::Str, &[2][..]));
    assert!(one(&record("x", &[b"\x08\x00", INT8, b"\x1a\x01a"])).shape.dims().is_empty());
    assert!(one(&record("x", &[INT8, b"\x1a\x01a"])).shape.dims().is_empty());
    assert_eq!(one(&record("x", &[b"\x08\x00\x08\x04", INT8, b"\x1a\x00"])).shape.dims(), [0, 4]);
    assert!(scan(&record("note", &[b"\x08\x00", STR, b"\x1a\x03h\0\0"])).is_err());
    assert!(scan(&record("note", &[b"\x08\x01", STR, b"\x1a\x04h\0\0\0"])).is_err());
    assert!(scan(&record("x", &[b"\x08\x00", INT8, b"\x1a\x00"])).is_err());
}

#[test]
fn hostile_files_are_refused() {
    let content: &[u8] = b"\x1a\x02ab";
    let two: &[u8] = b"\x08\x02";
    let map = field(0x0a, &[field(0x0a, b"m"), field(0x1a, b"")].concat());
    let no_tag = field(0x0a, &field(0x12, &[two, INT8, content].concat()));
    let two_tensors = field(0x0a, &[field(0x0a, b"w"), field(0x12, b""), field(0x12, b"")].concat());
    let two_tags = field(0x0a, &[field(0x0a, b"w"), field(0x0a, b"w")].concat());
    let mixed = [record("w", &[two, INT8, b"\x1a\x01a"]), record("w", &[two, b"\x12\x05UInt8", b"\x1a\x01a"])];
    let cases: [(Vec<u8>, &str); 20] = [
        (record("w", &[two, content]), "no `tensor_type`"),
        (record("w", &[two, INT8]), "no `tensor_content`"),
        (field(0x0a, &field(0x0a, b"w")), "no `tensor`"),
        (no_tag, "no `tag`"),
        (two_tensors, "`tensor` twice"),
        (two_tags, "`tag` twice"),
        (record("w", &[two, INT8, INT8, content]), "`tensor_type` twice"),
        (record("w", &[two, INT8, content, content]), "`tensor_content` twice"),
        (record("w", &[two, b"\x12\x06Float8", content]), "unsupported dtype `Float8`"),
        (map, "MapTensor"),
        (record("w", &[b"\x08\x03", INT8, content]), "holds 2 bytes"),
        (record("w", &[b"\x08\x01", INT8, content]), "holds 2 bytes"),
        (record("w", &[b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", INT8, content]), "negative"),
        (record("w", &[&b"\x08\xff\xff\xff\xff\x0f".repeat(3), INT8, content]), "too large"),
        (record("w", &[&b"\x08\x01".repeat(17), INT8, content]), "17 dimensions"),
        (record("w", &[b"\x0d\0\0\0\0", INT8, content]), "`dims` is no number"),
        (mixed.concat(), "differ in `tensor_type`"),
        (field(0x0a, &[field(0x0a, b"\xff"), field(0x12, b"")].concat()), "not UTF-8"),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01ab".to_vec(), "cut short"),
        (b"\x0b\x0c".to_vec(), "no message"),
    ];
    for (file, what) in cases {
        assert!(fault(&file).to_string().contains(what), "{what}: {}", fault(&file));
    }
}

#[test]
fn other_files_are_named() {
    assert_eq!(fault(b""), FormatFault::Empty);
    assert_eq!(fault(b"\xd8\x5e\x3a\x7f"), FormatFault::Encrypted("AES-GCM"));
    for other in [&b"\x08\x02\x12\x00"[..], b"PK\x03\x04", b"\x02\0\0\0\0\0\0\0{}"] {
        assert!(matches!(fault(other), FormatFault::NotThisFormat(_)));
    }
}

#[test]
fn a_name_beyond_the_limit_is_refused() {
    let length = usize::try_from(limits::MAX_NAME_BYTES).unwrap() + 1;
    let mut tag = vec![0x0a, 0x81, 0x80, 0x04];
    tag.resize(4 + length, b'n');
    let total = tag.len() + 2;
    let mut file = vec![0x0a];
    super::super::wire::put_varint(&mut file, total as u64);
    file.extend([tag, field(0x12, b"")].concat());
    assert!(matches!(fault(&file), FormatFault::LimitExceeded { field: "tag", .. }));
}

#[test]
fn a_file_cut_anywhere_is_refused_unless_between_records() {
    let whole = scan(MINI).unwrap().entries;
    // Where records end: after each content, which is the last field of its record.
    let ends: Vec<u64> = whole.iter().map(|e| e.extents.as_contiguous().unwrap().end()).collect();
    for cut in 0..MINI.len() {
        match (scan(&MINI[..cut]), ends.iter().position(|&end| end == cut as u64)) {
            (Ok(found), Some(last)) => assert_eq!(found.entries, whole[..=last], "cut at {cut}"),
            (Ok(_), None) => panic!("cut at {cut} is accepted"),
            (Err(error), at_end) => assert!(at_end.is_none() && error.at <= cut as u64, "cut at {cut}: {error}"),
        }
    }
}

#[test]
fn a_flipped_bit_never_panics() {
    let mut file = MINI.to_vec();
    for at in (0..400).chain(file.len() - 400..file.len()) {
        for bit in 0..8 {
            file[at] ^= 1 << bit;
            let _ = scan(&file);
            file[at] ^= 1 << bit;
        }
    }
}

fn verify_crc(file: &[u8], trailer: CrcTrailer) -> Result<(), FormatError> {
    let stated = StatedCrc::Trailer(trailer);
    let covered = stated.summed(file.len() as u64, &[])?.place.len();
    stated.compare(crc32(&file[..usize::try_from(covered).expect("it is in memory")]))
}

#[test]
fn the_checksum_is_found_and_verified() {
    // The check value of CRC-32/ISO-HDLC.
    assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    let trailer = scan(CRC).unwrap().crc.unwrap();
    assert_eq!(trailer.covered + 17, CRC.len() as u64);
    verify_crc(CRC, trailer).unwrap();
    let mut damaged = CRC.to_vec();
    damaged[20_000] ^= 1;
    let error = verify_crc(&damaged, trailer).unwrap_err();
    assert!(matches!(error.what, FormatFault::CrcMismatch { stated, .. } if stated == trailer.stated));
    assert!(verify_crc(&CRC[..100], trailer).is_err());
    let mut wide = CRC.to_vec();
    let at = wide.len() - 5;
    wide[at] = 1;
    assert!(matches!(fault(&wide), FormatFault::Malformed(_)));
}
