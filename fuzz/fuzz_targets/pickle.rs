//! The pickle machine on raw bytes: it ends, stays within the bytes, and runs nothing.
#![no_main]

use ckpt_convert::internals::formats::pytorch::run_pickle;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(end) = run_pickle(bytes) {
        assert!(end <= bytes.len() as u64);
        let end = usize::try_from(end).expect("the length of a slice");
        assert_eq!(bytes[end - 1], b'.');
    }
});
