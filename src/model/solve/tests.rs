//! Sizes that the shapes of configurations give back, and shapes of which there is no model.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

use super::*;
use crate::model::peers::{configuration, data};
use crate::model::{Configuration, ParamId, Scheme, Value, builtin_families, builtin_family};

struct Tensors<'a> {
    family: &'a Family,
    sizes: Sizes,
    facts: Vec<Fact<'a>>,
}

impl<'a> Tensors<'a> {
    fn new(family: &'a Family, scheme: &'a Scheme, sizes: &Sizes, members: &[ParamId]) -> Option<Self> {
        let fact = |named: crate::model::Named<'a>| {
            let dims = family.full_dims(named.row, named.captures, sizes).unwrap();
            Fact { row: named.row, captures: named.captures, dims }
        };
        let facts = family.names(scheme, members, sizes)?.into_iter().map(fact).collect();
        Some(Self { family, sizes: sizes.clone(), facts })
    }

    /// By a configuration of Hugging Face's fields.
    fn of(family: &str, scheme: &str, fields: &[(&str, f64)]) -> Self {
        let family = builtin_family(family).unwrap();
        let fields: Configuration = fields.iter().map(|(name, n)| ((*name).to_owned(), Value::Number(*n))).collect();
        let sizes = family.sizes("config.json", &fields).unwrap();
        let members = family.members("config.json", &fields).unwrap();
        Self::new(family, family.scheme(scheme).unwrap(), &sizes, &members).unwrap()
    }

    fn axis(&self, name: &str) -> Axis {
        self.family.axis(name).unwrap()
    }

    fn open(&self, solved: &Solved) -> BTreeSet<&'a str> {
        solved.open.iter().map(|axis| self.family.axis_name(*axis)).collect()
    }

    /// The axes that are in some tensor.
    fn present(&self) -> BTreeSet<&'a str> {
        let params = self.facts.iter().flat_map(|fact| fact.row.params());
        let axes = params.flat_map(|at| self.family.params()[usize::from(at)].axes());
        axes.map(|axis| self.family.axis_name(axis)).collect()
    }

    /// What is not open is as it was, and every tensor has its dimensions.
    fn check(&self, solved: &Solved, what: &str) {
        for axis in (0..=u8::MAX).take(self.family.axes.len()).map(Axis).filter(|axis| !solved.open.contains(axis)) {
            assert_eq!(solved.sizes.of(axis), self.sizes.of(axis), "{} of {what}", self.family.axis_name(axis));
        }
        for fact in &self.facts {
            let dims = self.family.full_dims(fact.row, fact.captures, &solved.sizes).unwrap();
            assert_eq!(dims, fact.dims, "{} of {what}", fact.row.pattern);
        }
    }

    fn without(mut self, end: &str) -> Self {
        let before = self.facts.len();
        self.facts.retain(|fact| !fact.row.pattern.to_string().ends_with(end));
        assert!(self.facts.len() < before, "{end}");
        self
    }

    fn with_dims(mut self, end: &str, dims: &[u64]) -> Self {
        let found = self.facts.iter_mut().filter(|fact| fact.row.pattern.to_string().ends_with(end));
        let changed: Vec<()> = found.map(|fact| fact.dims = dims.to_vec()).collect();
        assert!(!changed.is_empty(), "{end}");
        self
    }

    fn error(&self, stated: &[(Axis, u64)]) -> String {
        self.family.solve(&self.facts, stated).unwrap_err().to_string()
    }
}

const SMALL: [(&str, f64); 7] = [
    ("hidden_size", 24.0),
    ("num_hidden_layers", 2.0),
    ("num_attention_heads", 6.0),
    ("num_key_value_heads", 2.0),
    ("head_dim", 4.0),
    ("intermediate_size", 40.0),
    ("vocab_size", 11.0),
];

/// The axes of which heads consist.
const HEADS: [&str; 4] = ["KvHead", "HeadDim", "Half", "Pair"];

