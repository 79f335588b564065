//! The files beside the tensors: a `config.json` that says something else than the ranks, code, pointers and links.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{Fusion, Llama, Run, Sharding, Tensor, TestEnv, data, read_safetensors, write_ckpt};

const POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 499723\n";

/// A configuration as people write it: fields that nobody here reads, numbers in odd forms, a nested one.
fn config(more: &str) -> String {
    format!(
        "{{\n  \"architectures\": [\"LlamaForCausalLM\"],\n  \"text_config\": {{\"torch_dtype\": \"bfloat16\", \"tie_word_embeddings\": true}},\n  \
         \"model_type\": \"llama\",\n  \"hidden_size\": 32,\n  \"num_hidden_layers\": 1,\n  \"num_attention_heads\": 16,\n  \
         \"num_key_value_heads\": 8,\n  \"intermediate_size\": 48,\n  \"vocab_size\": 24,\n  \"rms_norm_eps\": 1.00e-05,\n{more}  \
         \"rope_scaling\": null\n}}\n"
    )
}

/// The ranks of a model whose `lm_head` is what `head` makes of its own and of the embedding.
fn ranks(env: &TestEnv, head: Option<fn(Tensor, &Tensor) -> Tensor>) {
    let model = Llama::small();
    let mut full = model.full();
    let of = |name: &str| full.iter().position(|t| t.name == name).expect("a parameter");
    let (at, embedding) = (of("lm_head.weight"), full[of("model.tok_embeddings.embedding_weight")].clone());
    let own = full.remove(at);
    full.extend(head.map(|head| head(own, &embedding)));
    for rank in 0..2 {
        let sharding = Sharding { ranks: 2, fusion: Some(Fusion::RankConcat), vocabulary_whole: false };
        env.write(&format!("src/rank_{rank}/checkpoint_{rank}.ckpt"), write_ckpt(&model.rank(&full, rank, sharding)));
    }
}

fn own(head: Tensor, _: &Tensor) -> Tensor {
    head
}

fn equal(head: Tensor, embedding: &Tensor) -> Tensor {
    Tensor { bytes: embedding.bytes.clone(), ..head }
}

/// Equal but for the last bit of the last element.
fn nearly(head: Tensor, embedding: &Tensor) -> Tensor {
    let mut bytes = embedding.bytes.clone();
    *bytes.last_mut().expect("bytes") ^= 1;
    Tensor { bytes, ..head }
}

fn model(dir: &Path) -> Vec<Tensor> {
    read_safetensors(&std::fs::read(dir.join("model.safetensors")).expect("a file"))
}

/// What is written of a model whose configuration ties `lm_head`: nothing is lost, whatever the ranks hold.
#[test]
fn a_trained_head_survives_a_configuration_that_ties_it() {
    for (head, written) in [(own as fn(Tensor, &Tensor) -> Tensor, true), (nearly, true), (equal, false)] {
        let env = TestEnv::new();
        ranks(&env, Some(head));
        let text = config("  \"tie_word_embeddings\" : true,\n");
        env.write("hf/config.json", &text);
        let line = "-f ms_to_pt -p fp16 -sc src --hf-config hf -dc out --no-sync";
        let dry = env.line(&format!("{line} --dry-run")).ok();
        let run = env.line(line).ok();
        let tensors = model(&env.path("out/fp16_hf"));
        assert_eq!(tensors.iter().any(|t| t.name == "lm_head.weight"), written);
        let wanted = if written { text.replace("\" : true", "\" : false") } else { text };
        assert_eq!(std::fs::read_to_string(env.path("out/fp16_hf/config.json")).expect("a file"), wanted);
        let said = if written { "lm_head.weight differs" } else { "it is left out" };
        let says = |run: &Run| format!("{}{}", run.stderr, run.stdout).contains(said);
        assert!(says(&dry) && says(&run), "{dry:#?} {run:#?}");
        let change = "`tie_word_embeddings` in config.json: false (it was true;";
        assert_eq!((dry.stdout.contains(change), run.stdout.contains(change)), (written, written));
    }
}

