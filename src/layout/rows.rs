//! A range of rows in an axis that is read as several axes (groups, heads, rows of a head).

/// The boxes that a range of rows is made of when the axis is read as `radices` (outermost first), in row order:
/// for each box the first index and the number of indices of every axis, and its first row.
/// At most `2 * radices.len() - 1` boxes, whatever the length of the range.
pub fn boxes_of_rows(start: u64, len: u64, radices: &[u64]) -> Vec<RowBox> {
    let mut boxes = Vec::new();
    cut(start, start + len, radices, &mut Vec::new(), 0, &mut boxes);
    boxes
}

/// One box of [`boxes_of_rows`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowBox {
    /// The first index of each axis.
    pub start: Vec<u64>,
    /// The number of indices of each axis.
    pub len: Vec<u64>,
    /// The first row, counted in the whole axis.
    pub first_row: u64,
}

fn cut(start: u64, end: u64, radices: &[u64], prefix: &mut Vec<u64>, base: u64, boxes: &mut Vec<RowBox>) {
    if start >= end {
        return;
    }
    let Some((_, inner)) = radices.split_first() else { return };
    let group: u64 = inner.iter().product();
    let (head, tail) = (start.div_ceil(group), end / group);
    if head > tail {
        // Both ends lie inside one group.
        let index = start / group;
        prefix.push(index);
        cut(start - index * group, end - index * group, inner, prefix, base + index * group, boxes);
        prefix.pop();
        return;
    }
    if start < head * group {
        prefix.push(head - 1);
        let shift = (head - 1) * group;
        cut(start - shift, group, inner, prefix, base + shift, boxes);
        prefix.pop();
    }
    if head < tail {
        boxes.push(RowBox {
            start: prefix.iter().copied().chain([head]).chain(inner.iter().map(|_| 0)).collect(),
            len: prefix.iter().map(|_| 1).chain([tail - head]).chain(inner.iter().copied()).collect(),
            first_row: base + head * group,
        });
    }
    if end > tail * group {
        prefix.push(tail);
        let shift = tail * group;
        cut(0, end - shift, inner, prefix, base + shift, boxes);
        prefix.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every range of every small mixed radix, row by row.
    #[test]
    fn boxes_list_each_row_once_and_in_order() {
        for radices in [vec![6], vec![3, 4], vec![2, 3, 2], vec![1, 1, 3], vec![2, 1, 2]] {
            let rows: u64 = radices.iter().product();
            for start in 0..rows {
                for len in 1..=rows - start {
                    let mut seen = Vec::new();
                    for b in boxes_of_rows(start, len, &radices) {
                        let mut inner: Vec<u64> = vec![0];
                        for (axis, &radix) in radices.iter().enumerate() {
                            let range = b.start[axis]..b.start[axis] + b.len[axis];
                            inner = inner.iter().flat_map(|&i| range.clone().map(move |j| i * radix + j)).collect();
                        }
                        assert_eq!(inner[0], b.first_row);
                        seen.extend(inner);
                    }
                    assert_eq!(seen, (start..start + len).collect::<Vec<_>>(), "{radices:?} {start}+{len}");
                }
            }
        }
    }
}
