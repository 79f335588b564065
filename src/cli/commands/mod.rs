//! One file for each thing that the program does.

pub(crate) mod completions;
pub(crate) mod example;
pub(crate) mod families;
pub(crate) mod man;
pub(crate) mod scripts;
mod shipped;

use std::io::{ErrorKind, Write};

use crate::{Error, report};

pub(crate) use crate::job::{doctor, inspect, merge_manifest, strategy, verify};

/// Prints a result on standard output. A reader that went away (`| head`) is no failure.
pub(crate) fn print(text: &str) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(source) if source.kind() != ErrorKind::BrokenPipe => Err(Error::Output { published: None, source }),
        _ => Ok(()),
    }
}

/// Prints a note on standard error.
pub(crate) fn note(text: &str) {
    report::say(&format!("note: {}", report::plain(text)));
}

/// A value as JSON on standard output.
pub(crate) fn print_json(value: &impl serde::Serialize) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    print(&format!("{text}\n"))
}
