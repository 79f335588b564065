//! Old code against new: every element of every stored tensor, by [`crate::models`] and by the tables of [`crate::model`], over
//! all names, families, ranks, both orders of fused rows, with biases and without.

use std::collections::{BTreeMap, BTreeSet};

use super::fused_rows::{grouping, radices};
use super::pieces::{Order, Part, Stored, fused as stored_fused, plain};
use crate::layout::{LayoutError, OptimizerShard, Piece, TensorLayout};
use crate::model::{
    Captures, Companion, Configuration, Family, ModelError, Of, OwnSizes, ParamId, Share, Sizes, StoredTensor, Value,
    builtin_families, builtin_family, companions, recognise,
};
use crate::models::foreign::{self, Naming, Place};
use crate::models::{
    Fused, FusionLayout, KV_CELL_ALONE, LoraFactor, ModelSpec, Split, cache_name, fused, group_scale_of, kv_names,
    lora_factor, role,
};

/// Where each element of a file comes from: the parameter by mindformers' unfused name, and the element in row-major order.
type Elements = Vec<Option<(String, u64)>>;

/// How devices share a tensor: over one axis, which is that of its role, or as a strategy says.
#[derive(Clone, Copy)]
struct Layout<'a> {
    device: u64,
    ranks: u64,
    strategy: Option<&'a TensorLayout>,
}

impl Layout<'_> {
    fn flat(device: u64, ranks: u64) -> Self {
        Self { device, ranks, strategy: None }
    }

    fn of(self, axes: usize, axis: Option<usize>) -> TensorLayout {
        match self.strategy {
            None => TensorLayout::flat(self.ranks, axes, axis),
            Some(layout) => TensorLayout { tensor_map: layout.tensor_map[..axes].to_vec(), ..layout.clone() },
        }
    }
}

/// Puts the elements of a piece into the file. `dims`: the full dimensions of the piece's axes.
fn put(elements: &mut Elements, name: &str, piece: &Piece, dims: &[u64]) {
    let axes = dims.len();
    let mut at = vec![0u64; axes];
    if piece.region.is_empty() {
        return;
    }
    loop {
        let mut full = 0;
        let mut file = piece.offset;
        for axis in 0..axes {
            full = full * dims[axis] + piece.region.start()[axis] + at[axis];
            file += at[axis] * piece.strides()[axis];
        }
        let place = elements.get_mut(usize::try_from(file).unwrap()).unwrap();
        assert_eq!(place.replace((name.to_owned(), full)), None, "{name}: an element twice");
        let Some(axis) = (0..axes).rev().find(|&axis| at[axis] + 1 < piece.region.len()[axis]) else { return };
        at[axis] += 1;
        at[axis + 1..].fill(0);
    }
}

fn empty(dims: &[u64]) -> Elements {
    vec![None; usize::try_from(dims.iter().product::<u64>()).unwrap()]
}

/// What the old code says of a fused name. `full`: the full dimensions of a part.
fn old_fused(
    spec: &ModelSpec,
    info: &Fused,
    full: &dyn Fn(&str) -> Vec<u64>,
    order: FusionLayout,
    cut: Layout<'_>,
) -> Result<(Vec<u64>, Elements), LayoutError> {
    let tail = full(&info.parts[0])[1..].to_vec();
    let of = |part: &String| {
        let rows = full(part)[0];
        Part { rows, radices: radices(Some(info), part, rows, Some(spec)) }
    };
    let parts: Vec<Part> = info.parts.iter().map(of).collect();
    let grouping = grouping(info, spec);
    let how = match order {
        FusionLayout::RankConcat => Order::RankConcat,
        FusionLayout::Grouped => Order::Grouped(&grouping),
    };
    let Stored { dims, pieces } = stored_fused(how, &parts, &tail, &cut.of(1 + tail.len(), Some(0)), cut.device)?;
    let mut elements = empty(&dims);
    for (index, piece) in pieces {
        let full: Vec<u64> = parts[index].radices.iter().chain(&tail).copied().collect();
        put(&mut elements, &info.parts[index], &piece, &full);
    }
    Ok((dims, elements))
}

