//! `scripts DIR`: the original scripts' tree for users who have only the program. The files are those of `tools/`.

use std::os::unix::fs::symlink;

use super::print;
use super::shipped::{Shipped, lay_out, shipped};
use crate::Error;
use crate::cli::ExitStatus;
use crate::cli::args::ScriptsArgs;
use crate::cli::screen::note;

/// What is run.
const SCRIPTS: [Shipped; 7] = shipped!("tools", 0o777:
    "ckpt_convert.sh"
    "convert_ckpt_qkv/ckpt_convert.sh"
    "convert_ckpt_qkv/ckpt_convert_n_to_m.sh"
    "convert_ckpt_qkv/ckpt_convert_for_16p.sh"
    "convert_ckpt_noqkv/ckpt_convert.sh"
    "convert_ckpt_noqkv/ckpt_convert_n_to_m.sh"
    "convert_ckpt_noqkv/ckpt_convert_for_16p.sh"
);

/// What is read, or sourced.
const FILES: [Shipped; 13] = shipped!("tools", 0o666:
    "env/run.sh"
    "env/set_2n_env.sh"
    "env/hccl_2n_16p.json"
    "model/llama2_7b/qkv/llama2_7b_1p.yaml"
    "model/llama2_7b/qkv/llama2_7b_2p.yaml"
    "model/llama2_7b/qkv/llama2_7b_4p.yaml"
    "model/llama2_7b/qkv/llama2_7b_8p.yaml"
    "model/llama2_7b/qkv/llama2_7b_16p.yaml"
    "model/llama2_7b/noqkv/llama2_7b_1p.yaml"
    "model/llama2_7b/noqkv/llama2_7b_2p.yaml"
    "model/llama2_7b/noqkv/llama2_7b_4p.yaml"
    "model/llama2_7b/noqkv/llama2_7b_8p.yaml"
    "model/llama2_7b/noqkv/llama2_7b_16p.yaml"
);

/// The program, at the top of the tree, where the scripts look for it.
const PROGRAM: &str = "ckpt-convert";

/// Lays out the tree.
pub(in crate::cli) fn run(args: &ScriptsArgs) -> Result<ExitStatus, Error> {
    let files: Vec<&Shipped> = SCRIPTS.iter().chain(&FILES).collect();
    lay_out(&args.dir, &files, &[PROGRAM])?;
    let linked = std::env::current_exe().and_then(|program| symlink(program, args.dir.join(PROGRAM)));
    if let Err(e) = linked {
        note(&format!("the scripts cannot be given this program ({e}): they look for ckpt-convert on PATH"));
    }
    let scripts = args.dir.join("convert_ckpt_qkv");
    print(&format!(
        "wrote {} files below {}; type the original's commands in {}\n",
        files.len(),
        args.dir.display(),
        scripts.display()
    ))?;
    Ok(ExitStatus::Done)
}
