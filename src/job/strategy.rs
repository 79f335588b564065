//! `strategy`: small tools on strategy files.

use std::path::{Path, PathBuf};

use super::settings;
use super::strategy_name::strategy_name;
use crate::Error;
use crate::engine::{Durability, Publish, Staging};
use crate::formats::FormatError;
use crate::formats::mindspore::{
    is_json_strategy, merge_strategies, strategy_to_json, strategy_to_protobuf, write_strategy,
};
use crate::input::{InputError, load_model, load_strategies, strategy_bytes};
use crate::model::Model;
use crate::plan::rules_strategy;
use crate::sys;

/// Merges the files of pipeline stages in a directory into one. Returns what was done, in a line.
///
/// # Errors
/// Files that make no whole; a file that is there.
pub fn merge_strategy(dir: &Path, out: &Path) -> Result<String, Error> {
    merge(dir, out)
}

/// Writes the strategy of an inference checkpoint. `fused`: whether the checkpoint is; else as the model says. Returns what was
/// done, in a line.
///
/// # Errors
/// A model that is not known or does not divide; a file that is there.
pub fn model_strategy(model: &str, ranks: u32, out: &Path, fused: Option<bool>) -> Result<String, Error> {
    let mut spec = load_model(model)?;
    spec.fused = fused.or(spec.fused);
    from_model(&spec, ranks, out)
}

/// Converts a strategy file between protobuf and JSON, as the names say. Returns what was done, in a line.
///
/// # Errors
/// A file that cannot be converted, or is there.
pub fn convert_strategy(from: &Path, to: &Path, model: Option<&str>) -> Result<String, Error> {
    convert(from, to, model)
}

fn merge(dir: &Path, out: &Path) -> Result<String, Error> {
    // Stages that are missing or contradict each other are found by reading them as one.
    let source = load_strategies(dir, &settings::budget(None))?;
    let files: Vec<Vec<u8>> = source.files.iter().map(|path| strategy_bytes(path)).collect::<Result<_, _>>()?;
    if let Some(at) = files.iter().position(|bytes| is_json_strategy(bytes) != is_json_strategy(&files[0])) {
        let (first, second) = (source.files[0].display(), source.files[at].display());
        return Err(Error::Usage(format!("{first} and {second}: one is JSON, the other is not")));
    }
    check_name(out, is_json_strategy(&files[0]))?;
    let merged = merge_strategies(&files).map_err(|(at, source_error)| fault(&source.files[at], source_error))?;
    write(out, &merged)?;
    let (stages, files) = (source.set.stages().len(), source.files.len());
    Ok(format!("{}: {stages} stage(s) of {files} file(s)", out.display()))
}

fn from_model(spec: &Model, ranks: u32, out: &Path) -> Result<String, Error> {
    let layouts = rules_strategy(spec, u64::from(ranks))?;
    let bytes = write_strategy(&layouts, 0);
    match out.extension().and_then(|e| e.to_str()) {
        Some("ckpt") => write(out, &bytes)?,
        Some("json") => {
            let shape = |name: &str| spec.stored_shape(name).map(|shape| shape.dims().to_vec());
            write(out, &strategy_to_json(&bytes, &shape).map_err(|e| fault(out, e))?)?;
        }
        _ => {
            refuse_existing(out)?;
            let mut staging = Staging::new(out, Publish::New, Durability::Synced)?;
            for rank in 0..ranks {
                staging.write(&strategy_name(rank), |to| to.write_all(&bytes))?;
            }
            staging.ready(Vec::new())?.publish()?.keep();
        }
    }
    Ok(format!("{}: {} parameters over {ranks} rank(s)", out.display(), layouts.len()))
}

fn convert(from: &Path, to: &Path, model: Option<&str>) -> Result<String, Error> {
    let spec = model.map(load_model).transpose()?;
    let bytes = strategy_bytes(from)?;
    let json = is_json_strategy(&bytes);
    check_name(to, !json)?;
    let converted = if json {
        strategy_to_protobuf(&bytes)
    } else {
        let shape = |name: &str| Some(spec.as_ref()?.stored_shape(name)?.dims().to_vec());
        strategy_to_json(&bytes, &shape)
    };
    write(to, &converted.map_err(|e| fault(from, e))?)?;
    Ok(format!("{}: written from {}", to.display(), from.display()))
}

/// MindSpore determines the encoding by the name.
fn check_name(path: &Path, json: bool) -> Result<(), Error> {
    let named_json = path.extension().is_some_and(|e| e == "json");
    if named_json == json {
        return Ok(());
    }
    let (is, wanted) = if json { ("JSON", "ends in") } else { ("protobuf", "does not end in") };
    Err(Error::Usage(format!("{}: this will be {is}, whose name {wanted} .json", path.display())))
}

fn fault(path: &Path, source: FormatError) -> Error {
    InputError::Format { path: path.to_owned(), source: source.into() }.into()
}

/// These commands replace nothing.
fn refuse_existing(path: &Path) -> Result<(), Error> {
    if path.symlink_metadata().is_ok() { Err(Error::FileExists(path.to_owned())) } else { Ok(()) }
}

/// Writes a file that must not be there yet; it gets its name when it is whole.
fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    refuse_existing(path)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let dir =
        path.parent().filter(|dir| !dir.as_os_str().is_empty()).map_or_else(|| PathBuf::from("."), Path::to_owned);
    sys::create_dir(&dir)?;
    let staged = dir.join(format!(".{name}.partial"));
    // A leftover of a run that died.
    let _ = std::fs::remove_file(&staged);
    sys::write_small(&staged, true, |to| to.write_all(bytes))?;
    sys::rename_new(&staged, path)?;
    Ok(sys::sync_dir(&dir)?)
}
