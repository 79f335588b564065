//! Quantising: against golden-stick 0.6.0's own results, and against quantising number by number and cutting what comes out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::test_runner::Config;
use serde_json::Value;

use crate::support::{
    Float, Fusion, Llama, Run, Sharding, Tensor, TestEnv, Values, data, numbers, quantise, quantised_rank, read_ranks,
    read_tensors, w8a16, write_safetensors,
};

/// golden-stick's results by name.
fn golden() -> BTreeMap<String, Tensor> {
    read_tensors(&data("quant/gs060.safetensors")).into_iter().map(|t| (t.name.clone(), t)).collect()
}

/// A model of one layer with 2 heads of 4 rows, whose first q rows are golden-stick's weight and whose others are zeros.
fn model_of_golden(gold: &BTreeMap<String, Tensor>, bias: bool) -> (Llama, Vec<Tensor>) {
    let model = Llama {
        kv_heads: 2,
        rep: 1,
        head_dim: 4,
        ffn: 4,
        vocab: 4,
        layers: 1,
        bias,
        float: Float::Fp16,
        values: Values::Numbers,
        seed: 3,
    };
    let mut full = model.full();
    let ones = |tensor: &mut Tensor| tensor.bytes = [0x00, 0x3c].repeat(tensor.bytes.len() / 2);
    for tensor in &mut full {
        let name = tensor.name.trim_start_matches("model.layers.0.").to_owned();
        match name.as_str() {
            "attention_norm.weight" | "ffn_norm.weight" => ones(tensor),
            "attention.wq.weight" => {
                tensor.bytes.fill(0);
                tensor.bytes[..96].copy_from_slice(&gold["in/weight"].bytes);
            }
            // 0, 1, .. 5 in golden-stick's run with a bias.
            "attention.wq.bias" => {
                let numbers = (0..8u32).flat_map(|n| Float::Fp16.nearest(f64::from(n)).to_le_bytes()[..2].to_vec());
                tensor.bytes = numbers.collect();
            }
            "attention.wk.weight" | "attention.wv.weight" | "attention.wk.bias" | "attention.wv.bias" => {
                tensor.bytes.fill(0);
            }
            _ => tensor.bytes = [0x00, 0x2c].repeat(tensor.bytes.len() / 2),
        }
    }
    (model, full)
}

/// The least and greatest of each of 8 channels, as the statistics format wants them.
fn channels(name: &str, observed: &Tensor) -> Vec<Tensor> {
    let values = numbers(observed);
    [("min", f64::min as fn(f64, f64) -> f64), ("max", f64::max)]
        .into_iter()
        .map(|(end, fold)| {
            let of = |c: usize| values.iter().skip(c).step_by(8).copied().reduce(fold).expect("a value");
            let bytes = (0..8).flat_map(|c| Float::Fp16.nearest(of(c)).to_le_bytes()[..2].to_vec()).collect();
            Tensor { name: format!("{name}.{end}"), dtype: "Float16".to_owned(), dims: vec![8], bytes }
        })
        .collect()
}

/// A file of statistics with what golden-stick saw; what it did not see is between -1 and 1.
fn statistics(env: &TestEnv, gold: &BTreeMap<String, Tensor>) -> PathBuf {
    let layer = "model.layers.0";
    let mut all = channels(&format!("{layer}.attention.w_qkv.input"), &gold["in/x"]);
    all.extend(channels(&format!("{layer}.attention.key"), &gold["in/key"]));
    all.extend(channels(&format!("{layer}.attention.value"), &gold["in/value"]));
    for (name, width) in
        [("attention.wo.input", 8), ("feed_forward.w_gate_hidden.input", 8), ("feed_forward.w2.input", 4)]
    {
        for (end, bits) in [("min", [0x00, 0xbc]), ("max", [0x00, 0x3c])] {
            let (name, dtype) = (format!("{layer}.{name}.{end}"), "Float16".to_owned());
            all.push(Tensor { name, dtype, dims: vec![width], bytes: bits.repeat(usize::try_from(width).expect("4")) });
        }
    }
    env.write("stats.safetensors", with_metadata(&all))
}

