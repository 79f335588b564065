//! A source without `lm_head`: where no configuration says whether it is the embedding, the program asks. transformers (4.55 and
//! 5) initialises a missing head of an untied model at random, with a warning that nobody reads.

use crate::foreign::{small_config, theirs};
use crate::support::{
    Llama, Run, Sharding, Tensor, TestEnv, data, read_ranks, read_safetensors, write_ckpt, write_safetensors,
};

/// A whole model but for its head, under Hugging Face's names with another beginning than `model.`.
fn headless(prefix: &str) -> Vec<Tensor> {
    let tensors = Llama::small().full().into_iter().filter(|tensor| tensor.name != "lm_head.weight");
    tensors.map(|tensor| Tensor { name: theirs(&tensor.name).replace("model.", prefix), ..tensor }).collect()
}

fn has_head(dir: &std::path::Path) -> bool {
    read_ranks(dir, 2, "ckpt")[0].contains_key("lm_head.weight")
}

const LINE: &str = "-f pt_to_ms -p fp16 -w 2 --heads 16 -sc hf -dc out -is st --no-sync --overwrite";

#[test]
fn without_a_configuration_a_missing_head_is_asked_for() {
    // `model.` as of a whole model, and without it as `LlamaModel` saves it.
    for prefix in ["model.", ""] {
        let env = TestEnv::new();
        env.write("hf/model.safetensors", write_safetensors(&headless(prefix)));
        let before = env.tree();
        let both =
            ["no `lm_head.weight`", "it is the embedding", "or is missing", "--tie-word-embeddings true", "LlamaModel"];
        env.line(LINE).failed(1, &both);
        env.line(&format!("{LINE} --tie-word-embeddings false"))
            .failed(1, &["lacks `lm_head.weight`", "without its head"]);
        assert_eq!(env.tree(), before);
        env.line(&format!("{LINE} --tie-word-embeddings true")).ok();
        assert!(!has_head(&env.path("out/fp16_2p")));
        let manifest = std::fs::read_to_string(env.path("out/fp16_2p/manifest.json")).expect("a manifest");
        assert!(manifest.contains("\"tie_word_embeddings\": true"), "{manifest}");
        // The network's yaml ties nothing: its head is the embedding's copy.
        env.write("untied.yaml", Llama::small().yaml(false, true));
        env.line(&format!("{LINE} -y untied.yaml")).failed(1, &["--tie-word-embeddings true"]);
        env.line(&format!("{LINE} -y untied.yaml --tie-word-embeddings true")).ok();
        let made = read_ranks(&env.path("out/fp16_2p"), 2, "ckpt").remove(1);
        assert_eq!(made["lm_head.weight"].bytes, made["model.tok_embeddings.embedding_weight"].bytes);
        // And a yaml that ties it leaves nothing to ask.
        let tied = Llama::small().yaml(false, true).replace("qkv_concat", "tie_word_embeddings: True\n    qkv_concat");
        env.write("tied.yaml", tied);
        env.line(&format!("{LINE} -y tied.yaml")).ok();
        assert!(!has_head(&env.path("out/fp16_2p")));
    }
}

#[test]
fn a_configuration_decides_about_a_missing_head() {
    // As transformers: an absent field is false.
    for (field, converts) in
        [(",\"tie_word_embeddings\":true", true), (",\"tie_word_embeddings\":false", false), ("", false)]
    {
        let env = TestEnv::new();
        env.write("hf/model.safetensors", write_safetensors(&headless("")));
        env.write("hf/config.json", small_config(field));
        if converts {
            env.line(LINE).ok();
            env.line(&format!("{LINE} --tie-word-embeddings false")).failed(1, &["tie_word_embeddings: true"]);
            continue;
        }
        env.line(LINE)
            .failed(1, &["lacks `lm_head.weight`", "tie_word_embeddings: true in config.json", "without its head"]);
        env.line(&format!("{LINE} --tie-word-embeddings true"))
            .failed(1, &["tie_word_embeddings: false", "correct it there"]);
        // As the hint says.
        env.write("hf/config.json", small_config(",\"tie_word_embeddings\":true"));
        env.line(LINE).ok();
    }
}

