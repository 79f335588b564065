//! What can be wrong with the files of a foreign checkpoint.

use crate::plan::list;

/// What is wrong with the files of a foreign checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ForeignFault {
    /// An adapter.
    #[error("an adapter (`{0}`), not a model: merge it into its model first (`merge_and_unload` of PEFT)")]
    Adapter(String),
    /// Files are missing, as the names of the others show.
    #[error("incomplete: {} missing", list(.0))]
    Missing(Vec<String>),
    /// Files of two saves.
    #[error("files of several saves: {}", list(.0))]
    Mixed(Vec<String>),
    /// One of several files that make a model.
    #[error("one of {files} files of a model: name their directory")]
    OnePart {
        /// How many there are.
        files: u64,
    },
    /// Nothing that can be read.
    #[error(
        "no checkpoint that can be read{}; expected are model.safetensors or pytorch_model.bin (or numbered ones with \
         their index), consolidated.<nn>.pth with params.json, or one .pth or .pt file",
        found_text(.found)
    )]
    Nothing {
        /// Files that look like a model.
        found: Vec<String>,
    },
}

fn found_text(found: &[String]) -> String {
    if found.is_empty() { String::new() } else { format!(" (found: {})", list(found)) }
}
