//! Options of two letters, which clap does not know.

use std::ffi::OsString;

/// Two-letter options of the original scripts, which clap does not know, and their long names.
pub(in crate::cli) const TWO_LETTERS: [(&str, &str); 10] = [
    ("-sc", "--src_ckpt_path"),
    ("-dc", "--dst_ckpt_path"),
    ("-is", "--infer_strategy_file"),
    ("-ss", "--src_strategy"),
    ("-ds", "--dst_strategy"),
    ("-ts", "--train_strategy_file"),
    ("-pp", "--pipeline_stage"),
    ("-tm", "--train_to_infer_mode"),
    ("-dp", "--dataset_path"),
    ("-qkv", "--qkv_concat"),
];

/// Replaces two-letter options (`-sc X`, `-sc=X`) by their long names.
pub(in crate::cli) fn expand(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    args.map(|arg| {
        let Some(text) = arg.to_str() else { return arg };
        let (name, value) = text.split_once('=').map_or((text, None), |(n, v)| (n, Some(v)));
        match TWO_LETTERS.iter().find(|(short, _)| *short == name) {
            Some((_, long)) => value.map_or_else(|| (*long).into(), |v| format!("{long}={v}").into()),
            None => arg,
        }
    })
    .collect()
}
