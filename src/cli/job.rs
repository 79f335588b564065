//! From the command line to the job that it asks for: the one place.

use std::path::PathBuf;

use super::args::{
    CalibrateArgs, ClusterArgs, ConvertArgs, FilesArgs, LayoutArgs, PlaceArgs, QuantArgs, TrainArgs, WhatArgs,
};
use super::run_args::{OutputArgs, ReadArgs, RunArgs};
use crate::job::{Calibrate, Checks, Cluster, Division, Edits, Job, Model, Quantise, Reading, Run, Source, Target};

/// The requested job, as far as its function and its precision are. Every option is named here, so that a new one finds its place.
pub(super) fn job(args: &ConvertArgs) -> Option<Job> {
    // What is shown is no part of the job.
    let ConvertArgs { what, place, layout, files, train, quant, calibrate, run, cluster, output } = args.clone();
    let OutputArgs { json: _, quiet: _ } = output;
    let WhatArgs { function, precision, world_size, dry_run: _ } = what;
    // Which rank of the target is wanted is no part of the job.
    let PlaceArgs { src_ckpt_path, dst_ckpt_path, rank: _, infer_strategy_file, src_strategy, dst_strategy, overwrite } =
        place;
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
        no_crc_check,
        check_source,
        check_replicas,
    } = files;
    let TrainArgs {
        train_strategy_file,
        step,
        latest,
        pipeline_stage,
        train_to_infer_mode,
        keep,
        drop,
        lora,
        lora_alpha,
        strip_only,
    } = train;
    let mut job = Job::new(function?, precision?, src_ckpt_path.unwrap_or_else(PathBuf::new));
    job.source = Source {
        path: job.source.path,
        strategy: src_strategy,
        fusion: src_fusion,
        train_strategy: train_strategy_file,
        step,
        latest,
        stages: pipeline_stage,
        mode: train_to_infer_mode,
    };
    job.target = Target {
        dir: dst_ckpt_path,
        strategies: infer_strategy_file,
        ranks: world_size,
        strategy: dst_strategy,
        overwrite,
        fused: qkv_concat,
        fusion: dst_fusion,
        vocabulary_whole: vocab_emb_dp,
        format,
        max_shard_size: max_shard_size.map(|size| size.as_u64()),
        hf_config,
        ckpt_records,
        crc,
        strip_only,
    };
    job.model = Model { yaml: yaml_path, heads, kv_heads, tied: tie_word_embeddings, families: family, force_fusion };
    job.edits = Edits { norms: norm_dtype, ignore, keep, drop, lora, lora_alpha };
    job.quantise = quantise(quant);
    job.calibrate = calibration(calibrate);
    job.checks = Checks { no_crc: no_crc_check, source: check_source, replicas: check_replicas };
    job.run = self::run(run);
    job.cluster = self::cluster(cluster);
    Some(job)
}

fn quantise(args: QuantArgs) -> Quantise {
    let QuantArgs { stats, names, group_size, keep_float, alpha, no_smooth } = args;
    Quantise { stats, names, group_size, keep_float, alpha, no_smooth }
}

fn calibration(args: CalibrateArgs) -> Calibrate {
    let CalibrateArgs {
        dataset_name,
        dataset_path,
        tokenizer,
        samples,
        seq_length,
        rope_theta,
        norm_eps,
        bos_token,
        eos_token,
    } = args;
    Calibrate { dataset_name, dataset_path, tokenizer, samples, seq_length, rope_theta, norm_eps, bos_token, eos_token }
}

fn run(args: RunArgs) -> Run {
    let RunArgs { reading, writes, writer, reflink, no_sync } = args;
    Run { reading: self::reading(&reading), writes, writer, reflink, no_sync }
}

/// How sources are read.
pub(super) fn reading(args: &ReadArgs) -> Reading {
    let &ReadArgs { memory, workers, chunk, depth, reader } = args;
    Reading { memory: memory.map(|memory| memory.as_u64()), workers, chunk, depth, reader }
}

fn cluster(args: ClusterArgs) -> Cluster {
    // Which host this is, is found out with the environment.
    let ClusterArgs {
        nodes: _,
        node_rank: _,
        rank_table,
        per_process: _,
        per_node: _,
        local_output,
        stale_after,
        secure_every,
    } = args;
    Cluster { rank_table, local_output, stale_after, secure_every: secure_every.as_u64(), ..Cluster::default() }
}

/// What is asked of the division of the work. `--per-node` and `--per-process` exclude one another.
pub(super) fn division(args: &ClusterArgs) -> Division {
    Division { nodes: args.nodes, node_rank: args.node_rank, per_node: args.per_node && !args.per_process }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use clap::Parser;
    use serde_json::Value;

    use super::super::args::{Cli, expand};
    use super::*;

    fn options(line: &str) -> Vec<(String, Value)> {
        let words = std::iter::once("ckpt-convert").chain(line.split_whitespace()).map(OsString::from);
        job(&Cli::try_parse_from(expand(words)).unwrap().convert).unwrap().deciding()
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
