//! The model that `-y` names: a mindformers yaml or a built-in one.

use std::path::Path;

use super::InputError;
use crate::models::{ModelSpec, RunFacts, SpecError, VersionSign, builtin, from_yaml, lora_alpha, version_sign};
use crate::sys::read_small;

/// Reads a yaml, or looks up a built-in model. A file of that name counts first.
pub fn load_model(name: &str) -> Result<ModelSpec, InputError> {
    let error = |source| InputError::Model { name: name.to_owned(), source };
    let path = Path::new(name);
    if path.is_file() {
        let bytes = read_small(path, 4 << 20)?;
        let text = std::str::from_utf8(&bytes).map_err(|e| error(SpecError::Unreadable(e.to_string())))?;
        return from_yaml(text).map_err(error);
    }
    builtin(name).ok_or_else(|| error(SpecError::UnknownModel(name.to_owned())))
}

/// The `lora_alpha` that a yaml states. `None` where it states none, and for a built-in model.
pub fn load_lora_alpha(name: &str) -> Result<Option<f64>, InputError> {
    let path = Path::new(name);
    if !path.is_file() {
        return Ok(None);
    }
    let bytes = read_small(path, 4 << 20)?;
    Ok(std::str::from_utf8(&bytes).ok().and_then(lora_alpha))
}

/// What in a yaml shows that it is for mindformers 1.4 or later. `None` where nothing does, and for a built-in model.
pub fn load_version_sign(name: &str) -> Result<Option<VersionSign>, InputError> {
    let path = Path::new(name);
    if !path.is_file() {
        return Ok(None);
    }
    let bytes = read_small(path, 4 << 20)?;
    Ok(std::str::from_utf8(&bytes).ok().and_then(version_sign))
}

/// What a yaml or a built-in model says of the model's arithmetic. A yaml may say nothing.
pub fn load_run_facts(name: &str) -> Result<RunFacts, InputError> {
    let error = |source| InputError::Model { name: name.to_owned(), source };
    let path = Path::new(name);
    if path.is_file() {
        let bytes = read_small(path, 4 << 20)?;
        let text = std::str::from_utf8(&bytes).map_err(|e| error(SpecError::Unreadable(e.to_string())))?;
        return RunFacts::from_yaml(text).map_err(error);
    }
    RunFacts::builtin(name).ok_or_else(|| error(SpecError::UnknownModel(name.to_owned())))
}
