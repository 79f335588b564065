//! From what can be seen of the machine, and what was requested, to the engine's settings, each with the reason for it.
//!
//! A pure function: the machine is examined elsewhere, so every rule can be tested as a row of a table.

use bytesize::ByteSize;
use serde::Serialize;

use super::{Durability, EngineConfig, WriterKind};
use crate::formats::FileLayout;
use crate::sys::{FileSystem, Place, Reader};

#[cfg(test)]
mod tests;

/// What can be seen.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Where each source lies.
    pub sources: Vec<Place>,
    /// Where the target is to be; `None` where nothing is written.
    pub target: Option<Place>,
    /// Bytes that are to be written.
    pub output: u64,
    /// Processors that may be used.
    pub processors: usize,
    /// Bytes of memory that may still be taken.
    pub memory: Option<u64>,
    /// Why there is no `io_uring`; `None` where there is.
    pub uring_refused: Option<String>,
}

/// How output is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Writes {
    /// As suits the place.
    #[default]
    Auto,
    /// Past the page cache where the file system does not refuse.
    Direct,
    /// Through the page cache.
    Buffered,
}

/// Whether source and target may share blocks on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Reflink {
    /// Where they can.
    #[default]
    Auto,
    /// Not even there.
    Never,
}

/// What was requested. `None`: whatever suits the place.
#[derive(Clone, Copy, Debug, Default)]
pub struct Requested {
    /// Threads.
    pub workers: Option<usize>,
    /// Bytes of memory that is not page cache.
    pub memory: Option<u64>,
    /// Bytes of the largest read or write, a power of two.
    pub chunk: Option<u64>,
    /// Reads and writes in flight for each worker.
    pub depth: Option<usize>,
    /// How sources are read.
    pub reader: Option<Reader>,
    /// How output is written.
    pub writes: Writes,
    /// By which calls.
    pub writer: WriterKind,
    /// Whether blocks may be shared.
    pub reflink: Reflink,
    /// Whether the output is flushed.
    pub durability: Durability,
}

/// One setting, and why it is that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// The name, as of the option that overrides it.
    pub name: &'static str,
    /// The value.
    pub value: String,
    /// The reason.
    pub why: String,
}

/// What follows.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// The engine's limits and choices.
    pub config: EngineConfig,
    /// How each source is to be read.
    pub readers: Vec<Reader>,
    /// Bytes of memory that is not page cache, for everything.
    pub memory: u64,
    /// All of it with reasons.
    pub settings: Vec<Setting>,
}

/// Memory that is used where none is stated.
const MEMORY: u64 = 1 << 30;
/// Less is not tried unless it was requested.
const LEAST_MEMORY: u64 = 64 << 20;
/// What a server, or a disk that must seek, serves best in one request. Servers read whole stripes of a few MiB.
const LONG_CHUNK: u64 = 8 << 20;
/// Bytes in flight for each worker; 16 MiB already keep a disk busy (measured).
const IN_FLIGHT: u64 = 32 << 20;
/// Threads for each processor where each has one direct write in flight and waits for it: as quick as `io_uring` (measured with
/// two processors: two threads take a fifth longer, three and four a tenth).
const WAITING: usize = 3;
/// More of them keep no disk busier.
const MOST_WAITING: usize = 16;
/// How much of the memory that is available may be waiting for the disk before writers must wait too. The kernel's own
/// limit (`vm.dirty_ratio`) is 20; meanwhile the disk takes some.
const PAGE_CACHE_PERCENT: u64 = 30;
/// Threads that read from a server: a few streams from front to back, not many faults all over the file.
const STREAMS: usize = 4;

