//! The one table of what a job may say: which option says it, which functions use it, and whether it decides what is made.
//!
//! A field is known by its name in the serialised job. A field that is given to a function that does not use it is refused
//! ([`super::rules`]); those that decide are what the manifest lists, and by what hosts know the same request.

use serde_json::{Map, Value};

use super::choices::Function::{self, DistributedWeightTransfer, MsToPt, PtToMs, QuantWeight, TrainToInfer};
use super::families;
use super::spec::Job;

/// Whether a field decides what is made.
#[derive(Clone, Copy, Debug)]
enum Decides {
    /// Never: it says how and by whom it is done, what is checked, or where it goes.
    Never,
    /// Where it is given.
    Given,
    /// Always.
    Always,
    /// Where the job is such, even if it is not given; and where it is not such, not even then.
    If(fn(&Job) -> bool),
}

/// A field.
#[derive(Debug)]
pub(super) struct Field {
    /// Its name in the serialised job.
    key: &'static str,
    /// The option that says it.
    pub(super) option: &'static str,
    /// The functions that use it.
    pub(super) functions: &'static [Function],
    decides: Decides,
}

impl Field {
    /// Whether it says how activations are observed.
    pub(super) fn is_of_calibration(&self) -> bool {
        CALIBRATION.contains(&self.key)
    }

    /// Whether it makes a difference only where weights are quantised.
    pub(super) fn is_of_quantising(&self) -> bool {
        std::ptr::eq(self.functions, QUANTISING)
    }

    /// Whether it says that the source is a training run, of which there may be several saves.
    pub(super) fn is_of_training(&self) -> bool {
        TRAINED.contains(&self.key)
    }
}

/// Fields that say how activations are observed, but for the data set.
const CALIBRATION: [&str; 7] =
    ["tokenizer", "samples", "seq_length", "rope_theta", "norm_eps", "bos_token", "eos_token"];
/// Fields that say that the source is a training run.
const TRAINED: [&str; 8] =
    ["train_strategy_file", "step", "latest", "keep", "drop", "lora", "lora_alpha", "strip_only"];

const ALL: &[Function] = Function::ALL;
/// From a training run.
const FROM_RUNS: &[Function] = &[TrainToInfer, MsToPt];
/// From rank files.
const FROM_RANKS: &[Function] = &[DistributedWeightTransfer, TrainToInfer, QuantWeight, MsToPt];
/// To rank files.
const TO_RANKS: &[Function] = &[DistributedWeightTransfer, TrainToInfer, QuantWeight, PtToMs];
/// To quantised weights.
const QUANTISING: &[Function] = &[QuantWeight, TrainToInfer];

const fn field(key: &'static str, option: &'static str, functions: &'static [Function], decides: Decides) -> Field {
    Field { key, option, functions, decides }
}

/// Every field of a job; a test compares them with what a job is serialised to.
#[rustfmt::skip]
pub(super) const FIELDS: [Field; 68] = [
    field("function", "-f", ALL, Decides::Always),
    field("precision", "-p", ALL, Decides::Always),
    field("source", "-sc", ALL, Decides::Always),
    field("src_fusion", "--src-fusion", ALL, Decides::Given),
    field("dst_fusion", "--dst-fusion", ALL, Decides::Given),
    field("force_fusion", "--force-fusion", ALL, Decides::Given),
    field("world_size", "-w", ALL, Decides::Given),
    field("yaml_path", "-y", ALL, Decides::Given),
    field("families", "--family", ALL, Decides::Given),
    field("src_strategy", "-ss", FROM_RANKS, Decides::Given),
    field("dst_strategy", "-ds", TO_RANKS, Decides::Given),
    field("train_strategy_file", "-ts", FROM_RUNS, Decides::Given),
    field("step", "--step", FROM_RUNS, Decides::Given),
    field("latest", "--latest", FROM_RUNS, Decides::Given),
    field("keep", "--keep", FROM_RUNS, Decides::Given),
    field("drop", "--drop", FROM_RUNS, Decides::Given),
    field("lora", "--lora", FROM_RUNS, Decides::Given),
    field("lora_alpha", "--lora-alpha", FROM_RUNS, Decides::Given),
    field("strip_only", "--strip-only", &[TrainToInfer], Decides::Given),
    field("norm_dtype", "--norm-dtype", ALL, Decides::Given),
    field("qkv_concat", "--qkv_concat", TO_RANKS, Decides::Given),
    field("vocab_emb_dp", "--vocab_emb_dp", TO_RANKS, Decides::Given),
    field("heads", "--heads", ALL, Decides::Given),
    field("kv_heads", "--kv-heads", ALL, Decides::Given),
    field("tie_word_embeddings", "--tie-word-embeddings", ALL, Decides::Given),
    field("format", "--format", ALL, Decides::Given),
    field("max_shard_size", "--max-shard-size", ALL, Decides::Given),
    field("hf_config", "--hf-config", &[MsToPt], Decides::Given),
    field("crc", "--crc", TO_RANKS, Decides::Given),
    field("ckpt_records", "--ckpt-records", TO_RANKS, Decides::Given),
    field("stats", "--stats", QUANTISING, Decides::Given),
    field("dataset_name", "-d", &[QuantWeight], Decides::Given),
    field("dataset_path", "-dp", &[QuantWeight], Decides::Given),
    field("names", "--names", QUANTISING, Decides::If(Job::is_quantising)),
    field("group_size", "--group-size", QUANTISING, Decides::Given),
    field("keep_float", "--keep-float", QUANTISING, Decides::Given),
    field("alpha", "--alpha", QUANTISING, Decides::If(is_smoothing)),
    field("no_smooth", "--no-smooth", QUANTISING, Decides::Given),
    field("ignore", "--ignore", ALL, Decides::Given),
    field("tokenizer", "--tokenizer", &[QuantWeight], Decides::Given),
    field("samples", "--samples", &[QuantWeight], Decides::Given),
    field("seq_length", "--seq-length", &[QuantWeight], Decides::Given),
    field("rope_theta", "--rope-theta", &[QuantWeight], Decides::Given),
    field("norm_eps", "--norm-eps", &[QuantWeight], Decides::Given),
    field("bos_token", "--bos-token", &[QuantWeight], Decides::Given),
    field("eos_token", "--eos-token", &[QuantWeight], Decides::Given),
    // Stages are only checked, and both modes give the same.
    field("pipeline_stage", "-pp", FROM_RUNS, Decides::Never),
    field("train_to_infer_mode", "-tm", FROM_RUNS, Decides::Never),
    field("dst_ckpt_path", "-dc", ALL, Decides::Never),
    // The original scripts give it to every function.
    field("infer_strategy_file", "-is", ALL, Decides::Never),
    field("overwrite", "--overwrite", ALL, Decides::Never),
    field("no_crc_check", "--no-crc-check", ALL, Decides::Never),
    field("check_source", "--check-source", ALL, Decides::Never),
    field("check_replicas", "--check-replicas", ALL, Decides::Never),
    field("memory", "--memory", ALL, Decides::Never),
    field("workers", "--workers", ALL, Decides::Never),
    field("chunk", "--chunk", ALL, Decides::Never),
    field("depth", "--depth", ALL, Decides::Never),
    field("reader", "--reader", ALL, Decides::Never),
    field("writes", "--writes", ALL, Decides::Never),
    field("writer", "--writer", ALL, Decides::Never),
    field("reflink", "--reflink", ALL, Decides::Never),
    field("no_sync", "--no-sync", ALL, Decides::Never),
    field("part", "--node-rank", ALL, Decides::Never),
    field("rank_table", "--rank-table", ALL, Decides::Never),
    field("local_output", "--local-output", ALL, Decides::Never),
    field("stale_after", "--stale-after", ALL, Decides::Never),
    field("secure_every", "--secure-every", ALL, Decides::Never),
];

