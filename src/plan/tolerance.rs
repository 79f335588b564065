//! What is compared of a quantised checkpoint and the unquantised one that it was made of.

use std::collections::HashMap;

use super::derive::quantise::Gathered;
use super::router::Router;
use super::{Catalog, OutputTensor, Plan, PlanError, QuantisedAs, SourceFile, Width};
use crate::model::naming::{before, columns_in_one, scale_names};
use crate::tensor::{Dtype, Shape};

/// A tensor of both checkpoints.
#[derive(Clone, Debug)]
pub struct Compare {
    /// Its name in the unquantised one.
    pub name: String,
    /// How many elements, one after the other, have one scale.
    pub group: u64,
    /// What the other's elements are, where it is quantised.
    pub width: Width,
    /// Brings the unquantised elements, as fp16 or, where nothing is quantised, in the other's dtype.
    pub plain: OutputTensor,
    /// Brings the other's elements, as they are.
    pub other: OutputTensor,
    /// Brings the scale of each row or group of columns, as fp16, where the other is quantised.
    pub scales: Option<OutputTensor>,
}

/// Routes of everything that two checkpoints hold, one of them quantised. Both plans have no outputs.
#[derive(Debug)]
pub struct Tolerance {
    /// The unquantised one's sources.
    pub plain: Plan,
    /// The quantised one's.
    pub other: Plan,
    /// What is compared.
    pub pairs: Vec<Compare>,
}

/// Pairs a quantised checkpoint with the unquantised one.
///
/// # Errors
/// One that is not w8a16 or w4a16 (smoothed weights are other weights, and only these have none), tensors that only one of them has,
/// or of other shapes.
pub fn tolerance(
    plain_files: &[SourceFile<'_>],
    plain: &Catalog,
    other_files: &[SourceFile<'_>],
    other: &Catalog,
) -> Result<Tolerance, PlanError> {
    if !matches!(other.quantised_as(), Some(QuantisedAs { weights: Some(_), inputs: false, .. })) {
        let why = "--tolerance compares an unquantised checkpoint with a w8a16, w4a16 or w8a16c8 one, in this order: the \
                   weights of others may be smoothed, and are not comparable one by one";
        return Err(PlanError::Quantised(why.to_owned()));
    }
    let (mut a, mut b) = (plain.clone(), other.clone());
    let of_b: HashMap<String, usize> =
        (0..).zip(other.tensors()).map(|(i, t)| (before(&t.name).unwrap_or_else(|| t.name.to_string()), i)).collect();
    let mut found = Vec::new();
    let mut lacks = Vec::new();
    for tensor in plain.tensors() {
        let Some(&index) = of_b.get(&*tensor.name) else {
            lacks.push(tensor.name.to_string());
            continue;
        };
        let there = &other.tensors()[index];
        let width = if columns_in_one(&there.name) == 1 { Width::Int8 } else { Width::Int4 };
        let mut dims = there.shape.dims().to_vec();
        dims.iter_mut().skip(1).for_each(|columns| *columns *= width.in_a_byte());
        if dims != tensor.shape.dims() {
            return Err(PlanError::Quantised(format!(
                "`{}` is {} in one and {} in the other",
                tensor.name, tensor.shape, there.shape
            )));
        }
        let quantised = *there.name != *tensor.name && there.shape.ndim() == 2;
        let columns: u64 = tensor.shape.dims().iter().skip(1).product();
        let scales = if quantised { Some(scale_of(other, &there.name, &tensor.shape)?) } else { None };
        let group = scales.map_or(columns, |at| tensor.shape.elements() / other.tensors()[at].shape.elements().max(1));
        let gathered = |catalog: &mut Catalog, tensor: super::LogicalTensor, dtype| {
            catalog.vectors.push(tensor);
            Gathered { parts: vec![(catalog.vectors.len() - 1, 0)], columns, dtype }
        };
        let dtype = if quantised { Dtype::F16 } else { there.dtype };
        let mine = gathered(&mut a, tensor.clone(), dtype);
        let theirs = gathered(&mut b, there.clone(), there.dtype);
        let scales =
            scales.map(|index| Gathered { columns: 1, ..gathered(&mut b, other.tensors()[index].clone(), Dtype::F16) });
        found.push((tensor.name.to_string(), (group, width), mine, theirs, scales));
    }
    if !lacks.is_empty() {
        return Err(PlanError::Lacks(lacks));
    }
    let (mut a_router, mut b_router) = (Router::new(plain_files, &a), Router::new(other_files, &b));
    let pairs = found
        .into_iter()
        .map(|(name, (group, width), mine, theirs, scales)| Compare {
            group,
            width,
            plain: a_router.gather(&name, &mine),
            other: b_router.gather(&name, &theirs),
            scales: scales.map(|scales| b_router.gather(&name, &scales)),
            name,
        })
        .collect();
    Ok(Tolerance { plain: a_router.into_plan(Vec::new()), other: b_router.into_plan(Vec::new()), pairs })
}

/// The scales of a quantised weight of this shape: one for each row, or for each group of columns.
fn scale_of(catalog: &Catalog, weight: &str, shape: &Shape) -> Result<usize, PlanError> {
    let &[rows, columns] = shape.dims() else { return Err(PlanError::Lacks(vec![format!("the rows of {weight}")])) };
    let fits = |index: &usize| match *catalog.tensors()[*index].shape.dims() {
        [found] => found == rows,
        [found, groups] => found == rows && groups > 0 && columns.is_multiple_of(groups),
        _ => false,
    };
    let found = scale_names(weight).into_iter().find_map(|name| catalog.get(&name));
    found.filter(fits).ok_or_else(|| PlanError::Lacks(vec![format!("the scales of {weight}")]))
}