/// What the old code says of a name of mindformers' in a rank's file: dimensions and elements.
fn old(
    spec: &ModelSpec,
    name: &str,
    order: FusionLayout,
    cut: Layout<'_>,
) -> Result<(Vec<u64>, Elements), LayoutError> {
    let shape = |name: &str| spec.shape(name).unwrap().dims().to_vec();
    if let Some(info) = fused(name).filter(|info| info.name == name) {
        return old_fused(spec, &info, &shape, order, cut);
    }
    let full = shape(name);
    let axis = match role(name).unwrap().split {
        Split::Whole => None,
        Split::Rows => Some(0),
        Split::Columns => Some(1),
        Split::Vocabulary => (!spec.vocabulary_whole && spec.vocab.is_multiple_of(cut.ranks)).then_some(0),
    };
    let Stored { dims, pieces } = plain(&full, &full[..1], &cut.of(full.len(), axis), cut.device)?;
    let mut elements = empty(&dims);
    for (_, piece) in &pieces {
        put(&mut elements, name, piece, &full);
    }
    Ok((dims, elements))
}

/// What the old code says of a foreign name: dimensions and elements.
fn old_foreign(spec: &ModelSpec, naming: Naming, name: &str) -> (Vec<u64>, Elements) {
    let dims = naming.foreign_shape(spec, name).unwrap().dims().to_vec();
    let width: u64 = dims[1..].iter().product();
    let mut elements = empty(&dims);
    let mut row = |ours: &str, our_row: u64, foreign_row: u64| {
        for column in 0..width {
            let place = &mut elements[usize::try_from(foreign_row * width + column).unwrap()];
            assert_eq!(place.replace((ours.to_owned(), our_row * width + column)), None);
        }
    };
    match naming.place(name) {
        Place::Parameter { name: ours, transform } => {
            let rope = transform.rows(spec).unwrap();
            (0..dims[0]).for_each(|r| row(&ours, r, rope.map_or(r, |rope| rope.foreign_row(r).unwrap())));
        }
        Place::Parts { names, how } => {
            let grouping = how.grouping(spec);
            let mut foreign_row = 0;
            for group in 0..grouping.groups {
                for (ours, &slots) in names.iter().zip(&grouping.slots) {
                    for r in 0..slots * grouping.height {
                        row(ours, group * slots * grouping.height + r, foreign_row);
                        foreign_row += 1;
                    }
                }
            }
        }
        Place::Dropped | Place::Unknown => panic!("{name}"),
    }
    (dims, elements)
}

/// A model by its tables.
struct Tables {
    family: &'static Family,
    sizes: Sizes,
    members: Vec<ParamId>,
}

impl Tables {
    fn new(family: &str, spec: &ModelSpec) -> Self {
        let family = builtin_family(family).unwrap();
        let fields = configuration(spec);
        let sizes = family.sizes("config.json", &fields).unwrap();
        let members = family.members("config.json", &fields).unwrap();
        Self { family, sizes, members }
    }

    /// The name that a scheme has for what holds a parameter.
    fn name(&self, scheme: &str, id: ParamId) -> String {
        let row = self.family.scheme(scheme).unwrap().row_of(id.param).unwrap();
        row.pattern.name(Captures { layer: id.layer, expert: None }).unwrap()
    }

    fn names(&self, scheme: &str) -> BTreeSet<String> {
        self.members.iter().map(|&id| self.name(scheme, id)).collect()
    }

