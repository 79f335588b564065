//! What every accepted checkpoint must satisfy.

use std::collections::HashSet;

use ckpt_convert::internals::formats::Entry;

/// Every extent lies inside the file, lengths are shape times dtype, names are unique, parts are in tensor order.
pub fn check(entries: &[Entry], file: u64) {
    let mut names = HashSet::new();
    for entry in entries {
        assert!(names.insert(entry.name.as_str()), "{} twice", entry.name);
        assert_eq!(entry.extents.len(), entry.shape.bytes(entry.dtype));
        let mut done = 0;
        for &(at, range) in entry.extents.parts() {
            assert_eq!(at, done);
            assert!(range.end() <= file);
            done += range.len();
        }
        assert_eq!(done, entry.extents.len());
    }
}
