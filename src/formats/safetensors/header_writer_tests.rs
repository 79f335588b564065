//! Against a header that MindSpore (by way of the safetensors library) wrote, and the rules of its reader.

use super::*;
use crate::formats::Segment;
use crate::formats::safetensors::read;
use crate::tensor::Shape;

fn tensor(name: &str, dtype: Dtype, dims: &[u64], phase: Option<u64>) -> TensorToWrite {
    TensorToWrite { name: name.into(), dtype, shape: Shape::new(dims).unwrap(), phase }
}

fn header_of(layout: &FileLayout) -> &[u8] {
    match layout.segments.first() {
        Some(Segment::Literal(bytes)) => bytes,
        _ => panic!("no header"),
    }
}

/// The file with zeros for data.
fn rendered(layout: &FileLayout) -> Vec<u8> {
    let mut file = header_of(layout).to_vec();
    file.resize(usize::try_from(layout.len()).unwrap(), 0);
    file
}

fn start(layout: &FileLayout) -> u64 {
    header_of(layout).len() as u64
}

#[test]
fn headers_of_mindspore_are_written_byte_for_byte() {
    for golden in [
        &include_bytes!("../../../tests/data/formats/mini_plain.safetensors")[..],
        include_bytes!("../../../tests/data/formats/mini_bf16.safetensors"),
        include_bytes!("../../../tests/data/formats/mini_crc.safetensors"),
    ] {
        let found = read(golden).unwrap();
        let tensors: Vec<_> = found.entries.iter().map(|e| tensor(&e.name, e.dtype, e.shape.dims(), None)).collect();
        let metadata: Vec<_> = found.metadata.into_iter().collect();
        let file = layout(&tensors, &metadata).unwrap();
        let header = header_of(&file);
        assert_eq!(header, &golden[..header.len()]);
        assert_eq!(file.len(), golden.len() as u64);
        assert_eq!(start(&file) % 8, 0);
    }
}

#[test]
fn most_bytes_get_their_phase() {
    let phased = |small, large| {
        layout(&[tensor("a", Dtype::U8, &[100], small), tensor("b", Dtype::U8, &[5000], large)], &[]).unwrap()
    };
    // 100 bytes are before `b`: 4 + 4096 - 100 is divisible by 8.
    let file = phased(Some(16), Some(4));
    assert_eq!((start(&file) + 100) % 4096, 4);
    assert!(start(&file) < 4096 + 200);
    assert_eq!(read(&rendered(&file)).unwrap().entries[1].extents, file.extents(2)[1]);
    // A start that is not divisible by 8 is no candidate, so the smaller tensor decides.
    assert_eq!(start(&phased(Some(16), Some(5))) % 4096, 16);
    // Tensors without a phase have no say.
    assert_eq!(start(&phased(Some(24), None)) % 4096, 24);
    assert!(start(&phased(None, None)) < 200);
    // Together, two tensors outvote a third that is larger than each.
    let three = [
        tensor("a", Dtype::U8, &[4096 * 3], Some(0)),
        tensor("b", Dtype::U8, &[4096 * 2], Some(8)),
        tensor("c", Dtype::U8, &[4096 * 2], Some(4096 + 8)),
    ];
    assert_eq!(start(&layout(&three, &[]).unwrap()) % 4096, 8);
}

#[test]
fn int4_is_i8_with_a_mark() {
    let tensors = [tensor("q\"1", Dtype::Int4, &[2], None), tensor("w", Dtype::F16, &[0, 4], None)];
    let file = layout(&tensors, &[("format".into(), "ms".into())]).unwrap();
    let text = std::str::from_utf8(&header_of(&file)[8..]).unwrap().trim_end();
    assert_eq!(
        text,
        r#"{"__metadata__":{"format":"ms","q\"1":"Int4"},"q\"1":{"dtype":"I8","shape":[2],"data_offsets":[0,2]},"w":{"dtype":"F16","shape":[0,4],"data_offsets":[2,2]}}"#
    );
    assert_eq!(read(&rendered(&file)).unwrap().entries[0].dtype, Dtype::Int4);
    // The mark may already be among the given metadata.
    let marked = layout(&tensors, &[("q\"1".into(), "Int4".into())]).unwrap();
    assert_eq!(read(&rendered(&marked)).unwrap().metadata.len(), 1);
}

#[test]
fn what_mindspore_could_not_load_is_refused() {
    let w = || tensor("w", Dtype::I8, &[1], None);
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let refused = |tensors: &[TensorToWrite], metadata: &[_]| layout(tensors, metadata).unwrap_err().what;
    assert!(matches!(refused(&[tensor("t", Dtype::Str, &[1], None)], &[]), FormatFault::CannotWrite { .. }));
    assert_eq!(refused(&[w(), w()], &[]), FormatFault::Duplicate("w".into()));
    assert_eq!(refused(&[], &[pair("a", "1"), pair("a", "2")]), FormatFault::Duplicate("a".into()));
    assert!(matches!(refused(&[w()], &[pair("w", "Int4")]), FormatFault::CannotExpress { .. }));
    assert!(matches!(refused(&[w()], &[pair("w", "x")]), FormatFault::CannotExpress { .. }));
    assert!(matches!(
        refused(&[tensor("__metadata__", Dtype::I8, &[1], None)], &[]),
        FormatFault::CannotExpress { .. }
    ));
}
