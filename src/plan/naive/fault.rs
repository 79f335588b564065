//! What makes a conversion impossible: each is put into a conversion that is possible, and must be refused.

use super::case::Case;
use super::cut::{Layout, Order, Shard};
use super::files::{Contents, Tensor, bytes_of};
use super::placement::{Scheme, StageLayouts, shape};
use super::random::Random;
use super::whole::{Fusion, Item};
use crate::tensor::{Dtype, Shape};

/// Puts a fault into a conversion; `None` where this one cannot have it.
pub(super) type Fault = fn(&mut Case, &mut Random) -> Option<()>;

/// Each with its name and the errors that say so.
pub(super) const FAULTS: [(&str, Fault, &[&str]); 21] = [
    ("target_ranks", target_ranks, &["Spec"]),
    ("missing_rank", missing_rank, &["MissingRanks", "Lacks", "Differ", "Ambiguous"]),
    ("fewer_ranks", fewer_ranks, &["WrongShape", "FusedRows", "Ambiguous"]),
    ("more_ranks", more_ranks, &["StrategyRanks"]),
    ("other_shape", other_shape, &["WrongShape", "RanksDisagree", "FusedRows", "Layout", "Differ"]),
    ("other_dtype", other_dtype, &["RanksDisagree", "Ambiguous", "Differ"]),
    ("held_twice", held_twice, &["HeldTwice"]),
    ("copied_rank", copied_rank, &["CopiedRank"]),
    ("no_parameter", no_parameter, &["Lacks"]),
    ("held_both_ways", held_both_ways, &["Ambiguous"]),
    ("source_lacks", source_lacks, &["Differ", "FusedRows", "Ambiguous"]),
    ("source_lacks_alike", source_lacks_alike, &["WrongShape", "Differ"]),
    ("target_lacks", target_lacks, &["Unplaced"]),
    ("target_wants", target_wants, &["Lacks"]),
    ("stated_shape", stated_shape, &["WrongShape", "StrategyShape"]),
    ("indivisible", indivisible, &["Layout", "StrategyHeads"]),
    ("cut_heads", cut_heads, &["StrategyHeads"]),
    ("optimizer_groups", optimizer_groups, &["Layout"]),
    ("other_model", other_model, &["WrongShape", "Lacks", "Ambiguous", "FusedRows"]),
    ("unknown_heads", unknown_heads, &["Ambiguous"]),
    ("precision", precision, &["Cast"]),
];

/// Whether this conversion can have it.
fn only(yes: bool) -> Option<()> {
    yes.then_some(())
}

fn is_named(case: &Case) -> bool {
    case.request.dims.is_some()
}

fn is_by_rules(scheme: &Scheme) -> bool {
    matches!(scheme, Scheme::Rules { .. })
}

/// The target's ranks do not divide the heads or the ffn rows.
fn target_ranks(case: &mut Case, random: &mut Random) -> Option<()> {
    only(is_named(case) && is_by_rules(&case.target.scheme))?;
    case.target.devices = 2 + random.below(15);
    let shared = [case.model.dims.heads(), case.model.dims.kv_heads, case.model.dims.ffn];
    only(shared.iter().any(|count| count % case.target.devices != 0))
}

/// A rank that no replica replaces is not there.
fn missing_rank(case: &mut Case, random: &mut Random) -> Option<()> {
    let rank = random.below(case.source.ranks());
    only(case.source.ranks() > 1 && (is_by_rules(&case.source.scheme) || !case.is_spare(rank)))?;
    case.files.retain(|file| file.rank != rank);
    only(!case.files.is_empty())
}

/// The last rank is not there, and nothing shows that there was one.
fn fewer_ranks(case: &mut Case, _: &mut Random) -> Option<()> {
    only(is_by_rules(&case.source.scheme) && case.source.ranks() > 1)?;
    case.files.retain(|file| file.rank != case.source.ranks() - 1);
    case.source.devices = case.source.ranks() - 1;
    Some(())
}

