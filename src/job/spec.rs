//! The requested job, as a value: resolved, serialisable, and without a word of how it was typed.
//!
//! Serialised, a job is one flat map whose keys are the names of the command line's options. What the manifest lists as options,
//! and how hosts know that they were given the same job, is that map restricted to what decides ([`super::fields`]).

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::choices::{CkptRecords, Format, Function, Fusion, Lora, Names, Precision, Reader, Reflink, Writer, Writes};
use super::serialised::{path, paths, seconds, step};
use crate::Error;
use crate::cluster::{Identity, RankTable};
use crate::input::load_model;
use crate::plan::Width;

/// A requested conversion.
///
/// Made by the function's constructor; every field is public and says which option of the command line it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Job {
    /// `-f`.
    pub function: Function,
    /// `-p`: the type of the target's floating-point parameters, or how it is quantised.
    pub precision: Precision,
    /// From where.
    #[serde(flatten)]
    pub source: Source,
    /// To where.
    #[serde(flatten)]
    pub target: Target,
    /// Which model it is.
    #[serde(flatten)]
    pub model: Model,
    /// What is left out, kept, merged or cast.
    #[serde(flatten)]
    pub edits: Edits,
    /// How weights are quantised.
    #[serde(flatten)]
    pub quantise: Quantise,
    /// How activations are observed.
    #[serde(flatten)]
    pub calibrate: Calibrate,
    /// What is checked before anything is written.
    #[serde(flatten)]
    pub checks: Checks,
    /// How the work is done.
    #[serde(flatten)]
    pub run: Run,
    /// By whom.
    #[serde(flatten)]
    pub cluster: Cluster,
}

/// The source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Source {
    /// `-sc`: a directory or a file.
    #[serde(rename = "source", with = "path")]
    pub path: PathBuf,
    /// `-ss`: its strategy.
    #[serde(rename = "src_strategy", with = "paths")]
    pub strategy: Option<PathBuf>,
    /// `--src-fusion`: the order of its fused rows.
    #[serde(rename = "src_fusion")]
    pub fusion: Option<Fusion>,
    /// `-ts`: the strategy of the training run that it is from.
    #[serde(rename = "train_strategy_file", with = "paths")]
    pub train_strategy: Option<PathBuf>,
    /// `--step`: which save of the training run.
    #[serde(with = "step")]
    pub step: Option<String>,
    /// `--latest`: the last save that every rank has.
    pub latest: bool,
    /// `-pp`: the stages of the training run, which are checked.
    #[serde(rename = "pipeline_stage")]
    pub stages: Option<u32>,
    /// `-tm`: the original's mode, which makes no difference.
    #[serde(rename = "train_to_infer_mode")]
    pub mode: Option<String>,
}

/// The target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Target {
    /// `-dc`: the directory that it goes into.
    #[serde(rename = "dst_ckpt_path", with = "path")]
    pub dir: PathBuf,
    /// `-is`: the directory that its strategies go into.
    #[serde(rename = "infer_strategy_file", with = "path")]
    pub strategies: PathBuf,
    /// `-w`: its ranks.
    #[serde(rename = "world_size")]
    pub ranks: Option<u32>,
    /// `-ds`: its strategy.
    #[serde(rename = "dst_strategy", with = "paths")]
    pub strategy: Option<PathBuf>,
    /// `--overwrite`: whether one that is there is replaced.
    pub overwrite: bool,
    /// `--qkv_concat`: whether it is fused.
    #[serde(rename = "qkv_concat")]
    pub fused: Option<bool>,
    /// `--dst-fusion`: the order of its fused rows.
    #[serde(rename = "dst_fusion")]
    pub fusion: Option<Fusion>,
    /// `--vocab_emb_dp`: whether embedding and head are whole on every rank.
    #[serde(rename = "vocab_emb_dp")]
    pub vocabulary_whole: Option<bool>,
    /// `--format`.
    pub format: Option<Format>,
    /// `--max-shard-size`: most bytes of tensors in one file of a whole model.
    pub max_shard_size: Option<u64>,
    /// `--hf-config`: the directory of the `config.json` that goes with a Hugging Face target.
    #[serde(with = "paths")]
    pub hf_config: Option<PathBuf>,
    /// `--ckpt-records`.
    pub ckpt_records: CkptRecords,
    /// `--crc`: whether `.ckpt` files get MindSpore's CRC trailer.
    pub crc: bool,
    /// `--strip-only`: the ranks of the source, without the training state.
    pub strip_only: bool,
}

impl Default for Target {
    fn default() -> Self {
        Self {
            dir: "./infer_ckpt".into(),
            strategies: "./infer_strategy".into(),
            ranks: None,
            strategy: None,
            overwrite: false,
            fused: None,
            fusion: None,
            vocabulary_whole: None,
            format: None,
            max_shard_size: None,
            hf_config: None,
            ckpt_records: CkptRecords::Aligned,
            crc: false,
            strip_only: false,
        }
    }
}