/// Every model of transformers' that the tests have, by every scheme of its family.
#[test]
fn the_shapes_of_a_configuration_give_its_sizes_back() {
    let mut solved_models = 0;
    for (file, json) in data("shapes") {
        let model_type = json["config"]["model_type"].as_str().unwrap();
        let fields = configuration(&json["config"]);
        let families = builtin_families().iter().filter(|f| f.model_types.iter().any(|known| known == model_type));
        for family in families {
            let sizes = family.sizes("config.json", &fields).unwrap();
            let members = family.members("config.json", &fields).unwrap();
            for scheme in &family.schemes {
                let Some(tensors) = Tensors::new(family, scheme, &sizes, &members) else { continue };
                let what = format!("{file} by {}", scheme.name);
                let solved = family.solve(&tensors.facts, &[]).unwrap_or_else(|e| panic!("{what}: {e}"));
                tensors.check(&solved, &what);
                let open: BTreeSet<&str> = tensors.open(&solved).intersection(&tensors.present()).copied().collect();
                // The norms of q and k have the rows of a head.
                let heads = if family.param("q_norm").is_some() { BTreeSet::new() } else { BTreeSet::from(HEADS) };
                assert_eq!(open, heads, "{what}");
                let kv_head = tensors.axis("KvHead");
                let solved = family.solve(&tensors.facts, &[(kv_head, sizes.of(kv_head))]).unwrap();
                tensors.check(&solved, &what);
                assert!(tensors.open(&solved).is_disjoint(&tensors.present()), "{what}");
                solved_models += 1;
            }
        }
    }
    assert!(solved_models > 15, "{solved_models}");
}

#[test]
fn of_heads_whose_number_is_not_shown_the_key_rows_are_the_product() {
    for scheme in ["hf", "mindformers", "mindformers/rank-concat", "mindformers/grouped", "meta"] {
        let tensors = Tensors::of("llama", scheme, &SMALL);
        let solved = tensors.family.solve(&tensors.facts, &[]).unwrap();
        let of = |name: &str| solved.sizes.of(tensors.axis(name));
        assert_eq!(HEADS.map(of), [8, 1, 1, 1], "{scheme}");
        assert_eq!(["Query", "Hidden", "Ffn", "Vocab", "KeyValue"].map(of), [3, 24, 40, 11, 2], "{scheme}");
        let depends = |row: &Row| tensors.family.depends_on(row, &solved.open);
        let depending: BTreeSet<String> =
            tensors.facts.iter().filter(|fact| depends(fact.row)).map(|fact| fact.row.pattern.to_string()).collect();
        let wanted: &[&str] = match scheme {
            "mindformers/grouped" => &["model.layers.{l}.attention.w_qkv.weight"],
            "meta" => &["layers.{l}.attention.wk.weight", "layers.{l}.attention.wq.weight"],
            _ => &[],
        };
        assert_eq!(depending.iter().map(String::as_str).collect::<Vec<_>>(), wanted, "{scheme}");
    }
}

/// Rows of k that are no pairs: the halves of a head are not known either.
#[test]
fn an_odd_number_of_key_rows_is_one_of_them() {
    let fields = SMALL.map(|(name, n)| (name, if name == "num_key_value_heads" { 1.0 } else { n }));
    let tensors = Tensors::of("llama", "mindformers", &fields);
    let odd =
        tensors.with_dims("wq.weight", &[18, 24]).with_dims("wk.weight", &[3, 24]).with_dims("wv.weight", &[3, 24]);
    let tensors = odd.with_dims("wo.weight", &[24, 18]);
    let solved = tensors.family.solve(&tensors.facts, &[]).unwrap();
    assert_eq!(["KvHead", "Query", "HeadDim", "Half"].map(|name| solved.sizes.of(tensors.axis(name))), [3, 6, 1, 1]);
    assert!(tensors.open(&solved).is_superset(&BTreeSet::from(HEADS)));
}

#[test]
fn experts_are_counted_by_their_router_or_by_their_names() {
    let fields = [("num_local_experts", 5.0)];
    let fields = [&SMALL[..], &fields[..]].concat();
    let tensors = Tensors::of("mixtral", "hf/v4", &fields);
    let expert = tensors.axis("Expert");
    let solved = tensors.family.solve(&tensors.facts, &[]).unwrap();
    tensors.check(&solved, "mixtral");
    assert!(!solved.open.contains(&expert));
    let tensors = tensors.without("block_sparse_moe.gate.weight");
    let solved = tensors.family.solve(&tensors.facts, &[]).unwrap();
    assert_eq!(solved.sizes.of(expert), 5);
    let by_expert = tensors.facts.iter().find(|fact| fact.captures.expert.is_some()).unwrap();
    assert!(solved.open.contains(&expert) && tensors.family.depends_on(by_expert.row, &solved.open));
    let few = Tensors::of("mixtral", "hf/v4", &fields).with_dims("block_sparse_moe.gate.weight", &[4, 24]);
    let error = few.error(&[]);
    assert!(error.contains(".experts.4.") && error.contains("block_sparse_moe.gate.weight` [4, 24]"), "{error}");
    assert!(error.ends_with("Expert is at least 5 in the first, 4 by the rest"), "{error}");
}