/// Statistics as their format wants them: with format and version in the metadata.
pub(crate) fn with_metadata(tensors: &[Tensor]) -> Vec<u8> {
    let plain = write_safetensors(tensors);
    let length = usize::try_from(u64::from_le_bytes(plain[..8].try_into().expect("8"))).expect("small");
    let mut header: Value = serde_json::from_slice(&plain[8..8 + length]).expect("JSON");
    header["__metadata__"] = serde_json::json!({"format": "ckpt-convert.statistics", "version": "1"});
    let text = serde_json::to_vec(&header).expect("JSON");
    [&(text.len() as u64).to_le_bytes()[..], &text, &plain[8 + length..]].concat()
}

pub(crate) fn write_ranks(dir: &Path, ranks: impl Iterator<Item = Vec<Tensor>>) {
    for (rank, tensors) in ranks.enumerate() {
        let folder = dir.join(format!("rank_{rank}"));
        std::fs::create_dir_all(&folder).expect("a directory");
        std::fs::write(folder.join(format!("checkpoint_{rank}.safetensors")), write_safetensors(&tensors))
            .expect("written");
    }
}

pub(crate) fn sharding(ranks: u64, fusion: Option<Fusion>) -> Sharding {
    Sharding { ranks, fusion, vocabulary_whole: false }
}

/// Quantises the golden weight, fused, on one card; returns the tensors.
fn quantise_golden(precision: &str, bias: bool, more: &[&str]) -> BTreeMap<String, Tensor> {
    let (env, gold) = (TestEnv::new(), golden());
    let (model, full) = model_of_golden(&gold, bias);
    write_ranks(&env.path("src"), std::iter::once(model.rank(&full, 0, sharding(1, None))));
    let yaml = env.write("model.yaml", model.yaml(true, false));
    let stats = statistics(&env, &gold);
    let mut command =
        env.command(&["-f", "quant_weight", "-w", "1", "-sc", "src", "-dc", "out", "-is", "st", "--no-sync"]);
    command.args(["-p", precision]).arg("-y").arg(yaml).arg("--stats").arg(stats).args(more);
    Run::of(&mut command).ok();
    read_ranks(&env.path(&format!("out/{precision}_1p_qkv")), 1, "safetensors").remove(0)
}

/// The first elements of a tensor must be golden-stick's.
#[track_caller]
fn begins_with(found: &BTreeMap<String, Tensor>, name: &str, gold: &BTreeMap<String, Tensor>, gold_name: &str) {
    let (found, gold) = (&found[name], &gold[gold_name]);
    assert_eq!(found.dtype, gold.dtype, "{name}");
    assert_eq!(found.dims[1..], gold.dims[1..], "{name}");
    assert!(found.bytes.starts_with(&gold.bytes), "{name}: {:?} is not {:?}", found.bytes, gold.bytes);
}

const L: &str = "model.layers.0.attention.w_qkv";

#[test]
fn w8a16_is_what_golden_stick_makes_of_the_weight() {
    let (found, gold) = (quantise_golden("w8a16", false, &[]), golden());
    for tail in ["_layer.weight", "_layer.matmul.t_scale", "_layer.matmul.t_zp_neg"] {
        begins_with(&found, &format!("{L}.{tail}"), &gold, &format!("w8a16/{tail}"));
    }
    let untouched = ["lm_head.weight", "model.tok_embeddings.embedding_weight", "model.norm_out.weight"];
    assert!(untouched.iter().all(|name| found[*name].dtype == "Float16"), "{:?}", found.keys());
}

#[test]
fn w8a8_is_what_golden_stick_makes_of_weight_and_input() {
    let gold = golden();
    for (tag, bias, more) in [
        ("w8a8_linear", false, &["--no-smooth"][..]),
        ("w8a8_linear_bias", true, &["--no-smooth"]),
        ("w8a8_col_smooth", false, &["--norm-dtype", "fp32"]),
    ] {
        let found = quantise_golden("w8a8", bias, more);
        for tail in [
            "input_scale",
            "input_zp",
            "_layer.weight",
            "_layer.bias",
            "_layer.matmul.dequant_scale",
            "_layer.matmul.input_scale",
            "_layer.matmul.input_zp",
        ] {
            begins_with(&found, &format!("{L}.{tail}"), &gold, &format!("{tag}/{tail}"));
        }
        if tag == "w8a8_col_smooth" {
            let norm = &found["model.layers.0.attention_norm.weight"];
            assert_eq!(
                (&norm.dtype, &norm.bytes),
                (&gold["w8a8_col_smooth/norm_after"].dtype, &gold["w8a8_col_smooth/norm_after"].bytes)
            );
        }
    }
}

