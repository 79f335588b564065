//! Shapes: the one place that multiplies dimensions.

use std::fmt;

use super::Dtype;

/// The most dimensions that a tensor may have. No checkpoint of the field comes near; a hostile file could.
pub const MAX_RANK: usize = 16;

/// Why a list of dimensions is no shape.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// More than [`MAX_RANK`] dimensions.
    #[error("{0} dimensions, more than {MAX_RANK}")]
    TooManyDimensions(usize),
    /// The number of elements or bytes does not fit in 63 bits.
    #[error("shape {0:?} is too large to address")]
    TooLarge(Vec<u64>),
}

/// The dimensions of a tensor, outermost first; `[]` is a scalar. The number of elements always fits in 60 bits,
/// so sizes in bytes and offsets cannot overflow.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Shape(Vec<u64>);

impl Shape {
    /// Checks the dimensions.
    pub fn new(dims: impl Into<Vec<u64>>) -> Result<Self, ShapeError> {
        let dims = dims.into();
        if dims.len() > MAX_RANK {
            return Err(ShapeError::TooManyDimensions(dims.len()));
        }
        // Zero dimensions are left out of the product so that a later `region` of the shape cannot overflow either.
        let elements = dims.iter().filter(|&&d| d != 0).try_fold(1u64, |n, &d| n.checked_mul(d));
        match elements {
            Some(n) if n < 1 << 60 => Ok(Self(dims)),
            _ => Err(ShapeError::TooLarge(dims)),
        }
    }

    /// The shape of a scalar.
    pub fn scalar() -> Self {
        Self(Vec::new())
    }

    /// The dimensions, outermost first.
    pub fn dims(&self) -> &[u64] {
        &self.0
    }

    /// How many dimensions there are.
    pub fn ndim(&self) -> usize {
        self.0.len()
    }

    /// The number of elements: 1 for a scalar, 0 when a dimension is 0.
    pub fn elements(&self) -> u64 {
        self.0.iter().product()
    }

    /// The size in bytes of the elements in row-major order without padding.
    pub fn bytes(&self, dtype: Dtype) -> u64 {
        let (elements, bytes) = dtype.block();
        self.elements().div_ceil(elements) * bytes
    }

    /// Row-major strides in elements, outermost first.
    pub fn strides(&self) -> Vec<u64> {
        let mut strides = vec![1; self.0.len()];
        for axis in (1..self.0.len()).rev() {
            strides[axis - 1] = strides[axis] * self.0[axis];
        }
        strides
    }

    /// The same shape with one dimension replaced.
    pub fn with_dim(&self, axis: usize, dim: u64) -> Result<Self, ShapeError> {
        let mut dims = self.0.clone();
        dims[axis] = dim;
        Self::new(dims)
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::BlockType;
    use super::*;

    #[test]
    fn products_that_overflow_are_refused_even_behind_a_zero() {
        assert!(Shape::new(vec![1 << 32, 1 << 32]).is_err());
        assert!(Shape::new(vec![0, u64::MAX, 3]).is_err());
        assert_eq!(Shape::new(vec![0, 4]).unwrap().elements(), 0);
    }

    #[test]
    fn what_is_quantised_by_blocks_takes_whole_blocks() {
        let shape = Shape::new(vec![3, 64]).unwrap();
        assert_eq!(shape.bytes(Dtype::Blocks(BlockType::Q8_0)), 6 * 34);
        assert_eq!(shape.bytes(Dtype::F16), 384);
        let largest = Shape::new(vec![(1 << 60) - 1]).unwrap();
        assert!(BlockType::ALL.iter().all(|kind| largest.bytes(Dtype::Blocks(*kind)) < 1 << 63));
    }

    #[test]
    fn a_scalar_has_one_element_and_strides_are_row_major() {
        assert_eq!(Shape::scalar().elements(), 1);
        assert_eq!(Shape::new(vec![2, 3, 4]).unwrap().strides(), [12, 4, 1]);
    }
}
