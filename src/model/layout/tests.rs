//! Every element of every device's file, against slicing of the whole tensor element by element.

mod blocks;
mod next;

use std::cell::Cell;
use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

use super::*;
use crate::layout::OptimizerShard;
use crate::model::scheme::{EXPERT, PackPart};
use crate::model::{Axis, ParamId, builtin_families};

/// Rows that no family has yet: transposed, interleaved, two outer axes, joined columns, experts one by one.
const STRANGE: &str = "
family: strange
params:
  once: {scalar: {dims: [], role: norm}}
  layer:
    a: {dims: [[A, B, C], [D, E]], cut: A}
    b: {dims: [[A, C], [D, E]], cut: A}
    c: {dims: [[Expert], [F], [A]], cut: {tensor: F, expert: Expert}}
    d: {dims: [[Expert], [G], [A]], cut: {tensor: G, expert: Expert}}
schemes:
  x:
    names:
      '': {s: scalar}
      'layers.{l}.':
        a.weight: {is: a, dims: [[C, A, B], [D, E]]}
        b.weight: {is: b, dims: [[D, E], [C, A]]}
        ab.weight: {join: [a, b], outer: [A]}
        ba.weight: {join: [b, {is: a, dims: [[A, C, B], [D, E]]}, b], outer: [A, C]}
        ab.all.weight: {join: [{is: a, dims: [[B, C, A], [D, E]]}, {is: b, dims: [[C, A], [D, E]]}]}
        cd.weight: {join: [{is: c, dims: [[A, Expert], [F]]}, {is: d, dims: [[A, Expert], [G]]}], outer: [A, Expert], dim: 1}
        dc.weight: {join: [d, c], outer: [Expert], dim: 1}
        d.weight: {is: d, dims: [[G, Expert], [A]]}
        'e.{e}.weight': {is: c, dims: [[Expert, A], [F]]}
        'f.{e}.weight': {join: [c, d]}
";

/// An element: a parameter, and the place in its canonical order.
type Element = (ParamId, u64);

/// The dimensions of a whole tensor and its elements; and, where its parts follow one another whole, of each part.
struct Whole {
    dims: Vec<u64>,
    elements: Vec<Element>,
    parts: Vec<Whole>,
}

impl Whole {
    /// The elements in a box.
    fn slice(&self, region: &Region) -> Vec<Element> {
        let inside = |place: u64| {
            let mut rest = place;
            (0..self.dims.len()).rev().all(|dim| {
                let at = rest % self.dims[dim];
                rest /= self.dims[dim];
                (region.start()[dim]..region.start()[dim] + region.len()[dim]).contains(&at)
            })
        };
        (0..).zip(&self.elements).filter(|(place, _)| inside(*place)).map(|(_, element)| *element).collect()
    }

    /// What a device holds: dimensions and elements.
    fn on(&self, layout: &TensorLayout, device: u64) -> Result<(Vec<u64>, Vec<Element>), ModelError> {
        if self.parts.is_empty() {
            let region = layout.region(&self.dims, device)?;
            return Ok((region.len().to_vec(), self.slice(&region)));
        }
        let mut elements = Vec::new();
        let mut dims = vec![0; self.dims.len()];
        for part in &self.parts {
            let block = layout.block(&part.dims, device)?;
            let rows = dims[0] + block.len()[0];
            dims = block.len().to_vec();
            dims[0] = rows;
            elements.extend(part.slice(&block));
        }
        let (first, count) = layout.shard_rows(dims[0], device)?;
        let width = dims[1..].iter().product::<u64>();
        dims[0] = count;
        let range = usize::try_from(first * width).unwrap()..usize::try_from((first + count) * width).unwrap();
        Ok((dims, elements[range].to_vec()))
    }
}

/// All indices of axes, the last fastest.
fn indices(lengths: &[u64]) -> Vec<Vec<u64>> {
    let mut all = vec![Vec::new()];
    for &length in lengths {
        all = all.iter().flat_map(|at| (0..length).map(move |n| [&at[..], &[n]].concat())).collect();
    }
    all
}

