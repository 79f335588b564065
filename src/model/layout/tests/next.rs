//! What families beyond those of today need, each in a family of its own.

use super::*;
use crate::model::{Configuration, Model, Share, Value};

fn configuration(fields: &[(&str, f64)]) -> Configuration {
    fields.iter().map(|&(name, value)| (name.to_owned(), Value::Number(value))).collect()
}

/// The elements of a parameter, one for each index of its axes in a file's order, as (parameter, canonical place).
fn elements(id: ParamId, file: &[(u64, std::ops::Range<u64>)]) -> Vec<Element> {
    let mut all = vec![0];
    for (step, range) in file {
        all = all.iter().flat_map(|at| range.clone().map(move |n| at + n * step)).collect();
    }
    all.into_iter().map(|place| (id, place)).collect()
}

const EXPERTS: &str = "
family: meshes
params:
  layer:
    gate: {dims: [[Expert], [F], [H]], cut: {tensor: F, expert: Expert}}
    up: {dims: [[Expert], [F], [H]], cut: {tensor: F, expert: Expert}}
    down: {dims: [[Expert], [H], [F]], cut: {tensor: F, expert: Expert}}
schemes:
  stacked:
    names:
      'l.{l}.': {gate_up: {join: [gate, up], outer: [Expert], dim: 1}, down: down}
  transposed:
    names:
      'l.{l}.':
        weight1:
          join: [{is: gate, dims: [[Expert, H], [F]]}, {is: up, dims: [[Expert, H], [F]]}]
          outer: [Expert, H]
          dim: 1
        weight2: {is: down, dims: [[Expert, F], [H]]}
  numbered:
    names:
      'l.{l}.{e}.': {gate_up: {join: [gate, up]}, down: down}
";

#[test]
fn expert_and_tensor_ranks_cut_a_parameter_together() {
    const E: u64 = 6;
    const F: u64 = 4;
    const H: u64 = 3;
    let family = Family::read("meshes", EXPERTS, &|_| None).unwrap();
    let size = |at: u8| match family.axis_name(Axis(at)) {
        "Expert" => E,
        "F" => F,
        "H" => H,
        _ => 1,
    };
    let sizes = Sizes((0..8).map(size).collect());
    let id = |param: &str| ParamId { param: family.param(param).unwrap(), layer: Some(2) };
    let (gate, up, down) = (id("gate"), id("up"), id("down"));
    let axes = |param| family.canonical(param, &sizes).unwrap().axes().collect();
    let mut names = BTreeSet::new();
    for (ep, tp) in [(1, 1), (1, 2), (2, 1), (2, 2), (3, 4), (6, 2)] {
        names.clear();
        for (expert, tensor) in (0..ep).flat_map(|expert| (0..tp).map(move |tensor| (expert, tensor))) {
            let share = Share { tensor: (tensor, tp), expert: (expert, ep), vocabulary_whole: false };
            let es = expert * E / ep..(expert + 1) * E / ep;
            let fs = tensor * F / tp..(tensor + 1) * F / tp;
            let one = |e: u64| e..e + 1;
            let (f, e) = (fs.end - fs.start, es.end - es.start);
            // Of expert, ffn row, column: the rows of gate and up, and the columns of down.
            let rows = |id, e| elements(id, &[(F * H, one(e)), (H, fs.clone()), (1, 0..H)]);
            let columns = |e| elements(down, &[(F * H, one(e)), (F, 0..H), (1, fs.clone())]);
            let wide = |id, e, h| elements(id, &[(F * H, one(e)), (1, one(h)), (H, fs.clone())]);
            let tall = |e| elements(down, &[(F * H, one(e)), (1, fs.clone()), (F, 0..H)]);
            let mut wanted: Vec<(String, Vec<u64>, Vec<Element>)> = vec![
                (
                    "l.2.gate_up".to_owned(),
                    vec![e, 2 * f, H],
                    es.clone().flat_map(|e| [rows(gate, e), rows(up, e)].concat()).collect(),
                ),
                ("l.2.down".to_owned(), vec![e, H, f], es.clone().flat_map(columns).collect()),
                (
                    "l.2.weight1".to_owned(),
                    vec![e * H, 2 * f],
                    es.clone()
                        .flat_map(|e| (0..H).map(move |h| (e, h)))
                        .flat_map(|(e, h)| [wide(gate, e, h), wide(up, e, h)].concat())
                        .collect(),
                ),
                ("l.2.weight2".to_owned(), vec![e * f, H], es.clone().flat_map(tall).collect()),
            ];
            for e in es.clone() {
                wanted.push((format!("l.2.{e}.gate_up"), vec![2 * f, H], [rows(gate, e), rows(up, e)].concat()));
                wanted.push((format!("l.2.{e}.down"), vec![H, f], columns(e)));
            }
            let mut found = Vec::new();
            for scheme in &family.schemes {
                let members = [gate, up, down];
                for named in family.names(scheme, &members, &sizes).unwrap() {
                    if family.holds(named.row, named.captures, &sizes, share).unwrap() {
                        let stored = family.stored(named.row, named.captures, &sizes, share).unwrap();
                        let elements = expand(&stored, axes);
                        names.insert(named.name.clone());
                        found.push((named.name, stored.dims, elements));
                    }
                }
            }
            wanted.sort();
            found.sort();
            assert_eq!(found, wanted, "rank {expert} of {ep}, rank {tensor} of {tp}");
        }
        assert_eq!(names.len() as u64, 4 + 2 * E, "every name is in some file");
    }
    let uneven = Share { tensor: (0, 1), expert: (0, 4), vocabulary_whole: false };
    let row = &family.schemes[0].rows[0];
    let error = family.stored(row, Captures { layer: Some(0), expert: None }, &sizes, uneven).unwrap_err();
    assert_eq!(error.to_string(), "4 ranks do not divide Expert, which is 6");
}

