//! Sound files and hostile ones, byte by byte.

use super::*;

/// A file as ggml writes it, by hand.
#[derive(Clone, Default)]
struct Made {
    version: u32,
    pairs: Vec<(&'static str, Vec<u8>)>,
    /// Name, dimensions as they are in the file, type, offset.
    tensors: Vec<(&'static str, Vec<u64>, u32, u64)>,
    data: usize,
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

fn value(kind: u32, bytes: &[u8]) -> Vec<u8> {
    [&kind.to_le_bytes()[..], bytes].concat()
}

impl Made {
    fn bytes(&self) -> Vec<u8> {
        let mut file = b"GGUF".to_vec();
        file.extend(self.version.to_le_bytes());
        file.extend((self.tensors.len() as u64).to_le_bytes());
        file.extend((self.pairs.len() as u64).to_le_bytes());
        for (key, value) in &self.pairs {
            file.extend(text(key));
            file.extend(value);
        }
        for (name, dims, kind, offset) in &self.tensors {
            file.extend(text(name));
            file.extend(u32::try_from(dims.len()).unwrap().to_le_bytes());
            file.extend(dims.iter().flat_map(|dim| dim.to_le_bytes()));
            file.extend(kind.to_le_bytes());
            file.extend(offset.to_le_bytes());
        }
        file.resize(file.len().next_multiple_of(32) + self.data, 0x5a);
        file
    }

    fn fault(&self) -> FormatFault {
        read(&self.bytes()).unwrap_err().what
    }
}

fn sound() -> Made {
    Made {
        version: 3,
        pairs: vec![
            ("general.architecture", value(8, &text("llama"))),
            ("llama.block_count", value(4, &2u32.to_le_bytes())),
            ("llama.attention.layer_norm_rms_epsilon", value(6, &1e-5f32.to_le_bytes())),
            ("flag", value(7, &[1])),
            ("double", value(12, &0.1f64.to_le_bytes())),
            ("negative", value(11, &(-3i64).to_le_bytes())),
            ("texts", [&value(9, &8u32.to_le_bytes())[..], &2u64.to_le_bytes(), &text("a"), &text("bc")].concat()),
        ],
        tensors: vec![("a", vec![64, 3], 8, 0), ("b", vec![5], 0, 224)],
        data: 224 + 20,
    }
}

#[test]
fn a_sound_file_gives_its_tensors_and_its_metadata() {
    let made = sound();
    let file = made.bytes();
    let found = read(&file).unwrap();
    let data = (file.len() - made.data) as u64;
    let entry = &found.entries[0];
    assert_eq!((&*entry.name, entry.shape.dims()), ("a", &[3, 64][..]), "the innermost dimension is the last");
    assert_eq!(entry.dtype, Dtype::Blocks(BlockType::Q8_0));
    assert_eq!(entry.extents.as_contiguous(), ByteRange::new(data, 6 * 34));
    assert_eq!(found.entries[1].extents.as_contiguous(), ByteRange::new(data + 224, 20));
    let get =
        |key: &str| found.metadata.iter().find(|(known, _)| known == key).map(|(_, value)| value.clone()).unwrap();
    assert_eq!(get("general.architecture"), "llama");
    assert_eq!(get("llama.block_count"), 2);
    assert_eq!(get("llama.attention.layer_norm_rms_epsilon"), 1e-5, "the decimal, not the double of the single");
    assert_eq!((get("flag"), get("double"), get("negative")), (true.into(), 0.1.into(), (-3).into()));
    assert_eq!(get("texts"), "an array of 2 values");
}

#[test]
fn an_alignment_that_the_file_states_counts() {
    let mut made = sound();
    made.pairs.push((ALIGNMENT_KEY, value(4, &64u32.to_le_bytes())));
    let file = made.bytes();
    let begin = read(&file).unwrap().entries[0].extents.as_contiguous();
    // The data may end up to 32 bytes later then.
    let begin = begin.map_or(0, ByteRange::start);
    assert!(begin.is_multiple_of(64) && file.len() as u64 - begin <= made.data as u64, "{begin}");
    for bad in [value(4, &0u32.to_le_bytes()), value(8, &text("32")), value(10, &u64::MAX.to_le_bytes())] {
        made.pairs.last_mut().unwrap().1 = bad;
        assert_eq!(made.fault(), FormatFault::Malformed(ALIGNMENT_KEY));
    }
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let file = sound().bytes();
    for len in 0..file.len() {
        let fault = read(&file[..len]).unwrap_err().what;
        let expected = matches!(fault, FormatFault::Truncated { .. } | FormatFault::NotThisFormat(_));
        assert!(expected, "{len}: {fault:?}");
    }
}

#[test]
fn other_versions_are_named() {
    for (version, word) in [(1, "version 1"), (3u32.swap_bytes(), "big-endian"), (4, "not known"), (0, "not known")] {
        let fault = Made { version, ..sound() }.fault().to_string();
        assert!(fault.contains(word), "{version}: {fault}");
    }
    assert!(read(&Made { version: 2, ..sound() }.bytes()).is_ok());
}

#[test]
fn counts_and_lengths_are_not_trusted() {
    let file = sound().bytes();
    // The number of tensors, of pairs, and the length of the first key.
    for at in [8, 16, 24] {
        for count in [u64::MAX, 1 << 40, 1 << 63] {
            let mut bad = file.clone();
            bad[at..at + 8].copy_from_slice(&count.to_le_bytes());
            let fault = read(&bad).unwrap_err().what;
            let expected = matches!(fault, FormatFault::LimitExceeded { .. } | FormatFault::Truncated { .. });
            assert!(expected, "{at} {count}: {fault:?}");
        }
    }
    let with = |bytes: Vec<u8>| Made { pairs: vec![("key", bytes)], ..sound() }.fault();
    let array = |of: u32, len: u64| [&value(9, &of.to_le_bytes())[..], &len.to_le_bytes()].concat();
    assert!(matches!(with(array(4, u64::MAX)), FormatFault::Malformed(_)));
    assert!(matches!(with(array(0, 1 << 40)), FormatFault::Truncated { .. }));
    assert!(matches!(with(array(8, 1 << 40)), FormatFault::Truncated { .. } | FormatFault::Malformed(_)));
    assert!(matches!(with(value(13, &[])), FormatFault::Malformed(_)));
    // Arrays of arrays of arrays, each with one.
    let nested = [&value(9, &[])[..], &[9u32.to_le_bytes().to_vec(), 1u64.to_le_bytes().to_vec()].concat().repeat(99)];
    assert!(matches!(with(nested.concat()), FormatFault::Malformed("type of an array")));
}

#[test]
fn what_is_there_twice_or_overlaps_is_refused() {
    let mut made = sound();
    made.tensors[1].0 = "a";
    assert_eq!(made.fault(), FormatFault::Duplicate("a".to_owned()));
    let mut made = sound();
    made.pairs.push(made.pairs[0].clone());
    assert_eq!(made.fault(), FormatFault::Duplicate("general.architecture".to_owned()));
    let mut made = sound();
    made.tensors[1].3 = 203;
    assert_eq!(made.fault(), FormatFault::NotContiguous("b".to_owned()));
    made.tensors[1].3 = u64::MAX;
    assert!(matches!(made.fault(), FormatFault::Truncated { .. }));
}

#[test]
fn shapes_that_cannot_be_are_refused() {
    let with = |dims: Vec<u64>, kind| Made { tensors: vec![("a", dims, kind, 0)], ..sound() }.fault();
    assert!(matches!(with(vec![1 << 40, 1 << 40], 0), FormatFault::BadShape { .. }));
    assert!(matches!(with(vec![1; 5], 0), FormatFault::LimitExceeded { .. }));
    assert!(matches!(with(vec![48, 2], 8), FormatFault::Malformed(_)), "a row of one and a half blocks");
    assert!(matches!(with(vec![64, 7], 8), FormatFault::Truncated { .. }));
}

#[test]
fn a_type_that_is_not_read_is_named_with_what_else_there_is() {
    let mut made = sound();
    made.tensors.extend([("c", vec![256], 10, 0), ("d", vec![1], 77, 0)]);
    let fault = made.fault().to_string();
    assert!(fault.contains("`c` is Q2_K") && fault.contains("1 F32, 1 Q8_0, 1 Q2_K, 1 type 77"), "{fault}");
}
