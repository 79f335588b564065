//! Checkpoints, strategies and models as users name them: finding the files, mapping and parsing them.
//!
//! The only layer that joins `sys` and `formats`; it decides nothing about where bytes go.

mod discover;
mod error;
mod load;
mod model;
mod statistics;
mod strategies;

pub use discover::{CheckpointFiles, RankGaps, discover};
pub use error::InputError;
pub use load::{Input, LoadedFile, check_crc};
pub use model::load_model;
pub use statistics::load_statistics;
pub use strategies::{StrategySource, is_strategy, load_strategies, strategy_files};
