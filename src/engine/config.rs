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

/// Limits and choices of a run.
#[derive(Clone, Copy, Debug)]
pub struct EngineConfig {
    /// Threads that fill and write.
    pub workers: usize,
    /// The most bytes of buffers over all workers, and of what is read ahead for them.
    pub memory: u64,
    /// How chunks reach the disk.
    pub writer: WriterKind,
    /// Whether source ranges that are not in the page cache are read past it. Not always a gain: it depends on the machine.
    pub direct_reads: bool,
    /// Whether the output is flushed.
    pub durability: Durability,
}

impl EngineConfig {
    /// The largest buffer, as large as the disk likes its reads and writes.
    const LARGEST_CHUNK: u64 = 4 << 20;
    /// The largest chunk that is put together before it is written: it should stay in the caches.
    pub(super) const BUILT_CHUNK: u64 = 1 << 20;
    /// The smallest buffer that still makes sense.
    const SMALLEST_CHUNK: u64 = 64 << 10;
    /// Writes in flight for each worker. Sixteen MiB in flight is what counts (measured).
    pub(super) const DEPTH: usize = 8;

    /// The most bytes of windows that are read ahead of gathers.
    const MOST_WINDOWS: u64 = 128 << 20;

    /// The size of a worker's buffer.
    pub(super) fn chunk(&self) -> u64 {
        let share = self.worker_bytes() / (self.workers.max(1) as u64 * 2);
        // A power of two, so that chunks keep to whole blocks.
        let chunk = share.clamp(Self::SMALLEST_CHUNK, Self::LARGEST_CHUNK);
        1 << chunk.ilog2()
    }

    /// The most bytes of buffers over all workers, and of windows read ahead for them.
    pub fn buffer_bytes(&self) -> u64 {
        self.workers as u64 * self.buffers() as u64 * self.chunk() + self.window_budget()
    }

    /// Buffers for each worker.
    pub(super) fn buffers(&self) -> usize {
        let share = self.worker_bytes() / (self.workers.max(1) as u64 * self.chunk());
        usize::try_from(share).unwrap_or(Self::DEPTH).clamp(1, Self::DEPTH)
    }

    /// What the workers' own buffers have.
    fn worker_bytes(&self) -> u64 {
        self.memory - self.window_budget()
    }

    /// The most bytes of windows, all together.
    pub(super) fn window_budget(&self) -> u64 {
        // Writes through the page cache read through it too.
        let used = self.direct_reads && self.durability == Durability::Synced;
        if used { (self.memory / 2).min(Self::MOST_WINDOWS) } else { 0 }
    }

    /// The size of a window when a gather reads from as many as `sources` files at once: so that there is room for the
    /// windows of some gathers. A power of two.
    pub(super) fn window(&self, sources: usize) -> u64 {
        let share = self.window_budget() / (sources.max(1) as u64 * 4);
        let window = share.clamp(Self::SMALLEST_CHUNK, Self::LARGEST_CHUNK);
        1 << window.ilog2()
    }
}
