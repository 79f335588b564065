//! MindSpore's own files: the protobuf `.ckpt` checkpoint and the strategy files that say how parameters are laid out.
//!
//! Facts come from `mindspore` 2.10.0 (`train/serialization.py`, `parallel/_parallel_serialization.py`) and from files
//! that it wrote.

mod ckpt;
mod ckpt_record;
mod ckpt_writer;
mod dtype;
mod format;
mod layout_check;
mod strategy;
mod strategy_files;
mod strategy_json;
mod strategy_proto;
mod wire;

pub use ckpt::{CrcTrailer, crc32, scan};
pub use ckpt_writer::{CkptOptions, layout};
pub use format::Ckpt;
pub use layout_check::ParamLayout;
pub use strategy::{
    StrategyFile, is_rewritten_alike, read as read_strategy, read_within as read_strategy_within,
    write as write_strategy,
};
pub use strategy_files::{
    is_json as is_json_strategy, merge as merge_strategies, to_json as strategy_to_json,
    to_protobuf as strategy_to_protobuf,
};