/// A head that is there and is not the embedding, in a model that is said to be tied.
#[test]
fn a_tied_model_with_a_head_of_its_own_says_what_to_do() {
    let env = TestEnv::new();
    let mut tensors = headless("model.");
    let embedding = tensors.iter().find(|t| t.name.contains("embed")).expect("an embedding").clone();
    let mut bytes = embedding.bytes.clone();
    bytes[0] ^= 1;
    tensors.push(Tensor { name: "lm_head.weight".to_owned(), bytes, ..embedding.clone() });
    env.write("hf/model.safetensors", write_safetensors(&tensors));
    let line = format!("{LINE} --tie-word-embeddings true");
    env.line(&line).failed(1, &["lm_head.weight", "tie_word_embeddings: true", "--ignore lm_head.weight"]);
    env.line(&format!("{line} --ignore lm_head.weight")).ok();
    assert!(!has_head(&env.path("out/fp16_2p")));
    // It has one, so nothing is asked.
    env.line(LINE).ok();
    assert!(has_head(&env.path("out/fp16_2p")));
}

#[test]
fn rank_files_without_a_head_go_to_hugging_face_only_when_it_is_said_why() {
    let model = Llama::small();
    let full = model.full();
    let env = TestEnv::new();
    let sharding = Sharding { ranks: 2, fusion: None, vocabulary_whole: false };
    for rank in 0..2 {
        let mut tensors = model.rank(&full, rank, sharding);
        tensors.retain(|t| t.name != "lm_head.weight");
        env.write(&format!("src/rank_{rank}/checkpoint_{rank}.ckpt"), write_ckpt(&tensors));
    }
    let line = "-f ms_to_pt -p keep -sc src -dc hf --no-sync --overwrite";
    let before = env.tree();
    env.line(line).failed(1, &["no `lm_head.weight`", "--tie-word-embeddings true"]);
    env.line(&format!("{line} --tie-word-embeddings false")).failed(1, &["lacks `lm_head.weight`"]);
    assert_eq!(env.tree(), before);
    let said = env.line(&format!("{line} --tie-word-embeddings true")).ok();
    assert!(said.stderr.contains("must say `tie_word_embeddings: true`"), "{said:#?}");
    let made = read_safetensors(&std::fs::read(env.path("hf/keep_hf/model.safetensors")).expect("a file"));
    assert!(made.iter().all(|t| t.name != "lm_head.weight"));
    // A configuration says so, or says otherwise.
    env.write("tied/config.json", small_config(",\"tie_word_embeddings\":true"));
    env.write("untied/config.json", small_config(""));
    env.line(&format!("{line} --hf-config tied")).ok();
    env.line(&format!("{line} --hf-config untied")).failed(1, &["lacks `lm_head.weight`"]);
    env.line(&format!("{line} --hf-config untied --tie-word-embeddings true"))
        .failed(1, &["tie_word_embeddings: false"]);
    // Among ranks it is asked too: a file that was cut before the head looks the same.
    let line = "-f distributed_weight_transfer -p keep -w 2 -sc src -dc out -is st --no-sync";
    env.line(line).failed(1, &["no `lm_head.weight`", "--tie-word-embeddings true"]);
    env.line(&format!("{line} --tie-word-embeddings true")).ok();
}

/// Meta's params.json never says it: llama 3.2 1B and 3B are tied, the larger ones are not.
#[test]
fn a_release_of_metas_without_a_head_is_asked_for_it() {
    let env = TestEnv::new();
    let run = |more: &[&str]| {
        let line = ["-f", "pt_to_ms", "-p", "keep", "-w", "2", "-dc", "out", "-is", "st", "--no-sync", "--overwrite"];
        let mut command = env.command(&line);
        command.args(["--ignore", "output.weight", "-sc"]).arg(data("torch/models/meta_llama_bf16_1shard")).args(more);
        Run::of(&mut command)
    };
    run(&[]).failed(1, &["no `lm_head.weight`", "--tie-word-embeddings true"]);
    run(&["--tie-word-embeddings", "false"]).failed(1, &["lacks `lm_head.weight`"]);
    // As the hint says.
    run(&["--tie-word-embeddings", "true"]).ok();
    assert!(!has_head(&env.path("out/keep_2p")));
}

/// What `torch.compile` puts before every name is the trouble, not the head.
#[test]
fn names_that_are_not_known_are_named_before_anything_is_asked() {
    let env = TestEnv::new();
    let mut tensors = headless("model.");
    for tensor in &mut tensors {
        tensor.name = format!("_orig_mod.{}", tensor.name);
    }
    env.write("hf/model.safetensors", write_safetensors(&tensors));
    let run = env.line(LINE);
    run.failed(1, &["_orig_mod.model.embed_tokens.weight", "only what is no part of the model"]);
    assert!(!run.stderr.contains("-ss") && !run.stderr.contains("lm_head"), "{run:#?}");
}
