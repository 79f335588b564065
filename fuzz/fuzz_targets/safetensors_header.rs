//! safetensors headers: whatever is accepted must cover the data from the header's end to the file's end.
#![no_main]

use ckpt_convert::internals::formats::safetensors::{read, read_index};
use libfuzzer_sys::fuzz_target;

mod entries;

fuzz_target!(|file: &[u8]| {
    if let Ok(found) = read(file) {
        entries::check(&found.entries, file.len() as u64);
        let data: u64 = found.entries.iter().map(|entry| entry.extents.len()).sum();
        let header =
            u64::from_le_bytes(file[..8].try_into().expect("an accepted file has a header"));
        assert_eq!(8 + header + data, file.len() as u64);
    }
    if let Ok(map) = read_index(file) {
        assert!(
            map.values()
                .all(|name| !name.contains('/') && !name.contains(".."))
        );
    }
});
