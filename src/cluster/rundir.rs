//! The directory in which a run's processes meet, beside the target.
//!
//! ```text
//! .NAME.cluster/claim-<g>                       which run the directory belongs to; the highest number counts
//! .NAME.cluster/<run>/files/                    finished files; what becomes the target
//! .NAME.cluster/<run>/work-<i>.<a>/             unfinished files of one process
//! .NAME.cluster/<run>/node-<i>.<a>.beat         attempt a at being host i, at work: changes all the time
//! .NAME.cluster/<run>/node-<i>.<a>.kept .done .failed .stopped
//! .NAME.cluster/<run>/publish-<k>-<i>.<a>/      `files`, taken by the host that publishes
//! .NAME.cluster/<run>/old-<k>/                  the target that is being replaced
//! ```
//!
//! Each process has an attempt of its own, so that one that was taken for dead and comes back spoils nothing of the next.

use std::collections::BTreeMap;
use std::fs::ReadDir;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::ClusterError;
use super::kept::Written;
use super::records::{Beat, Failed};
use crate::sys::{self, FileError, FileOp};

/// Bytes of a record. The sums of a file of a million tensors take some 60 MB.
const MAX_RECORD: u64 = 1 << 30;

/// Names in a run's directory.
#[derive(Clone, Debug)]
pub(super) struct RunDir {
    /// `.NAME.cluster`.
    pub meeting: PathBuf,
    /// The run's own directory.
    pub run: PathBuf,
    /// The target.
    pub target: PathBuf,
}

/// How far a host is, by its latest attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// No host has begun, or those that began have stopped because others failed.
    Absent,
    /// At work, as far as its own word goes.
    Working,
    /// Everything of its share is written.
    Done,
    /// It failed, and said so.
    Failed,
}

/// A host's latest attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Latest {
    /// From 1 on; 0 where there is none.
    pub attempt: u64,
    pub progress: Progress,
}

/// A directory that a host took to publish it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Claim {
    /// How many took it before, and this one.
    pub number: u64,
    pub node: u32,
    pub attempt: u64,
}

/// All that can be seen in a run's directory at one time.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// For each host, its markers by attempt.
    marks: BTreeMap<u32, BTreeMap<u64, Vec<String>>>,
    /// Whether `files` is there.
    pub files: bool,
    /// The host that has taken `files` last.
    pub claim: Option<Claim>,
    /// Other things' names.
    pub others: Vec<String>,
}

impl RunDir {
    pub(super) fn new(target: &Path, run: &str) -> Self {
        let name = target.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let meeting = target.with_file_name(format!(".{name}.cluster"));
        Self { run: meeting.join(run), meeting, target: target.to_owned() }
    }

    pub(super) fn files(&self) -> PathBuf {
        self.run.join("files")
    }

    pub(super) fn work(&self, node: u32, attempt: u64) -> PathBuf {
        self.run.join(format!("work-{node}.{attempt}"))
    }

    pub(super) fn mark(&self, node: u32, attempt: u64, kind: &str) -> PathBuf {
        self.run.join(format!("node-{node}.{attempt}.{kind}"))
    }

    pub(super) fn publish(&self, claim: &Claim) -> PathBuf {
        self.run.join(format!("publish-{}-{}.{}", claim.number, claim.node, claim.attempt))
    }

    /// The directory above the target.
    pub(super) fn ground(&self) -> &Path {
        self.target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }

    /// What is in the run's directory. `None`: it is gone, or cannot be read.
    pub(super) fn look(&self) -> Option<Seen> {
        self.read().ok().flatten()
    }

