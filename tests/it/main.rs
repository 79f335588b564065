//! Integration tests, one binary.

mod convert;
mod errors;
mod faults;
mod formats;
mod hostile;
mod inspect;
mod lora;
mod oracle;
mod reference;
mod strategy;
mod support;
mod tidy;
mod train;
mod train_errors;
