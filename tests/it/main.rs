//! Integration tests, one binary.

mod convert;
mod errors;
mod faults;
mod filesystems;
mod formats;
mod hostile;
mod inspect;
mod oracle;
mod quantise;
mod reference;
mod support;
mod tidy;
