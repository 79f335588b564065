//! Scales of blocks, against each element's own block: what a file holds of a weight decides what it must hold of its scales.

use std::collections::BTreeMap;

use super::*;
use crate::model::companion::{Companion, companions};
use crate::model::{OwnSizes, QuantSigns, Share};

/// Rows in their own order and in others, joined, interleaved, and experts one by one.
const BLOCKS: &str = "
family: blocks
params:
  layer:
    a: {dims: [[A, B, C], [D, E]], cut: A}
    b: {dims: [[A, C], [D, E]], cut: A}
    g: {dims: [[F], [D, E]], cut: F}
    u: {dims: [[F], [D, E]], cut: F}
    o: {dims: [[H], [A, B]], cut: A}
    x: {dims: [[Expert], [F], [D]], cut: {tensor: F, expert: Expert}}
    y: {dims: [[Expert], [F], [D]], cut: {tensor: F, expert: Expert}}
schemes:
  x:
    names:
      'layers.{l}.':
        a.weight: a
        ca.weight: {is: a, dims: [[C, A, B], [D, E]]}
        ba.weight: {is: a, dims: [[B, A, C], [D, E]]}
        ab.weight: {join: [a, b]}
        aba.weight: {join: [a, b], outer: [A]}
        gu.weight: {join: [g, u]}
        gug.weight: {join: [g, u], outer: [F]}
        o.weight: o
        'e.{e}.x.weight': x
        'e.{e}.xy.weight': {join: [x, y]}
";

/// A block: a parameter, and the place of its scale in the canonical order.
type Block = (ParamId, u64);

fn scale() -> &'static Companion {
    companions().iter().find(|companion| companion.generation == "fp8").expect("a generation of block scales")
}

/// The block of an element.
fn block_of(family: &Family, sizes: &Sizes, own: OwnSizes, (id, place): Element) -> Block {
    let shape = family.params()[usize::from(id.param)].shape(sizes).unwrap();
    let (columns, rows) = (shape[shape.len() - 1], shape[shape.len() - 2]);
    let (row, column) = (place / columns, place % columns);
    // Each expert has blocks of its own.
    let row = row / rows * rows.div_ceil(own.block.0) + row % rows / own.block.0;
    (id, row * columns.div_ceil(own.block.1) + column / own.block.1)
}

/// The scales that a file must hold with what it holds of a weight. `None`: it holds a part of a block, or its blocks are of several.
fn scales(family: &Family, sizes: &Sizes, own: OwnSizes, held: &StoredTensor) -> Option<(Vec<u64>, Vec<Block>)> {
    let axes = |param| family.canonical(param, sizes).unwrap().axes().collect();
    let elements = expand(held, axes);
    let (by_rows, by_columns) = own.block;
    let dims = vec![held.dims[0].div_ceil(by_rows), held.dims[1].div_ceil(by_columns)];
    let mut found = vec![None; usize::try_from(dims[0] * dims[1]).unwrap()];
    let mut counted: BTreeMap<Block, u64> = BTreeMap::new();
    for (place, element) in (0..).zip(elements) {
        let (row, column) = (place / held.dims[1], place % held.dims[1]);
        let block = block_of(family, sizes, own, element);
        let known = &mut found[usize::try_from(row / by_rows * dims[1] + column / by_columns).unwrap()];
        if *known.get_or_insert(block) != block {
            return None;
        }
        *counted.entry(block).or_default() += 1;
    }
    let mut whole: BTreeMap<Block, u64> = BTreeMap::new();
    for param in counted.keys().map(|(id, _)| *id).collect::<BTreeSet<_>>() {
        let all: u64 = family.params()[usize::from(param.param)].shape(sizes).unwrap().iter().product();
        (0..all).for_each(|place| *whole.entry(block_of(family, sizes, own, (param, place))).or_default() += 1);
    }
    let is_whole = counted.iter().all(|(block, count)| whole[block] == *count);
    is_whole.then(|| (dims, found.into_iter().map(Option::unwrap).collect()))
}

/// Compares what all ranks hold of the scales with what they hold of the weight; whether it is possible.
fn check(
    family: &Family,
    (row, own, sizes): (&Row, OwnSizes, &Sizes),
    weights: Vec<Result<StoredTensor, ModelError>>,
    held: Vec<Result<StoredTensor, ModelError>>,
) -> Option<bool> {
    // What does not fit the weight has an error of its own.
    let weights = weights.into_iter().collect::<Result<Vec<_>, _>>().ok()?;
    let at = Captures { layer: Some(7), expert: row.pattern.has_expert().then_some(1) };
    let all = family.stored(row, at, sizes, Share::WHOLE).ok();
    let wanted = weights.iter().map(|weight| scales(family, sizes, own, weight)).collect::<Option<Vec<_>>>();
    match (wanted, held.into_iter().collect::<Result<Vec<_>, _>>()) {
        (Some(wanted), Ok(held)) => {
            for ((dims, blocks), held) in wanted.iter().zip(&held) {
                let axes = |param| family.canonical_companion(param, scale(), own, sizes).unwrap().axes().collect();
                assert_eq!((&held.dims, &expand(held, axes)), (dims, blocks), "{} {own:?} {sizes:?}", row.pattern);
            }
            Some(true)
        }
        (None, Err(ModelError::RowBlocks { .. } | ModelError::Blocks { .. } | ModelError::BlocksApart { .. })) => {
            Some(false)
        }
        // One block is the same in any order.
        (Some(_), Err(ModelError::BlocksApart { .. })) if weights[0].dims[0] <= own.block.0 => Some(false),
        // What is no tensor of blocks as a whole is none on ranks either, even if those of some would be.
        (Some(_), Err(ModelError::RowBlocks { .. } | ModelError::BlocksApart { .. }))
            if all.as_ref().is_none_or(|all| scales(family, sizes, own, all).is_none()) =>
        {
            Some(false)
        }
        (wanted, held) => panic!("{} {own:?} {sizes:?}: {wanted:?} {held:?}", row.pattern),
    }
}