/// No `lm_head`, and a configuration that does not tie: a whole model only where the yaml says that it shares the embedding.
#[test]
fn a_missing_head_under_a_configuration_that_does_not_tie_it_is_refused_or_said() {
    for field in ["", "  \"tie_word_embeddings\": false,\n"] {
        let env = TestEnv::new();
        ranks(&env, None);
        env.write("hf/config.json", config(field));
        let before = env.tree();
        let line = "-f ms_to_pt -p fp16 -sc src --hf-config hf -dc out --no-sync";
        env.line(line).failed(1, &["lacks `lm_head.weight`", "config.json", "hint: ", "-y"]);
        assert_eq!(env.tree(), before);
        let yaml = Llama::small().yaml(true, false);
        let yaml = yaml.replace("  model_config:\n", "  model_config:\n    tie_word_embeddings: True\n");
        env.write("tied.yaml", yaml);
        env.line(&format!("{line} -y tied.yaml")).ok();
        let written = std::fs::read_to_string(env.path("out/fp16_hf/config.json")).expect("a file");
        let json: Value = serde_json::from_str(&written).expect("JSON");
        assert_eq!(json["tie_word_embeddings"], true, "{written}");
        let unchanged: Vec<&str> =
            written.lines().filter(|line| !line.contains("\"tie_word_embeddings\": true\n")).collect();
        assert!(unchanged.contains(&"  \"rms_norm_eps\": 1.00e-05,"), "{written}");
    }
}

#[test]
fn the_configuration_says_the_dtype_that_was_written() {
    for (precision, field, said, wanted) in [
        ("fp16", "torch_dtype", "bfloat16", "float16"),
        ("fp32", "dtype", "float16", "float32"),
        ("bf16", "dtype", "float16", "bfloat16"),
        ("keep", "torch_dtype", "bfloat16", "float16"),
        ("keep", "torch_dtype", "float16", "float16"),
    ] {
        let env = TestEnv::new();
        ranks(&env, Some(own));
        let text = config(&format!("  \"{field}\":   \"{said}\",\n"));
        env.write("hf/config.json", &text);
        let line = format!("-f ms_to_pt -p {precision} -sc src --hf-config hf -dc out --no-sync --norm-dtype fp32");
        let dry = env.line(&format!("{line} --dry-run --json")).ok().json();
        let run = env.line(&line).ok();
        let path = env.path(&format!("out/{precision}_hf/config.json"));
        let written = std::fs::read_to_string(path).expect("a file");
        assert_eq!(written, text.replace(&format!("   \"{said}\""), &format!("   \"{wanted}\"")), "{precision}");
        let change = format!("`{field}` in config.json: \"{wanted}\" (it was \"{said}\")");
        assert_eq!(run.stdout.contains(&change), said != wanted, "{run:#?}");
        assert_eq!(dry["choices"].to_string().contains("it was"), said != wanted, "{dry}");
    }
}

/// Weights of two dtypes have no one dtype to be said.
#[test]
fn the_dtype_of_mixed_weights_is_left_and_that_is_said() {
    let env = TestEnv::new();
    let mut tensors = Llama::small().full();
    let head = tensors.iter_mut().find(|t| t.name == "lm_head.weight").expect("a head");
    head.dtype = "Float32".to_owned();
    head.bytes = head.bytes.chunks(2).flat_map(|half| [0, 0, half[0], half[1]]).collect();
    env.write("src/rank_0/checkpoint_0.ckpt", write_ckpt(&tensors));
    let text = config("  \"torch_dtype\": \"bfloat16\",\n");
    env.write("hf/config.json", &text);
    let run = env.line("-f ms_to_pt -p keep -sc src --hf-config hf -dc out --no-sync").ok();
    assert!(run.stderr.contains("several dtypes"), "{run:#?}");
    assert_eq!(std::fs::read_to_string(env.path("out/keep_hf/config.json")).expect("a file"), text);
}

