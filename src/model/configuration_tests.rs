//! Configurations as they are published, as they should not be, and as an attacker would write them.

use super::super::builtin::builtin;
use super::*;

const LLAMA: &str = r#""model_type":"llama","hidden_size":64,"num_attention_heads":4,"num_hidden_layers":2,
    "intermediate_size":160,"vocab_size":96"#;

/// The llama configuration with other fields before it.
fn with(fields: &str) -> Result<Model, SpecError> {
    from_config_json(format!("{{{fields},{LLAMA}}}").as_bytes())
}

/// The llama configuration with one of its fields written otherwise.
fn instead(of: &str, text: &str) -> Result<Model, SpecError> {
    assert!(LLAMA.contains(of));
    from_config_json(format!("{{{}}}", LLAMA.replace(of, text)).as_bytes())
}

#[test]
fn published_configurations_give_the_built_in_models() {
    // Fields as on the hub; what this program does not read is left out.
    let published = [
        (
            "llama2_13b",
            r#"{"model_type":"llama","hidden_size":5120,"num_attention_heads":40,"num_hidden_layers":40,
            "num_key_value_heads":40,"intermediate_size":13824,"vocab_size":32000,"torch_dtype":"float16",
            "tie_word_embeddings":false,"rope_scaling":null,"pretraining_tp":1}"#,
            "llama",
        ),
        (
            "llama3_8b",
            r#"{"architectures":["LlamaForCausalLM"],"attention_bias":false,"hidden_size":4096,"intermediate_size":14336,
            "model_type":"llama","num_attention_heads":32,"num_hidden_layers":32,"num_key_value_heads":8,
            "tie_word_embeddings":false,"torch_dtype":"bfloat16","vocab_size":128256,"rope_theta":500000.0}"#,
            "llama",
        ),
        (
            "qwen2_7b",
            r#"{"hidden_size":3584,"intermediate_size":18944,"model_type":"qwen2","num_attention_heads":28,
            "num_hidden_layers":28,"num_key_value_heads":4,"sliding_window":131072,"tie_word_embeddings":false,
            "torch_dtype":"bfloat16","use_sliding_window":false,"vocab_size":152064}"#,
            "qwen2",
        ),
    ];
    for (name, json, family) in published {
        let model = from_config_json(json.as_bytes()).unwrap();
        assert_eq!(model.family().name, family, "{name}");
        assert_eq!(Some(model), builtin(name), "{name}");
    }
}