const ATTENTION: &str = "
family: attention
replicated: [KvHead]
params:
  layer:
    q: {dims: [[KvHead, Query, Dim], [Hidden]], cut: [KvHead, Query]}
    k: {dims: [[KvHead, Dim], [Hidden]], cut: KvHead}
    v: {dims: [[KvHead, Dim], [Hidden]], cut: KvHead}
    o: {dims: [[Hidden], [KvHead, Query, Dim]], cut: [KvHead, Query]}
schemes:
  x:
    names:
      'l.{l}.': {q: q, k: k, o: o, concat: {join: [q, k, v]}, grouped: {join: [q, k, v], outer: [KvHead]}}
";

#[test]
fn more_ranks_than_key_value_heads_share_the_query_heads_and_hold_the_others_alike() {
    const D: u64 = 2;
    const W: u64 = 3;
    let family = Family::read("attention", ATTENTION, &|_| None).unwrap();
    let sizes = |kv, query| {
        let size = |at| match family.axis_name(Axis(at)) {
            "KvHead" => kv,
            "Query" => query,
            "Dim" => D,
            _ => W,
        };
        Sizes((0..4).map(size).collect())
    };
    let id = |param: &str| ParamId { param: family.param(param).unwrap(), layer: Some(0) };
    let mut done = 0;
    for (kv, query, ranks) in [(2, 4, 1), (2, 4, 2), (2, 4, 4), (2, 4, 8), (1, 8, 4), (4, 1, 4), (4, 2, 8), (3, 2, 6)] {
        let heads = kv * query;
        let sizes = sizes(kv, query);
        for rank in 0..ranks {
            // Heads by their numbers; a key/value head goes with the query heads that it serves.
            let held = rank * heads / ranks..(rank + 1) * heads / ranks;
            let held_kv = held.start / query..(held.end - 1) / query + 1;
            let head = |id, head: std::ops::Range<u64>| elements(id, &[(D * W, head), (W, 0..D), (1, 0..W)]);
            let rest = |heads: std::ops::Range<u64>| [head(id("k"), heads.clone()), head(id("v"), heads)].concat();
            let of_group = |group: u64| held.start.max(group * query)..held.end.min((group + 1) * query);
            let rows = [
                ("q", head(id("q"), held.clone())),
                ("k", head(id("k"), held_kv.clone())),
                ("o", elements(id("o"), &[(heads * D, 0..W), (D, held.clone()), (1, 0..D)])),
                ("concat", [head(id("q"), held.clone()), rest(held_kv.clone())].concat()),
                (
                    "grouped",
                    held_kv.clone().flat_map(|g| [head(id("q"), of_group(g)), rest(g..g + 1)].concat()).collect(),
                ),
            ];
            for (name, wanted) in rows {
                let (row, at) = family.schemes[0].find(&format!("l.0.{name}")).unwrap();
                let stored = family.stored(row, at, &sizes, Share::of(rank, ranks)).unwrap();
                let found = expand(&stored, |param| family.canonical(param, &sizes).unwrap().axes().collect());
                assert_eq!(found, wanted, "{name} on rank {rank} of {ranks} with {kv} x {query} heads");
                done += 1;
            }
        }
    }
    assert_eq!(done, 5 * (1 + 2 + 4 + 8 + 4 + 4 + 8 + 6));
    let sizes = sizes(2, 4);
    let (row, at) = family.schemes[0].find("l.0.q").unwrap();
    let error = family.stored(row, at, &sizes, Share::of(0, 16)).unwrap_err();
    assert_eq!(error.to_string(), "8 ranks do not divide Query, which is 4", "a head is not cut");
    for (cut, why) in [
        ("[Query, KvHead]", "it is cut over Query and then KvHead, which is not the next axis"),
        ("[KvHead, Dim]", "it is cut over KvHead and then Dim, which is not the next axis"),
        ("[KvHead, KvHead]", "it is cut over KvHead and then KvHead, which is not the next axis"),
        ("{tensor: KvHead, expert: KvHead}", "it is cut over KvHead twice"),
    ] {
        let text = ATTENTION.replacen("cut: [KvHead, Query]", &format!("cut: {cut}"), 1);
        let error = Family::read("attention", &text, &|_| None).unwrap_err().to_string();
        assert!(error.ends_with(&format!("params q: {why}")), "{error}");
    }
}