/// Chooses.
pub fn choose(facts: &Facts, requested: &Requested) -> Chosen {
    let mut settings = Vec::new();
    let mut set = |name, value: String, why: String| settings.push(Setting { name, value, why });
    let asked = |option: &str| format!("set by {option}");
    let size = |bytes| ByteSize::b(bytes).to_string();

    let readers: Vec<(Reader, String)> = facts.sources.iter().map(|place| reader(place, requested.reader)).collect();
    for (index, (reader, why)) in readers.iter().enumerate() {
        if !readers[..index].contains(&readers[index]) {
            let files = readers.iter().filter(|other| **other == readers[index]).count();
            let files = if files == readers.len() { String::new() } else { format!(" ({files} files)") };
            set("reader", format!("{}{files}", reader_name(*reader)), why.clone());
        }
    }
    let places = || facts.sources.iter().chain(&facts.target);
    let remote = places().find(|place| is_remote(place));
    let rotating = places().any(|place| place.rotational == Some(true));

    let (direct, why) = writes(facts, requested);
    if facts.target.is_some() {
        set("writes", if direct { "direct" } else { "buffered" }.to_owned(), why);
        let (value, why) = writer(facts, requested.writer, direct);
        set("writer", value.to_owned(), why);
    }
    let waits = direct && (requested.writer == WriterKind::Pwrite || facts.uring_refused.is_some());
    let (reflink, why) = share(facts, requested.reflink);
    if facts.target.is_some() {
        set("reflink", if reflink { "tried" } else { "no" }.to_owned(), why);
    }

    let (workers, why) = match (requested.workers, remote) {
        (Some(workers), _) => (workers, asked("--workers")),
        (None, Some(place)) if facts.processors > STREAMS => {
            (STREAMS, format!("few streams to {}; {} processors", kind(place), facts.processors))
        }
        (None, _) if waits => {
            let workers = (facts.processors * WAITING).min(facts.processors.max(MOST_WAITING));
            (workers, format!("each waits for its write past the page cache; {} processors", facts.processors))
        }
        (None, _) => (facts.processors.max(1), "one for each processor".to_owned()),
    };
    set("workers", workers.to_string(), why);

    let (memory, why) = match (requested.memory, facts.memory) {
        (Some(memory), _) => (memory, asked("--memory")),
        (None, Some(available)) if available / 2 < MEMORY => {
            ((available / 2).max(LEAST_MEMORY), format!("half of the {} that are available", size(available)))
        }
        (None, _) => (MEMORY, "enough for any disk".to_owned()),
    };
    set("memory", size(memory), why);

    let (chunk, why) = match (requested.chunk, remote) {
        (Some(chunk), _) => (chunk, asked("--chunk")),
        (None, Some(place)) => (LONG_CHUNK, format!("long pieces for {}", kind(place))),
        (None, None) if rotating => (LONG_CHUNK, "a disk that rotates seeks less for long pieces".to_owned()),
        (None, None) => (EngineConfig::LARGEST_CHUNK, "the largest size that still improves throughput".to_owned()),
    };
    let (depth, depth_why) = match requested.depth {
        Some(depth) => (depth, asked("--depth")),
        None => (
            usize::try_from(IN_FLIGHT / chunk.max(1)).unwrap_or(4).clamp(4, 64),
            format!("about {} in flight for each worker", size(IN_FLIGHT)),
        ),
    };
    let config = EngineConfig {
        workers,
        // The other half is for headers, plan and code.
        memory: memory / 2,
        largest_chunk: chunk,
        depth,
        writer: requested.writer,
        direct,
        read_ahead: readers.iter().any(|(reader, _)| *reader != Reader::Mapped),
        reflink,
        durability: requested.durability,
    };
    let buffer = config.chunk();
    let tight = if buffer < chunk { format!("; buffers of {}, as memory allows", size(buffer)) } else { String::new() };
    set("chunk", size(chunk), format!("{why}{tight}"));
    set("depth", depth.to_string(), depth_why);
    Chosen { config, readers: readers.into_iter().map(|(reader, _)| reader).collect(), memory, settings }
}

fn reader_name(reader: Reader) -> &'static str {
    match reader {
        Reader::Mapped => "mapped",
        Reader::Auto => "mapped or direct",
        Reader::Direct => "direct",
        Reader::Sequential => "sequential",
    }
}

fn kind(place: &Place) -> String {
    place.file_system.map_or_else(|| "an unknown file system".to_owned(), |kind| kind.to_string())
}

/// Where page faults and small requests cost a round trip to another process or machine.
fn is_remote(place: &Place) -> bool {
    matches!(place.file_system, Some(FileSystem::Network(_) | FileSystem::Fuse))
}

