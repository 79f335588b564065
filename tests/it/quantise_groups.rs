//! Our own extension of w8a16: scales of groups of columns, and int4. Against quantising number by number in doubles and cutting
//! what comes out.

use proptest::prelude::*;
use proptest::test_runner::Config;
use serde_json::Value;

use crate::quantise::{Layout, fusions, named, run, sharding, tame, write_ranks};
use crate::support::{
    Float, Llama, Tensor, TestEnv, Values, numbers, quantised_rank, read_ranks, read_tensors, write_safetensors,
};

fn half(value: f64) -> f64 {
    Float::Fp16.value(Float::Fp16.nearest(value))
}

/// Scales, one for each `group` neighbours, and integers of `bits` bits.
fn quantise(weight: &Tensor, group: usize, bits: u32) -> (Vec<f64>, Vec<i8>) {
    let (steps, least) = (f64::from(2u32.pow(bits) - 1), -f64::from(2u32.pow(bits - 1)));
    let (mut scales, mut integers) = (Vec::new(), Vec::new());
    for group in numbers(weight).chunks(group) {
        let peak = group.iter().fold(0.0, |a: f64, b| a.max(b.abs()));
        let scale = half(half(peak - -peak) / steps);
        scales.push(scale);
        for value in group {
            let quotient = if scale == 0.0 { 0.0 } else { half(value / scale) };
            #[expect(clippy::cast_possible_truncation, reason = "clamped")]
            integers.push(quotient.round_ties_even().clamp(least, least + steps) as i8);
        }
    }
    (scales, integers)
}

/// How weights are quantised.
#[derive(Clone, Copy, Debug)]
struct How {
    bits: u32,
    group: Option<u64>,
}

impl How {
    fn precision(self) -> &'static str {
        if self.bits == 4 { "w4a16" } else { "w8a16" }
    }

    fn options(self) -> Vec<String> {
        self.group.map(|size| vec!["--group-size".to_owned(), size.to_string()]).unwrap_or_default()
    }

    /// The whole model, each tensor with the axis that ranks share.
    fn quantise(self, full: &[Tensor]) -> Vec<(Tensor, Option<usize>)> {
        let mut whole = Vec::new();
        for tensor in full {
            let of_layer = tensor.name.contains(".attention.") || tensor.name.contains(".feed_forward.");
            let Some(layer) = tensor.name.strip_suffix(".weight").filter(|_| of_layer) else {
                let bias = tensor.name.strip_suffix(".bias").map(|layer| format!("{layer}._layer.bias"));
                let axis = (tensor.dims.len() == 2 || bias.is_some()).then_some(0);
                let name = bias.unwrap_or_else(|| tensor.name.clone());
                whole.push((Tensor { name, ..tensor.clone() }, axis));
                continue;
            };
            let (rows, columns) = (tensor.dims[0], tensor.dims[1]);
            let size = self.group.unwrap_or(columns);
            let (scales, integers) = quantise(tensor, usize::try_from(size).expect("small"), self.bits);
            let axis = usize::from(layer.ends_with("wo") || layer.ends_with("w2"));
            let (name, dtype, dims, bytes): (_, _, _, Vec<u8>) = if self.bits == 4 {
                let byte = |pair: &[i8; 2]| {
                    pair[0].rem_euclid(16).cast_unsigned() + 16 * pair[1].rem_euclid(16).cast_unsigned()
                };
                let bytes = integers.as_chunks::<2>().0.iter().map(byte).collect();
                ("_layer.int4_weight", "UInt8", vec![rows, columns / 2], bytes)
            } else {
                let bytes = integers.iter().map(|i| i.cast_unsigned()).collect();
                ("_layer.grouped_weight", "Int8", vec![rows, columns], bytes)
            };
            whole.push((Tensor { name: format!("{layer}.{name}"), dtype: dtype.to_owned(), dims, bytes }, Some(axis)));
            let (name, dims, axis) = match self.group {
                Some(size) => ("_layer.matmul.group_scale", vec![rows, columns / size], Some(axis)),
                None => ("_layer.matmul.int4_scale", vec![rows], (axis == 0).then_some(0)),
            };
            let bytes = scales.iter().flat_map(|s| Float::Fp16.nearest(*s).to_le_bytes()[..2].to_vec()).collect();
            whole.push((Tensor { name: format!("{layer}.{name}"), dtype: "Float16".to_owned(), dims, bytes }, axis));
        }
        whole
    }
}

fn ways() -> impl Strategy<Value = How> {
    prop::sample::select(vec![(8, Some(64)), (8, Some(128)), (4, None), (4, Some(64)), (4, Some(128))])
        .prop_map(|(bits, group)| How { bits, group })
}

