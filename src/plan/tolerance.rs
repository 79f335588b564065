//! What is compared of a quantised checkpoint and the unquantised one that it was made of.

use std::collections::HashMap;

use super::builder::Builder;
use super::quantise::Gathered;
use super::{Catalog, OutputTensor, Plan, PlanError, SourceFile};
use crate::models::before;
use crate::tensor::Dtype;

/// A tensor of both checkpoints.
#[derive(Clone, Debug)]
pub struct Compare {
    /// Its name in the unquantised one.
    pub name: String,
    /// Elements of a row.
    pub columns: u64,
    /// Brings the unquantised elements, as fp16 or, where nothing is quantised, in the other's dtype.
    pub plain: OutputTensor,
    /// Brings the other's elements, as they are.
    pub other: OutputTensor,
    /// Brings the scale of each row, as fp16, where the other is quantised.
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
/// One that is not w8a16 (smoothed weights are other weights, and only w8a16 has none), tensors that only one of them has,
/// or of other shapes.
pub fn tolerance(
    plain_files: &[SourceFile<'_>],
    plain: &Catalog,
    other_files: &[SourceFile<'_>],
    other: &Catalog,
) -> Result<Tolerance, PlanError> {
    if !matches!(other.quantised_as(), Some((true, false, _))) {
        let why = "--tolerance compares an unquantised checkpoint with a w8a16 or w8a16c8 one, in this order: the weights of \
                   others may be smoothed, and are not comparable one by one";
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
        if there.shape != tensor.shape {
            return Err(PlanError::Quantised(format!(
                "`{}` is {} in one and {} in the other",
                tensor.name, tensor.shape, there.shape
            )));
        }
        let quantised = there.dtype == Dtype::I8;
        let columns = tensor.shape.dims().iter().skip(1).product();
        let scales = if quantised { Some(scale_of(other, &there.name)?) } else { None };
        let gathered = |catalog: &mut Catalog, tensor: super::LogicalTensor, dtype| {
            catalog.vectors.push(tensor);
            Gathered { parts: vec![(catalog.vectors.len() - 1, 0)], columns, dtype }
        };
        let dtype = if quantised { Dtype::F16 } else { there.dtype };
        let mine = gathered(&mut a, tensor.clone(), dtype);
        let theirs = gathered(&mut b, there.clone(), there.dtype);
        let scales =
            scales.map(|index| Gathered { columns: 1, ..gathered(&mut b, other.tensors()[index].clone(), Dtype::F16) });
        found.push((tensor.name.to_string(), columns, mine, theirs, scales));
    }
    if !lacks.is_empty() {
        return Err(PlanError::Lacks(lacks));
    }
    let (mut a_builder, mut b_builder) = (Builder::new(plain_files, &a), Builder::new(other_files, &b));
    let pairs = found
        .into_iter()
        .map(|(name, columns, mine, theirs, scales)| Compare {
            columns,
            plain: a_builder.gather(&name, &mine),
            other: b_builder.gather(&name, &theirs),
            scales: scales.map(|scales| b_builder.gather(&name, &scales)),
            name,
        })
        .collect();
    Ok(Tolerance { plain: a_builder.into_plan(), other: b_builder.into_plan(), pairs })
}

/// The scales of a quantised weight.
fn scale_of(catalog: &Catalog, weight: &str) -> Result<usize, PlanError> {
    let tails = [("_layer.weight", "_layer.matmul.t_scale"), ("_layer.weight", "_layer.matmul.weight_scale")];
    let rtn = ("_handler.weight", "_weight_quantizer.scale");
    let named = |(end, scale): &(&str, &str)| Some(format!("{}{scale}", weight.strip_suffix(end)?));
    let found = tails.iter().chain([&rtn]).filter_map(named).find_map(|name| catalog.get(&name));
    let rows = |index: &usize| catalog.tensors()[*index].shape.ndim() == 1;
    found.filter(rows).ok_or_else(|| PlanError::Lacks(vec![format!("the scales of {weight}")]))
}
