//! Integers of fp16 numbers: each divided by the scale of its group and rounded.

use super::operands::Operands;
use crate::engine::quantise::{Row, quantise_row};
use crate::plan::{OperandId, Quantise};
use crate::source::index;
use crate::tensor::Dtype;

/// Numbers of an operand that are read at once.
const AHEAD: u64 = 4096;

/// The op with what it takes beside the elements.
pub(super) struct Quantiser<'a> {
    how: &'a Quantise,
    scales: Numbers<'a>,
    /// One factor for each column.
    multiply: Option<Vec<f32>>,
    divide: Option<Numbers<'a>>,
}

impl<'a> Quantiser<'a> {
    pub(super) fn new(operands: &'a dyn Operands, how: &'a Quantise) -> Self {
        let numbers = |operand: OperandId| Numbers { operands, operand, first: 0, values: Vec::new() };
        let multiply = how.multiply.map(|id| numbers(id).read(0, how.columns));
        Self { how, scales: numbers(how.scales), multiply, divide: how.divide.map(numbers) }
    }

    /// Quantises elements of fp16 to one integer a byte, whatever the width; the first is element `at` of the tensor.
    pub(super) fn apply(&mut self, at: u64, elements: &[u8], integers: &mut [u8]) {
        let (columns, group) = (self.how.columns.max(1), self.how.group.max(1));
        let mut begin = 0;
        while begin < integers.len() {
            let element = at + begin as u64;
            let (row, column) = (element / columns, index(element % columns));
            // Groups divide the rows, so the groups of all rows are counted like the elements.
            let of_group = element / group;
            let len = (integers.len() - begin).min(index((of_group + 1) * group - element));
            let what = Row {
                width: self.how.width,
                arithmetic: self.how.arithmetic,
                scale: self.scales.at(of_group),
                multiply: self.multiply.as_ref().map(|factors| &factors[column..column + len]),
                divide: self.divide.as_mut().map(|divisors| divisors.at(row)),
            };
            quantise_row(&what, &elements[begin * 2..(begin + len) * 2], &mut integers[begin..begin + len]);
            begin += len;
        }
    }
}

/// Numbers of an operand, some of them at a time.
struct Numbers<'a> {
    operands: &'a dyn Operands,
    operand: OperandId,
    /// Which number `values` begins with.
    first: u64,
    values: Vec<f32>,
}

impl Numbers<'_> {
    fn at(&mut self, number: u64) -> f32 {
        let held = number.checked_sub(self.first).and_then(|at| self.values.get(index(at)));
        if let Some(value) = held {
            return *value;
        }
        let left = self.operands.operand(self.operand).shape.elements().saturating_sub(number);
        (self.first, self.values) = (number, self.read(number, left.clamp(1, AHEAD)));
        self.values[0]
    }

    fn read(&self, from: u64, count: u64) -> Vec<f32> {
        let dtype = self.operands.operand(self.operand).dtype;
        let mut bytes = vec![0; index(count * dtype.size())];
        self.operands.read(self.operand, from * dtype.size(), &mut bytes);
        match dtype {
            Dtype::F16 => bytes.as_chunks::<2>().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f32()).collect(),
            _ => bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        }
    }
}
