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
use crate::formats::{PYTORCH, SAFETENSORS};
use crate::input::{companions, load_config, read_companions};
use crate::model::naming::HEAD_LAYER;
use crate::model::{Dialect, Family, Model};
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
        (LeftOut::of_state(case, &files)?, reading::strategy(job.source.strategy.as_deref(), job.run.reading.memory)?)
    };
    let merged = train_to_infer::merged(job, &left_out)?;
    // As the q, k and v of internlm2 are.
    let by_heads =
        beside.described.as_ref().is_some_and(|model| names_of(model.family()).is_ok_and(|names| names.is_by_heads()));
    let known = (beside.known.as_ref(), by_heads);
    let mut facts = Facts::of_ranks(case, &files, left_out, strategy.as_ref(), known)?;
    let tied = match &beside.described {
        Some(found) => head::settle(case, &files, &mut facts.catalog, found.tied())?,
        None => None,
    };
    if let Some(alpha) = merged {
        facts.catalog.merge_adapters(alpha)?;
    }
    beside.ask_for_configuration(case, &facts.catalog);
    check_whole(case, &facts.catalog, beside.known.is_some())?;
    let family = beside.described.as_ref().map(Model::family).or_else(|| facts.catalog.family());
    let names = family.ok_or_else(|| PlanError::Lacks(Vec::new()).into()).and_then(names_of)?;
    let ranks = vec![plan::foreign_target(&facts.catalog, &names)?];
    let target = job.target.dir.join(format!("{}_hf", job.precision));
    let laid_out = LaidOut { files: files.clone(), ranks, quantised: None, target, strategies: None };
    let mut conversion = facts.planned(laid_out, &hugging_face_options(job))?;
    let written = hf_config::Facts { tied, dtype: hf_config::dtype_of_weights(&conversion.plan) };
    beside.carry_along(case, &facts.left_out, &written, &mut conversion)?;
    Ok(conversion)
}

/// What lies beside the source, or in the directory that is to be carried along instead.
struct Beside {
    files: Vec<PathBuf>,
    /// The model of its `config.json`.
    described: Option<Model>,
    /// The model, as far as it is known.
    known: Option<Model>,
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
        let described = config.map(|path| load_config(path)).transpose()?;
        let named = case.known.named.as_ref();
        if let (Some(named), Some(found)) = (named, &described) {
            check_same(named, found)?;
        }
        // The configuration is of the family that is written. -y, with which its sizes agree, says more of the source's head.
        let known = match (&described, named) {
            (Some(found), Some(named)) => Some(found.clone().with_tied(named.tied())),
            (found, named) => found.as_ref().or(named).cloned(),
        };
        if let Some(known) = &known {
            head::agree(job, known.tied(), if named.is_some() { "-y" } else { "the config.json" })?;
        }
        Ok(Self { files, described, known })
    }

    fn ask_for_configuration(&self, case: &Case<'_>, catalog: &Catalog) {
        if self.described.is_none() {
            let tied = if catalog.has_head() {
                String::new()
            } else {
                format!(", and it must say `tie_word_embeddings: true`: there is no {HEAD_LAYER}")
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
        } else if let Some((tied, why)) = &written.tied {
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
pub(super) fn hugging_face_options(job: &Job) -> PlanOptions {
    PlanOptions {
        precision: job.weights(),
        norms: job.norms(),
        format: match job.target.format {
            Some(Format::Bin) => PYTORCH,
            _ => SAFETENSORS,
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

/// The names that Hugging Face's files have for the parameters of a family.
pub(super) fn names_of(family: &'static Family) -> Result<Dialect, Error> {
    let none = || PlanError::NoForeignName { family: &family.name, names: vec!["any parameter".to_owned()] };
    Ok(Dialect::hugging_face(family).ok_or_else(none)?)
}
