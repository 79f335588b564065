//! What the file name of a saved checkpoint says: whose it is, of which run, and when it was saved.
//!
//! Sources: `ModelCheckpoint` of MindSpore names a save `<prefix>-<epoch>_<step in the epoch>`, and one that an exception leaves
//! `..._breakpoint`; in a directory with saves of an earlier run it adds `_<n>` to the prefix
//! (`mindspore/train/callback/_checkpoint.py`, `mindspore/train/model.py`). `CheckpointMonitor` of mindformers adds
//! `_rank_<r>` to the prefix first, and `-network` or `-trainable_params` after it. Converted files are `checkpoint_<r>`.

use std::path::Path;

use super::discover::rank_of;

/// A name of one of a rank's files, taken apart. Two ranks' files of one save differ in nothing of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SaveName {
    /// The prefix, with a `*` for the rank.
    pub prefix: String,
    /// How often the run was started again.
    pub task: u64,
    /// Epoch and step in it. `None`: another kind of name.
    pub at: Option<(u64, u64)>,
    /// Whether an exception made the save.
    pub breakpoint: bool,
    pub extension: String,
}

impl SaveName {
    /// Of a file in the directory of a rank; `None`: in one that is no rank's, where any rank's file may lie.
    pub(super) fn of(file: &str, dir: Option<u32>) -> Self {
        let (stem, extension) = stem_of(file);
        let (stem, breakpoint) = match stem.strip_suffix("_breakpoint") {
            Some(rest) if moment(rest).is_some() => (rest, true),
            _ => (stem, false),
        };
        let (prefix, at) = moment(stem).map_or((stem, None), |(prefix, at)| (prefix, Some(at)));
        let mark = rank_mark(prefix, at.is_some()).filter(|mark| dir.is_none_or(|dir| mark.rank == dir));
        let (prefix, task) = match mark {
            Some(RankMark { before, after, .. }) => {
                let (task, after) = task_of(after);
                (format!("{before}*{after}"), task)
            }
            None => (prefix.to_owned(), 0),
        };
        Self { prefix, task, at, breakpoint, extension: extension.to_owned() }
    }
}

/// A file's name without its extension, and the extension.
pub(super) fn stem_of(file: &str) -> (&str, &str) {
    file.rsplit_once('.').unwrap_or((file, ""))
}

/// `<prefix>-<epoch>_<step>`. A prefix may have hyphens and numbers itself.
fn moment(stem: &str) -> Option<(&str, (u64, u64))> {
    let (prefix, numbers) = stem.rsplit_once('-')?;
    Some((prefix, moment_of(numbers)?))
}

/// `<epoch>_<step>`.
pub(super) fn moment_of(text: &str) -> Option<(u64, u64)> {
    let (epoch, step) = text.split_once('_')?;
    Some((number(epoch)?, number(step)?))
}

pub(super) fn number(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

/// The rank in a prefix, and what is on either side of its number.
struct RankMark<'a> {
    before: &'a str,
    rank: u32,
    after: &'a str,
}

/// The last `rank_<r>` between separators, or `checkpoint_<r>` where that is all (`<prefix>_<n>-<epoch>_<step>` is a run that
/// was started again). The rank of an adapter (`lora_rank_8`) is another kind of number.
fn rank_mark(prefix: &str, saved: bool) -> Option<RankMark<'_>> {
    let mark = |at: usize| {
        let rest = &prefix[at..];
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (digits, after) = rest.split_at(digits);
        let closed = after.is_empty() || after.starts_with(['_', '-', '.']);
        let rank = digits.parse().ok().filter(|_| closed)?;
        Some(RankMark { before: &prefix[..at], rank, after })
    };
    let ranks = prefix.rmatch_indices("rank_").filter_map(|(at, word)| {
        let before = prefix[..at].trim_end_matches(['_', '-', '.']);
        let open = at == 0 || before.len() < at;
        let adapter = before.to_ascii_lowercase().ends_with("lora");
        if open && !adapter { mark(at + word.len()) } else { None }
    });
    let converted = || {
        let word = "checkpoint_";
        let found = mark(prefix.starts_with(word).then_some(word.len())?)?;
        let part = |after: &str| after.strip_prefix("_part").is_some_and(|n| !n.is_empty() && number(n).is_some());
        (!saved && (found.after.is_empty() || part(found.after))).then_some(found)
    };
    ranks.into_iter().next().or_else(converted)
}