/// There are more ranks than the strategy has.
fn more_ranks(case: &mut Case, random: &mut Random) -> Option<()> {
    only(!is_by_rules(&case.source.scheme))?;
    let tensors = random.pick(&case.files).tensors.clone();
    only(!tensors.is_empty())?;
    case.files.push(Contents { rank: case.source.ranks(), tensors });
    Some(())
}

/// One rank's tensor has another shape.
fn other_shape(case: &mut Case, random: &mut Random) -> Option<()> {
    only(is_named(case))?;
    let tensor = weight(case, random)?;
    let axis = random.below(tensor.shape.ndim());
    let mut dims = tensor.shape.dims().to_vec();
    dims[axis] = if dims[axis] > 1 && random.one_in(2) { dims[axis] - 1 } else { dims[axis] * 2 };
    tensor.shape = Shape::new(dims).ok()?;
    let len = tensor.shape.bytes(tensor.dtype);
    tensor.bytes.resize(usize::try_from(len).ok()?, 7);
    Some(())
}

/// One rank's tensor has another dtype.
fn other_dtype(case: &mut Case, random: &mut Random) -> Option<()> {
    let name = weight(case, random)?.name.clone();
    let holders: Vec<&mut Tensor> =
        case.files.iter_mut().flat_map(|f| &mut f.tensors).filter(|t| t.name == name).collect();
    only(holders.len() > 1)?;
    let at = random.below(holders.len());
    let tensor = holders.into_iter().nth(at)?;
    tensor.dtype = match tensor.dtype {
        Dtype::F16 => Dtype::BF16,
        Dtype::BF16 => Dtype::I16,
        _ => Dtype::I32,
    };
    Some(())
}

/// Two files of a rank hold the same tensor.
fn held_twice(case: &mut Case, random: &mut Random) -> Option<()> {
    let file = random.pick(&case.files).clone();
    only(!file.tensors.is_empty())?;
    let tensors = vec![random.pick(&file.tensors).clone()];
    case.files.push(Contents { rank: file.rank, tensors });
    Some(())
}

/// One rank's file is another's.
fn copied_rank(case: &mut Case, random: &mut Random) -> Option<()> {
    only(is_by_rules(&case.source.scheme) && case.source.ranks() > 1)?;
    let (a, b) = (random.below(case.source.ranks()), random.below(case.source.ranks()));
    only(a != b)?;
    case.files.retain(|file| file.rank != b);
    let of_a: Vec<Contents> = case.files.iter().filter(|file| file.rank == a).cloned().collect();
    case.files.extend(of_a.into_iter().map(|file| Contents { rank: b, ..file }));
    Some(())
}

/// No rank holds a parameter.
fn no_parameter(case: &mut Case, random: &mut Random) -> Option<()> {
    only(is_named(case))?;
    let name = weight(case, random)?.name.clone();
    case.files.iter_mut().for_each(|file| file.tensors.retain(|tensor| tensor.name != name));
    Some(())
}

/// The files hold a parameter fused and by itself.
fn held_both_ways(case: &mut Case, random: &mut Random) -> Option<()> {
    only(is_by_rules(&case.source.scheme))?;
    let fused = |(item, _): &&(Item, Layout)| item.parts.len() > 1;
    let (item, layout) = case.source.stages[0].iter().find(fused)?.clone();
    let one = case.model.plain(item.parts[random.below(item.parts.len())]);
    for file in &mut case.files {
        let block = layout.block(&case.model, &one, case.source.order, file.rank);
        let shape = shape(&block.dims);
        let (dtype, bytes) = (case.model.dtype, bytes_of(&block.elements, case.model.dtype));
        if file.tensors.iter().any(|t| t.name == item.name) {
            file.tensors.push(Tensor { name: one.name.clone(), dtype, shape, bytes });
        }
    }
    Some(())
}

/// The source's strategy does not know a parameter that the ranks share.
fn source_lacks(case: &mut Case, random: &mut Random) -> Option<()> {
    let name = strategy_name(random, &case.source.scheme)?;
    let held: Vec<&Tensor> = case.files.iter().flat_map(|f| &f.tensors).filter(|tensor| tensor.name == name).collect();
    // What all ranks hold alike needs no layout; what is known by other names keeps its own.
    only(held.iter().any(|t| t.bytes != held[0].bytes || t.shape != held[0].shape) || held.len() == 1)?;
    forget(&mut case.source.scheme, &name)
}