#[test]
fn shapes_of_no_model_are_errors_with_both_tensors_and_numbers() {
    let llama = |scheme: &str| Tensors::of("llama", scheme, &SMALL);
    let kv_head = llama("hf").axis("KvHead");
    for (tensors, stated, error) in [
        (
            llama("mindformers").with_dims("model.norm_out.weight", &[25]),
            vec![],
            "`model.norm_out.weight` [25] does not go with `model.tok_embeddings.embedding_weight` [11, 24]: Hidden is 25 in \
             the first, 24 by the rest",
        ),
        (
            llama("mindformers").with_dims("wv.weight", &[9, 24]),
            vec![],
            "`model.layers.0.attention.wv.weight` [9, 24] does not go with `model.layers.0.attention.wk.weight` [8, 24]: \
             KvHead x HeadDim is 9 in the first, 8 by the rest",
        ),
        (
            llama("mindformers").with_dims("wo.weight", &[24, 28]).without("wq.weight"),
            vec![],
            "Query of the llama model would be 7/2 by `model.layers.0.attention.wk.weight` [8, 24], \
             `model.layers.0.attention.wo.weight` [24, 28], which is not a positive whole number",
        ),
        (
            llama("mindformers/grouped").without("wo.weight"),
            vec![],
            "`model.layers.0.attention.w_qkv.weight` [40, 24] joins KvHead x Query x Half x Pair + KvHead x Half x Pair + \
             KvHead x HeadDim, and no other tensor shows how large each part is",
        ),
        (
            llama("mindformers/grouped").with_dims("w_qkv.weight", &[24, 24]),
            vec![],
            "`model.layers.0.attention.w_qkv.weight` [24, 24] does not go with `model.layers.0.attention.wo.weight` [24, 24]: \
             KvHead x Query x Half x Pair + KvHead x Half x Pair + KvHead x HeadDim is 24 in the first, more than 24 by the \
             rest",
        ),
        (
            llama("mindformers/grouped").with_dims("w_gate_hidden.weight", &[81, 24]).without("w2.weight"),
            vec![],
            "Ffn of the llama model would be 81/2 by `model.layers.0.feed_forward.w_gate_hidden.weight` [81, 24], which is \
             not a positive whole number",
        ),
        (
            llama("hf").with_dims("lm_head.weight", &[0, 24]),
            vec![],
            "Vocab of the llama model would be 0 by `lm_head.weight` [0, 24], which is not a positive whole number",
        ),
        (
            llama("hf").with_dims("model.norm.weight", &[24, 1]),
            vec![],
            "`model.norm.weight` [24, 1] has 2 dimensions; a llama model has 1",
        ),
        (
            llama("hf"),
            vec![(kv_head, 3)],
            "HeadDim of the llama model would be 8/3 by `model.layers.0.self_attn.k_proj.weight` [8, 24], the stated KvHead of \
             3, which is not a positive whole number",
        ),
        (
            llama("hf"),
            vec![(kv_head, 2), (kv_head, 4)],
            "the stated KvHead of 4 does not go with the stated KvHead of 2: KvHead is 4 in the first, 2 by the rest",
        ),
        (
            llama("hf"),
            vec![(kv_head, 0)],
            "KvHead of the llama model would be 0 by the stated KvHead of 0, which is not a positive whole number",
        ),
    ] {
        assert_eq!(tensors.error(&stated), error);
    }
    let mut layers = llama("hf");
    layers.facts.iter_mut().filter(|fact| fact.captures.layer == Some(1)).for_each(|fact| fact.dims[0] += 2);
    let error = layers.error(&[]);
    assert!(error.starts_with("`model.layers.1.") && error.contains(" does not go with `model.layers.0."), "{error}");
}

