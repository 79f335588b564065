//! The recipe of `-f ms_to_pt` for a source of llama.cpp's: from a GGUF file to a Hugging Face directory.

use std::path::Path;

use serde_json::Value as Json;

use super::case::Case;
use super::left_out::LeftOut;
use super::ms_to_pt::{hugging_face_options, names_of};
use super::planner::{Conversion, Facts, LaidOut};
use super::pt_to_ms::{check_same, say};
use super::reading::{self, Read, Reading, Tied};
use super::{head, hf_config};
use crate::Error;
use crate::formats::SAFETENSORS;
use crate::input::{ForeignInput, companions, load_config, read_companions};
use crate::model::{FusionLayout, GgufModel};
use crate::plan::{self, list};

const CONFIG: &str = "config.json";

/// Plans it.
pub(super) fn plan(case: &Case<'_>, foreign: &ForeignInput, gguf: &GgufModel) -> Result<Conversion, Error> {
    let job = case.job;
    foreign.notes.iter().for_each(|text| case.note(text));
    if let Some(named) = &case.known.named {
        check_same(named, &gguf.model)?;
    }
    head::agree(job, foreign.tied, "the GGUF file")?;
    let left_out = LeftOut::as_asked(case)?;
    let files = foreign.input.source_files();
    let how = Reading {
        evidence: &foreign.input,
        spec: None,
        strategy: None,
        fusion: FusionLayout::RankConcat,
        other_grouped: false,
        heads: job.heads(),
        ignore: &|name| left_out.leaves_out(name),
    };
    let tied = Tied { source: foreign.tied, target: foreign.tied };
    let (Read { catalog, spec, .. }, notes) = reading::read_foreign(foreign, &files, &how, tied)?;
    say(case, &notes);
    let ranks = vec![plan::foreign_target(&catalog, &names_of(gguf.model.family())?)?];
    let target = job.target.dir.join(format!("{}_hf", job.precision));
    let laid_out = LaidOut { files: files.clone(), ranks, quantised: None, target, strategies: None };
    let (tied, all_replicas) = (Some(foreign.tied), job.checks.replicas);
    let format = SAFETENSORS;
    let facts = Facts { case, files: &files, left_out, catalog, spec, tied, target: None, format, all_replicas };
    let mut conversion = facts.planned(laid_out, &hugging_face_options(job))?;
    carry_along(case, foreign, gguf, &facts.left_out, &mut conversion)?;
    Ok(conversion)
}

/// Adds the files beside the source or of --hf-config; without a `config.json` among them, what the metadata say of it.
fn carry_along(
    case: &Case<'_>,
    foreign: &ForeignInput,
    gguf: &GgufModel,
    left_out: &LeftOut,
    conversion: &mut Conversion,
) -> Result<(), Error> {
    let files = match &case.job.target.hf_config {
        Some(dir) => companions(dir)?,
        None => foreign.companions.clone(),
    };
    let dtype = hf_config::dtype_of_weights(&conversion.plan);
    let mut carried = read_companions(&files, &|name| left_out.is_ignored(name))?;
    if let Some((name, json)) = carried.files.iter_mut().find(|(name, _)| name == CONFIG) {
        let described = files.iter().find(|path| path.ends_with(CONFIG)).map(|path| load_config(path)).transpose()?;
        if let Some(described) = &described {
            check_same(described, &gguf.model)?;
        }
        let why =
            if foreign.tied { "the GGUF file has no output.weight" } else { "the GGUF file has an output.weight" };
        let other = described.is_some_and(|described| described.tied() != foreign.tied);
        let written = hf_config::Facts { tied: other.then(|| (foreign.tied, why.to_owned())), dtype };
        let (corrected, changes) = hf_config::corrected(Path::new(name), json, &written, case.observer)?;
        *json = corrected;
        conversion.choices.extend(changes);
    } else {
        let mut config = gguf.config.clone();
        if let Some(name) = dtype.and_then(hf_config::torch_name) {
            config.insert("dtype".to_owned(), name.into());
        }
        let mut text = format!("{:#}", Json::Object(config));
        text.push('\n');
        carried.files.push((CONFIG.to_owned(), text.into_bytes()));
        let written = "config.json is written from the metadata of the GGUF file";
        if gguf.left_out.is_empty() {
            case.note(written);
        } else {
            let keys = list(&gguf.left_out);
            case.note(&format!(
                "{written}, but for {keys}: --hf-config DIR carries that of the original model along instead"
            ));
        }
    }
    if !carried.files.iter().any(|(name, _)| name.starts_with("tokenizer")) {
        case.note(
            "the tokenizer in the GGUF file is not converted: copy that of the original model into the result (--hf-config \
             DIR carries it along)",
        );
    }
    conversion.carry_along(case, carried);
    Ok(())
}
