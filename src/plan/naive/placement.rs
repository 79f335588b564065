//! A random arrangement of a model over ranks: by the family's rules, or by strategies of one or more pipeline stages.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::cut::{Block, Layout, Order};
use super::random::Random;
use super::whole::{Cut, EMBEDDING, Fusion, Item, Model};
use crate::formats::mindspore::{ParamLayout, StrategyFile};
use crate::plan::StrategySet;
use crate::tensor::Shape;

/// What strategy files say of a stage: the layout of each name, and its full dimensions where they are stated.
pub(super) type StageLayouts = BTreeMap<String, (Layout, Option<Vec<usize>>)>;

/// How the layouts are known.
#[derive(Clone, Debug)]
pub(super) enum Scheme {
    /// By the rules. Fusion or not, the vocabulary whole or not.
    Rules { fused: bool, vocabulary_whole: bool },
    /// By strategy files.
    Strategy(Vec<StageLayouts>),
}

/// A model over ranks.
#[derive(Clone, Debug)]
pub(super) struct Placement {
    /// Ranks of one stage.
    pub(super) devices: usize,
    pub(super) order: Order,
    /// What the ranks of each stage hold.
    pub(super) stages: Vec<Vec<(Item, Layout)>>,
    pub(super) scheme: Scheme,
}

/// Which side of a conversion it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Files may be fused in one layer and not in another, and strategies may know them by the other names.
    Source,
    /// No head may be cut.
    Target,
}

/// Device matrices of equally many devices.
const MATRICES: [&[&[usize]]; 10] = [
    &[&[1]],
    &[&[2], &[1, 2], &[2, 1]],
    &[&[2], &[1, 2], &[2, 1]],
    &[&[2], &[1, 2], &[2, 1]],
    &[&[4], &[2, 2], &[1, 2, 2]],
    &[&[3], &[3, 1]],
    &[&[4], &[2, 2], &[1, 2, 2]],
    &[&[2, 2], &[4, 1]],
    &[&[6], &[2, 3], &[3, 2]],
    &[&[2, 2, 2], &[2, 4], &[4, 2], &[8]],
];

impl Placement {
    /// What a failure shows: a line a tensor.
    pub(super) fn text(&self) -> String {
        let mut lines = vec![format!("{} ranks, {:?}", self.ranks(), self.order)];
        for (number, stage) in self.stages.iter().enumerate() {
            lines.extend(stage.iter().map(|(item, layout)| format!("  stage {number} {} {layout:?}", item.name)));
        }
        match &self.scheme {
            Scheme::Rules { .. } => lines.push(format!("  {:?}", self.scheme)),
            Scheme::Strategy(stages) => {
                lines.extend(stages.iter().flatten().map(|(name, strategy)| format!("  strategy {name} {strategy:?}")));
            }
        }
        lines.join("\n")
    }

    pub(super) fn ranks(&self) -> usize {
        self.devices * self.stages.len()
    }

