//! The plan of `-f distributed_weight_transfer`.

use std::collections::{BTreeMap, BTreeSet};

use clap::ValueEnum;

use super::head;
use super::quantise::quantises;
use super::request::Request;
use super::run::{Planned, is_fused};
use crate::Error;
use crate::cli::args::{CkptRecordsArg, FormatArg, PrecisionArg};
use crate::cli::commands::note;
use crate::cli::config;
use crate::formats::FormatKind;
use crate::input::{Input, StrategySource};
use crate::job::known_model::KnownModel;
use crate::job::reading::{self, Read, Reading};
use crate::job::target::Strategies;
use crate::model::FusionLayout;
use crate::model::naming::{HEAD, is_network_buffer};
use crate::models::ModelSpec;
use crate::plan::{
    self, Arrangement, Catalog, Compared, Plan, PlanError, PlanOptions, QuantisedModel, SourceFile, StrategySet,
    TargetOptions, WholeModel, WholeReader,
};
use crate::source::Extents;

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
            let same = PrecisionArg::value_variants().iter().find(|p| quantises(**p) == Some(held));
            match same.map(|same| config::precision_name(*same)) {
                Some(same) => format!("the source is quantised ({same}) and stays so: -p {same}, not -p {name}"),
                None => format!("the source is quantised ({held}) and stays so: -p keep, not -p {name}"),
            }
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
    let source = reading::strategy(args.place.src_strategy.as_deref())?;
    let target = reading::strategy(args.place.dst_strategy.as_deref())?;
    let ignore = config::Patterns::new(&args.files.ignore)?;
    let ignore = |name: &str| ignore.matches(name);
    plan_from(
        request,
        input,
        &Sides {
            source: source.as_ref(),
            target: target.as_ref(),
            ignore: &ignore,
            asked_out: &ignore,
            merge_alpha: None,
            quantise: &quantise,
        },
    )
}

/// What is known of the source and of the target.
pub(super) struct Sides<'a> {
    pub source: Option<&'a StrategySource>,
    pub target: Option<&'a StrategySource>,
    /// Which source entries are left out.
    pub ignore: &'a dyn Fn(&str) -> bool,
    /// Which of them because the user says so: the target's strategy need not have them either.
    pub asked_out: &'a dyn Fn(&str) -> bool,
    /// The alpha of adapters that are merged into their weights. `None`: they are not.
    pub merge_alpha: Option<f64>,
    /// Makes another model of the source's, or leaves it as it is.
    pub quantise: &'a Quantise<'a>,
}

/// Makes a quantised model of a source. `None`: it stays as it is.
pub(super) type Quantise<'a> = dyn Fn(&Side<'_>) -> Result<Option<QuantisedModel>, PlanError> + 'a;

/// Leaves a source as it is.
#[expect(clippy::unnecessary_wraps, reason = "one of several ways, of which others fail")]
pub(super) fn unquantised(_: &Side<'_>) -> Result<Option<QuantisedModel>, PlanError> {
    Ok(None)
}

/// Plans a conversion between strategies, or by the family's rules.
pub(super) fn plan_from(request: &Request, input: &Input, sides: &Sides<'_>) -> Result<Planned, Error> {
    let args = &request.args;
    let known = KnownModel::read(args.layout.yaml_path.as_deref(), &request.source)?;
    if let Some(why) = &known.unused {
        note(why);
    }
    let mut planned = plan_of(request, input, sides, &known).map_err(|error| known.explain(error))?;
    planned.choices.extend(known.choice());
    Ok(planned)
}

