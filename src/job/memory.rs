//! One rank of a target in memory, laid out as a safetensors file: a caller's buffer, or a file in `/dev/shm` that others map.
//!
//! ```text
//! Job ─ planned, checked, scales computed ─► one file of the plan ─ chunks, on all threads ─► buffer, or a file without a name
//! ```

use std::fmt::Write;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::choices::{Format, Function};
use super::fields::given;
use super::observer::{Observer, Step};
use super::spec::Job;
use super::unwritten::Unwritten;
use crate::Error;
use crate::engine::{CancelToken, EngineConfig, EngineError, Memory, into_memory};
use crate::formats::SAFETENSORS;
use crate::input::check_unchanged;
use crate::plan::Plan;
use crate::report::{bytes, duration};
use crate::storage::LocalBlob;
use crate::sys::{self, FileError, Nameless, SHARED_MEMORY};

/// What a thread puts together in one go; it should stay in the caches.
const PIECE: u64 = 1 << 20;

/// Options that say how a file is written, or which machine writes it.
const OF_FILES: [&str; 11] = [
    "--crc",
    "--ckpt-records",
    "--max-shard-size",
    "--writes",
    "--writer",
    "--reflink",
    "--no-sync",
    "--node-rank",
    "--rank-table",
    "--local-output",
    "--secure-every",
];

/// One rank of a target, to be put together in memory.
///
/// ```no_run
/// use ckpt_convert::{CancelToken, InMemory, Job, Silent};
///
/// # fn main() -> Result<(), ckpt_convert::Error> {
/// let job = Job::transfer("ckpt", "").ranks(8);
/// let cancel = CancelToken::default();
/// let rank = InMemory::new(&job, Some(3), &Silent, &cancel)?;
/// let mut buffer = vec![0; usize::try_from(rank.len()).expect("it fits in memory")];
/// rank.fill(&mut buffer, &Silent, &cancel)?; // a safetensors file
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct InMemory {
    /// Of one file.
    plan: Plan,
    mappings: Vec<Arc<LocalBlob>>,
    config: EngineConfig,
}

/// What was put together.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Filled {
    /// The file, where it has a name.
    pub target: Option<PathBuf>,
    /// Its bytes, with the header.
    pub bytes: u64,
    /// Its tensors.
    pub tensors: usize,
    /// Finite values that became infinite.
    pub overflowed: u64,
    /// The time that it took.
    pub seconds: f64,
}

impl Filled {
    /// As the command line shows it.
    pub fn text(&self) -> String {
        let (size, time) = (bytes(self.bytes), duration(Duration::from_secs_f64(self.seconds.max(0.0))));
        let target = self.target.as_deref().unwrap_or(Path::new("memory")).display();
        let mut text = format!("filled {target}: {} tensors, {size} in {time}\n", self.tensors);
        if self.overflowed > 0 {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {} finite values became infinite", self.overflowed);
        }
        text
    }
}

impl InMemory {
    /// Plans one rank of a job, and computes what is computed of whole matrices. `rank` may be left out where there is one only.
    /// Where the target would go makes no difference, and nothing is written.
    ///
    /// # Errors
    /// As [`Job::plan`]; a source that is not what it should be; a rank that is not there; options of files.
    pub fn new(job: &Job, rank: Option<u32>, observer: &dyn Observer, cancel: &CancelToken) -> Result<Self, Error> {
        if let Some(field) = given(job).into_iter().find(|field| OF_FILES.contains(&field.option)) {
            return Err(Error::Usage(format!("{} goes with a target on a disk, not in memory", field.option)));
        }
        if job.target.format.is_some_and(|format| format != Format::Safetensors) {
            return Err(Error::Usage("what is in memory is laid out as safetensors: leave --format out".to_owned()));
        }
        let mut job = job.clone();
        job.target.format = Some(Format::Safetensors);
        if job.function == Function::MsToPt {
            job.target.max_shard_size = Some(u64::MAX);
        }
        let cut = |plan: &mut Plan| one_file(plan, rank);
        let Unwritten { planned, mappings, config, .. } = Unwritten::of(&job, PIECE, cut, (observer, cancel))?;
        Ok(Self { plan: planned.conversion.plan, mappings, config })
    }

    /// Its bytes.
    #[expect(clippy::len_without_is_empty, reason = "there is a header in any case")]
    pub fn len(&self) -> u64 {
        self.plan.outputs[0].layout.len()
    }

