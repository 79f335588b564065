//! Model families: those that are listed, their files, and a user's own.

use std::path::Path;

use serde_json::Value;

use crate::support::{Llama, Sharding, Tensor, TestEnv, read_ranks, read_tensors, write_safetensors};

const MINE: &str = "family: mine\nextends: llama\nmodel_types: [mine]\n";

fn model(env: &TestEnv) {
    let model = Llama::small();
    model.write(&env.path("src"), Sharding { ranks: 2, fusion: None, vocabulary_whole: false }, "ckpt");
    env.write("model.yaml", model.yaml(false, false));
}

#[test]
fn the_families_are_listed_as_text_and_as_json() {
    let env = TestEnv::new();
    let text = env.line("families").ok().stdout;
    assert!(text.starts_with("family  "), "{text}");
    for row in ["llama      llama, mistral, Yi  ", "qwen3_moe  qwen3_moe ", "mixtral    mixtral "] {
        assert!(text.contains(&format!("\n{row}")), "{text}");
    }
    assert!(!text.contains("decoder"), "no model is of a base: {text}");
    let json: serde_json::Value = serde_json::from_str(&env.line("families --json").ok().stdout).unwrap();
    let of = |name: &str| json.as_array().unwrap().iter().find(|row| row["family"] == name).unwrap();
    assert_eq!(of("llama")["model_types"], serde_json::json!(["llama", "mistral", "Yi"]));
    assert_eq!(of("glm4")["schemes"], serde_json::json!(["hf", "mcore/split"]), "those that name every parameter");
    assert_eq!(of("qwen3")["file"], serde_json::Value::Null);
    env.write("mine.yaml", MINE);
    let text = env.line("families --family mine.yaml").ok().stdout;
    assert!(text.lines().last().unwrap().starts_with("mine ") && text.ends_with("  mine.yaml\n"), "{text}");
    let json: serde_json::Value =
        serde_json::from_str(&env.line("families --family mine.yaml --json").ok().stdout).unwrap();
    assert_eq!(json.as_array().unwrap().last().unwrap()["file"], "mine.yaml");
}

#[test]
fn a_family_that_is_shown_can_be_given_back() {
    let env = TestEnv::new();
    for name in ["decoder", "dense", "experts", "llama", "qwen2", "qwen3", "qwen3_moe", "glm4", "mixtral", "baichuan2"]
    {
        let shown = env.line(&format!("families show {name}")).ok().stdout;
        env.write("shown.yaml", &shown);
        let run = env.line("families --family shown.yaml").ok();
        assert_eq!(run.stderr, format!("note: the family {name} is that of shown.yaml, not the built-in one\n"));
        assert_eq!(
            env.line(&format!("families show {name} --family shown.yaml")).stdout.matches("# Extends: ").count(),
            { 2 * usize::from(name != "decoder") }
        );
    }
    assert!(
        env.line("families show qwen3")
            .ok()
            .stdout
            .ends_with("# Extends: dense, decoder. `ckpt-convert families show` prints them too.\n")
    );
    // A file may extend one before it.
    env.write("mine.yaml", MINE);
    env.write("more.yaml", "family: more\nextends: mine\nmodel_types: [more]\n");
    let shown = env.line("families show more --family mine.yaml --family more.yaml").ok().stdout;
    assert!(shown.contains("# Extends: mine, llama, dense, decoder."), "{shown}");
    env.line("families --family more.yaml --family mine.yaml").failed(1, &["more.yaml`, line 2: it extends `mine`"]);
    env.line("families show nobody").failed(1, &["there is no family `nobody`; there are ", "qwen3"]);
}

