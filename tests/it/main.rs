//! Integration tests, one binary.

mod cluster;
mod convert;
mod errors;
mod faults;
mod filesystems;
mod foreign;
mod formats;
mod hostile;
mod inspect;
mod oracle;
mod pytorch;
mod reference;
mod support;
mod tidy;
