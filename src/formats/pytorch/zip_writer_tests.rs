//! What is written is read back here; that PyTorch loads it is seen by `tools/interop/check_torch.py`, whose input is
//! pinned in `tests/it/pytorch.rs`.

use super::*;
use crate::formats::{Segment, pytorch};
use crate::tensor::{Dtype, Shape};

fn tensor(name: &str, dtype: Dtype, dims: &[u64], phase: Option<u64>) -> TensorToWrite {
    TensorToWrite { name: name.into(), dtype, shape: Shape::new(dims).unwrap(), phase }
}

/// The file with zeros for data. The pages of large tensors are never touched.
fn rendered(layout: &FileLayout) -> Vec<u8> {
    let mut file = vec![0; usize::try_from(layout.len()).unwrap()];
    let mut at = 0;
    for segment in &layout.segments {
        if let Segment::Literal(bytes) = segment {
            file[at..at + bytes.len()].copy_from_slice(bytes);
        }
        at += usize::try_from(segment.len()).unwrap();
    }
    file
}

#[test]
fn the_reader_finds_each_tensor_where_the_layout_puts_it() {
    let tensors = [
        tensor("a", Dtype::F16, &[300, 70_000], None),
        tensor("b", Dtype::U16, &[3], None),
        tensor("c", Dtype::I64, &[], None),
        tensor("d", Dtype::F32, &[0, 5], None),
    ];
    let written = layout(&tensors).unwrap();
    let found = pytorch::read(&rendered(&written)).unwrap();
    let entries: Vec<_> = found.tensors.iter().map(|t| t.entry().unwrap()).collect();
    let extents = written.extents(tensors.len());
    assert_eq!(entries.len(), tensors.len());
    for ((entry, tensor), extents) in entries.into_iter().zip(&tensors).zip(extents) {
        assert_eq!((&entry.name, entry.dtype, &entry.shape), (&tensor.name, tensor.dtype, &tensor.shape));
        assert_eq!(entry.extents, extents);
        assert!(extents.parts().iter().all(|(_, range)| range.start() % ALIGNMENT == 0));
    }
    assert!(found.others.is_empty() && found.beside.is_empty() && found.wrappers.is_empty());
}

/// Sizes and offsets beyond 32 bits.
#[test]
fn a_large_tensor_moves_what_follows_past_four_gigabytes() {
    let tensors = [tensor("large", Dtype::F32, &[1 << 30, 1], None), tensor("small", Dtype::I8, &[1], None)];
    let written = layout(&tensors).unwrap();
    let found = pytorch::read(&rendered(&written)).unwrap();
    let starts: Vec<_> = found.tensors.iter().map(|t| (t.span.start(), t.span.len())).collect();
    assert_eq!(starts[0].1, 4 << 30);
    assert!(starts[1].0 > 4 << 30 && starts[1].1 == 1);
    assert_eq!(written.extents(2)[1].parts()[0].1.start(), starts[1].0);
}

#[test]
fn tensors_worth_it_get_their_phase() {
    let tensors = [
        tensor("large", Dtype::U8, &[WORTH_A_PHASE], Some(4096 + 704)),
        tensor("again", Dtype::U8, &[WORTH_A_PHASE], Some(64)),
        tensor("odd", Dtype::U8, &[WORTH_A_PHASE], Some(65)),
        tensor("small", Dtype::U8, &[10], Some(704)),
    ];
    let written = layout(&tensors).unwrap();
    let starts: Vec<u64> = written.extents(4).iter().map(|e| e.parts()[0].1.start()).collect();
    assert_eq!((starts[0] % 4096, starts[1] % 4096), (704, 64));
    assert!(starts[2..].iter().all(|start| start.is_multiple_of(64)));
    assert!(starts[3] - starts[2] < WORTH_A_PHASE + 256, "no block of padding for ten bytes");
    assert_eq!(pytorch::read(&rendered(&written)).unwrap().tensors[1].span.start(), starts[1]);
}

#[test]
fn what_pytorch_cannot_hold_is_refused() {
    let refused = |tensors: &[TensorToWrite]| layout(tensors).unwrap_err().what;
    let int4 = refused(&[tensor("a", Dtype::Int4, &[2], None)]);
    assert_eq!(int4.to_string(), "`a` has the dtype int4, which a PyTorch checkpoint cannot hold");
    let twice = [tensor("a", Dtype::U8, &[2], None), tensor("a", Dtype::U8, &[2], None)];
    assert_eq!(refused(&twice), FormatFault::Duplicate("a".into()));
    let huge = tensor("a", Dtype::F64, &[(1 << 60) - 1], None);
    assert!(matches!(refused(&[huge]), FormatFault::CannotExpress { .. }));
}
