//! One file for each thing that the program does.

pub(super) mod completions;
pub(super) mod convert;
pub(super) mod doctor;
pub(super) mod example;
pub(super) mod families;
pub(super) mod inspect;
pub(super) mod man;
mod memory;
pub(super) mod merge_manifest;
pub(super) mod mount;
pub(super) mod scripts;
mod shipped;
pub(super) mod strategy;
pub(super) mod verify;

use std::io::{ErrorKind, Write};

use crate::Error;

/// Prints a result on standard output. A reader that went away (`| head`) is no failure.
fn print(text: &str) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(source) if source.kind() != ErrorKind::BrokenPipe => Err(Error::Output { published: None, source }),
        _ => Ok(()),
    }
}

/// A result on standard output, as text or as JSON.
fn show(json: bool, value: &impl serde::Serialize, text: impl FnOnce() -> String) -> Result<(), Error> {
    if json { print_json(value) } else { print(&text()) }
}

/// A value as JSON on standard output.
fn print_json(value: &impl serde::Serialize) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    print(&format!("{text}\n"))
}
