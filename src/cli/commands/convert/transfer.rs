//! The plan of `-f distributed_weight_transfer`.

use super::quantise::quantises;
use super::{Planned, Request, is_fused};
use crate::Error;
use crate::cli::args::{FormatArg, PrecisionArg};
use crate::cli::commands::note;
use crate::cli::commands::reading::{self, Read, Reading};
use crate::cli::commands::target::Strategies;
use crate::cli::config;
use crate::formats::FormatKind;
use crate::input::{Input, load_model};
use crate::models::{FusionLayout, ModelSpec};
use crate::plan::{
    self, Arrangement, Catalog, Compared, PlanError, PlanOptions, QuantisedModel, SourceFile, TargetOptions,
};

/// Replicas of at most this many bytes are always compared: the norms of any model.
const SMALL_REPLICA: u64 = 1 << 20;

/// What is known when the target is about to be laid out.
pub(super) struct Side<'a> {
    pub files: &'a [SourceFile<'a>],
    pub catalog: &'a Catalog,
    pub spec: Option<&'a ModelSpec>,
    /// Whether the target is fused.
    pub fused: bool,
    /// The target's ranks.
    pub ranks: u64,
}

/// Plans a conversion from n ranks to m.
pub(super) fn plan(request: &Request, input: &Input) -> Result<Planned, Error> {
    plan_with(request, input, |side| {
        check_precision(request.precision, side.catalog)?;
        Ok(None)
    })
}

/// A quantised checkpoint keeps its precision, which must be the one that was named.
fn check_precision(precision: PrecisionArg, catalog: &Catalog) -> Result<(), PlanError> {
    let asked = quantises(precision);
    let held = catalog.quantised_as();
    if asked == held || (precision == PrecisionArg::Keep) {
        return Ok(());
    }
    let name = config::precision_name(precision);
    let why = match (held, asked) {
        (None, _) => format!("the source is not quantised: -f quant_weight -p {name} makes {name} of it"),
        (Some(held), _) => {
            let all = [PrecisionArg::W8a16, PrecisionArg::W8a8, PrecisionArg::W8a16c8, PrecisionArg::W8a8c8];
            let same = all.into_iter().chain([PrecisionArg::Fp16c8]).find(|p| quantises(*p) == Some(held));
            let held = same.map_or_else(|| "otherwise".to_owned(), config::precision_name);
            format!("the source is quantised ({held}) and stays so: -p {held}, not -p {name}")
        }
    };
    Err(PlanError::Quantised(why))
}

/// Plans a conversion from n ranks to m; `quantise` makes another model of the source's, or leaves it as it is.
pub(super) fn plan_with(
    request: &Request,
    input: &Input,
    quantise: impl Fn(&Side<'_>) -> Result<Option<QuantisedModel>, PlanError>,
) -> Result<Planned, Error> {
    let args = &request.args;
    let named = args.yaml_path.as_deref().map(load_model).transpose()?;
    let source_strategy = reading::strategy(args.src_strategy.as_deref())?;
    let target_strategy = reading::strategy(args.dst_strategy.as_deref())?;
    let (src_fusion, dst_fusion) = (config::fusion(args.src_fusion), config::fusion(args.dst_fusion));
    let ignore = config::Patterns::new(&args.ignore)?;
    let files = input.source_files();
    let Read { catalog, spec, inferred } = reading::read(
        &files,
        &Reading {
            spec: named.as_ref(),
            strategy: source_strategy.as_ref(),
            fusion: src_fusion,
            other_grouped: dst_fusion == FusionLayout::Grouped,
            ignore: &|name| ignore.matches(name),
        },
    )?;
    if let Some(inferred) = inferred {
        note(&inferred);
    }
    let arrangement = match &target_strategy {
        Some(strategy) => {
            let ranks = args.world_size.map(u64::from).filter(|ranks| *ranks != strategy.set.ranks());
            if let Some(ranks) = ranks {
                return Err(PlanError::StrategyRanks { side: "target", strategy: strategy.set.ranks(), ranks }.into());
            }
            Arrangement::Strategy(&strategy.set)
        }
        None => Arrangement::Rules(args.world_size.map_or(1, u64::from)),
    };
    let asked = args.qkv_concat.or_else(|| named.as_ref().and_then(|spec| spec.fused));
    let whole = args.vocab_emb_dp.or_else(|| named.as_ref().map(|spec| spec.vocabulary_whole));
    let fused = asked.unwrap_or(catalog.fused);
    let ranks = arrangement.ranks();
    let side = Side { files: &files, catalog: &catalog, spec: spec.as_ref(), fused, ranks };
    let quantised = quantise(&side)?;
    let options = TargetOptions {
        spec: spec.as_ref(),
        arrangement,
        fusion: dst_fusion,
        fused,
        vocabulary_whole: whole.unwrap_or(catalog.vocabulary_whole.unwrap_or(false)),
    };
    let mut all_files = files.clone();
    all_files.extend(quantised.as_ref().map(plan::computed_file));
    let laid_out = quantised.as_ref().map_or(&catalog, |model| &model.catalog);
    let targets = plan::targets(laid_out, &all_files, &options)?;
    let ranks = targets.len();
    let plan_options = plan_options(request, input.format, ranks)?;
    let layouts = plan::strategies(laid_out, &targets, &options);
    let name = format!("{}_{ranks}p", config::precision_name(request.precision));
    let suffix = if is_fused(&targets) { "_qkv" } else { "" };
    let plan = match &quantised {
        Some(model) => plan::build_quantised(&all_files, model, targets, &plan_options)?,
        None => plan::build(&files, &catalog, targets, &plan_options)?,
    };
    plan::prove(&plan)?;
    let at_most = if args.check_replicas { u64::MAX } else { SMALL_REPLICA };
    let replicas = plan::compare(Compared::Replicas { at_most }, &files, &catalog, &files, &catalog);
    plan::prove_covered(&replicas.0)?;
    let larger = catalog.replicas_above(at_most);
    if larger > 0 {
        note(&format!("{larger} replicas of large parameters are taken to be equal; --check-replicas compares them"));
    }
    Ok(Planned {
        strategies: Strategies::new(args.infer_strategy_file.join(&name).join("strategy"), ranks, &layouts),
        target: args.dst_ckpt_path.join(format!("{name}{suffix}")),
        ignored: catalog.ignored.len(),
        replicas,
        plan,
    })
}

/// How the files are written.
pub(super) fn plan_options(request: &Request, source: FormatKind, ranks: usize) -> Result<PlanOptions, Error> {
    let args = &request.args;
    let format = match args.format {
        None => source,
        Some(FormatArg::Ckpt) => FormatKind::Ckpt,
        Some(FormatArg::Safetensors) => FormatKind::Safetensors,
    };
    if args.max_shard_size.is_some() && (ranks != 1 || format != FormatKind::Safetensors) {
        return Err(Error::Usage("--max-shard-size goes with -w 1 and --format safetensors".to_owned()));
    }
    if args.crc && format != FormatKind::Ckpt {
        return Err(Error::Usage("--crc goes with --format ckpt".to_owned()));
    }
    Ok(PlanOptions {
        precision: request.weights,
        norms: request.norms,
        format,
        crc: args.crc,
        padding: !args.no_padding,
        shard_bytes: args.max_shard_size.map(|size| size.as_u64()),
    })
}
