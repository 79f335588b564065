//! What makes a plan impossible.

use std::path::PathBuf;

use super::evidence::Unread;
use crate::layout::{CoverFault, LayoutError};
use crate::model::SpecError;
use crate::model::naming::HEAD;
use crate::model::{ModelError, QuantSigns};
use crate::tensor::Shape;

/// What makes a plan impossible. Each names the file or tensor at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// A source that was to be read for evidence and cannot be.
    #[error(transparent)]
    Unread(#[from] Unread),
    /// Two files of one rank hold the same tensor.
    #[error("rank {rank} holds `{name}` twice: in {first} and in {second}")]
    HeldTwice {
        /// The rank.
        rank: u32,
        /// The tensor.
        name: String,
        /// One file.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// A rank lacks a tensor that it must hold.
    #[error("`{name}`: no data for rank(s) {ranks} ({checkpoint})")]
    MissingRanks {
        /// The tensor.
        name: String,
        /// The ranks without it.
        ranks: String,
        /// What is known of the checkpoint.
        checkpoint: String,
    },
    /// A pipeline stage of which nothing is there.
    #[error("stage {stage} (rank {first} to rank {last}) is missing")]
    MissingStage {
        /// The stage.
        stage: u64,
        /// Its first rank.
        first: u64,
        /// Its last rank.
        last: u64,
    },
    /// Ranks that are missing and that no replica replaces.
    #[error("missing without a replica: {} of {}", rank_list(.ranks), list(.names))]
    NoReplica {
        /// The ranks.
        ranks: Vec<u64>,
        /// The parameters of which they hold what no other rank does.
        names: Vec<String>,
    },
    /// Entries that are neither known to be the model's nor known to be training state.
    #[error("neither known as parameters of the model nor as training state: {}", list(.0))]
    UnknownEntries(Vec<String>),
    /// Adapters, of which nothing was said.
    #[error("the checkpoint holds LoRA adapters: {}", list(.0))]
    Adapters(Vec<String>),
    /// An adapter that cannot be merged.
    #[error("the LoRA adapter of `{name}` cannot be merged: {why}")]
    Adapter {
        /// The weight, or the factor where the weight is not known.
        name: String,
        /// Why.
        why: String,
    },
    /// Ranks disagree about a tensor's dtype or shape.
    #[error("`{name}` is {first} in {first_path} but {second} in {second_path}")]
    RanksDisagree {
        /// The tensor.
        name: String,
        /// What one file says.
        first: String,
        /// Which file.
        first_path: PathBuf,
        /// What another says.
        second: String,
        /// Which file.
        second_path: PathBuf,
    },
    /// A tensor's shape is not the one that the layout or the configuration asks for.
    #[error("`{name}` in {path} has the shape {found}, {expected_by} asks for {expected}")]
    WrongShape {
        /// The tensor.
        name: String,
        /// The file.
        path: PathBuf,
        /// What is there.
        found: Shape,
        /// What should.
        expected: Shape,
        /// The source of the statement.
        expected_by: String,
    },
    /// The target's strategy states another full shape.
    #[error("`{name}` has the full shape {tensor}, the target strategy is for {strategy}")]
    StrategyShape {
        /// The tensor.
        name: String,
        /// The shape that the strategy states.
        strategy: Shape,
        /// The tensor's.
        tensor: Shape,
    },
    /// A layout does not fit a tensor.
    #[error("`{name}`: {source}")]
    Layout {
        /// The tensor.
        name: String,
        /// Why.
        source: LayoutError,
    },
    /// The family of the model does not say where a tensor's elements are.
    #[error("`{name}`: {source}")]
    Model {
        /// The tensor.
        name: String,
        /// Why.
        source: ModelError,
    },
    /// The model's dimensions forbid the rank count, or the configuration is wrong.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// Tensors that neither rules nor strategies place.
    #[error("nothing says how to place these {side} parameters: {}", list(.names))]
    Unplaced {
        /// `source` or `target`.
        side: &'static str,
        /// The tensors.
        names: Vec<String>,
    },
    /// Names of a foreign source that its family does not have.
    #[error("nothing says how to place these source parameters: {}", list(.0))]
    UnknownNames(Vec<String>),
    /// Tensors that no layout knows and that differ between ranks.
    #[error("these parameters are in no strategy and differ between ranks: {}", list(.0))]
    Differ(Vec<String>),
    /// Training state in a checkpoint that should hold a model.
    #[error("the checkpoint holds training state: {}", list(.0))]
    TrainingState(Vec<String>),
    /// Parameters that the model must have.
    #[error("the checkpoint lacks {}", list(.0))]
    Lacks(Vec<String>),
    /// A family that has names of other programs only.
    #[error("the family {0} has no scheme of MindSpore's names")]
    NoOwnNames(&'static str),
    /// Parameters for which a family of Hugging Face's has no name.
    #[error("Hugging Face's {family} has no parameters for {}", list(.names))]
    NoForeignName {
        /// The family.
        family: &'static str,
        /// The parameters.
        names: Vec<String>,
    },
    /// Layers that do not hold the same parameters.
    #[error("layer {layer} has no `{suffix}`, other layers have")]
    UnevenLayers {
        /// The layer.
        layer: u32,
        /// The parameter.
        suffix: String,
    },
    /// A parameter whose shape in one layer is not that in the others.
    #[error(
        "`{name}` is {shape}, but {}",
        if *.count > 1 { format!("it is {usual} in {count} other layers, as `{usual_name}`") } else { format!("`{usual_name}` is {usual}") }
    )]
    OddShape {
        /// The parameter.
        name: String,
        /// Its shape.
        shape: Shape,
        /// The same parameter of another layer.
        usual_name: String,
        /// Its shape there.
        usual: Shape,
        /// How many layers have that.
        count: usize,
    },
    /// A rank's file that is another's.
    #[error("rank {rank} holds the same weights as rank {of}: {path} is a copy of {of_path}")]
    CopiedRank {
        /// The rank.
        rank: u32,
        /// Its file.
        path: PathBuf,
        /// The other rank.
        of: u32,
        /// The other's file.
        of_path: PathBuf,
    },
    /// A strategy of the target that cuts through heads.
    #[error("the target's strategy cuts `{name}` into {parts} parts, which the {kv_heads} kv heads do not divide into")]
    StrategyHeads {
        /// The parameter.
        name: String,
        /// Its parts.
        parts: u64,
        /// Key/value heads of the model.
        kv_heads: u64,
    },
    /// Numbers of heads that are not the model's.
    #[error("{0}")]
    Heads(String),
    /// A cut that may run through a head.
    #[error(
        "over {ranks} ranks each gets {} of {query} q rows and {} of {key} k rows{}, and nothing says how many heads there are",
        query / ranks, key / ranks, cut_text(.cut)
    )]
    HeadsUnknown {
        /// Rows of q.
        query: u64,
        /// Rows of k.
        key: u64,
        /// Ranks of the target.
        ranks: u64,
        /// Common sizes of a head that would be cut.
        cut: Vec<u64>,
    },
    /// Shapes from which the model cannot be inferred.
    #[error("the model cannot be inferred from the checkpoint: {0}")]
    Ambiguous(String),
    /// A named model that is not the one of the configuration beside the checkpoint.
    #[error("-y names another model than the configuration beside the checkpoint: {what} {named}, not {found}")]
    OtherModelNamed {
        /// What differs.
        what: &'static str,
        /// Its value by -y.
        named: u64,
        /// Its value by the configuration.
        found: u64,
    },
    /// The model that -y names is of a family with other parameters than the source's names are.
    #[error(
        "-y names a model of the family {named}, whose parameters are not those of {found}, of which the source's names are"
    )]
    OtherFamily {
        /// By -y.
        named: String,
        /// By the names.
        found: String,
    },
    /// A fused tensor whose rows do not divide into its parts.
    #[error("`{name}` has {rows} rows over all ranks, which is not {wanted}")]
    FusedRows {
        /// The tensor.
        name: String,
        /// Its rows.
        rows: u64,
        /// What was expected.
        wanted: String,
    },
    /// Parts of a fused parameter whose inputs were scaled differently.
    #[error("`{0}` cannot be fused: its parts have different inputs (they were smoothed one by one)")]
    InputsDiffer(String),
    /// A checkpoint that is quantised otherwise than requested, or at all.
    #[error("{0}")]
    Quantised(String),
    /// Weights that are not floating-point numbers, or other signs that the model is quantised in a way that is not known.
    #[error("the source is quantised: {}", quantised_text(.weights, .signs))]
    QuantisedSource {
        /// The weights that are not floating-point numbers, each with its dtype.
        weights: Vec<String>,
        /// What else shows it.
        signs: Box<QuantSigns>,
    },
    /// Whole numbers of a quantised checkpoint without what they mean.
    #[error("the source is quantised, {}", scales_text(.weights, .left_out))]
    ScalesMissing {
        /// The weights without any scale.
        weights: Vec<String>,
        /// What belongs to weights and is left out.
        left_out: Vec<String>,
    },
    /// No `lm_head`, and nothing says whether the embedding is meant.
    #[error(
        "the source has no `{}`, and nothing says whether it is the embedding (as `tie_word_embeddings` of a config.json would) or is \
         missing",
        HEAD
    )]
    NoHead,
    /// Columns with one scale that the target's layout cuts.
    #[error(
        "`{name}`: the target's layout cuts groups of {size} columns that have one scale; take another --group-size, or none"
    )]
    Groups {
        /// The weight.
        name: String,
        /// Columns of a group.
        size: u64,
    },
    /// Statistics that are not this model's.
    #[error("the statistics do not fit the model: {0}")]
    Statistics(String),
    /// Strategy files that contradict each other.
    #[error("strategy files {first} and {second} {why}")]
    Strategies {
        /// One file.
        first: PathBuf,
        /// The other.
        second: PathBuf,
        /// How they contradict.
        why: String,
    },
    /// A set of strategy files that is not whole.
    #[error("the strategy {0}")]
    BadStrategySet(String),
    /// The strategy is for another number of ranks.
    #[error("the {side} strategy is for {strategy} ranks, not for {ranks}")]
    StrategyRanks {
        /// `source` or `target`.
        side: &'static str,
        /// Ranks of the strategy.
        strategy: u64,
        /// Ranks given.
        ranks: u64,
    },
    /// A dtype cannot be converted to another.
    #[error("`{name}`: cannot convert {from} to {to}")]
    Cast {
        /// The tensor.
        name: String,
        /// The dtype in the source.
        from: &'static str,
        /// The requested dtype.
        to: &'static str,
    },
    /// The proof failed: a byte of an output would be written never or twice.
    #[error("`{name}` of rank {rank} would not be written exactly once: {}", cover_text(.fault))]
    Cover {
        /// The tensor.
        name: String,
        /// The rank.
        rank: u32,
        /// The first element at fault.
        fault: CoverFault,
    },
    /// The proof failed: a read past the end of a source tensor.
    #[error("`{name}` of rank {rank} would read past the end of its source")]
    OutOfBounds {
        /// The tensor.
        name: String,
        /// The rank.
        rank: u32,
    },
    /// A header cannot be written.
    #[error("rank {rank}: {source}")]
    Header {
        /// The rank.
        rank: u32,
        /// Why.
        source: crate::formats::FormatError,
    },
}

