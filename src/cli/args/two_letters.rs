//! Options of two letters, which clap does not know.

use std::ffi::{OsStr, OsString};

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

/// Replaces two-letter options (`-sc X`, `-sc=X`) by their long names, and `~/` after `=`, which no shell replaces, by the home
/// directory.
pub(in crate::cli) fn expand(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    expand_in(std::env::var_os("HOME").as_deref(), args)
}

fn expand_in(home: Option<&OsStr>, args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let home = home.and_then(OsStr::to_str).filter(|home| !home.is_empty());
    args.map(|arg| {
        let Some(text) = arg.to_str() else { return arg };
        let (name, value) = text.split_once('=').map_or((text, None), |(n, v)| (n, Some(v)));
        let long = TWO_LETTERS.iter().find(|(short, _)| *short == name).map(|(_, long)| *long);
        let in_home = value.and_then(|value| value.strip_prefix("~/")).filter(|_| name.starts_with('-'));
        match (long, value, in_home.zip(home)) {
            (_, _, Some((path, home))) => format!("{}={home}/{path}", long.unwrap_or(name)).into(),
            (Some(long), Some(value), None) => format!("{long}={value}").into(),
            (Some(long), None, None) => long.into(),
            (None, _, None) => arg,
        }
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tilde_after_an_equals_sign_is_the_home_directory() {
        let line = ["-sc=~/a", "--dst_ckpt_path=~/b=~/c", "-w=2", "~/d", "x=~/e", "--f=~", "-ss"];
        let expand = |home| expand_in(home, line.iter().map(OsString::from));
        let expected =
            ["--src_ckpt_path=/h/a", "--dst_ckpt_path=/h/b=~/c", "-w=2", "~/d", "x=~/e", "--f=~", "--src_strategy"];
        assert_eq!(expand(Some(OsStr::new("/h"))), expected);
        assert_eq!(expand(None)[0], "--src_ckpt_path=~/a");
    }
}
