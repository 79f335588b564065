//! The first lines of a target's manifest, which say what the target is without reading the rest.

use std::io::Read;
use std::path::Path;

use crate::sys;

/// The first lines of a manifest. It is written last, so where it is the target is whole.
#[derive(Clone, Debug)]
pub struct ManifestHead(String);

impl ManifestHead {
    /// Of the target in a directory, where there is one.
    pub fn of(dir: &Path) -> Option<Self> {
        let file = sys::open_regular(&dir.join("manifest.json")).ok()?;
        let mut head = Vec::new();
        file.take(4096).read_to_end(&mut head).ok()?;
        Some(Self(String::from_utf8_lossy(&head).into_owned()))
    }

    /// The text that one of its first keys has.
    pub fn value(&self, key: &str) -> Option<&str> {
        let start = format!("  \"{key}\": \"");
        self.0.lines().find_map(|line| line.strip_prefix(&start)?.trim_end_matches(',').strip_suffix('"'))
    }
}
