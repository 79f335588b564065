//! What was typed for a conversion, as far as it must be there.

use std::path::PathBuf;

use super::quantise::{quantised, quantises};
use crate::Error;
use crate::cli::args::{ConvertArgs, Function, LoraArg, PrecisionArg};
use crate::cli::commands::note;
use crate::cli::config;
use crate::engine::{Durability, Publish, Wishes};
use crate::input::{Made, RankGaps, load_model, load_version_sign};
use crate::job::fusion_order::{self, Order, TargetFacts, Typed};
use crate::job::reading::Opened;
use crate::model::FusionLayout;
use crate::plan::{self, MAX_RANKS, Precision};
use crate::report::Choice;
use crate::tensor::Dtype;

/// What was typed, as far as it must be there.
pub(super) struct Request {
    pub args: ConvertArgs,
    pub function: Function,
    pub source: PathBuf,
    pub precision: PrecisionArg,
    pub weights: Precision,
    pub norms: Precision,
    pub durability: Durability,
    pub wishes: Wishes,
    /// The orders of fused rows, once the source is open.
    pub orders: Option<Orders>,
    /// Our manifest beside the source, once that is open.
    pub made: Option<Made>,
}

/// In which order the rows of fused parameters are.
pub(super) struct Orders {
    pub source: Order,
    pub target: Order,
}

impl Request {
    pub(super) fn new(args: ConvertArgs) -> Result<Self, Error> {
        let (Some(function), Some(precision)) = (args.what.function, args.what.precision) else {
            return Err(Error::Usage("missing: -f or -p".to_owned()));
        };
        check_together(&args)?;
        if args.what.world_size == Some(0) {
            return Err(Error::Usage("-w 0: a checkpoint has at least one rank".to_owned()));
        }
        if let Some(ranks) = args.what.world_size.filter(|&ranks| u64::from(ranks) > MAX_RANKS) {
            return Err(Error::Usage(format!("-w {ranks}: at most {MAX_RANKS} ranks")));
        }
        let Some(source) = args.place.src_ckpt_path.clone() else {
            return Err(Error::Usage("missing: -sc".to_owned()));
        };
        let durability = if args.run.no_sync { Durability::Cached } else { Durability::Synced };
        // A network of quantised weights computes in fp16; what is resharded keeps what it has.
        let weights = match function {
            Function::QuantWeight => Precision::To(Dtype::F16),
            Function::TrainToInfer if quantises(precision).is_some() => Precision::To(Dtype::F16),
            _ => config::precision(precision),
        };
        Ok(Self {
            weights,
            norms: args.layout.norm_dtype.map_or(weights, config::precision),
            function,
            wishes: config::wishes(&args.run, durability)?,
            source,
            precision,
            durability,
            orders: None,
            made: None,
            args,
        })
    }

    /// Looks at what lies beside the source, and decides in which order fused rows are.
    pub(super) fn settle(&mut self, opened: &Opened, gaps: RankGaps) -> Result<(), Error> {
        let (args, input) = (&self.args, opened.input());
        let mut made = fusion_order::made(&self.source, &input.files)?;
        let fits = made.as_ref().map_or(Ok(()), |made| made.check(&self.source, &input.files, gaps));
        if let Err(stale) = fits {
            // No order of rows depends on it where the files are not rank files.
            if matches!(opened, Opened::Ours(_)) || args.files.check_source {
                return Err(stale.into());
            }
            note(&format!("{stale}; the manifest is not used"));
            made = None;
        }
        let yaml = args.layout.yaml_path.as_deref();
        let sign = yaml.map(load_version_sign).transpose()?.flatten();
        let sign = yaml.zip(sign);
        let same_ranks = args.train.strip_only;
        let ours = matches!(opened, Opened::Ours(_));
        let source_fused = ours && fusion_order::is_fused(input.files.iter().flat_map(|file| &file.entries));
        let typed = Typed::new("--src-fusion", args.layout.src_fusion, args.layout.force_fusion);
        let mut source = fusion_order::source_order(typed, source_fused, made.as_ref())?;
        let shown = if source_fused { plan::order_by_row_sizes(&input.source_files()) } else { None };
        if source_fused && !source.stated && !same_ranks {
            let unusual = "rank-concat, the usual one up to mindformers 1.3, does not fit".to_owned();
            let evidence = sign.map(|(yaml, sign)| fusion_order::evidence(yaml, sign));
            let evidence = evidence.or((shown == Some(FusionLayout::Grouped)).then_some(unusual));
            if let Some(evidence) = evidence {
                return Err(Error::FusionUnknown { evidence, shown });
            }
        }
        if let Some(other) = source.check(shown) {
            note(&other);
        }
        let named = || -> Result<Option<bool>, Error> { Ok(yaml.map(load_model).transpose()?.and_then(|s| s.fused)) };
        let by_names = args.place.dst_strategy.is_some() || same_ranks;
        let fused = match args.layout.qkv_concat {
            _ if self.function == Function::MsToPt => false,
            _ if by_names => true,
            Some(fused) => fused,
            None => named()?.unwrap_or(source_fused),
        };
        let facts = TargetFacts {
            typed: Typed::new("--dst-fusion", args.layout.dst_fusion, args.layout.force_fusion),
            fused,
            sign,
            source: (source_fused && (made.is_some() || same_ranks)).then_some(source.layout),
            same_ranks,
        };
        let target = fusion_order::target_order(facts)?;
        (self.orders, self.made) = (Some(Orders { source, target }), made);
        Ok(())
    }

