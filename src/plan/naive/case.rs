//! A random conversion: model, files, and how the target shall be.

use std::collections::HashSet;

use super::convert::Request;
use super::cut::{Layout, Order, Shard};
use super::files::{Contents, Tensor, contents};
use super::placement::{Placement, Scheme, Side, StageLayouts, shape};
use super::random::{Random, divisors};
use super::whole::{Dims, Fusion, Item, Model};
use crate::formats::{CKPT, SAFETENSORS};
use crate::tensor::Dtype;

/// A conversion.
#[derive(Clone)]
pub(super) struct Case {
    pub(super) model: Model,
    pub(super) source: Placement,
    pub(super) target: Placement,
    pub(super) request: Request,
    pub(super) files: Vec<Contents>,
    /// A counter that all ranks hold.
    pub(super) counter: Option<Tensor>,
    /// Whether the source's strategy does not know something that all ranks hold whole.
    pub(super) is_forgetful: bool,
}

pub(super) const FLOATS: [Dtype; 3] = [Dtype::F16, Dtype::BF16, Dtype::F32];

impl Case {
    pub(super) fn random(random: &mut Random) -> Self {
        // Without the model's name its shapes must say what it is.
        let named = !random.one_in(4);
        let square = !named || random.one_in(2);
        let mut dims = Dims::random(random, square);
        dims.qwen3 &= named;
        let model = Model::new(&dims, *random.pick(&FLOATS));
        let source = placement(random, &model, Side::Source, named, None);
        let target = placement(random, &model, Side::Target, named, (!named).then(|| attention_parts(&model, &source)));
        let dtype = |random: &mut Random| random.one_in(3).then(|| *random.pick(&FLOATS));
        let request = Request {
            dims: named.then(|| model.dims.clone()),
            precision: dtype(random),
            norms: dtype(random),
            format: *random.pick(&[CKPT, SAFETENSORS]),
        };
        let mut case = Self {
            files: contents(&model, &source),
            counter: None,
            is_forgetful: false,
            model,
            source,
            target,
            request,
        };
        case.forget(random);
        case.drop_replicas(random);
        case.forget_alike(random);
        case.add_counter(random);
        for at in 0..case.files.len() {
            // A rank in two files.
            if random.one_in(8) {
                let keep = random.below(case.files[at].tensors.len() + 1);
                let (rank, tensors) = (case.files[at].rank, case.files[at].tensors.split_off(keep));
                case.files.push(Contents { rank, tensors });
            }
        }
        random.shuffle(&mut case.files);
        case
    }

