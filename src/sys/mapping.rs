//! Files mapped for reading.

use std::fs::File;
use std::io::Write;
use std::ops::Deref;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use memmap2::{Advice, Mmap, MmapOptions, UncheckedAdvice};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

use super::fault::Watch;
use super::file_error::{FileError, FileOp};
use super::read_fault::ReadFault;
use super::stamp::{Change, Stamp};
use crate::source::{ByteRange, ReadAhead};

/// The promise that no process changes or truncates the input files while the program runs.
///
/// Only the program can make it (as ripgrep does for its memory maps): a library cannot know what else writes to a file.
#[derive(Clone, Copy, Debug)]
pub struct StableInputs(());

impl StableInputs {
    /// Makes the promise.
    ///
    /// # Safety
    /// No other process may modify or truncate a mapped file while its mapping lives. Where one does, reads see other bytes: past
    /// the new end zeros, which [`Mapping::check`] reports.
    pub unsafe fn assume() -> Self {
        Self(())
    }

    /// The promise of a test, whose files lie in a directory of its own.
    #[cfg(test)]
    pub(crate) fn in_test() -> Self {
        Self(())
    }
}

/// How the bytes of a mapped file are had when much of it is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Reader {
    /// From the mapping, which the kernel fills page by page.
    #[default]
    Mapped,
    /// From the mapping where it is in the page cache, read past the cache where it is not.
    Auto,
    /// Read past the page cache.
    Direct,
    /// Read through the page cache, in large pieces.
    Sequential,
}

/// How much of a file is examined in one go to see what is in the page cache.
const LOOK: u64 = 1 << 30;

/// A file mapped for reading. Derefs to its bytes.
///
/// Where the system cannot read some of them, zeros are there instead: code that uses the bytes calls [`Self::check`]
/// afterwards.
#[derive(Debug)]
pub struct Mapping {
    path: PathBuf,
    /// Faults of `map`, so it is before it: fields are dropped in their order. `None` where nothing is mapped, or what is cannot
    /// fail.
    watch: Option<Watch>,
    /// What the system says of the first fault.
    fault: OnceLock<ReadFault>,
    /// `None` for an empty file, which cannot be mapped.
    map: Option<Mmap>,
    page: usize,
    /// Set once, before data are moved.
    reader: OnceLock<Reader>,
    /// The same file for reading through the page cache, and what it was like when it was mapped: its name may come to mean
    /// another file. `None`: it is in memory, and no process can change it.
    plain: Option<(File, Stamp)>,
    /// Opened when first requested: the same file, read past the page cache. `None` inside: refused.
    direct: OnceLock<Option<File>>,
}

impl Mapping {
    /// Opens and maps a whole file.
    pub fn open(path: &Path, _promise: StableInputs) -> Result<Self, FileError> {
        let error = |op| move |source| FileError { op, path: path.to_owned(), source };
        let file = super::file::open_regular(path)?;
        let stamp = Stamp::of(&file).map_err(error(FileOp::Stat))?;
        if stamp.len == 0 {
            return Ok(Self::made(path.to_owned(), Some((file, stamp)), None, None));
        }
        // SAFETY: the mapping is read-only and shared. `Mmap::map` asks that the file is not modified or truncated while it
        // is mapped: `_promise` is a `StableInputs`, which exists only where the program has promised exactly that.
        let map = unsafe { MmapOptions::new().map(&file) }.map_err(error(FileOp::Map))?;
        // Headers are scattered over the file: without this hint each of them would bring in megabytes around it.
        // Only a hint; a kernel without it reads all the same.
        let _ = map.advise(Advice::Random);
        let watch = Watch::new(&map).map_err(error(FileOp::Map))?;
        Ok(Self::made(path.to_owned(), Some((file, stamp)), Some(map), Some(watch)))
    }

    /// Maps a copy of some bytes in a file without a name, for running plans on what is in memory already.
    pub fn in_memory(bytes: &[u8]) -> std::io::Result<Self> {
        let file = memfd_create(c"in-memory", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        let mut file = File::from(file);
        file.write_all(bytes)?;
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL)?;
        let map = if bytes.is_empty() {
            None
        } else {
            // SAFETY: the mapping is read-only and shared. `Mmap::map` asks that the file is not modified or truncated while it
            // is mapped: its seals make the kernel refuse both, and cannot be taken off.
            Some(unsafe { MmapOptions::new().map(&file) }?)
        };
        // Nothing has that name, so it is read from the mapping only.
        Ok(Self::made(PathBuf::from("in-memory"), None, map, None))
    }