/// The source's strategy does not know a parameter whose parts are alike, as biases of zeros are.
fn source_lacks_alike(case: &mut Case, random: &mut Random) -> Option<()> {
    let name = strategy_name(random, &case.source.scheme)?;
    let (item, layout) = case.source.stages.iter().flatten().find(|(item, _)| item.name == name)?;
    let is_cut = (0..layout.map.len()).any(|axis| layout.parts(axis) > 1);
    only(is_cut && is_named(case) && item.parts.len() == 1)?;
    let mut held = 0;
    for tensor in case.files.iter_mut().flat_map(|file| &mut file.tensors).filter(|tensor| tensor.name == name) {
        tensor.bytes.fill(0);
        held += 1;
    }
    only(held > 1)?;
    forget(&mut case.source.scheme, &name)
}

/// The target's strategy does not know a parameter.
fn target_lacks(case: &mut Case, random: &mut Random) -> Option<()> {
    let name = strategy_name(random, &case.target.scheme)?;
    let find = |(item, _): &&(Item, Layout)| item.name == name;
    let (item, _) = case.target.stages.iter().flatten().find(find)?;
    // A single number is taken for a counter, and one rank has everything whole.
    let each = |&part: &usize| case.model.parameters[part].dims.iter().product::<usize>() > 1;
    only(item.parts.iter().all(each) && case.target.ranks() > 1 && !case.is_forgetful)?;
    forget(&mut case.target.scheme, &name)
}

/// The target's strategy knows a parameter that the model does not have.
fn target_wants(case: &mut Case, random: &mut Random) -> Option<()> {
    let strategy = random_stage(random, &mut case.target.scheme)?;
    let layout = Layout::flat(strategy.values().next()?.0.matrix.iter().product(), 1, None);
    strategy.insert("model.layers.7.attention_norm.weight".to_owned(), (layout, None));
    Some(())
}

/// A strategy states another full shape.
fn stated_shape(case: &mut Case, random: &mut Random) -> Option<()> {
    let (item, of_source) = known_item(case, random)?;
    let mut full = case.model.parameters[item.parts[0]].dims.clone();
    full[0] = item.parts.iter().map(|&part| case.model.parameters[part].dims[0]).sum();
    let axis = random.below(full.len());
    full[axis] += 1 + random.below(3);
    layout_of(case, &item, of_source)?.1 = Some(full);
    Some(())
}

/// The target's strategy cuts a dimension that its devices do not divide.
fn indivisible(case: &mut Case, random: &mut Random) -> Option<()> {
    let (item, false) = known_item(case, random)? else { return None };
    let first = case.model.parameters[item.parts[0]].clone();
    let rows: Vec<usize> = item.parts.iter().map(|&part| case.model.parameters[part].dims[0]).collect();
    let order = case.target.order;
    let (layout, _) = layout_of(case, &item, false)?;
    let used: Vec<usize> = layout.map.iter().flatten().copied().collect();
    let free = (0..layout.matrix.len()).find(|axis| !used.contains(axis) && layout.matrix[*axis] > 1)?;
    let axis = random.below(layout.map.len());
    layout.map[axis].push(free);
    layout.shard = Shard::None;
    let parts = layout.parts(axis);
    only(match axis {
        0 if order == Order::Grouped => rows.iter().sum::<usize>() % parts != 0,
        0 => rows.iter().any(|rows| rows % parts != 0),
        _ => !first.dims[1].is_multiple_of(parts),
    })
}

/// The target's strategy cuts heads.
fn cut_heads(case: &mut Case, random: &mut Random) -> Option<()> {
    only(is_named(case))?;
    let (item, false) = known_item(case, random)? else { return None };
    only(case.model.parameters[item.parts[0]].fused == Fusion::Attention)?;
    let (layout, _) = layout_of(case, &item, false)?;
    let all: Vec<usize> = (0..layout.matrix.len()).collect();
    layout.map.iter_mut().for_each(Vec::clear);
    layout.map[0] = all;
    layout.shard = Shard::None;
    let parts = layout.parts(0);
    only(!case.model.dims.kv_heads.is_multiple_of(parts))
}

