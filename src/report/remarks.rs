//! Weights that no training leaves: zeros, infinite values and NaN.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::engine::{RunSummary, TensorResult};
use crate::plan::{OutputTensor, Plan, list};

/// How many tensors are named in a text.
const SHOWN: usize = 20;

/// What is remarkable about the values of one tensor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Remark {
    /// The tensor in the target.
    pub name: String,
    /// NaN values, over all ranks, each element once.
    pub nan: u64,
    /// Infinite values that the source held already, counted in the same way.
    pub infinite: u64,
    /// Whether it is a matrix of weights that is zero in every file that holds it.
    pub zero: bool,
    /// The files in which it is zero, where it is not in all of them.
    pub zero_in: Vec<String>,
}

/// What is remarkable about the values of a target.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize)]
pub struct Remarks {
    /// Tensors, in the order of the plan.
    pub tensors: Vec<Remark>,
    /// Files in which every value is zero.
    pub zero_files: Vec<String>,
}

/// Infinite values that were not made by the conversion.
pub(super) fn infinite(result: TensorResult) -> u64 {
    result.values.infinite.saturating_sub(result.overflowed)
}

/// Whether a tensor has values, all of them zero.
pub(super) fn is_zero(tensor: &OutputTensor, result: TensorResult) -> bool {
    !result.values.nonzero && tensor.shape.elements() > 0
}

/// Whether zeros throughout are a sign that something is missing: biases and zero points may well be zero.
fn is_matrix(tensor: &OutputTensor) -> bool {
    tensor.shape.dims().len() > 1 && tensor.name.ends_with("weight")
}

impl Remarks {
    /// Looks through the results of a run.
    pub fn new(plan: &Plan, run: &RunSummary) -> Self {
        let mut found = Self::default();
        // The number of files that hold a tensor, and what is known of it.
        let mut places: BTreeMap<&str, usize> = BTreeMap::new();
        let mut order: Vec<&str> = Vec::new();
        let mut remarks: BTreeMap<&str, Remark> = BTreeMap::new();
        for (file, results) in plan.outputs.iter().zip(&run.tensors) {
            let all = || file.tensors.iter().zip(results.iter().copied());
            let is_empty = all().all(|(tensor, _)| tensor.shape.elements() == 0);
            let zero_file = !is_empty && all().all(|(_, result)| !result.values.nonzero);
            if zero_file {
                found.zero_files.push(file.path.clone());
            }
            for (tensor, result) in all() {
                let name = tensor.name.as_str();
                *places.entry(name).or_default() += 1;
                let counted = tensor.first_holder && (result.values.nan > 0 || infinite(result) > 0);
                let zero = !zero_file && is_matrix(tensor) && is_zero(tensor, result);
                if !counted && !zero {
                    continue;
                }
                let remark = remarks.entry(name).or_insert_with(|| {
                    order.push(name);
                    Remark { name: name.to_owned(), nan: 0, infinite: 0, zero: false, zero_in: Vec::new() }
                });
                if counted {
                    remark.nan += result.values.nan;
                    remark.infinite += infinite(result);
                }
                if zero {
                    remark.zero_in.push(file.path.clone());
                }
            }
        }
        for name in order {
            let Some(mut remark) = remarks.remove(name) else { continue };
            if places.get(name) == Some(&remark.zero_in.len()) {
                remark.zero = true;
                remark.zero_in.clear();
            }
            found.tensors.push(remark);
        }
        found
    }

    /// Whether nothing is remarkable.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty() && self.zero_files.is_empty()
    }

    /// A warning a line.
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> =
            self.tensors.iter().take(SHOWN).map(|remark| format!("WARNING: {remark}")).collect();
        if self.tensors.len() > SHOWN {
            lines.push(format!("WARNING: ... and {} more tensors", self.tensors.len() - SHOWN));
        }
        if !self.zero_files.is_empty() {
            lines.push(format!("WARNING: every value is zero in {}", list(&self.zero_files)));
        }
        lines
    }
}

impl std::fmt::Display for Remark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut parts = Vec::new();
        let values = |count: u64| if count == 1 { "value" } else { "values" };
        match (self.nan, self.infinite) {
            (0, 0) => {}
            (nan, 0) => parts.push(format!("holds {nan} NaN {}", values(nan))),
            (0, infinite) => parts.push(format!("holds {infinite} infinite {}", values(infinite))),
            (nan, infinite) => parts.push(format!("holds {nan} NaN and {infinite} infinite {}", values(infinite))),
        }
        if self.zero {
            parts.push("is zero throughout".to_owned());
        } else if !self.zero_in.is_empty() {
            parts.push(format!("is zero throughout in {}", list(&self.zero_in)));
        }
        write!(f, "`{}` {}", self.name, parts.join(", and "))
    }
}
