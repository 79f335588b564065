//! How the engine runs.

/// How chunks reach the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum WriterKind {
    /// io_uring where the kernel allows it, else pwrite.
    #[default]
    Auto,
    /// io_uring or nothing.
    Uring,
    /// pwrite.
    Pwrite,
}

/// Whether the output is on the disk when the run is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Durability {
    /// Flushed, files and directories, before anything gets its final name.
    #[default]
    Synced,
    /// Left to the page cache.
    Cached,
}

/// Limits and choices of a run. How each source is read is set in its mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineConfig {
    /// Threads that fill and write.
    pub workers: usize,
    /// The most bytes of buffers over all workers, and of what is read ahead for them.
    pub memory: u64,
    /// The largest read or write, in bytes; a power of two. Memory may allow less where it passes through a buffer.
    pub largest_chunk: u64,
    /// Reads and writes in flight for each worker.
    pub depth: usize,
    /// How chunks reach the disk.
    pub writer: WriterKind,
    /// Whether writes go past the page cache, where the file system does not refuse.
    pub direct: bool,
    /// Whether what gathers need is read ahead of them, where a source is to be read at all ([`LocalBlob::set_reader`]).
    ///
    /// [`LocalBlob::set_reader`]: crate::storage::LocalBlob::set_reader
    pub read_ahead: bool,
    /// Whether it is tried to let source and target share blocks on the disk.
    pub reflink: bool,
    /// Whether the output is flushed.
    pub durability: Durability,
}

impl EngineConfig {
    /// As large as the disks like their reads and writes (measured).
    pub const LARGEST_CHUNK: u64 = 4 << 20;
    /// The largest chunk that is put together before it is written: it should stay in the caches.
    pub(super) const BUILT_CHUNK: u64 = 1 << 20;
    /// The smallest buffer that still makes sense.
    pub const SMALLEST_CHUNK: u64 = 64 << 10;
    /// The largest write through the page cache: larger ones ask for huge pages that may not be at hand (measured).
    pub(super) const CACHED_STEP: usize = 256 << 10;

    /// The most bytes of windows that are read ahead of gathers.
    const MOST_WINDOWS: u64 = 128 << 20;

    /// The size of a worker's buffer.
    pub(super) fn chunk(&self) -> u64 {
        let share = self.worker_bytes() / (self.workers.max(1) as u64 * 2);
        // A power of two, so that chunks keep to whole blocks.
        let chunk = share.clamp(Self::SMALLEST_CHUNK, self.largest_chunk.max(Self::SMALLEST_CHUNK));
        1 << chunk.ilog2()
    }

    /// The most bytes of buffers over all workers, and of windows read ahead for them.
    pub fn buffer_bytes(&self) -> u64 {
        self.workers as u64 * self.buffers() as u64 * self.chunk() + self.window_budget()
    }

    /// Buffers for each worker.
    pub(super) fn buffers(&self) -> usize {
        let share = self.worker_bytes() / (self.workers.max(1) as u64 * self.chunk());
        usize::try_from(share).unwrap_or(self.depth).clamp(1, self.depth.max(1))
    }

    /// What the workers' own buffers have.
    fn worker_bytes(&self) -> u64 {
        self.memory - self.window_budget()
    }

    /// The most bytes of windows, all together.
    pub(super) fn window_budget(&self) -> u64 {
        if self.read_ahead { (self.memory / 2).min(Self::MOST_WINDOWS) } else { 0 }
    }

    /// The size of a window when a gather reads from as many as `sources` files at once: so that there is space for the
    /// windows of some gathers. A power of two.
    pub(super) fn window(&self, sources: usize) -> u64 {
        let share = self.window_budget() / (sources.max(1) as u64 * 4);
        let window = share.clamp(Self::SMALLEST_CHUNK, self.largest_chunk.max(Self::SMALLEST_CHUNK));
        1 << window.ilog2()
    }
}