#[test]
fn key_and_value_scales_are_golden_sticks() {
    let (found, gold) = (quantise_golden("fp16c8", false, &[]), golden());
    let cell = "model.layers.0.attention.infer_attention.paged_attention_mgr";
    for tail in [
        "key_t_scale",
        "value_t_scale",
        "key_t_zp",
        "value_t_zp",
        "key_value_t_scale",
        "key_value_t_zp",
        "_key_input_quantizer.t_scale",
        "_key_input_quantizer.t_zp",
        "_value_input_quantizer.t_scale",
        "_value_input_quantizer.t_zp",
    ] {
        let (name, golden) = (format!("{cell}.{tail}"), format!("c8/_layer.{tail}"));
        assert_eq!(
            (&found[&name].dtype, &found[&name].dims, &found[&name].bytes),
            (&gold[&golden].dtype, &gold[&golden].dims, &gold[&golden].bytes),
            "{name}"
        );
    }
    assert_eq!(found["model.layers.0.attention.w_qkv.weight"].dtype, "Float16");
}

/// What each rank of the original's own conversion of a w8a8 checkpoint holds, which lacks most of a model.
fn original(side: &str, rank: u64) -> Vec<Tensor> {
    read_tensors(&data(&format!("quant/8to4/{side}/rank_{rank}/checkpoint_{rank}.ckpt")))
}

#[test]
fn eight_quantised_ranks_to_four_are_what_the_original_makes_of_them() {
    let env = TestEnv::new();
    let model = Llama { kv_heads: 16, rep: 1, head_dim: 4, ffn: 16, vocab: 16, ..Llama::small() };
    // The rest of the model: quantised by the oracle; what the original's files hold takes its place.
    let mut full = model.full();
    tame(&mut full);
    let whole = w8a16(&full);
    let ours = |rank: u64, ranks: u64, side: &str| {
        let given = original(side, rank);
        let mut tensors = quantised_rank(&model, &whole, rank, ranks, Some(Fusion::RankConcat));
        tensors.retain(|t| given.iter().all(|g| g.name != t.name) && !t.name.contains("w_qkv._layer.matmul.t_"));
        tensors.extend(given);
        tensors
    };
    write_ranks(&env.path("src"), (0..8).map(|rank| ours(rank, 8, "src")));
    let to = (4, Some(Fusion::RankConcat));
    let out = run(&env, &model, "distributed_weight_transfer", "w8a8", (&env.path("src"), to.1), to, &[]);
    for (rank, found) in (0..).zip(read_ranks(&out, 4, "safetensors")) {
        for expected in original("w8a8_4p_adjust", rank) {
            let copy = expected.name.ends_with("_layer.matmul.input_scale");
            // The original leaves the second copy as the source rank had it; here it is made anew from the first.
            let expected = if copy {
                let first = &found["model.layers.0.attention.wo.input_scale"];
                Tensor { name: expected.name, ..first.clone() }
            } else {
                expected
            };
            assert_eq!(found[&expected.name], expected, "rank {rank}");
        }
    }
}

/// A small model's checkpoint of one rank in `src`, changed before it is written.
pub(crate) fn source(env: &TestEnv, change: impl Fn(&mut Vec<Tensor>)) -> Llama {
    let model = Llama { kv_heads: 2, rep: 2, head_dim: 2, ffn: 8, vocab: 8, ..Llama::small() };
    let mut full = model.full();
    tame(&mut full);
    let mut rank = model.rank(&full, 0, sharding(1, None));
    change(&mut rank);
    write_ranks(&env.path("src"), std::iter::once(rank));
    env.write("model.yaml", model.yaml(true, false));
    model
}

