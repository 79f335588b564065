//! From files to a proved plan: all that the tests use of the planner.

use super::cut::Order;
use super::files::File;
use super::placement::{Placement, Scheme};
use super::whole::Dims;
use crate::formats::FormatKind;
use crate::model::{Dense, FusionLayout, Model, SpecError};
use crate::plan::{
    Arrangement, Catalog, CatalogOptions, Plan, PlanError, PlanOptions, Precision, StrategySet, TargetOptions, build,
    prove, targets,
};
use crate::tensor::Dtype;

/// What a conversion is to make, beside where the parameters lie.
#[derive(Clone, Debug)]
pub(super) struct Request {
    /// The model, where it is named.
    pub(super) dims: Option<Dims>,
    pub(super) precision: Option<Dtype>,
    pub(super) norms: Option<Dtype>,
    pub(super) format: FormatKind,
}

fn model(dims: &Dims) -> Result<Model, SpecError> {
    let sizes = Dense {
        family: if dims.bias { "qwen2" } else { "llama" },
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
    let files: Vec<_> = files.iter().map(File::source).collect();
    let model = request.dims.as_ref().map(model).transpose()?;
    let (source_set, target_set) = (source.set(), target.set());
    let options = CatalogOptions {
        spec: model.as_ref(),
        arrangement: arrangement(source, source_set.as_ref()),
        fusion: fusion(source.order),
        ignore: &|_| false,
    };
    let catalog = Catalog::new(&files, &options)?;
    let (fused, vocabulary_whole) = match target.scheme {
        Scheme::Rules { fused, vocabulary_whole } => (fused, vocabulary_whole),
        Scheme::Strategy(_) => (false, false),
    };
    let options = TargetOptions {
        spec: model.as_ref(),
        arrangement: arrangement(target, target_set.as_ref()),
        fusion: fusion(target.order),
        fused,
        vocabulary_whole,
    };
    let targets = targets(&catalog, &files, &options)?;
    let precision = |dtype: Option<Dtype>| dtype.map_or(Precision::Keep, Precision::To);
    let options = PlanOptions {
        precision: precision(request.precision),
        norms: precision(request.norms),
        format: request.format,
        crc: false,
        padding: true,
        whole: None,
    };
    let plan = build(&files, &catalog, targets, &options)?;
    prove(&plan)?;
    Ok(plan)
}