/// The alignment that direct I/O requires there, where it is more than the engine keeps to.
fn too_coarse(place: &Place) -> Option<u32> {
    place.align.map(|align| align.offset.max(align.memory)).filter(|align| u64::from(*align) > FileLayout::BLOCK)
}

fn reader(place: &Place, wish: Option<Reader>) -> (Reader, String) {
    if let Some(reader) = wish {
        return (reader, "set by --reader".to_owned());
    }
    let kind = kind(place);
    if place.file_system == Some(FileSystem::Memory) {
        return (Reader::Mapped, format!("{kind}: it is in memory already"));
    }
    if is_remote(place) {
        return (Reader::Sequential, format!("{kind}: long reads instead of page faults"));
    }
    if let Some(align) = too_coarse(place) {
        return (Reader::Mapped, format!("{kind}: direct reads would have to be aligned to {align}"));
    }
    (Reader::Auto, format!("{kind}: from the page cache what is there, past it what is not"))
}

fn writes(facts: &Facts, requested: &Requested) -> (bool, String) {
    let Some(target) = &facts.target else { return (false, String::new()) };
    let kind = kind(target);
    match requested.writes {
        Writes::Direct => return (true, "set by --writes".to_owned()),
        Writes::Buffered => return (false, "set by --writes".to_owned()),
        Writes::Auto => {}
    }
    let held = facts.memory.unwrap_or(u64::MAX) / 100 * PAGE_CACHE_PERCENT;
    if requested.durability == Durability::Cached && (facts.output <= held || target.rotational != Some(false)) {
        return (false, "the output is not flushed".to_owned());
    }
    if let Some(align) = too_coarse(target) {
        return (false, format!("{kind}: direct writes would have to be aligned to {align}"));
    }
    match target.file_system {
        Some(FileSystem::Memory) => (false, format!("{kind}: there is no disk")),
        Some(FileSystem::Network(_) | FileSystem::Fuse) => (false, format!("{kind}: the cache gathers what is sent")),
        Some(FileSystem::Ext | FileSystem::Xfs | FileSystem::Btrfs) if requested.durability == Durability::Cached => {
            (true, format!("{kind}, and {} are more than the page cache takes", ByteSize::b(facts.output)))
        }
        Some(FileSystem::Ext | FileSystem::Xfs | FileSystem::Btrfs) => {
            (true, format!("{kind}, and the output is flushed"))
        }
        _ if requested.durability == Durability::Cached => (false, "the output is not flushed".to_owned()),
        Some(FileSystem::Overlay | FileSystem::Other(_)) | None => (true, format!("{kind}: buffered if it refuses")),
    }
}

fn writer(facts: &Facts, wish: WriterKind, direct: bool) -> (&'static str, String) {
    match (wish, &facts.uring_refused) {
        (WriterKind::Uring, _) => ("uring", "set by --writer".to_owned()),
        (WriterKind::Pwrite, _) => ("pwrite", "set by --writer".to_owned()),
        (WriterKind::Auto, _) if !direct => ("pwrite", "through the page cache a write is a copy".to_owned()),
        (WriterKind::Auto, Some(refused)) => ("pwrite", format!("no io_uring: {refused}")),
        (WriterKind::Auto, None) => ("uring", "many direct writes in flight".to_owned()),
    }
}

fn share(facts: &Facts, wish: Reflink) -> (bool, String) {
    let Some(target) = &facts.target else { return (false, String::new()) };
    let kind = kind(target);
    if wish == Reflink::Never {
        return (false, "set by --reflink".to_owned());
    }
    if matches!(target.file_system, Some(FileSystem::Ext | FileSystem::Memory | FileSystem::Fuse)) {
        return (false, format!("{kind} shares no blocks"));
    }
    // The subvolumes of a btrfs have device numbers of their own, and can share.
    let btrfs = |place: &Place| place.file_system == Some(FileSystem::Btrfs);
    let same =
        |source: &Place| source.device.is_some() && source.device == target.device || btrfs(source) && btrfs(target);
    if facts.sources.iter().any(same) {
        (true, format!("source and target are on the same {kind}"))
    } else {
        (false, "source and target are on different file systems".to_owned())
    }
}
