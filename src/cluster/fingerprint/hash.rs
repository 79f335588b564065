//! Values on their way into a hash.

use std::fmt::Write;

use sha2::{Digest, Sha256};

use crate::plan::PlanHasher;

/// Values on their way into a hash, each with its length, so that no two lists run into one another.
pub(super) struct Hash(Sha256);

impl PlanHasher for Hash {
    fn number(&mut self, number: u64) {
        self.0.update(number.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.update(bytes);
    }
}

impl Hash {
    pub(super) fn new() -> Self {
        Self(Sha256::new())
    }

    /// The first 128 bits as hexadecimal digits.
    pub(super) fn finish(self) -> String {
        self.0.finalize().iter().take(16).fold(String::new(), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}