/// A row's whole tensor by the words of its definition: for each index of the outer axes in turn, the parts.
fn whole(family: &Family, row: &Row, at: Captures, sizes: &Sizes) -> Whole {
    let length = |axis: &Axis| sizes.of(*axis);
    let is_fixed = |axis: &Axis| at.expert.is_some() && family.axis_name(*axis) == EXPERT;
    let outer = &row.pack.outer;
    let elements = |outer_at: &[u64], part: &PackPart| -> Vec<Element> {
        let param = &family.params()[usize::from(part.param)];
        let file = part.dims.as_ref().unwrap_or(&param.dims).iter().flatten().filter(|axis| !is_fixed(axis));
        let axes: Vec<Axis> = file.copied().collect();
        let inner: Vec<u64> = axes[outer.len()..].iter().map(length).collect();
        let place = |index: Vec<u64>| {
            let index = [outer_at, &index].concat();
            param.axes().fold(0, |place, axis| {
                let found = axes.iter().position(|own| *own == axis);
                place * length(&axis) + found.map_or_else(|| at.expert.unwrap().into(), |found| index[found])
            })
        };
        let id = ParamId { param: part.param, layer: at.layer };
        indices(&inner).into_iter().map(|index| (id, place(index))).collect()
    };
    let dims = |part: &PackPart| -> Vec<u64> {
        let param = &family.params()[usize::from(part.param)];
        let dims = part.dims.as_ref().unwrap_or(&param.dims).iter();
        let dims = dims.filter(|dim| !dim.iter().all(is_fixed));
        dims.map(|dim| dim.iter().filter(|axis| !is_fixed(axis)).map(length).product()).collect()
    };
    let mut all = dims(&row.pack.parts[0]);
    if let Some(joined) = all.get_mut(row.pack.dim) {
        *joined = row.pack.parts.iter().map(|part| dims(part)[row.pack.dim]).sum();
    }
    let of = |outer_at: &Vec<u64>| row.pack.parts.iter().flat_map(|part| elements(outer_at, part)).collect::<Vec<_>>();
    let joined = indices(&outer.iter().map(length).collect::<Vec<_>>()).iter().flat_map(of).collect();
    let mut parts = Vec::new();
    if outer.is_empty() && row.pack.parts.len() > 1 {
        let part = |part| Whole { dims: dims(part), elements: elements(&[], part), parts: Vec::new() };
        parts = row.pack.parts.iter().map(part).collect();
    }
    Whole { dims: all, elements: joined, parts }
}

/// The elements that pieces say, each place once.
fn expand(stored: &StoredTensor, axes: impl Fn(u16) -> Vec<u64>) -> Vec<Element> {
    let mut found = vec![None; usize::try_from(stored.dims.iter().product::<u64>()).unwrap()];
    for StoredPart { id, piece } in &stored.parts {
        let axes = axes(id.param);
        assert_eq!(axes.len(), piece.strides().len());
        for index in indices(piece.region.len()) {
            let canonical = index
                .iter()
                .zip(piece.region.start())
                .zip(&axes)
                .fold(0, |all, ((n, first), len)| all * len + first + n);
            let place = piece.offset + index.iter().zip(piece.strides()).map(|(n, stride)| n * stride).sum::<u64>();
            let place = &mut found[usize::try_from(place).unwrap()];
            assert_eq!(place.replace((*id, canonical)), None, "an element twice");
        }
    }
    found.into_iter().map(|element| element.expect("an element without a source")).collect()
}

fn strange() -> Family {
    Family::read("strange", STRANGE, &|_| None).unwrap()
}

/// A layout of a tensor of up to three dimensions: device matrix, the dimension (3: none) that each of its axes cuts, in which
/// order nested ones do, and the optimizer's shard.
fn layouts() -> impl Strategy<Value = TensorLayout> {
    let axis = (prop_oneof![Just(1u64), Just(2), Just(2), Just(3), Just(4)], 0..5usize, any::<bool>());
    let shard = prop_oneof![
        3 => Just(OptimizerShard::None),
        1 => Just(OptimizerShard::All),
        1 => (1..4u64).prop_map(OptimizerShard::Groups)
    ];
    (prop::collection::vec(axis, 1..5), shard).prop_map(|(axes, optimizer_shard)| {
        let mut tensor_map = vec![Vec::new(); 3];
        for (from_right, (_, dim, first)) in axes.iter().rev().enumerate() {
            if let Some(cuts) = tensor_map.get_mut(*dim) {
                cuts.insert(if *first { 0 } else { cuts.len() }, from_right);
            }
        }
        let device_matrix = axes.iter().map(|(extent, _, _)| *extent).collect();
        TensorLayout { device_matrix, tensor_map, optimizer_shard, optimizer_shard_step: 0 }
    })
}

fn sizes() -> impl Strategy<Value = Sizes> {
    let size = prop_oneof![Just(1u64), Just(2), Just(3), Just(4), Just(6)];
    prop::collection::vec(size, 16).prop_map(Sizes)
}

