//! Damage in every place of a checkpoint: no panic, and nothing accepted that does not hold together.

use super::*;

const FILES: [&[u8]; 4] = [
    include_bytes!("../../../tests/data/torch/views.bin"),
    include_bytes!("../../../tests/data/torch/views_legacy.bin"),
    include_bytes!("../../../tests/data/torch/training.pt"),
    include_bytes!("../../../tests/data/torch/linear_protocol4.bin"),
];

fn holds_together(file: &[u8]) {
    let Ok(found) = read(file) else { return };
    for view in found.tensors {
        assert!(view.span.end() <= view.storage.end() && view.span.start() >= view.storage.start());
        assert!(view.storage.end() <= file.len() as u64);
        if let Some(entry) = view.entry() {
            assert_eq!(entry.extents.len(), entry.shape.bytes(entry.dtype));
        }
    }
}

#[test]
fn a_cut_file_is_refused() {
    for file in FILES {
        read(file).unwrap();
        for end in 0..file.len() {
            assert!(read(&file[..end]).is_err(), "{end} of {}", file.len());
        }
    }
}

#[test]
fn any_changed_byte_is_refused_or_harmless() {
    // The smaller ones: the fuzzer goes further.
    for file in [FILES[1], FILES[3]] {
        let mut file = file.to_vec();
        for at in 0..file.len() {
            let was = file[at];
            for byte in [0xff, was ^ 1] {
                file[at] = byte;
                holds_together(&file);
            }
            file[at] = was;
        }
    }
}

#[test]
fn what_is_no_checkpoint_is_named() {
    let said = |file: &[u8]| read(file).unwrap_err().what.to_string();
    assert_eq!(said(b""), "the file is empty");
    let mut tar = vec![0; 1024];
    tar[257..262].copy_from_slice(b"ustar");
    assert!(magic::is_pytorch(&tar) && said(&tar).contains("tar form of 2016"));
    assert!(said(b"hello").contains("no PyTorch checkpoint"));
    assert!(said(b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0").contains("no PyTorch checkpoint"));
}
