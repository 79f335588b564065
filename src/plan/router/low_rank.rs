//! Where in a weight a stored shard of it lies, so that the product of an adapter's factors is added at the right place.

use crate::plan::SourceFile;
use crate::plan::catalog::LogicalTensor;
use crate::plan::holders::Holder;
use crate::plan::route::LowRank;

/// Where in the whole weight a stored shard of it lies. `a`, `b`: the factors in the plan.
pub(super) fn place(
    files: &[SourceFile<'_>],
    tensor: &LogicalTensor,
    holder: &Holder,
    (a, b, scale): (usize, usize, f32),
) -> LowRank {
    // The rows may be read as several axes; the last axis is the columns.
    let start = holder.piece.region.start();
    let (heads, column) = start.split_at(tensor.radices.len().min(start.len()));
    let row = heads.iter().zip(&tensor.radices).fold(0, |row, (at, radix)| row * radix + at);
    let width = files[holder.file].entries[holder.entry].shape.dims().get(1).copied().unwrap_or(1).max(1);
    // After each group of its rows a fused weight has those of its other parts: along one axis the rows are farther apart in the
    // file than in the weight.
    let steps = (0..heads.len()).map(|axis| {
        let in_weight: u64 = tensor.radices.iter().skip(axis + 1).product();
        (holder.piece.strides()[axis] / width, in_weight, holder.piece.region.len()[axis])
    });
    let apart = steps.filter(|&(_, _, len)| len > 1).find(|(in_file, in_weight, _)| in_file != in_weight);
    let group = apart.map_or((1, 1), |(in_file, in_weight, _)| (in_file, in_weight));
    let from = (holder.piece.offset / width, holder.piece.offset % width);
    LowRank { a, b, scale, width, from, to: (row, column.first().copied().unwrap_or(0)), group }
}
