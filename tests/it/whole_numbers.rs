//! Weights that are not floating-point numbers: refused everywhere, unless they are a known kind of quantised checkpoint with its
//! scales. What transformers 5 makes of such a file is a model with weights of 99; transformers 4 does not load it.

use std::path::Path;

use crate::foreign::{small_config, theirs};
use crate::support::{
    Fusion, Llama, Sharding, Tensor, TestEnv, quantised_rank, read_ranks, w8a16, write_ckpt, write_safetensors,
};

const LAYER: &str = "model.layers.0.self_attn.q_proj";

/// A whole model under Hugging Face's names.
fn hugging_face() -> Vec<Tensor> {
    let named = |tensor: Tensor| Tensor { name: theirs(&tensor.name).to_owned(), ..tensor };
    Llama::small().full().into_iter().map(named).collect()
}

fn config(more: &str) -> String {
    small_config(&format!(",\"tie_word_embeddings\":false{more}"))
}

/// The same number of elements, as whole numbers.
fn whole(tensor: &mut Tensor, dtype: &str, size: usize) {
    dtype.clone_into(&mut tensor.dtype);
    let elements = tensor.bytes.len() / 2;
    tensor.bytes = [1, 0, 0, 0, 0, 0, 0, 0][..size].repeat(elements);
}

fn scales(name: &str, dtype: &str) -> Tensor {
    let size = if dtype == "Float16" { 2 } else { 1 };
    Tensor { name: name.to_owned(), dtype: dtype.to_owned(), dims: vec![4], bytes: vec![1; 4 * size] }
}

/// A run that must be refused as quantised, and leave nothing.
#[track_caller]
fn refused(env: &TestEnv, line: &str, said: &[&str]) {
    let before = env.tree();
    let run = env.line(line);
    run.failed(1, &["the source is quantised"]);
    run.failed(1, said);
    assert!(run.stderr.contains("hint: "), "{run:#?}");
    assert_eq!(env.tree(), before, "{line}");
}

#[test]
fn weights_of_whole_numbers_from_hugging_face_are_refused_at_every_precision() {
    for (dtype, size) in [("Int8", 1), ("UInt8", 1), ("Bool", 1), ("Int16", 2), ("Int32", 4), ("Int64", 8)] {
        for name in
            ["q_proj.weight", "up_proj.weight", "input_layernorm.weight", "embed_tokens.weight", "lm_head.weight"]
        {
            let env = TestEnv::new();
            let mut tensors = hugging_face();
            whole(tensors.iter_mut().find(|t| t.name.ends_with(name)).expect("a weight"), dtype, size);
            env.write("hf/model.safetensors", write_safetensors(&tensors));
            env.write("hf/config.json", config(""));
            let precisions = if dtype == "Int8" { &["fp16", "bf16", "fp32", "keep"][..] } else { &["keep"] };
            for precision in precisions {
                let line = format!("-f pt_to_ms -p {precision} -w 2 -sc hf -dc out -is st");
                refused(&env, &line, &[name, &dtype.to_lowercase()]);
            }
        }
    }
}

#[test]
fn weights_of_whole_numbers_from_mindspore_are_refused_by_every_function() {
    let functions = [
        "-f distributed_weight_transfer -p keep -w 1",
        "-f distributed_weight_transfer -p fp16 -w 4",
        "-f train_to_infer -p bf16 -w 2",
        "-f quant_weight -p w8a16 -w 2",
        "-f ms_to_pt -p keep",
        "-f ms_to_pt -p fp16",
    ];
    for name in ["attention.wq.weight", "feed_forward.w2.weight", "ffn_norm.weight", "tok_embeddings.embedding_weight"]
    {
        for extension in ["ckpt", "safetensors"] {
            let env = TestEnv::new();
            let mut tensors = Llama::small().full();
            whole(tensors.iter_mut().find(|t| t.name.ends_with(name)).expect("a weight"), "Int8", 1);
            let bytes = if extension == "ckpt" { write_ckpt(&tensors) } else { write_safetensors(&tensors) };
            env.write(&format!("src/rank_0/checkpoint_0.{extension}"), bytes);
            for function in functions {
                refused(&env, &format!("{function} -sc src -dc out -is st"), &[name, "int8"]);
            }
            let doctor = env.line("doctor src");
            assert_eq!(doctor.status, Some(1), "{doctor:#?}");
            assert!(doctor.stdout.contains("quantised") && doctor.stdout.contains(name), "{doctor:#?}");
        }
    }
}