/// Layers of two kinds, and after them layers that predict further tokens: the names of `DeepSeek-V3`.
const DEEP: &str = "
family: deep
model_types: [deep]
base_prefix: 'model.'
params:
  once:
    embedding: {dims: [[Vocab], [Hidden]], cut: Vocab, role: embedding}
    norm: {dims: [[Hidden]], role: norm}
    head: {dims: [[Vocab], [Hidden]], cut: Vocab, role: head, when: {if: not tied}}
  layer:
    attention_norm: {dims: [[Hidden]], role: norm}
    o: {dims: [[Hidden], [Head, Dim]], cut: Head}
    up: {dims: [[Ffn], [Hidden]], cut: Ffn, when: {layers_below: first_k_dense_replace}}
    router: {dims: [[Expert], [Hidden]], role: router, when: {layers_from: first_k_dense_replace}}
    expert_up: {dims: [[Expert], [MoeFfn], [Hidden]], cut: {tensor: MoeFfn, expert: Expert}, when: {layers_from: first_k_dense_replace}}
    next_embedding: {dims: [[Vocab], [Hidden]], cut: Vocab, role: embedding, when: {layers_from: num_hidden_layers}}
    next_enorm: {dims: [[Hidden]], role: norm, when: {layers_from: num_hidden_layers}}
    next_hnorm: {dims: [[Hidden]], role: norm, when: {layers_from: num_hidden_layers}}
    next_joint: {dims: [[Hidden], [Both, Width]], when: {layers_from: num_hidden_layers}}
    next_norm: {dims: [[Hidden]], role: norm, when: {layers_from: num_hidden_layers}}
    next_head: {dims: [[Vocab], [Hidden]], cut: Vocab, role: head, when: {layers_from: num_hidden_layers}}
sizes:
  config.json:
    layer: num_hidden_layers + num_nextn_predict_layers | num_hidden_layers
    tied: tie_word_embeddings | false
    Vocab: round_up(vocab_size, pad_vocab_size_to | 1)
    Hidden: hidden_size
    Width: hidden_size
    Both: 2
    Head: num_attention_heads
    Dim: v_head_dim
    Ffn: intermediate_size
    MoeFfn: moe_intermediate_size
    Expert: n_routed_experts
schemes:
  hf:
    names:
      '': {lm_head.weight: head}
      'model.': {embed_tokens.weight: embedding, norm.weight: norm}
      'model.layers.{l}.':
        input_layernorm.weight: attention_norm
        self_attn.o_proj.weight: o
        mlp.up_proj.weight: up
        mlp.gate.weight: router
        'mlp.experts.{e}.up_proj.weight': expert_up
        embed_tokens.weight: next_embedding
        enorm.weight: next_enorm
        hnorm.weight: next_hnorm
        eh_proj.weight: next_joint
        shared_head.norm.weight: next_norm
        shared_head.head.weight: next_head
";

const DEEP_CONFIG: [(&str, f64); 10] = [
    ("num_hidden_layers", 4.0),
    ("first_k_dense_replace", 1.0),
    ("vocab_size", 10.0),
    ("hidden_size", 6.0),
    ("num_attention_heads", 2.0),
    ("v_head_dim", 3.0),
    ("intermediate_size", 8.0),
    ("moe_intermediate_size", 4.0),
    ("n_routed_experts", 2.0),
    ("num_nextn_predict_layers", 1.0),
];

fn deep() -> &'static Family {
    Box::leak(Box::new(Family::read("deep", DEEP, &|_| None).unwrap()))
}