/// The optimizer's groups do not divide the replicas.
fn optimizer_groups(case: &mut Case, random: &mut Random) -> Option<()> {
    let (item, of_source) = known_item(case, random)?;
    let (layout, _) = layout_of(case, &item, of_source)?;
    layout.shard = Shard::Groups(layout.replicas() + random.below(3) + 1);
    Some(())
}

/// The model is not the one that was named.
fn other_model(case: &mut Case, random: &mut Random) -> Option<()> {
    let named = case.request.dims.as_mut()?;
    match random.below(6) {
        0 => named.ffn += 1,
        1 => named.vocab += 1,
        2 => named.hidden += 1,
        3 => named.layers += 1,
        4 if named.layers > 1 => named.layers -= 1,
        5 if named.tied => named.tied = false,
        _ => return None,
    }
    Some(())
}

/// Rows of q, k and v are grouped by heads that are not stated. Those of gate and up are grouped by one another.
fn unknown_heads(case: &mut Case, random: &mut Random) -> Option<()> {
    only(!is_named(case))?;
    let side = if random.one_in(2) { &mut case.source } else { &mut case.target };
    only(side.stages.iter().flatten().any(|(item, _)| item.parts.len() == 3))?;
    side.order = Order::Grouped;
    Some(())
}

/// A precision that floating-point numbers are not converted to.
fn precision(case: &mut Case, random: &mut Random) -> Option<()> {
    let other = [Dtype::F64, Dtype::I8, Dtype::I32, Dtype::U16];
    let precision = if random.one_in(2) { &mut case.request.precision } else { &mut case.request.norms };
    *precision = Some(*other.get(random.below(other.len()))?);
    Some(())
}

/// A parameter of some file.
fn weight<'a>(case: &'a mut Case, random: &mut Random) -> Option<&'a mut Tensor> {
    let counter = case.counter.as_ref().map(|tensor| tensor.name.clone());
    let at = random.below(case.files.len());
    let tensors = &mut case.files[at].tensors;
    let at = random.below(tensors.len().max(1));
    tensors.get_mut(at).filter(|tensor| Some(&tensor.name) != counter.as_ref())
}

fn random_stage<'a>(random: &mut Random, scheme: &'a mut Scheme) -> Option<&'a mut StageLayouts> {
    let Scheme::Strategy(stages) = scheme else { return None };
    let at = random.below(stages.len());
    stages.get_mut(at)
}

fn strategy_name(random: &mut Random, scheme: &Scheme) -> Option<String> {
    let Scheme::Strategy(stages) = scheme else { return None };
    let names: Vec<&String> = random.pick(stages).keys().collect();
    Some((*random.pick(&names)).clone())
}

/// Takes a name out of all stages, of which none may be left empty.
fn forget(scheme: &mut Scheme, name: &str) -> Option<()> {
    let Scheme::Strategy(stages) = scheme else { return None };
    for strategy in &mut *stages {
        strategy.remove(name);
    }
    stages.iter().all(|strategy| !strategy.is_empty()).then_some(())
}

/// Something that the strategy of the source (true) or the target knows by its own name.
fn known_item(case: &Case, random: &mut Random) -> Option<(Item, bool)> {
    let of_source = random.one_in(2);
    let side = if of_source { &case.source } else { &case.target };
    let name = strategy_name(random, &side.scheme)?;
    let (item, _) = side.stages.iter().flatten().find(|(item, _)| item.name == name)?;
    Some((item.clone(), of_source))
}

/// Its layout in the first stage whose strategy has it.
fn layout_of<'a>(case: &'a mut Case, item: &Item, of_source: bool) -> Option<&'a mut (Layout, Option<Vec<usize>>)> {
    let side = if of_source { &mut case.source } else { &mut case.target };
    let Scheme::Strategy(stages) = &mut side.scheme else { return None };
    stages.iter_mut().find_map(|strategy| strategy.get_mut(&item.name))
}
