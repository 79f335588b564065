//! What a finished run did.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use serde::Serialize;

use super::units;
use crate::engine::{RunSummary, Ways};
use crate::plan::{Plan, PlanTotals, Transform};

/// Values of one tensor that became infinite.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Overflow {
    /// The tensor in the target.
    pub name: String,
    /// Finite values that became infinite, over all ranks, each element once.
    pub values: u64,
}

/// The tensors in which values overflowed, in the order of the plan.
pub fn overflows(plan: &Plan, run: &RunSummary) -> Vec<Overflow> {
    let mut found: Vec<Overflow> = Vec::new();
    for (file, results) in plan.outputs.iter().zip(&run.tensors) {
        for (tensor, result) in file.tensors.iter().zip(results) {
            if result.overflowed == 0 || !tensor.first_holder {
                continue;
            }
            match found.iter_mut().find(|o| o.name == tensor.name.as_str()) {
                Some(known) => known.values += result.overflowed,
                None => found.push(Overflow { name: tensor.name.to_string(), values: result.overflowed }),
            }
        }
    }
    found
}

/// What a finished run did.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The target directory.
    pub target: String,
    /// Where the strategies are, if they were written.
    pub strategies: Option<String>,
    /// Output files.
    pub files: usize,
    /// Tensors over all files.
    pub tensors: u64,
    /// Tensors (over all files) that were converted to another dtype.
    pub converted_tensors: usize,
    /// Tensors (over all files) into which an adapter was merged.
    pub merged_tensors: usize,
    /// Bytes read from source tensors.
    pub bytes_read: u64,
    /// Bytes written.
    pub bytes_written: u64,
    /// Seconds from the first write to the last flush.
    pub seconds: f64,
    /// The most anonymous memory that was seen, in bytes.
    pub peak_anonymous_memory: u64,
    /// Whether writes went past the page cache.
    pub direct: bool,
    /// Bytes that the target shares with the source on the disk.
    pub bytes_shared: u64,
    /// Which way the bytes went.
    pub ways: Ways,
    /// Source parameters that were left out on request.
    pub ignored: usize,
    /// Entries of training state that were left out: the beginning of the name, and how many.
    pub training_state: BTreeMap<String, usize>,
    /// Values that became infinite, tensor by tensor.
    pub overflowed: Vec<Overflow>,
}

impl Summary {
    /// Sums up a run.
    pub fn new(plan: &Plan, run: &RunSummary, time: Duration, peak: u64) -> Self {
        let PlanTotals { tensors, read, written: bytes_written, .. } = plan.totals();
        let cast = |r: &crate::plan::Route| matches!(r.transform, Transform::Cast { .. });
        let merged = |r: &crate::plan::Route| matches!(r.transform, Transform::Update { .. });
        let written = || plan.outputs.iter().flat_map(|f| &f.tensors);
        let converted = written().filter(|t| t.routes.iter().any(cast)).count();
        Self {
            target: String::new(),
            strategies: None,
            files: plan.outputs.len(),
            tensors,
            converted_tensors: converted,
            merged_tensors: written().filter(|t| t.routes.iter().any(merged)).count(),
            bytes_read: read,
            bytes_written,
            seconds: time.as_secs_f64(),
            peak_anonymous_memory: peak,
            direct: run.direct,
            bytes_shared: run.shared,
            ways: run.ways,
            ignored: 0,
            training_state: BTreeMap::new(),
            overflowed: overflows(plan, run),
        }
    }

    /// The summary as text.
    pub fn text(&self) -> String {
        let time = Duration::from_secs_f64(self.seconds);
        let mut text = format!(
            "wrote {}: {} files, {} tensors, {} in {} ({})\n",
            units::plain(&self.target),
            self.files,
            self.tensors,
            units::bytes(self.bytes_written),
            units::duration(time),
            units::rate(self.bytes_written, time),
        );
        // Writing to a string cannot fail.
        let mut line = |s: String| {
            let _ = writeln!(text, "  {}", units::plain(&s));
        };
        if let Some(strategies) = &self.strategies {
            line(format!("strategies: {strategies}"));
        }
        if self.converted_tensors > 0 {
            line(format!("{} tensors were converted to another dtype", self.converted_tensors));
        }
        if self.merged_tensors > 0 {
            line(format!("adapters were merged into {} tensors", self.merged_tensors));
        }
        if self.bytes_shared > 0 {
            line(format!("{} share their blocks with the source", units::bytes(self.bytes_shared)));
        }
        if self.ignored > 0 {
            line(format!("{} parameters were left out as asked", self.ignored));
        }
        if !self.training_state.is_empty() {
            let rules: Vec<String> = self.training_state.iter().map(|(rule, n)| format!("{rule} {n}")).collect();
            let count: usize = self.training_state.values().sum();
            line(format!("{count} entries of training state were left out ({})", rules.join(", ")));
        }
        line(ways(&self.ways));
        line(format!("peak anonymous memory {}", units::bytes(self.peak_anonymous_memory)));
        for overflow in &self.overflowed {
            line(format!(
                "WARNING: {} values of `{}` were too large and are infinite now",
                overflow.values, overflow.name
            ));
        }
        text
    }
}

/// Which way the bytes went, in one line.
fn ways(ways: &Ways) -> String {
    let mut parts = Vec::new();
    let mut part = |bytes: u64, what: &str| {
        if bytes > 0 {
            parts.push(format!("{} {what}", units::bytes(bytes)));
        }
    };
    part(ways.mapped, "straight from the source");
    part(ways.past_cache, "read past the page cache");
    part(ways.gathered, "gathered");
    part(ways.converted, "converted");
    part(ways.read_ahead, "of the source read ahead");
    parts.join(", ")
}
