//! More ranks than key/value heads: each key/value head is on several ranks, and every rank has query heads of its own. A family that
//! says so is converted from and to any number of ranks, and what a rank holds is what naive slicing by heads gives it.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::execute::{made, sources};
use super::files::{Contents, File, Tensor, bytes_of, evidence};
use super::random::Random;
use crate::formats::SAFETENSORS;
use crate::layout::TensorLayout;
use crate::model::{Configuration, Family, FusionLayout, Model, Value, builtin_family};
use crate::plan::{
    Arrangement, Catalog, CatalogOptions, Compared, PlanError, PlanOptions, Precision, TargetOptions, build, compare,
    prove, rules_strategy, strategies, targets,
};
use crate::tensor::{Dtype, Shape};

const KV: u32 = 2;
const QUERY: u32 = 4;
const HEADS: u32 = KV * QUERY;
const DIM: u32 = 2;
const HIDDEN: u32 = 3;
const FFN: u32 = 8;
const VOCAB: u32 = 16;

const FAMILY: &str = "
family: replicated
extends: dense
model_types: [replicated]
replicated: [KvHead]
params:
  layer:
    q: {dims: [[KvHead, Query, Half, Pair], [Hidden]], cut: [KvHead, Query]}
    o: {dims: [[Hidden], [KvHead, Query, HeadDim]], cut: [KvHead, Query]}
";

static MODEL: LazyLock<Model> = LazyLock::new(|| {
    let family = Family::read("replicated", FAMILY, &|name| builtin_family(name).cloned()).expect("a family");
    let fields = [
        ("num_hidden_layers", 1),
        ("vocab_size", VOCAB),
        ("hidden_size", HIDDEN),
        ("num_attention_heads", HEADS),
        ("num_key_value_heads", KV),
        ("head_dim", DIM),
        ("intermediate_size", FFN),
    ];
    let fields = fields.map(|(name, size)| (name.to_owned(), Value::Number(f64::from(size))));
    let configuration: Configuration = fields.into_iter().collect();
    Model::read(Box::leak(Box::new(family)), "config.json", &configuration).expect("a model")
});

/// In which order fused rows are, if they are.
type Fused = Option<FusionLayout>;

/// The elements of some rows and columns of a matrix whose elements are numbered from `first` on.
fn matrix(first: u32, width: u32, rows: impl Iterator<Item = u32>, columns: std::ops::Range<u32>) -> Vec<u32> {
    rows.flat_map(|row| columns.clone().map(move |column| first + row * width + column)).collect()
}

/// What a rank's file holds: dimensions and elements by name.
fn held(rank: u32, ranks: u32, fused: Fused) -> BTreeMap<String, (Vec<u32>, Vec<u32>)> {
    let part = |length: u32| rank * length / ranks..(rank + 1) * length / ranks;
    let heads = part(HEADS);
    let kv_heads = heads.start / QUERY..(heads.end - 1) / QUERY + 1;
    let rows_of = |heads: std::ops::Range<u32>| heads.start * DIM..heads.end * DIM;
    let q = |heads| matrix(1000, HIDDEN, rows_of(heads), 0..HIDDEN);
    let k = |heads| matrix(2000, HIDDEN, rows_of(heads), 0..HIDDEN);
    let v = |heads| matrix(3000, HIDDEN, rows_of(heads), 0..HIDDEN);
    let gate = |rows| matrix(4000, HIDDEN, rows, 0..HIDDEN);
    let up = |rows| matrix(5000, HIDDEN, rows, 0..HIDDEN);
    let o = matrix(6000, HEADS * DIM, 0..HIDDEN, rows_of(heads.clone()));
    let down = matrix(7000, FFN, 0..HIDDEN, part(FFN));
    let count = |heads: &std::ops::Range<u32>| (heads.end - heads.start) * DIM;
    let (q_rows, kv_rows, ffn) = (count(&heads), count(&kv_heads), FFN / ranks);
    let mut all = BTreeMap::new();
    let mut add = |name: &str, dims: &[u32], elements: Vec<u32>| {
        all.insert(name.to_owned(), (dims.to_vec(), elements));
    };
    add(
        "model.tok_embeddings.embedding_weight",
        &[VOCAB / ranks, HIDDEN],
        matrix(8000, HIDDEN, part(VOCAB), 0..HIDDEN),
    );
    add("lm_head.weight", &[VOCAB / ranks, HIDDEN], matrix(9000, HIDDEN, part(VOCAB), 0..HIDDEN));
    for (first, name) in (100..).step_by(100).zip([
        "model.norm_out.weight",
        "model.layers.0.attention_norm.weight",
        "model.layers.0.ffn_norm.weight",
    ]) {
        add(name, &[HIDDEN], matrix(first, HIDDEN, 0..1, 0..HIDDEN));
    }
    add("model.layers.0.attention.wo.weight", &[HIDDEN, q_rows], o);
    add("model.layers.0.feed_forward.w2.weight", &[HIDDEN, ffn], down);
    let groups = || kv_heads.clone().map(|g| (g..g + 1, heads.start.max(g * QUERY)..heads.end.min((g + 1) * QUERY)));
    let (w_qkv, w_gate_hidden) = match fused {
        None => {
            add("model.layers.0.attention.wq.weight", &[q_rows, HIDDEN], q(heads));
            add("model.layers.0.attention.wk.weight", &[kv_rows, HIDDEN], k(kv_heads.clone()));
            add("model.layers.0.attention.wv.weight", &[kv_rows, HIDDEN], v(kv_heads));
            add("model.layers.0.feed_forward.w1.weight", &[ffn, HIDDEN], gate(part(FFN)));
            add("model.layers.0.feed_forward.w3.weight", &[ffn, HIDDEN], up(part(FFN)));
            return all;
        }
        Some(FusionLayout::RankConcat) => {
            ([q(heads), k(kv_heads.clone()), v(kv_heads)].concat(), [gate(part(FFN)), up(part(FFN))].concat())
        }
        Some(FusionLayout::Grouped) => (
            groups().flat_map(|(g, heads)| [q(heads), k(g.clone()), v(g)].concat()).collect(),
            part(FFN).flat_map(|row| [gate(row..row + 1), up(row..row + 1)].concat()).collect(),
        ),
    };
    add("model.layers.0.attention.w_qkv.weight", &[q_rows + 2 * kv_rows, HIDDEN], w_qkv);
    add("model.layers.0.feed_forward.w_gate_hidden.weight", &[2 * ffn, HIDDEN], w_gate_hidden);
    all
}