/// A configuration of another model is no way to strip a model's biases.
#[test]
fn biases_that_the_configurations_model_has_not_are_refused_by_its_name() {
    let env = TestEnv::new();
    let model = Llama { bias: true, ..Llama::small() };
    model.write(&env.path("src"), Sharding { ranks: 1, fusion: None, vocabulary_whole: false }, "ckpt");
    env.write("hf/config.json", config(""));
    let run = env.line("-f ms_to_pt -p fp16 -sc src --hf-config hf -dc out --no-sync");
    run.failed(1, &["llama has no parameters for", "attention.wk.bias", "hint: ", "--hf-config"]);
    assert!(!run.stderr.contains("--ignore"), "{run:#?}");
}

/// A copy of a small Hugging Face model, to which files may be added.
fn hugging_face(env: &TestEnv, place: &str) -> PathBuf {
    let from = data("torch/models/hf_llama_gqa_bf16_safetensors");
    for name in ["config.json", "model.safetensors"] {
        env.write(&format!("{place}/{name}"), std::fs::read(from.join(name)).expect("a fixture"));
    }
    env.path(place)
}

#[test]
fn the_code_that_auto_map_names_comes_along_both_ways() {
    let env = TestEnv::new();
    let dir = hugging_face(&env, "hf");
    let text = std::fs::read_to_string(dir.join("config.json")).expect("a file");
    let map = "{\n  \"auto_map\": {\"AutoConfig\": \"conf_x.Conf\", \"AutoModel\": \"model_x.Model\", \"AutoThing\": \"org/repo--far.Far\"},";
    env.write("hf/config.json", text.replacen('{', map, 1));
    env.write("hf/tokenizer_config.json", r#"{"auto_map": {"AutoTokenizer": ["tok_x.Tok", null]}}"#);
    env.write("hf/conf_x.py", "class Conf: pass\n");
    env.write("hf/model_x.py", "from .conf_x import Conf\n    from .quant_x import (\n");
    env.write("hf/quant_x.py", "import os\n");
    env.write("hf/other.py", "print('not named')\n");
    let said = env.line("-f pt_to_ms -p keep -w 2 -sc hf -dc ranks -is st --no-sync").ok();
    assert!(said.stderr.contains("tokenizer_config.json names tok_x.py, which is not beside it"), "{said:#?}");
    let back = "-f ms_to_pt -p keep -sc ranks/keep_2p -dc back --no-sync";
    env.line(back).ok();
    for place in ["ranks/keep_2p", "back/keep_hf"] {
        for name in ["conf_x.py", "model_x.py", "quant_x.py", "tokenizer_config.json"] {
            let carried = std::fs::read(env.path(place).join(name)).unwrap_or_else(|e| panic!("{place}/{name}: {e}"));
            assert_eq!(carried, std::fs::read(env.path("hf").join(name)).expect("a file"), "{name}");
        }
        for name in ["other.py", "tok_x.py", "far.py"] {
            assert!(!env.path(place).join(name).exists(), "{place}/{name}");
        }
    }
    // Code in the target does not make it somebody else's.
    env.line(&format!("{back} --overwrite")).ok();
}

#[test]
fn a_path_in_auto_map_carries_nothing() {
    let env = TestEnv::new();
    let dir = hugging_face(&env, "in/hf");
    env.write("in/secret.py", "secret = 1\n");
    let text = std::fs::read_to_string(dir.join("config.json")).expect("a file");
    env.write("in/hf/config.json", text.replacen('{', "{\"auto_map\": {\"AutoConfig\": \"../secret.Conf\"},", 1));
    let said = env.line("-f pt_to_ms -p keep -w 2 -sc in/hf -dc ranks -is st --no-sync").ok();
    assert!(said.stderr.contains("config.json names ../secret.py"), "{said:#?}");
    let copied: Vec<_> = env.tree().into_keys().filter(|path| path.ends_with("secret.py")).collect();
    assert_eq!(copied, [PathBuf::from("in/secret.py")]);
}

/// What `git clone` leaves without git-lfs is no tokenizer. The hint, followed, gives a model.
#[test]
fn a_tokenizer_that_git_lfs_did_not_fetch_is_refused_before_anything_is_written() {
    let env = TestEnv::new();
    hugging_face(&env, "hf");
    env.write("hf/tokenizer.model", POINTER);
    let before = env.tree();
    let line = "-f pt_to_ms -p keep -w 2 -sc hf -dc ranks -is st --no-sync";
    let said = [
        "hf/tokenizer.model",
        "Git LFS pointer",
        "499723 bytes",
        "hint: run `git lfs pull`",
        "--ignore tokenizer.model",
    ];
    for more in ["", " --dry-run"] {
        env.line(&format!("{line}{more}")).failed(1, &said);
        assert_eq!(env.tree(), before);
    }
    env.line(&format!("{line} --ignore tokenizer.model")).ok();
    assert!(!env.path("ranks/keep_2p/tokenizer.model").exists());
    // The way back, from a directory beside the ranks.
    env.line("-f ms_to_pt -p keep -sc ranks/keep_2p --hf-config hf -dc back --no-sync").failed(1, &said);
    // A configuration cannot be left out.
    env.write("hf/config.json", POINTER);
    let run = env.line("-f ms_to_pt -p keep -sc ranks/keep_2p --hf-config hf -dc back --no-sync");
    run.failed(1, &["hf/config.json is a Git LFS pointer", "hint: run `git lfs pull`"]);
    assert!(!run.stderr.contains("--ignore config.json"), "{run:#?}");
}

/// A link in a model directory can lead anywhere that the user may read.
#[test]
fn a_link_out_of_the_model_is_not_followed() {
    let env = TestEnv::new();
    hugging_face(&env, "hf");
    let secret = env.write("elsewhere/shadow", "root:secret\n");
    symlink("../elsewhere/shadow", env.path("hf/tokenizer.model")).expect("a link");
    let before = env.tree();
    let line = "-f pt_to_ms -p keep -w 2 -sc hf -dc ranks -is st --no-sync";
    env.line(line).failed(1, &["hf/tokenizer.model is a link to", "shadow", "hint: ", "--ignore tokenizer.model"]);
    assert_eq!(env.tree(), before);
    // Links within the directory, and those of Hugging Face's cache.
    std::fs::remove_file(env.path("hf/tokenizer.model")).expect("removed");
    env.write("hf/pieces", std::fs::read(&secret).expect("a file"));
    symlink("pieces", env.path("hf/tokenizer.model")).expect("a link");
    env.line(line).ok();
    assert_eq!(std::fs::read(env.path("ranks/keep_2p/tokenizer.model")).expect("carried"), b"root:secret\n");
    let snapshot = hugging_face(&env, "models--x/snapshots/1f");
    for name in ["config.json", "model.safetensors"] {
        let content = std::fs::read(snapshot.join(name)).expect("a file");
        env.write(&format!("models--x/blobs/{}", name.len()), content);
        std::fs::remove_file(snapshot.join(name)).expect("removed");
        symlink(format!("../../blobs/{}", name.len()), snapshot.join(name)).expect("a link");
    }
    env.line("-f pt_to_ms -p keep -w 2 -sc models--x/snapshots/1f -dc cached -is st2 --no-sync").ok();
    assert!(env.path("cached/keep_2p/config.json").symlink_metadata().expect("carried").is_file());
}

/// What is carried along is held in memory, so all of it together has a bound.
#[test]
fn carried_files_are_bounded_together() {
    let env = TestEnv::new();
    hugging_face(&env, "hf");
    for number in 0..3 {
        let path = env.write(&format!("hf/tokenizer_{number}.bin"), b"");
        let file = std::fs::OpenOptions::new().write(true).open(path).expect("a file");
        file.set_len(60 << 20).expect("a length");
    }
    let line = "-f pt_to_ms -p keep -w 2 -sc hf -dc ranks -is st --no-sync";
    env.line(line).failed(1, &["tokenizer_2.bin has 62914560 bytes", "together", "hint: ", "--ignore tokenizer_2.bin"]);
    env.line(&format!("{line} --ignore tokenizer_*.bin")).ok();
}