/// The `_<n>` right after the rank, and the rest.
fn task_of(after: &str) -> (u64, &str) {
    let task = || {
        let rest = after.strip_prefix('_')?;
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (digits, rest) = rest.split_at(digits);
        let closed = rest.is_empty() || rest.starts_with('-');
        Some((digits.parse().ok().filter(|_| closed)?, rest))
    };
    task().unwrap_or((0, after))
}

/// The rank that a file's name gives, and the one that its directory's gives, where they are not the same.
pub(super) fn contradiction(path: &Path) -> Option<(u32, u32)> {
    let dir = rank_of(path.parent()?.file_name()?.to_str()?)?;
    let (stem, _) = stem_of(path.file_name()?.to_str()?);
    let stem = stem.strip_suffix("_breakpoint").unwrap_or(stem);
    let (prefix, saved) = moment(stem).map_or((stem, false), |(prefix, _)| (prefix, true));
    let named = rank_mark(prefix, saved)?.rank;
    (named != dir).then_some((named, dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_prefix_run_epoch_and_step() {
        let cases = [
            ("llama_rank_0-1_10.ckpt", ("llama_rank_*", 0, Some((1, 10)), false)),
            ("llama_rank_0_2-3_2.safetensors", ("llama_rank_*", 2, Some((3, 2)), false)),
            ("qwen2.5-7b_rank_0-3_2.ckpt", ("qwen2.5-7b_rank_*", 0, Some((3, 2)), false)),
            ("rank_0-3_2.ckpt", ("rank_*", 0, Some((3, 2)), false)),
            ("a-b-2_7.safetensors", ("a-b", 0, Some((2, 7)), false)),
            ("CKP_1-3_2.ckpt", ("CKP_1", 0, Some((3, 2)), false)),
            ("checkpoint_0-3_2.ckpt", ("checkpoint_0", 0, Some((3, 2)), false)),
            ("llama_rank_0_1-network-3_2.ckpt", ("llama_rank_*-network", 1, Some((3, 2)), false)),
            ("llama_rank_0-1_10_breakpoint.ckpt", ("llama_rank_*", 0, Some((1, 10)), true)),
            ("lora_rank_8_rank_0-3_2.ckpt", ("lora_rank_8_rank_*", 0, Some((3, 2)), false)),
            ("checkpoint_0.ckpt", ("checkpoint_*", 0, None, false)),
            ("checkpoint_0_part1.ckpt", ("checkpoint_*_part1", 0, None, false)),
            ("llama-1_+5.ckpt", ("llama-1_+5", 0, None, false)),
            ("llama-_5.ckpt", ("llama-_5", 0, None, false)),
            ("llama2_7b.ckpt", ("llama2_7b", 0, None, false)),
            ("rank_99999999999-3_2.ckpt", ("rank_99999999999", 0, Some((3, 2)), false)),
        ];
        for (file, (prefix, task, at, breakpoint)) in cases {
            let name = SaveName::of(file, Some(0));
            assert_eq!(
                (name.prefix.as_str(), name.task, name.at, name.breakpoint),
                (prefix, task, at, breakpoint),
                "{file}"
            );
        }
    }

    #[test]
    fn only_a_name_that_clearly_gives_another_rank_contradicts_its_directory() {
        for file in
            ["checkpoint_1.ckpt", "checkpoint_1_part0.ckpt", "llama_rank_1-3_2.ckpt", "a.rank_1_2-3_2_breakpoint.ckpt"]
        {
            assert_eq!(contradiction(Path::new("x/rank_0").join(file).as_path()), Some((1, 0)), "{file}");
        }
        for file in [
            "checkpoint_0.ckpt",
            "checkpoint_0_part1.ckpt",
            "checkpoint_1-3_2.ckpt",
            "llama2_7b.ckpt",
            "llama_rank_0_1-3_2.ckpt",
            "ptq.ckpt",
            "lora_rank_8.ckpt",
            "llama_lora_rank_8-3_2.ckpt",
            "frank_1.ckpt",
            "model-00001-of-00003.safetensors",
            "my_checkpoint_1.ckpt",
            "checkpoint_1b.ckpt",
            "rank_1b.ckpt",
            "qwen2.5-7b_rank_0-3_2.ckpt",
        ] {
            assert_eq!(contradiction(Path::new("x/rank_0").join(file).as_path()), None, "{file}");
        }
        assert_eq!(contradiction(Path::new("x/checkpoint_1.ckpt")), None);
    }
}
