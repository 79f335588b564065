//! Checkpoints, strategies and models as users name them: finding the files, mapping and parsing them.
//!
//! The only layer that joins `sys` and `formats`; it decides nothing about where bytes go.

mod companions;
mod contents;
mod counters;
mod discover;
mod error;
mod evidence;
mod foreign;
mod foreign_load;
mod load;
mod loaded_file;
mod made;
mod manifest_head;
mod model;
mod opening;
mod quantised;
mod quantised_file;
mod save_name;
mod saves;
mod statistics;
mod strategies;
mod survey;

pub use companions::{Companions, read_companions};
pub use contents::{Contents, is_manifest};
pub use discover::{CheckpointFiles, RankGaps, checkpoints_below, discover, rank_of};
pub use error::InputError;
pub use evidence::read_tensor;
pub use foreign::{ForeignFault, Provenance, companions, holds_gguf, provenance};
pub use foreign_load::{ForeignInput, load_config};
pub use load::{Input, check_unchanged};
pub use loaded_file::LoadedFile;
pub use made::{Beside, ListedSum, Made};
pub use manifest_head::{MANIFEST, ManifestHead};
#[cfg(feature = "calibrate")]
pub use model::load_run_facts;
pub use model::{load_lora_alpha, load_model, load_version_sign};
pub use opening::Opening;
pub use quantised::quantised_files;
pub use saves::WhichSave;
pub use statistics::load_statistics;
pub use strategies::{StrategySource, is_strategy, load_strategies, strategy_bytes, strategy_files, strategy_paths};
pub use survey::survey;