#[test]
fn absent_and_null_fields_have_transformers_defaults() {
    let model = with(r#""num_key_value_heads":null,"head_dim":null,"dtype":"bfloat16""#).unwrap();
    assert_eq!((model.kv_heads(), model.head_dim(), model.tied(), model.qkv_bias()), (4, 16, false, false));
    assert_eq!((model.fused, model.vocabulary_whole), (None, false), "a config.json is of no network of mindformers'");
    let model = with(r#""num_key_value_heads":2,"head_dim":32,"tie_word_embeddings":true,"dtype":null"#).unwrap();
    assert_eq!((model.kv_heads(), model.head_dim(), model.query_rows()), (2, 32, 128), "as Mistral Nemo has it");
    assert!(model.tied());
}

#[test]
fn every_known_type_has_its_family_and_others_are_refused_with_the_list() {
    for (name, family) in [
        ("mistral", "llama"),
        ("Yi", "llama"),
        ("qwen2", "qwen2"),
        ("baichuan", "baichuan2"),
        ("internlm2", "internlm2"),
    ] {
        let model = instead("\"llama\"", &format!("{name:?}")).unwrap();
        assert_eq!((model.family().name.as_str(), model.qkv_bias()), (family, family == "qwen2"), "{name}");
    }
    let error = instead("\"llama\"", "\"gemma3\"").unwrap_err().to_string();
    assert!(error.contains("gemma3") && error.contains("internlm2"), "{error}");
    assert_eq!(instead("\"model_type\"", "\"type\"").unwrap_err(), SpecError::Missing("model_type".to_owned()));
}

#[test]
fn what_the_network_has_no_place_for_is_refused_by_name() {
    for (field, why) in [
        (r#""attention_bias":true"#, "output projection"),
        (r#""mlp_bias":true"#, "feed-forward"),
        (r#""quantization_config":{"quant_method":"gptq"}"#, "quantised"),
        (r#""num_local_experts":8"#, "mixture of experts"),
        (r#""n_routed_experts":64"#, "mixture of experts"),
        (r#""kv_lora_rank":512"#, "latent attention"),
    ] {
        let error = with(field).unwrap_err().to_string();
        let name = field.split('"').nth(1).unwrap();
        assert!(error.contains(name) && error.contains(why), "{error}");
    }
    let internlm = LLAMA.replace("\"llama\"", "\"internlm2\"");
    let error = from_config_json(format!("{{\"bias\":true,{internlm}}}").as_bytes()).unwrap_err().to_string();
    assert!(error.contains("`bias`"), "{error}");
    // What is null, false, or of another family is no reason.
    let fine = r#""attention_bias":false,"mlp_bias":null,"quantization_config":null,"num_local_experts":null"#;
    with(fine).unwrap();
    let qwen = LLAMA.replace("\"llama\"", "\"qwen2\"");
    from_config_json(format!("{{\"attention_bias\":true,{qwen}}}").as_bytes()).unwrap();
}

#[test]
fn missing_and_wrong_numbers_are_named() {
    for field in ["hidden_size", "num_attention_heads", "num_hidden_layers", "intermediate_size", "vocab_size"] {
        let error = instead(&format!("\"{field}\""), "\"x\"").unwrap_err();
        assert_eq!(error, SpecError::Missing(field.to_owned()));
        for value in ["0", "-4", "4.0", "\"4\"", "[4]", "true", "1e3", "4294967296", "99999999999999999999999"] {
            let old = LLAMA.split(&format!("\"{field}\":")).nth(1).unwrap().split([',', '}']).next().unwrap();
            let text = LLAMA.replace(&format!("\"{field}\":{old}"), &format!("\"{field}\":{value}"));
            let error = from_config_json(format!("{{{text}}}").as_bytes()).unwrap_err().to_string();
            assert!(error.contains(field), "{field} {value}: {error}");
        }
    }
    for (field, name) in [
        (r#""num_key_value_heads":3"#, "num_key_value_heads"),
        (r#""tie_word_embeddings":1"#, "tie_word_embeddings"),
        (r#""attention_bias":"no""#, "attention_bias"),
        (r#""torch_dtype":16"#, "torch_dtype"),
        (r#""head_dim":0"#, "head_dim"),
    ] {
        let error = with(field).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    }
    assert!(instead("\"num_attention_heads\":4", "\"num_attention_heads\":5").is_err());
    assert!(instead("\"num_hidden_layers\":2", "\"num_hidden_layers\":4000000000").is_err());
}

#[test]
fn hostile_files_are_errors() {
    let nested =
        |open: &str, close: &str| format!("{{{LLAMA},\"a\":{}1{}}}", open.repeat(100_000), close.repeat(100_000));
    let (deep, deep_objects) = (nested("[", "]"), nested("{\"a\":", "}"));
    let large = format!("{{{LLAMA},\"a\":\"{}\"}}", "x".repeat(5 << 20));
    let twice = format!("{{{LLAMA},\"vocab_size\":97}}");
    let too_large = LLAMA.replace(":64", ":4294967295").replace(":96", ":4294967295").replace(":4,", ":1,");
    let heads = format!("{{\"head_dim\":4294967295,{}}}", LLAMA.replace(":4,", ":4294967295,"));
    for json in [
        deep.as_str(),
        deep_objects.as_str(),
        large.as_str(),
        twice.as_str(),
        &format!("{{{too_large}}}"),
        &heads,
        &format!("{{{LLAMA},\"rope_theta\":NaN}}"),
        &format!("{{{LLAMA},\"rope_theta\":1e999}}"),
        &format!("{{{LLAMA}}} trailing"),
        &format!("[{{{LLAMA}}}]"),
        "{\"model_type\":3}",
        "{\"model_type\":\"\u{0}\"}",
        "null",
        "[]",
        "\"llama\"",
        "",
    ] {
        assert!(from_config_json(json.as_bytes()).is_err(), "{}", &json[..json.len().min(200)]);
    }
    assert!(from_config_json(b"{\"model_type\":\"\xff\"}").is_err());
    let long = instead("\"llama\"", &format!("\"{}\"", "y".repeat(100_000))).unwrap_err().to_string();
    assert!(long.len() < 1000, "a message is no copy of the file");
}

#[test]
fn a_mixture_of_experts_is_read_where_a_family_has_it() {
    let mixtral = r#"{"model_type":"mixtral","hidden_size":64,"num_attention_heads":4,"num_key_value_heads":2,
        "num_hidden_layers":2,"intermediate_size":160,"vocab_size":96,"num_local_experts":8,"num_experts_per_tok":2}"#;
    let model = from_config_json(mixtral.as_bytes()).unwrap();
    assert_eq!((model.axis("Expert"), model.axis("MoeFfn"), model.ffn()), (Some(8), Some(160), None));
    let qwen = r#"{"model_type":"qwen3_moe","hidden_size":64,"num_attention_heads":4,"num_key_value_heads":2,"head_dim":8,
        "num_hidden_layers":2,"intermediate_size":160,"moe_intermediate_size":32,"vocab_size":96,"num_experts":16}"#;
    let model = from_config_json(qwen.as_bytes()).unwrap();
    assert_eq!((model.axis("Expert"), model.axis("MoeFfn"), model.head_dim()), (Some(16), Some(32), 8));
    // Of a type that no family has, what its layers are says more than that it is not known.
    let other = r#"{"model_type":"deepseek_v3","kv_lora_rank":512,"n_routed_experts":256}"#;
    assert!(matches!(from_config_json(other.as_bytes()), Err(SpecError::OtherLayers { .. })));
}

fn yaml(body: &str) -> Result<Model, SpecError> {
    from_yaml(&format!("model:\n  model_config:\n    vocab_size: 96\n    num_layers: 2\n{body}"))
}

#[test]
fn the_ffn_rule_gives_the_published_sizes() {
    let ffn = |body: &str| yaml(body).unwrap().ffn().unwrap();
    assert_eq!(ffn("    hidden_size: 4096\n    num_heads: 32\n    multiple_of: 256\n"), 11008);
    assert_eq!(ffn("    hidden_size: 5120\n    num_heads: 40\n"), 13824);
    assert_eq!(
        ffn("    hidden_size: 8192\n    num_heads: 64\n    ffn_dim_multiplier: 1.3\n    multiple_of: 256\n"),
        28672
    );
    assert_eq!(ffn("    hidden_size: 4096\n    num_heads: 32\n    intermediate_size: 14336\n"), 14336);
}

#[test]
fn a_mixture_of_experts_is_no_dense_model_wherever_the_yaml_says_so() {
    let dims = "    hidden_size: 64\n    num_heads: 16\n";
    let error = |text: &str| yaml(&format!("{dims}{text}")).unwrap_err().to_string();
    for text in [
        "moe_config:\n  expert_num: 8\n",
        "    moe_config:\n      expert_num: 2\n",
        "    moe_config:\n      expert_num: 1\nmoe_config:\n  expert_num: 8\n",
        "    num_experts: 4\n",
    ] {
        assert!(error(text).contains("mixture of experts"), "{text}");
    }
    assert!(error("moe_config:\n  expert_num: many\n").contains("moe_config.expert_num"));
    // As mindformers' own dense yamls have it.
    let dense = ["moe_config:\n  expert_num: 1\n", "moe_config: null\n", "    num_experts: 1\n    q_lora_rank: None\n"];
    for text in dense {
        yaml(&format!("{dims}{text}")).unwrap();
    }
}

#[test]
fn the_string_none_is_nothing_and_wrong_values_are_named() {
    let model = yaml("    hidden_size: 64\n    num_heads: 16\n    n_kv_heads: \"None\"\n    intermediate_size: None\n");
    assert_eq!(model.unwrap().kv_heads(), 16);
    for (body, field) in [
        ("    hidden_size: 64\n    num_heads: many\n", "`num_heads` of the model configuration is `\"many\"`"),
        ("    hidden_size: 64\n    num_heads: 16\n    n_kv_heads: 5\n", "a divisor of num_heads"),
        ("    hidden_size: 64\n    num_heads: 15\n", "a divisor of hidden_size"),
        ("    hidden_size: 64\n", "has no `num_heads`"),
        ("    num_heads: 64\n", "has no `hidden_size`"),
        ("    hidden_size: 64\n    num_heads: 16\n    qkv_has_bias: maybe\n", "`qkv_has_bias`"),
        ("    hidden_size: 64\n    num_heads: 16\n    qkv_concat: 1\n", "`qkv_concat`"),
        ("    hidden_size: 64\n    num_heads: 16\n    ffn_dim_multiplier: 1000\n", "a number between 0.01 and 100"),
    ] {
        let error = yaml(body).unwrap_err().to_string();
        assert!(error.contains(field), "{body}: {error}");
    }
}

/// Every architecture of mindformers' yamls of these families (0.8 to 2.1), and how its yamls name the sizes.
#[test]
fn every_architecture_of_a_yaml_has_its_family() {
    let old = "num_layers: 2, num_heads: 4, n_kv_heads: 2, hidden_size: 64, vocab_size: 96";
    let new = "num_hidden_layers: 2, num_attention_heads: 4, num_key_value_heads: 2, head_dim: 32, hidden_size: 64, \
               vocab_size: 96, intermediate_size: 160";
    let of =
        |arch: &str, fields: &str| from_yaml(&format!("model: {{arch: {{type: {arch}}}, model_config: {{{fields}}}}}"));
    for (arch, fields, family, bias) in [
        ("LlamaForCausalLM", "", "llama", false),
        ("ParallelLlamaForCausalLM", "", "llama", false),
        ("LlamaForCausalLM", "qkv_has_bias: True", "qwen2", true),
        ("ParallelLlamaForCausalLM", "qkv_has_bias: True", "qwen2", true),
        ("ParallelQwenForCausalLM", "qkv_has_bias: True", "qwen2", true),
        ("Baichuan7BV2ForCausalLM", "", "baichuan2", false),
        ("Baichuan13BV2ForCausalLM", "", "baichuan2", false),
        ("InternLM2ForCausalLM", "qkv_concat: False", "internlm2", false),
    ] {
        let model = of(arch, &format!("{old}, {fields}")).unwrap();
        assert_eq!((model.family().name.as_str(), model.qkv_bias()), (family, bias), "{arch}");
        assert_eq!((model.kv_heads(), model.head_dim(), model.fused), (2, 16, Some(false)), "{arch}");
        assert!(model.vocabulary_whole, "{arch}: vocab_emb_dp is True where a yaml does not say");
    }
    for (arch, fields, family, bias) in [
        ("Qwen2ForCausalLM", "head_dim: None, add_qkv_bias: True", "qwen2", true),
        ("Qwen3ForCausalLM", "qkv_concat: True", "qwen3", false),
        ("Glm4ForCausalLM", "attention_bias: True", "glm4", true),
    ] {
        let model = of(arch, &format!("{}, {fields}", new.replace("head_dim: 32, ", ""))).unwrap();
        assert_eq!((model.family().name.as_str(), model.qkv_bias()), (family, bias), "{arch}");
        let own = if family == "qwen2" { 16 } else { 128 };
        assert_eq!((model.kv_heads(), model.head_dim(), model.ffn()), (2, own, Some(160)), "{arch}");
    }
    // Yamls of mindformers 1.6 and later have no `arch`.
    let listed = format!("model: {{model_config: {{model_type: qwen3, architectures: [Qwen3ForCausalLM], {new}}}}}");
    let model = from_yaml(&listed).unwrap();
    assert_eq!((model.family().name.as_str(), model.head_dim()), ("qwen3", 32));
    let experts = "num_experts: 8, moe_intermediate_size: 32, num_experts_per_tok: 2";
    let text = format!(
        "model: {{model_config: {{model_type: qwen3_moe, architectures: Qwen3MoeForCausalLM, {new}, {experts}}}}}"
    );
    assert_eq!(from_yaml(&text).unwrap().axis("Expert"), Some(8));
    // What is not said is what this program takes every yaml for.
    assert_eq!(from_yaml(&format!("model: {{model_config: {{{old}}}}}")).unwrap().family().name, "llama");
    assert_eq!(of("BloomForCausalLM", old).unwrap_err(), SpecError::Unsupported("BloomForCausalLM".to_owned()));
    for (fields, why) in [("qkv_concat: True", "attention.w"), ("intermediate_size: 160", "attention.w")] {
        let read = of("InternLM2ForCausalLM", &format!("{old}, {fields}"));
        assert!(read.as_ref().is_err_and(|error| error.to_string().contains(why)), "{fields}: {read:?}");
    }
    assert!(matches!(
        of("LlamaForCausalLM", &format!("{old}, attn_proj_has_bias: True")),
        Err(SpecError::NoPlace { .. })
    ));
}
