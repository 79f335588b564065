//! GGUF: whatever is accepted lies in the file, in whole blocks, and no tensor over another.
#![no_main]

use ckpt_convert::internals::formats::gguf::read;
use ckpt_convert::internals::model::from_gguf;
use libfuzzer_sys::fuzz_target;

mod entries;

fuzz_target!(|file: &[u8]| {
    let Ok(found) = read(file) else {
        return;
    };
    entries::check(&found.entries, file.len() as u64);
    let mut ranges: Vec<_> =
        found.entries.iter().filter_map(|entry| entry.extents.as_contiguous()).collect();
    ranges.sort();
    assert!(ranges.windows(2).all(|pair| pair[0].end() <= pair[1].start()));
    let rows = |name: &str| {
        let entry = found.entries.iter().find(|entry| entry.name.as_str() == name)?;
        entry.shape.dims().first().copied()
    };
    let _ = from_gguf(&found.metadata, &rows);
});
