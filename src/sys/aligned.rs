//! Page-aligned buffers, as direct I/O needs them.

use std::io;
use std::ops::{Deref, DerefMut};

use memmap2::MmapMut;

/// A zeroed, page-aligned buffer whose address never changes, even when the value is moved.
#[derive(Debug)]
pub struct AlignedBuf(MmapMut);

impl AlignedBuf {
    /// A buffer of `len` bytes.
    pub fn new(len: usize) -> io::Result<Self> {
        let map = MmapMut::map_anon(len)?;
        // Fewer page faults; where it is refused the buffer works all the same.
        let _ = map.advise(memmap2::Advice::HugePage);
        Ok(Self(map))
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}
