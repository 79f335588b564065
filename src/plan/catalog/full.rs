//! The layout and full shape of a parameter, from what the ranks hold.

use std::collections::HashSet;

use super::{InStage, Named, Reader};
use crate::layout::{LayoutError, Region, TensorLayout};
use crate::model::naming::{Split, columns_in_one, fused, group_scale_of, role, weight_names};
use crate::models::ModelSpec;
use crate::plan::pieces::Stored;
use crate::plan::{Arrangement, PlanError, agreement, copied_rank};
use crate::tensor::{Dtype, Shape};

/// How many missing ranks are looked for before it is said that there are more.
const MISSING_SHOWN: usize = 32;

impl Reader<'_> {
    /// The stages that hold a parameter and its layout in each; empty where no layout knows it.
    pub(super) fn stages(&self, one: &Named) -> Result<Vec<InStage>, PlanError> {
        let devices = self.options.arrangement.devices();
        let vocabulary_whole = self.vocabulary_whole(one)?;
        let mut stages: Vec<InStage> = Vec::new();
        for &(file, entry) in &one.holders {
            let stage = u64::from(self.files[file].rank) / devices;
            if stages.iter().any(|s| s.stage == stage) {
                continue;
            }
            let ndim = self.files[file].entries[entry].shape.ndim();
            let layout = self.options.arrangement.layout(stage, &one.name, ndim, vocabulary_whole);
            if let Some((layout, full_shape)) = layout {
                stages.push(InStage { stage, layout, full_shape });
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

    /// No rank's file may be another's: a few weights of each, which the ranks share, are looked at.
    pub(super) fn check_copies(&self) -> Result<(), PlanError> {
        let devices = self.options.arrangement.devices();
        let mut looked_at = vec![0; self.files.len()];
        let mut shared = Vec::new();
        for one in self.named {
            let matrix = |&(file, entry): &(usize, usize)| self.files[file].entries[entry].shape.ndim() == 2;
            let wanted = |&(file, _): &(usize, usize)| looked_at[file] < copied_rank::LOOKED_AT;
            let cut = role(&one.name).is_some_and(|r| matches!(r.split, Split::Rows | Split::Columns))
                || fused(&one.name).is_some_and(|f| *f.name == *one.name && !f.shared);
            if !cut || one.holders.len() < 2 || !one.holders.iter().any(wanted) || !one.holders.iter().all(matrix) {
                continue;
            }
            let stages = self.stages(one)?;
            let block = |&(file, entry): &(usize, usize)| {
                let rank = u64::from(self.files[file].rank);
                let layout = &stages.iter().find(|s| s.stage == rank / devices)?.layout;
                let full = layout.full_shape(&self.files[file].entries[entry].shape).ok()?;
                let region = layout.region(full.dims(), rank % devices).ok()?;
                Some(((file, entry), region.start().to_vec()))
            };
            // What has no block has an error of its own later.
            let Some(holders) = one.holders.iter().map(block).collect::<Option<Vec<_>>>() else { continue };
            for ((file, _), _) in &holders {
                looked_at[*file] += 1;
            }
            shared.push(holders);
        }
        copied_rank::check(self.files, &shared)
    }

    /// Whether the ranks keep this vocabulary-split parameter whole, told by the model's size or by equal contents.
    fn vocabulary_whole(&self, one: &Named) -> Result<bool, PlanError> {
        let Arrangement::Rules(ranks) = self.options.arrangement else { return Ok(false) };
        if ranks == 1 || role(&one.name).is_none_or(|r| r.split != Split::Vocabulary) {
            return Ok(false);
        }
        let (file, entry) = one.holders[0];
        let found = &self.files[file].entries[entry];
        let rows = found.shape.dims().first().copied().unwrap_or(0);
        let Some(spec) = self.options.spec else { return self.vocabulary_by_content(one) };
        if rows == spec.vocab {
            return Ok(true);
        }
        if rows.checked_mul(ranks) == Some(spec.vocab) {
            return Ok(false);
        }
        Err(PlanError::WrongShape {
            name: one.name.to_string(),
            path: self.files[file].path.clone(),
            found: found.shape.clone(),
            expected: spec.shape(&one.name).unwrap_or_default(),
            expected_by: format!("the model configuration (whole, or cut over {ranks} ranks)"),
        })
    }

    /// Equal blocks on all ranks are one vocabulary held whole, blocks that all differ are cut from one. Anything else, and
    /// blocks of one value, tell nothing.
    fn vocabulary_by_content(&self, one: &Named) -> Result<bool, PlanError> {
        let (file, entry) = one.holders[0];
        let flat = agreement::is_constant(&self.files[file], entry);
        if agreement::agree(self.files, &one.holders) && !flat {
            return Ok(true);
        }
        if agreement::all_differ(self.files, &one.holders) {
            return Ok(false);
        }
        Err(PlanError::Ambiguous(format!(
            "whether the ranks hold `{}` whole or cut cannot be told from its content: name the model with -y",
            one.name
        )))
    }

    /// The full shape and dtype, on which all ranks of all stages must agree.
    pub(super) fn full(&self, one: &Named, stages: &[InStage]) -> Result<(Shape, Dtype), PlanError> {
        let devices = self.options.arrangement.devices();
        let mut known: Option<(Shape, Dtype, (usize, usize))> = None;
        for &(file, entry) in &one.holders {
            let stage = u64::from(self.files[file].rank) / devices;
            let Some(in_stage) = stages.iter().find(|s| s.stage == stage) else { continue };
            let found = &self.files[file].entries[entry];
            let shape = in_stage
                .layout
                .full_shape(&found.shape)
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
            match &known {
                None => known = Some((shape, found.dtype, (file, entry))),
                Some((first_shape, first_dtype, first)) if (first_shape, *first_dtype) != (&shape, found.dtype) => {
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

    /// The number of columns over all ranks of the output projection, which is the number of q rows.
    pub(super) fn columns_of(&self, output: &str) -> Result<Option<u64>, PlanError> {
        // A layer may be left unquantised by name.
        let found = weight_names(output).into_iter().find_map(|name| self.index.get(name.as_str()));
        let Some(&at) = found else { return Ok(None) };
        let one = &self.named[at];
        let stages = self.stages(one)?;
        if stages.is_empty() {
            return Ok(None);
        }
        let stored = self.full(one, &stages)?.0.dims().get(1).copied();
        Ok(stored.map(|columns| columns * columns_in_one(&one.name)))
    }

    /// Every device of a stage must hold the parameter, or the boxes that it would hold (part and region) must be `covered`.
    pub(super) fn check_present(
        &self,
        one: &Named,
        in_stage: &InStage,
        present: &[u64],
        mut covered: impl FnMut(usize, Region) -> bool,
        stored: impl Fn(&TensorLayout, u64) -> Result<Stored, LayoutError>,
    ) -> Result<(), PlanError> {
        let devices = self.options.arrangement.devices();
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
            let wanted = stored(&in_stage.layout, device)
                .map_err(|source| PlanError::Layout { name: one.name.to_string(), source })?;
            // By the rules every rank holds every parameter; only a strategy tells which ranks are replicas.
            let replica = matches!(self.options.arrangement, Arrangement::Strategy(_))
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
            checkpoint: format!("the checkpoint has {} ranks", self.options.arrangement.ranks()),
        })
    }

    /// The full shape must be the model's.
    pub(super) fn check_spec(&self, name: &str, shape: &Shape, holder: (usize, usize)) -> Result<(), PlanError> {
        let Some(spec) = self.options.spec else { return Ok(()) };
        let Some(role) = role(name) else { return Ok(()) };
        if let Some(weight) = group_scale_of(name) {
            let why = || {
                format!(
                    "`{name}` is {shape}, which is no whole groups of 64 or 128 of the model's columns of `{weight}`"
                )
            };
            return spec.fits_groups(name, shape).then_some(()).ok_or_else(|| PlanError::Quantised(why()));
        }
        let Some(expected) = spec.shape(name) else {
            return Err(PlanError::Ambiguous(format!(
                "`{name}` is of layer {}, the model configuration has {} layers",
                role.layer.unwrap_or(0),
                spec.layers
            )));
        };
        if expected == *shape {
            return Ok(());
        }
        Err(PlanError::WrongShape {
            name: name.to_owned(),
            path: self.files[holder.0].path.clone(),
            found: shape.clone(),
            expected,
            expected_by: "the model configuration (shapes over all ranks)".to_owned(),
        })
    }

    /// The model, where the heads matter.
    pub(super) fn refine(&self) -> Option<&ModelSpec> {
        self.options.spec.filter(|_| self.options.heads_matter)
    }

    pub(super) fn wrong_rows(&self, name: &str, rows: u64) -> PlanError {
        let wanted = self.options.spec.map_or_else(
            || "a fused parameter's".to_owned(),
            |s| format!("{} heads and {} kv heads of {} rows", s.heads, s.kv_heads, s.head_dim),
        );
        PlanError::FusedRows { name: name.to_owned(), rows, wanted }
    }
}
