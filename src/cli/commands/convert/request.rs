//! What was typed for a conversion, as far as it must be there.

use std::path::PathBuf;

use super::quantise::quantises;
use crate::Error;
use crate::cli::args::{ConvertArgs, Function, LoraArg, PrecisionArg};
use crate::cli::config;
use crate::engine::{Durability, Publish, Wishes};
use crate::plan::{MAX_RANKS, Precision};
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
}

impl Request {
    pub(super) fn new(args: ConvertArgs) -> Result<Self, Error> {
        let (Some(function), Some(precision)) = (args.function, args.precision) else {
            return Err(Error::Usage("missing -f (function) or -p (precision); see --help".to_owned()));
        };
        let whole_model = matches!(function, Function::PtToMs | Function::MsToPt);
        if quantises(precision).is_some() && (whole_model || args.train.strip_only) {
            let precision = config::precision_name(precision);
            let what =
                if whole_model { format!("-f {}", config::function_name(function)) } else { "--strip-only".into() };
            return Err(Error::Usage(format!(
                "{what} does not quantise: -p fp16, bf16, fp32 or keep (-f quant_weight -p {precision} quantises rank files)"
            )));
        }
        if args.tie_word_embeddings.is_some() && !whole_model {
            let why = "--tie-word-embeddings goes with -f pt_to_ms and ms_to_pt; elsewhere -y says so";
            return Err(Error::Usage(why.to_owned()));
        }
        let training = matches!(function, Function::TrainToInfer | Function::MsToPt);
        if let Some(option) = args.train.given().filter(|_| !training) {
            return Err(Error::Usage(format!("{option} goes with -f train_to_infer or ms_to_pt")));
        }
        let quantising = matches!(function, Function::QuantWeight | Function::TrainToInfer);
        if args.group_size.is_some() && !(quantising && quantises(precision).is_some()) {
            return Err(Error::Usage(
                "--group-size goes with -f quant_weight -p w8a16 or w4a16; what is quantised already keeps its groups"
                    .to_owned(),
            ));
        }
        if function == Function::MsToPt {
            check_whole_model(&args)?;
        }
        if function == Function::MsToPt && args.world_size.is_some_and(|ranks| ranks != 1) {
            return Err(Error::Usage("-f ms_to_pt writes one whole model: leave -w out".to_owned()));
        }
        if let Some(option) = args.calibrate.given().filter(|_| args.dataset_name.is_none()) {
            return Err(Error::Usage(format!("{option} goes with -d (a data set) and -f quant_weight")));
        }
        // One whole model, the ranks of the source, or as many as are asked for.
        let counted = function == Function::MsToPt || args.train.strip_only;
        if !counted && args.world_size.is_none() && args.dst_strategy.is_none() {
            return Err(Error::Usage("missing -w (world_size); see --help".to_owned()));
        }
        if args.world_size == Some(0) {
            return Err(Error::Usage("-w 0: a checkpoint has at least one rank".to_owned()));
        }
        if let Some(ranks) = args.world_size.filter(|&ranks| u64::from(ranks) > MAX_RANKS) {
            return Err(Error::Usage(format!("-w {ranks}: at most {MAX_RANKS} ranks")));
        }
        let Some(source) = args.src_ckpt_path.clone() else {
            return Err(Error::Usage("missing -sc (src_ckpt_path); see --help".to_owned()));
        };
        let durability = if args.no_sync { Durability::Cached } else { Durability::Synced };
        // A network of quantised weights computes in fp16; what is resharded keeps what it has.
        let weights = match function {
            Function::QuantWeight => Precision::To(Dtype::F16),
            Function::TrainToInfer if quantises(precision).is_some() => Precision::To(Dtype::F16),
            _ => config::precision(precision),
        };
        Ok(Self {
            weights,
            norms: args.norm_dtype.map_or(weights, config::precision),
            function,
            wishes: config::wishes(&args.run, durability)?,
            source,
            precision,
            durability,
            args,
        })
    }

    /// Whether the source is a training run: several steps, stages and the optimizer's state may be in it.
    pub(super) fn trained(&self) -> bool {
        let options = self.args.train_strategy_file.is_some() || self.args.train.given().is_some();
        self.function == Function::TrainToInfer || self.function == Function::MsToPt && options
    }

    pub(super) fn publish(&self) -> Publish {
        if self.args.overwrite { Publish::Replace } else { Publish::New }
    }
}

/// What a training run becomes beside ranks of MindSpore's is no model of Hugging Face's.
fn check_whole_model(args: &ConvertArgs) -> Result<(), Error> {
    if args.train.strip_only {
        return Err(Error::Usage("--strip-only goes with -f train_to_infer".to_owned()));
    }
    if args.train.lora == Some(LoraArg::Keep) {
        let why = "-f ms_to_pt has no place for adapters: --lora merge adds them to their weights, --lora drop leaves them out";
        return Err(Error::Usage(why.to_owned()));
    }
    Ok(())
}