/// The model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Model {
    /// `-y`: a mindformers yaml or the name of a built-in model.
    #[serde(rename = "yaml_path")]
    pub yaml: Option<String>,
    /// `--heads`.
    pub heads: Option<u64>,
    /// `--kv-heads`.
    pub kv_heads: Option<u64>,
    /// `--tie-word-embeddings`: whether `lm_head` is the embedding.
    #[serde(rename = "tie_word_embeddings")]
    pub tied: Option<bool>,
    /// `--family`: files of model families, known to the whole process once a job has named them.
    pub families: Vec<PathBuf>,
    /// `--force-fusion`: whether the requested orders overrule a manifest and a yaml.
    pub force_fusion: bool,
}

/// What is left out, kept, merged or cast.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Edits {
    /// `--norm-dtype`: the precision of the norms, where it is another.
    #[serde(rename = "norm_dtype")]
    pub norms: Option<Precision>,
    /// `--ignore`: patterns of names that are left out.
    pub ignore: Vec<String>,
    /// `--keep`: patterns of entries of a training run that are parameters of the model.
    pub keep: Vec<String>,
    /// `--drop`: patterns of entries of a training run that are left out.
    pub drop: Vec<String>,
    /// `--lora`.
    pub lora: Option<Lora>,
    /// `--lora-alpha`.
    pub lora_alpha: Option<f64>,
}

/// How weights are quantised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Quantise {
    /// `--stats`: statistics of the activations.
    #[serde(with = "paths")]
    pub stats: Option<PathBuf>,
    /// `--names`: whose names quantised parameters have.
    pub names: Names,
    /// `--group-size`: columns of a row that share a scale.
    pub group_size: Option<u64>,
    /// `--keep-float`: parts of names of layers that stay in floating point.
    pub keep_float: Vec<String>,
    /// `--alpha`: the strength of `SmoothQuant`, from 0 to 1.
    pub alpha: f64,
    /// `--no-smooth`.
    pub no_smooth: bool,
}

impl Default for Quantise {
    fn default() -> Self {
        Self { stats: None, names: Names::Gs06, group_size: None, keep_float: Vec::new(), alpha: 0.5, no_smooth: false }
    }
}

/// How activations are observed: the model is run on a data set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Calibrate {
    /// `-d`: which data set.
    pub dataset_name: Option<String>,
    /// `-dp`: its file.
    #[serde(with = "paths")]
    pub dataset_path: Option<PathBuf>,
    /// `--tokenizer`.
    #[serde(with = "paths")]
    pub tokenizer: Option<PathBuf>,
    /// `--samples`: most that are run.
    pub samples: Option<u32>,
    /// `--seq-length`: tokens of a sample.
    pub seq_length: Option<u32>,
    /// `--rope-theta`: the base of the rotary embedding.
    pub rope_theta: Option<f64>,
    /// `--norm-eps`.
    pub norm_eps: Option<f64>,
    /// `--bos-token`.
    pub bos_token: Option<String>,
    /// `--eos-token`.
    pub eos_token: Option<String>,
}

/// What is checked before anything is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Checks {
    /// `--no-crc-check`: the CRCs that files state are not checked.
    #[serde(rename = "no_crc_check")]
    pub no_crc: bool,
    /// `--check-source`: the source is compared with the sums of its manifest.
    #[serde(rename = "check_source")]
    pub source: bool,
    /// `--check-replicas`: replicas of large parameters are compared too.
    #[serde(rename = "check_replicas")]
    pub replicas: bool,
}

/// How the work is done. `None` and `Auto`: as suits the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Run {
    /// How sources are read.
    #[serde(flatten)]
    pub reading: Reading,
    /// `--writes`.
    pub writes: Writes,
    /// `--writer`.
    pub writer: Writer,
    /// `--reflink`.
    pub reflink: Reflink,
    /// `--no-sync`: the target is not flushed before it is published.
    pub no_sync: bool,
}

impl Default for Run {
    fn default() -> Self {
        Self {
            reading: Reading::default(),
            writes: Writes::Auto,
            writer: Writer::Auto,
            reflink: Reflink::Auto,
            no_sync: false,
        }
    }
}

/// How sources are read. `None` and `Auto`: as suits the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reading {
    /// `--memory`: most bytes, apart from the page cache.
    pub memory: Option<u64>,
    /// `--workers`: threads.
    pub workers: Option<usize>,
    /// `--chunk`: bytes of the largest read or write, a power of two.
    pub chunk: Option<u64>,
    /// `--depth`: reads and writes in flight for each thread.
    pub depth: Option<usize>,
    /// `--reader`.
    pub reader: Reader,
}

impl Default for Reading {
    fn default() -> Self {
        Self { memory: None, workers: None, chunk: None, depth: None, reader: Reader::Auto }
    }
}