fn shape(dims: &[u32]) -> Shape {
    Shape::new(dims.iter().map(|&dim| u64::from(dim)).collect::<Vec<_>>()).expect("small")
}

fn files(ranks: u32, fused: Fused) -> Vec<File> {
    let of_rank = |rank| {
        let tensor = |(name, (dims, elements)): (String, (Vec<u32>, Vec<u32>))| Tensor {
            name,
            dtype: Dtype::F32,
            shape: shape(&dims),
            bytes: bytes_of(&elements, Dtype::F32),
        };
        let contents = Contents {
            rank,
            tensors: held(u32::try_from(rank).expect("few"), ranks, fused).into_iter().map(tensor).collect(),
        };
        File::new(&mut Random::new(7), &contents)
    };
    (0..ranks as usize).map(of_rank).collect()
}

fn catalog(files: &[File], spec: Option<&Model>, fused: Fused) -> Result<Catalog, PlanError> {
    let (arrangement, fusion) = (Arrangement::Rules(files.len() as u64), fused.unwrap_or_default());
    let options = CatalogOptions { spec, arrangement, fusion, evidence: &evidence(files), ignore: &|_| false };
    Catalog::new(&files.iter().map(File::source).collect::<Vec<_>>(), &options)
}

fn options(ranks: u32, fused: Fused) -> TargetOptions<'static> {
    TargetOptions {
        spec: Some(&MODEL),
        arrangement: Arrangement::Rules(ranks.into()),
        fusion: fused.unwrap_or_default(),
        fused: fused.is_some(),
        vocabulary_whole: false,
    }
}

const FORMS: [Fused; 3] = [None, Some(FusionLayout::RankConcat), Some(FusionLayout::Grouped)];
const RANKS: [u32; 4] = [1, 2, 4, 8];

#[test]
fn every_rank_holds_its_query_heads_and_the_key_value_heads_that_they_need() {
    for (from, to) in RANKS.into_iter().flat_map(|from| RANKS.map(|to| (from, to))) {
        for (source, target) in FORMS.into_iter().flat_map(|source| FORMS.map(|target| (source, target))) {
            let what = format!("{from} {source:?} -> {to} {target:?}");
            let files = files(from, source);
            let read: Vec<_> = files.iter().map(File::source).collect();
            let catalog = catalog(&files, Some(&MODEL), source).unwrap_or_else(|e| panic!("{what}: {e}"));
            let ranks = targets(&catalog, &read, &evidence(&files), &options(to, target))
                .unwrap_or_else(|e| panic!("{what}: {e}"));
            let options = PlanOptions {
                precision: Precision::Keep,
                norms: Precision::Keep,
                format: SAFETENSORS,
                crc: false,
                padding: true,
                whole: None,
            };
            let plan = build(&read, &catalog, ranks, &options).unwrap_or_else(|e| panic!("{what}: {e}"));
            prove(&plan).unwrap_or_else(|e| panic!("{what}: {e}"));
            let bytes = sources(&plan, &files);
            for (rank, output) in (0..).zip(&plan.outputs) {
                let mut wanted = held(rank, to, target);
                for tensor in &output.tensors {
                    let (dims, elements) =
                        wanted.remove(&*tensor.name).unwrap_or_else(|| panic!("{what}: {}", tensor.name));
                    assert_eq!(tensor.shape, shape(&dims), "{what}: {}", tensor.name);
                    let made = made(&plan, &bytes, tensor, Dtype::F32);
                    assert!(made == bytes_of(&elements, Dtype::F32), "{what}: {} of rank {rank}", tensor.name);
                    let replicas = match &*tensor.name {
                        name if name.contains("norm") => to,
                        name if name.contains("wk.") || name.contains("wv.") => (to / KV).max(1),
                        _ => 1,
                    };
                    assert_eq!(tensor.first_holder, rank % replicas == 0, "{what}: {} of rank {rank}", tensor.name);
                }
                assert!(wanted.is_empty(), "{what}: rank {rank} lacks {:?}", wanted.keys());
            }
        }
    }
}