    /// The elements of a companion; where each part is the whole tensor, those of the first.
    fn companion_elements(&self, stored: &StoredTensor, companion: &Companion, own: OwnSizes) -> (Vec<u64>, Elements) {
        let mut elements = empty(&stored.dims);
        if companion.is_of_input() {
            let names: BTreeSet<ParamId> = stored.parts.iter().map(|part| part.id).collect();
            let pieces = |id: ParamId| stored.parts.iter().filter(move |part| part.id == id).map(|part| &part.piece);
            assert!(names.iter().all(|&id| pieces(id).eq(pieces(stored.parts[0].id))));
        }
        let all = !companion.is_of_input();
        for part in stored.parts.iter().filter(|part| all || part.id == stored.parts[0].id) {
            let canonical = self.family.canonical_companion(part.id.param, companion, own, &self.sizes).unwrap();
            let full: Vec<u64> = canonical.axes().collect();
            let layer = self.name("mindformers", part.id);
            let name = format!("{}.{}", layer.strip_suffix(".weight").unwrap(), companion.tail);
            put(&mut elements, &name, &part.piece, &full);
        }
        (stored.dims.clone(), elements)
    }

    fn stored(&self, scheme: &str, name: &str, share: Share) -> (Vec<u64>, Elements) {
        let (row, captures) = self.family.scheme(scheme).unwrap().find(name).unwrap();
        self.elements(name, &self.family.stored(row, captures, &self.sizes, share).unwrap())
    }

    fn elements(&self, name: &str, stored: &StoredTensor) -> (Vec<u64>, Elements) {
        let mut elements = empty(&stored.dims);
        for part in &stored.parts {
            let full: Vec<u64> = self.family.canonical(part.id.param, &self.sizes).unwrap().axes().collect();
            // A cache's entries have one name in the network for one card and another in that for several.
            let alone = name.contains(KV_CELL_ALONE);
            let ours = cache_name(&self.name("mindformers", part.id), alone);
            put(&mut elements, &ours, &part.piece, &full);
        }
        (stored.dims.clone(), elements)
    }
}

#[expect(clippy::cast_precision_loss, reason = "small numbers")]
fn configuration(spec: &ModelSpec) -> Configuration {
    let numbers = [
        ("hidden_size", spec.hidden),
        ("num_hidden_layers", spec.layers.into()),
        ("num_attention_heads", spec.heads),
        ("num_key_value_heads", spec.kv_heads),
        ("head_dim", spec.head_dim),
        ("intermediate_size", spec.ffn),
        ("vocab_size", spec.vocab),
    ];
    let numbers = numbers.map(|(name, n)| (name.to_owned(), Value::Number(n as f64)));
    numbers.into_iter().chain([("tie_word_embeddings".to_owned(), Value::Flag(spec.tied))]).collect()
}

fn specs(bias: bool) -> Vec<ModelSpec> {
    let mut all = Vec::new();
    for (heads, kv_heads) in [(1, 1), (2, 2), (4, 2), (4, 1), (6, 3), (16, 16), (24, 8), (32, 16)] {
        for (head_dim, hidden) in [(2, 3), (4, 2), (6, 5)] {
            for (ffn, vocab, tied) in [(48, 7, false), (240, 16, true), (16, 48, false)] {
                all.push(ModelSpec {
                    hidden,
                    layers: 2,
                    heads,
                    kv_heads,
                    head_dim,
                    ffn,
                    vocab,
                    qkv_bias: bias,
                    tied,
                    fused: None,
                    vocabulary_whole: vocab == 48,
                });
            }
        }
    }
    all
}