/// The processes that take part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cluster {
    /// Which part of the work is this process's. `None`: all of it.
    pub part: Option<Identity>,
    /// `--rank-table`: the file that says which ranks are whose.
    pub rank_table: Option<String>,
    /// What that file says.
    #[serde(skip)]
    pub(crate) table: Option<RankTable>,
    /// `--local-output`: each host writes its own ranks to its own target.
    pub local_output: bool,
    /// `--stale-after`: without a sign of life a host counts as dead.
    #[serde(with = "seconds")]
    pub stale_after: Duration,
    /// `--secure-every`: finished files are saved in groups of at least so many bytes.
    pub secure_every: u64,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            part: None,
            rank_table: None,
            table: None,
            local_output: false,
            stale_after: Duration::from_secs(60),
            secure_every: 16 << 30,
        }
    }
}

impl Model {
    /// Whether the named model expects q, k, v and gate, up fused, if it says.
    ///
    /// # Errors
    /// A name of no model; a yaml that cannot be read.
    pub fn is_fused(&self) -> Result<Option<bool>, Error> {
        let named = self.yaml.as_deref().map(load_model).transpose()?;
        Ok(named.and_then(|spec| spec.fused))
    }
}

impl Job {
    /// A job with nothing but what every job has.
    pub fn new(function: Function, precision: Precision, source: impl Into<PathBuf>) -> Self {
        Self {
            function,
            precision,
            source: Source { path: source.into(), ..Source::default() },
            target: Target::default(),
            model: Model::default(),
            edits: Edits::default(),
            quantise: Quantise::default(),
            calibrate: Calibrate::default(),
            checks: Checks::default(),
            run: Run::default(),
            cluster: Cluster::default(),
        }
    }

    /// From n ranks to m: the target is a new directory in `target`.
    pub fn transfer(source: impl AsRef<Path>, target: impl AsRef<Path>) -> Self {
        Self::between(Function::DistributedWeightTransfer, source.as_ref(), target.as_ref())
    }

    /// From the shards of a training run to the ranks of an inference checkpoint.
    pub fn train_to_infer(source: impl AsRef<Path>, target: impl AsRef<Path>) -> Self {
        Self::between(Function::TrainToInfer, source.as_ref(), target.as_ref())
    }

    /// From a checkpoint of PyTorch's, in Hugging Face's or in Meta's names, to rank files.
    pub fn pt_to_ms(source: impl AsRef<Path>, target: impl AsRef<Path>) -> Self {
        Self::between(Function::PtToMs, source.as_ref(), target.as_ref())
    }

    /// From rank files to a Hugging Face directory.
    pub fn ms_to_pt(source: impl AsRef<Path>, target: impl AsRef<Path>) -> Self {
        Self::between(Function::MsToPt, source.as_ref(), target.as_ref())
    }

    /// From unquantised ranks to quantised ones.
    pub fn quant_weight(source: impl AsRef<Path>, target: impl AsRef<Path>, precision: Precision) -> Self {
        Self::between(Function::QuantWeight, source.as_ref(), target.as_ref()).precision(precision)
    }

    fn between(function: Function, source: &Path, target: &Path) -> Self {
        let mut job = Self::new(function, Precision::Keep, source);
        target.clone_into(&mut job.target.dir);
        job.target.strategies = target.join("strategy");
        job
    }

    /// With this precision. Without one the source's is kept.
    #[must_use]
    pub fn precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// To so many ranks. Without it, or a strategy: one.
    #[must_use]
    pub fn ranks(mut self, ranks: u32) -> Self {
        self.target.ranks = Some(ranks);
        self
    }

    /// With the model named: a mindformers yaml or a built-in model.
    #[must_use]
    pub fn model(mut self, yaml: impl Into<String>) -> Self {
        self.model.yaml = Some(yaml.into());
        self
    }

    /// With q, k, v and gate, up of the target fused, or not.
    #[must_use]
    pub fn fused(mut self, fused: bool) -> Self {
        self.target.fused = Some(fused);
        self
    }

    /// With a target that is there replaced.
    #[must_use]
    pub fn overwrite(mut self) -> Self {
        self.target.overwrite = true;
        self
    }

    /// Whether the target is quantised by this job, rather than by an earlier one.
    pub(super) fn is_quantising(&self) -> bool {
        matches!(self.function, Function::QuantWeight | Function::TrainToInfer) && self.precision.quantises().is_some()
    }

    /// Whether golden-stick has no such form, so that it has names of our own.
    pub(super) fn quantises_beyond_golden_stick(&self) -> bool {
        let int4 = self.precision.quantises().is_some_and(|what| what.weights == Some(Width::Int4));
        self.quantise.group_size.is_some() || int4
    }

    /// Whether the model must be run first.
    pub(super) fn runs_the_model(&self) -> bool {
        self.function == Function::QuantWeight
            && self.precision.needs_statistics()
            && self.quantise.stats.is_none()
            && self.names_a_data_set()
    }

    /// Whether a data set is named, wholly or in part.
    pub(super) fn names_a_data_set(&self) -> bool {
        self.calibrate.dataset_name.is_some() || self.calibrate.dataset_path.is_some()
    }

    /// The strategy of the training run.
    pub(super) fn train_strategy(&self) -> Option<&Path> {
        self.source.train_strategy.as_deref().or(self.source.strategy.as_deref())
    }
}
