//! Why a page of a mapped file could not be read, as far as the system says.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Why the page at an offset of a mapped file could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReadFault {
    at: u64,
    why: Why,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// The file has so many bytes now, and had more.
    Truncated(u64),
    /// What the system says when the same byte is requested.
    Refused(i32),
    /// Nothing: the byte can be read again.
    Passing,
}

impl ReadFault {
    /// Asks for the byte again, by a call that says what is wrong.
    pub(super) fn of(file: Option<&File>, at: u64) -> Self {
        let why = file.map_or(Why::Passing, |file| {
            let refused = |e: io::Error| e.raw_os_error().map_or(Why::Passing, Why::Refused);
            match file.metadata() {
                Ok(meta) if meta.len() <= at => return Why::Truncated(meta.len()),
                Ok(_) => {}
                Err(e) => return refused(e),
            }
            match file.read_at(&mut [0], at) {
                Ok(_) => Why::Passing,
                Err(e) => refused(e),
            }
        });
        Self { at, why }
    }
}

impl fmt::Display for ReadFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at;
        match self.why {
            Why::Truncated(len) => {
                write!(f, "it was truncated while it was read: it has {len} bytes now, and byte {at} was to be read")
            }
            Why::Refused(code) => write!(f, "{} at byte {at}", io::Error::from_raw_os_error(code)),
            Why::Passing => {
                write!(
                    f,
                    "the system failed to read it at byte {at}, and can read it now: a disk or a server that comes and goes"
                )
            }
        }
    }
}

impl std::error::Error for ReadFault {}

impl From<ReadFault> for io::Error {
    fn from(fault: ReadFault) -> Self {
        let kind = match fault.why {
            Why::Truncated(_) => io::ErrorKind::UnexpectedEof,
            // Whatever it is, it is no word on the file that was named: that was there.
            Why::Refused(_) | Why::Passing => io::ErrorKind::Other,
        };
        Self::new(kind, fault)
    }
}