#[test]
fn what_cannot_be_quantised_is_refused_and_nothing_is_left() {
    let line = "-f quant_weight -w 2 -y model.yaml -sc src -dc out -is st --no-sync -p";
    let refused = |env: &TestEnv, line: &str, said: &[&str]| {
        let before = env.tree();
        env.line(line).failed(1, said);
        assert_eq!(env.tree(), before, "something was left");
    };
    let weight = "model.layers.0.attention.wo.weight";
    // 40000 twice is more than fp16 holds; the row is the second.
    let env = TestEnv::new();
    let set = |at: usize, bits: [u8; 2]| {
        move |tensors: &mut Vec<Tensor>| {
            let tensor = tensors.iter_mut().find(|t| t.name == weight).expect("wo");
            tensor.bytes[at..at + 2].copy_from_slice(&bits);
        }
    };
    source(&env, set(16, [0xe2, 0x78]));
    refused(&env, &format!("{line} w8a16"), &[weight.trim_end_matches(".weight"), "row 1", "scale", "fp16"]);
    source(&env, set(0, [0x00, 0x7e]));
    refused(&env, &format!("{line} w8a16"), &["row 0", "not finite"]);

    let model = source(&env, |_| {});
    refused(&env, &format!("{line} w8a8"), &["w8a8", "--stats"]);
    refused(&env, &format!("{line} fp16"), &["fp16", "w8a16"]);
    refused(&env, &format!("{line} w8a8 --names rtn --stats x"), &["x"]);
    #[cfg(not(feature = "calibrate"))]
    refused(&env, &format!("{line} w8a8 -d boolq -dp x"), &["feature `calibrate`", "--stats"]);
    refused(
        &env,
        "-f distributed_weight_transfer -w 2 -sc src -dc out -is st -p w8a16",
        &["not quantised", "quant_weight"],
    );

    // Statistics of another model: layers, channels, a missing observation, another file.
    let stats = |layers: u64, kv_heads: u64| random_statistics(&env, &Llama { kv_heads, layers, ..model.clone() });
    stats(2, 2);
    refused(&env, &format!("{line} w8a8 --stats random_stats.safetensors"), &["2 layers", "has 1"]);
    stats(1, 4);
    refused(&env, &format!("{line} w8a8 --stats random_stats.safetensors"), &["16 channels", "8"]);
    env.write("other.safetensors", write_safetensors(&[]));
    refused(&env, &format!("{line} w8a8 --stats other.safetensors"), &["other.safetensors", "statistics"]);
    stats(1, 2);
    refused(&env, &format!("{line} w8a8 --stats random_stats.safetensors --alpha 2"), &["--alpha"]);
    refused(&env, &format!("{line} w8a8 --stats random_stats.safetensors --names gs-1.x"), &["w8a16", "--names"]);

    // A quantised source is neither quantised again nor cast.
    env.line("-f quant_weight -w 2 -y model.yaml -sc src -dc q -is qst --no-sync -p w8a16").ok();
    refused(
        &env,
        "-f quant_weight -w 1 -y model.yaml -sc q/w8a16_2p_qkv -dc out -is st -p w8a16",
        &["quantised already"],
    );
    let transfer = "-f distributed_weight_transfer -w 1 -y model.yaml -sc q/w8a16_2p_qkv -dc out -is st";
    refused(&env, &format!("{transfer} -p fp16"), &["w8a16", "not -p fp16"]);
    refused(&env, &format!("{transfer} -p w8a8"), &["w8a16", "not -p w8a8"]);
}

#[test]
fn separately_smoothed_inputs_cannot_be_fused() {
    let env = TestEnv::new();
    let model = source(&env, |_| {});
    random_statistics(&env, &model);
    let line = "-f quant_weight -p w8a8 -w 1 -y model.yaml -sc src -dc q -is st --no-sync --qkv_concat false";
    env.line(&format!("{line} --stats random_stats.safetensors")).ok();
    env.line("-f distributed_weight_transfer -p w8a8 -w 2 -y model.yaml -sc q/w8a8_1p -dc out -is st2 --no-sync")
        .failed(1, &["input_scale", "smoothed one by one"]);
}