    fn made(path: PathBuf, plain: Option<(File, Stamp)>, map: Option<Mmap>, watch: Option<Watch>) -> Self {
        let page = rustix::param::page_size();
        let (fault, reader, direct) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        Self { path, watch, fault, map, page, reader, plain, direct }
    }

    /// Whether some of the bytes could not be read. Costs next to nothing.
    pub fn has_failed(&self) -> bool {
        self.watch.as_ref().is_some_and(|watch| watch.first().is_some())
    }

    /// Whether all that was read from the mapping until now is what the file holds.
    ///
    /// # Errors
    /// What the system says of the first page that it could not read.
    pub fn check(&self) -> Result<(), FileError> {
        let Some(at) = self.watch.as_ref().and_then(Watch::first) else { return Ok(()) };
        let fault = self.fault.get_or_init(|| ReadFault::of(self.plain(), at as u64));
        Err(FileError { op: FileOp::Read, path: self.path.clone(), source: (*fault).into() })
    }

    /// As [`Self::check`], of several.
    ///
    /// # Errors
    /// Of the first that has failed.
    pub fn check_all(mappings: &[Arc<Self>]) -> Result<(), FileError> {
        mappings.iter().try_for_each(|mapping| mapping.check())
    }

    /// Where the file lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Says how the file is to be read. The first word counts; without one it is read from the mapping.
    pub fn set_reader(&self, reader: Reader) {
        // A second word is a second run over the same file: nothing to complain of.
        let _ = self.reader.set(reader);
    }

    /// How the file is read.
    pub fn reader(&self) -> Reader {
        self.reader.get().copied().unwrap_or_default()
    }

    /// The descriptor to read with, where the file is to be read to buffers at all: past the page cache or through it, as
    /// [`Self::set_reader`] said. `None`: its bytes are taken from the mapping.
    pub fn descriptor(&self) -> Option<&File> {
        match self.reader() {
            Reader::Mapped => None,
            Reader::Auto | Reader::Direct => {
                self.direct.get_or_init(|| self.again(super::file::open_direct(&self.path).ok())).as_ref()
            }
            Reader::Sequential => self.plain(),
        }
    }

    /// The same file for reading through the page cache.
    pub(super) fn plain(&self) -> Option<&File> {
        self.plain.as_ref().map(|(file, _)| file)
    }

    /// A file that was opened by the same name, if it is the same.
    fn again(&self, file: Option<File>) -> Option<File> {
        let (_, stamp) = self.plain.as_ref()?;
        file.filter(|file| file.metadata().is_ok_and(|meta| (meta.dev(), meta.ino()) == stamp.identity()))
    }

    /// What the file differs in from what it was when it was mapped.
    ///
    /// # Errors
    /// What the system reports.
    pub fn change(&self) -> Result<Option<Change>, FileError> {
        let Some((file, stamp)) = &self.plain else { return Ok(None) };
        let error = |source| FileError { op: FileOp::Stat, path: self.path.clone(), source };
        stamp.change(file, &self.path).map_err(error)
    }

    /// Whether a range is to be read to a buffer with [`Self::descriptor`], or taken from the mapping. Past the page cache only
    /// whole blocks can be read.
    pub fn is_read(&self, from: u64, len: u64, block: u64) -> bool {
        let whole = from.is_multiple_of(block) && len.is_multiple_of(block);
        let wanted = match self.reader() {
            Reader::Mapped => false,
            Reader::Auto => whole && !self.is_resident(from, len),
            Reader::Direct => whole,
            Reader::Sequential => true,
        };
        wanted && self.descriptor().is_some()
    }

    /// Whether nearly all of the file comes from the mapping anyway, because [`Self::set_reader`] said so or because it is in
    /// the page cache, so that reading ahead would find next to nothing to do.
    pub fn is_at_hand(&self) -> bool {
        match self.reader() {
            Reader::Mapped => true,
            Reader::Auto => {
                let len = self.len() as u64;
                let allowed = self.len() / self.page / 32;
                let mut missing = 0;
                // In pieces, for the kernel's result takes a byte for each page.
                (0..len.div_ceil(LOOK)).all(|piece| {
                    let (there, all) = self.resident_pages(piece * LOOK, LOOK).unwrap_or_default();
                    missing += all - there;
                    missing <= allowed
                })
            }
            Reader::Direct | Reader::Sequential => false,
        }
    }

    /// Whether at least half of a range is in the page cache, so that the mapping gives it without a read. Where the kernel
    /// does not say, it is taken to be.
    pub fn is_resident(&self, from: u64, len: u64) -> bool {
        self.resident_pages(from, len).is_none_or(|(there, all)| there * 2 >= all)
    }

