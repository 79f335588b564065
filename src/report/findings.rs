//! What `doctor` shows.

use std::fmt::Write;

use serde::Serialize;

use super::units;
use crate::plan::Finding;

/// All that is to be said of a checkpoint.
#[derive(Clone, Debug, Serialize)]
pub struct Diagnosis {
    /// The path that was named.
    pub path: String,
    /// Whether nothing is in the way of a conversion.
    pub well: bool,
    /// What was found.
    pub findings: Vec<FindingListing>,
}

/// A finding and its remedy.
#[derive(Clone, Debug, Serialize)]
pub struct FindingListing {
    /// Whether it is in the way of a conversion.
    pub wrong: bool,
    /// What is seen.
    pub what: String,
    /// What can be done.
    pub remedy: String,
}

impl Diagnosis {
    /// Sums up findings.
    pub fn new(path: String, findings: Vec<Finding>) -> Self {
        let listed = |Finding { wrong, what, remedy }| FindingListing { wrong, what, remedy };
        let well = findings.iter().all(|finding| !finding.wrong);
        Self { path, well, findings: findings.into_iter().map(listed).collect() }
    }

    /// The diagnosis as text.
    pub fn text(&self) -> String {
        let wrong = self.findings.iter().filter(|f| f.wrong).count();
        let verdict = if wrong == 0 { "nothing is wrong".to_owned() } else { format!("{wrong} finding(s)") };
        let mut text = format!("{}: {verdict}\n", units::plain(&self.path));
        for finding in &self.findings {
            let kind = if finding.wrong { "WRONG" } else { "note" };
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {kind}: {}", units::plain(&finding.what));
            if !finding.remedy.is_empty() {
                let _ = writeln!(text, "    remedy: {}", units::plain(&finding.remedy));
            }
        }
        text
    }
}
