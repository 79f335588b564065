//! The options that decide what is in the target: for the manifest, and by which hosts know the same request.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::quantise::quantises;
use super::request::Request;
use crate::cli::args::{
    CalibrateArgs, CkptRecordsArg, ConvertArgs, FilesArgs, FormatArg, LayoutArgs, LoraArg, PlaceArgs, QuantArgs,
    TrainArgs, WhatArgs,
};
use crate::cli::config;
use crate::model::registered;
use crate::report::{Choice, Provenance};

/// Where a result comes from. Every option is named here, so that a new one is either listed or said to decide nothing.
pub(super) fn provenance(request: &Request, plan: &str, choices: &[Choice]) -> Provenance {
    // How and by whom it is done, and what is shown, decides nothing.
    let ConvertArgs { what, place, layout, files, train, quant, calibrate, run: _, cluster: _, output: _ } =
        &request.args;
    // The request has made something of the function and the precision.
    let WhatArgs { function: _, precision: _, world_size, dry_run: _ } = what;
    // The source is the request's. Where the target goes, and whether one that is there is replaced, decides nothing.
    let PlaceArgs {
        src_ckpt_path: _,
        dst_ckpt_path: _,
        infer_strategy_file: _,
        src_strategy,
        dst_strategy,
        overwrite: _,
    } = place;
    let LayoutArgs {
        yaml_path,
        family,
        qkv_concat,
        vocab_emb_dp,
        src_fusion,
        dst_fusion,
        force_fusion,
        heads,
        kv_heads,
        tie_word_embeddings,
        norm_dtype,
    } = layout;
    let FilesArgs {
        format,
        ignore,
        max_shard_size,
        hf_config,
        ckpt_records,
        crc,
        // What is checked.
        no_crc_check: _,
        check_source: _,
        check_replicas: _,
    } = files;
    // Stages are only checked, and both modes give the same.
    let TrainArgs {
        train_strategy_file,
        step,
        latest,
        pipeline_stage: _,
        train_to_infer_mode: _,
        keep,
        drop,
        lora,
        lora_alpha,
        strip_only,
    } = train;
    let QuantArgs { stats, names, group_size, keep_float, alpha, no_smooth } = quant;
    let what = quantises(request.precision).filter(|_| request.quantising());
    let smoothed = what.is_some_and(|what| what.inputs) && !no_smooth;
    let orders = request.orders.as_ref();
    let order = |settled: Option<&'static str>, asked: &Option<_>| {
        settled.or(asked.map(|asked| config::fusion(asked).name())).map(|name| json!(name))
    };
    let given = [
        ("function", Some(json!(config::function_name(request.function)))),
        ("precision", Some(json!(config::precision_name(request.precision)))),
        ("source", Some(path(&request.source))),
        ("src_fusion", order(orders.map(|o| o.source.layout.name()), src_fusion)),
        ("dst_fusion", order(orders.map(|o| o.target.layout.name()), dst_fusion)),
        ("force_fusion", flag(*force_fusion)),
        ("world_size", world_size.map(|w| json!(w))),
        ("yaml_path", yaml_path.as_ref().map(|y| json!(y))),
        ("families", families(family)),
        ("src_strategy", src_strategy.as_deref().map(path)),
        ("dst_strategy", dst_strategy.as_deref().map(path)),
        ("train_strategy_file", train_strategy_file.as_deref().map(path)),
        ("step", step.as_ref().map(|step| step.parse::<u64>().map_or_else(|_| json!(step), |n| json!(n)))),
        ("latest", flag(*latest)),
        ("keep", list(keep)),
        ("drop", list(drop)),
        ("lora", lora.map(lora_name)),
        ("lora_alpha", lora_alpha.map(|alpha| json!(alpha))),
        ("strip_only", flag(*strip_only)),
        ("norm_dtype", norm_dtype.map(|p| json!(config::precision_name(p)))),
        ("qkv_concat", qkv_concat.map(|b| json!(b))),
        ("vocab_emb_dp", vocab_emb_dp.map(|b| json!(b))),
        ("heads", heads.map(|n| json!(n))),
        ("kv_heads", kv_heads.map(|n| json!(n))),
        ("tie_word_embeddings", tie_word_embeddings.map(|b| json!(b))),
        ("format", format.map(format_name)),
        ("max_shard_size", max_shard_size.map(|size| json!(size.as_u64()))),
        ("hf_config", hf_config.as_deref().map(path)),
        ("crc", flag(*crc)),
        ("ckpt_records", (*ckpt_records == CkptRecordsArg::Canonical).then_some(json!("canonical"))),
        ("stats", stats.as_deref().map(path)),
        ("dataset_name", calibrate.dataset_name.as_ref().map(|name| json!(name))),
        ("dataset_path", calibrate.dataset_path.as_deref().map(path)),
        ("names", what.is_some().then(|| json!(config::names(*names)))),
        ("group_size", group_size.map(|size| json!(size))),
        ("keep_float", list(keep_float)),
        ("alpha", smoothed.then(|| json!(alpha))),
        ("no_smooth", flag(*no_smooth)),
        ("ignore", list(ignore)),
    ];
    let given = given.into_iter().chain(calibration(calibrate));
    let options = given.filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
    Provenance { options, choices: choices.to_vec(), plan: plan.to_owned(), strategies: None, part: None }
}

