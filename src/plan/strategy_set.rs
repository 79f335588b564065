//! Strategy files of all stages, as one layout of a whole checkpoint.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::PlanError;
use crate::formats::mindspore::{ParamLayout, StrategyFile};

/// More ranks than any checkpoint has; a larger number is a mistake or an attack.
pub const MAX_RANKS: u64 = 1 << 16;

/// The layout of every parameter of a checkpoint: one table for each pipeline stage, all with equally many devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StrategySet {
    stages: Vec<BTreeMap<String, ParamLayout>>,
    devices: u64,
}

impl StrategySet {
    /// Joins the files of a strategy: one for each rank or stage, or one merged file.
    ///
    /// # Errors
    /// Where two files of a stage differ, a stage is missing, or stages have different numbers of devices.
    pub fn new(files: Vec<(PathBuf, StrategyFile)>) -> Result<Self, PlanError> {
        let mut stages: BTreeMap<u32, (PathBuf, BTreeMap<String, ParamLayout>)> = BTreeMap::new();
        // A merged file beside those that it was merged from says nothing else, and all that they say.
        for (merged, whole) in files.iter().filter(|(_, f)| f.merged) {
            let beyond =
                |file: &StrategyFile| file.stages.keys().copied().find(|stage| !whole.stages.contains_key(stage));
            if let Some((other, stage)) = files.iter().find_map(|(path, file)| Some((path, beyond(file)?))) {
                let why = format!("are not of one run: only the second has stage {stage}");
                return Err(PlanError::Strategies { first: merged.clone(), second: other.clone(), why });
            }
        }
        for (path, file) in files {
            for (stage, layouts) in file.stages {
                match stages.get(&stage) {
                    None => {
                        stages.insert(stage, (path.clone(), layouts));
                    }
                    Some((_, known)) if *known == layouts => {}
                    Some((first, _)) => {
                        let why = format!("give stage {stage} different layouts");
                        return Err(PlanError::Strategies { first: first.clone(), second: path, why });
                    }
                }
            }
        }
        let bad = |why: String| Err(PlanError::BadStrategySet(why));
        if stages.values().all(|(_, layouts)| layouts.is_empty()) {
            return bad("holds no parameter".to_owned());
        }
        if let Some((want, &have)) = (0..).zip(stages.keys()).find(|(want, have)| want != *have) {
            return bad(format!("has no stage {want} (the next is stage {have})"));
        }
        let mut devices = None;
        for (stage, (_, layouts)) in &stages {
            let Some(layout) = layouts.values().next() else {
                return bad(format!("holds no parameter of stage {stage}"));
            };
            let count = layout.layout.devices();
            if *devices.get_or_insert(count) != count {
                return bad(format!("has {count} devices in stage {stage} but not in stage 0"));
            }
        }
        let devices = devices.unwrap_or(1);
        let ranks = devices.saturating_mul(stages.len() as u64);
        if ranks > MAX_RANKS {
            return bad(format!("is for {ranks} ranks, more than {MAX_RANKS}"));
        }
        Ok(Self { stages: stages.into_values().map(|(_, l)| l).collect(), devices })
    }

    /// The same without some parameters.
    #[must_use]
    pub fn without(&self, leave_out: impl Fn(&str) -> bool) -> Self {
        let mut set = self.clone();
        set.stages.iter_mut().for_each(|stage| stage.retain(|name, _| !leave_out(name)));
        set
    }

    /// The layouts of each pipeline stage.
    pub fn stages(&self) -> &[BTreeMap<String, ParamLayout>] {
        &self.stages
    }

    /// Devices of one stage.
    pub fn devices(&self) -> u64 {
        self.devices
    }

    /// Ranks over all stages.
    pub fn ranks(&self) -> u64 {
        self.devices * self.stages.len() as u64
    }
}
