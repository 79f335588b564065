//! Rank files with the `config.json` of their model beside them: what it says is known, though nobody names the model.

use crate::foreign::{small_config, theirs};
use crate::support::{Float, Llama, Sharding, Tensor, TestEnv, read_ranks, write_ckpt, write_safetensors};

const TIED: &str = ",\"tie_word_embeddings\":true";

fn model() -> Llama {
    Llama { float: Float::Fp16, ..Llama::small() }
}

/// The whole model, of numbers between 1 and 1.25.
fn full() -> Vec<Tensor> {
    let mut full = model().full();
    for tensor in &mut full {
        let numbers = tensor.bytes.chunks_exact_mut(2).zip((0..251).cycle());
        numbers.for_each(|(number, low)| number.copy_from_slice(&[low, 0x3c]));
    }
    full
}

/// Converts a tied model of Hugging Face's into `a/fp16_1p`, with its configuration.
fn made_of_tied(env: &TestEnv) {
    let tensors = full().into_iter().filter(|tensor| tensor.name != "lm_head.weight");
    let named = |tensor: Tensor| Tensor { name: theirs(&tensor.name).to_owned(), ..tensor };
    env.write("hf/model.safetensors", write_safetensors(&tensors.map(named).collect::<Vec<_>>()));
    env.write("hf/config.json", small_config(TIED));
    env.line("-f pt_to_ms -p fp16 -w 1 -sc hf -dc a -is a.st --no-sync").ok();
}

/// Ranks with a head of their own, equal to the embedding or not.
fn ranks(env: &TestEnv, equal: bool) {
    let mut full = full();
    let embedding = full.iter().find(|t| t.name.contains("embedding")).expect("an embedding").bytes.clone();
    let head = full.iter_mut().find(|t| t.name == "lm_head.weight").expect("a head");
    head.bytes = embedding;
    if !equal {
        *head.bytes.last_mut().expect("bytes") ^= 1;
    }
    for rank in 0..2 {
        let tensors = model().rank(&full, rank, Sharding { ranks: 2, fusion: None, vocabulary_whole: false });
        env.write(&format!("src/rank_{rank}/checkpoint_{rank}.ckpt"), write_ckpt(&tensors));
    }
}

#[test]
fn what_was_made_of_a_tied_model_is_converted_further_without_a_word_more() {
    let env = TestEnv::new();
    made_of_tied(&env);
    for (function, precision, name) in [
        ("distributed_weight_transfer", "fp16", "fp16_2p"),
        ("quant_weight", "w8a16", "w8a16_2p"),
        ("train_to_infer", "bf16", "bf16_2p"),
    ] {
        let said = env.line(&format!("-f {function} -p {precision} -w 2 -sc a/fp16_1p -dc out -is st --no-sync")).ok();
        assert!(said.stdout.contains("the model: config.json beside the source"), "{said:#?}");
        assert!(!read_ranks(&env.path(&format!("out/{name}")), 2, "ckpt")[0].contains_key("lm_head.weight"));
    }
    let well = env.line("doctor a/fp16_1p").ok();
    assert!(!well.stdout.contains("lm_head"), "{well:#?}");
    // Its heads are known, too: 2 ranks of the grouped order, or more than its 8 kv heads.
    let line = "-f distributed_weight_transfer -p keep --no-sync -sc a/fp16_1p -dc more -is st2";
    env.line(&format!("{line} -w 4 --qkv_concat true --dst-fusion grouped")).ok();
    env.line(&format!("{line} -w 16")).failed(1, &["16 ranks do not divide the 8 kv heads"]);
    env.line(&format!("{line} -w 2 --tie-word-embeddings false"))
        .failed(1, &["the config.json beside the source says tie_word_embeddings: true"]);
}

/// It does not choose how the target's network wants its parameters.
#[test]
fn a_configuration_beside_the_ranks_changes_no_byte_of_the_target() {
    let env = TestEnv::new();
    let sharding = Sharding { ranks: 2, fusion: Some(crate::support::Fusion::RankConcat), vocabulary_whole: true };
    model().write(&env.path("src"), sharding, "ckpt");
    let line = "-f distributed_weight_transfer -p keep -w 4 --heads 16 -sc src --no-sync";
    env.line(&format!("{line} -dc without -is st")).ok();
    env.write("src/config.json", small_config(""));
    env.line(&format!("{line} -dc with -is st2")).ok();
    let of = |dir: &str| read_ranks(&env.path(dir).join("keep_4p_qkv"), 4, "ckpt");
    assert_eq!(of("with"), of("without"));
}

