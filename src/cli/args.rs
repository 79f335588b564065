//! What was typed. Names and meanings of the original scripts' options; validation only, no effects.
#![expect(clippy::doc_markdown, reason = "these comments are the text of --help, where backticks would show")]

mod calibrate;
mod tools;
mod train;

use std::ffi::OsString;
use std::path::PathBuf;

use bytesize::ByteSize;
use clap::{Args, Parser, Subcommand, ValueEnum};

mod cluster;

use super::run_args::{ReadArgs, RunArgs};
use crate::plan::Heads;
pub(super) use calibrate::CalibrateArgs;
pub(super) use cluster::{ClusterArgs, MergeArgs};
pub(super) use tools::{DoctorArgs, StrategyCommand};
pub(super) use train::{LoraArg, TrainArgs, which_save};

/// Two-letter options of the original scripts, which clap does not know, and what they stand for.
const TWO_LETTERS: [(&str, &str); 10] = [
    ("-sc", "--src_ckpt_path"),
    ("-dc", "--dst_ckpt_path"),
    ("-is", "--infer_strategy_file"),
    ("-ts", "--train_strategy_file"),
    ("-ss", "--src_strategy"),
    ("-ds", "--dst_strategy"),
    ("-pp", "--pipeline_stage"),
    ("-tm", "--train_to_infer_mode"),
    ("-dp", "--dataset_path"),
    ("-qkv", "--qkv_concat"),
];

/// Replaces two-letter options (`-sc X`, `-sc=X`) by their long names.
pub(super) fn expand(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
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

/// Converts LLM checkpoints for MindSpore/Ascend inference: n ranks to m ranks, fused or not, in one streaming pass.
#[derive(Debug, Parser)]
#[command(
    name = "ckpt-convert",
    version,
    long_version = super::version::LONG,
    args_conflicts_with_subcommands = true,
    args_override_self = true,
    max_term_width = 110
)]
#[command(
    after_help = "Two-letter options: -sc -dc -is -ts -ss -ds -pp -tm -dp -qkv stand for the long names beside them."
)]
pub(super) struct Cli {
    /// A command; without one, -f says what to do.
    #[command(subcommand)]
    pub(super) command: Option<Command>,
    /// The conversion that -f names.
    #[command(flatten)]
    pub(super) convert: ConvertArgs,
}

/// Commands beside the conversions.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// distributed_weight_transfer with the defaults of the original's simplified form: llama2-7b, n ranks to -w ranks.
    NToM(Box<NToMArgs>),
    /// Lay out the original scripts' tree (scripts, model/llama2_7b/, env/), from which their commands can be typed.
    Scripts(ScriptsArgs),
    /// Lay out a small example model (Hugging Face, MindSpore, a training run), on which every conversion can be tried.
    Example(ExampleArgs),
    /// Show what a checkpoint, a rank directory or a strategy file holds.
    Inspect(InspectArgs),
    /// Compare two checkpoints bit for bit, whatever their rank counts, fusion and formats.
    Verify(Box<VerifyArgs>),
    /// Join the manifests that --local-output left on several machines, and prove that together they are whole.
    MergeManifest(MergeArgs),
    /// Show, merge, make and convert strategy files.
    #[command(subcommand)]
    Strategy(StrategyCommand),
    /// Does the strategy fit the checkpoint? Lists what is wrong and what to do; exit status 1 when something is.
    Doctor(DoctorArgs),
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(super) enum Function {
    /// n ranks to m ranks.
    DistributedWeightTransfer,
    /// Training checkpoint to inference checkpoint.
    TrainToInfer,
    /// Floating-point to int8, by the arithmetic of golden-stick.
    QuantWeight,
    /// Hugging Face, PyTorch or Meta to MindSpore.
    PtToMs,
    /// MindSpore to Hugging Face.
    MsToPt,
}

/// A precision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum PrecisionArg {
    /// IEEE half.
    Fp16,
    /// bfloat16.
    Bf16,
    /// IEEE single.
    Fp32,
    /// As in the source, tensor by tensor.
    Keep,
    /// int8 weights.
    W8a16,
    /// int8 weights and activations.
    W8a8,
    /// int8 weights and KV cache.
    W8a16c8,
    /// int8 weights, activations and KV cache.
    W8a8c8,
    /// int8 KV cache.
    Fp16c8,
    /// int4 weights, with names of our own: an extension that no network of golden-stick's loads.
    W4a16,
}