    /// What a rank holds.
    pub(super) fn blocks<'a>(&'a self, model: &'a Model, rank: usize) -> impl Iterator<Item = (&'a Item, Block)> {
        let device = rank % self.devices;
        let stage = &self.stages[rank / self.devices];
        stage.iter().map(move |(item, layout)| (item, layout.block(model, item, self.order, device)))
    }

    /// By the family's rules, for ranks that divide what they share.
    pub(super) fn rules(random: &mut Random, model: &Model, side: Side, ranks: usize, order: Order) -> Self {
        let (fused, vocabulary_whole) = (random.one_in(2), random.one_in(2));
        let mixed = side == Side::Source && random.one_in(4);
        let whole = vocabulary_whole || !model.dims.vocab.is_multiple_of(ranks);
        let mut stage = Vec::new();
        let mut items = Vec::new();
        for group in groups(model) {
            let fused = if mixed { random.one_in(2) } else { fused };
            items.extend(if fused { group.fused() } else { group.plain() });
        }
        for item in items {
            let one = &model.parameters[item.parts[0]];
            let axis = match one.cut {
                Cut::Whole => None,
                Cut::Rows => Some(0),
                Cut::Columns => Some(1),
                Cut::Vocabulary => (!whole).then_some(0),
            };
            let layout = Layout::flat(ranks, one.dims.len(), axis);
            stage.push((item, layout));
        }
        Self { devices: ranks, order, stages: vec![stage], scheme: Scheme::Rules { fused, vocabulary_whole } }
    }

    /// By strategies.
    pub(super) fn strategy(random: &mut Random, model: &Model, side: Side, order: Order) -> Self {
        let matrices = *random.pick(&MATRICES);
        // One matrix for all, as MindSpore's own strategies have it, or any for each.
        let common = random.one_in(2).then(|| *random.pick(matrices));
        let layers = model.dims.layers;
        let count = *random.pick(&[1, 1, 1, 1, 2, layers + 1]);
        let mut stages = vec![Stage::default(); count];
        for group in groups(model) {
            let first = &model.parameters[group.first];
            let matrix = common.unwrap_or_else(|| *random.pick(matrices));
            let stage = match first.layer {
                Some(layer) => layer * count / layers,
                None if first.name == EMBEDDING => 0,
                None => count - 1,
            };
            stages[stage].add(random, group, side, order, matrix);
            if first.name == EMBEDDING && model.dims.tied && count > 1 && random.one_in(2) {
                stages[count - 1].add(random, group, side, order, matrix);
            }
        }
        // A stage without a parameter is none.
        stages.retain(|stage| !stage.items.is_empty());
        let (stages, strategy) = stages.into_iter().map(|stage| (stage.items, stage.strategy)).unzip();
        Self { devices: matrices[0].iter().product(), order, stages, scheme: Scheme::Strategy(strategy) }
    }

    /// The strategy as the program has it; `None` by rules.
    pub(super) fn set(&self) -> Option<StrategySet> {
        let Scheme::Strategy(stages) = &self.scheme else { return None };
        let layouts = |strategy: &StageLayouts| {
            let layout = |(name, (layout, full)): (&String, &(Layout, Option<Vec<usize>>))| {
                let full_shape = full.as_deref().map(shape);
                (name.clone(), ParamLayout { layout: layout.tensor_layout(), full_shape })
            };
            strategy.iter().map(layout).collect()
        };
        let stages = (0..).zip(stages.iter().map(layouts)).collect();
        let file = StrategyFile { stages, merged: true };
        Some(StrategySet::new(vec![(PathBuf::from("strategy.ckpt"), file)]).expect("stages of equally many devices"))
    }
}

pub(super) fn shape(dims: &[usize]) -> Shape {
    Shape::new(dims.iter().map(|&n| n as u64).collect::<Vec<_>>()).expect("a small shape")
}

/// Parameters that can be fused to one, or a single one.
#[derive(Clone, Copy)]
struct Group<'a> {
    model: &'a Model,
    first: usize,
}

fn groups(model: &Model) -> impl Iterator<Item = Group<'_>> {
    let next = move |&first: &usize| Some(first + model.parts(first)).filter(|&next| next < model.parameters.len());
    std::iter::successors(Some(0), next).map(move |first| Group { model, first })
}

impl Group<'_> {
    fn fused(self) -> Vec<Item> {
        vec![self.model.fused(self.first)]
    }

    fn plain(self) -> Vec<Item> {
        (self.first..self.first + self.model.parts(self.first)).map(|index| self.model.plain(index)).collect()
    }

    fn rows(self, item: &Item) -> Vec<usize> {
        item.parts.iter().map(|&part| self.model.parameters[part].dims[0]).collect()
    }
}

/// A stage, and what a strategy says of it.
#[derive(Clone, Default)]
struct Stage {
    items: Vec<(Item, Layout)>,
    strategy: StageLayouts,
}

impl Stage {
    /// Adds parameters, fused or not.
    fn add(&mut self, random: &mut Random, group: Group<'_>, side: Side, order: Order, matrix: &[usize]) {
        let (fused, plain) = (group.fused(), group.plain());
        let (mine, other) = if random.one_in(2) { (&fused, &plain) } else { (&plain, &fused) };
        let first = &group.model.parameters[group.first];
        // A strategy that knows the parts, all cut alike, knows the whole, and the other way round.
        let borrowed = side == Side::Source && plain.len() > 1 && random.one_in(4);
        let mut common = None;
        for item in mine {
            let rows = if borrowed { group.rows(&fused[0]) } else { group.rows(item) };
            let total = group.rows(item).iter().sum();
            let must_divide = match order {
                _ if side == Side::Target && first.fused == Fusion::Attention => vec![group.model.dims.kv_heads],
                Order::Grouped if !borrowed => vec![total],
                _ => rows,
            };
            let layout = common
                .clone()
                .unwrap_or_else(|| Layout::random(random, matrix, &must_divide, first.dims.get(1).copied()));
            let layout = if borrowed || random.one_in(2) { layout } else { layout.sharded(random, total) };
            if borrowed {
                common = Some(layout.clone());
            } else {
                let mut full = first.dims.clone();
                full[0] = total;
                self.strategy.insert(item.name.clone(), (layout.clone(), random.one_in(3).then_some(full)));
            }
            self.items.push((item.clone(), layout));
        }
        if let Some(layout) = common {
            self.strategy.extend(other.iter().map(|item| (item.name.clone(), (layout.clone(), None))));
        }
    }
}