#[test]
fn a_configuration_of_another_model_is_named_and_one_that_cannot_be_used_is_left_alone() {
    let env = TestEnv::new();
    model().write(&env.path("src"), Sharding { ranks: 2, fusion: None, vocabulary_whole: false }, "ckpt");
    let line = "-f distributed_weight_transfer -p keep -w 2 -sc src -dc out -is st --no-sync --overwrite";
    for (from, to) in [("\"hidden_size\":32", "\"hidden_size\":64"), ("layers\":1", "layers\":2")] {
        env.write("src/config.json", small_config("").replace(from, to));
        let before = env.tree();
        env.line(line).failed(1, &["src/config.json", "move it elsewhere, or name the model with -y"]);
        assert_eq!(env.tree(), before);
        let found = env.line("doctor src");
        assert_eq!(found.status, Some(1), "{found:#?}");
        assert!(found.stdout.contains("config.json"), "{found:#?}");
        // As the hint says.
        env.write("model.yaml", model().yaml(false, false));
        env.line(&format!("{line} -y model.yaml")).ok();
    }
    for unusable in [
        "{",
        "{\"model_type\":\"gpt2\"}",
        &small_config(",\"quantization_config\":{\"quant_method\":\"gptq\"}"),
        &small_config(",\"num_experts\":8"),
    ] {
        env.write("src/config.json", unusable);
        let said = env.line(line).ok();
        assert!(said.stderr.contains("config.json is not used"), "{said:#?}");
        assert!(!said.stdout.contains("beside the source"), "{said:#?}");
        env.line("doctor src").ok();
    }
}

#[test]
fn a_head_of_its_own_in_a_tied_model_is_left_out_where_it_is_the_embedding_and_refused_where_not() {
    let tied = model().yaml(false, false).replace("qkv_concat", "tie_word_embeddings: True\n    qkv_concat");
    for (function, precision) in [("distributed_weight_transfer", "fp16"), ("quant_weight", "w8a16")] {
        for by_yaml in [true, false] {
            let env = TestEnv::new();
            let mut line = format!("-f {function} -p {precision} -w 4 -sc src -dc out -is st --no-sync");
            if by_yaml {
                env.write("tied.yaml", &tied);
                line += " -y tied.yaml";
            } else {
                env.write("src/config.json", small_config(TIED));
            }
            ranks(&env, false);
            let before = env.tree();
            env.line(&line).failed(1, &["lm_head.weight", "set it to false there", "--ignore lm_head.weight"]);
            assert_eq!(env.tree(), before);
            // As the hint says.
            env.line(&format!("{line} --ignore lm_head.weight")).ok();
            ranks(&env, true);
            let said = env.line(&format!("{line} --overwrite")).ok();
            assert!(said.stderr.contains("lm_head.weight is left out"), "{said:#?}");
            let made = read_ranks(&env.path(&format!("out/{precision}_4p")), 4, "ckpt");
            assert!(made.iter().all(|rank| !rank.contains_key("lm_head.weight")));
        }
    }
}

#[test]
fn a_conversion_of_nothing_is_refused() {
    let env = TestEnv::new();
    model().write(&env.path("src"), Sharding { ranks: 1, fusion: None, vocabulary_whole: false }, "ckpt");
    let before = env.tree();
    for function in ["distributed_weight_transfer -w 1", "train_to_infer -w 1", "train_to_infer --strip-only"] {
        let line = format!("-f {function} -p fp16 -sc src -dc no -is no --ignore *");
        for more in ["", " --dry-run"] {
            env.line(&format!("{line}{more}")).failed(1, &["nothing is left to convert"]);
        }
    }
    assert_eq!(env.tree(), before);
}

#[test]
fn options_without_a_meaning_are_refused() {
    let env = TestEnv::new();
    made_of_tied(&env);
    env.line("-f pt_to_ms -p fp16 -w 1 -sc hf -ss a.st -dc no").failed(1, &["-ss goes with rank files"]);
    env.line("-f ms_to_pt -p fp16 -sc a/fp16_1p -dc no --crc").failed(1, &["--crc goes with ckpt files"]);
}

/// The strategy of the target is that of its network, which has a head of its own.
#[test]
fn a_target_strategy_with_a_head_gets_it() {
    let env = TestEnv::new();
    ranks(&env, true);
    let line = "-f distributed_weight_transfer -p keep -sc src --no-sync";
    env.line(&format!("{line} -w 4 --heads 16 -dc first -is st")).ok();
    env.write("src/config.json", small_config(TIED));
    env.line(&format!("{line} -ds st/keep_4p/strategy -dc second -is st2")).ok();
    let of = |dir: &str| read_ranks(&env.path(dir).join("keep_4p"), 4, "ckpt");
    assert_eq!(of("second"), of("first"));
}