/// Whose names quantised parameters have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum NamesArg {
    /// golden-stick 0.6.0 (with mindformers 1.3): t_scale, t_zp_neg.
    #[value(name = "gs-0.6")]
    Gs06,
    /// golden-stick 1.x: weight_scale, weight_zp (w8a16 only).
    #[value(name = "gs-1.x")]
    Gs1x,
    /// Round-to-nearest: _handler, _weight_quantizer; scales and quotients in fp32 (w8a16 only).
    Rtn,
}

/// A file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum FormatArg {
    /// MindSpore's protobuf.
    Ckpt,
    /// Hugging Face's safetensors.
    Safetensors,
    /// PyTorch's pickled .bin (ms_to_pt).
    Bin,
}

/// How .ckpt files are laid out. Both are the same parameters to MindSpore.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum CkptRecordsArg {
    /// With padding that lets data go straight from source to target.
    Aligned,
    /// Byte for byte as MindSpore writes them.
    Canonical,
}

/// The order of rows in fused parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum FusionArg {
    /// Each rank's q, k, v and gate, up one after the other (mindformers up to 1.3).
    RankConcat,
    /// Grouped by kv head; gate and up row by row in turn (mindformers from 1.4 on).
    Grouped,
}

/// Options of a conversion.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own on the command line")]
#[derive(Clone, Debug, Args)]
pub(super) struct ConvertArgs {
    /// What to do.
    #[arg(short = 'f', long, value_enum)]
    pub(super) function: Option<Function>,
    /// Precision of the target; floating-point parameters are cast to it.
    #[arg(short = 'p', long, value_enum)]
    pub(super) precision: Option<PrecisionArg>,
    /// Number of target ranks.
    #[arg(short = 'w', long = "world_size", aliases = ["world-size", "world_size_a", "world_size_1"])]
    pub(super) world_size: Option<u32>,
    /// mindformers yaml of the target, or a built-in model: llama2_7b, llama2_13b, llama2_70b, llama3_8b, llama3_70b, qwen2_7b.
    #[arg(short = 'y', long = "yaml_path", alias = "yaml-path", value_name = "YAML|MODEL")]
    pub(super) yaml_path: Option<String>,
    /// [-sc] Source checkpoint: a directory of rank_<n>/ directories, a model directory, or a file.
    #[arg(long = "src_ckpt_path", aliases = ["src-ckpt-path", "src_ckpt_path_a", "src_ckpt_path_1"], value_name = "PATH")]
    pub(super) src_ckpt_path: Option<PathBuf>,
    /// [-dc] Directory below which the target is made.
    #[arg(
        long = "dst_ckpt_path",
        aliases = ["dst-ckpt-path", "dst_ckpt_path_a", "dst_ckpt_path_1"],
        value_name = "DIR",
        default_value = "./infer_ckpt"
    )]
    pub(super) dst_ckpt_path: PathBuf,
    /// [-is] Directory below which the target's strategy files are made.
    #[arg(
        long = "infer_strategy_file",
        alias = "infer-strategy-file",
        value_name = "DIR",
        default_value = "./infer_strategy"
    )]
    pub(super) infer_strategy_file: PathBuf,
    /// [-ss] Strategy of the source: a file, or a directory of per-rank or per-stage files.
    #[arg(long = "src_strategy", alias = "src-strategy", value_name = "PATH")]
    pub(super) src_strategy: Option<PathBuf>,
    /// [-ds] Strategy of the target, instead of a number of ranks.
    #[arg(long = "dst_strategy", alias = "dst-strategy", value_name = "PATH")]
    pub(super) dst_strategy: Option<PathBuf>,
    /// Order of rows in the source's fused parameters. Default: as the manifest.json of the conversion that made it says, else
    /// rank-concat.
    #[arg(long = "src-fusion", value_enum)]
    pub(super) src_fusion: Option<FusionArg>,
    /// Order of rows in the target's fused parameters. Default: grouped where the yaml is for mindformers 1.4 or later, else as
    /// the manifest of the source says, else rank-concat.
    #[arg(long = "dst-fusion", value_enum)]
    pub(super) dst_fusion: Option<FusionArg>,
    /// Attention heads of the model, where neither -y, a configuration nor the shapes say. One of both is enough.
    #[arg(long, value_name = "N")]
    pub(super) heads: Option<u64>,
    /// Key/value heads of the model, as --heads.
    #[arg(long = "kv-heads", alias = "kv_heads", value_name = "N")]
    pub(super) kv_heads: Option<u64>,
    /// Let --src-fusion and --dst-fusion decide even against a manifest or a yaml.
    #[arg(long = "force-fusion")]
    pub(super) force_fusion: bool,
    /// [-qkv] Whether the target is fused; overrides the yaml's qkv_concat. Default without a yaml: as the source.
    #[arg(long = "qkv_concat", aliases = ["qkv-concat", "is_qkv_concat"], value_name = "BOOL")]
    pub(super) qkv_concat: Option<bool>,
    /// Whether embedding and lm_head stay whole on every target rank; overrides the yaml's vocab_emb_dp.
    #[arg(long = "vocab_emb_dp", alias = "vocab-emb-dp", value_name = "BOOL")]
    pub(super) vocab_emb_dp: Option<bool>,
    /// Precision of the norms, when it is not -p's.
    #[arg(long = "norm-dtype", value_enum)]
    pub(super) norm_dtype: Option<PrecisionArg>,
    /// Format of the target. Default: as the source.
    #[arg(long, value_enum)]
    pub(super) format: Option<FormatArg>,
    /// Most bytes of tensors in a file of a whole-model directory: ms_to_pt (default 5GB), or -w 1 with safetensors, which
    /// then writes such a directory with an index.
    #[arg(long = "max-shard-size", value_name = "SIZE")]
    pub(super) max_shard_size: Option<ByteSize>,
    /// Directory with the config.json and tokenizer of the model, where the source has none (ms_to_pt).
    #[arg(long = "hf-config", value_name = "DIR")]
    pub(super) hf_config: Option<PathBuf>,
    /// Whether lm_head is the embedding, where neither -y nor a config.json says so.
    #[arg(long = "tie-word-embeddings", alias = "tie_word_embeddings", value_name = "BOOL")]
    pub(super) tie_word_embeddings: Option<bool>,
    /// Write MindSpore's CRC trailer (.ckpt only).
    #[arg(long)]
    pub(super) crc: bool,
    /// Do not check the CRCs that the source's files state, which costs one more read of them.
    #[arg(long = "no-crc-check")]
    pub(super) no_crc_check: bool,
    /// Compare the source with the sums in the manifest.json of the conversion that made it, which costs one more read of it.
    #[arg(long = "check-source")]
    pub(super) check_source: bool,
    /// How .ckpt files are laid out.
    #[arg(long = "ckpt-records", value_enum, default_value = "aligned")]
    pub(super) ckpt_records: CkptRecordsArg,
    /// Leave out source parameters, and files that are carried along, whose names match (with * and ?). May be given several
    /// times.
    #[arg(long, value_name = "PATTERN")]
    pub(super) ignore: Vec<String>,
    /// Compare replicas of large parameters too, which reads them once more. Small ones are always compared.
    #[arg(long = "check-replicas")]
    pub(super) check_replicas: bool,
    /// Print the plan and stop.
    #[arg(long = "dry-run")]
    pub(super) dry_run: bool,
    /// Replace an existing target, if all that it holds was made by a conversion.
    #[arg(long)]
    pub(super) overwrite: bool,
    /// Do not flush to the disk before publishing.
    #[arg(long = "no-sync")]
    pub(super) no_sync: bool,
    /// [-ts] Strategy of the training run (train_to_infer, ms_to_pt): a file, or a directory of per-rank or per-stage files.
    #[arg(long = "train_strategy_file", alias = "train-strategy-file", value_name = "PATH")]
    pub(super) train_strategy_file: Option<PathBuf>,
    /// [-pp] Pipeline stages of the training run (train_to_infer, ms_to_pt). The strategy tells; where given, it is checked.
    #[arg(long = "pipeline_stage", alias = "pipeline-stage")]
    pub(super) pipeline_stage: Option<u32>,
    /// [-tm] 1 or 2 (train_to_infer): both give the same result.
    #[arg(long = "train_to_infer_mode", alias = "train-to-infer-mode")]
    pub(super) train_to_infer_mode: Option<String>,
    /// Options of train_to_infer.
    #[command(flatten)]
    pub(super) train: TrainArgs,
    /// Run the model on this data set to gather the statistics of --stats: boolq, squad1.1 or wikitext2 (quant_weight).
    #[arg(short = 'd', long = "dataset_name", alias = "dataset-name")]
    pub(super) dataset_name: Option<String>,
    /// [-dp] Calibration data file (quant_weight).
    #[arg(long = "dataset_path", alias = "dataset-path", value_name = "PATH")]
    pub(super) dataset_path: Option<PathBuf>,
    /// Options of calibration.
    #[command(flatten)]
    pub(super) calibrate: CalibrateArgs,
    /// Whose names quantised parameters get (quant_weight).
    #[arg(long, value_enum, default_value = "gs-0.6")]
    pub(super) names: NamesArg,
    /// One scale for each 64 or 128 columns of a row instead of one for the row, with names of our own: an extension that no
    /// network of golden-stick's loads (w8a16, w4a16).
    #[arg(long = "group-size", value_name = "64|128")]
    pub(super) group_size: Option<u64>,
    /// Statistics of activations, as docs/en/statistics.md describes them (quant_weight but for w8a16).
    #[arg(long, value_name = "FILE")]
    pub(super) stats: Option<PathBuf>,
    /// SmoothQuant: how much of the activations' outliers goes to the weights, between 0 and 1 (w8a8, w8a8c8).
    #[arg(long, default_value_t = 0.5)]
    pub(super) alpha: f64,
    /// Leave linear layers whose names hold this (such as w2, or layers.0.) as they are (quant_weight). May be given several times.
    #[arg(long = "keep-float", value_name = "TEXT")]
    pub(super) keep_float: Vec<String>,
    /// Do not smooth (w8a8, w8a8c8).
    #[arg(long = "no-smooth")]
    pub(super) no_smooth: bool,
    /// How the work is done.
    #[command(flatten)]
    pub(super) run: RunArgs,
    /// Who does which part of it.
    #[command(flatten)]
    pub(super) cluster: ClusterArgs,
}