/// The first few names and how many more there are.
pub fn list(names: &[String]) -> String {
    const SHOWN: usize = 8;
    let shown = names.iter().take(SHOWN).map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn quantised_text(weights: &[String], signs: &QuantSigns) -> String {
    let signs = if signs.is_empty() { String::new() } else { format!("it holds {signs}") };
    match (weights.len(), signs.is_empty()) {
        (0, _) => signs,
        (_, true) => format!("these weights are not floating-point: {}", list(weights)),
        (_, false) => format!("these weights are not floating-point: {}; {signs}", list(weights)),
    }
}

fn scales_text(weights: &[String], left_out: &[String]) -> String {
    if left_out.is_empty() {
        return format!("and holds no scales for {}", list(weights));
    }
    format!("and its weights mean nothing without what would be left out: {}", list(left_out))
}

/// `rank 3`, or `ranks 3, 5, 7 and 9 more`.
fn rank_list(ranks: &[u64]) -> String {
    const SHOWN: usize = 16;
    let shown = ranks.iter().take(SHOWN).map(u64::to_string).collect::<Vec<_>>().join(", ");
    let more = ranks.len().saturating_sub(SHOWN);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("rank{} {shown}{rest}", if ranks.len() == 1 { "" } else { "s" })
}

/// Which common sizes of a head a cut would not leave whole.
fn cut_text(sizes: &[u64]) -> String {
    let sizes: Vec<String> = sizes.iter().map(u64::to_string).collect();
    if sizes.is_empty() {
        return String::new();
    }
    format!(", which cuts heads of {} rows", sizes.join(" or "))
}

fn cover_text(fault: &CoverFault) -> String {
    match fault {
        CoverFault::Gap(at) => format!("nothing writes element {at}"),
        CoverFault::Overlap(at) => format!("element {at} is written twice"),
        CoverFault::Outside(at) => format!("something is written past element {at}"),
    }
}
