//! Catalog and target to a plan.

use super::calculation::Computed;
use super::catalog::Catalog;
use super::derive::quantise::QuantisedModel;
use super::options::{PlanOptions, Precision};
use super::route::{OutputFile, OutputTensor, Route, Transform};
use super::router::{self, Router};
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
    let Router { tensors, updates, factors, .. } = router;
    Ok(Plan { sources: router::sources(files), tensors, outputs, updates, factors, computed: None })
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
    let calculations = model.linears.iter().map(|l| l.calculation(|name, what| router.gather(name, what))).collect();
    let (bytes, caches) = (model.room.bytes.clone(), model.caches.clone());
    let computed = Some(Computed { source: files.len() - 1, bytes, calculations, caches });
    let Router { tensors, updates, factors, .. } = router;
    Ok(Plan { sources: router::sources(files), tensors, outputs, updates, factors, computed })
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
            outputs.extend(files::whole_model(&router.tensors, target.rank, tensors, whole, options)?);
        } else {
            let extension = options.format.extension();
            let path = format!("rank_{0}/checkpoint_{0}.{extension}", target.rank);
            outputs.push(files::file(&router.tensors, path, target.rank, tensors, options)?);
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
    if let Content::Pieces(pieces) = &entry.content
        && let Some(quantised) = router.quantised(pieces, entry)?
    {
        return Ok(OutputTensor {
            name: entry.name.clone(),
            dtype: entry.dtype,
            shape: entry.shape.clone(),
            first_holder: entry.first_holder,
            routes: Vec::new(),
            quantised: Some(Box::new(quantised)),
        });
    }
    let dtype = match precision {
        Precision::To(dtype) if entry.dtype.is_float() => dtype,
        _ => entry.dtype,
    };
    let transform =
        if dtype == entry.dtype { Transform::Copy } else { Transform::Cast { from: entry.dtype, to: dtype } };
    if let Transform::Cast { from, to } = transform
        && !(to.is_float() && to != Dtype::F64)
    {
        return Err(PlanError::Cast { name: entry.name.to_string(), from: from.name(), to: to.name() });
    }
    let routes = match &entry.content {
        Content::Pieces(pieces) => router.routes(pieces, entry.dtype, transform),
        Content::Entry(file, index) => {
            let moves = Move { src: 0, dst: 0, run: entry.shape.elements(), dims: Box::new([]) };
            let moves = if transform == Transform::Copy { moves.scaled(entry.dtype.size()) } else { moves };
            vec![Route { source: router.source(*file, *index), transform, moves }]
        }
    };
    Ok(OutputTensor {
        name: entry.name.clone(),
        dtype,
        shape: entry.shape.clone(),
        first_holder: entry.first_holder,
        routes,
        quantised: None,
    })
}
