//! What in a mindformers yaml shows that it was written for mindformers 1.4 or later.
//!
//! That matters for the order of fused rows: networks up to 1.3 expect rank-concat, networks from 1.4 on grouped. A yaml states no
//! version, and `qkv_concat: True` alone shows none (the `predict_llama2_*_{ptq,rtn,smooth_quant}.yaml` of 1.3.1 have it too).
//! What does show it is a word that older versions do not know: no file of mindformers 1.0, 1.1.0, 1.2.0, 1.3.0 and 1.3.1, code
//! or configuration, contains those below. Of the llama yamls with `qkv_concat: True`, 9 of 25 in 1.5.0, 13 of 15 in 1.6.0 and all
//! in 1.7.0 and 1.8.0 have one of them.
//!
//! The pre-release 1.4.0-beta1 has the tokenizer and reads some of the keys, and its network still has the old order; it is taken
//! for 1.4 like the others.

use serde_json::Value;

use super::error::SpecError;
use super::yaml_text::read;

/// Keys by their paths, and the first branch of mindformers whose code or yamls have them.
const KEYS: [(&str, &str); 7] = [
    // mindformers/trainer/trainer.py; in the yamls of 1.6 on as a rule.
    ("load_ckpt_format", "1.4.0"),
    // mindformers/tools/register/config.py and the yamls of mcore networks.
    ("use_legacy", "1.5.0"),
    ("pretrained_model_dir", "1.6.0"),
    // mindformers/core/context/build_context.py.
    ("context.affinity_cpu_list", "1.4.0"),
    // Sequence pipelines: mindformers/models/llama/llama.py.
    ("parallel_config.seq_split_num", "1.4.0"),
    // mindformers/models/llama/llama_config.py.
    ("model.model_config.residual_dtype", "1.4.0"),
    ("model.model_config.input_sliced_sig", "1.4.0"),
];

/// Places of a tokenizer's class, and a module that comes with mindformers from 1.4 on (`research/qwen2_5`).
const CLASSES: [&str; 3] =
    ["model.model_config.auto_map.AutoTokenizer", "model.arch.auto_register", "processor.tokenizer.auto_register"];
const MODULE: (&str, &str) = ("qwen2_5_tokenizer.", "1.4.0");

/// A sign that a yaml was written for mindformers 1.4 or later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionSign {
    /// The path of the key that shows it.
    pub key: &'static str,
    /// The first version that has it.
    pub since: &'static str,
}

/// The first sign of mindformers 1.4 or later in a yaml. `None` where there is none, which says nothing about the version.
///
/// # Errors
/// No yaml.
pub fn version_sign(text: &str) -> Result<Option<VersionSign>, SpecError> {
    let root = read(text)?;
    let at = |path: &str| path.split('.').try_fold(&root, |value, key| value.get(key));
    let class = |value: &Value| value.as_str().is_some_and(|name| name.starts_with(MODULE.0));
    let known = |value: &Value| class(value) || value.as_array().is_some_and(|names| names.iter().any(class));
    let key = KEYS.iter().find(|(path, _)| at(path).is_some()).copied();
    let module = || CLASSES.iter().find(|path| at(path).is_some_and(known)).map(|path| (*path, MODULE.1));
    Ok(key.or_else(module).map(|(key, since)| VersionSign { key, since }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_older_versions_do_not_know_is_a_sign() {
        let fused = "model:\n  model_config:\n    qkv_concat: True\n";
        let cases = [
            ("load_ckpt_format: \"safetensors\"\n", Some("load_ckpt_format")),
            ("load_ckpt_format: ''\n", Some("load_ckpt_format")),
            ("use_legacy: False\n", Some("use_legacy")),
            ("pretrained_model_dir: '/hf'\n", Some("pretrained_model_dir")),
            ("context:\n  affinity_cpu_list: None\n", Some("context.affinity_cpu_list")),
            ("parallel_config:\n  seq_split_num: 1\n", Some("parallel_config.seq_split_num")),
            (
                "processor:\n  tokenizer:\n    auto_register: qwen2_5_tokenizer.Qwen2Tokenizer\n",
                Some("processor.tokenizer.auto_register"),
            ),
            ("processor:\n  tokenizer:\n    auto_register: qwen2_tokenizer.Qwen2Tokenizer\n", None),
            // The key in another place is not the key.
            ("callbacks:\n  load_ckpt_format: ckpt\n", None),
            ("trainer:\n  model_name: qwen2_5_7b\n", None),
            ("use_parallel: True\nrun_mode: predict\n", None),
            ("", None),
        ];
        for (body, key) in cases {
            assert_eq!(version_sign(&format!("{body}{fused}")).unwrap().map(|sign| sign.key), key, "{body}");
        }
        let tokenizer =
            "model:\n  model_config:\n    auto_map:\n      AutoTokenizer: [qwen2_5_tokenizer.Qwen2Tokenizer, null]\n";
        assert_eq!(version_sign(tokenizer).unwrap().map(|sign| sign.since), Some("1.4.0"));
        assert_eq!(version_sign("- a list").unwrap(), None);
        assert!(version_sign("no: [yaml").is_err(), "what it says is not known");
    }
}
