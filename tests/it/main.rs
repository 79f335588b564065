//! Integration tests, one binary.

#[cfg(feature = "calibrate")]
mod calibrate;
mod chain;
mod cluster;
mod cluster_failures;
mod cluster_quantise;
mod convert;
mod errors;
mod faults;
mod filesystems;
mod foreign;
mod formats;
mod heads;
mod hostile;
mod inspect;
mod lora;
mod oracle;
mod pytorch;
mod quantise;
mod quantise_groups;
mod reference;
mod strategy;
mod support;
mod tidy;
mod train;
mod train_errors;
