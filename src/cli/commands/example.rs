//! `example DIR`: a small model in all its forms, to try the program on. The files are those of `examples/tiny-llama`.

use std::path::Path;

use super::print;
use super::shipped::{Shipped, lay_out, shipped};
use crate::Error;
use crate::cli::ExitStatus;
use crate::cli::args::ExampleArgs;
use crate::cli::originals::quoted;

const FILES: [Shipped; 13] = shipped!("examples/tiny-llama", 0o666:
    "llama_tiny_4p.yaml"
    "hf/config.json"
    "hf/generation_config.json"
    "hf/model.safetensors"
    "ckpt/rank_0/llama_tiny.ckpt"
    "training/checkpoint/rank_0/llama_tiny_rank_0-1_100.ckpt"
    "training/checkpoint/rank_1/llama_tiny_rank_1-1_100.ckpt"
    "training/checkpoint/rank_2/llama_tiny_rank_2-1_100.ckpt"
    "training/checkpoint/rank_3/llama_tiny_rank_3-1_100.ckpt"
    "training/strategy/ckpt_strategy_rank_0.ckpt"
    "training/strategy/ckpt_strategy_rank_1.ckpt"
    "training/strategy/ckpt_strategy_rank_2.ckpt"
    "training/strategy/ckpt_strategy_rank_3.ckpt"
);

/// What a user finds there.
const CONTENTS: &str = concat!(
    "  llama_tiny_4p.yaml  mindformers yaml for 4 ranks\n",
    "  hf/                 Hugging Face checkpoint, fp16\n",
    "  ckpt/               MindSpore checkpoint of 1 rank, fp16, fused\n",
    "  training/           training run of 4 ranks (pipeline 2 x tensor 2), fp32, with Adam's state and strategy files\n",
);

/// A conversion of it, in its directory.
const CONVERSION: &str = "-f pt_to_ms -p fp16 -w 4 -y llama_tiny_4p.yaml -sc hf -dc out -is strategy";

/// Lays out the model.
pub(in crate::cli) fn run(args: &ExampleArgs) -> Result<ExitStatus, Error> {
    let dir = &args.dir;
    lay_out(dir, &FILES.iter().collect::<Vec<_>>(), &[])?;
    let name = dir.to_string_lossy();
    // A shell takes `-x` for an option.
    let name = if name.starts_with('-') { format!("./{name}") } else { name.into_owned() };
    let enter = if is_here(dir) { String::new() } else { format!("  cd {}\n", quoted(&name)) };
    print(&format!(
        "wrote {} files below {}, a llama of 2 layers:\n{CONTENTS}try:\n{enter}  {} {CONVERSION}\n",
        FILES.len(),
        dir.display(),
        program()
    ))?;
    Ok(ExitStatus::Done)
}

/// Whether a directory is the current one.
fn is_here(dir: &Path) -> bool {
    let here = std::env::current_dir().and_then(|here| here.canonicalize());
    matches!((here, dir.canonicalize()), (Ok(here), Ok(dir)) if here == dir)
}

/// How the program is started from any directory: as it was typed where the shell looked for it, else by its whole path.
fn program() -> String {
    let typed = std::env::args_os().next().and_then(|typed| typed.into_string().ok());
    let typed = typed.filter(|typed| !typed.contains('/'));
    let whole = || std::env::current_exe().ok().map(|path| path.to_string_lossy().into_owned());
    typed.or_else(whole).map_or_else(|| "ckpt-convert".to_owned(), |program| quoted(&program))
}