/// Ranks that hold the same head must hold the same bytes of it.
#[test]
fn what_several_ranks_hold_is_compared() {
    for fused in FORMS {
        let files = files(8, fused);
        let read: Vec<_> = files.iter().map(File::source).collect();
        let catalog = catalog(&files, Some(&MODEL), fused).expect("a catalog");
        let (plan, _) = compare(Compared::Replicas { at_most: 1 << 20 }, &read, &catalog, &read, &catalog);
        let compared = |end: &str| {
            let of = plan.outputs.iter().flat_map(|file| file.tensors.iter().map(move |tensor| (file.rank, tensor)));
            let of = of.filter(|(_, tensor)| tensor.name.ends_with(end));
            of.filter_map(|(rank, _)| rank).collect::<Vec<_>>()
        };
        let others = [1, 2, 3, 5, 6, 7];
        match fused {
            None => {
                assert_eq!((compared("wk.weight"), compared("wv.weight")), (others.to_vec(), others.to_vec()));
                assert!(compared("wq.weight").is_empty());
            }
            Some(_) => assert_eq!(compared("w_qkv.weight"), others),
        }
        // What they are compared with is the same.
        let bytes = sources(&plan, &files);
        for file in &plan.outputs {
            let mut own = held(file.rank.expect("a rank"), 8, fused);
            for tensor in &file.tensors {
                let (_, elements) = own.remove(&*tensor.name).expect("what it holds");
                assert!(made(&plan, &bytes, tensor, Dtype::F32) == bytes_of(&elements, Dtype::F32), "{}", tensor.name);
            }
        }
    }
}

#[test]
fn layouts_say_which_ranks_hold_the_same_where_a_layout_can() {
    let replicated =
        TensorLayout { device_matrix: vec![2, 4], tensor_map: vec![vec![1], vec![]], ..TensorLayout::flat(8, 2, None) };
    let rows = TensorLayout::flat(8, 2, Some(0));
    for fused in FORMS {
        let files = files(1, None);
        let read: Vec<_> = files.iter().map(File::source).collect();
        let catalog = catalog(&files, Some(&MODEL), None).expect("a catalog");
        let options = options(8, fused);
        let layouts: BTreeMap<_, _> =
            strategies(&targets(&catalog, &read, &evidence(&files), &options).expect("targets"), &options)
                .into_iter()
                .collect();
        let mut model = MODEL.clone();
        model.fused = Some(fused.is_some());
        let by_model: BTreeMap<_, _> = rules_strategy(&model, 8).expect("a strategy").into_iter().collect();
        let get = |name: &str| {
            let found = layouts.get(&format!("model.layers.0.attention.{name}.weight"));
            assert_eq!(found, by_model.get(&format!("model.layers.0.attention.{name}.weight")), "{name}");
            found.cloned()
        };
        assert_eq!(get("wo"), Some(TensorLayout::flat(8, 2, Some(1))));
        if fused.is_none() {
            assert_eq!(
                (get("wq"), get("wk"), get("wv")),
                (Some(rows.clone()), Some(replicated.clone()), Some(replicated.clone()))
            );
        } else {
            assert_eq!(get("w_qkv"), None, "no layout says it");
        }
    }
}

#[test]
fn what_cannot_be_shared_is_refused() {
    let refused = |from: u32, to: u32, spec: Option<&Model>| {
        let files = files(from, None);
        let read: Vec<_> = files.iter().map(File::source).collect();
        let error = match catalog(&files, spec, None) {
            Ok(catalog) => targets(&catalog, &read, &evidence(&files), &options(to, None)).expect_err("refused"),
            Err(error) => error,
        };
        error.to_string()
    };
    assert_eq!(refused(1, 16, Some(&MODEL)), "16 ranks do not divide the 8 attention heads");
    assert_eq!(refused(2, 3, Some(&MODEL)), "3 ranks do not divide the 8 attention heads");
    // llama does not say that key/value heads may be on several ranks.
    let family = builtin_family("llama").expect("a family");
    let llama = Model::with_sizes(family, MODEL.sizes().clone(), MODEL.members().to_vec());
    assert_eq!(llama.check_ranks(8).unwrap_err().to_string(), "8 ranks do not divide the 2 kv heads");
}
