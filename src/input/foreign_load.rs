//! Mapping and parsing a checkpoint that PyTorch programs wrote, and the configuration beside it.

use std::path::{Path, PathBuf};

use super::companions::refuse_pointer;
use super::foreign::{ForeignFiles, ForeignIndex, ForeignKind, check_index, discover_foreign};
use super::loaded_file::load;
use super::{Input, InputError, LoadedFile, Opening, quantised};
use crate::formats::{Of, PYTORCH};
use crate::model::{
    Dialect, GgufModel, Model, Origin, Place, SpecError, check_adapters, from_config_json, from_gguf, from_params_json,
    name_in_meta_release, origin,
};
use crate::sys::read_small;

/// More than any configuration has.
const CONFIG_LIMIT: u64 = 4 << 20;

/// A foreign checkpoint: its files mapped, their headers parsed. No tensor was touched.
#[derive(Debug)]
pub struct ForeignInput {
    /// Its files. Meta's shard i has rank i, all other files rank 0.
    pub input: Input,
    /// The model, where a configuration is beside the files.
    pub model: Option<Model>,
    /// What the metadata of a GGUF file says of it.
    pub gguf: Option<GgufModel>,
    /// Whose names the parameters have.
    pub dialect: Dialect,
    /// Model-parallel shards: more than one only for Meta's releases.
    pub shards: u64,
    /// Whether the configuration says that `lm_head` is the embedding.
    pub tied: bool,
    /// Files beside them that a user of the model needs.
    pub companions: Vec<PathBuf>,
    /// What was there and was not taken, as sentences to be printed.
    pub notes: Vec<String>,
}

impl ForeignInput {
    /// Finds, maps and parses a checkpoint.
    ///
    /// # Errors
    /// As the files are discovered and parsed; a configuration that cannot be used; names that are mindformers', of no family
    /// or of two.
    pub fn open(path: &Path, opening: Opening<'_>) -> Result<Self, InputError> {
        let ForeignFiles { kind, config, companions, notes } = discover_foreign(path)?;
        let (paths, index, params): (Vec<PathBuf>, Option<ForeignIndex>, Option<PathBuf>) = match kind {
            ForeignKind::HfSafetensors { files, index } | ForeignKind::HfBin { files, index } => (files, index, None),
            ForeignKind::SinglePth(file) => (vec![file], None, None),
            ForeignKind::Gguf(files) => (files, None, None),
            ForeignKind::Meta { shards, params } => (shards, None, Some(params)),
        };
        let mut files = Vec::with_capacity(paths.len());
        for (number, path) in (0u32..).zip(&paths) {
            files.push(load(if params.is_some() { number } else { 0 }, path, opening)?);
        }
        if let Some(index) = &index {
            let name = |f: &LoadedFile| f.mapping.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
            let named: Vec<(String, &LoadedFile)> = files.iter().map(|f| (name(f), f)).collect();
            check_index(index, named.iter().map(|(name, f)| (name.as_str(), f.entries.iter().map(|e| &*e.name))))?;
        }
        let shards = if params.is_some() { files.len() as u64 } else { 1 };
        let gguf = gguf_model(&files)?;
        let model = match (&params, &config) {
            _ if gguf.is_some() => gguf.as_ref().map(|found| found.model.clone()),
            (Some(params), _) => Some(meta_model(params, &files, shards)?),
            (None, Some(config)) => {
                Some(load_config(config).map_err(|error| quantised::by_config(path, &files, error))?)
            }
            (None, None) => None,
        };
        let names = || files.iter().flat_map(|f| &f.entries).map(|e| &*e.name);
        let naming_error = |source| InputError::Naming { path: path.to_owned(), source };
        let found = origin(names());
        if matches!(found, Ok(Some(Origin::MindSpore))) {
            return Err(InputError::IsMindSpore(path.to_owned()));
        }
        let no_family = || {
            let names = names().map(str::to_owned).collect();
            InputError::NoFamily { path: path.to_owned(), names }
        };
        let family = if let Some(model) = &model {
            model.family()
        } else {
            check_adapters(names()).map_err(naming_error)?;
            match found.as_ref() {
                Ok(Some(Origin::Foreign(dialect))) => dialect.family(),
                Err(error) => return Err(naming_error(error.clone())),
                _ => return Err(no_family()),
            }
        };
        // The names of a family of the user's may be MindSpore's only.
        let dialect = Dialect::foreign(family, names()).map_err(naming_error)?.ok_or_else(no_family)?;
        if let (Some(_), Ok(Some(Origin::Foreign(other)))) = (&config, &found) {
            let known =
                |dialect: &Dialect| names().filter(|name| matches!(dialect.place(name), Place::Stored(_))).count();
            if known(other) > known(&dialect) {
                let (said, found) = (family.name.as_str(), other.family().name.as_str());
                return Err(InputError::OtherFamily { path: path.to_owned(), said, found });
            }
        }
        let tied = model.as_ref().is_some_and(Model::tied) && params.is_none();
        let format = files.first().map_or(PYTORCH, |f| f.format);
        let input = Input { files, format, why: None };
        Ok(Self { input, model, gguf, dialect, shards, tied, companions, notes })
    }

    /// The strides of an entry (file, entry), where it is a view that is not row-major.
    pub fn strides(&self, file: usize, entry: usize) -> Option<Vec<u64>> {
        self.input.files.get(file)?.strides.get(entry)?.clone()
    }
}

/// Reads a `config.json`.
pub fn load_config(path: &Path) -> Result<Model, InputError> {
    let json = read_small(path, CONFIG_LIMIT)?;
    refuse_pointer(path, &json)?;
    from_config_json(&json).map_err(|source| model_error(path, source))
}

fn model_error(path: &Path, source: SpecError) -> InputError {
    InputError::Model { name: path.display().to_string(), source }
}

/// The model of llama.cpp's files: of several the first has the metadata.
fn gguf_model(files: &[LoadedFile]) -> Result<Option<GgufModel>, InputError> {
    let Some(first) = files.first().filter(|file| file.format.of() == Of::LlamaCpp) else { return Ok(None) };
    let rows = |name: &str| {
        let entry = files.iter().flat_map(|file| &file.entries).find(|entry| *entry.name == *name)?;
        entry.shape.dims().first().copied()
    };
    from_gguf(&first.metadata, &rows).map(Some).map_err(|source| model_error(first.mapping.path(), source))
}

/// The model of a Meta release, whose `params.json` may leave the vocabulary to the tensors.
fn meta_model(params: &Path, files: &[LoadedFile], shards: u64) -> Result<Model, InputError> {
    let json = read_small(params, CONFIG_LIMIT)?;
    // Both are cut over their rows in every release.
    let rows = |param: &str| {
        let name = name_in_meta_release(param)?;
        let entry = files.first()?.entries.iter().find(|e| *e.name == *name)?;
        entry.shape.dims().first()?.checked_mul(shards)
    };
    // Without a head the embedding shows the vocabulary, unless its columns are cut.
    let embedding = || rows("embedding").filter(|_| shards == 1);
    let (vocab, ffn) = (rows("head").or_else(embedding), rows("gate"));
    from_params_json(&json, vocab, ffn).map_err(|source| model_error(params, source))
}