fn plan_of(request: &Request, input: &Input, sides: &Sides<'_>, known: &KnownModel) -> Result<Planned, Error> {
    let args = &request.args;
    let (src_fusion, dst_fusion) = (request.source_order(), request.target_order());
    let files = input.source_files();
    let Read { mut catalog, spec, inferred } = reading::read(
        &files,
        &Reading {
            spec: known.spec(),
            strategy: sides.source,
            fusion: src_fusion,
            other_grouped: dst_fusion == FusionLayout::Grouped,
            heads: args.heads(),
            ignore: sides.ignore,
        },
    )?;
    if let Some(inferred) = inferred {
        note(&inferred);
    }
    let tied = head::stated(request, known)?;
    let target_has_head = sides.target.is_some_and(|target| target.set.stages().iter().any(|s| s.contains_key(HEAD)));
    if tied == Some(true) && !target_has_head {
        head::leave_copy_out(request, input, &files, &mut catalog)?;
    }
    if let Some(alpha) = sides.merge_alpha {
        catalog.merge_adapters(alpha)?;
    }
    let source = Source {
        files: &files,
        catalog: &catalog,
        spec: spec.as_ref(),
        named: known.named.as_ref(),
        tied,
        target: sides.target,
        format: input.format,
        all_replicas: args.files.check_replicas,
        asked_out: sides.asked_out,
        quantise: sides.quantise,
    };
    over_ranks(request, &source)
}

/// A source that was read.
pub(super) struct Source<'a> {
    pub files: &'a [SourceFile<'a>],
    pub catalog: &'a Catalog,
    /// The model, as far as it is known.
    pub spec: Option<&'a ModelSpec>,
    /// The model that -y names.
    pub named: Option<&'a ModelSpec>,
    /// Whether `lm_head` is the embedding, where anything but the files says so.
    pub tied: Option<bool>,
    /// The strategy of the target, where it has one.
    pub target: Option<&'a StrategySource>,
    /// The format of the target where none is asked for.
    pub format: FormatKind,
    /// Whether large replicas are compared too.
    pub all_replicas: bool,
    /// Which parameters are left out because the user says so.
    pub asked_out: &'a dyn Fn(&str) -> bool,
    /// Makes another model of it, or leaves it as it is.
    pub quantise: &'a Quantise<'a>,
}

/// Plans how a source is laid over the ranks of the target.
pub(super) fn over_ranks(request: &Request, source: &Source<'_>) -> Result<Planned, Error> {
    let args = &request.args;
    let &Source { files, catalog, spec, named, .. } = source;
    let wanted = source.target.map(|strategy| wanted(&strategy.set, source));
    let arrangement = match &wanted {
        Some(set) => {
            let ranks = args.what.world_size.map(u64::from).filter(|ranks| *ranks != set.ranks());
            if let Some(ranks) = ranks {
                return Err(PlanError::StrategyRanks { side: "target", strategy: set.ranks(), ranks }.into());
            }
            Arrangement::Strategy(set)
        }
        None => Arrangement::Rules(args.what.world_size.map_or(1, u64::from)),
    };
    if matches!(arrangement, Arrangement::Rules(_)) {
        catalog.check_complete(source.tied)?;
    }
    let asked = args.layout.qkv_concat.or_else(|| named.and_then(|spec| spec.fused));
    let whole = args.layout.vocab_emb_dp.or_else(|| named.map(|spec| spec.vocabulary_whole));
    let fused = asked.unwrap_or(catalog.fused);
    let side = Side { files, catalog, spec, fused, ranks: arrangement.ranks() };
    let quantised = (source.quantise)(&side)?;
    let model = spec.map(ModelSpec::model).transpose().map_err(PlanError::from)?;
    let options = TargetOptions {
        spec: model.as_ref(),
        arrangement,
        fusion: request.target_order(),
        fused,
        vocabulary_whole: whole.unwrap_or(catalog.vocabulary_whole.unwrap_or(false)),
    };
    let mut all_files = files.to_vec();
    all_files.extend(quantised.as_ref().map(plan::computed_file));
    let laid_out = quantised.as_ref().map_or(catalog, |model| &model.catalog);
    let targets = plan::targets(laid_out, &all_files, &options)?;
    let ranks = targets.len();
    let plan_options = plan_options(request, source.format, ranks)?;
    let layouts = plan::strategies(&targets, &options);
    let name = format!("{}_{ranks}p", config::precision_name(request.precision));
    let target_fused = is_fused(&targets);
    let suffix = if target_fused { "_qkv" } else { "" };
    let plan = match &quantised {
        Some(model) => plan::build_quantised(&all_files, model, targets, &plan_options)?,
        None => plan::build(files, catalog, targets, &plan_options)?,
    };
    plan::prove(&plan)?;
    let replicas = replicas(files, catalog, source.all_replicas)?;
    Ok(Planned {
        strategies: Strategies::new(args.place.infer_strategy_file.join(&name).join("strategy"), ranks, &layouts),
        target: args.place.dst_ckpt_path.join(format!("{name}{suffix}")),
        ignored: catalog.ignored.len(),
        training_state: BTreeMap::new(),
        choices: request.fusion_choices(catalog.fused, target_fused),
        replicas,
        plan,
    })
}

