//! Blocks that source and target share: runs that are not moved at all, on a file system that can.
//!
//! All is shared before anything is written. The kernel waits for direct I/O on both files before it shares their blocks, and a
//! direct write of `io_uring` may be waiting for the very thread that asks: with nothing in flight no thread waits for another.
//! Later writes go to other blocks of the files, and the flush at the end covers both.

use std::sync::Arc;

use super::CancelToken;
use super::schedule::{From, Task};
use crate::formats::FileLayout;
use crate::storage::LocalBlob;
use crate::sys::{self, OutFile};

/// The ranges of the output files that share their blocks with a source.
#[derive(Debug, Default)]
pub(super) struct Clones {
    /// For each file, sorted (start, end).
    by_file: Vec<Vec<(u64, u64)>>,
}

/// Mapped tasks that follow one another in source and target.
struct Run {
    file: usize,
    at: u64,
    source: usize,
    source_at: u64,
    len: u64,
}

impl Clones {
    /// Shares what can be shared of the tasks' mapped ranges. A source of which the first range is refused, for whatever reason,
    /// is not requested again: its bytes are written as if nothing had been tried, and if the disk is at fault that will show.
    pub(super) fn make(
        tasks: &[Task],
        files: &[Arc<OutFile>],
        mappings: &[Arc<LocalBlob>],
        cancel: &CancelToken,
    ) -> Self {
        let mut by_file = vec![Vec::new(); files.len()];
        let mut refused = vec![false; mappings.len()];
        for run in runs(tasks) {
            if refused[run.source] || cancel.is_cancelled() {
                continue;
            }
            let (source, file) = (&mappings[run.source], &files[run.file]);
            match sys::clone_range(source, run.source_at, file, file.base() + run.at, run.len) {
                Ok(()) => by_file[run.file].push((run.at, run.at + run.len)),
                Err(_) => refused[run.source] = true,
            }
        }
        Self { by_file }
    }

    /// Whether all of a task's bytes are in place already.
    pub(super) fn hold(&self, task: &Task) -> bool {
        let Some(ranges) = self.by_file.get(task.file) else { return false };
        let behind = ranges.partition_point(|&(start, _)| start <= task.at);
        behind > 0 && ranges[behind - 1].1 >= task.at + task.len
    }

    /// Bytes shared over all files.
    pub(super) fn bytes(&self) -> u64 {
        self.by_file.iter().flatten().map(|(start, end)| end - start).sum()
    }
}

/// The mapped ranges that lie on whole blocks on both sides, joined where they can be, by file and place.
fn runs(tasks: &[Task]) -> Vec<Run> {
    let mut runs: Vec<Run> = tasks
        .iter()
        .filter_map(|task| {
            let From::Mapped { source, at } = task.from else { return None };
            let whole = [task.at, task.len, at].iter().all(|n| n.is_multiple_of(FileLayout::BLOCK));
            whole.then_some(Run { file: task.file, at: task.at, source, source_at: at, len: task.len })
        })
        .collect();
    runs.sort_unstable_by_key(|run| (run.file, run.at));
    runs.dedup_by(|next, run| {
        let follows = (next.file, next.source) == (run.file, run.source)
            && next.at == run.at + run.len
            && next.source_at == run.source_at + run.len;
        run.len += if follows { next.len } else { 0 };
        follows
    });
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(file: usize, at: u64, len: u64, source: usize, source_at: u64) -> Task {
        Task { file, at, len, from: From::Mapped { source, at: source_at }, key: (source, source_at) }
    }

    #[test]
    fn whole_blocks_that_follow_one_another_are_one_run() {
        const B: u64 = FileLayout::BLOCK;
        let tasks = [
            task(1, B, B, 0, 5 * B),
            task(0, 4 * B, 2 * B, 0, 8 * B),
            // Follows the last in both files.
            task(0, 6 * B, B, 0, 10 * B),
            // Follows in the target only.
            task(0, 7 * B, B, 0, 20 * B),
            // Not on whole blocks.
            task(0, 8 * B, B, 0, 21 * B + 512),
            task(0, 9 * B, B + 1, 0, 22 * B),
            Task { from: From::Built, ..task(0, 0, B, 0, 0) },
        ];
        let found: Vec<_> = runs(&tasks).iter().map(|r| (r.file, r.at / B, r.len / B, r.source_at / B)).collect();
        assert_eq!(found, [(0, 4, 3, 8), (0, 7, 1, 20), (1, 1, 1, 5)]);
    }

    #[test]
    fn a_task_is_held_only_where_all_of_it_is_shared() {
        let clones = Clones { by_file: vec![vec![(10, 20), (30, 50)], vec![]] };
        let held = |file, at, len| clones.hold(&task(file, at, len, 0, 0));
        assert!(held(0, 10, 10) && held(0, 12, 3) && held(0, 30, 20));
        assert!(!held(0, 9, 2) && !held(0, 19, 2) && !held(0, 20, 10) && !held(0, 60, 1) && !held(1, 10, 1));
        assert!(!Clones::default().hold(&task(0, 10, 10, 0, 0)), "nothing was shared");
        assert_eq!(clones.bytes(), 30);
    }
}