/// Any tensors of a model, in any order: what follows from them is right, and each has its dimensions.
#[test]
fn what_follows_from_some_of_the_tensors_is_right() {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let config = ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() };
    let families: Vec<&Family> = builtin_families().iter().filter(|family| !family.model_types.is_empty()).collect();
    let sizes = (1..5u64, 1..4u64, 1..5u64, 1..9u64, 1..9u64, 1..5u64);
    let strategy = (0..families.len(), any::<prop::sample::Index>(), sizes, any::<u64>(), 0..8u64);
    let counts = std::cell::Cell::new((0, 0));
    let result = TestRunner::new_with_rng(config, rng).run(&strategy, |(family, scheme, sizes, seed, dropped)| {
        let family = families[family];
        let scheme = &family.schemes[scheme.index(family.schemes.len())];
        let (kv_head, query, pair, hidden, ffn, expert) = sizes;
        let size = |axis| match family.axis_name(Axis(axis)) {
            "KvHead" => kv_head,
            "Query" => query,
            "Half" | "KeyValue" => 2,
            "Pair" => pair,
            "HeadDim" => 2 * pair,
            "Hidden" => hidden,
            "Expert" => expert,
            _ => ffn,
        };
        let sizes = Sizes((0..=u8::MAX).take(family.axes.len()).map(size).collect());
        let params = family.params().iter().enumerate();
        let members = params.map(|(at, param)| ParamId {
            param: u16::try_from(at).unwrap(),
            layer: param.template.is_some().then_some(0),
        });
        // The optional scales of keys show how many rows of k there are, and with them what is joined.
        let optional = |id: &ParamId| family.params()[usize::from(id.param)].optional;
        let held = members.filter(|id| scheme.row_of(id.param).is_some() && (seed % 2 == 0 || !optional(id)));
        let held: Vec<ParamId> = held.collect();
        let mut tensors = Tensors::new(family, scheme, &sizes, &held).unwrap();
        let shuffled = |name: &str| {
            name.bytes().fold(seed | 1, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
        };
        let key = |fact: &Fact<'_>| shuffled(&fact.row.pattern.name(fact.captures).unwrap());
        tensors.facts.retain(|fact| key(fact) >> 32 & 7 >= dropped);
        tensors.facts.sort_by_key(key);
        let (solved, undecided) = counts.get();
        match family.solve(&tensors.facts, &[]) {
            Ok(found) => {
                // Experts that are only counted may be fewer.
                tensors.check(&found, &format!("{} by {}", family.name, scheme.name));
                counts.set((solved + 1, undecided));
            }
            Err(ModelError::ShapesUndecided { tensor, .. }) => {
                assert!(tensor.contains("qkv") || tensor.contains("W_pack"), "{tensor}");
                counts.set((solved, undecided + 1));
            }
            Err(error) => panic!("{error}"),
        }
        Ok(())
    });
    result.unwrap();
    let (solved, undecided) = counts.get();
    assert!(solved > 400 && undecided > 20, "{solved} solved, {undecided} not decided");
}

#[test]
fn numbers_beyond_64_bits_are_no_panic() {
    let tensors = Tensors::of("llama", "mindformers", &SMALL);
    for end in ["wq.weight", "wk.weight", "wv.weight", "wo.weight", "w1.weight", "embedding_weight"] {
        let tensors = Tensors { facts: tensors.facts.clone(), sizes: tensors.sizes.clone(), ..tensors };
        let large = tensors.with_dims(end, &[u64::MAX, u64::MAX - 1]);
        assert!(large.family.solve(&large.facts, &[]).is_err(), "{end}");
    }
}

/// Numbers and sums among the rules of a family.
#[test]
fn rules_of_axes_and_numbers_hold_in_every_model() {
    let text = "
family: ruled
params: {once: {first: {dims: [[A, Two, B], [C]]}, second: {dims: [[B]]}, third: {dims: [[D, Two]]}}}
sizes:
  config.json: {Two: 2, D: C + 1 | 7, A: a}
  yaml: {Two: 2, A: B}
schemes: {s: {names: {'': {f: first, s: second, t: third}}}}
";
    let family = Family::read("ruled", text, &|_| None).unwrap();
    let solve = |facts: &[(&str, &[u64])]| {
        let fact = |(name, dims): &(&str, &[u64])| {
            let (row, captures) = family.schemes[0].find(name).unwrap();
            Fact { row, captures, dims: dims.to_vec() }
        };
        let facts: Vec<_> = facts.iter().map(fact).collect();
        family.solve(&facts, &[]).map(|solved| {
            let of = |name: &&str| solved.sizes.of(family.axis(name).unwrap());
            let open: BTreeSet<&str> = solved.open.iter().map(|axis| family.axis_name(*axis)).collect();
            (["A", "Two", "B", "C", "D"].iter().map(of).collect::<Vec<_>>(), open)
        })
    };
    assert_eq!(solve(&[("f", &[12, 5]), ("s", &[3])]), Ok((vec![2, 2, 3, 5, 6], BTreeSet::new())));
    // Of what is not known alone, a number is a part.
    let open = BTreeSet::from(["A", "B", "Two"]);
    assert_eq!(solve(&[("f", &[12, 5])]), Ok((vec![12, 1, 1, 5, 6], open.clone())));
    assert_eq!(solve(&[("f", &[9, 5])]), Ok((vec![9, 1, 1, 5, 6], open)));
    let error = |facts| solve(facts).unwrap_err().to_string();
    assert_eq!(
        error(&[("f", &[9, 5]), ("s", &[3])]),
        "A of the ruled model would be 3/2 by `f` [9, 5], `s` [3], which is not a positive whole number"
    );
    // D is known by C alone, and t is twice that.
    assert_eq!(
        error(&[("t", &[16]), ("f", &[12, 5]), ("s", &[3])]),
        "the ruled family does not go with `t` [16]: D is 6 in the first, 8 by the rest"
    );
}