/// What decides about the statistics that this run gathers.
fn calibration(args: &CalibrateArgs) -> [(&'static str, Option<Value>); 7] {
    let CalibrateArgs {
        // Listed before.
        dataset_name: _,
        dataset_path: _,
        tokenizer,
        samples,
        seq_length,
        rope_theta,
        norm_eps,
        bos_token,
        eos_token,
    } = args;
    [
        ("tokenizer", tokenizer.as_deref().map(path)),
        ("samples", samples.map(|n| json!(n))),
        ("seq_length", seq_length.map(|n| json!(n))),
        ("rope_theta", rope_theta.map(|n| json!(n))),
        ("norm_eps", norm_eps.map(|n| json!(n))),
        ("bos_token", bos_token.as_ref().map(|token| json!(token))),
        ("eos_token", eos_token.as_ref().map(|token| json!(token))),
    ]
}

/// The user's family files, and what each says: hosts must have read the same.
fn families(files: &[PathBuf]) -> Option<Value> {
    let of = |file: &PathBuf| {
        let name = file.display().to_string();
        let read = registered().iter().find(|known| known.file == Some(name.as_str()));
        let text = read.map_or("", |known| known.text);
        let sum: String = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
        json!({ "file": name, "family": read.map(|known| &known.family.name), "sha256": sum })
    };
    (!files.is_empty()).then(|| files.iter().map(of).collect())
}

fn path(path: &Path) -> Value {
    json!(path.display().to_string())
}

fn flag(given: bool) -> Option<Value> {
    given.then_some(json!(true))
}

fn list(patterns: &[String]) -> Option<Value> {
    (!patterns.is_empty()).then(|| json!(patterns))
}

fn lora_name(lora: LoraArg) -> Value {
    json!(match lora {
        LoraArg::Merge => "merge",
        LoraArg::Keep => "keep",
        LoraArg::Drop => "drop",
    })
}

fn format_name(format: FormatArg) -> Value {
    json!(match format {
        FormatArg::Ckpt => "ckpt",
        FormatArg::Safetensors => "safetensors",
        FormatArg::Bin => "bin",
    })
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use clap::Parser;

    use super::*;
    use crate::cli::args::{Cli, expand};

    fn options(line: &str) -> Vec<(String, Value)> {
        let words = std::iter::once("ckpt-convert").chain(line.split_whitespace()).map(OsString::from);
        let request = Request::new(Cli::try_parse_from(expand(words)).unwrap().convert).unwrap();
        provenance(&request, "", &[]).options
    }

    #[test]
    fn two_requests_are_the_same_if_and_only_if_what_decides_is() {
        let base = "-f quant_weight -p w8a8 -w 2 -sc src -d boolq -dp data";
        let decide = [
            "--format safetensors",
            "--hf-config hf",
            "-d wikitext2",
            "-dp other",
            "--tokenizer t.json",
            "--samples 3",
            "--seq-length 7",
            "--rope-theta 5e5",
            "--norm-eps 1e-6",
            "--bos-token <s>",
            "--eos-token </s>",
            "--names rtn",
            "--alpha 0.7",
            "--no-smooth",
            "--stats s",
            "--src-fusion grouped",
            "--dst-fusion grouped",
            "--force-fusion",
            "-y llama2_7b",
            "--keep-float w2",
            "--max-shard-size 1GB",
            "--ignore x",
            "--family f.yaml",
        ];
        let nothing =
            ["--no-sync", "--overwrite", "--dry-run", "--workers 2", "-dc elsewhere", "--nodes 2", "--check-source"];
        for option in decide {
            assert_ne!(options(&format!("{base} {option}")), options(base), "{option}");
        }
        for option in nothing {
            assert_eq!(options(&format!("{base} {option}")), options(base), "{option}");
        }
        let of = |line: &str, name: &str| options(line).into_iter().any(|(key, _)| key == name);
        let (quantised, plain) =
            ("-f train_to_infer -p w8a8 --stats s -w 2 -sc src", "-f train_to_infer -p fp16 -w 2 -sc src");
        assert!(of(quantised, "names") && of(quantised, "alpha"));
        assert!(!of(plain, "names") && !of(plain, "alpha"));
    }
}
