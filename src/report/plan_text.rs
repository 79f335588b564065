//! A plan, before it is run.

use std::fmt::Write;

use serde::Serialize;

use super::{Choice, units};
use crate::engine::{Leftovers, Setting};
use crate::plan::{Plan, PlanTotals};

/// A plan and whether the machine can run it.
#[derive(Clone, Debug, Serialize)]
pub struct PlanReport {
    /// The target directory.
    pub target: String,
    /// Source ranks.
    pub source_ranks: u32,
    /// Target ranks.
    pub target_ranks: usize,
    /// Source files with their lengths.
    pub sources: Vec<FileReport>,
    /// Output files with their lengths.
    pub outputs: Vec<FileReport>,
    /// Tensors over all output files.
    pub tensors: u64,
    /// Bytes read from source tensors.
    pub bytes_read: u64,
    /// Bytes of the output files.
    pub bytes_written: u64,
    /// Bytes that are one run in the source.
    pub contiguous: u64,
    /// Bytes gathered from strided runs.
    pub gathered: u64,
    /// Bytes that are converted.
    pub converted: u64,
    /// Header and padding bytes.
    pub headers: u64,
    /// The most memory that is not page cache, in bytes: the buffers, and what the plan itself takes.
    pub peak_memory: u64,
    /// Bytes free where the target is to be, with what an interrupted run has left there and this one removes.
    pub free: u64,
    /// Bytes of that which an interrupted run still holds.
    pub reclaimable: u64,
    /// Where it holds them.
    pub leftovers: Vec<String>,
    /// Whether they suffice.
    pub fits: bool,
    /// Decisions about what is in the target, and their reasons.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<Choice>,
    /// How the work will be done, and why so.
    pub settings: Vec<Setting>,
}

/// A file and its length.
#[derive(Clone, Debug, Serialize)]
pub struct FileReport {
    /// Its path.
    pub path: String,
    /// Its rank.
    pub rank: Option<u32>,
    /// Its length in bytes.
    pub bytes: u64,
    /// How many tensors it holds.
    pub tensors: Option<usize>,
}

/// What is to be said of a plan. `free`: bytes free where the target is to be, and what an interrupted run has left there;
/// `memory`: the most memory that it takes.
pub fn plan_report(plan: &Plan, target: &str, (free, left): (u64, &Leftovers), memory: u64) -> PlanReport {
    let PlanTotals { tensors, read, written, contiguous, gathered, converted, headers } = plan.totals();
    let free = free.saturating_add(left.bytes);
    let ranks: std::collections::BTreeSet<u32> = plan.outputs.iter().filter_map(|o| o.rank).collect();
    PlanReport {
        target: target.to_owned(),
        source_ranks: plan.sources.iter().map(|s| s.rank.saturating_add(1)).max().unwrap_or(0),
        target_ranks: ranks.len(),
        sources: plan
            .sources
            .iter()
            .map(|s| FileReport { path: s.path.display().to_string(), rank: Some(s.rank), bytes: s.len, tensors: None })
            .collect(),
        outputs: plan
            .outputs
            .iter()
            .map(|o| FileReport {
                path: o.path.clone(),
                rank: o.rank,
                bytes: o.layout.len(),
                tensors: Some(o.tensors.len()),
            })
            .collect(),
        tensors,
        bytes_read: read,
        bytes_written: written,
        contiguous,
        gathered,
        converted,
        headers,
        peak_memory: memory,
        free,
        reclaimable: left.bytes,
        leftovers: left.paths.iter().map(|path| path.display().to_string()).collect(),
        fits: free >= written,
        choices: Vec::new(),
        settings: Vec::new(),
    }
}

impl PlanReport {
    /// The plan as text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let mut line = |s: String| {
            let _ = writeln!(text, "{}", units::plain(&s));
        };
        let (from, to) = (units::count(self.source_ranks, "rank"), units::count(self.target_ranks, "rank"));
        line(format!("plan: {from} -> {to}, into {}", self.target));
        line(format!("  sources ({}):", units::count(self.sources.len(), "file")));
        for file in &self.sources {
            line(format!("    {:>12}  {}", units::bytes(file.bytes), file.path));
        }
        let outputs = units::count(self.outputs.len(), "file");
        line(format!("  outputs ({outputs}, {}):", units::count(self.tensors, "tensor")));
        for file in &self.outputs {
            line(format!(
                "    {:>12}  {} ({})",
                units::bytes(file.bytes),
                file.path,
                units::count(file.tensors.unwrap_or(0), "tensor")
            ));
        }
        line(format!("  read {}, write {}", units::bytes(self.bytes_read), units::bytes(self.bytes_written)));
        line(format!(
            "  {} contiguous, {} gathered, {} converted, {} headers and padding",
            units::bytes(self.contiguous),
            units::bytes(self.gathered),
            units::bytes(self.converted),
            units::bytes(self.headers),
        ));
        self.choices.iter().for_each(|choice| line(format!("  {}", choice.text())));
        if !self.settings.is_empty() {
            line("  how (each can be overridden by the option of its name):".to_owned());
        }
        for Setting { name, value, why } in &self.settings {
            line(format!("    {name:<8} {value} ({why})"));
        }
        line(format!("  peak memory (without page cache): {}", units::bytes(self.peak_memory)));
        let verdict = if self.fits { "enough" } else { "NOT ENOUGH" };
        line(format!("  free where the target is to be: {}: {verdict}", units::bytes(self.free)));
        if !self.leftovers.is_empty() {
            line(format!(
                "    {} of it in {}, which an interrupted run has left and the conversion removes",
                units::bytes(self.reclaimable),
                self.leftovers.join(", ")
            ));
        }
        line("  every byte of every output is written exactly once (proved)".to_owned());
        text
    }
}