impl ConvertArgs {
    /// The numbers of heads, as far as they are stated.
    pub(super) fn heads(&self) -> Heads {
        Heads { heads: self.heads, kv_heads: self.kv_heads }
    }
}

/// Options of `n-to-m`: those of a conversion, with other defaults.
#[derive(Clone, Debug, Args)]
#[command(mut_arg("function", |arg| arg.hide(true)))]
#[command(mut_arg("world_size", |arg| arg.required(true)))]
#[command(mut_arg("src_ckpt_path", |arg| arg.required(true)))]
#[command(mut_arg("precision", |arg| arg.help("Precision of the target. Default: fp16")))]
#[command(mut_arg("yaml_path", |arg| arg.help("mindformers yaml of the target, or a built-in model. Default: llama2_7b")))]
#[command(mut_arg("qkv_concat", |arg| {
    arg.help("[-qkv] Whether the target is fused. Default: as the yaml says; without one, true")
}))]
#[command(mut_arg("dst_ckpt_path", |arg| arg.hide_default_value(true).help(
    "[-dc] Directory below which the target is made. Default: ../ckpt/llama2_7b/qkv/<w>_llama-2-7b (noqkv where the target is \
     not fused)"
)))]
#[command(mut_arg("infer_strategy_file", |arg| arg.hide_default_value(true).help(
    "[-is] Directory below which the strategies are made. Default: ../strategy/llama2_7b/qkv/<w>_llama-2-7b (noqkv where the \
     target is not fused); with -dc, <dc>/strategy/llama2_7b/qkv/<w>_llama-2-7b"
)))]
pub(super) struct NToMArgs {
    /// The conversion.
    #[command(flatten)]
    pub(super) convert: ConvertArgs,
}