    /// How many pages of a range are in the page cache, and how many it has. `None` where that is not known.
    fn resident_pages(&self, from: u64, len: u64) -> Option<(usize, usize)> {
        let map = self.map.as_ref()?;
        let (from, len) = (usize::try_from(from).ok()?, usize::try_from(len).ok()?);
        let start = from / self.page * self.page;
        let end = from.saturating_add(len).min(map.len());
        if start >= end {
            return None;
        }
        let mut pages = vec![0u8; (end - start).div_ceil(self.page)];
        // SAFETY: `start` is a multiple of the page size inside the mapping, which lives as long as `map` is borrowed, and
        // `end` is not past its end. `pages` has one byte for each page of that range, as mincore(2) asks; it writes there
        // and nowhere else, and reads no data of the mapping.
        let answer = unsafe { libc::mincore(map[start..].as_ptr().cast_mut().cast(), end - start, pages.as_mut_ptr()) };
        (answer == 0).then(|| (pages.iter().filter(|page| *page & 1 != 0).count(), pages.len()))
    }

    /// Advises the kernel that the data are read from front to back from now on.
    pub fn read_through(&self) {
        if let Some(map) = &self.map {
            // Only a hint, as above.
            let _ = map.advise(Advice::Sequential);
        }
    }

    /// Advises the kernel that these pages are not needed in this process any more. They stay in the page cache.
    pub fn release(&self, from: u64, len: u64) {
        let (Some(map), Ok(from), Ok(len)) = (&self.map, usize::try_from(from), usize::try_from(len)) else { return };
        let start = from.next_multiple_of(self.page);
        let end = (from + len).min(map.len()) / self.page * self.page;
        if start < end {
            // SAFETY: MADV_DONTNEED on a shared read-only file mapping discards no data: the next read of a page takes it from
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{Dir, OutFile};

    #[test]
    fn bytes_in_memory_stay_when_they_are_let_go() {
        let bytes: Vec<u8> = (0..20_000u32).flat_map(u32::to_le_bytes).collect();
        let mapping = Mapping::in_memory(&bytes).unwrap();
        assert!(mapping[..] == bytes);
        mapping.release(0, bytes.len() as u64);
        assert!(mapping[..] == bytes);
        mapping.set_reader(Reader::Direct);
        assert!(mapping.descriptor().is_none());
        assert!(Mapping::in_memory(&[]).unwrap().is_empty());
    }

    #[test]
    fn a_file_that_is_truncated_while_it_is_read_is_an_error_that_says_where() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("source");
        std::fs::write(&path, vec![7; 100_000]).unwrap();
        let mapping = Mapping::open(&path, StableInputs::in_test()).unwrap();
        assert_eq!((mapping[0], mapping[99_999]), (7, 7));
        File::options().write(true).open(&path).unwrap().set_len(10).unwrap();
        assert!(mapping[70_000..].iter().all(|byte| *byte == 0));
        assert!(mapping.has_failed());
        let page = 70_000 / mapping.page * mapping.page;
        let said = mapping.check().unwrap_err().to_string();
        let expected = format!(
            "cannot read {}: it was truncated while it was read: it has 10 bytes now, and byte {page} was to be read",
            path.display()
        );
        assert_eq!(said, expected);
        // What was said stays.
        std::fs::write(&path, vec![7; 100_000]).unwrap();
        assert_eq!(mapping.check().unwrap_err().to_string(), expected);
        let other = Arc::new(Mapping::open(&path, StableInputs::in_test()).unwrap());
        assert!(other.iter().all(|byte| *byte == 7));
        assert!(Mapping::check_all(&[Arc::clone(&other)]).is_ok());
        assert!(Mapping::check_all(&[other, Arc::new(mapping)]).is_err());
    }

    /// The kernel announces no fault where it is the one that reads: a write from there is a "bad address".
    #[test]
    fn what_the_kernel_cannot_write_from_a_mapping_is_a_fault_of_the_mapping() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("source");
        std::fs::write(&path, vec![7; 100_000]).unwrap();
        let mapping = Mapping::open(&path, StableInputs::in_test()).unwrap();
        File::options().write(true).open(&path).unwrap().set_len(10).unwrap();
        let target = Dir::make(&dir.path().join("out")).unwrap();
        let file = OutFile::create(&target, "file", 100_000, false).unwrap();
        let refused = file.write_plain(&mapping[70_000..], 0).unwrap_err();
        assert_eq!((refused.source.raw_os_error(), mapping.has_failed()), (Some(libc::EFAULT), false));
        file.write_copied(&mapping[70_000..], 0).unwrap();
        assert!(mapping.check().unwrap_err().to_string().contains("it was truncated while it was read"));
    }
}
