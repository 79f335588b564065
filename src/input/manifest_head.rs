//! The first lines of a target's manifest, which say what the target is without reading the rest: hosts that wait for a target
//! look again and again. [`Made`](super::Made) reads all of a source's.

use std::io::Read;
use std::path::Path;

use crate::sys;

/// What a manifest is called, in the directory that it describes.
pub const MANIFEST: &str = "manifest.json";

/// Bytes in which they are.
const BYTES: usize = 4096;

/// The first lines of a manifest. It is written last, so where it is the target is whole.
#[derive(Clone, Debug)]
pub struct ManifestHead(String);

impl ManifestHead {
    /// Of the target in a directory, where there is one.
    pub fn of(dir: &Path) -> Option<Self> {
        let file = sys::open_regular(&dir.join(MANIFEST)).ok()?;
        let mut head = Vec::new();
        file.take(BYTES as u64).read_to_end(&mut head).ok()?;
        Some(Self::begins(&head))
    }

    /// Of a manifest that begins with these bytes.
    pub(super) fn begins(manifest: &[u8]) -> Self {
        Self(String::from_utf8_lossy(&manifest[..manifest.len().min(BYTES)]).into_owned())
    }

    /// Whether this program seems to have written it. The rest may be damaged.
    pub(super) fn looks_like_ours(&self) -> bool {
        self.0.contains("\"manifest_version\"") && self.0.contains(concat!("\"", env!("CARGO_PKG_NAME"), "\""))
    }

    /// Whether the target is of this plan, and of this part of it where it is one.
    pub fn is_of(&self, plan: &str, part: Option<&str>) -> bool {
        self.value("plan") == Some(plan) && self.value("part") == part
    }

    /// The text that one of its first keys has.
    pub fn value(&self, key: &str) -> Option<&str> {
        let start = format!("  \"{key}\": \"");
        self.0.lines().find_map(|line| line.strip_prefix(&start)?.trim_end_matches(',').strip_suffix('"'))
    }
}