/// Options of `scripts`.
#[derive(Clone, Debug, Args)]
pub(super) struct ScriptsArgs {
    /// Where the tree is laid out; what is there already stays, and nothing is replaced.
    pub(super) dir: PathBuf,
}

/// Options of `example`.
#[derive(Clone, Debug, Args)]
pub(super) struct ExampleArgs {
    /// Where the example is laid out; what is there already stays, and nothing is replaced.
    pub(super) dir: PathBuf,
}

/// Options of `inspect`.
#[derive(Clone, Debug, Args)]
pub(super) struct InspectArgs {
    /// A checkpoint, a rank directory, a file, or strategy files.
    pub(super) path: PathBuf,
    /// Strategy of the checkpoint, to show full shapes.
    #[arg(long = "src_strategy", alias = "src-strategy", value_name = "PATH")]
    pub(super) src_strategy: Option<PathBuf>,
    /// The model, to show full shapes.
    #[arg(short = 'y', long = "yaml_path", alias = "yaml-path", value_name = "YAML|MODEL")]
    pub(super) yaml_path: Option<String>,
    /// Do not check the CRCs that the files state, which reads them whole.
    #[arg(long = "no-crc-check")]
    pub(super) no_crc_check: bool,
    /// Print machine-readable results.
    #[arg(long)]
    pub(super) json: bool,
}

