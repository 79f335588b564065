//! `.ckpt` scanning: whatever is accepted must lie within the file and be as long as it says.
#![no_main]

use ckpt_convert::internals::formats::StatedCrc;
use ckpt_convert::internals::formats::mindspore::scan;
use libfuzzer_sys::fuzz_target;

mod entries;

fuzz_target!(|file: &[u8]| {
    if let Ok(found) = scan(file) {
        entries::check(&found.entries, file.len() as u64);
        if let Some(trailer) = found.crc {
            assert_eq!(trailer.covered + 17, file.len() as u64);
            assert!(StatedCrc::Trailer(trailer).summed(file.len() as u64, &[]).is_ok());
        }
    }
});
