//! What a finished run did.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use serde::Serialize;

use super::{Choice, Remarks, units};
use crate::engine::{QuantError, RunSummary, Ways};
use crate::plan::{Op, OpsId, Plan, PlanTotals, Route};

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
    /// Decisions and their reasons.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<Choice>,
    /// Values that became infinite, tensor by tensor.
    pub overflowed: Vec<Overflow>,
    /// Values that are suspicious, tensor by tensor.
    pub remarks: Remarks,
    /// What quantising did, over all matrices. `None` where nothing was quantised.
    pub quantised: Option<Quantisation>,
}

/// What quantising did to a model. Each matrix is in the manifest.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Quantisation {
    /// Matrices that were quantised.
    pub matrices: usize,
    /// The greatest relative error (root mean square of the error over that of the elements), and of which.
    pub worst_relative_error: f64,
    /// Its name.
    pub worst: String,
    /// The greatest error of any element.
    pub max_error: f64,
    /// The greatest share of elements beyond the range of int8.
    pub max_clipped: f64,
}

impl Quantisation {
    fn new(errors: &[QuantError]) -> Option<Self> {
        let relative = |e: &QuantError| if e.rms_of_elements > 0.0 { e.rms / e.rms_of_elements } else { 0.0 };
        let worst = errors.iter().max_by(|a, b| relative(a).total_cmp(&relative(b)))?;
        Some(Self {
            matrices: errors.len(),
            worst_relative_error: relative(worst),
            worst: worst.name.to_string(),
            max_error: errors.iter().map(|e| e.greatest).fold(0.0, f64::max),
            max_clipped: errors.iter().map(|e| e.clipped).fold(0.0, f64::max),
        })
    }
}

impl Summary {
    /// Sums up a run.
    pub fn new(plan: &Plan, run: &RunSummary, time: Duration, peak: u64) -> Self {
        let PlanTotals { tensors, read, written: bytes_written, .. } = plan.totals();
        let quantised = |route: &Route| plan.ops(route.ops).iter().any(|op| matches!(op, Op::Quantise(_)));
        let merged = |route: &Route| plan.ops(route.ops).iter().any(|op| matches!(op, Op::AddLowRank(_)));
        let cast = |route: &Route| route.ops != OpsId::COPY && (quantised(route) || !merged(route));
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
            choices: Vec::new(),
            overflowed: overflows(plan, run),
            remarks: Remarks::new(plan, run),
            quantised: Quantisation::new(&run.quantised),
        }
    }

    /// The summary as text.
    pub fn text(&self) -> String {
        let time = Duration::from_secs_f64(self.seconds);
        let mut text = format!(
            "wrote {}: {}, {}, {} in {} ({})\n",
            units::plain(&self.target),
            units::count(self.files, "file"),
            units::count(self.tensors, "tensor"),
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
        self.choices.iter().for_each(|choice| line(choice.text()));
        if self.converted_tensors > 0 {
            line(format!("{} tensors were converted to another dtype", self.converted_tensors));
        }
        if self.merged_tensors > 0 {
            line(format!("adapters were merged into {} tensors", self.merged_tensors));
        }
        if let Some(quantised) = &self.quantised {
            line(format!(
                "{} matrices were quantised; relative error at most {:.3} % (`{}`), largest error {:.3e}, clipped at most {:.4} %",
                quantised.matrices,
                quantised.worst_relative_error * 100.0,
                quantised.worst,
                quantised.max_error,
                quantised.max_clipped * 100.0,
            ));
        }
        if self.bytes_shared > 0 {
            line(format!("{} share their blocks with the source", units::bytes(self.bytes_shared)));
        }
        if self.ignored > 0 {
            line(format!("{} parameters were left out as requested", self.ignored));
        }
        if !self.training_state.is_empty() {
            let rules: Vec<String> = self.training_state.iter().map(|(rule, n)| format!("{rule} {n}")).collect();
            let count: usize = self.training_state.values().sum();
            line(format!("{count} entries of training state were left out ({})", rules.join(", ")));
        }
        // A host may have had nothing to move.
        Some(ways(&self.ways)).filter(|text| !text.is_empty()).into_iter().for_each(&mut line);
        line(format!("peak anonymous memory {}", units::bytes(self.peak_anonymous_memory)));
        for overflow in &self.overflowed {
            line(format!(
                "WARNING: {} values of `{}` were too large and are infinite now",
                overflow.values, overflow.name
            ));
        }
        self.remarks.lines().into_iter().for_each(&mut line);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_moved_nothing_says_nothing_of_it() {
        let mut summary = Summary {
            target: "out".to_owned(),
            strategies: None,
            files: 0,
            tensors: 0,
            converted_tensors: 0,
            merged_tensors: 0,
            bytes_read: 0,
            bytes_written: 0,
            seconds: 0.0,
            peak_anonymous_memory: 0,
            direct: false,
            bytes_shared: 0,
            ways: Ways::default(),
            ignored: 0,
            training_state: BTreeMap::new(),
            choices: Vec::new(),
            overflowed: Vec::new(),
            remarks: Remarks::default(),
            quantised: None,
        };
        assert!(summary.text().lines().all(|line| !line.trim().is_empty()), "{}", summary.text());
        summary.ways.gathered = 1;
        assert!(summary.text().contains("gathered"));
    }
}
