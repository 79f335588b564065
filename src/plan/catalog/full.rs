//! The layout and full shape of a parameter, from what the ranks hold.

use std::collections::HashSet;

use super::lay::Laid;
use super::reader::{InStage, Named, Reader};
use crate::layout::{Region, TensorLayout};
use crate::plan::arrangement::{ByRules, Related};
use crate::plan::{Arrangement, PlanError, copied_rank};
use crate::tensor::{Dtype, Shape};

/// How many missing ranks are looked for before it is said that there are more.
const MISSING_SHOWN: usize = 32;

impl Reader<'_> {
    /// The stages that hold a parameter and its layout in each; empty where no layout knows it.
    pub(super) fn stages(&self, one: &Named) -> Result<Vec<InStage>, PlanError> {
        let devices = self.arrangement.devices();
        let by_rules = self.by_rules(one)?;
        let mixed = match (by_rules, self.arrangement) {
            (ByRules::Mixed { dim, length }, Arrangement::Rules(_)) => Some((dim, length)),
            _ => None,
        };
        let related = || Some(Related::of(self.dialect?, one.known.as_ref()?));
        let mut stages: Vec<InStage> = Vec::new();
        for &(file, entry) in &one.holders {
            let stage = u64::from(self.files[file].rank) / devices;
            if stages.iter().any(|s| s.stage == stage) {
                continue;
            }
            let ndim = self.files[file].entries[entry].shape.ndim();
            let layout = self.arrangement.layout(stage, &one.name, ndim, by_rules, &|| related().flatten());
            if let Some((layout, full_shape)) = layout {
                stages.push(InStage { stage, layout, full_shape, mixed });
            }
        }
        stages.sort_by_key(|s| s.stage);
        // A copy in a stage whose strategy does not know it cannot be compared with the others, nor left out unseen.
        let placed = |&&(file, _): &&(usize, usize)| {
            stages.iter().any(|s| s.stage == u64::from(self.files[file].rank) / devices)
        };
        if let Some(&(file, _)) = one.holders.iter().find(|h| !placed(h)).filter(|_| !stages.is_empty()) {
            let name =
                format!("{} of rank {}, whose stage's strategy does not know it", one.name, self.files[file].rank);
            return Err(PlanError::Unplaced { side: "source", names: vec![name] });
        }
        Ok(stages)
    }

    /// The layout of a parameter that no strategy knows and that all ranks hold alike: each has it whole.
    pub(super) fn whole_everywhere(&self, one: &Named) -> Vec<InStage> {
        let devices = self.arrangement.devices();
        let mut stages: Vec<InStage> = Vec::new();
        for &(file, entry) in &one.holders {
            let stage = u64::from(self.files[file].rank) / devices;
            if stages.iter().all(|s| s.stage != stage) {
                let ndim = self.files[file].entries[entry].shape.ndim();
                let layout = TensorLayout::flat(devices, ndim, None);
                stages.push(InStage { stage, layout, full_shape: None, mixed: None });
            }
        }
        stages.sort_by_key(|s| s.stage);
        stages
    }

    /// No rank's file may be another's: a few weights of each, which the ranks share, are looked at.
    pub(super) fn check_copies(&self) -> Result<(), PlanError> {
        let devices = self.arrangement.devices();
        let mut looked_at = vec![0; self.files.len()];
        let mut shared = Vec::new();
        for one in self.named {
            let matrix = |&(file, entry): &(usize, usize)| self.files[file].entries[entry].shape.ndim() == 2;
            let wanted = |&(file, _): &(usize, usize)| looked_at[file] < copied_rank::LOOKED_AT;
            let cut = one.known.as_ref().is_some_and(|known| {
                known.state.is_empty() && !self.is_vocabulary(known) && self.cut_dim(known).is_some()
            });
            if !cut || one.holders.len() < 2 || !one.holders.iter().any(wanted) || !one.holders.iter().all(matrix) {
                continue;
            }
            let stages = self.stages(one)?;
            let block = |&(file, entry): &(usize, usize)| {
                let rank = u64::from(self.files[file].rank);
                let in_stage = stages.iter().find(|s| s.stage == rank / devices)?;
                let full = in_stage.layout.full_shape(&self.files[file].entries[entry].shape).ok()?;
                let region = in_stage.layout.region(full.dims(), rank % devices).ok()?;
                Some(((file, entry), region.start().to_vec()))
            };
            // What has no block has an error of its own later.
            let Some(holders) = one.holders.iter().map(block).collect::<Option<Vec<_>>>() else { continue };
            for ((file, _), _) in &holders {
                looked_at[*file] += 1;
            }
            shared.push(holders);
        }
        copied_rank::check(self.sources(), &shared)
    }

    /// The full shape and dtype, on which all ranks of all stages must agree.
    pub(super) fn full(&self, one: &Named, stages: &[InStage]) -> Result<(Shape, Dtype), PlanError> {
        let devices = self.arrangement.devices();
        let mut known: Option<(Shape, Dtype, (usize, usize))> = None;
        for &(file, entry) in &one.holders {
            let stage = u64::from(self.files[file].rank) / devices;
            let Some(in_stage) = stages.iter().find(|s| s.stage == stage) else { continue };
            let found = &self.files[file].entries[entry];
            let shape = in_stage
                .full(&found.shape)
                .map_err(|source| PlanError::Layout { name: one.name.to_string(), source })?;
            if let Some(stated) = in_stage.full_shape.as_ref().filter(|stated| **stated != shape) {
                return Err(PlanError::WrongShape {
                    name: one.name.to_string(),
                    path: self.files[file].path.clone(),
                    found: found.shape.clone(),
                    expected: stated.clone(),
                    expected_by: "the strategy (over all ranks)".to_owned(),
                });
            }
            let dtype = if self.by_blocks && found.dtype.is_float() { Dtype::F32 } else { found.dtype };
            match &known {
                None => known = Some((shape, dtype, (file, entry))),
                Some((first_shape, first_dtype, first)) if (first_shape, *first_dtype) != (&shape, dtype) => {
                    let show = |(file, entry): (usize, usize)| {
                        let e = &self.files[file].entries[entry];
                        format!("{}{}", e.dtype, e.shape)
                    };
                    return Err(PlanError::RanksDisagree {
                        name: one.name.to_string(),
                        first: show(*first),
                        first_path: self.files[first.0].path.clone(),
                        second: show((file, entry)),
                        second_path: self.files[file].path.clone(),
                    });
                }
                Some(_) => {}
            }
        }
        // `stages` came from these holders, so one of them was met.
        known
            .map(|(shape, dtype, _)| (shape, dtype))
            .ok_or_else(|| PlanError::Unplaced { side: "source", names: vec![one.name.to_string()] })
    }

    /// Every device of a stage must hold the parameter, or the boxes that it would hold (part and region) must be `covered`.
    pub(super) fn check_present(
        &self,
        one: &Named,
        in_stage: &InStage,
        present: &[u64],
        mut covered: impl FnMut(usize, Region) -> bool,
        stored: impl Fn(&TensorLayout, u64) -> Result<Laid, PlanError>,
    ) -> Result<(), PlanError> {
        let devices = self.arrangement.devices();
        if present.len() as u64 == devices {
            return Ok(());
        }
        let present: HashSet<u64> = present.iter().copied().collect();
        let mut missing = Vec::new();
        for device in (0..devices).filter(|d| !present.contains(d)) {
            if missing.len() == MISSING_SHOWN {
                missing.push("…".to_owned());
                break;
            }
            let wanted = stored(&in_stage.layout, device)?;
            // By the rules every rank holds every parameter; only a strategy shows which ranks are replicas.
            let replica = matches!(self.arrangement, Arrangement::Strategy(_))
                && wanted.pieces.into_iter().all(|(part, piece)| covered(part, piece.region));
            if !replica {
                missing.push((in_stage.stage * devices + device).to_string());
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        Err(PlanError::MissingRanks {
            name: one.name.to_string(),
            ranks: missing.join(", "),
            checkpoint: format!(
                "the checkpoint has {} {}",
                self.arrangement.ranks(),
                if self.foreign { "model-parallel shards" } else { "ranks" }
            ),
        })
    }
}