    /// Whether the source has fused parameters.
    pub(super) fn source_is_fused(&self) -> bool {
        self.orders.as_ref().is_some_and(|orders| orders.source.fused)
    }

    /// The order of the source's fused rows.
    pub(super) fn source_order(&self) -> FusionLayout {
        self.orders.as_ref().map_or(FusionLayout::RankConcat, |orders| orders.source.layout)
    }

    /// The order of the target's fused rows.
    pub(super) fn target_order(&self) -> FusionLayout {
        self.orders.as_ref().map_or(FusionLayout::RankConcat, |orders| orders.target.layout)
    }

    /// The orders as decisions, for each side that is fused.
    pub(super) fn fusion_choices(&self, source_fused: bool, target_fused: bool) -> Vec<Choice> {
        let Some(Orders { source, target }) = &self.orders else { return Vec::new() };
        let source = source_fused.then(|| source.choice("source"));
        source.into_iter().chain(target_fused.then(|| target.choice("target"))).collect()
    }

    /// Whether the target is quantised by this run.
    pub(super) fn quantising(&self) -> bool {
        matches!(self.function, Function::QuantWeight | Function::TrainToInfer)
    }

    /// Whether the source is a training run: several steps, stages and the optimizer's state may be in it.
    pub(super) fn trained(&self) -> bool {
        let options = self.args.train.train_strategy_file.is_some() || self.args.train.given().is_some();
        self.function == Function::TrainToInfer || self.function == Function::MsToPt && options
    }

    pub(super) fn publish(&self) -> Publish {
        if self.args.place.overwrite { Publish::Replace } else { Publish::New }
    }
}

/// Refuses options that contradict each other, before any that is missing is wanted: no option mends that.
pub(crate) fn check_together(args: &ConvertArgs) -> Result<(), Error> {
    let (Some(function), Some(precision)) = (args.what.function, args.what.precision) else { return Ok(()) };
    let whole_model = matches!(function, Function::PtToMs | Function::MsToPt);
    if quantises(precision).is_some() && (whole_model || args.train.strip_only) {
        let precision = config::precision_name(precision);
        let what = if whole_model { format!("-f {}", config::function_name(function)) } else { "--strip-only".into() };
        return Err(Error::Usage(format!(
            "{what} does not quantise: -p fp16, bf16, fp32 or keep (-f quant_weight -p {precision} quantises rank files)"
        )));
    }
    let training = matches!(function, Function::TrainToInfer | Function::MsToPt);
    if let Some(option) = args.train.given().filter(|_| !training) {
        return Err(Error::Usage(format!("{option} goes with -f train_to_infer or ms_to_pt")));
    }
    let quantising = matches!(function, Function::QuantWeight | Function::TrainToInfer);
    if args.quant.group_size.is_some() && !(quantising && quantises(precision).is_some()) {
        return Err(Error::Usage(
            "--group-size goes with -f quant_weight -p w8a16 or w4a16; what is quantised already keeps its groups"
                .to_owned(),
        ));
    }
    if function == Function::MsToPt {
        check_whole_model(args)?;
    }
    if function == Function::PtToMs && args.place.src_strategy.is_some() {
        let why = "-ss goes with rank files: what PyTorch programs write has no strategy, leave -ss out";
        return Err(Error::Usage(why.to_owned()));
    }
    let counts =
        [("-w", args.what.world_size.is_some_and(|ranks| ranks != 1)), ("-ds", args.place.dst_strategy.is_some())];
    if let Some((option, _)) = counts.iter().find(|(_, given)| function == Function::MsToPt && *given) {
        return Err(Error::Usage(format!("-f ms_to_pt writes one whole model: leave {option} out")));
    }
    if let Some(option) = args.calibrate.given().filter(|_| args.calibrate.dataset_name.is_none()) {
        return Err(Error::Usage(format!("{option} goes with -d (a data set) and -f quant_weight")));
    }
    if function == Function::QuantWeight {
        quantised(precision)?;
    }
    Ok(())
}

/// What a training run becomes beside ranks of MindSpore's is no model of Hugging Face's.
fn check_whole_model(args: &ConvertArgs) -> Result<(), Error> {
    if args.train.strip_only {
        return Err(Error::Usage("--strip-only goes with -f train_to_infer".to_owned()));
    }
    if args.train.lora == Some(LoraArg::Keep) {
        let why =
            "-f ms_to_pt does not write adapters: --lora merge adds them to their weights, --lora drop leaves them out";
        return Err(Error::Usage(why.to_owned()));
    }
    Ok(())
}