#[test]
fn what_is_wrong_with_a_family_file_is_said_line_by_line_by_every_command() {
    let env = TestEnv::new();
    model(&env);
    env.write(
        "broken.yaml",
        "family: broken\nextends: dense\nparams:\n  layer:\n    gate: {dims: [[Ffn]], cut: Hidden}\n    up: {}\n",
    );
    let commands = [
        "-f distributed_weight_transfer -p keep -w 4 -y model.yaml -sc src -dc out -is st --no-sync",
        "n-to-m -w 4 -y model.yaml -sc src -dc out -is st --no-sync",
        "doctor src",
        "verify src src",
        "inspect src",
        "strategy from-yaml -w 2 model.yaml s.ckpt",
        "families",
        "families show llama",
    ];
    let before = env.tree();
    for command in commands {
        let line = match command {
            "strategy from-yaml -w 2 model.yaml s.ckpt" => {
                "strategy from-yaml --family broken.yaml -w 2 model.yaml s.ckpt".to_owned()
            }
            other => format!("{other} --family broken.yaml"),
        };
        let run = env.line(&line);
        let said = [
            "error: the family file `broken.yaml`, line 5: params gate: it is cut over Hidden, which is none of its axes\n",
            "error: the family file `broken.yaml`, line 6: params up: `dims` is missing\n",
            "hint: `ckpt-convert families show NAME`",
        ];
        run.failed(if command.starts_with("verify") { 2 } else { 1 }, &said);
        env.line(&line.replace("broken.yaml", "none.yaml"))
            .failed(if command.starts_with("verify") { 2 } else { 1 }, &["none.yaml"]);
    }
    assert_eq!(env.tree(), before);
    env.write("gbk.yaml", b"family: a\n# \xc4\xe3\n");
    env.line("families --family gbk.yaml").failed(1, &["gbk.yaml` is not readable: line 2 is not UTF-8"]);
    env.write("twice.yaml", "family: twice\nextends: dense\nmodel_types: [qwen3]\n");
    env.line("families --family twice.yaml").failed(1, &["the model type `qwen3` is that of the family `qwen3` too"]);
}

