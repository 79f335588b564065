//! Files mapped for reading.

use std::fs::File;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use memmap2::{Advice, Mmap, MmapOptions, UncheckedAdvice};

use super::file::{FileError, FileOp};
use crate::source::{ByteRange, ReadAhead};

/// The promise that nobody changes or truncates the input files while the program runs.
///
/// Only the program can make it (as ripgrep does for its memory maps): a library cannot know who else writes to a file.
#[derive(Clone, Copy, Debug)]
pub struct StableInputs(());

impl StableInputs {
    /// Makes the promise.
    ///
    /// # Safety
    /// No other process may modify or truncate a mapped file while its mapping lives. Where one does, reads see other bytes,
    /// and a read behind the new end kills the process with SIGBUS.
    pub unsafe fn assume() -> Self {
        Self(())
    }
}

/// A file mapped for reading. Derefs to its bytes.
#[derive(Debug)]
pub struct Mapping {
    path: PathBuf,
    /// `None` for an empty file, which cannot be mapped.
    map: Option<Mmap>,
    page: usize,
    /// Opened when first asked for: the same file, read past the page cache. `None` inside: refused.
    direct: OnceLock<Option<File>>,
    /// Whether it is memory of this process, which holds the only copy.
    anonymous: bool,
}

impl Mapping {
    /// Opens and maps a whole file.
    pub fn open(path: &Path, _promise: StableInputs) -> Result<Self, FileError> {
        let error = |op| move |source| FileError { op, path: path.to_owned(), source };
        let file = super::file::open_regular(path)?;
        let meta = file.metadata().map_err(error(FileOp::Stat))?;
        let page = rustix::param::page_size();
        if meta.len() == 0 {
            return Ok(Self { path: path.to_owned(), map: None, page, direct: OnceLock::new(), anonymous: false });
        }
        // SAFETY: the mapping is read-only and shared. `Mmap::map` asks that the file is not modified or truncated while it
        // is mapped: `_promise` is a `StableInputs`, which exists only where the program has promised just that.
        let map = unsafe { MmapOptions::new().map(&file) }.map_err(error(FileOp::Map))?;
        // Headers are scattered over the file: without this hint each of them would bring in megabytes around it.
        // Only a hint; a kernel without it reads all the same.
        let _ = map.advise(Advice::Random);
        Ok(Self { path: path.to_owned(), map: Some(map), page, direct: OnceLock::new(), anonymous: false })
    }

    /// Bytes that are in no file, as if they were mapped.
    pub fn of_bytes(path: &Path, bytes: &[u8]) -> Result<Self, FileError> {
        let error = |source| FileError { op: FileOp::Map, path: path.to_owned(), source };
        let page = rustix::param::page_size();
        let direct = OnceLock::from(None);
        if bytes.is_empty() {
            return Ok(Self { path: path.to_owned(), map: None, page, direct, anonymous: true });
        }
        let mut map = MmapOptions::new().len(bytes.len()).map_anon().map_err(error)?;
        map.copy_from_slice(bytes);
        let map = map.make_read_only().map_err(error)?;
        Ok(Self { path: path.to_owned(), map: Some(map), page, direct, anonymous: true })
    }

    /// Where the file lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The same file for reading past the page cache, where the file system allows it.
    pub fn direct(&self) -> Option<&File> {
        self.direct.get_or_init(|| super::file::open_direct(&self.path).ok()).as_ref()
    }

    /// Whether at least half of a range is in the page cache, so that the mapping gives it without a read. Where the kernel
    /// does not tell, it is taken to be.
    pub fn is_resident(&self, from: u64, len: u64) -> bool {
        let (Some(map), Ok(from), Ok(len)) = (&self.map, usize::try_from(from), usize::try_from(len)) else {
            return true;
        };
        let start = from / self.page * self.page;
        let end = from.saturating_add(len).min(map.len());
        if start >= end {
            return true;
        }
        let mut pages = vec![0u8; (end - start).div_ceil(self.page)];
        // SAFETY: `start` is a multiple of the page size inside the mapping, which lives as long as `map` is borrowed, and
        // `end` is not behind its end. `pages` has one byte for each page of that range, as mincore(2) asks; it writes there
        // and nowhere else, and reads no data of the mapping.
        let answer = unsafe { libc::mincore(map[start..].as_ptr().cast_mut().cast(), end - start, pages.as_mut_ptr()) };
        answer != 0 || pages.iter().filter(|page| *page & 1 != 0).count() * 2 >= pages.len()
    }

    /// Tells the kernel that the data are read from front to back from now on.
    pub fn read_through(&self) {
        if let Some(map) = &self.map {
            // Only a hint, as above.
            let _ = map.advise(Advice::Sequential);
        }
    }

    /// Tells the kernel that these pages are not needed in this process any more. They stay in the page cache.
    pub fn release(&self, from: u64, len: u64) {
        if self.anonymous {
            return;
        }
        let (Some(map), Ok(from), Ok(len)) = (&self.map, usize::try_from(from), usize::try_from(len)) else { return };
        let start = from.next_multiple_of(self.page);
        let end = (from + len).min(map.len()) / self.page * self.page;
        if start < end {
            // SAFETY: MADV_DONTNEED on a shared read-only file mapping (anonymous ones left above) discards no data: the next read of a page takes it from
            // the file again, which by `StableInputs` has not changed. The range lies inside the mapping.
            // A refusal costs only memory that the kernel can reclaim by itself.
            let _ = unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, start, end - start) };
        }
    }
}

impl ReadAhead for Mapping {
    fn will_read(&self, range: ByteRange) {
        let (Some(map), Ok(from), Ok(len)) = (&self.map, usize::try_from(range.start()), usize::try_from(range.len()))
        else {
            return;
        };
        let start = from / self.page * self.page;
        let len = (from + len).min(map.len()).saturating_sub(start);
        // Only a hint, as above. Where the whole file is not wanted, the rest of it keeps its own.
        let _ = map.advise_range(Advice::WillNeed, start, len);
    }
}

impl Deref for Mapping {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.map.as_deref().unwrap_or_default()
    }
}
