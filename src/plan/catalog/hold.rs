//! Which ranks hold which boxes of a parameter, stage by stage, and what of them is read.

use std::collections::HashSet;

use super::lay::Laid;
use super::reader::{InStage, Named, Reader};
use super::sizes::with_strides;
use crate::layout::{Region, TensorLayout};
use crate::plan::PlanError;
use crate::plan::shards::Shard;
use crate::plan::tensor_id::Known;
use crate::tensor::Shape;

/// Boxes and their shards, each with the part of a fused parameter that it belongs to.
type Boxes = Vec<(usize, Shard)>;

impl Reader<'_> {
    /// Calls `take` with the part of every piece, whether it is read, and its shard.
    ///
    /// A tensor in several stages (a tied embedding) is read from the lowest; what no rank of that holds is read from another.
    pub(super) fn hold(
        &self,
        one: &Named,
        stages: &[InStage],
        stored: impl Fn(&TensorLayout, u64) -> Result<Laid, PlanError>,
        mut take: impl FnMut(usize, bool, Shard),
    ) -> Result<(), PlanError> {
        let devices = self.arrangement.devices();
        let layout_error = |source| PlanError::Layout { name: one.name.to_string(), source };
        let mut held: Vec<(Vec<u64>, Boxes)> = Vec::with_capacity(stages.len());
        for in_stage in stages {
            let (mut present, mut boxes) = (Vec::new(), Boxes::new());
            for &(file, entry) in &one.holders {
                let rank = u64::from(self.files[file].rank);
                if rank / devices != in_stage.stage {
                    continue;
                }
                let Laid { dims, pieces } = stored(&in_stage.layout, rank % devices)?;
                let found = &self.files[file].entries[entry];
                if found.shape.dims() != dims {
                    return Err(PlanError::WrongShape {
                        name: one.name.to_string(),
                        path: self.files[file].path.clone(),
                        found: found.shape.clone(),
                        expected: Shape::new(dims).map_err(|e| layout_error(e.into()))?,
                        expected_by: "the layout of the other ranks".to_owned(),
                    });
                }
                present.push(rank % devices);
                let strides = (self.strides)(file, entry);
                for (part, piece) in pieces {
                    let piece = match &strides {
                        None => piece,
                        Some(strides) => with_strides(&piece, found.shape.dims(), strides).ok_or_else(|| {
                            PlanError::Ambiguous(format!("`{}` is a view that is not read", one.name))
                        })?,
                    };
                    boxes.push((part, Shard { file, entry, piece }));
                }
            }
            held.push((present, boxes));
        }
        let mut filled = Boxes::new();
        if let (Some(in_stage), Some(((present, boxes), others))) = (stages.first(), held.split_first()) {
            let mut known: HashSet<(usize, Region)> =
                boxes.iter().map(|(part, shard)| (*part, shard.piece.region.clone())).collect();
            let covered = |part: usize, region: Region| {
                if !known.contains(&(part, region.clone())) {
                    let Some(boxes) = others.iter().find_map(|(_, boxes)| fill(boxes, part, &region)) else {
                        return false;
                    };
                    filled.extend(boxes);
                    known.insert((part, region));
                }
                true
            };
            self.check_present(one, in_stage, present, covered, &stored)?;
        }
        for (position, (_, boxes)) in held.into_iter().enumerate() {
            for (part, shard) in boxes {
                take(part, position == 0, shard);
            }
        }
        for (part, shard) in filled {
            take(part, true, shard);
        }
        Ok(())
    }

    /// The rows of a fused weight are in an order that, rank by rank, depends on into how many parts they are cut. The rows of
    /// an adapter's `B` are in the same order only where they are cut alike: otherwise no layout shows which rows belong together.
    pub(super) fn check_factor(&self, one: &Named, known: &Known, stages: &[InStage]) -> Result<(), PlanError> {
        if known.stored.is_shared() || !self.rank_concat {
            return Ok(());
        }
        let weight = crate::model::Stored { companion: None, ..known.stored };
        let Some(weight) = self.dialect.and_then(|dialect| dialect.name(&weight)) else { return Ok(()) };
        let Some(&at) = self.index.get(weight.as_str()) else { return Ok(()) };
        for of_weight in self.stages(&self.named[at])? {
            let ways = of_weight.layout.parts(0);
            let other = stages.iter().map(|s| s.layout.parts(0)).find(|other| *other != ways);
            if let Some(other) = other {
                let why = format!(
                    "its rows are cut into {other}, those of `{weight}` into {ways}, and the order of fused rows follows the \
                     cut, so which rows belong together is not known"
                );
                return Err(PlanError::Adapter { name: one.name.to_string(), why });
            }
        }
        Ok(())
    }
}

/// The boxes that together are all of a region, each once, where there are such.
fn fill(boxes: &Boxes, part: usize, region: &Region) -> Option<Boxes> {
    let mut found = Boxes::new();
    let mut seen = HashSet::new();
    for (_, shard) in boxes.iter().filter(|(of, _)| *of == part) {
        if let Some(piece) = shard.piece.within(region)
            && seen.insert(piece.region.clone())
        {
            found.push((part, Shard { piece, ..shard.clone() }));
        }
    }
    // Boxes of one stage are equal or have nothing in common.
    let volume: u64 = found.iter().map(|(_, shard)| shard.piece.region.volume()).sum();
    (volume == region.volume()).then_some(found)
}