/// Options of `verify`.
#[derive(Clone, Debug, Args)]
pub(super) struct VerifyArgs {
    /// One checkpoint.
    pub(super) a: PathBuf,
    /// The other.
    pub(super) b: PathBuf,
    /// [-ss] Strategy of the first.
    #[arg(long = "src_strategy", alias = "src-strategy", value_name = "PATH")]
    pub(super) src_strategy: Option<PathBuf>,
    /// [-ds] Strategy of the second.
    #[arg(long = "dst_strategy", alias = "dst-strategy", value_name = "PATH")]
    pub(super) dst_strategy: Option<PathBuf>,
    /// Order of rows in the first one's fused parameters. Default: as its manifest.json says, else rank-concat.
    #[arg(long = "src-fusion", value_enum)]
    pub(super) src_fusion: Option<FusionArg>,
    /// Order of rows in the second one's fused parameters. Default: as its manifest.json says, else rank-concat.
    #[arg(long = "dst-fusion", value_enum)]
    pub(super) dst_fusion: Option<FusionArg>,
    /// Let --src-fusion and --dst-fusion decide even against a manifest.
    #[arg(long = "force-fusion")]
    pub(super) force_fusion: bool,
    /// A is unquantised and B is w8a16 (or w4a16) of it: allow B's weights, dequantised, to be so many steps (scales of their row
    /// or group) off. A rounded element is half a step off; 0.6 leaves space for the rounding of fp16.
    #[arg(long, value_name = "STEPS")]
    pub(super) tolerance: Option<f64>,
    /// mindformers yaml or built-in model.
    #[arg(short = 'y', long = "yaml_path", alias = "yaml-path", value_name = "YAML|MODEL")]
    pub(super) yaml_path: Option<String>,
    /// Attention heads of the model, for grouped parameters without -y.
    #[arg(long, value_name = "N")]
    pub(super) heads: Option<u64>,
    /// Key/value heads of the model, as --heads.
    #[arg(long = "kv-heads", alias = "kv_heads", value_name = "N")]
    pub(super) kv_heads: Option<u64>,
    /// Leave out parameters whose names match (with * and ?).
    #[arg(long, value_name = "PATTERN")]
    pub(super) ignore: Vec<String>,
    /// How the work is done.
    #[command(flatten)]
    pub(super) run: ReadArgs,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_letter_options_are_long_options() {
        let typed = ["ckpt-convert", "-f", "distributed_weight_transfer", "-sc", "a", "-dc=b", "-w", "4", "-dp", "x"];
        let cli = Cli::try_parse_from(expand(typed.iter().map(OsString::from))).unwrap();
        assert_eq!(cli.convert.src_ckpt_path.unwrap(), PathBuf::from("a"));
        assert_eq!(cli.convert.dst_ckpt_path, PathBuf::from("b"));
        assert_eq!(cli.convert.dataset_path.unwrap(), PathBuf::from("x"));
        assert_eq!(cli.convert.precision, None);
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
