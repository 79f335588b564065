//! Whole PyTorch checkpoints, zip archives and legacy ones: every view lies in its storage, every storage in the file.
#![no_main]

use std::collections::HashSet;

use ckpt_convert::internals::formats::pytorch::read;
use libfuzzer_sys::fuzz_target;

mod entries;

fuzz_target!(|file: &[u8]| {
    let Ok(found) = read(file) else {
        return;
    };
    let mut names = HashSet::new();
    let mut dense = Vec::new();
    for view in &found.tensors {
        assert!(names.insert(view.name.as_str()), "{} twice", view.name);
        assert!(view.storage.end() <= file.len() as u64);
        assert!(view.storage.start() <= view.span.start() && view.span.end() <= view.storage.end());
        match &view.strides {
            None => dense.push(view.entry().expect("an entry")),
            Some(strides) => {
                assert!(view.entry().is_none() && view.shape.elements() > 0);
                let steps = view.shape.dims().iter().zip(strides);
                let last: u64 = steps.map(|(dim, stride)| (dim - 1) * stride).sum();
                assert_eq!((last + 1) * view.dtype.size(), view.span.len());
            }
        }
    }
    entries::check(&dense, file.len() as u64);
});