/// bitsandbytes, GPTQ, msmodelslim and others are known from what they leave beside the weights, whatever is ignored.
#[test]
fn other_tools_are_named_by_what_they_leave() {
    /// What is beside the q projection: name, dtype; whether the weight is int8; a file; what is said.
    type Case = (&'static [(&'static str, &'static str)], bool, Option<&'static str>, &'static [&'static str]);
    let cases: [Case; 6] = [
        (&[("SCB", "Float16"), ("weight_format", "UInt8")], true, None, &["a tensor `….SCB`", "bitsandbytes"]),
        (&[("weight.absmax", "Float16")], true, None, &["`….absmax`", "bitsandbytes"]),
        (
            &[("qweight", "UInt8"), ("qzeros", "UInt8"), ("scales", "Float16")],
            false,
            Some("quantize_config.json"),
            &["`….qweight`", "the file `quantize_config.json`", "GPTQ"],
        ),
        (
            &[("weight_scale", "Float16"), ("deq_scale", "Float16")],
            true,
            Some("quant_model_description_w8a8.json"),
            &["`….weight_scale`", "`….deq_scale`", "the file `quant_model_description_w8a8.json`", "msmodelslim"],
        ),
        (&[("weight_scale_inv", "Float16")], false, None, &["`….weight_scale_inv`", "fp8_cast_bf16.py"]),
        (&[], true, None, &["with the tool that made it"]),
    ];
    for (beside, int8, file, said) in cases {
        let env = TestEnv::new();
        let mut tensors = hugging_face();
        let weight = tensors.iter_mut().find(|t| t.name == format!("{LAYER}.weight")).expect("a weight");
        if int8 {
            whole(weight, "Int8", 1);
        }
        tensors.extend(beside.iter().map(|(name, dtype)| scales(&format!("{LAYER}.{name}"), dtype)));
        env.write("hf/model.safetensors", write_safetensors(&tensors));
        env.write("hf/config.json", config(""));
        if let Some(file) = file {
            env.write(&format!("hf/{file}"), "{}");
        }
        let line = "-f pt_to_ms -p fp16 -w 2 -sc hf -dc out -is st";
        refused(&env, line, said);
        if int8 {
            // Without its scales an int8 weight is what it was: no weight.
            let ignore: Vec<String> = beside.iter().map(|(name, _)| format!(" --ignore *.{name}")).collect();
            refused(&env, &format!("{line}{}", ignore.concat()), said);
        }
    }
}

#[test]
fn a_configuration_that_says_quantised_is_believed_and_a_left_over_can_be_removed() {
    let env = TestEnv::new();
    env.write("hf/model.safetensors", write_safetensors(&hugging_face()));
    env.write(
        "hf/config.json",
        config(",\"quantization_config\":{\"quant_method\":\"bitsandbytes\",\"load_in_4bit\":true}"),
    );
    let line = "-f pt_to_ms -p fp16 -w 2 -sc hf -dc out -is st --no-sync";
    refused(
        &env,
        line,
        &["`quantization_config` of config.json (bitsandbytes)", "all of its tensors are floating-point", "remove"],
    );
    // As the hint says.
    env.write("hf/config.json", config(""));
    env.line(line).ok();
    // With int8 weights nothing is to be removed.
    let mut tensors = hugging_face();
    whole(&mut tensors[3], "Int8", 1);
    env.write("hf/model.safetensors", write_safetensors(&tensors));
    env.write("hf/config.json", config(",\"quantization_config\":{\"quant_method\":\"fbgemm_fp8\"}"));
    let run = env.line(&line.replace("out", "out2").replace("st --", "st2 --"));
    run.failed(1, &["the source is quantised", "(fbgemm_fp8)"]);
    assert!(!run.stderr.contains("remove `"), "{run:#?}");
    // A quantised configuration is none for what ms_to_pt writes.
    let back = env.line("-f ms_to_pt -p fp16 -sc out/fp16_2p -dc back --hf-config hf");
    back.failed(1, &["quantised", "without `quantization_config`"]);
}

