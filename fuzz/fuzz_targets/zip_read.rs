//! The directory of a zip archive: entries lie in the file, apart from each other, each under a name of its own.
#![no_main]

use std::collections::HashSet;

use ckpt_convert::internals::formats::pytorch::archive_entries;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|file: &[u8]| {
    let Ok(mut entries) = archive_entries(file) else {
        return;
    };
    let names: HashSet<&str> = entries.iter().map(|(name, _)| *name).collect();
    assert_eq!(names.len(), entries.len());
    entries.sort_by_key(|(_, range)| (range.start(), range.end()));
    assert!(entries.iter().all(|(_, range)| range.end() <= file.len() as u64));
    assert!(entries.windows(2).all(|pair| pair[0].1.end() <= pair[1].1.start()));
});
