//! From files to a proved plan: all that the tests use of the planner.

use super::cut::Order;
use super::files::{File, evidence};
use super::foreign::{ForeignCase, Origin};
use super::placement::{Placement, Scheme};
use super::whole::Dims;
use crate::formats::FormatRef;
use crate::model::{Dense, Dialect, FusionLayout, Model, SpecError, from_config_json};
use crate::plan::{
    Arrangement, Catalog, CatalogOptions, Evidence, ForeignNotes, ForeignOptions, Plan, PlanError, PlanOptions,
    Precision, SourceFile, StrategySet, TargetOptions, TargetRank, build, foreign_target, prove, targets,
};
use crate::tensor::Dtype;

/// What a conversion is to make, beside where the parameters lie.
#[derive(Clone, Debug)]
pub(super) struct Request {
    /// The model, where it is named.
    pub(super) dims: Option<Dims>,
    pub(super) precision: Option<Dtype>,
    pub(super) norms: Option<Dtype>,
    pub(super) format: FormatRef,
}

fn model(dims: &Dims) -> Result<Model, SpecError> {
    let sizes = Dense {
        family: match (dims.qwen3, dims.bias) {
            (true, _) => "qwen3",
            (false, true) => "qwen2",
            (false, false) => "llama",
        },
        hidden: dims.hidden as u64,
        layers: u32::try_from(dims.layers).expect("few"),
        heads: dims.heads() as u64,
        kv_heads: dims.kv_heads as u64,
        head_dim: dims.head_dim as u64,
        ffn: dims.ffn as u64,
        vocab: dims.vocab as u64,
        tied: dims.tied,
    };
    sizes.model()
}

fn arrangement<'a>(placement: &Placement, set: Option<&'a StrategySet>) -> Arrangement<'a> {
    set.map_or(Arrangement::Rules(placement.ranks() as u64), Arrangement::Strategy)
}

fn fusion(order: Order) -> FusionLayout {
    match order {
        Order::RankConcat => FusionLayout::RankConcat,
        Order::Grouped => FusionLayout::Grouped,
    }
}

/// The plan for a conversion, proved.
pub(super) fn plan(
    files: &[File],
    source: &Placement,
    target: &Placement,
    request: &Request,
) -> Result<Plan, PlanError> {
    let sources = (&*sources_of(files), &evidence(files) as &dyn Evidence);
    let model = request.dims.as_ref().map(model).transpose()?;
    let catalog = of_ranks(sources, source, model.as_ref())?;
    to_ranks(sources, &catalog, target, model.as_ref(), request)
}

/// The plan from a foreign checkpoint to ranks.
pub(super) fn plan_from(files: &[File], case: &ForeignCase) -> Result<Plan, PlanError> {
    let sources = (&*sources_of(files), &evidence(files) as &dyn Evidence);
    let (model, dialect) = described(case);
    let strides = |file: usize, entry: usize| {
        let entry = &files[file].entries[entry];
        let is_transposed = |(of, name): &(usize, String)| *of == file && **name == *entry.name;
        case.transposed.iter().any(is_transposed).then(|| vec![1, entry.shape.dims()[0]])
    };
    let tied = case.model.dims.tied;
    let options = ForeignOptions {
        spec: Some(&model),
        dialect: &dialect,
        shards: case.origin.shards() as u64,
        strides: &strides,
        source_tied: tied,
        target_tied: tied,
        evidence: sources.1,
        ignore: &|_| false,
    };
    let (catalog, notes) = Catalog::foreign(sources.0, &options)?;
    assert_eq!(notes, ForeignNotes::default());
    to_ranks(sources, &catalog, &case.ranks, Some(&model), &case.request)
}

/// The plan from ranks to a foreign checkpoint.
pub(super) fn plan_to(files: &[File], case: &ForeignCase) -> Result<Plan, PlanError> {
    let sources = (&*sources_of(files), &evidence(files) as &dyn Evidence);
    let (model, dialect) = described(case);
    let catalog = of_ranks(sources, &case.ranks, Some(&model))?;
    let target = foreign_target(&catalog, &dialect)?;
    built(sources.0, &catalog, vec![target], &case.request)
}

/// The model by the configuration beside a foreign checkpoint, and the names in that.
fn described(case: &ForeignCase) -> (Model, Dialect) {
    let model = from_config_json(case.origin.config(&case.model.dims).as_bytes()).expect("a configuration");
    let family = model.family();
    let dialect = match case.origin {
        Origin::Meta { .. } => Dialect::meta(family),
        _ => Dialect::hugging_face(family),
    };
    (model, dialect.expect("the family has such names"))
}

/// Files, and what they hold.
type Sources<'a> = (&'a [SourceFile<'a>], &'a dyn Evidence);

fn sources_of(files: &[File]) -> Vec<SourceFile<'_>> {
    files.iter().map(File::source).collect()
}

fn of_ranks((files, evidence): Sources<'_>, source: &Placement, model: Option<&Model>) -> Result<Catalog, PlanError> {
    let set = source.set();
    let options = CatalogOptions {
        spec: model,
        arrangement: arrangement(source, set.as_ref()),
        fusion: fusion(source.order),
        evidence,
        ignore: &|_| false,
    };
    Catalog::new(files, &options)
}

fn to_ranks(
    (files, evidence): Sources<'_>,
    catalog: &Catalog,
    target: &Placement,
    model: Option<&Model>,
    request: &Request,
) -> Result<Plan, PlanError> {
    let set = target.set();
    let (fused, vocabulary_whole) = match target.scheme {
        Scheme::Rules { fused, vocabulary_whole } => (fused, vocabulary_whole),
        Scheme::Strategy(_) => (false, false),
    };
    let options = TargetOptions {
        spec: model,
        arrangement: arrangement(target, set.as_ref()),
        fusion: fusion(target.order),
        fused,
        vocabulary_whole,
    };
    let targets = targets(catalog, files, evidence, &options)?;
    built(files, catalog, targets, request)
}

fn built(
    files: &[SourceFile<'_>],
    catalog: &Catalog,
    targets: Vec<TargetRank>,
    request: &Request,
) -> Result<Plan, PlanError> {
    let precision = |dtype: Option<Dtype>| dtype.map_or(Precision::Keep, Precision::To);
    let options = PlanOptions {
        precision: precision(request.precision),
        norms: precision(request.norms),
        format: request.format,
        crc: false,
        padding: true,
        whole: None,
    };
    let plan = build(files, catalog, targets, &options)?;
    prove(&plan)?;
    Ok(plan)
}