/// The other generations: the same numbers under other names; round-to-nearest computes in fp32.
#[test]
fn other_generations_have_other_names() {
    let env = TestEnv::new();
    source(&env, |_| {});
    let line = "-f quant_weight -p w8a16 -w 1 -y model.yaml -sc src --no-sync";
    let read = |names: &str| {
        env.line(&format!("{line} -dc {names} -is {names}_st --names {names}")).ok();
        read_ranks(&env.path(&format!("{names}/w8a16_1p_qkv")), 1, "safetensors").remove(0)
    };
    let (first, second, rtn) = (read("gs-0.6"), read("gs-1.x"), read("rtn"));
    let same = |a: &Tensor, b: &Tensor| (&a.dtype, &a.dims, &a.bytes) == (&b.dtype, &b.dims, &b.bytes);
    assert!(same(&first[&format!("{L}._layer.matmul.t_scale")], &second[&format!("{L}._layer.matmul.weight_scale")]));
    assert!(same(&first[&format!("{L}._layer.matmul.t_zp_neg")], &second[&format!("{L}._layer.matmul.weight_zp")]));
    assert!(same(&first[&format!("{L}._layer.weight")], &second[&format!("{L}._layer.weight")]));
    let weight = &rtn[&format!("{L}._handler.weight")];
    assert_eq!((weight.dtype.as_str(), &weight.dims), ("Int8", &first[&format!("{L}._layer.weight")].dims));
    let difference = |(a, b): (&u8, &u8)| (i16::from(a.cast_signed()) - i16::from(b.cast_signed())).abs();
    let other = &first[&format!("{L}._layer.weight")].bytes;
    assert!(weight.bytes.iter().zip(other).map(difference).max().expect("elements") <= 1, "at most a step apart");
    assert_eq!(rtn[&format!("{L}._weight_quantizer.scale")].dtype, "Float16");
    assert!(rtn.contains_key(&format!("{L}._weight_quantizer.zp_neg")));
}

/// The manifest states of every matrix what an oracle finds by dequantising.
#[test]
fn the_manifest_tells_what_quantising_cost() {
    let env = TestEnv::new();
    let model = source(&env, |_| {});
    let run = env
        .line("-f quant_weight -p w8a16 -w 2 -y model.yaml -sc src -dc q -is st --no-sync --qkv_concat false --json")
        .ok();
    let manifest: Value =
        serde_json::from_slice(&std::fs::read(env.path("q/w8a16_2p/manifest.json")).expect("a manifest"))
            .expect("JSON");
    let mut full = model.full();
    tame(&mut full);
    let listed = manifest["quantised"].as_array().expect("a list");
    assert_eq!(listed.len(), 7);
    assert_eq!(run.json()["quantised"]["matrices"], 7);
    for entry in listed {
        let name = format!("{}.weight", entry["name"].as_str().expect("a name"));
        let tensor = full.iter().find(|t| t.name == name).expect("the weight");
        let (scales, elements) = quantise(tensor);
        let columns = usize::try_from(tensor.dims[1]).expect("small");
        let errors: Vec<f64> = numbers(tensor)
            .iter()
            .zip(&elements)
            .enumerate()
            .map(|(at, (value, q))| (f64::from(*q) * scales[at / columns] - value).abs())
            .collect();
        let count = f64::from(u32::try_from(errors.len()).expect("small"));
        let (rms, greatest) =
            ((errors.iter().map(|e| e * e).sum::<f64>() / count).sqrt(), errors.iter().copied().fold(0.0, f64::max));
        let near =
            |found: &Value, expected: f64| (found.as_f64().expect("a number") - expected).abs() <= expected * 1e-5;
        assert!(near(&entry["rms_error"], rms) && near(&entry["max_error"], greatest), "{entry} {rms} {greatest}");
        assert!((0.0..1.0).contains(&entry["clipped"].as_f64().expect("a share")));
    }
}

/// A layer that is kept stays what it was, under its own name, through a reshard too; what comes before it is not divided.
#[test]
fn layers_can_be_kept() {
    let env = TestEnv::new();
    let model = source(&env, |_| {});
    random_statistics(&env, &model);
    let line = "-y model.yaml -is st --no-sync -p w8a8";
    let keep = "--stats random_stats.safetensors --keep-float feed_forward.w2";
    env.line(&format!("-f quant_weight -w 2 -sc src -dc q {line} {keep}")).ok();
    env.line(&format!("-f distributed_weight_transfer -w 1 -sc q/w8a8_2p_qkv -dc back {line}")).ok();
    let (back, src) = (
        read_ranks(&env.path("back/w8a8_1p_qkv"), 1, "safetensors").remove(0),
        read_ranks(&env.path("src"), 1, "safetensors").remove(0),
    );
    let name = "model.layers.0.feed_forward.w2.weight";
    assert_eq!(back[name], src[name]);
    assert!(back.keys().all(|key| !key.contains("w2.input_scale")), "{:?}", back.keys());
    assert!(back.contains_key("model.layers.0.attention.wo._layer.matmul.dequant_scale"));
}

