//! What is computed from whole tensors before anything is written: scales, and what goes with them.
//!
//! The results are small (a few numbers for each row) and lie in the memory of the plan, which routes read like a source file.
//! Which bytes are what is said here by offsets, so that the code that computes them needs no names.

use super::OutputTensor;
use super::op::{Arithmetic, Width};
use crate::tensor::{Dtype, TensorName};

/// What is computed of whole tensors, and where in the memory of the plan it goes. Offsets are of bytes there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pass {
    /// The scales of a matrix that is quantised, and what goes with them.
    Matrix(Box<Calculation>),
    /// The scales of quantised keys and values.
    Caches(CacheScales),
}

/// A matrix that is quantised, and where its numbers go. Offsets are of bytes in the memory of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calculation {
    /// What it is called in reports.
    pub name: TensorName,
    /// All its rows.
    pub rows: u64,
    /// Elements of a row.
    pub columns: u64,
    /// Brings its elements, row by row, as fp16. Never written.
    pub weight: OutputTensor,
    /// How many neighbours of a row have one scale: a divisor of `columns`, which is all of them.
    pub group: u64,
    /// What its elements become.
    pub width: Width,
    /// In which precision.
    pub arithmetic: Arithmetic,
    /// Where the scale of each group goes, row by row, as [`Arithmetic::scales`] says.
    pub scales: u64,
    /// Where the same goes as fp16, where that is another precision.
    pub half_scales: Option<u64>,
    /// How its columns are smoothed.
    pub smooth: Option<Smooth>,
    /// Where the divisors of its rows are, as fp16. They are ones unless the smoothing of another matrix puts others there.
    pub divide: Option<u64>,
    /// What its input's quantisation needs.
    pub input: Option<InputScales>,
}

/// `SmoothQuant`: columns are multiplied by factors, of which whatever makes the input takes the inverse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Smooth {
    /// How much of the outliers goes to the weights, in 1/1000.
    pub alpha_milli: u32,
    /// Where the factor of each column goes, as fp16.
    pub factors: u64,
    /// Columns that must have one factor: `repeat` blocks of `block` columns follow one another, of which those at the same
    /// place share. 1 block: none.
    pub repeat: u64,
    /// Columns of a block.
    pub block: u64,
    /// What takes the inverse.
    pub inverse: Inverse,
}

/// What is divided by the factors, to undo what they multiply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inverse {
    /// A vector (the weight of a norm) is divided; the result goes to `to`, as `dtype`.
    Vector {
        /// Brings the vector, as `dtype`. Never written.
        vector: Box<OutputTensor>,
        /// fp16, bf16 or fp32.
        dtype: Dtype,
        /// Where the result goes.
        to: u64,
    },
    /// Rows of another matrix are: the divisors, one for each shared factor, go to `to`, as fp16.
    Rows {
        /// Where they go.
        to: u64,
    },
    /// The input itself, when it is quantised.
    Input,
}

/// The input of a quantised matrix: what was observed, and where its numbers go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputScales {
    /// The least and the greatest of each column.
    pub range: Range,
    /// Brings the bias that is there already, as fp16. Never written.
    pub bias: Option<Box<OutputTensor>>,
    /// Where the new bias of each row goes, as fp16.
    pub new_bias: u64,
    /// Where the product of both scales goes, as the low half of an int64.
    pub dequant_scales: u64,
    /// Where the scale of each column goes, as fp16.
    pub scales: u64,
    /// Where the zero point of each column goes, as int8.
    pub zero_points: u64,
}

/// The least and the greatest value of each channel, as the bits of fp16 numbers.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Range {
    /// The least.
    pub min: Vec<u16>,
    /// The greatest.
    pub max: Vec<u16>,
}

/// The caches of keys and values of one layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheScales {
    /// What it is called in reports.
    pub name: TensorName,
    /// What was observed of the keys' channels.
    pub keys: Range,
    /// What was observed of the values' channels.
    pub values: Range,
    /// Where divisors of the values are, as fp16, where the rows that make them are smoothed.
    pub divide: Option<u64>,
    /// Where the keys' scales go, as fp16, each time.
    pub key_scales: Vec<u64>,
    /// Where the values' scales go, as fp16, each time.
    pub value_scales: Vec<u64>,
    /// Where both go, keys first, each as the low half of an int64.
    pub packed: u64,
}