/// What the old code says of a name of a quantised layer, whose dimensions it knows but for those that are the checkpoint's.
fn old_companion(
    spec: &ModelSpec,
    name: &str,
    order: FusionLayout,
    own: OwnSizes,
    cut: Layout<'_>,
) -> Result<(Vec<u64>, Elements), LayoutError> {
    let info = fused(name).filter(|info| info.name == name);
    let full_of = |name: &str| -> Vec<u64> {
        if let Some(shape) = spec.shape(name) {
            return shape.dims().to_vec();
        }
        let weight = group_scale_of(name).or_else(|| lora_factor(name).map(|(weight, _)| weight)).unwrap();
        let weight = spec.shape(&weight).unwrap().dims().to_vec();
        match lora_factor(name) {
            None => vec![weight[0], weight[1] / own.group],
            Some((_, LoraFactor::A)) => vec![own.lora_rank, weight[1]],
            Some((_, LoraFactor::B)) => vec![weight[0], own.lora_rank],
        }
    };
    let layout = |part: &str, dims: &[u64]| {
        let split = match lora_factor(part) {
            None => role(part).unwrap().split,
            // An adapter's factor has the cut of the weight's axis that it has.
            Some((weight, factor)) => match (role(&weight).unwrap().split, factor) {
                (Split::Rows, LoraFactor::B) => Split::Rows,
                (Split::Columns, LoraFactor::A) => Split::Columns,
                _ => Split::Whole,
            },
        };
        let axis = match split {
            Split::Rows => Some(0),
            Split::Columns => Some(1),
            Split::Whole => None,
            Split::Vocabulary => panic!("{part}"),
        };
        cut.of(dims.len(), axis)
    };
    let Some(info) = info else {
        let full = full_of(name);
        let Stored { dims, pieces } = plain(&full, &full[..1], &layout(name, &full), cut.device)?;
        let mut elements = empty(&dims);
        for (_, piece) in &pieces {
            put(&mut elements, name, piece, &full);
        }
        return Ok((dims, elements));
    };
    if info.shared {
        // Each part is the whole tensor, so the first is enough.
        return old_companion(spec, &info.parts[0], order, own, cut);
    }
    old_fused(spec, &info, &full_of, order, cut)
}

#[test]
fn the_tables_place_every_element_of_quantised_layers_and_adapters_as_the_code_does() {
    let mut counts = Counts::default();
    let own = OwnSizes { group: 64, lora_rank: 3 };
    // Columns that hold whole groups on every rank.
    for (heads, kv_heads, head_dim, ffn, hidden) in [(4, 4, 64, 256, 64), (4, 2, 128, 512, 64)] {
        let spec = ModelSpec { hidden, heads, kv_heads, head_dim, ffn, ..specs(false).pop().unwrap() };
        let tables = Tables::new("llama", &spec);
        counts.models += 1;
        for ranks in (1..=16).filter(|&ranks| spec.check_ranks(ranks).is_ok()) {
            for rank in 0..ranks {
                for (scheme, order) in [
                    ("mindformers", FusionLayout::RankConcat),
                    ("mindformers/rank-concat", FusionLayout::RankConcat),
                    ("mindformers/grouped", FusionLayout::Grouped),
                ] {
                    let layers = tables.names(scheme);
                    let layers = layers.iter().filter(|name| name.starts_with("model.layers.1."));
                    let layers: Vec<_> = layers.filter_map(|name| name.strip_suffix(".weight")).collect();
                    for (layer, companion) in layers.iter().flat_map(|l| companions().iter().map(move |c| (l, c))) {
                        let name = format!("{layer}.{}", companion.tail);
                        let found = tables.family.scheme(scheme).unwrap().companions(tables.family, &name);
                        assert_eq!(found.is_none(), layer.ends_with("_norm"), "{name}");
                        let Some((row, at, all)) = found else { continue };
                        assert!(all.contains(&companion));
                        let share = Share::of(rank, ranks);
                        let new =
                            tables.family.stored_companion(row, at, companion, own, &tables.sizes, share).unwrap();
                        let elements = tables.companion_elements(&new, companion, own);
                        let old = old_companion(&spec, &name, order, own, Layout::flat(rank, ranks)).unwrap();
                        counts.same(&format!("{name} ({scheme}, rank {rank} of {ranks}, {spec:?})"), &old, &elements);
                    }
                }
            }
        }
    }
    println!("{counts:?}");
    assert!(counts.tensors > 4_000, "{counts:?}");
}

/// What was compared.
#[derive(Debug, Default)]
struct Counts {
    models: u64,
    tensors: u64,
    elements: u64,
}

impl Counts {
    fn same(&mut self, what: &str, old: &(Vec<u64>, Elements), new: &(Vec<u64>, Elements)) {
        assert_eq!(old.0, new.0, "dimensions of {what}");
        assert!(new.1.iter().all(Option::is_some), "{what}: an element without a source");
        assert!(old.1 == new.1, "elements of {what}");
        self.tensors += 1;
        self.elements += new.1.len() as u64;
    }
}