fn is_smoothing(job: &Job) -> bool {
    job.is_quantising() && job.precision.quantises().is_some_and(|what| what.inputs) && !job.quantise.no_smooth
}

/// A job as the map that it is serialised to.
fn values(job: &Job) -> Map<String, Value> {
    match serde_json::to_value(job) {
        Ok(Value::Object(values)) => values,
        // A job is a map of texts, numbers and lists, which can always be written.
        _ => Map::new(),
    }
}

/// The fields that are not what they are in a job that says nothing of them.
pub(super) fn given(job: &Job) -> Vec<&'static Field> {
    let (values, plain) = (values(job), values(&Job::new(job.function, job.precision, "")));
    FIELDS.iter().filter(|field| values.get(field.key) != plain.get(field.key)).collect()
}

impl Job {
    /// Whether the source is a training run: several steps, stages and the optimizer's state may be in it.
    pub(super) fn is_trained(&self) -> bool {
        let said = |field: &&Field| field.is_of_training();
        self.function == Function::TrainToInfer || self.function == Function::MsToPt && given(self).iter().any(said)
    }

    /// What decides what is made, by name: two jobs of which it is the same make the same of the same source.
    pub fn deciding(&self) -> Vec<(String, Value)> {
        let given: Vec<&str> = given(self).into_iter().map(|field| field.key).collect();
        let mut values = values(self);
        let decides = |field: &&Field| match field.decides {
            Decides::Never => false,
            Decides::Given => given.contains(&field.key),
            Decides::Always => true,
            Decides::If(such) => such(self),
        };
        let fields = FIELDS.iter().filter(decides);
        if let Some(families) = values.get_mut("families") {
            *families = families::stated(&self.model.families);
        }
        fields.filter_map(|field| Some((field.key.to_owned(), values.remove(field.key)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::choices::Precision;

    #[test]
    fn every_field_of_a_job_is_in_the_table_once() {
        let job = Job::new(QuantWeight, Precision::W8a8, "src");
        let mut keys: Vec<&str> = FIELDS.iter().map(|field| field.key).collect();
        keys.sort_unstable();
        let values = values(&job);
        assert_eq!(keys, values.keys().map(String::as_str).collect::<Vec<_>>());
    }

    #[test]
    fn a_job_is_what_it_was_after_it_was_written_and_read() {
        let mut job = Job::quant_weight("a", "b", Precision::W8a8).ranks(4).model("llama2_7b").overwrite();
        job.source.step = Some("17".to_owned());
        job.edits.ignore = vec!["*.x".to_owned()];
        job.calibrate.rope_theta = Some(5e5);
        job.run.reading.memory = Some(1 << 40);
        let text = serde_json::to_string(&job).unwrap();
        assert_eq!(serde_json::from_str::<Job>(&text).unwrap(), job, "{text}");
        let short = r#"{"function": "pt_to_ms", "precision": "bf16", "source": "hf", "world_size": 8}"#;
        assert_eq!(serde_json::from_str::<Job>(short).unwrap(), {
            let mut job = Job::new(PtToMs, Precision::Bf16, "hf");
            job.target.ranks = Some(8);
            job
        });
    }
}
