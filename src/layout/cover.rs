//! The proof that moves write every unit of a target exactly once.

use super::{Dim, Move};

/// What a set of moves does to its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CoverFault {
    /// Nothing writes this unit.
    Gap(u64),
    /// Two moves write this unit.
    Overlap(u64),
    /// A move writes past the end.
    Outside(u64),
}

/// The units of the target that one move writes.
#[derive(Clone, Debug)]
pub struct Footprint<'a> {
    start: u64,
    run: u64,
    /// Outermost first; only `count` and `dst_stride` matter here.
    dims: &'a [Dim],
}

impl<'a> From<&'a Move> for Footprint<'a> {
    fn from(m: &'a Move) -> Self {
        Self { start: m.dst, run: m.run, dims: &m.dims }
    }
}

impl Footprint<'_> {
    fn end(&self) -> u64 {
        self.start + self.run + self.dims.iter().map(|d| (d.count - 1) * d.dst_stride).sum::<u64>()
    }
}

/// Proves that the footprints tile `0 .. total`: no gap, no overlap, nothing outside.
/// Strided footprints that repeat with one period are proved in one period, so the work does not grow with the rows.
pub fn exact_cover(footprints: Vec<Footprint<'_>>, total: u64) -> Result<(), CoverFault> {
    tile(footprints, 0, total)
}

/// Proves that the footprints tile `from .. to`.
fn tile(mut prints: Vec<Footprint<'_>>, from: u64, to: u64) -> Result<(), CoverFault> {
    prints.sort_by_key(|p| p.start);
    let mut at = from;
    let mut rest = prints.into_iter().peekable();
    while let Some(first) = rest.next() {
        if first.start > at {
            return Err(CoverFault::Gap(at));
        }
        if first.start < at {
            return Err(CoverFault::Overlap(first.start));
        }
        // Everything that begins before this one ends belongs together.
        let mut end = first.end();
        let mut cluster = vec![first];
        while let Some(next) = rest.next_if(|p| p.start < end) {
            end = end.max(next.end());
            cluster.push(next);
        }
        if end > to {
            return Err(CoverFault::Outside(to));
        }
        tile_cluster(cluster, at, end)?;
        at = end;
    }
    if at < to { Err(CoverFault::Gap(at)) } else { Ok(()) }
}

fn tile_cluster(cluster: Vec<Footprint<'_>>, from: u64, to: u64) -> Result<(), CoverFault> {
    if let [one] = cluster.as_slice()
        && one.dims.is_empty()
    {
        return Ok(());
    }
    if let Some(second) = cluster.get(1)
        && cluster.iter().all(|p| p.dims.is_empty())
    {
        return Err(CoverFault::Overlap(second.start));
    }
    let outer = |p: &Footprint<'_>| p.dims.first().map(|d| (d.count, d.dst_stride));
    let shared = outer(&cluster[0]);
    let one_period = shared.filter(|&(count, stride)| {
        count * stride == to - from && cluster.iter().all(|p| outer(p) == shared && p.start < from + stride)
    });
    if let Some((_, stride)) = one_period {
        let inner = cluster.into_iter().map(|p| Footprint { dims: &p.dims[1..], ..p }).collect();
        return tile(inner, from, from + stride);
    }
    // No common period: unroll the outermost repetition of each.
    let mut unrolled = Vec::new();
    for p in cluster {
        match p.dims.split_first() {
            None => unrolled.push(p),
            Some((dim, inner)) => unrolled.extend((0..dim.count).map(|i| Footprint {
                start: p.start + i * dim.dst_stride,
                run: p.run,
                dims: inner,
            })),
        }
    }
    tile(unrolled, from, to)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(dst: u64, run: u64, rows: u64, width: u64) -> Move {
        Move { src: 0, dst, run, dims: Box::new([Dim { count: rows, src_stride: 1, dst_stride: width }]) }
    }

    fn prove(moves: &[Move], total: u64) -> Result<(), CoverFault> {
        exact_cover(moves.iter().map(Footprint::from).collect(), total)
    }

    #[test]
    fn columns_that_tile_are_proved_and_a_missing_or_doubled_one_is_named() {
        let (a, b) = (columns(0, 3, 1000, 8), columns(3, 5, 1000, 8));
        assert_eq!(prove(&[b.clone(), a.clone()], 8000), Ok(()));
        assert_eq!(prove(std::slice::from_ref(&a), 8000), Err(CoverFault::Gap(3)));
        assert_eq!(prove(&[a.clone(), columns(2, 6, 1000, 8)], 8000), Err(CoverFault::Overlap(2)));
        assert_eq!(prove(&[a, b], 7999), Err(CoverFault::Outside(7999)));
    }

    #[test]
    fn different_periods_are_unrolled() {
        let low = Move { src: 0, dst: 0, run: 8, dims: Box::new([]) };
        let odd = columns(10, 2, 4, 4);
        assert_eq!(prove(&[low.clone(), columns(8, 2, 2, 8), odd.clone(), columns(12, 2, 2, 8)], 24), Ok(()));
        assert_eq!(prove(&[low, columns(8, 2, 2, 8), odd, columns(12, 1, 2, 8)], 24), Err(CoverFault::Gap(13)));
    }
}