    /// Fills a buffer of [`Self::len`] bytes with a safetensors file. Its content is of no use where this fails.
    ///
    /// # Errors
    /// A buffer of another size; a source that changes or cannot be read; `cancel`.
    pub fn fill(&self, buffer: &mut [u8], observer: &dyn Observer, cancel: &CancelToken) -> Result<Filled, Error> {
        let (has, needed) = (buffer.len() as u64, self.len());
        if has != needed {
            return Err(Error::Usage(format!("the buffer has {has} bytes, and needs {needed}")));
        }
        self.put(Memory::Buffer(buffer), observer, cancel)
    }

    /// Makes a file of it in `/dev/shm`, which gets its name when all of it is there. `replace`: also where that is another
    /// safetensors file's.
    ///
    /// # Errors
    /// As [`Self::fill`]; a name that is none or taken; too little space.
    pub fn share(
        &self,
        name: &str,
        replace: bool,
        observer: &dyn Observer,
        cancel: &CancelToken,
    ) -> Result<Filled, Error> {
        let path = path_of(name)?;
        check_name(&path, replace)?;
        let (dir, needed) = (PathBuf::from(SHARED_MEMORY), self.len());
        let free = sys::available_bytes(&dir)?;
        if free < needed {
            return Err(Error::NoRoom { dir, needed, free });
        }
        observer.before_writing()?;
        let file = Nameless::new(&path)?;
        let mut filled = self.put(Memory::Put(&|bytes, at| file.write(bytes, at)), observer, cancel)?;
        file.publish(replace).map_err(|e| taken(&path, e))?;
        filled.target = Some(path);
        Ok(filled)
    }

    /// Puts all of it where it belongs.
    fn put(&self, into: Memory<'_>, observer: &dyn Observer, cancel: &CancelToken) -> Result<Filled, Error> {
        let begun = Instant::now();
        let step = Step::begin(observer, "filling");
        let results = into_memory(&self.plan, &self.mappings, 0, into, &self.config, &step, cancel)?;
        check_unchanged(&self.mappings)?;
        step.finish();
        Ok(Filled {
            target: None,
            bytes: self.len(),
            tensors: results.len(),
            overflowed: results.iter().map(|result| result.overflowed).sum(),
            seconds: begun.elapsed().as_secs_f64(),
        })
    }
}

/// Leaves one file of a plan: the only one of a rank that has tensors.
fn one_file(plan: &mut Plan, rank: Option<u32>) -> Result<(), Error> {
    plan.outputs.retain(|file| !file.tensors.is_empty());
    let last = plan.outputs.iter().filter_map(|file| file.rank).max().unwrap_or(0);
    match rank {
        None if last > 0 => {
            return Err(Error::Usage(format!(
                "memory takes one rank of the target: choose it with --rank, from 0 to {last}"
            )));
        }
        Some(rank) if rank > last => {
            return Err(Error::Usage(format!("--rank {rank}: the ranks of the target are 0 to {last}")));
        }
        _ => {}
    }
    let rank = rank.unwrap_or(0);
    plan.outputs.retain(|file| file.rank.unwrap_or(0) == rank);
    Ok(())
}

/// The file of a name.
fn path_of(name: &str) -> Result<PathBuf, Error> {
    let is_name = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0']);
    if is_name {
        return Ok(Path::new(SHARED_MEMORY).join(name));
    }
    Err(Error::Usage(format!("shm:{name}: a name in {SHARED_MEMORY} is not empty, and has no `/` and no dot in front")))
}

/// Whether the name is free, or that of what may be replaced.
fn check_name(path: &Path, replace: bool) -> Result<(), Error> {
    let Ok(meta) = path.symlink_metadata() else { return Ok(()) };
    if !replace {
        return Err(EngineError::TargetExists(path.to_owned()).into());
    }
    let mut head = Vec::new();
    let read = sys::open_regular(path).map(|file| file.take(16).read_to_end(&mut head));
    let is_ours = meta.is_file() && matches!(read, Ok(Ok(_))) && SAFETENSORS.begins(&head);
    if is_ours { Ok(()) } else { Err(Error::ForeignTarget(path.to_owned())) }
}

/// Another program may have taken the name meanwhile.
fn taken(path: &Path, error: FileError) -> Error {
    if error.source.kind() == std::io::ErrorKind::AlreadyExists {
        return EngineError::TargetExists(path.to_owned()).into();
    }
    error.into()
}
