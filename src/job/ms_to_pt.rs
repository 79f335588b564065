//! The recipe of `-f ms_to_pt`: from rank files to a Hugging Face directory.

use std::path::{Path, PathBuf};

use super::case::Case;
use super::choices::Format;
use super::left_out::LeftOut;
use super::planner::{Conversion, Facts, LaidOut};
use super::pt_to_ms::check_same;
use super::spec::Job;
use super::{head, hf_config, reading, train_to_infer};
use crate::Error;
use crate::formats::FormatKind;
use crate::input::{companions, load_config, read_companions};
use crate::models::ModelSpec;
use crate::models::foreign::{Family, Naming};
use crate::plan::{self, Catalog, PlanError, PlanOptions, WholeModel, WholeReader};

/// transformers' own default for `max_shard_size`.
const SHARD_BYTES: u64 = 5_000_000_000;

/// Plans it.
pub(super) fn plan(case: &Case<'_>) -> Result<Conversion, Error> {
    let job = case.job;
    let beside = Beside::look(case)?;
    let files = case.input().source_files();
    let (left_out, strategy) = if job.is_trained() {
        let strategy = train_to_infer::strategy(case, &files)?;
        (LeftOut::of_run(case, &files, strategy.as_ref())?, strategy)
    } else {
        (LeftOut::of_state(case, &files)?, reading::strategy(job.source.strategy.as_deref())?)
    };
    let merged = train_to_infer::merged(job, &left_out)?;
    // The q, k and v of internlm2 are in order of the heads.
    let known = (beside.known(case), beside.family == Some(Family::InternLm2));
    let mut facts = Facts::of_ranks(case, &files, left_out, strategy.as_ref(), known)?;
    let tied = match &beside.described {
        Some(found) => head::settle(case, &files, &mut facts.catalog, found.tied)?,
        None => None,
    };
    if let Some(alpha) = merged {
        facts.catalog.merge_adapters(alpha)?;
    }
    beside.ask_for_configuration(case, &facts.catalog);
    check_whole(case, &facts.catalog, beside.known(case).is_some())?;
    let naming = Naming::new(beside.family.unwrap_or_else(|| family_of(&facts.catalog)));
    let ranks = vec![plan::foreign_target(&facts.catalog, &reading::dialect(naming))?];
    let target = job.target.dir.join(format!("{}_hf", job.precision));
    let laid_out = LaidOut { files: files.clone(), ranks, quantised: None, target, strategies: None };
    let mut conversion = facts.planned(laid_out, &plan_options(job))?;
    let written = hf_config::Facts { tied, dtype: hf_config::dtype_of_weights(&conversion.plan) };
    beside.carry_along(case, &facts.left_out, &written, &mut conversion)?;
    Ok(conversion)
}

/// What lies beside the source, or in the directory that is to be carried along instead.
struct Beside {
    files: Vec<PathBuf>,
    /// The model of its `config.json`.
    described: Option<ModelSpec>,
    family: Option<Family>,
}

impl Beside {
    fn look(case: &Case<'_>) -> Result<Self, Error> {
        let job = case.job;
        let files = match (&job.target.hf_config, job.source.path.is_dir()) {
            (Some(dir), _) => companions(dir)?,
            (None, true) => companions(&job.source.path)?,
            (None, false) => Vec::new(),
        };
        let config = files.iter().find(|path| path.ends_with("config.json"));
        let (described, family) = config.map(|path| load_config(path)).transpose()?.unzip();
        let named = case.known.named.as_ref();
        if let (Some(named), Some(found)) = (named, &described) {
            check_same(named, found)?;
        }
        if let Some(known) = named.or(described.as_ref()) {
            head::agree(job, known.tied, if named.is_some() { "-y" } else { "the config.json" })?;
        }
        Ok(Self { files, described, family })
    }

    /// The model, as far as it is known.
    fn known<'a>(&'a self, case: &Case<'a>) -> Option<&'a ModelSpec> {
        case.known.named.as_ref().or(self.described.as_ref())
    }

    fn ask_for_configuration(&self, case: &Case<'_>, catalog: &Catalog) {
        if self.described.is_none() {
            let tied = if catalog.has_head() {
                ""
            } else {
                ", and it must say `tie_word_embeddings: true`: there is no lm_head"
            };
            case.note(&format!(
                "no config.json beside the source: transformers needs one to load the result (--hf-config DIR carries it along){tied}",
            ));
        }
    }

    /// Adds the files to the target; the configuration says what is written.
    fn carry_along(
        &self,
        case: &Case<'_>,
        left_out: &LeftOut,
        written: &hf_config::Facts,
        conversion: &mut Conversion,
    ) -> Result<(), Error> {
        let mut carried = read_companions(&self.files, &|name| left_out.is_ignored(name))?;
        if let Some((name, json)) = carried.files.iter_mut().find(|(name, _)| name == "config.json") {
            let (corrected, changes) = hf_config::corrected(Path::new(name), json, written, case.observer)?;
            *json = corrected;
            conversion.choices.extend(changes);
        } else if let Some((tied, why)) = written.tied {
            case.note(&format!(
                "no config.json is written: the one that the result gets must say `tie_word_embeddings: {tied}` ({why})"
            ));
        }
        conversion.carry_along(case, carried);
        Ok(())
    }
}

/// A whole model that Hugging Face has names for. `known`: whether anything but the tensors says whether it has a head.
fn check_whole(case: &Case<'_>, catalog: &Catalog, known: bool) -> Result<(), Error> {
    if let Some(held) = catalog.quantised_as() {
        let why = format!(
            "the source is quantised ({held}), and Hugging Face has no names for that: convert the checkpoint that it was made from"
        );
        return Err(PlanError::Quantised(why).into());
    }
    if !known {
        head::check_ours(case.job, catalog)?;
    }
    // Whether it needs a head is settled.
    Ok(catalog.check_complete(Some(true))?)
}

/// How the files are written.
fn plan_options(job: &Job) -> PlanOptions {
    PlanOptions {
        precision: job.weights(),
        norms: job.norms(),
        format: match job.target.format {
            Some(Format::Bin) => FormatKind::PyTorch,
            _ => FormatKind::Safetensors,
        },
        crc: false,
        // Only .ckpt files have padding.
        padding: true,
        whole: Some(WholeModel {
            shard_bytes: job.target.max_shard_size.unwrap_or(SHARD_BYTES),
            reader: WholeReader::HuggingFace,
        }),
    }
}

/// The family whose names fit, where no configuration shows it: llama and qwen2 differ in their biases only.
fn family_of(catalog: &Catalog) -> Family {
    let bias = catalog.tensors().iter().any(|t| t.name.ends_with(".attention.wq.bias"));
    if bias { Family::Qwen2 } else { Family::Llama }
}