/// `verify --tolerance` dequantises; half a step is what rounding costs, and one changed element is found.
#[test]
fn a_quantised_checkpoint_is_compared_with_its_source() {
    let env = TestEnv::new();
    source(&env, |_| {});
    env.line("-f quant_weight -w 2 -y model.yaml -sc src -dc q -is st --no-sync -p w8a16").ok();
    let line = "verify src q/w8a16_2p_qkv -y model.yaml -q --tolerance";
    // The greatest of a row is clipped from 127.5 steps to 127, and fp16's quotient is rounded itself.
    let run = env.line(&format!("{line} 0.6")).ok();
    assert!(run.stdout.contains("same"), "{run:#?}");
    let run = env.line(&format!("{line} 0.1"));
    assert_eq!(run.status, Some(1), "{run:#?}");
    assert!(run.stdout.contains("steps off"), "{run:#?}");
    env.line("verify q/w8a16_2p_qkv src -y model.yaml -q --tolerance 1").failed(2, &["w8a16", "in this order"]);

    let path = env.path("q/w8a16_2p_qkv/rank_1/checkpoint_1.safetensors");
    let mut tensors = read_tensors(&path);
    let weight = tensors.iter_mut().find(|t| t.name.ends_with("wo._layer.weight")).expect("wo");
    weight.bytes[5] = weight.bytes[5].wrapping_add(3);
    std::fs::write(&path, write_safetensors(&tensors)).expect("written");
    for reader in ["auto", "mapped", "direct --depth 2", "sequential --chunk 64KiB --memory 32MiB"] {
        let run = env.line(&format!("{line} 0.6 --reader {reader}"));
        assert_eq!(run.status, Some(1), "{reader}: {run:#?}");
        assert!(run.stdout.contains("attention.wo.weight") && run.stdout.lines().count() == 2, "{reader}: {run:#?}");
    }
}

pub(crate) fn fusions() -> impl Strategy<Value = Option<Fusion>> {
    prop::sample::select(vec![None, Some(Fusion::RankConcat), Some(Fusion::Grouped)])
}

fn divisors(of: u64) -> Vec<u64> {
    (1..=of).filter(|n| of.is_multiple_of(*n)).collect()
}

/// Ranks and fusion.
pub(crate) type Layout = (u64, Option<Fusion>);

/// A model and two layouts of it.
fn cases() -> impl Strategy<Value = (Llama, Layout, Layout)> {
    let shape = (prop::sample::select(vec![1u64, 2, 4, 6]), 1u64..3, 1u64..3, 1u64..6, any::<bool>(), any::<u64>());
    shape.prop_flat_map(|(kv_heads, rep, head_dim, ffn, bias, seed)| {
        let side = || (prop::sample::select(divisors(kv_heads)), fusions());
        (side(), side()).prop_map(move |(from, to)| {
            let model = Llama {
                kv_heads,
                rep,
                head_dim,
                ffn: from.0 * to.0 * ffn,
                vocab: from.0 * to.0,
                layers: 2,
                bias,
                float: Float::Fp16,
                values: Values::Numbers,
                seed,
            };
            (model, from, to)
        })
    })
}

/// Numbers of a size that scales of fp16 can hold.
pub(crate) fn tame(full: &mut [Tensor]) {
    for tensor in full {
        for bytes in tensor.bytes.as_chunks_mut::<2>().0 {
            bytes[1] &= 0xbf;
        }
    }
}

pub(crate) fn named(tensors: Vec<Tensor>) -> BTreeMap<String, Tensor> {
    tensors.into_iter().map(|t| (t.name.clone(), t)).collect()
}

/// Runs a function on a directory; returns the target.
pub(crate) fn run(
    env: &TestEnv,
    model: &Llama,
    function: &str,
    precision: &str,
    from: (&Path, Option<Fusion>),
    to: (u64, Option<Fusion>),
    more: &[&str],
) -> PathBuf {
    let name = format!("{}_{precision}", from.0.file_name().expect("a name").to_string_lossy());
    let yaml = env.write(&format!("{name}.yaml"), model.yaml(to.1.is_some(), false));
    let ranks = to.0.to_string();
    let mut command = env.command(&["-f", function, "-p", precision, "-w", &ranks, "--no-sync", "-q"]);
    command.arg("-y").arg(yaml).arg("-sc").arg(from.0).args(["-dc", &name, "-is", &format!("{name}_st")]).args(more);
    let option = |fusion: Option<Fusion>| fusion.unwrap_or(Fusion::RankConcat).option();
    command.args(["--src-fusion", option(from.1), "--dst-fusion", option(to.1)]);
    Run::of(&mut command).ok();
    env.path(&format!("{name}/{precision}_{ranks}p{}", if to.1.is_some() { "_qkv" } else { "" }))
}