#[test]
fn no_8_bit_float_gets_through() {
    for kind in ["F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ"] {
        for scale in [false, true] {
            let env = TestEnv::new();
            let mut tensors = hugging_face();
            whole(&mut tensors[3], "Float8E4M3FN", 1);
            if scale {
                let name = format!("{}_scale_inv", tensors[3].name);
                tensors.push(scales(&name, "Float16"));
            }
            let header = |bytes: Vec<u8>| {
                let (old, new) = (b"\"F8_E4M3\"", format!("\"{kind}\""));
                let at = bytes.windows(old.len()).position(|w| w == old).expect("the dtype");
                let length = u64::from_le_bytes(bytes[..8].try_into().expect("eight")) + (new.len() - old.len()) as u64;
                [&length.to_le_bytes()[..], &bytes[8..at], new.as_bytes(), &bytes[at + old.len()..]].concat()
            };
            env.write("hf/model.safetensors", header(write_safetensors(&tensors)));
            env.write("hf/config.json", config(""));
            for precision in ["fp16", "keep"] {
                let line = format!("-f pt_to_ms -p {precision} -w 2 -sc hf -dc out -is st --ignore *_scale_inv");
                refused(&env, &line, &[kind, "self_attn", "FineGrainedFP8Config"]);
            }
            let mut ours = Llama::small().full();
            whole(&mut ours[2], "Float8E4M3FN", 1);
            env.write("ms/rank_0/checkpoint_0.safetensors", header(write_safetensors(&ours)));
            let line = "-f distributed_weight_transfer -p keep -w 2 -sc ms -dc out -is st";
            refused(&env, line, &[kind, "attention"]);
        }
    }
}

fn quantised(dir: &Path, fusion: Option<Fusion>) {
    let model = Llama { values: crate::support::Values::Numbers, ..Llama::small() };
    let all = w8a16(&model.full());
    for rank in 0..2 {
        let folder = dir.join(format!("rank_{rank}"));
        std::fs::create_dir_all(&folder).expect("a directory");
        let bytes = write_ckpt(&quantised_rank(&model, &all, rank, 2, fusion));
        std::fs::write(folder.join(format!("checkpoint_{rank}.ckpt")), bytes).expect("a file");
    }
}

/// Our own quantised checkpoints go through whole, and never without what their int8 weights mean.
#[test]
fn golden_sticks_int8_keeps_its_scales_or_is_refused() {
    for fusion in [None, Some(Fusion::RankConcat)] {
        let env = TestEnv::new();
        quantised(&env.path("src"), fusion);
        let line = "-f distributed_weight_transfer -p keep -w 4 --heads 16 -sc src -dc out -is st --no-sync";
        env.line(line).ok();
        let made =
            read_ranks(&env.path("out").join(if fusion.is_some() { "keep_4p_qkv" } else { "keep_4p" }), 4, "ckpt");
        assert!(made[3].keys().any(|name| name.ends_with("wo._layer.matmul.t_scale")));
        for pattern in ["*t_scale*", "*t_zp_neg", "*w2._layer.matmul.*"] {
            for option in ["--ignore", "--drop"] {
                let function = if option == "--drop" { "train_to_infer" } else { "distributed_weight_transfer" };
                let strategy = if option == "--drop" { "-ts none.ckpt" } else { "" };
                let line = format!("-f {function} -p keep -w 4 {strategy} -sc src -dc no -is no {option} {pattern}");
                refused(&env, &line, &["left out", "._layer.matmul.t_", option]);
            }
        }
        let back = env.line("-f ms_to_pt -p keep -sc src -dc no");
        back.failed(1, &["the source is quantised (int8 weights)", "convert the checkpoint that it was made from"]);
        // A file that was saved without them.
        for rank in 0..2 {
            let path = format!("src/rank_{rank}/checkpoint_{rank}.ckpt");
            let tensors = crate::support::read_ckpt(&std::fs::read(env.path(&path)).expect("a file"));
            let kept: Vec<Tensor> =
                tensors.into_iter().filter(|t| !t.name.ends_with("w2._layer.matmul.t_scale")).collect();
            env.write(&path, write_ckpt(&kept));
        }
        refused(&env, &line.replace("-dc out -is st", "-dc no -is no"), &["no scales for", "w2._layer.weight"]);
    }
}