/// Compares what each device holds of a row, and that the devices together hold all.
fn compare(family: &Family, row: &Row, sizes: &Sizes, layout: &TensorLayout) -> bool {
    let at = Captures { layer: row.pattern.has_layer().then_some(7), expert: row.pattern.has_expert().then_some(0) };
    let whole = whole(family, row, at, sizes);
    assert_eq!(family.full_dims(row, at, sizes).unwrap(), whole.dims);
    let mut layout = layout.clone();
    layout.tensor_map.truncate(whole.dims.len());
    let mut seen = BTreeSet::new();
    for device in 0..layout.devices() {
        match (whole.on(&layout, device), family.stored_in(row, at, sizes, &layout, device)) {
            (Ok((dims, elements)), Ok(stored)) => {
                assert_eq!(stored.dims, dims, "{}", row.pattern);
                let axes = |param| family.canonical(param, sizes).unwrap().axes().collect();
                let found = expand(&stored, axes);
                assert!(found == elements, "{} on {device} of {layout:?} with {sizes:?}", row.pattern);
                seen.extend(found);
            }
            (Err(theirs), Err(ours)) => {
                assert_eq!(theirs, ours);
                return false;
            }
            (theirs, ours) => panic!("{}: {theirs:?} {ours:?}", row.pattern),
        }
    }
    // A strange row may hold a parameter twice.
    assert_eq!(seen, whole.elements.into_iter().collect(), "{}: all elements are on some device", row.pattern);
    true
}

/// Every row of a family with layouts and sizes of its own; how many were cut and how many refused.
fn compare_all(family: &Family, cases: u32) -> (u32, u32) {
    let (cut, refused) = (Cell::new(0), Cell::new(0));
    let rows: Vec<&Row> = family.schemes.iter().flat_map(|scheme| &scheme.rows).collect();
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let result =
        TestRunner::new_with_rng(config, rng).run(&(0..rows.len(), sizes(), layouts()), |(row, sizes, layout)| {
            let counter = if compare(family, rows[row], &sizes, &layout) { &cut } else { &refused };
            counter.set(counter.get() + 1);
            Ok(())
        });
    result.unwrap_or_else(|e| panic!("{}: {e}", family.name));
    (cut.get(), refused.get())
}

#[test]
fn every_devices_file_is_its_slice_of_the_whole_tensor() {
    let (mut cut, mut refused) = compare_all(&strange(), 1000);
    for family in builtin_families().iter().filter(|family| !family.schemes.is_empty()) {
        let (more_cut, more_refused) = compare_all(family, 200);
        cut += more_cut;
        refused += more_refused;
    }
    assert!(cut > 1000 && refused > 500, "{cut} cut, {refused} refused");
}

/// A cut inside heads: rows of two of them, of which only a half is held.
#[test]
fn a_cut_inside_an_axis_is_several_boxes() {
    let family = builtin_families().iter().find(|family| family.name == "llama").unwrap();
    let (row, at) =
        family.scheme("mindformers/grouped").unwrap().find("model.layers.0.attention.w_qkv.weight").unwrap();
    let length = |axis: &str| match axis {
        "KvHead" | "Query" | "Half" => 2,
        "Pair" => 4,
        "HeadDim" => 8,
        _ => 1,
    };
    let sizes = Sizes((0..=u8::MAX).map(|axis| length(family.axis_name(Axis(axis)))).collect());
    let stored = family.stored_in(row, at, &sizes, &TensorLayout::flat(8, 2, Some(0)), 1).unwrap();
    // The second quarter of a group of 32 rows: all of the second head of q.
    assert_eq!(stored.dims, [8, 1]);
    assert_eq!(stored.parts.len(), 1);
    let [part] = &stored.parts[..] else { panic!("{stored:?}") };
    assert_eq!(part.piece.region, Region::new([0, 1, 0, 0, 0], [1, 1, 2, 4, 1]));
    // 4 rows of q, k or v: a half of a half's pairs each.
    let shards = |device| family.stored_in(row, at, &sizes, &TensorLayout::flat(16, 2, Some(0)), device).unwrap().parts;
    assert_eq!(shards(1)[0].piece.region, Region::new([0, 0, 1, 0, 0], [1, 1, 1, 4, 1]));
    // 2 rows fewer than a half: the end of one and the begin of the next.
    let odd = Sizes(
        sizes
            .0
            .iter()
            .map(|&size| {
                if size == 4 {
                    3
                } else if size == 8 {
                    6
                } else {
                    size
                }
            })
            .collect(),
    );
    let layout = TensorLayout::flat(12, 2, Some(0));
    let parts = family.stored_in(row, at, &odd, &layout, 0).unwrap().parts;
    let regions: Vec<Region> = parts.iter().map(|part| part.piece.region.clone()).collect();
    assert_eq!(regions, [Region::new([0, 0, 0, 0, 0], [1, 1, 1, 3, 1]), Region::new([0, 0, 1, 0, 0], [1, 1, 1, 1, 1])]);
    assert!(parts.iter().all(|part| part.id == parts[0].id));
}
