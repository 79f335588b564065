//! Where sources come from: blobs, and stores that open them.
//!
//! A parser gets a [`Blob`] and needs no mapping of it: where the format has its header at the beginning it reads that through a
//! [`Head`], and no more of the blob. A new store is one file here, with its kind of blob.

mod blob;
mod head;
mod local;
#[cfg(test)]
mod memory;

pub use blob::{Blob, Store};
pub use head::Head;
pub use local::{Local, LocalBlob};
#[cfg(test)]
pub use memory::MemoryBlob;