/// How many tensors had scales, and how many none.
#[derive(Default)]
struct Counted {
    held: Cell<u32>,
    refused: Cell<u32>,
}

impl Counted {
    fn add(&self, possible: Option<bool>) {
        let counter = if possible == Some(true) { &self.held } else { &self.refused };
        counter.set(counter.get() + 1);
    }
}

#[test]
fn every_element_finds_the_scale_of_its_block() {
    let family = Family::read("blocks", BLOCKS, &|_| None).unwrap();
    let rows = &family.schemes[0].rows;
    let size = prop_oneof![Just(2u64), Just(3), Just(4), Just(6), Just(8)];
    let sizes = prop::collection::vec(size, 16).prop_map(Sizes);
    let block = || prop_oneof![Just(2u64), Just(3), Just(4), Just(8)];
    let (by_rank, by_layout) = (Counted::default(), Counted::default());
    let config = ProptestConfig { cases: 700, failure_persistence: None, ..ProptestConfig::default() };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let case = (0..rows.len(), sizes, (block(), block()), 1..5u64, layouts());
    let result = TestRunner::new_with_rng(config, rng).run(&case, |(row, sizes, block, ranks, mut layout)| {
        let (row, own) = (&rows[row], OwnSizes { block, ..OwnSizes::NONE });
        let at = Captures { layer: Some(7), expert: row.pattern.has_expert().then_some(1) };
        let weight = |rank| family.stored(row, at, &sizes, Share::of(rank, ranks));
        let scales = |rank| family.stored_companion(row, at, scale(), own, &sizes, Share::of(rank, ranks));
        let (weights, held) = ((0..ranks).map(weight).collect(), (0..ranks).map(scales).collect());
        by_rank.add(check(&family, (row, own, &sizes), weights, held));
        layout.tensor_map.truncate(2);
        let weight = |device| family.stored_in(row, at, &sizes, &layout, device);
        let scales = |device| family.stored_companion_in(row, at, scale(), own, &sizes, &layout, device);
        let devices = || 0..layout.devices();
        let (weights, held) = (devices().map(weight).collect(), devices().map(scales).collect());
        by_layout.add(check(&family, (row, own, &sizes), weights, held));
        Ok(())
    });
    result.unwrap_or_else(|e| panic!("{e}"));
    for counted in [by_rank, by_layout] {
        let (held, refused) = (counted.held.get(), counted.refused.get());
        assert!(held > 40 && refused > 100, "{held} held, {refused} refused");
    }
}

/// `DeepSeek-V3`'s shapes: 7168 columns of latent 1536, a key/value projection of 576 rows, whose last block is not full.
#[test]
fn the_last_block_may_be_smaller_where_nothing_cuts_it() {
    let text = "family: small\nparams: {layer: {kv: {dims: [[Latent], [Hidden]]}, q: {dims: [[Head, Dim], [Hidden]], cut: Head}}}\n\
                schemes: {hf: {names: {'model.layers.{l}.self_attn.': {kv.weight: kv, q.weight: q}}}}\n";
    let family = Family::read("small", text, &|_| None).unwrap();
    let length = |axis: u8| match family.axis_name(Axis(axis)) {
        "Latent" => 576,
        "Hidden" => 7168,
        "Head" => 128,
        "Dim" => 192,
        _ => 1,
    };
    let sizes = Sizes((0..16).map(length).collect());
    let name = |layer: &str| format!("model.layers.3.self_attn.{layer}.weight_scale_inv");
    let held = |layer: &str, ranks: u64| {
        let (row, at, found) = family.schemes[0].companions(&family, &name(layer)).expect("a companion");
        let own = family.own_sizes(row.params().next().unwrap(), found[0], &[5, 56], &sizes).expect("blocks of 128");
        assert_eq!(own.block, (128, 128));
        family.stored_companion(row, at, found[0], own, &sizes, Share::of(0, ranks)).map(|stored| stored.dims)
    };
    assert_eq!(held("kv", 8).unwrap(), [5, 56], "every rank holds it whole");
    assert_eq!(held("q", 8).unwrap(), [24, 56], "16 heads of 192 rows are 24 blocks");
    let error = held("q", 128).unwrap_err().to_string();
    assert_eq!(error, "the 192 rows of `q` that a rank holds are not whole blocks of 128");
    // They have their place in the tables, but no conversion reads them: they are signs of a quantised model as before.
    assert!(QuantSigns::is_one(&name("kv")));
    let family: &'static Family = Box::leak(Box::new(family));
    let dialect = crate::model::Dialect::of(family, "hf").unwrap();
    assert!(matches!(dialect.place(&name("kv")), crate::model::Place::Unknown));
}
