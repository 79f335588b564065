//! The model that `-y` names: a mindformers yaml, a `config.json` or a built-in one.

use std::path::Path;

use super::{InputError, load_config};
#[cfg(feature = "calibrate")]
use crate::model::RunFacts;
use crate::model::{MAX_CONFIG_BYTES, Model, SpecError, VersionSign, builtin, from_yaml, lora_alpha, version_sign};
use crate::sys::read_small;

/// Reads a yaml or a `config.json`, or looks up a built-in model. A file of that name counts first.
///
/// # Errors
/// A file that cannot be read or is of no model that is known; a name that is neither a file's nor a built-in model's.
pub fn load_model(name: &str) -> Result<Model, InputError> {
    match yaml(name)? {
        Some(text) if is_json(&text) => load_config(Path::new(name)),
        Some(text) => from_yaml(&text).map_err(|source| error(name, source)),
        None => builtin(name).ok_or_else(|| error(name, SpecError::UnknownModel(name.to_owned()))),
    }
}

/// The `lora_alpha` that a yaml states. `None` where it states none, and for a built-in model.
///
/// # Errors
/// A yaml that cannot be read.
pub fn load_lora_alpha(name: &str) -> Result<Option<f64>, InputError> {
    let found = yaml(name)?.map(|text| lora_alpha(&text)).transpose();
    found.map(Option::flatten).map_err(|source| error(name, source))
}

/// What in a yaml shows that it is for mindformers 1.4 or later. `None` where nothing does, and for a built-in model.
///
/// # Errors
/// A yaml that cannot be read.
pub fn load_version_sign(name: &str) -> Result<Option<VersionSign>, InputError> {
    let found = yaml(name)?.map(|text| version_sign(&text)).transpose();
    found.map(Option::flatten).map_err(|source| error(name, source))
}

/// What a yaml or a built-in model says of the model's arithmetic. A yaml may say nothing.
///
/// # Errors
/// As [`load_model`].
#[cfg(feature = "calibrate")]
pub fn load_run_facts(name: &str) -> Result<RunFacts, InputError> {
    match yaml(name)? {
        Some(text) if is_json(&text) => {
            RunFacts::from_config_json(text.as_bytes()).map_err(|source| error(name, source))
        }
        Some(text) => RunFacts::from_yaml(&text).map_err(|source| error(name, source)),
        None => RunFacts::builtin(name).ok_or_else(|| error(name, SpecError::UnknownModel(name.to_owned()))),
    }
}

/// No yaml of mindformers' is written so, though it could be.
fn is_json(text: &str) -> bool {
    text.trim_start().starts_with('{')
}

/// The text of a yaml. `None`: no file has that name.
fn yaml(name: &str) -> Result<Option<String>, InputError> {
    let path = Path::new(name);
    if !path.is_file() {
        return Ok(None);
    }
    let text = String::from_utf8(read_small(path, MAX_CONFIG_BYTES as u64)?);
    text.map(Some).map_err(|e| {
        let sound = &e.as_bytes()[..e.utf8_error().valid_up_to()];
        let line = sound.split(|byte| *byte == b'\n').count();
        error(name, SpecError::Unreadable(format!("line {line} is not UTF-8; save the file as UTF-8")))
    })
}

fn error(name: &str, source: SpecError) -> InputError {
    InputError::Model { name: name.to_owned(), source }
}
