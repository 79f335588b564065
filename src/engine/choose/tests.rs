//! The rules, row by row.

use super::*;
use crate::sys::DirectAlign;

const EXT: Place = Place {
    file_system: Some(FileSystem::Ext),
    device: Some(7),
    align: Some(DirectAlign { memory: 512, offset: 512 }),
    rotational: Some(false),
};
const XFS: Place = Place { file_system: Some(FileSystem::Xfs), ..EXT };
const BTRFS: Place = Place { file_system: Some(FileSystem::Btrfs), align: None, ..EXT };
const NFS: Place = Place { file_system: Some(FileSystem::Network("nfs")), align: None, rotational: None, ..EXT };
const FUSE: Place = Place { file_system: Some(FileSystem::Fuse), ..NFS };
const TMPFS: Place = Place { file_system: Some(FileSystem::Memory), ..NFS };
const OVERLAY: Place = Place { file_system: Some(FileSystem::Overlay), ..NFS };
const UNKNOWN: Place = Place { file_system: None, device: None, ..NFS };
const COARSE: Place = Place { align: Some(DirectAlign { memory: 512, offset: 65536 }), ..XFS };

const fn elsewhere(place: Place) -> Place {
    Place { device: Some(8), ..place }
}

fn facts(source: Place, target: Place) -> Facts {
    Facts {
        sources: vec![source],
        target: Some(target),
        output: 13 << 30,
        processors: 16,
        memory: Some(64 << 30),
        uring_refused: None,
    }
}

fn why<'a>(chosen: &'a Chosen, name: &str) -> &'a str {
    &chosen.settings.iter().find(|s| s.name == name).unwrap_or_else(|| panic!("{name} is not reported")).why
}

#[test]
fn each_place_gets_what_suits_it() {
    use Reader::{Auto, Mapped, Sequential};
    let rows = [
        // source, target, reader, direct writes, reflink, workers, MiB of a chunk
        (EXT, EXT, Auto, true, false, 16, 4),
        (XFS, XFS, Auto, true, true, 16, 4),
        (XFS, elsewhere(XFS), Auto, true, false, 16, 4),
        (BTRFS, BTRFS, Auto, true, true, 16, 4),
        // Subvolumes.
        (BTRFS, elsewhere(BTRFS), Auto, true, true, 16, 4),
        (elsewhere(EXT), XFS, Auto, true, false, 16, 4),
        (TMPFS, TMPFS, Mapped, false, false, 16, 4),
        (TMPFS, EXT, Mapped, true, false, 16, 4),
        (OVERLAY, OVERLAY, Auto, true, true, 16, 4),
        (UNKNOWN, UNKNOWN, Auto, true, false, 16, 4),
        (NFS, elsewhere(EXT), Sequential, true, false, 4, 8),
        (elsewhere(EXT), NFS, Auto, false, false, 4, 8),
        (NFS, NFS, Sequential, false, true, 4, 8),
        (FUSE, FUSE, Sequential, false, false, 4, 8),
        (COARSE, COARSE, Mapped, false, true, 16, 4),
        (Place { rotational: Some(true), ..EXT }, EXT, Auto, true, false, 16, 8),
    ];
    for (source, target, reader, direct, reflink, workers, chunk) in rows {
        let chosen = choose(&facts(source, target), &Requested::default());
        let config = chosen.config;
        let found = (chosen.readers[0], config.direct, config.reflink, config.workers, config.largest_chunk >> 20);
        assert_eq!(found, (reader, direct, reflink, workers, chunk), "{source:?} -> {target:?}");
        assert!(config.depth as u64 * config.largest_chunk >= 16 << 20, "enough in flight");
        assert!(chosen.settings.iter().all(|s| !s.why.is_empty() && !s.value.is_empty()), "{:?}", chosen.settings);
    }
}

#[test]
fn a_wish_beats_what_is_seen_and_is_the_reason() {
    let requested = Requested {
        workers: Some(3),
        memory: Some(256 << 20),
        chunk: Some(1 << 20),
        depth: Some(5),
        reader: Some(Reader::Direct),
        writes: Writes::Buffered,
        writer: WriterKind::Pwrite,
        reflink: Reflink::Never,
        durability: Durability::Synced,
    };
    let chosen = choose(&facts(NFS, XFS), &requested);
    let expected = EngineConfig {
        workers: 3,
        memory: 128 << 20,
        largest_chunk: 1 << 20,
        depth: 5,
        writer: WriterKind::Pwrite,
        direct: false,
        read_ahead: true,
        reflink: false,
        durability: Durability::Synced,
    };
    assert_eq!((chosen.config, chosen.readers, chosen.memory), (expected, vec![Reader::Direct], 256 << 20));
    assert_eq!(chosen.settings.len(), 8);
    for setting in &chosen.settings {
        assert_eq!(setting.why, format!("set by --{}", setting.name));
    }
    assert!(choose(&facts(NFS, NFS), &Requested { writes: Writes::Direct, ..requested }).config.direct);
}