    /// What kinds of conversion this is one of.
    pub(super) fn kinds(&self) -> impl Iterator<Item = &'static str> {
        let strategy = |side: &Placement| matches!(side.scheme, Scheme::Strategy(_));
        let layouts = |side: &Placement, is: fn(&Layout) -> bool| side.stages.iter().flatten().any(|(_, l)| is(l));
        let nested = |layout: &Layout| layout.map.iter().any(|axes| axes.len() > 1);
        let sharded = |layout: &Layout| layout.shard != Shard::None && layout.replicas() > 1;
        let fused = |side: &Placement, order| {
            side.order == order && side.stages.iter().flatten().any(|(item, _)| item.parts.len() > 1)
        };
        let has = |(item, _): &(Item, Layout), strategy: &StageLayouts| strategy.contains_key(&item.name);
        let borrowed = match &self.source.scheme {
            Scheme::Rules { .. } => false,
            Scheme::Strategy(strategy) => self
                .source
                .stages
                .iter()
                .zip(strategy)
                .any(|(stage, strategy)| stage.iter().any(|one| !has(one, strategy))),
        };
        let ranks: HashSet<usize> = self.files.iter().map(|file| file.rank).collect();
        let (source, target) = (&self.source, &self.target);
        [
            (!strategy(source) && !strategy(target), "rules to rules"),
            (!strategy(source) && strategy(target), "rules to strategy"),
            (strategy(source) && !strategy(target), "strategy to rules"),
            (strategy(source) && strategy(target), "strategy to strategy"),
            (fused(source, Order::Grouped), "grouped source"),
            (fused(source, Order::RankConcat), "rank-concat source"),
            (fused(target, Order::Grouped), "grouped target"),
            (fused(target, Order::RankConcat), "rank-concat target"),
            (layouts(source, nested) || layouts(target, nested), "nested"),
            (layouts(source, sharded), "sharded source"),
            (layouts(target, sharded), "sharded target"),
            (source.stages.len() > 1 || target.stages.len() > 1, "stages"),
            (ranks.len() < source.ranks(), "a replica is not there"),
            (borrowed, "a strategy by other names"),
            (self.request.dims.is_none(), "a model that is not named"),
            (self.counter.is_some(), "a counter"),
            (self.model.dims.qwen3, "norms of q and k"),
            (self.is_forgetful, "what no strategy of the source knows"),
        ]
        .into_iter()
        .filter_map(|(is, kind)| is.then_some(kind))
    }

    /// What a failure shows.
    pub(super) fn text(&self) -> String {
        let files: Vec<_> = self.files.iter().map(|file| (file.rank, file.tensors.len())).collect();
        let (dims, dtype) = (&self.model.dims, self.model.dtype);
        format!(
            "{dims:?} {dtype}\nsource: {}\ntarget: {}\n{:?}\nfiles (rank, tensors): {files:?}\n",
            self.source.text(),
            self.target.text(),
            self.request
        )
    }

    /// A strategy of one rank need not know what that holds: it is whole, and by itself.
    fn forget(&mut self, random: &mut Random) {
        let Scheme::Strategy(strategies) = &mut self.target.scheme else { return };
        if self.target.devices > 1 || strategies.len() > 1 || random.one_in(2) {
            return;
        }
        let stage = &mut self.target.stages[0];
        for _ in 0..random.below(stage.len()) {
            let (item, _) = stage.remove(random.below(stage.len()));
            strategies[0].remove(&item.name);
            let whole = |&part: &usize| {
                let ndim = self.model.parameters[part].dims.len();
                (self.model.plain(part), Layout::flat(1, ndim, None))
            };
            stage.extend(item.parts.iter().map(whole));
            if strategies[0].len() == 1 {
                return;
            }
        }
    }

    /// A strategy of the source need not know what all ranks hold whole.
    fn forget_alike(&mut self, random: &mut Random) {
        let Scheme::Strategy(strategies) = &mut self.source.scheme else { return };
        if random.one_in(2) {
            return;
        }
        let held = |name: &str| self.files.iter().flat_map(|file| &file.tensors).filter(|t| t.name == name).count();
        // What one of two stages knows must be known in the other.
        let stages: Vec<&Item> = self.source.stages.iter().flatten().map(|(item, _)| item).collect();
        let is_in_two = |item: &Item| stages.iter().filter(|other| other.name == item.name).count() > 1;
        for (stage, strategy) in self.source.stages.iter().zip(strategies) {
            for (item, layout) in stage {
                let whole = layout.replicas() == self.source.devices && layout.shard == Shard::None;
                // A single number is taken for a counter.
                let numbers =
                    item.parts.iter().all(|&part| self.model.parameters[part].dims.iter().product::<usize>() > 1);
                if whole
                    && numbers
                    && !is_in_two(item)
                    && held(&item.name) > 1
                    && strategy.len() > 1
                    && random.one_in(3)
                {
                    strategy.remove(&item.name);
                    self.is_forgetful = true;
                }
            }
        }
    }

    /// Ranks of a strategy may be missing where others hold all that they do.
    fn drop_replicas(&mut self, random: &mut Random) {
        if matches!(self.source.scheme, Scheme::Rules { .. }) || random.one_in(2) {
            return;
        }
        for _ in 0..random.below(3) {
            let rank = random.below(self.source.ranks());
            if self.is_spare(rank) {
                self.files.retain(|file| file.rank != rank);
            }
        }
    }

    /// Whether the other ranks that are there hold all that a rank does.
    pub(super) fn is_spare(&self, rank: usize) -> bool {
        let elements = |rank: usize| self.source.blocks(&self.model, rank).flat_map(|(_, block)| block.elements);
        let others: HashSet<u32> =
            self.files.iter().filter(|file| file.rank != rank).flat_map(|file| elements(file.rank)).collect();
        elements(rank).all(|element| others.contains(&element))
    }

    fn add_counter(&mut self, random: &mut Random) {
        // One rank alone is no evidence that all have it.
        if !random.one_in(4) || self.files.len() == 1 && matches!(self.source.scheme, Scheme::Strategy(_)) {
            return;
        }
        let dims = if random.one_in(2) { vec![] } else { vec![1] };
        let (name, dtype) = ("global_step".to_owned(), Dtype::I32);
        let counter = Tensor { name, dtype, shape: shape(&dims), bytes: vec![1, 2, 3, 4] };
        for file in &mut self.files {
            let at = random.below(file.tensors.len() + 1);
            file.tensors.insert(at, counter.clone());
        }
        self.counter = Some(counter);
    }
}

/// `parts`: what the ranks must divide, where the heads are not known.
fn placement(random: &mut Random, model: &Model, side: Side, named: bool, parts: Option<usize>) -> Placement {
    let grouped = model.dims.qwen3 || named && random.one_in(2);
    let order = if grouped { Order::Grouped } else { Order::RankConcat };
    if random.one_in(2) {
        return Placement::strategy(random, model, side, order);
    }
    let dims = &model.dims;
    let mut shared = vec![dims.heads(), dims.kv_heads, dims.ffn];
    shared.extend(parts);
    let ranks = *random.pick(&divisors(&shared));
    Placement::rules(random, model, side, ranks, order)
}

/// Into how many parts all of q, k and v are cut, or a multiple of that.
fn attention_parts(model: &Model, source: &Placement) -> usize {
    let all = source.stages.iter().flatten().filter(|(s, _)| model.parameters[s.parts[0]].fused == Fusion::Attention);
    all.map(|(_, layout)| layout.parts(0)).fold(0, gcd)
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