#[test]
fn the_tables_place_every_element_of_rank_files_as_the_code_does() {
    let mut counts = Counts::default();
    for bias in [false, true] {
        let family = if bias { "qwen2" } else { "llama" };
        for spec in specs(bias) {
            let tables = Tables::new(family, &spec);
            let required: BTreeSet<String> = spec.required().collect();
            assert_eq!(tables.names("mindformers"), required);
            counts.models += 1;
            for ranks in (1..=16).filter(|&ranks| spec.check_ranks(ranks).is_ok()) {
                for rank in 0..ranks {
                    let share = Share { vocabulary_whole: spec.vocabulary_whole, ..Share::of(rank, ranks) };
                    for (scheme, order) in [
                        ("mindformers", FusionLayout::RankConcat),
                        ("mindformers/rank-concat", FusionLayout::RankConcat),
                        ("mindformers/grouped", FusionLayout::Grouped),
                    ] {
                        let caches = [true, false].into_iter().flat_map(kv_names);
                        let caches = caches.map(|(name, _)| format!("model.layers.1.{name}"));
                        for name in tables.names(scheme).into_iter().chain(caches) {
                            let what = format!("{name} ({scheme}, rank {rank} of {ranks}, {spec:?})");
                            let new = tables.stored(scheme, &name, share);
                            let old = old(&spec, &name, order, Layout::flat(rank, ranks)).unwrap();
                            counts.same(&what, &old, &new);
                        }
                    }
                }
            }
        }
    }
    println!("{counts:?}");
    assert!(counts.tensors > 50_000, "{counts:?}");
}

#[test]
fn the_tables_place_every_element_of_foreign_files_as_the_code_does() {
    let mut counts = Counts::default();
    for (family, scheme, naming, bias) in [
        ("llama", "hf", foreign::Family::Llama, false),
        ("llama", "meta", foreign::Family::Meta, false),
        ("qwen2", "hf", foreign::Family::Qwen2, true),
        ("baichuan2", "hf", foreign::Family::Baichuan2, false),
        ("internlm2", "hf", foreign::Family::InternLm2, false),
    ] {
        let naming = Naming::new(naming);
        for spec in specs(bias) {
            let tables = Tables::new(family, &spec);
            let names: BTreeSet<String> = naming.foreign_names(&spec).unwrap().into_iter().collect();
            assert_eq!(tables.names(scheme), names);
            counts.models += 1;
            for name in names {
                let new = tables.stored(scheme, &name, Share::WHOLE);
                counts.same(&format!("{name} ({family} {scheme}, {spec:?})"), &old_foreign(&spec, naming, &name), &new);
            }
        }
    }
    println!("{counts:?}");
    assert!(counts.tensors > 1000, "{counts:?}");
}

#[test]
fn names_are_recognised_by_the_scheme_that_explains_them() {
    let mut all: BTreeMap<&str, Vec<(&str, &str)>> = BTreeMap::new();
    let spec = specs(false).pop().unwrap();
    for (family, scheme) in [
        ("llama", "hf"),
        ("llama", "meta"),
        ("llama", "mindformers"),
        ("llama", "mindformers/grouped"),
        ("qwen2", "hf"),
        ("qwen2", "mindformers"),
        ("baichuan2", "hf"),
        ("internlm2", "hf"),
    ] {
        let tables = Tables::new(family, &ModelSpec { qkv_bias: family == "qwen2", ..spec.clone() });
        let names = tables.names(scheme);
        let names: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        let found = recognise(builtin_families(), &names);
        all.entry(family).or_default().push((family, scheme));
        let found: Vec<(&str, &str)> = found.iter().map(|r| (r.family.name.as_str(), r.scheme.name.as_str())).collect();
        // Names that several families have are their base's. The order of fused rows is not in the names.
        let wanted = match (family, scheme) {
            (_, "mindformers/grouped") => vec![("dense", "mindformers/grouped"), ("dense", "mindformers/rank-concat")],
            ("llama", "hf" | "mindformers") => vec![("dense", scheme)],
            _ => vec![(family, scheme)],
        };
        assert_eq!(found, wanted);
    }
}

