//! The environment, read in one place and handed down as a value, so that tests and callers can give their own.

use crate::job::Environment;

/// All variables that are text; no launcher sets others.
pub(super) fn read() -> Environment {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Whether a terminal may be sent colours: not where `NO_COLOR` is set, or the terminal has none.
pub(super) fn colour() -> bool {
    !set("NO_COLOR") && is_capable()
}

/// Whether a terminal can do more than print lines.
pub(super) fn is_capable() -> bool {
    std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb")
}

fn set(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| !value.is_empty())
}