/// A bias is no scale: where it is left out, quantisation is not mentioned.
#[test]
fn floating_point_biases_of_an_int8_model_can_be_left_out() {
    let env = TestEnv::new();
    let model = Llama { values: crate::support::Values::Numbers, bias: true, ..Llama::small() };
    let tensors: Vec<Tensor> = w8a16(&model.full()).into_iter().map(|(tensor, _)| tensor).collect();
    env.write("src/rank_0/checkpoint_0.ckpt", write_ckpt(&tensors));
    let line =
        "-f distributed_weight_transfer -p keep -w 2 --heads 16 -sc src -dc out -is st --no-sync --ignore *.bias";
    env.line(line).ok();
}

/// The names say int8, the bytes are something else.
#[test]
fn a_known_name_over_another_dtype_is_no_known_kind() {
    let env = TestEnv::new();
    quantised(&env.path("src"), None);
    for rank in 0..2 {
        let path = format!("src/rank_{rank}/checkpoint_{rank}.ckpt");
        let mut tensors = crate::support::read_ckpt(&std::fs::read(env.path(&path)).expect("a file"));
        for tensor in tensors.iter_mut().filter(|t| t.name.ends_with("wq._layer.weight")) {
            "Bool".clone_into(&mut tensor.dtype);
        }
        env.write(&path, write_ckpt(&tensors));
    }
    refused(&env, "-f distributed_weight_transfer -p keep -w 2 -sc src -dc out -is st", &["wq._layer.weight (bool)"]);
}

/// A parameter whose name only resembles a scale's makes no model quantised.
#[test]
fn a_name_that_holds_dequant_scale_is_no_quantised_model() {
    let env = TestEnv::new();
    let full = Llama::small().full();
    for rank in 0..2 {
        let mut tensors =
            Llama::small().rank(&full, rank, Sharding { ranks: 2, fusion: None, vocabulary_whole: false });
        tensors.push(scales("my.dequant_scale_stats", "Float16"));
        tensors.push(scales("my.quant_op.history", "Float16"));
        env.write(&format!("src/rank_{rank}/checkpoint_{rank}.ckpt"), write_ckpt(&tensors));
    }
    env.line("-f distributed_weight_transfer -p fp16 -w 4 --heads 16 -sc src -dc out -is st --no-sync").ok();
    let run = env.line("-f distributed_weight_transfer -p w8a8 -w 4 -sc src -dc no -is no");
    run.failed(1, &["the source is not quantised"]);
}

/// int8 weights and a cache that is quantised, and no precision of that name: what is said can be typed.
#[test]
fn a_combination_without_a_name_is_resharded_with_keep() {
    let env = TestEnv::new();
    let model = Llama { values: crate::support::Values::Numbers, ..Llama::small() };
    // The inputs' scales without int8 weights are of no precision that this program makes.
    let full = model.full();
    for rank in 0..2 {
        let mut tensors = model.rank(&full, rank, Sharding { ranks: 2, fusion: None, vocabulary_whole: false });
        let name = "model.layers.0.attention.wq.quant_op.input_scale".to_owned();
        tensors.push(Tensor { name, dtype: "Float16".to_owned(), dims: vec![32], bytes: vec![0; 64] });
        env.write(&format!("src/rank_{rank}/checkpoint_{rank}.ckpt"), write_ckpt(&tensors));
    }
    let run = env.line("-f distributed_weight_transfer -p fp16 -w 4 -sc src -dc no -is no");
    run.failed(1, &["quantised (int8 activations) and stays so: -p keep, not -p fp16"]);
    env.line("-f distributed_weight_transfer -p keep -w 4 --heads 16 -sc src -dc out -is st --no-sync").ok();
}