/// A model 256 wide, with or without GQA, and two layouts of it.
fn cases() -> impl Strategy<Value = (Llama, How, Layout, Layout)> {
    let heads = prop::sample::select(vec![(4u64, 1u64, 64u64), (2, 2, 64), (4, 2, 32)]);
    (heads, 1u64..3, any::<bool>(), any::<u64>(), ways()).prop_flat_map(
        |((kv_heads, rep, head_dim), ffn, bias, seed, how)| {
            let most = how.group.map_or(4, |size| 256 / size).min(kv_heads);
            let side = move || {
                (prop::sample::select(vec![1u64, 2, 4]).prop_filter("whole groups", move |n| *n <= most), fusions())
            };
            (side(), side()).prop_map(move |(from, to)| {
                let (layers, float, values) = (1, Float::Fp16, Values::Numbers);
                let model =
                    Llama { kv_heads, rep, head_dim, ffn: 256 * ffn, vocab: 8, layers, bias, float, values, seed };
                (model, how, from, to)
            })
        },
    )
}

proptest! {
    #![proptest_config(Config { cases: 12, failure_persistence: None, ..Config::default() })]

    #[test]
    fn it_is_quantising_the_whole_model_and_cutting_it((model, how, from, to) in cases()) {
        let env = TestEnv::new();
        let mut full = model.full();
        tame(&mut full);
        let src = env.path("src");
        write_ranks(&src, (0..from.0).map(|rank| model.rank(&full, rank, sharding(from.0, from.1))));
        let options = how.options();
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let out = run(&env, &model, "quant_weight", how.precision(), (&src, from.1), to, &options);
        let whole = how.quantise(&full);
        for (rank, found) in (0..).zip(read_ranks(&out, to.0, "safetensors")) {
            prop_assert_eq!(found, named(quantised_rank(&model, &whole, rank, to.0, to.1)), "rank {}", rank);
        }
        // And back again, quantised: what quantising to the source's layout gives.
        let back = run(&env, &model, "distributed_weight_transfer", how.precision(), (&out, to.1), from, &[]);
        for (rank, found) in (0..).zip(read_ranks(&back, from.0, "safetensors")) {
            prop_assert_eq!(found, named(quantised_rank(&model, &whole, rank, from.0, from.1)), "rank {} back", rank);
        }
    }
}

/// A model 256 wide as one rank in `src`.
fn source(env: &TestEnv) -> Vec<Tensor> {
    let model =
        Llama { kv_heads: 4, rep: 1, head_dim: 64, ffn: 256, vocab: 8, values: Values::Numbers, ..Llama::small() };
    let mut full = model.full();
    tame(&mut full);
    write_ranks(&env.path("src"), std::iter::once(model.rank(&full, 0, sharding(1, None))));
    env.write("model.yaml", model.yaml(true, false));
    full
}

#[test]
fn what_no_rank_can_hold_and_what_has_no_names_is_refused() {
    let env = TestEnv::new();
    source(&env);
    let refused = |line: &str, said: &[&str]| {
        let before = env.tree();
        env.line(line).failed(1, said);
        assert_eq!(env.tree(), before, "something was left");
    };
    let line = "-f quant_weight -y model.yaml -sc src -dc out -is st --no-sync";
    // 256 columns over 4 ranks are 64 each.
    refused(&format!("{line} -w 4 -p w8a16 --group-size 128"), &["attention.wo", "groups of 128", "--group-size"]);
    refused(&format!("{line} -w 1 -p w8a16 --group-size 32"), &["64 or 128"]);
    refused(&format!("{line} -w 1 -p w8a8 --group-size 64 --stats x"), &["--group-size", "w8a8"]);
    refused(&format!("{line} -w 1 -p w8a16c8 --group-size 64 --stats x"), &["--group-size", "w8a16c8"]);
    refused(&format!("{line} -w 1 -p fp16 --group-size 64"), &["--group-size"]);
    refused(&format!("{line} -w 1 -p w4a16 --names rtn"), &["--names rtn", "w4a16"]);
    refused(&format!("{line} -w 1 -p w8a16 --group-size 64 --names gs-1.x"), &["--names gs-1.x"]);

    env.line("-f quant_weight -y model.yaml -sc src -dc q -is qst --no-sync -w 1 -p w4a16 --group-size 128").ok();
    let line = "-y model.yaml -sc q/w4a16_1p_qkv -dc out -is st --no-sync";
    refused(&format!("-f quant_weight {line} -w 1 -p w4a16"), &["quantised already"]);
    refused(&format!("-f quant_weight {line} -w 1 -p w8a16"), &["quantised already"]);
    let transfer = format!("-f distributed_weight_transfer {line}");
    refused(&format!("{transfer} -w 2 -p w8a16"), &["w4a16", "not -p w8a16"]);
    refused(&format!("{transfer} -w 2 -p w4a16 --group-size 64"), &["--group-size", "keeps its groups"]);
    refused(&format!("{transfer} -w 4 -p w4a16"), &["group_scale", "one scale", "-w"]);
    env.line(&format!("{transfer} -w 2 -p w4a16")).ok();
}

