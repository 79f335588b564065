//! The environment, read in one place and handed down as a value, so that tests and callers can give their own.

use crate::cluster::Environment;

/// All variables that are text; no launcher sets others.
pub(super) fn read() -> Environment {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}
