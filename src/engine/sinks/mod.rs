//! What becomes of chunks that were put together: one file for each.
//!
//! * [`files`]: written, direct or through the page cache, by `io_uring` or not, or shared with the source;
//! * [`compare`]: compared with what is there;
//! * [`measure`]: looked at by a function, which keeps what it found;
//! * [`memory`]: put into a buffer that holds a file;
//! * [`reader`]: any range of any file, when it is requested.

pub(in crate::engine) mod compare;
pub(in crate::engine) mod files;
pub(in crate::engine) mod measure;
pub(in crate::engine) mod memory;
pub(in crate::engine) mod reader;