/// A checkpoint whose model is not named: its dimensions follow from packed weights too.
#[test]
fn it_is_resharded_without_a_named_model() {
    let env = TestEnv::new();
    source(&env);
    env.line("-f quant_weight -y model.yaml -sc src -dc q -is qst --no-sync -w 2 -p w4a16").ok();
    env.line("-f distributed_weight_transfer -sc q/w4a16_2p_qkv -dc r -is st --no-sync -w 4 -p w4a16 --heads 4").ok();
    env.line("-f quant_weight -y model.yaml -sc src -dc e -is est --no-sync -w 4 -p w4a16").ok();
    let read = |dir: &str| read_ranks(&env.path(dir), 4, "safetensors");
    assert_eq!(read("r/w4a16_4p_qkv"), read("e/w4a16_4p_qkv"));
}

#[test]
fn it_is_compared_with_its_source_by_its_own_steps() {
    for (precision, options, tail) in [
        ("w8a16", "--group-size 64", "wo._layer.grouped_weight"),
        ("w4a16", "--group-size 128", "wo._layer.int4_weight"),
        ("w4a16", "", "wo._layer.int4_weight"),
    ] {
        let env = TestEnv::new();
        source(&env);
        env.line(&format!(
            "-f quant_weight -w 2 -y model.yaml -sc src -dc q -is st --no-sync -p {precision} {options}"
        ))
        .ok();
        let line = format!("verify src q/{precision}_2p_qkv -y model.yaml -q --tolerance");
        // The greatest of a group is clipped by half a step, and fp16's quotient is rounded itself.
        env.line(&format!("{line} 0.6")).ok();
        assert_eq!(env.line(&format!("{line} 0.1")).status, Some(1), "{precision} {options}");

        let path = env.path(&format!("q/{precision}_2p_qkv/rank_1/checkpoint_1.safetensors"));
        let mut tensors = read_tensors(&path);
        let weight = tensors.iter_mut().find(|t| t.name.ends_with(tail)).expect("wo");
        weight.bytes[5] ^= 0x44;
        std::fs::write(&path, write_safetensors(&tensors)).expect("written");
        let run = env.line(&format!("{line} 0.6"));
        assert_eq!(run.status, Some(1), "{run:#?}");
        assert!(run.stdout.contains("attention.wo.weight"), "{run:#?}");
    }
}

/// The manifest states of every matrix what an oracle finds by dequantising, and how it was quantised.
#[test]
fn the_manifest_tells_what_it_cost() {
    let env = TestEnv::new();
    let full = source(&env);
    env.line(
        "-f quant_weight -y model.yaml -sc src -dc q -is st --no-sync -w 2 -p w4a16 --group-size 64 --qkv_concat false",
    )
    .ok();
    let bytes = std::fs::read(env.path("q/w4a16_2p/manifest.json")).expect("a manifest");
    let manifest: Value = serde_json::from_slice(&bytes).expect("JSON");
    assert_eq!((&manifest["options"]["group_size"], &manifest["options"]["precision"]), (&64.into(), &"w4a16".into()));
    let listed = manifest["quantised"].as_array().expect("a list");
    assert_eq!(listed.len(), 7);
    for entry in listed {
        let name = format!("{}.weight", entry["name"].as_str().expect("a name"));
        let tensor = full.iter().find(|t| t.name == name).expect("the weight");
        let (scales, integers) = quantise(tensor, 64, 4);
        let error = |(at, (value, q)): (usize, (&f64, &i8))| (f64::from(*q) * scales[at / 64] - value).abs();
        let errors: Vec<f64> = numbers(tensor).iter().zip(&integers).enumerate().map(error).collect();
        let count = f64::from(u32::try_from(errors.len()).expect("small"));
        let rms = (errors.iter().map(|e| e * e).sum::<f64>() / count).sqrt();
        let greatest = errors.iter().copied().fold(0.0, f64::max);
        let near =
            |found: &Value, expected: f64| (found.as_f64().expect("a number") - expected).abs() <= expected * 1e-5;
        assert!(near(&entry["rms_error"], rms) && near(&entry["max_error"], greatest), "{entry} {rms} {greatest}");
    }
}
