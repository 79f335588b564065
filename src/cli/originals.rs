//! Command lines of the original scripts that are not the program's own, and their equivalents: the functions of the
//! dispatcher at the top of their tree, and the simplified form. Both are rewritten before anything else is made of them, so
//! that every option of a conversion goes with them.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::args::ConvertArgs;
use crate::Error;
use crate::job::{Function, Model};

/// The simplified form.
const SIMPLIFIED: &str = "n-to-m";

/// A function of the original's dispatcher.
struct Original {
    name: &'static str,
    /// The words that it is replaced by. They come first, so that what is typed wins.
    words: &'static [&'static str],
    /// Whether its strategies go below the target: the original has no option for them, and keeps them there.
    strategies: bool,
    /// Whether the source is named by its first file, `<source>/rank_0/<name>.ckpt`.
    by_file: bool,
    /// Whether it calibrates on a data set of its own package.
    calibrated: bool,
}

impl Original {
    const fn new(name: &'static str, words: &'static [&'static str]) -> Self {
        Self { name, words, strategies: false, by_file: false, calibrated: false }
    }
}

#[rustfmt::skip]
const ORIGINALS: [Original; 8] = [
    Original::new("n2m_qkv", &[SIMPLIFIED]),
    Original::new("n2m_noqkv", &[SIMPLIFIED, "--qkv_concat", "false"]),
    Original {
        strategies: true, by_file: true,
        ..Original::new("add_qkv", &["-f", "distributed_weight_transfer", "-p", "keep", "--qkv_concat", "true"])
    },
    Original { strategies: true, calibrated: true, ..Original::new("quant", &["-f", "quant_weight"]) },
    Original { strategies: true, ..Original::new("pt2ckpt", TO_ONE_RANK) },
    // As pt_ms_convert.sh calls it.
    Original { strategies: true, ..Original::new("bin2ckpt", TO_ONE_RANK) },
    Original::new("ckpt2sft", &["-f", "ms_to_pt", "-p", "keep", "--format", "safetensors"]),
    Original::new("ckpt2pth", &["-f", "ms_to_pt", "-p", "keep", "--format", "bin"]),
];

const TO_ONE_RANK: &[&str] = &["-f", "pt_to_ms", "-p", "fp16", "-w", "1", "--qkv_concat", "false"];

const SOURCE: [&str; 2] = ["--src_ckpt_path", "--src-ckpt-path"];
const TARGET: [&str; 2] = ["--dst_ckpt_path", "--dst-ckpt-path"];

/// The command line with a function of the original's dispatcher replaced by its equivalent, and a note that says so.
pub(super) fn translate(mut args: Vec<OsString>) -> (Vec<OsString>, Option<String>) {
    let Some((found, at)) = ORIGINALS.iter().find_map(|original| {
        let at = option(&args, &["-f", "--function"], |value| value == original.name)?;
        Some((original, at))
    }) else {
        return (args, None);
    };
    args.drain(at.words);
    if found.by_file
        && let Some(source) = option(&args, &SOURCE, |_| true)
        && let Some(dir) = above_rank_0(Path::new(&source.value))
    {
        args.splice(source.words, [SOURCE[0].into(), dir.into_os_string()]);
    }
    let mut words: Vec<OsString> = found.words.iter().map(OsString::from).collect();
    if found.strategies
        && let Some(target) = option(&args, &TARGET, |_| true)
    {
        words.extend(["--infer_strategy_file".into(), Path::new(&target.value).join("strategy").into_os_string()]);
    }
    let start = 1.min(args.len());
    args.splice(start..start, words);
    let line: Vec<String> = args.iter().skip(1).map(|word| quoted(&word.to_string_lossy())).collect();
    let mut note = format!("-f {} of the original scripts is: ckpt-convert {}", found.name, line.join(" "));
    let statistics = ["--stats", "--dataset_name", "--dataset-name", "-d"];
    let weights_only = option(&args, &["-p", "--precision"], |value| value == "w8a16").is_some();
    if found.calibrated && !weights_only && option(&args, &statistics, |_| true).is_none() {
        note.push_str("; it calibrates on the boolq.jsonl of its own package: add -d boolq -dp FILE, or --stats FILE");
    }
    (args, Some(note))
}

/// An option among the words, and its value.
struct Found {
    words: std::ops::Range<usize>,
    value: OsString,
}

/// The first of these options whose value is wanted: `--name value`, `--name=value`, `-n value`, `-n=value`, `-nvalue`.
fn option(args: &[OsString], names: &[&str], wanted: impl Fn(&OsStr) -> bool) -> Option<Found> {
    args.iter().enumerate().skip(1).find_map(|(at, word)| {
        let found = names.iter().find_map(|name| {
            if word == name {
                return Some(Found { words: at..at + 2, value: args.get(at + 1)?.clone() });
            }
            let rest = word.to_str()?.strip_prefix(name)?;
            let value = rest.strip_prefix('=').or_else(|| (name.len() == 2).then_some(rest))?;
            Some(Found { words: at..at + 1, value: value.into() })
        })?;
        wanted(&found.value).then_some(found)
    })
}

/// The directory of ranks that a file of its rank 0 is in.
fn above_rank_0(path: &Path) -> Option<PathBuf> {
    let rank = path.parent().filter(|_| path.extension().is_some_and(|e| e == "ckpt"))?;
    let dir = rank.parent().filter(|_| rank.file_name().is_some_and(|name| name == "rank_0"))?;
    Some(if dir.as_os_str().is_empty() { PathBuf::from(".") } else { dir.to_owned() })
}

/// A word as it can be typed into a shell.
pub(super) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// The command line of the conversion that `n-to-m` is short for. `typed`: the whole line; `args`: what was read from it;
/// `given`: whether an option (by its name) was typed.
pub(super) fn n_to_m(
    typed: &[OsString],
    args: &ConvertArgs,
    given: impl Fn(&str) -> bool,
) -> Result<Vec<OsString>, Error> {
    if let Some(function) = args.what.function.filter(|&f| f != Function::DistributedWeightTransfer) {
        return Err(Error::Usage(format!(
            "n-to-m is -f distributed_weight_transfer; for -f {function} leave n-to-m out, and give -p, -dc and -is"
        )));
    }
    let model = Model { yaml: args.layout.yaml_path.clone(), ..Model::default() };
    let named = model.is_fused()?;
    let fused = args.layout.qkv_concat.or(named).unwrap_or(true);
    let kind = if fused { "qkv" } else { "noqkv" };
    let ranks = args.what.world_size.map(|ranks| ranks.to_string()).unwrap_or_default();
    let place = |kind_of: &str| format!("{kind_of}/llama2_7b/{kind}/{ranks}_llama-2-7b");
    let above = Path::new("..");
    let target = above.join(place("ckpt"));
    let strategies =
        if given("dst_ckpt_path") { args.place.dst_ckpt_path.as_path() } else { above }.join(place("strategy"));

    let mut line: Vec<OsString> = typed.iter().take(1).cloned().collect();
    line.extend(["-f", "distributed_weight_transfer", "-p", "fp16", "-y", "llama2_7b"].map(OsString::from));
    line.extend([TARGET[0].into(), target.into_os_string()]);
    line.extend(["--infer_strategy_file".into(), strategies.into_os_string()]);
    line.extend(["--qkv_concat".into(), fused.to_string().into()]);
    // What is typed comes last, and wins.
    line.extend(typed.iter().skip(2).cloned());
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    fn line_of(args: &[OsString]) -> String {
        args.iter().map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn functions_of_the_dispatcher_in_the_programs_words() {
        for (typed, meant) in [
            ("-f n2m_qkv -w 4 --src_ckpt_path s", "n-to-m -w 4 --src_ckpt_path s"),
            ("-w 4 --function=n2m_noqkv", "n-to-m --qkv_concat false -w 4"),
            (
                "-f add_qkv --src_ckpt_path a/rank_0/x.ckpt --dst_ckpt_path b",
                "-f distributed_weight_transfer -p keep --qkv_concat true --infer_strategy_file b/strategy \
                 --src_ckpt_path a --dst_ckpt_path b",
            ),
            ("-fquant -p w8a16", "-f quant_weight -p w8a16"),
            (
                "-f=ckpt2sft --src_ckpt_path a/rank_0/x.ckpt",
                "-f ms_to_pt -p keep --format safetensors --src_ckpt_path a/rank_0/x.ckpt",
            ),
        ] {
            let (args, note) = translate(words(&format!("ckpt-convert {typed}")));
            assert_eq!(line_of(&args), format!("ckpt-convert {meant}"), "{typed}");
            assert!(note.unwrap().ends_with(&format!(" is: ckpt-convert {meant}")), "{typed}");
        }
        for own in ["-f quant_weight -p w8a16", "n-to-m -w 4", "inspect quant", "-f", ""] {
            let typed = words(&format!("ckpt-convert {own}"));
            assert_eq!(translate(typed.clone()), (typed, None));
        }
    }

    #[test]
    fn a_note_can_be_typed() {
        assert_eq!(quoted("/a-b_c.d"), "/a-b_c.d");
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
