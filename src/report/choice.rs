//! Decisions that the files did not settle alone, or settled in a way that a user should see.

use serde::Serialize;

/// A decision and its reason: printed with a plan and with a summary, and kept in the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Choice {
    /// What was decided.
    pub what: String,
    /// What it is now.
    pub value: String,
    /// Why.
    pub why: String,
}

impl Choice {
    /// A decision and its reason.
    pub fn new(what: impl Into<String>, value: &impl ToString, why: impl Into<String>) -> Self {
        Self { what: what.into(), value: value.to_string(), why: why.into() }
    }

    /// In one line.
    pub fn text(&self) -> String {
        format!("{}: {} ({})", self.what, self.value, self.why)
    }
}
