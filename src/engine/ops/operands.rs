//! What ops take beside the elements.

use crate::plan::{OperandId, OutputTensor};

/// The reader of a plan's operands.
pub(in crate::engine) trait Operands {
    /// Which matrix or vector it is.
    fn operand(&self, id: OperandId) -> &OutputTensor;

    /// Reads its bytes from one on.
    fn read(&self, id: OperandId, from: u64, buf: &mut [u8]);
}