#[test]
fn layers_that_predict_further_tokens_are_whole_layers_with_more_in_them() {
    let family = deep();
    for next in [0, 1, 2] {
        let mut fields = DEEP_CONFIG.to_vec();
        fields.retain(|(name, _)| *name != "num_nextn_predict_layers");
        // A model without such layers does not mention them.
        fields.extend((next > 0).then_some(("num_nextn_predict_layers", f64::from(next))));
        let model = Model::read(family, "config.json", &configuration(&fields)).unwrap();
        let mut wanted: Vec<String> =
            ["lm_head.weight", "model.embed_tokens.weight", "model.norm.weight"].map(str::to_owned).to_vec();
        for layer in 0..4 + next {
            let mut ends = vec!["input_layernorm", "self_attn.o_proj"];
            ends.extend(if layer < 1 {
                &["mlp.up_proj"][..]
            } else {
                &["mlp.gate", "mlp.experts.0.up_proj", "mlp.experts.1.up_proj"]
            });
            if layer >= 4 {
                ends.extend(["embed_tokens", "enorm", "hnorm", "eh_proj", "shared_head.norm", "shared_head.head"]);
            }
            wanted.extend(ends.iter().map(|end| format!("model.layers.{layer}.{end}.weight")));
        }
        let scheme = family.scheme("hf").unwrap();
        let named = family.names(scheme, model.members(), model.sizes()).unwrap();
        let mut found: Vec<String> = named.iter().map(|named| named.name.clone()).collect();
        wanted.sort();
        found.sort();
        assert_eq!(found, wanted);
        assert_eq!((model.layers(), model.tied()), (u32::try_from(4 + next).unwrap(), false));
        for name in &wanted {
            assert_eq!(scheme.find(name).and_then(|(row, at)| row.pattern.name(at)).as_ref(), Some(name));
        }
        // The head of a layer is no head of the model.
        let mut tied = configuration(&fields);
        tied.insert("tie_word_embeddings".to_owned(), Value::Flag(true));
        let tied = Model::read(family, "config.json", &tied).unwrap();
        assert!(tied.tied() && tied.members().len() + 1 == model.members().len());
        assert_eq!(model.with_tied(true).members(), tied.members());
        let joint = family.param("next_joint").unwrap();
        let shape = tied.full_shape(ParamId { param: joint, layer: Some(4) });
        assert_eq!(shape.map(|shape| shape.dims().to_vec()), (next > 0).then(|| vec![6, 12]));
    }
}

/// The same layers numbered by themselves, as mindformers names them: a second template.
#[test]
fn a_second_template_has_layers_of_its_own() {
    let text = "
family: two
params:
  layer: {norm: {dims: [[Hidden]], role: norm}}
  mtp:
    joint: {dims: [[Hidden], [Both, Width]]}
    late: {dims: [[Hidden]], role: norm, when: {layers_from: 1}}
sizes:
  config.json: {layer: layers, mtp: next | 0, Hidden: hidden, Width: hidden, Both: 2}
schemes:
  x: {names: {'decoder.layers.{l}.': {norm: norm}, 'mtp.layers.{l}.': {eh_proj: joint, late: late}}}
";
    let family = Family::read("two", text, &|_| None).unwrap();
    let names = |fields: &[(&str, f64)]| {
        let fields = configuration(fields);
        let members = family.members("config.json", &fields).unwrap();
        let sizes = family.sizes("config.json", &fields).unwrap();
        let named = family.names(&family.schemes[0], &members, &sizes).unwrap();
        named.into_iter().map(|named| named.name).collect::<BTreeSet<_>>()
    };
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    let decoder = ["decoder.layers.0.norm", "decoder.layers.1.norm", "decoder.layers.2.norm"];
    assert_eq!(names(&[("layers", 3.0), ("hidden", 4.0)]), set(&decoder));
    let both = [&decoder[..], &["mtp.layers.0.eh_proj", "mtp.layers.1.eh_proj", "mtp.layers.1.late"]].concat();
    assert_eq!(names(&[("layers", 3.0), ("hidden", 4.0), ("next", 2.0)]), set(&both));
}

/// A vocabulary that is longer than the tokenizer's, so that the ranks divide it.
#[test]
fn an_expression_may_pad_the_vocabulary() {
    let family = deep();
    let held = |pad: Option<f64>, ranks: u64| {
        let fields = [&DEEP_CONFIG[..], pad.map(|pad| ("pad_vocab_size_to", pad)).as_slice()].concat();
        let model = Model::read(family, "config.json", &configuration(&fields)).unwrap();
        let (row, at) = family.scheme("hf").unwrap().find("lm_head.weight").unwrap();
        family.stored(row, at, model.sizes(), Share::of(ranks - 1, ranks)).unwrap().dims
    };
    assert_eq!(held(None, 1), [10, 6]);
    assert_eq!(held(None, 4), [10, 6], "4 ranks do not divide 10, so that each holds it whole");
    assert_eq!(held(Some(8.0), 1), [16, 6]);
    assert_eq!(held(Some(8.0), 4), [4, 6]);
}
