//! `ckptgen` writes llama-shaped checkpoints of any size, quickly and reproducibly.
//!
//! ```text
//! ckptgen --model llama2_7b --layers 8 --ranks 4 --fused --out DIR
//! ```
//!
//! writes `DIR/rank_<r>/checkpoint_<r>.ckpt` (or `.safetensors`) with mindformers' parameter names and splits.
//!
//! A value depends only on the seed, the name of the unfused parameter, the dtype and the element's index in
//! the full, unsharded tensor. So all rank counts, fused or not, in either format, are the same model, and a
//! converted checkpoint can be compared byte for byte with one generated in the wanted form. For that reason
//! nothing here is shared with the ckpt-convert library: this program is an oracle for it.
//!
//! - Splits: embedding and `lm_head` on axis 0 (whole where the ranks do not divide the vocabulary), `wq`, `wk`,
//!   `wv`, `w1`, `w3` and the biases on axis 0, `wo` and `w2` on axis 1, norms whole on every rank.
//! - `--fused`: on each rank `w_qkv` = \[q; k; v\] and `w_gate_hidden` = \[w1; w3\] of that rank's slices.
//! - `--train` writes what a training run leaves instead: `DIR/rank_<r>/llama_rank_<r>-1_<step>.ckpt` of `--pp` stages of
//!   `--dp` times `--ranks` ranks, with the optimizer's shards and state, and with `--strategy DIR` its strategy files.
//! - Values are finite, of both signs, with magnitudes in \[2^-8, 1).
//! - `.ckpt` is the canonical protobuf that `MindSpore` writes, cut into records of 512 MiB.
//! - Memory: one 4 MiB buffer for each of the two threads.

mod model;
mod train;
mod values;
mod write;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use clap::Parser;

use model::{Job, Preset, Sizes};
use train::Run;
use values::Dtype;
use write::{Format, RECORD};

const THREADS: usize = 2;

/// Write a seeded llama-shaped checkpoint.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Sizes to start from; the options below replace single ones
    #[arg(long, value_enum, default_value = "tiny")]
    model: Preset,
    #[arg(long)]
    layers: Option<u64>,
    #[arg(long)]
    hidden: Option<u64>,
    #[arg(long)]
    heads: Option<u64>,
    #[arg(long)]
    kv_heads: Option<u64>,
    #[arg(long)]
    ffn: Option<u64>,
    #[arg(long)]
    vocab: Option<u64>,
    /// Tensor-parallel ranks
    #[arg(long, default_value_t = 1)]
    ranks: u64,
    /// Write w_qkv and w_gate_hidden instead of wq, wk, wv and w1, w3
    #[arg(long)]
    fused: bool,
    /// Add the biases of wq, wk, wv
    #[arg(long)]
    bias: bool,
    #[arg(long, value_enum, default_value = "fp16")]
    dtype: Dtype,
    #[arg(long, value_enum, default_value = "ckpt")]
    format: Format,
    /// Write a training run with the optimizer's state: --pp stages, each of --dp times --ranks ranks
    #[arg(long)]
    train: bool,
    /// Pipeline stages of the training run
    #[arg(long, default_value_t = 1)]
    pp: u64,
    /// Data-parallel ranks of the training run, over which the optimizer shards every parameter
    #[arg(long, default_value_t = 1)]
    dp: u64,
    /// The step in the names of the training run's files
    #[arg(long, default_value_t = 100)]
    step: u64,
    /// Folder to write the training run's ckpt_strategy_rank_<r>.ckpt into
    #[arg(long)]
    strategy: Option<PathBuf>,
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Folder to write rank_<r>/checkpoint_<r>.<ext> into
    #[arg(long)]
    out: PathBuf,
}

#[expect(clippy::disallowed_methods, reason = "this program shares nothing with the library")]
fn write_rank(what: &Checkpoint, rank: u64, format: Format, out: &Path) -> io::Result<u64> {
    let dir = out.join(format!("rank_{rank}"));
    fs::create_dir_all(&dir)?;
    let ext = if format == Format::Ckpt { "ckpt" } else { "safetensors" };
    match what {
        Checkpoint::Inference(job) => {
            job.write(rank, format, File::create(dir.join(format!("checkpoint_{rank}.{ext}")))?)
        }
        Checkpoint::Training { run, step } => {
            let file = File::create(dir.join(format!("llama_rank_{rank}-1_{step}.{ext}")))?;
            run.job.write_params(&run.params(rank), format, file)
        }
    }
}

/// What is written.
enum Checkpoint {
    Inference(Job),
    Training { run: Run, step: u64 },
}

fn write_strategies(run: &Run, dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    for stage in 0..run.pp {
        let bytes = run.strategy(stage);
        let devices = run.ranks() / run.pp;
        for rank in stage * devices..(stage + 1) * devices {
            fs::write(dir.join(format!("ckpt_strategy_rank_{rank}.ckpt")), &bytes)?;
        }
    }
    Ok(())
}

fn run(args: &Args) -> Result<(u64, u64), String> {
    let base = args.model.sizes();
    let heads = args.heads.unwrap_or(base.heads);
    let kv_default = if args.heads.is_some() { heads } else { base.kv_heads };
    let job = Job {
        sizes: Sizes {
            layers: args.layers.unwrap_or(base.layers),
            hidden: args.hidden.unwrap_or(base.hidden),
            heads,
            kv_heads: args.kv_heads.unwrap_or(kv_default),
            ffn: args.ffn.unwrap_or(base.ffn),
            vocab: args.vocab.unwrap_or(base.vocab),
        },
        ranks: args.ranks,
        fused: args.fused,
        bias: args.bias,
        dtype: args.dtype,
        seed: args.seed,
        record: RECORD,
    };
    let (what, ranks) = if args.train {
        let run = Run { job, pp: args.pp, dp: args.dp };
        run.check()?;
        if let Some(dir) = &args.strategy {
            write_strategies(&run, dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        }
        (Checkpoint::Training { run, step: args.step }, run.ranks())
    } else {
        job.check()?;
        (Checkpoint::Inference(job), job.ranks)
    };
    let next = AtomicUsize::new(0);
    let result = Mutex::new(Ok(0));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let rank = next.fetch_add(1, Ordering::Relaxed) as u64;
                    if rank >= ranks {
                        break;
                    }
                    let one = write_rank(&what, rank, args.format, &args.out);
                    let mut all = result.lock().unwrap_or_else(PoisonError::into_inner);
                    match (one, &mut *all) {
                        (Ok(n), Ok(sum)) => *sum += n,
                        (Err(e), Ok(_)) => *all = Err(format!("rank {rank}: {e}")),
                        (_, Err(_)) => break,
                    }
                }
            });
        }
    });
    result.into_inner().unwrap_or_else(PoisonError::into_inner).map(|bytes| (ranks, bytes))
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok((ranks, bytes)) => {
            println!("{}: {ranks} ranks, {bytes} bytes", args.out.display());
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("ckptgen: {e}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests;
