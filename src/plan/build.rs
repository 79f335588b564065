//! Catalog and target to a plan.

use super::calculation::Pass;
use super::catalog::Catalog;
use super::derive::quantise::QuantisedModel;
use super::ids::OpsId;
use super::op::Op;
use super::options::{PlanOptions, Precision};
use super::route::{OutputFile, OutputTensor, Route};
use super::router::{Router, Way};
use super::target::{Content, Kind, TargetEntry, TargetRank};
use super::value::Plan;
use super::{PlanError, SourceFile, files};
use crate::layout::Move;
use crate::tensor::Dtype;

/// Joins what the source holds and what the target shall hold to a plan.
///
/// # Errors
/// Where a dtype cannot be converted, or a header cannot express a tensor.
pub fn build(
    files: &[SourceFile<'_>],
    catalog: &Catalog,
    targets: Vec<TargetRank>,
    options: &PlanOptions,
) -> Result<Plan, PlanError> {
    let mut router = Router::new(files, catalog);
    let outputs = outputs(&mut router, targets, options)?;
    Ok(router.into_plan(outputs))
}

/// As [`build`], for a quantised model. `files` are those of the source and, last, [`super::computed_file`].
///
/// # Errors
/// As [`build`].
pub fn build_quantised(
    files: &[SourceFile<'_>],
    model: &QuantisedModel,
    targets: Vec<TargetRank>,
    options: &PlanOptions,
) -> Result<Plan, PlanError> {
    let mut router = Router::new(files, &model.catalog);
    let outputs = outputs(&mut router, targets, options)?;
    let matrices = model.linears.iter().map(|l| l.calculation(|name, what| router.gather(name, what)));
    let mut passes: Vec<Pass> = matrices.map(|matrix| Pass::Matrix(Box::new(matrix))).collect();
    passes.extend(model.caches.iter().cloned().map(Pass::Caches));
    let mut plan = router.into_plan(outputs);
    // What is computed is no file.
    plan.sources.pop();
    Ok(Plan { passes, memory: model.room.bytes.clone(), ..plan })
}

fn outputs(
    router: &mut Router<'_>,
    targets: Vec<TargetRank>,
    options: &PlanOptions,
) -> Result<Vec<OutputFile>, PlanError> {
    let mut outputs = Vec::new();
    for target in targets {
        let entries = target.entries.into_iter();
        let tensors = entries.map(|entry| tensor(router, &entry, options)).collect::<Result<Vec<_>, _>>()?;
        if let Some(whole) = options.whole {
            outputs.extend(files::whole_model(router.plan(), target.rank, tensors, whole, options)?);
        } else {
            let extension = options.format.extension();
            let path = format!("rank_{0}/checkpoint_{0}.{extension}", target.rank);
            outputs.push(files::file(router.plan(), path, target.rank, tensors, options)?);
        }
    }
    Ok(outputs)
}

fn tensor(router: &mut Router<'_>, entry: &TargetEntry, options: &PlanOptions) -> Result<OutputTensor, PlanError> {
    let precision = match entry.kind {
        Kind::Weight => options.precision,
        Kind::Norm => options.norms,
        Kind::Other => Precision::Keep,
    };
    let made = |dtype, routes| OutputTensor {
        name: entry.name.clone(),
        dtype,
        shape: entry.shape.clone(),
        first_holder: entry.first_holder,
        routes,
    };
    if let Content::Pieces(pieces) = &entry.content
        && let Some(routes) = router.quantised(pieces, entry)?
    {
        return Ok(made(entry.dtype, routes));
    }
    let (from, to) = match precision {
        Precision::To(dtype) if entry.dtype.is_float() => (entry.dtype, dtype),
        _ => (entry.dtype, entry.dtype),
    };
    if from != to && !(to.is_float() && to != Dtype::F64) {
        return Err(PlanError::Cast { name: entry.name.to_string(), from: from.name(), to: to.name() });
    }
    let routes = match &entry.content {
        Content::Pieces(pieces) => router.routes(pieces, &Way::cast(from, to, &entry.shape)),
        Content::Entry(file, index) => {
            let ops = router.pipeline((from != to).then_some(Op::Cast { from, to }).into_iter().collect());
            let moves = Move { src: 0, dst: 0, run: entry.shape.elements(), dims: Box::new([]) };
            let moves = if ops == OpsId::COPY { moves.scaled(from.size()) } else { moves };
            vec![Route { source: router.source(*file, *index), ops, moves }]
        }
    };
    Ok(made(to, routes))
}