/// What the target is of depends on the families that were known, so the manifest has them.
#[test]
fn the_manifest_says_which_family_files_were_given() {
    let env = TestEnv::new();
    model(&env);
    env.write("mine.yaml", MINE);
    env.line(
        "-f distributed_weight_transfer -p keep -w 1 -y model.yaml -sc src -dc out -is st --no-sync --family mine.yaml",
    )
    .ok();
    let manifest = std::fs::read(env.path("out/keep_1p/manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let families = &manifest["options"]["families"];
    assert_eq!((&families[0]["file"], &families[0]["family"]), (&"mine.yaml".into(), &"mine".into()), "{manifest:#}");
    assert_eq!(families[0]["sha256"].as_str().unwrap().len(), 64);
}

/// A small model of transformers' with values of its own in every element, as a Hugging Face directory.
fn published(env: &TestEnv, case: &str, dir: &str) -> Vec<Tensor> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/models/shapes/{case}.json"));
    let json: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let mut next = 0u16;
    let tensor = |(name, dims): (&String, &Value)| {
        let dims: Vec<u64> = dims.as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect();
        let mut bytes = Vec::new();
        for _ in 0..dims.iter().product::<u64>() {
            // Finite halves only.
            bytes.extend((next & 0x3bff).to_le_bytes());
            next = next.wrapping_add(7);
        }
        Tensor { name: name.clone(), dtype: "Float16".to_owned(), dims, bytes }
    };
    let tensors: Vec<Tensor> = json["shapes"].as_object().unwrap().iter().map(tensor).collect();
    env.write(&format!("{dir}/config.json"), json["config"].to_string());
    env.write(&format!("{dir}/model.safetensors"), write_safetensors(&tensors));
    tensors
}

fn sorted(mut tensors: Vec<Tensor>) -> Vec<Tensor> {
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    tensors
}

fn written(env: &TestEnv, dir: &str) -> Vec<Tensor> {
    sorted(read_tensors(&env.path(dir).join("model.safetensors")))
}

#[test]
fn a_model_of_every_family_becomes_ranks_and_itself_again() {
    let env = TestEnv::new();
    for case in ["llama", "mistral", "qwen2", "qwen3", "glm4", "qwen3_moe-v4"] {
        let own = sorted(published(&env, case, &format!("{case}/hf")));
        for ranks in [1, 2] {
            let out = format!("{case}/{ranks}");
            let line = format!("-f pt_to_ms -p keep -w {ranks} -sc {case}/hf -dc {out} -is {out}_st --no-sync");
            env.line(&line).ok();
            let source = format!("{out}/keep_{ranks}p");
            let line = format!("-f ms_to_pt -p keep -sc {source} --hf-config {case}/hf -dc {out}/back --no-sync");
            env.line(&line).ok();
            assert_eq!(written(&env, &format!("{out}/back/keep_hf")), own, "{case}");
        }
        // The configuration alone says what it is, and so do the names.
        std::fs::remove_file(env.path(&format!("{case}/hf/config.json"))).unwrap();
        env.line(&format!("inspect {case}/hf")).ok();
    }
}

#[test]
fn the_first_releases_of_yi_name_the_norms_of_a_layer_otherwise() {
    let env = TestEnv::new();
    let tensors = published(&env, "llama", "llama");
    let renamed = tensors.into_iter().map(|tensor| {
        let name = tensor.name.replace("input_layernorm", "ln1").replace("post_attention_layernorm", "ln2");
        Tensor { name, ..tensor }
    });
    env.write("yi/model.safetensors", write_safetensors(&renamed.collect::<Vec<_>>()));
    let config = std::fs::read_to_string(env.path("llama/config.json")).unwrap();
    env.write("yi/config.json", config.replace("\"llama\"", "\"Yi\""));
    for dir in ["yi", "llama"] {
        env.line(&format!("-f pt_to_ms -p keep -w 2 -sc {dir} -dc {dir}_out -is {dir}_st --no-sync")).ok();
    }
    let ranks = |dir: &str| read_ranks(&env.path(dir).join("keep_2p"), 2, "ckpt");
    assert_eq!(ranks("yi_out"), ranks("llama_out"));
    // Its names say so, too.
    std::fs::remove_file(env.path("yi/config.json")).unwrap();
    assert!(env.line("inspect yi").ok().stdout.contains("model.layers.1.ln2.weight"));
}

const PHI3: &str = "
family: phi3
extends: dense
model_types: [phi3]
schemes:
  hf:
    extends: [hf-top]
    names:
      \"model.layers.{l}.\":
        self_attn.qkv_proj.weight: {join: [q, k, v]}
        mlp.gate_up_proj.weight: {join: [gate, up]}
        mlp.down_proj.weight: down
";

#[test]
fn a_family_of_the_users_is_read_and_written() {
    let env = TestEnv::new();
    let own = sorted(published(&env, "llama", "llama"));
    env.write("phi3.yaml", PHI3);
    let config = std::fs::read_to_string(env.path("llama/config.json")).unwrap();
    env.write("phi3/config.json", config.replace("\"model_type\":\"llama\"", "\"model_type\":\"phi3\""));
    env.line("-f pt_to_ms -p keep -w 2 -sc llama -dc out -is st --no-sync").ok();
    let unknown = "-f ms_to_pt -p keep -sc out/keep_2p --hf-config phi3 -dc back --no-sync";
    env.line(unknown).failed(1, &["of type `phi3`; known are ", "qwen3_moe"]);
    env.line(&format!("{unknown} --family phi3.yaml")).ok();
    let written = written(&env, "back/keep_hf");
    let of = |tensors: &[Tensor], name: &str| tensors.iter().find(|t| t.name == name).unwrap().bytes.clone();
    let layer = |name: &str| of(&own, &format!("model.layers.1.{name}.weight"));
    let parts = ["q", "k", "v"].map(|part| layer(&format!("self_attn.{part}_proj"))).concat();
    assert_eq!(of(&written, "model.layers.1.self_attn.qkv_proj.weight"), parts);
    let parts = ["gate", "up"].map(|part| layer(&format!("mlp.{part}_proj"))).concat();
    assert_eq!(of(&written, "model.layers.1.mlp.gate_up_proj.weight"), parts);
    env.line("-f pt_to_ms -p keep -w 2 -sc back/keep_hf -dc again -is st2 --no-sync").failed(1, &["of type `phi3`"]);
    let run = env.line("-f pt_to_ms -p keep -w 2 -sc back/keep_hf -dc again -is st2 --no-sync --family phi3.yaml").ok();
    assert!(!run.stderr.contains("built-in"), "{run:#?}");
    let ranks = |dir: &str| read_ranks(&env.path(dir).join("keep_2p"), 2, "ckpt");
    assert_eq!(ranks("out"), ranks("again"));
}

/// Two families that have the same names for other parameters: nothing but a configuration can say which it is.
#[test]
fn names_that_two_families_have_alike_are_an_error_with_both() {
    let env = TestEnv::new();
    published(&env, "llama", "llama");
    env.write(
        "swapped.yaml",
        "family: swapped\nextends: dense\nmodel_types: [swapped]\nschemes:\n  hf:\n    extends: [hf]\n    names:\n      \
         \"model.layers.{l}.mlp.\": {gate_proj.weight: up, up_proj.weight: gate}\n",
    );
    let line = "-f pt_to_ms -p keep -w 1 -sc llama -dc out -is st --no-sync --family swapped.yaml";
    env.line(line).ok();
    std::fs::remove_file(env.path("llama/config.json")).unwrap();
    env.line(&format!("{line} --overwrite"))
        .failed(1, &["llama (hf) as of swapped (hf)", "a config.json would say which"]);
}

/// llama as a network has it whose key/value heads are on several ranks where there are more ranks than heads.
const ALIKE: &str = "\
family: llama
extends: llama
usual: true
model_types: [llama]
architectures: [LlamaForCausalLM]
replicated: [KvHead]
params:
  layer:
    q: {dims: [[KvHead, Query, Half, Pair], [Hidden]], cut: [KvHead, Query]}
    o: {dims: [[Hidden], [KvHead, Query, HeadDim]], cut: [KvHead, Query]}
";

#[test]
fn a_family_may_have_key_value_heads_on_several_ranks() {
    let env = TestEnv::new();
    let model = Llama { kv_heads: 2, rep: 4, ..Llama::small() };
    model.write(&env.path("src"), Sharding { ranks: 1, fusion: None, vocabulary_whole: false }, "safetensors");
    env.write("model.yaml", model.yaml(false, false));
    env.write("alike.yaml", ALIKE);
    let transfer = "-f distributed_weight_transfer -p keep -y model.yaml --no-sync";
    env.line(&format!("{transfer} -w 8 -sc src -dc out -is st")).failed(1, &["8 ranks do not divide the 2 kv heads"]);
    let transfer = format!("{transfer} --family alike.yaml");
    for (fusion, fused) in [("rank-concat", false), ("rank-concat", true), ("grouped", true)] {
        env.write("model.yaml", model.yaml(fused, false));
        let name = format!("{fusion}_{fused}");
        let order = if fused { format!("--dst-fusion {fusion}") } else { String::new() };
        env.line(&format!("{transfer} {order} -w 8 -sc src -dc {name} -is {name}_st")).ok();
        let there = format!("{name}/keep_8p{}", if fused { "_qkv" } else { "" });
        let full = read_ranks(&env.path("src"), 1, "safetensors").remove(0);
        let ranks = read_ranks(&env.path(&there), 8, "safetensors");
        for (rank, held) in ranks.iter().enumerate() {
            let rows = |name: &str, start: usize, count: usize| {
                let whole = &full[&format!("model.layers.0.attention.{name}.weight")];
                let row = whole.bytes.len() / usize::try_from(whole.dims[0]).unwrap();
                whole.bytes[start * row..][..count * row].to_vec()
            };
            let kv = rank / 4 * 2;
            let [q, k, v] = [rows("wq", rank * 2, 2), rows("wk", kv, 2), rows("wv", kv, 2)];
            if fused {
                // A rank has rows of one group, so that both orders are the same.
                assert_eq!(held["model.layers.0.attention.w_qkv.weight"].bytes, [q, k, v].concat(), "{name} {rank}");
            } else {
                assert_eq!(held["model.layers.0.attention.wq.weight"].bytes, q, "{rank}");
                assert_eq!(held["model.layers.0.attention.wk.weight"].bytes, k, "{rank}");
                assert_eq!(held["model.layers.0.attention.wv.weight"].bytes, v, "{rank}");
            }
        }
        let back = format!("{transfer} -w 1 -sc {there}");
        env.write("model.yaml", model.yaml(false, false));
        env.line(&format!("{back} -dc back_{name} -is back_{name}_st")).ok();
        let back_dir = env.path(&format!("back_{name}/keep_1p"));
        assert_eq!(read_ranks(&back_dir, 1, "safetensors"), [full.clone()]);
        // What is on several ranks must be the same on each.
        let path = env.path(&format!("{there}/rank_2/checkpoint_2.safetensors"));
        let mut tensors = read_tensors(&path);
        let weight = if fused { "w_qkv" } else { "wk" };
        let changed = tensors.iter_mut().find(|tensor| tensor.name.ends_with(&format!("{weight}.weight"))).unwrap();
        *changed.bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, write_safetensors(&tensors)).unwrap();
        // It lists the sizes of the files.
        std::fs::remove_file(env.path(&format!("{there}/manifest.json"))).unwrap();
        env.line(&format!("{back} -dc torn -is torn_st")).failed(1, &[&changed_name(weight), "rank_2"]);
    }
    // The shapes do not show which heads are the same.
    let line = "-f distributed_weight_transfer -p keep -is guessed_st --no-sync --family alike.yaml -w 1 -sc rank-concat_false/keep_8p";
    env.line(&format!("{line} -dc guessed"))
        .failed(1, &["several ranks may hold the same of a llama model", "name the model with -y"]);
}

fn changed_name(weight: &str) -> String {
    format!("model.layers.0.attention.{weight}.weight")
}