#[test]
fn output_that_is_not_flushed_stays_in_the_page_cache() {
    let chosen = choose(&facts(XFS, XFS), &Requested { durability: Durability::Cached, ..Requested::default() });
    assert!(!chosen.config.direct && chosen.config.reflink);
    assert_eq!(why(&chosen, "writes"), "the output is not flushed");
}

/// A writer of more than that waits for the disk anyway, so the copy to the page cache is for nothing.
#[test]
fn what_the_page_cache_cannot_hold_goes_past_it() {
    let requested = Requested { durability: Durability::Cached, ..Requested::default() };
    let large = |target| Facts { output: 20 << 30, ..facts(XFS, target) };
    let chosen = choose(&large(EXT), &requested);
    assert!(chosen.config.direct);
    assert_eq!(why(&chosen, "writes"), "ext4, and 20.0 GiB are more than the page cache takes");
    let rotating = Place { rotational: Some(true), ..EXT };
    for target in [NFS, FUSE, TMPFS, OVERLAY, COARSE, UNKNOWN, rotating] {
        assert!(!choose(&large(target), &requested).config.direct, "{target:?}");
    }
    let buffered = Requested { writes: Writes::Buffered, ..requested };
    assert!(!choose(&large(EXT), &buffered).config.direct);
    assert!(!choose(&Facts { memory: None, ..large(EXT) }, &requested).config.direct);
}

#[test]
fn small_chunks_go_many_at_once() {
    for (chunk, depth) in [(64 << 10, 64), (1 << 20, 32), (4 << 20, 8), (64 << 20, 4)] {
        let chosen = choose(&facts(EXT, EXT), &Requested { chunk: Some(chunk), ..Requested::default() });
        assert_eq!(chosen.config.depth, depth, "{chunk}");
    }
}

#[test]
fn a_small_machine_gets_a_small_part_of_its_memory() {
    for (available, taken) in
        [(Some(64 << 30), 1 << 30), (Some(512 << 20), 256 << 20), (Some(40 << 20), 64 << 20), (None, 1 << 30)]
    {
        let chosen = choose(&Facts { memory: available, ..facts(EXT, EXT) }, &Requested::default());
        assert_eq!(chosen.memory, taken, "{available:?}");
        assert!(chosen.config.buffer_bytes() <= taken / 2);
    }
    let little = choose(&facts(EXT, EXT), &Requested { memory: Some(64 << 20), ..Requested::default() });
    assert!(why(&little, "chunk").contains("buffers of 512.0 KiB"), "{}", why(&little, "chunk"));
}

#[test]
fn sources_in_several_places_are_read_each_in_its_way() {
    let facts = Facts { sources: vec![EXT, NFS, EXT], ..facts(EXT, EXT) };
    let chosen = choose(&facts, &Requested::default());
    assert_eq!(chosen.readers, [Reader::Auto, Reader::Sequential, Reader::Auto]);
    let said: Vec<_> = chosen.settings.iter().filter(|s| s.name == "reader").map(|s| s.value.as_str()).collect();
    assert_eq!(said, ["mapped or direct (2 files)", "sequential (1 files)"]);
}

#[test]
fn a_kernel_without_io_uring_is_named() {
    let facts = Facts { uring_refused: Some("Operation not permitted".to_owned()), ..facts(EXT, EXT) };
    let chosen = choose(&facts, &Requested::default());
    assert_eq!(why(&chosen, "writer"), "no io_uring: Operation not permitted");
    // A thread for each write in flight, up to what any disk needs.
    for (processors, workers) in [(1, 3), (2, 6), (8, 16), (64, 64)] {
        assert_eq!(choose(&Facts { processors, ..facts.clone() }, &Requested::default()).config.workers, workers);
        let buffered = Requested { writes: Writes::Buffered, ..Requested::default() };
        assert_eq!(choose(&Facts { processors, ..facts.clone() }, &buffered).config.workers, processors);
    }
}

#[test]
fn where_nothing_is_written_nothing_is_said_of_it() {
    let chosen = choose(&Facts { target: None, ..facts(NFS, EXT) }, &Requested::default());
    let names: Vec<_> = chosen.settings.iter().map(|s| s.name).collect();
    assert_eq!(names, ["reader", "workers", "memory", "chunk", "depth"]);
    assert!(!chosen.config.direct && !chosen.config.reflink);
}