/// Position numbers and causal masks, which older versions of transformers saved.
#[test]
fn buffers_of_older_versions_are_left_out_and_counted() {
    let env = TestEnv::new();
    let mut tensors = hugging_face();
    env.write("plain/model.safetensors", write_safetensors(&tensors));
    for (name, dtype, dims) in [
        ("model.position_ids", "Int64", vec![1, 4]),
        ("model.layers.0.self_attn.position_ids", "Int64", vec![1, 4]),
        ("model.layers.0.attn.bias", "Bool", vec![1, 1, 4, 4]),
        ("model.layers.0.self_attn.bias", "UInt8", vec![1, 1, 4, 4]),
        ("model.layers.0.self_attn.masked_bias", "Float16", vec![1]),
        ("model.causal_mask", "Bool", vec![4, 4]),
    ] {
        let size = match dtype {
            "Int64" => 8,
            "Float16" => 2,
            _ => 1,
        };
        let elements: u64 = dims.iter().product();
        let bytes = vec![1; usize::try_from(elements).expect("small") * size];
        tensors.push(Tensor { name: name.to_owned(), dtype: dtype.to_owned(), dims, bytes });
    }
    env.write("hf/model.safetensors", write_safetensors(&tensors));
    let line = "-f pt_to_ms -p fp16 -w 2 --heads 16 --no-sync";
    let said = env.line(&format!("{line} -sc hf -dc out -is st")).ok();
    assert!(said.stderr.contains("6 buffers that are no parameters were left out"), "{said:#?}");
    env.line(&format!("{line} -sc plain -dc without -is st2")).ok();
    let of = |dir: &str| read_ranks(&env.path(dir).join("fp16_2p"), 2, "ckpt");
    assert_eq!(of("out"), of("without"));
    // One dimension is a bias, which is no buffer.
    let mask = tensors.iter_mut().find(|t| t.name == "model.layers.0.self_attn.bias").expect("the mask");
    (mask.dtype, mask.dims, mask.bytes) = ("Float16".to_owned(), vec![8], vec![0; 16]);
    env.write("hf/model.safetensors", write_safetensors(&tensors));
    env.line(&format!("{line} -sc hf -dc no -is no")).failed(1, &["`model.layers.0.self_attn.bias`"]);
}

/// A family of which no name is known: its masks are no weights, and what else is no weight can be left out.
#[test]
fn masks_of_an_unknown_family_are_no_quantised_weights() {
    let env = TestEnv::new();
    let tensor = |name: &str, dtype: &str, dims: &[u64], bytes: usize| Tensor {
        name: name.to_owned(),
        dtype: dtype.to_owned(),
        dims: dims.to_vec(),
        bytes: vec![1; bytes],
    };
    let mask = tensor("h.0.attn.bias", "Bool", &[1, 1, 4, 4], 16);
    let weight = tensor("h.0.attn.c_attn.weight", "Float16", &[4, 4], 32);
    env.write("src/rank_0/checkpoint_0.ckpt", write_ckpt(&[weight.clone(), mask.clone()]));
    let line = "-f distributed_weight_transfer -p fp16 -w 1 -sc src -dc out -is st --no-sync --overwrite";
    env.line(line).ok();
    assert_eq!(read_ranks(&env.path("out/fp16_1p"), 1, "ckpt")[0]["h.0.attn.bias"], mask);
    let odd = tensor("h.0.attn.lookup_bias", "Int32", &[4], 16);
    env.write("src/rank_0/checkpoint_0.ckpt", write_ckpt(&[weight.clone(), odd]));
    refused(&env, line, &["h.0.attn.lookup_bias (int32)", "--ignore PATTERN"]);
    env.line(&format!("{line} --ignore *lookup_bias")).ok();
    let quantised = tensor("h.0.attn.c_attn.weight", "Int8", &[4, 4], 16);
    env.write("src/rank_0/checkpoint_0.ckpt", write_ckpt(&[quantised]));
    let run = env.line(line);
    run.failed(1, &["c_attn.weight (int8)"]);
    assert!(!run.stderr.contains("--ignore"), "{run:#?}");
}
