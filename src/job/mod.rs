//! What is asked for as a value, and how it is done: the layer between the command line and the plan.

#[cfg(feature = "calibrate")]
mod calibrate;
pub(crate) mod doctor;
mod fusion_order;
mod head;
mod hf_config;
mod hosts;
pub(crate) mod inspect;
mod known_model;
pub(crate) mod merge_manifest;
mod ms_to_pt;
mod ours;
mod provenance;
mod publish;
pub(crate) mod quantise;
mod reading;
pub(crate) mod request;
pub(crate) mod run;
mod shared;
pub(crate) mod strategy;
mod target;
mod targets;
mod train_to_infer;
mod transfer;
pub(crate) mod verify;