/// Layouts of two axes on up to four axes of devices, from a linear congruential generator.
fn layouts(count: usize) -> Vec<TensorLayout> {
    let mut state = 15u64;
    let mut below = move |n: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % n
    };
    let mut one = || {
        let device_matrix: Vec<u64> = (0..1 + below(4)).map(|_| [1, 2, 2, 3, 4][below(5) as usize]).collect();
        let mut tensor_map = vec![Vec::new(), Vec::new()];
        for axis in 0..device_matrix.len() {
            // More often rows than columns; the last of three leaves it to replicas.
            match below(6) {
                0..3 => tensor_map[0].push(axis),
                3 => tensor_map[1].push(axis),
                _ => {}
            }
        }
        let optimizer_shard = match below(4) {
            0 => OptimizerShard::All,
            1 => OptimizerShard::Groups(2),
            _ => OptimizerShard::None,
        };
        TensorLayout { device_matrix, tensor_map, optimizer_shard, optimizer_shard_step: 0 }
    };
    (0..count).map(|_| one()).collect()
}

#[test]
fn the_tables_place_every_element_under_any_layout_as_the_code_does() {
    let mut counts = Counts::default();
    let mut refused = 0;
    let own = OwnSizes { group: 64, lora_rank: 6 };
    for (layout, spec) in layouts(80).iter().zip(specs(true).into_iter().cycle().step_by(5)) {
        let tables = Tables::new("qwen2", &ModelSpec { hidden: 12, ..spec.clone() });
        let spec = ModelSpec { hidden: 12, ..spec };
        counts.models += 1;
        for device in 0..layout.devices() {
            let cut = Layout { device, ranks: 1, strategy: Some(layout) };
            for (scheme, order) in [
                ("mindformers", FusionLayout::RankConcat),
                ("mindformers/rank-concat", FusionLayout::RankConcat),
                ("mindformers/grouped", FusionLayout::Grouped),
            ] {
                let family = tables.family;
                let names = tables.names(scheme);
                for name in names.iter().filter(|name| !name.contains("layers.0")) {
                    let what = format!("{name} ({scheme}, device {device} of {layout:?}, {spec:?})");
                    let (row, at) = family.scheme(scheme).unwrap().find(name).unwrap();
                    let axes = family.full_dims(row, at, &tables.sizes).unwrap().len();
                    let new = family.stored_in(row, at, &tables.sizes, &cut.of(axes, None), device);
                    match (old(&spec, name, order, cut), new) {
                        (Ok(old), Ok(new)) => counts.same(&what, &old, &tables.elements(name, &new)),
                        (Err(old), Err(new)) => {
                            assert_eq!(new, ModelError::Layout(old), "{what}");
                            refused += 1;
                        }
                        (old, new) => panic!("{what}: {:?} {new:?}", old.is_ok()),
                    }
                    let Some(layer) = name.strip_suffix(".weight").filter(|name| name.contains("w_")) else { continue };
                    for companion in companions().iter().filter(|companion| !companion.dims.contains(&Of::InGroups)) {
                        let name = format!("{layer}.{}", companion.tail);
                        let (row, at, _) = family.scheme(scheme).unwrap().companions(family, &name).unwrap();
                        let map = cut.of(companion.dims.len(), None);
                        let new = family.stored_companion_in(row, at, companion, own, &tables.sizes, &map, device);
                        match (old_companion(&spec, &name, order, own, cut), new) {
                            (Ok(old), Ok(new)) => {
                                counts.same(&what, &old, &tables.companion_elements(&new, companion, own));
                            }
                            (Err(old), Err(new)) => assert_eq!(new, ModelError::Layout(old), "{name}: {what}"),
                            (old, new) => panic!("{name} {what}: {:?} {new:?}", old.is_ok()),
                        }
                    }
                }
            }
        }
    }
    println!("{counts:?}, {refused} refused");
    assert!(counts.tensors > 10_000 && refused > 1000, "{counts:?}, {refused} refused");
}