/// The target's strategy without what is to be left out, and without the buffers of the running network, which the strategy of
/// an inference network names and no checkpoint holds.
fn wanted(target: &StrategySet, source: &Source<'_>) -> StrategySet {
    let mut buffers: BTreeSet<String> = target.stages().iter().flat_map(BTreeMap::keys).cloned().collect();
    buffers.retain(|name| is_network_buffer(name) && source.catalog.get(name).is_none() && !(source.asked_out)(name));
    if !buffers.is_empty() {
        let names: Vec<String> = buffers.iter().cloned().collect();
        note(&format!(
            "the target's strategy names buffers that no checkpoint holds; they were left out: {}",
            plan::list(&names)
        ));
    }
    target.without(|name| buffers.contains(name) || (source.asked_out)(name))
}

/// What is compared before anything is written. What is not is said.
pub(super) fn replicas(
    files: &[SourceFile<'_>],
    catalog: &Catalog,
    all: bool,
) -> Result<(Plan, Vec<Vec<Extents>>), PlanError> {
    let at_most = if all { u64::MAX } else { SMALL_REPLICA };
    let replicas = plan::compare(Compared::Replicas { at_most }, files, catalog, files, catalog);
    plan::prove_covered(&replicas.0)?;
    let larger = catalog.replicas_above(at_most);
    if larger > 0 {
        note(&format!("{larger} replicas of large parameters are taken to be equal; --check-replicas compares them"));
    }
    Ok(replicas)
}

/// How the files are written.
pub(super) fn plan_options(request: &Request, source: FormatKind, ranks: usize) -> Result<PlanOptions, Error> {
    let args = &request.args;
    let format = match args.files.format {
        None => source,
        Some(FormatArg::Ckpt) => FormatKind::Ckpt,
        Some(FormatArg::Safetensors) => FormatKind::Safetensors,
        Some(FormatArg::Bin) => return Err(Error::Usage("--format bin goes with -f ms_to_pt".to_owned())),
    };
    if args.files.max_shard_size.is_some() && (ranks != 1 || format != FormatKind::Safetensors) {
        return Err(Error::Usage("--max-shard-size goes with -w 1 and --format safetensors".to_owned()));
    }
    if args.files.crc && format != FormatKind::Ckpt {
        return Err(Error::Usage(
            "--crc goes with --format ckpt: a safetensors file would state its CRC before the bytes, which are written as \
             they come; the manifest has the sums of all tensors"
                .to_owned(),
        ));
    }
    Ok(PlanOptions {
        precision: request.weights,
        norms: request.norms,
        format,
        crc: args.files.crc,
        padding: args.files.ckpt_records == CkptRecordsArg::Aligned,
        whole: args
            .files
            .max_shard_size
            .map(|size| WholeModel { shard_bytes: size.as_u64(), reader: WholeReader::MindSpore }),
    })
}
