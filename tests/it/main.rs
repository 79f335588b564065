//! Integration tests, one binary.

mod convert;
mod errors;
mod faults;
mod formats;
mod inspect;
mod oracle;
mod reference;
mod support;
mod tidy;