proptest! {
    #![proptest_config(Config { cases: 24, failure_persistence: None, ..Config::default() })]

    #[test]
    fn w8a16_is_quantising_the_whole_model_and_cutting_it((model, from, to) in cases()) {
        let env = TestEnv::new();
        let mut full = model.full();
        tame(&mut full);
        let src = env.path("src");
        write_ranks(&src, (0..from.0).map(|rank| model.rank(&full, rank, sharding(from.0, from.1))));
        let out = run(&env, &model, "quant_weight", "w8a16", (&src, from.1), to, &[]);
        let whole = w8a16(&full);
        for (rank, found) in (0..).zip(read_ranks(&out, to.0, "safetensors")) {
            prop_assert_eq!(found, named(quantised_rank(&model, &whole, rank, to.0, to.1)), "rank {}", rank);
        }
        // And back again, quantised: what quantising to the source's layout gives.
        let back = run(&env, &model, "distributed_weight_transfer", "w8a16", (&out, to.1), from, &[]);
        for (rank, found) in (0..).zip(read_ranks(&back, from.0, "safetensors")) {
            prop_assert_eq!(found, named(quantised_rank(&model, &whole, rank, from.0, from.1)), "rank {} back", rank);
        }
    }

    #[test]
    fn resharding_a_quantised_model_is_quantising_a_resharded_one((model, from, to) in cases(), smooth in any::<bool>()) {
        let env = TestEnv::new();
        let mut full = model.full();
        tame(&mut full);
        // Smoothing depends on what is fused, so that must stay.
        let to = if smooth && from.1.is_some() != to.1.is_some() { (to.0, from.1) } else { to };
        let src = env.path("src");
        write_ranks(&src, (0..from.0).map(|rank| model.rank(&full, rank, sharding(from.0, from.1))));
        let stats = random_statistics(&env, &model);
        let mut more = vec!["--stats", stats.to_str().expect("UTF-8")];
        if !smooth {
            more.push("--no-smooth");
        }
        let here = run(&env, &model, "quant_weight", "w8a8c8", (&src, from.1), from, &more);
        let there = run(&env, &model, "distributed_weight_transfer", "w8a8c8", (&here, from.1), to, &[]);
        let moved = env.path("moved");
        write_ranks(&moved, (0..to.0).map(|rank| model.rank(&full, rank, sharding(to.0, to.1))));
        let expected = run(&env, &model, "quant_weight", "w8a8c8", (&moved, to.1), to, &more);
        let (there, expected) = (read_ranks(&there, to.0, "safetensors"), read_ranks(&expected, to.0, "safetensors"));
        for (rank, (there, expected)) in there.into_iter().zip(expected).enumerate() {
            prop_assert_eq!(there, expected, "rank {}", rank);
        }
    }
}

/// Statistics of a model, from a simple sequence.
pub(crate) fn random_statistics(env: &TestEnv, model: &Llama) -> PathBuf {
    let (hidden, kv) = (model.hidden(), model.kv_heads * model.head_dim);
    let mut all = Vec::new();
    for layer in 0..model.layers {
        for (name, width) in [
            ("attention.w_qkv.input", hidden),
            ("attention.wo.input", hidden),
            ("feed_forward.w_gate_hidden.input", hidden),
            ("feed_forward.w2.input", model.ffn),
            ("attention.key", kv),
            ("attention.value", kv),
        ] {
            for (end, sign) in [("min", -1.0), ("max", 1.0)] {
                let number = |c: u64| {
                    let step = u32::try_from((c * 7 + layer * 3 + width) % 11).expect("small");
                    Float::Fp16.nearest(sign * (0.25 + f64::from(step))).to_le_bytes()[..2].to_vec()
                };
                let (name, dtype) = (format!("model.layers.{layer}.{name}.{end}"), "Float16".to_owned());
                all.push(Tensor { name, dtype, dims: vec![width], bytes: (0..width).flat_map(number).collect() });
            }
        }
    }
    env.write("random_stats.safetensors", with_metadata(&all))
}
