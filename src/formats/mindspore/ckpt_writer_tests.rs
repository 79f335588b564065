//! Against bytes that MindSpore wrote, and by what a reader of the wire format sees.

use super::*;
use crate::formats::Segment;
use crate::formats::mindspore::scan;
use crate::tensor::Shape;

fn tensor(name: &str, dtype: Dtype, dims: &[u64], phase: Option<u64>) -> TensorToWrite {
    TensorToWrite { name: name.into(), dtype, shape: Shape::new(dims).unwrap(), phase }
}

/// The file's bytes, tensor `i` being filled from `contents[i]`.
fn render(layout: &FileLayout, contents: &[Vec<u8>]) -> Vec<u8> {
    let mut file = Vec::new();
    for segment in &layout.segments {
        match segment {
            Segment::Literal(bytes) => file.extend_from_slice(bytes),
            Segment::Data { tensor, range } => {
                file.extend_from_slice(range.of(&contents[*tensor]).unwrap());
            }
            Segment::Late(checksum) => {
                let sum = crate::formats::mindspore::crc32(checksum.of.of(&file).unwrap());
                file.extend_from_slice(&checksum.encode(sum));
            }
        }
    }
    assert_eq!(file.len() as u64, layout.len());
    file
}

/// Writes what was read from a file of MindSpore's.
fn rewrite(golden: &[u8], options: CkptOptions) -> Vec<u8> {
    let entries = scan(golden).unwrap().entries;
    let contents: Vec<Vec<u8>> = entries
        .iter()
        .map(|e| e.extents.parts().iter().flat_map(|(_, range)| range.of(golden).unwrap()).copied().collect())
        .collect();
    let tensors: Vec<_> = entries.iter().map(|e| tensor(&e.name, e.dtype, e.shape.dims(), None)).collect();
    render(&layout(&tensors, options).unwrap(), &contents)
}

#[test]
fn files_of_mindspore_are_written_byte_for_byte() {
    let plain = CkptOptions::default();
    for golden in [
        &include_bytes!("../../../tests/data/formats/mini_plain.ckpt")[..],
        include_bytes!("../../../tests/data/formats/mini_bf16.ckpt"),
        include_bytes!("../../../tests/data/formats/all_dtypes.ckpt"),
        include_bytes!("../../../tests/data/formats/int4.ckpt"),
        include_bytes!("../../../tests/data/formats/zero_size.ckpt"),
    ] {
        assert!(rewrite(golden, plain) == golden);
    }
    let sliced = CkptOptions { slice_bytes: 3072, ..plain };
    let golden = include_bytes!("../../../tests/data/formats/mini_multichunk_bytes3k.ckpt");
    assert!(rewrite(golden, sliced) == golden);
    let golden = include_bytes!("../../../tests/data/formats/mini_multichunk_bytes3k_crc.ckpt");
    assert!(rewrite(golden, CkptOptions { crc: true, ..sliced }) == golden);
}

#[test]
fn padding_of_every_size_is_one_unknown_field() {
    for size in 2..=4097 {
        let field = padding(size);
        assert_eq!(field.len() as u64, size);
        assert_eq!(field[0], 0x7a);
        let length_bytes = 1 + field[1..].iter().position(|byte| byte & 0x80 == 0).unwrap();
        let length: usize = field[1..=length_bytes].iter().rev().fold(0, |n, b| n << 7 | usize::from(b & 0x7f));
        assert!(length_bytes <= 5);
        assert_eq!(1 + length_bytes + length, field.len(), "size {size}");
        assert!(field[1 + length_bytes..].iter().all(|&byte| byte == 0));
    }
}

#[test]
fn every_phase_is_reached_from_everywhere() {
    for at in [0, 1, 17, 4095, 4096, 1_000_003] {
        for wanted in 0..4096 {
            let pad = padding_before(at, wanted).len() as u64;
            assert_eq!((at + pad) % 4096, wanted);
            assert!(pad != 1 && pad <= 4097);
        }
    }
}

#[test]
fn contents_land_on_their_phases_and_the_file_stays_readable() {
    let tensors = [
        tensor("a", Dtype::F32, &[3], Some(0)),
        tensor("b", Dtype::U8, &[20_000], Some(4095)),
        tensor("c", Dtype::I8, &[], None),
        tensor("d", Dtype::F16, &[5000], Some(4096 + 7)),
    ];
    let contents: Vec<Vec<u8>> = tensors
        .iter()
        .enumerate()
        .map(|(i, t)| (0..t.shape.bytes(t.dtype)).map(|n| (n * 7 + i as u64).to_le_bytes()[0]).collect())
        .collect();
    for slice_bytes in [512 << 20, 8192, 4096, 3000] {
        let file = layout(&tensors, CkptOptions { padding: true, slice_bytes, crc: false }).unwrap();
        let bytes = render(&file, &contents);
        let entries = scan(&bytes).unwrap().entries;
        assert_eq!(entries.iter().map(|e| &e.extents).collect::<Vec<_>>(), file.extents(4).iter().collect::<Vec<_>>());
        for ((entry, content), wanted) in entries.iter().zip(&contents).zip(&tensors) {
            let parts = entry.extents.parts();
            let read: Vec<u8> = parts.iter().flat_map(|(_, range)| range.of(&bytes).unwrap()).copied().collect();
            assert!(&read == content);
            let slices = (content.len() as u64).div_ceil(slice_bytes);
            assert_eq!(parts.len() as u64, slices.max(1));
            for (offset, range) in parts {
                assert!(wanted.phase.is_none_or(|p| range.start() % 4096 == (p + offset) % 4096));
            }
        }
        let unpadded = layout(&tensors, CkptOptions { padding: false, slice_bytes, crc: false }).unwrap();
        assert!(unpadded.len() < file.len());
    }
}

#[test]
fn what_the_format_cannot_hold_is_refused() {
    let plain = CkptOptions::default();
    for bad in [
        tensor("empty", Dtype::F32, &[0, 4], None),
        tensor("empty", Dtype::F32, &[0], None),
        tensor("text", Dtype::Str, &[2, 2], None),
        tensor(&"n".repeat(70_000), Dtype::F32, &[1], None),
    ] {
        assert!(matches!(layout(&[bad], plain).unwrap_err().what, FormatFault::CannotExpress { .. }));
    }
    let twice = [tensor("w", Dtype::I8, &[1], None), tensor("w", Dtype::I8, &[1], None)];
    assert_eq!(layout(&twice, plain).unwrap_err().what, FormatFault::Duplicate("w".into()));
    assert!(layout(&[], plain).unwrap().is_empty());
}

#[test]
fn a_record_beyond_four_gigabytes_has_exact_lengths() {
    let big = [tensor("big", Dtype::F32, &[1 << 16, 1 << 16], None)];
    let file = layout(&big, CkptOptions { padding: false, slice_bytes: u64::MAX, crc: false }).unwrap();
    // value { tag(5) tensor { dims(8) type(9) content(1 + 6 + 2^34) } } with 5-byte lengths of value and tensor
    let tensor: u64 = 8 + 9 + 6 + (1 << 34);
    assert_eq!(file.len(), 1 + 5 + 5 + 1 + 5 + tensor);
    assert_eq!(file.segments.len(), 2);
}
