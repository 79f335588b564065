//! One quantised linear layer as a value: its parts, and its places in the computed range.

use super::room::Place;
use crate::model::naming::LayerParam;
use crate::plan::calculation::{Calculation, InputScales, Inverse, Range, Smooth};
use crate::plan::catalog::LogicalTensor;
use crate::plan::{Arithmetic, OutputTensor, Width};
use crate::tensor::{Dtype, TensorName};

/// Rows of tensors that are one matrix, or elements that are one vector, in order.
#[derive(Clone, Debug)]
pub(in crate::plan) struct Gathered {
    /// Index among the catalog's vectors, and the first row.
    pub parts: Vec<(usize, u64)>,
    /// Elements of a row.
    pub columns: u64,
    /// What they are cast to.
    pub dtype: Dtype,
}

/// A linear layer that is quantised as one matrix.
#[derive(Debug)]
pub(in crate::plan) struct Linear {
    pub(super) name: String,
    pub(super) parts: Vec<Part>,
    pub(super) rows: u64,
    pub(super) columns: u64,
    pub(super) weight: Gathered,
    pub(super) width: Width,
    pub(super) group: Option<u64>,
    pub(super) arithmetic: Arithmetic,
    pub(super) scales: Place,
    pub(super) half: Option<Place>,
    pub(super) divide: Option<Place>,
    pub(super) factors: Option<Place>,
    pub(super) multiply: Option<usize>,
    pub(super) smooth: Option<Folded>,
    pub(super) input: Option<Input>,
}

#[derive(Debug)]
pub(super) struct Part {
    pub(super) name: String,
    pub(super) first: u64,
    pub(super) rows: u64,
}

impl Part {
    /// The decoder layer, and which of its weights this is.
    pub(super) fn weight(&self) -> Option<(u32, LayerParam)> {
        LayerParam::of(&format!("{}.weight", self.name))
    }
}

#[derive(Debug)]
pub(super) struct Folded {
    pub(super) alpha_milli: u32,
    pub(super) repeat: u64,
    pub(super) block: u64,
    pub(super) inverse: FoldedInto,
}

#[derive(Debug)]
pub(super) enum FoldedInto {
    Norm { vector: Gathered, to: Place },
    Rows { to: u64 },
    Input,
}

#[derive(Debug)]
pub(super) struct Input {
    pub(super) range: Range,
    pub(super) bias: Option<Gathered>,
    pub(super) new_bias: Place,
    pub(super) dequant: Place,
    pub(super) scales: Place,
    pub(super) zero_points: Place,
    /// The tensors of scales and zero points, named for the first part.
    pub(super) tensors: [LogicalTensor; 2],
}

impl Linear {
    /// The calculation, with routes by the code that can make them.
    pub(in crate::plan) fn calculation(&self, mut gather: impl FnMut(&str, &Gathered) -> OutputTensor) -> Calculation {
        let smooth = self.smooth.as_ref().zip(self.factors).map(|(folded, factors)| Smooth {
            alpha_milli: folded.alpha_milli,
            factors: factors.at,
            repeat: folded.repeat,
            block: folded.block,
            inverse: match &folded.inverse {
                FoldedInto::Norm { vector, to } => {
                    Inverse::Vector { vector: Box::new(gather(&self.name, vector)), dtype: to.dtype, to: to.at }
                }
                FoldedInto::Rows { to } => Inverse::Rows { to: *to },
                FoldedInto::Input => Inverse::Input,
            },
        });
        let input = self.input.as_ref().map(|input| InputScales {
            range: input.range.clone(),
            bias: input.bias.as_ref().map(|bias| Box::new(gather(&self.name, bias))),
            new_bias: input.new_bias.at,
            dequant_scales: input.dequant.at,
            scales: input.scales.at,
            zero_points: input.zero_points.at,
        });
        Calculation {
            name: TensorName::from(self.name.as_str()),
            rows: self.rows,
            columns: self.columns,
            weight: gather(&self.name, &self.weight),
            group: self.group.unwrap_or(self.columns),
            width: self.width,
            arithmetic: self.arithmetic,
            scales: self.scales.at,
            half_scales: self.half.map(|p| p.at),
            smooth,
            divide: self.divide.map(|p| p.at),
            input,
        }
    }
}
