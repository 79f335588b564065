//! Every case in which the original scripts were run: the same result, in one step and without intermediate directories.

use std::path::PathBuf;

use crate::support::{Index, Run, TestEnv, compare, compare_dir, data, index, read_tensors};

struct Case {
    name: &'static str,
    from: u32,
    to: u32,
}

const CASES: [Case; 7] = [
    Case { name: "1p_qkv_to_4p", from: 1, to: 4 },
    Case { name: "2p_qkv_to_1p", from: 2, to: 1 },
    Case { name: "4p_noqkv_to_8p", from: 4, to: 8 },
    Case { name: "4p_qkv_to_8p", from: 4, to: 8 },
    Case { name: "8p_qkv_to_16p", from: 8, to: 16 },
    Case { name: "8p_qkv_to_1p", from: 8, to: 1 },
    Case { name: "8p_qkv_to_4p", from: 8, to: 4 },
];

impl Case {
    /// Where the right answer is. All cases are of one model, so another case's answer serves where a case has none: the
    /// original's 8 -> 4 makes no unfused result, its 2 -> 1 is wrong (see the README there).
    fn answer(&self, fused: bool) -> String {
        match (self.name, fused) {
            ("2p_qkv_to_1p", true) => "2p_qkv_to_1p/truth_fused".to_owned(),
            ("2p_qkv_to_1p", false) => "2p_qkv_to_1p/truth_unfused".to_owned(),
            ("8p_qkv_to_4p", true) => "8p_qkv_to_4p/out/fp16_4p_adjust".to_owned(),
            ("8p_qkv_to_4p", false) => "1p_qkv_to_4p/out/fp16_4p".to_owned(),
            (name, true) => format!("{name}/out/fp16_{}p_qkv", self.to),
            (name, false) => format!("{name}/out/fp16_{}p", self.to),
        }
    }

    /// Runs the original's command line in a directory. Returns the target.
    fn run(&self, env: &TestEnv, fused: bool, more: &[&str]) -> PathBuf {
        let yaml = data(if fused { "models/reference_mha.yaml" } else { "models/reference_mha_noqkv.yaml" });
        let ranks = self.to.to_string();
        let mut command = env.command(&["-f", "distributed_weight_transfer", "-p", "fp16", "-w", &ranks]);
        command.arg("-y").arg(yaml).arg("-sc").arg(data(&format!("reference/{}/src", self.name)));
        command.args(["-dc", "out", "-is", "st", "--no-sync"]).args(more);
        Run::of(&mut command).ok();
        env.path(&format!("out/fp16_{ranks}p{}", if fused { "_qkv" } else { "" }))
    }

    #[track_caller]
    fn check(&self, index: &Index, dir: &std::path::Path, fused: bool) {
        let answer = self.answer(fused);
        match index.get(&format!("{answer}/rank_0")) {
            Some(expected) => compare(&answer, &read_tensors(&dir.join("rank_0/checkpoint_0.ckpt")), expected),
            None => compare_dir(dir, index, &answer, "ckpt", |_| true),
        }
    }
}

fn check(name: &str, fused: bool) {
    let case = CASES.iter().find(|case| case.name == name).expect("a known case");
    let env = TestEnv::new();
    let dir = case.run(&env, fused, &[]);
    case.check(&index("reference"), &dir, fused);
    // As the original: strategies of the target, one for each rank, and nothing else beside.
    let last = format!("st/fp16_{}p/strategy/ckpt_strategy_rank_{}.ckpt", case.to, case.to - 1);
    assert!(env.path(&last).is_file());
    let made: Vec<_> = std::fs::read_dir(env.path("out")).expect("out").collect();
    assert_eq!(made.len(), 1, "{made:?}");
}

macro_rules! cases {
    ($($module:ident $name:literal)*) => { $(mod $module {
        #[test] fn fused() { super::check($name, true); }
        #[test] fn unfused() { super::check($name, false); }
    })* };
}

cases! {
    one_to_four "1p_qkv_to_4p"
    two_to_one "2p_qkv_to_1p"
    four_unfused_to_eight "4p_noqkv_to_8p"
    four_to_eight "4p_qkv_to_8p"
    eight_to_sixteen "8p_qkv_to_16p"
    eight_to_one "8p_qkv_to_1p"
    eight_to_four "8p_qkv_to_4p"
}

#[test]
fn no_case_of_the_original_is_left_out() {
    let mut names: Vec<String> =
        index("reference").keys().filter_map(|key| Some(key.split_once('/')?.0.to_owned())).collect();
    names.dedup();
    assert_eq!(names, CASES.map(|case| case.name.to_owned()));
}

/// The strategies that the original used say the same as the rules.
#[test]
fn with_the_originals_strategies_of_the_source() {
    let index = index("reference");
    for case in CASES.iter().filter(|case| case.from > 1) {
        let strategy = data(&format!("reference/{}/st/fp16_{}p/strategy", case.name, case.from));
        let strategy = strategy.to_str().expect("UTF-8");
        let env = TestEnv::new();
        let dir = case.run(&env, true, &["-ss", strategy]);
        case.check(&index, &dir, true);
    }
}

/// From a target strategy alone, fused as its names say, with no yaml.
#[test]
fn with_the_originals_strategies_of_both() {
    let index = index("reference");
    let case = &CASES[3];
    let strategy = |ranks: u32| data(&format!("reference/{}/st/fp16_{ranks}p/strategy", case.name));
    let env = TestEnv::new();
    let mut command = env.command(&["-f", "distributed_weight_transfer", "-p", "fp16", "-dc", "out", "--no-sync"]);
    command.arg("-sc").arg(data(&format!("reference/{}/src", case.name)));
    command.arg("-ss").arg(strategy(4)).arg("-ds").arg(strategy(8));
    Run::of(&mut command).ok();
    let listing = env.run(&["inspect", "--json", strategy(8).to_str().expect("UTF-8")]).ok().json();
    let fused = listing["params"].as_array().expect("params").iter().any(|p| p["name"].to_string().contains("w_qkv"));
    let dir = env.path(if fused { "out/fp16_8p_qkv" } else { "out/fp16_8p" });
    case.check(&index, &dir, fused);
}
