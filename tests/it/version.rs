//! What `-V` and `--version` say about the program.

use crate::support::TestEnv;

const NAME: &str = concat!("ckpt-convert ", env!("CARGO_PKG_VERSION"));

#[test]
fn the_short_form_is_one_line() {
    assert_eq!(TestEnv::new().line("-V").ok().stdout, format!("{NAME}\n"));
}

#[test]
fn the_long_form_says_what_was_built_for_which_machine() {
    let run = TestEnv::new().line("--version").ok();
    let lines: Vec<&str> = run.stdout.lines().collect();
    let [name, commit, target, features] = lines[..] else { panic!("{lines:#?}") };
    assert_eq!(name, NAME);
    // A debug build is not made anew for each commit, so it must not name one.
    let recorded = commit.strip_prefix("commit: ").expect("a commit");
    assert_eq!(recorded == "not recorded in a debug build", cfg!(debug_assertions), "{commit}");
    assert!(!recorded.is_empty());
    let target = target.strip_prefix("target: ").expect("a target");
    assert!(target.starts_with(std::env::consts::ARCH) && target.contains("linux"), "{target}");
    let expected = if cfg!(feature = "calibrate") { "features: calibrate" } else { "features: none" };
    assert_eq!(features, expected);
}
