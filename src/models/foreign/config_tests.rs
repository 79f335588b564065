//! Configurations as they are published, as they should not be, and as somebody hostile would write them.

use super::*;

const LLAMA: &str = r#""model_type":"llama","hidden_size":64,"num_attention_heads":4,"num_hidden_layers":2,
    "intermediate_size":160,"vocab_size":96"#;

/// The llama configuration with other fields before it.
fn with(fields: &str) -> Result<(ModelSpec, Family, HfFacts), SpecError> {
    from_config_json(format!("{{{fields},{LLAMA}}}").as_bytes())
}

/// The llama configuration with one of its fields written otherwise.
fn instead(of: &str, text: &str) -> Result<(ModelSpec, Family, HfFacts), SpecError> {
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
            Family::Llama,
        ),
        (
            "llama3_8b",
            r#"{"architectures":["LlamaForCausalLM"],"attention_bias":false,"hidden_size":4096,"intermediate_size":14336,
            "model_type":"llama","num_attention_heads":32,"num_hidden_layers":32,"num_key_value_heads":8,
            "tie_word_embeddings":false,"torch_dtype":"bfloat16","vocab_size":128256,"rope_theta":500000.0}"#,
            Family::Llama,
        ),
        (
            "qwen2_7b",
            r#"{"hidden_size":3584,"intermediate_size":18944,"model_type":"qwen2","num_attention_heads":28,
            "num_hidden_layers":28,"num_key_value_heads":4,"sliding_window":131072,"tie_word_embeddings":false,
            "torch_dtype":"bfloat16","use_sliding_window":false,"vocab_size":152064}"#,
            Family::Qwen2,
        ),
    ];
    for (name, json, family) in published {
        let (spec, found, _) = from_config_json(json.as_bytes()).unwrap();
        assert_eq!((Some(spec), found), (super::super::super::builtin(name), family), "{name}");
    }
}

#[test]
fn absent_and_null_fields_have_transformers_defaults() {
    let (spec, _, facts) = with(r#""num_key_value_heads":null,"head_dim":null,"dtype":"bfloat16""#).unwrap();
    assert_eq!((spec.kv_heads, spec.head_dim, spec.tied, spec.qkv_bias), (4, 16, false, false));
    assert_eq!(facts.torch_dtype.as_deref(), Some("bfloat16"), "the newer spelling");
    let (spec, _, facts) = with(
        r#""num_key_value_heads":2,"head_dim":32,"tie_word_embeddings":true,"torch_dtype":"float16","dtype":null"#,
    )
    .unwrap();
    assert_eq!((spec.kv_heads, spec.head_dim, spec.query_rows()), (2, 32, 128), "as Mistral Nemo has it");
    assert!(spec.tied && facts.tie_word_embeddings);
    assert_eq!((facts.torch_dtype.as_deref(), facts.model_type.as_str()), (Some("float16"), "llama"));
}

#[test]
fn every_known_type_has_its_family_and_others_are_refused_with_the_list() {
    for (name, family) in [
        ("mistral", Family::Llama),
        ("Yi", Family::Llama),
        ("qwen2", Family::Qwen2),
        ("baichuan", Family::Baichuan2),
        ("internlm2", Family::InternLm2),
    ] {
        let (spec, found, _) = instead("\"llama\"", &format!("{name:?}")).unwrap();
        assert_eq!((found, spec.qkv_bias), (family, family == Family::Qwen2), "{name}");
    }
    let error = instead("\"llama\"", "\"gemma3\"").unwrap_err().to_string();
    assert!(error.contains("gemma3") && error.contains("internlm2"), "{error}");
    assert_eq!(instead("\"model_type\"", "\"type\"").unwrap_err(), SpecError::Missing("model_type"));
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
        assert_eq!(error, SpecError::Missing(field));
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
