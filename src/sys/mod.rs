//! What the machine gives: mapped files, page-aligned buffers, io_uring, durable files, wide vectors.
//!
//! Invariant: the only unsafe code of the crate is here (and one promise in `cli::config`). Everything outside sees safe
//! types: a [`Mapping`] derefs to bytes, a [`Ring`] owns what the kernel reads until the kernel is done with it.

#![expect(unsafe_code, reason = "the one place that talks to the machine; each block says why it is sound")]

mod aligned;
mod close;
mod dir;
mod fault;
mod file;
mod file_error;
mod fuse;
mod lock;
mod machine;
mod mapping;
mod marker;
mod network;
mod probe;
mod process;
mod read_fault;
mod ring;
mod share;
mod shm;
mod signal;
mod stamp;
mod terminal;
mod thread;
mod vector;

pub use aligned::AlignedBuf;
pub use dir::{Dir, HeldFile};
pub use file::{
    FilePart, OutFile, available_bytes, create_dir, is_writable, occupied_bytes, open_regular, raise_open_files_limit,
    read_small, remove_dir, remove_empty_dirs, rename_exchange, rename_new, sync_dir, write_small,
};
pub use file_error::{FileError, FileOp};
pub use fuse::{Contents, LARGEST_READ, MountedTree, TreeFile, is_left_mounted};
pub use lock::{Lock, Locked, is_unlocked, lock};
pub use machine::{anonymous_memory, available_memory, uring};
pub use mapping::{Mapping, Reader, StableInputs};
pub use marker::{create_exclusive, move_over, replace_small};
pub use network::{addresses, host_name};
#[cfg(test)]
pub use probe::DirectAlign;
pub use probe::{FileSystem, Place};
pub use process::ProcessId;
pub use ring::{Completion, IoBuf, IoOp, ReadOp, Ring, WriteOp};
pub use share::clone_range;
pub use shm::{Nameless, SHARED_MEMORY};
pub use signal::is_ignored;
pub use stamp::Change;
pub use terminal::{columns, in_foreground};
pub use thread::{ThreadError, spawn, spawn_scoped};
#[cfg(test)]
pub use vector::Plain;
pub use vector::{Kernel, LANES, Lanes, Vectors, Wide};