    /// What is in the run's directory. `None`: it is gone.
    pub(super) fn read(&self) -> Result<Option<Seen>, ClusterError> {
        let Some(entries) = self.entries(&self.run)? else { return Ok(None) };
        let mut seen = Seen::default();
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name == "files" {
                seen.files = true;
            } else if let Some((node, attempt, kind)) = marker(&name) {
                seen.marks.entry(node).or_default().entry(attempt).or_default().push(kind);
            } else if let Some(claim) = claim(&name) {
                seen.claim = seen.claim.take().max(Some(claim));
            } else {
                seen.others.push(name);
            }
        }
        Ok(Some(seen))
    }

    /// What is in a directory here. `None`: it is gone. One that cannot be read is no empty one: a host that took it for that would
    /// try the same names for ever.
    fn entries(&self, dir: &Path) -> Result<Option<ReadDir>, ClusterError> {
        match std::fs::read_dir(dir) {
            Ok(entries) => Ok(Some(entries)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(self.unreadable(FileError { op: FileOp::Open, path: dir.to_owned(), source })),
        }
    }

    fn unreadable(&self, source: FileError) -> ClusterError {
        ClusterError::Unreadable { meeting: self.meeting.clone(), source }
    }

    /// The record of a marker, or `None` where it is not there or not readable.
    fn record<T: DeserializeOwned>(&self, node: u32, attempt: u64, kind: &str) -> Option<T> {
        let bytes = sys::read_small(&self.mark(node, attempt, kind), MAX_RECORD).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    pub(super) fn beat(&self, node: u32, attempt: u64) -> Option<Beat> {
        self.record(node, attempt, "beat")
    }

    pub(super) fn failure(&self, node: u32, attempt: u64) -> String {
        self.record::<Failed>(node, attempt, "failed").map_or_else(|| "it did not say why".to_owned(), |f| f.reason)
    }

    pub(super) fn written(&self, node: u32, attempt: u64, kind: &str) -> Option<Written> {
        self.record(node, attempt, kind)
    }

    /// What a host wrote, by the latest of its attempts that was done.
    pub(super) fn done_record(&self, seen: &Seen, node: u32) -> Result<Written, ClusterError> {
        let attempts = seen.marks.get(&node).into_iter().flat_map(|m| m.iter().rev());
        let mut done = attempts.filter(|(_, kinds)| kinds.iter().any(|k| k == "done")).map(|(&attempt, _)| attempt);
        let record = done.find_map(|attempt| self.written(node, attempt, "done"));
        record.ok_or_else(|| ClusterError::BadRecord { node, what: "its record cannot be read".to_owned() })
    }

    /// The run that the meeting place belongs to, and the number of its claim. `None`: it belongs to no run, or has disappeared meanwhile.
    pub(super) fn owner(&self) -> Result<Option<(u64, String)>, ClusterError> {
        let Some(entries) = self.entries(&self.meeting)? else { return Ok(None) };
        let numbers = entries.flatten().filter_map(|e| {
            let name = e.file_name();
            count(name.to_str()?.strip_prefix("claim-")?)
        });
        let Some(highest) = numbers.max() else { return Ok(None) };
        let path = self.meeting.join(format!("claim-{highest}"));
        match sys::read_small(&path, 4096) {
            Ok(text) => Ok(Some((highest, String::from_utf8_lossy(&text).trim().to_owned()))),
            // A link that leads nowhere is there all the same.
            Err(_) if path.symlink_metadata().is_err_and(|e| e.kind() == ErrorKind::NotFound) => Ok(None),
            Err(source) => Err(self.unreadable(source)),
        }
    }
}

impl Seen {
    pub(super) fn latest(&self, node: u32) -> Latest {
        let Some((&attempt, kinds)) = self.marks.get(&node).and_then(BTreeMap::last_key_value) else {
            return Latest { attempt: 0, progress: Progress::Absent };
        };
        let has = |kind: &str| kinds.iter().any(|k| k == kind);
        let progress = if has("done") {
            Progress::Done
        } else if has("failed") {
            Progress::Failed
        } else if has("stopped") || !has("beat") {
            Progress::Absent
        } else {
            Progress::Working
        };
        Latest { attempt, progress }
    }

    /// Whether the latest attempt's process has not said goodbye.
    pub(super) fn has_beat(&self, node: u32) -> Option<u64> {
        let (&attempt, kinds) = self.marks.get(&node)?.last_key_value()?;
        kinds.iter().any(|k| k == "beat").then_some(attempt)
    }

    /// Every attempt that has a beat, of whichever host.
    pub(super) fn beats(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        self.marks.keys().filter_map(|&node| Some((node, self.has_beat(node)?)))
    }

    /// Whether any host says that it has written something.
    pub(super) fn has_records(&self) -> bool {
        self.marks.values().flat_map(BTreeMap::values).flatten().any(|kind| kind == "done" || kind == "kept")
    }

    /// The attempts of a host, the earliest first.
    pub(super) fn attempts(&self, node: u32) -> impl Iterator<Item = u64> + '_ {
        self.marks.get(&node).into_iter().flat_map(|m| m.keys().copied())
    }
}

/// `node-<i>.<a>.<kind>`.
fn marker(name: &str) -> Option<(u32, u64, String)> {
    let mut parts = name.strip_prefix("node-")?.splitn(3, '.');
    let (node, attempt, kind) = (parts.next()?, parts.next()?, parts.next()?);
    Some((index(node)?, count(attempt)?, kind.to_owned()))
}

/// `publish-<k>-<i>.<a>`.
fn claim(name: &str) -> Option<Claim> {
    let (number, who) = name.strip_prefix("publish-")?.split_once('-')?;
    let (node, attempt) = who.split_once('.')?;
    Some(Claim { number: count(number)?, node: index(node)?, attempt: count(attempt)? })
}

/// More claims, attempts or hosts than any run has.
const MAX_COUNT: u64 = 1 << 32;

/// The number after one that was read from a name.
pub(super) fn after(number: u64, dir: &RunDir) -> Result<u64, ClusterError> {
    let next = number.checked_add(1).filter(|&next| next < MAX_COUNT);
    next.ok_or_else(|| ClusterError::Counted(dir.meeting.clone()))
}

/// A number in a name, written as this program writes it. Names with other numbers are not its own.
fn count(text: &str) -> Option<u64> {
    let canonical = text == "0" || !text.starts_with('0');
    let digits = canonical && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok())?.filter(|&number| number < MAX_COUNT)
}

fn index(text: &str) -> Option<u32> {
    count(text)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_numbers_beyond_any_run_are_not_the_runs_own() {
        assert_eq!(marker("node-0.7.beat"), Some((0, 7, "beat".to_owned())));
        assert_eq!(claim("publish-2-1.3"), Some(Claim { number: 2, node: 1, attempt: 3 }));
        for name in ["node-0.18446744073709551615.beat", "node-0.01.beat", "node-+1.1.beat", "node-4294967296.1.beat"] {
            assert_eq!(marker(name), None, "{name}");
        }
        for name in ["publish-18446744073709551615-0.1", "publish-1-0.18446744073709551615", "publish--0.1"] {
            assert_eq!(claim(name), None, "{name}");
        }
    }
}
