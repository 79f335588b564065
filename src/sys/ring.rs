//! Reads and writes through `io_uring`. An operation owns its buffer and its file until the kernel has completed it.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use io_uring::{IoUring, opcode, types};

use super::{AlignedBuf, Mapping, OutFile};

/// The largest length of one operation: below the kernel's own maximum (2 GiB - 4 KiB), so that it fits 32 bits.
const MAX_LEN: usize = 1 << 30;

/// Bytes that the kernel may read for as long as the value lives.
#[derive(Debug)]
pub enum IoBuf {
    /// Straight from a mapped file.
    Mapped(Arc<Mapping>),
    /// A buffer of our own.
    Owned(AlignedBuf),
}

impl IoBuf {
    /// All the bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Mapped(mapping) => mapping,
            Self::Owned(buf) => buf,
        }
    }
}

/// One write.
#[derive(Debug)]
pub struct WriteOp {
    /// Where to.
    pub file: Arc<OutFile>,
    /// Whether past the page cache.
    pub direct: bool,
    /// From where.
    pub data: IoBuf,
    /// Which of the buffer's bytes.
    pub range: Range<usize>,
    /// At which offset in the file.
    pub at: u64,
}

impl WriteOp {
    /// The bytes to write.
    pub fn bytes(&self) -> &[u8] {
        &self.data.bytes()[self.range.clone()]
    }

    /// The descriptor to write to.
    pub fn descriptor(&self) -> &File {
        match self.file.direct() {
            Some(direct) if self.direct => direct,
            _ => self.file.plain(),
        }
    }
}

/// One read, past the page cache or through it as its source says.
#[derive(Debug)]
pub struct ReadOp {
    /// From where.
    pub source: Arc<Mapping>,
    /// Where to.
    pub into: AlignedBuf,
    /// How many bytes.
    pub len: usize,
    /// At which offset in the file.
    pub at: u64,
    /// The caller's number for it.
    pub tag: u64,
}

/// An operation, before and after the kernel has done it.
#[derive(Debug)]
pub enum IoOp {
    /// A write.
    Write(WriteOp),
    /// A read.
    Read(ReadOp),
}

/// An operation that the kernel has completed.
#[derive(Debug)]
pub struct Completion {
    /// The operation, given back.
    pub op: IoOp,
    /// The bytes moved, which may be fewer than requested.
    pub result: io::Result<usize>,
}

/// A ring of one thread.
pub struct Ring {
    uring: IoUring,
    /// Operations in flight, by the number that the kernel gives back.
    slots: Vec<Option<IoOp>>,
    in_flight: usize,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring")
            .field("depth", &self.slots.len())
            .field("in_flight", &self.in_flight)
            .finish_non_exhaustive()
    }
}

impl Ring {
    /// A ring for `depth` writes at once.
    ///
    /// # Errors
    /// What the kernel says: ENOSYS (too old), EPERM (forbidden, as in most containers), ENOMEM.
    pub fn new(depth: u32) -> io::Result<Self> {
        let best = IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(depth);
        let uring = match best {
            // A kernel before 6.1 does not know the flags.
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => IoUring::new(depth)?,
            other => other?,
        };
        let slots = (0..depth).map(|_| None).collect();
        Ok(Self { uring, slots, in_flight: 0 })
    }

    /// Writes in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Whether no more can be submitted before one is complete.
    pub fn is_full(&self) -> bool {
        self.in_flight == self.slots.len()
    }

    /// Hands an operation to the kernel.
    ///
    /// # Errors
    /// Where the ring fails; the caller then gives up. What may be in flight is still waited for on drop.
    ///
    /// # Panics
    /// Where the ring is full, or a range lies outside its buffer.
    pub fn submit(&mut self, op: IoOp) -> io::Result<()> {
        let slot = self.slots.iter().position(Option::is_none).expect("the caller waits while the ring is full");
        let kept = self.slots[slot].insert(op);
        let entry = match kept {
            IoOp::Write(op) => {
                let bytes = op.bytes();
                let len = u32::try_from(bytes.len().min(MAX_LEN)).map_err(io::Error::other)?;
                opcode::Write::new(types::Fd(op.descriptor().as_raw_fd()), bytes.as_ptr(), len).offset(op.at).build()
            }
            IoOp::Read(op) => {
                let Some(file) = op.source.descriptor() else {
                    self.slots[slot] = None;
                    return Err(io::ErrorKind::Unsupported.into());
                };
                let bytes = &mut op.into[..op.len.min(MAX_LEN)];
                let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
                opcode::Read::new(types::Fd(file.as_raw_fd()), bytes.as_mut_ptr(), len).offset(op.at).build()
            }
        }
        .user_data(slot as u64);
        // SAFETY: the entry's buffer and descriptor must stay valid until its completion, and a buffer that is read into must not
        // be looked at before. All belong to the `IoOp` that was just moved into `slots`: a mapping behind an `Arc` (with its
        // descriptor), or an `AlignedBuf` whose memory does not move with the value, and an `Arc<OutFile>`. No other code can reach
        // them there. A slot is emptied only by `wait`, after the kernel's completion; `drop` waits for all of them and leaks the
        // slots where it cannot.
        if unsafe { self.uring.submission().push(&entry) }.is_err() {
            self.slots[slot] = None;
            return Err(io::Error::other("the submission queue is full"));
        }
        self.in_flight += 1;
        match retry(|| self.uring.submit()) {
            // Too much in flight for now: the entry stays queued, and `wait` submits it.
            Err(e) if matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EBUSY)) => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// Waits for the next completion. `None` when nothing is in flight.
    ///
    /// # Errors
    /// Where the ring itself fails.
    pub fn wait(&mut self) -> io::Result<Option<Completion>> {
        while self.in_flight > 0 {
            let next = self.uring.completion().next();
            let Some(answer) = next else {
                retry(|| self.uring.submit_and_wait(1))?;
                continue;
            };
            let slot = usize::try_from(answer.user_data()).ok().and_then(|slot| self.slots.get_mut(slot));
            let Some(op) = slot.and_then(Option::take) else { continue };
            self.in_flight -= 1;
            let result = usize::try_from(answer.result()).map_err(|_| io::Error::from_raw_os_error(-answer.result()));
            return Ok(Some(Completion { op, result }));
        }
        Ok(None)
    }
}

fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        while self.in_flight > 0 {
            if self.wait().is_err() {
                // The kernel may still read these buffers: they must never be freed.
                std::mem::forget(std::mem::take(&mut self.slots));
                return;
            }
        }
    }
}
