//! `inspect PATH`: what a checkpoint, a rank directory or a strategy file holds.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::reading::{self, Opened, Reading};
use super::{Silent, crcs, settings};
use crate::Error;
use crate::engine::{CancelToken, Noop};
use crate::input::{RankGaps, is_strategy, load_model, load_strategies};
use crate::layout::OptimizerShard;
use crate::model::naming::fused;
use crate::model::{FusionLayout, Model};
use crate::plan::Heads;
use crate::report::{CheckpointListing, ParamListing, RankListing, StrategyListing, TensorListing};

/// A requested look at a path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inspect {
    /// A checkpoint, a rank directory, a file, or strategy files.
    pub path: PathBuf,
    /// The strategy of the checkpoint.
    pub strategy: Option<PathBuf>,
    /// The model: a mindformers yaml or the name of a built-in one.
    pub model: Option<String>,
    /// Whether the CRCs that the files state are left unchecked.
    pub no_crc_check: bool,
}

/// What is there.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Listing {
    /// A checkpoint.
    Checkpoint(CheckpointListing),
    /// Strategy files.
    Strategy(StrategyListing),
}

impl Listing {
    /// As text.
    pub fn text(&self) -> String {
        match self {
            Self::Checkpoint(listing) => listing.text(),
            Self::Strategy(listing) => listing.text(),
        }
    }

    /// Whether a file is not what its CRC says.
    pub fn is_damaged(&self) -> bool {
        matches!(self, Self::Checkpoint(listing) if listing.ranks.iter().any(|rank| rank.damaged))
    }
}

/// What a checkpoint, a rank directory or a strategy file holds.
///
/// # Errors
/// Where it cannot be read.
pub fn inspect(path: impl AsRef<Path>) -> Result<Listing, Error> {
    Inspect::new(path).run()
}

impl Inspect {
    /// Of a path.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self { path: path.as_ref().to_owned(), ..Self::default() }
    }

    /// Looks.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn run(&self) -> Result<Listing, Error> {
        if is_strategy(&self.path)? {
            Ok(Listing::Strategy(inspect_strategy(&self.path)?))
        } else {
            Ok(Listing::Checkpoint(checkpoint(self)?))
        }
    }
}

fn checkpoint(asked: &Inspect) -> Result<CheckpointListing, Error> {
    let spec = asked.model.as_deref().map(load_model).transpose()?;
    let strategy = reading::strategy(asked.strategy.as_deref(), None)?;
    let opened = Opened::open(&asked.path, RankGaps::Allowed, None)?;
    let input = opened.input();
    let files = input.source_files();
    let how = Reading {
        evidence: input,
        spec: spec.as_ref(),
        strategy: strategy.as_ref(),
        fusion: FusionLayout::RankConcat,
        other_grouped: false,
        heads: Heads::default(),
        ignore: &|_| false,
    };
    let mut notes = Vec::new();
    // A listing shows what is there even where it makes no whole model; why it does not is said.
    let any = spec.is_none() && strategy.is_none() && opened.is_of_no_family(how.ignore);
    let read = if any { reading::read_copied(&files, how.ignore) } else { opened.read(&files, &how) };
    let catalog = match read {
        Ok(read) => {
            notes.extend(read.inferred);
            if !any {
                let whole = read.catalog.check_complete(spec.as_ref().map(Model::tied));
                notes.extend(whole.err().map(|e| e.to_string()));
            }
            Some(read.catalog)
        }
        Err(e) => {
            notes.push(format!("full shapes are not known: {e}"));
            None
        }
    };
    let full_shape = |name: &str| {
        let catalog = catalog.as_ref()?;
        if let Some(index) = catalog.get(name) {
            return Some(catalog.tensors()[index].shape.dims().to_vec());
        }
        // A fused parameter has the rows of its parts.
        let info = fused(name).filter(|f| f.name == name)?;
        let parts: Vec<_> =
            info.parts.iter().map(|p| Some(&catalog.tensors()[catalog.get(p)?].shape)).collect::<Option<_>>()?;
        let mut dims = parts.first()?.dims().to_vec();
        *dims.first_mut()? = parts.iter().filter_map(|s| s.dims().first()).sum();
        Some(dims)
    };
    let mut seen = HashSet::new();
    let mut tensors = Vec::new();
    for file in &files {
        for entry in file.entries {
            if seen.insert(entry.name.clone()) {
                tensors.push(TensorListing {
                    name: entry.name.to_string(),
                    dtype: entry.dtype.name().to_owned(),
                    shape: entry.shape.dims().to_vec(),
                    full_shape: full_shape(&entry.name),
                    rank: file.rank,
                });
            }
        }
    }
    let faults = if asked.no_crc_check {
        Vec::new()
    } else {
        crcs::faults(input, &settings::of_readers(&input.mappings()), &Noop, &CancelToken::default())?
    };
    reading::as_read(&input.mappings(), Ok(()))?;
    notes.extend(faults.iter().map(|(_, fault)| fault.to_string()));
    let ranks: Vec<RankListing> = input
        .files
        .iter()
        .map(|f| RankListing {
            rank: f.rank,
            file: f.mapping.path().display().to_string(),
            bytes: f.mapping.len() as u64,
            tensors: f.entries.len(),
            crc: f.crc.is_some(),
            damaged: faults.iter().any(|(path, _)| path == f.mapping.path()),
        })
        .collect();
    if let Err(e) = reading::check_unchanged(&input.mappings(), &Silent) {
        notes.push(e.to_string());
    }
    Ok(CheckpointListing {
        path: asked.path.display().to_string(),
        format: input.format.title().to_owned(),
        bytes: ranks.iter().map(|r| r.bytes).sum(),
        fused: tensors.iter().any(|t| fused(&t.name).is_some_and(|f| f.name == t.name)),
        parameters: catalog.map(|c| c.tensors().iter().map(|t| t.shape.elements()).sum()),
        ranks,
        tensors,
        notes,
    })
}

/// What the strategy files at a path say.
///
/// # Errors
/// Where they cannot be read.
pub fn inspect_strategy(path: &Path) -> Result<StrategyListing, Error> {
    let source = load_strategies(path, &settings::budget(None))?;
    let mut params = Vec::new();
    for (stage, layouts) in source.set.stages().iter().enumerate() {
        for (name, param) in layouts {
            params.push(ParamListing {
                name: name.clone(),
                stage,
                device_matrix: param.layout.device_matrix.clone(),
                tensor_map: param.layout.tensor_map.clone(),
                optimizer_shard: match param.layout.optimizer_shard {
                    OptimizerShard::None => "none".to_owned(),
                    OptimizerShard::All => "all".to_owned(),
                    OptimizerShard::Groups(size) => size.to_string(),
                },
                full_shape: param.full_shape.as_ref().map(|s| s.dims().to_vec()),
            });
        }
    }
    Ok(StrategyListing {
        path: path.display().to_string(),
        files: source.files.iter().map(|f| f.display().to_string()).collect(),
        stages: source.set.stages().len(),
        devices: source.set.devices(),
        params,
    })
}
