//! Integration tests, one binary.

#[cfg(feature = "calibrate")]
mod calibrate;
mod chain;
mod changed;
mod checksums;
mod cluster;
mod cluster_failures;
mod cluster_quantise;
mod configuration;
mod convert;
mod document;
mod errors;
mod faults;
mod filesystems;
mod foreign;
mod formats;
mod fusion;
mod head;
mod heads;
mod hostile;
mod inspect;
mod lora;
mod oracle;
mod pytorch;
mod quantise;
mod quantise_groups;
mod reference;
mod results;
mod saves;
mod staging;
mod strategy;
mod support;
mod tidy;
mod train;
mod train_errors;
mod whole_numbers;
