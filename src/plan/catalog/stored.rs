//! From what a file holds under a name to the tensors in it.

use super::add::{Adding, ByExpert, Held, Tensor};
use super::lay::{Laid, Lay};
use super::reader::{InStage, Named, Reader};
use super::sized::Sized;
use crate::layout::{Piece, Region, TensorLayout};
use crate::model::naming::group_scale_of;
use crate::model::{OwnSizes, ParamId};
use crate::plan::shards::Shard;
use crate::plan::tensor_id::Known;
use crate::plan::{PlanError, SourceFile};
use crate::tensor::{Dtype, Shape};

impl Reader<'_> {
    /// A name that the family knows: each parameter in it becomes a tensor.
    pub(super) fn stored(
        &self,
        one: &Named,
        known: &Known,
        (stages, shape, dtype, loose): (&[InStage], Shape, Dtype, bool),
        adding: &mut Adding<'_>,
    ) -> Result<(), PlanError> {
        let Some(sized) = adding.catalog.sized.clone() else { return self.plain(one, (stages, shape, dtype), adding) };
        self.take_note(one, known, stages, adding)?;
        let own = self.own_sizes(one, known, &shape, &sized)?;
        let lay = Lay::new(&sized, known, own, &one.name)?;
        self.check_shape(one, known, lay.dims(), &shape)?;
        if sized.lacks_heads(known.stored.row) {
            return Err(self.heads_unknown());
        }
        let parts: Vec<ParamId> = known.stored.params().collect();
        let stored = |layout: &TensorLayout, device| lay.on(self.arrangement, layout, device);
        let mut held: Vec<Held> = parts.iter().map(|_| Held::default()).collect();
        self.hold(one, stages, stored, |part, lowest, holder| held[part].push(lowest, holder))?;
        for (id, held) in known.ids().zip(held) {
            let canonical = sized.canonical(id, own).ok_or_else(|| Sized::too_large(&one.name))?;
            let name = format!("{}{}", known.state, id.name(sized.family));
            let shape =
                Shape::new(canonical.shape).map_err(|e| PlanError::Layout { name: name.clone(), source: e.into() })?;
            adding.add(Tensor {
                name: name.as_str().into(),
                id: known.state.is_empty().then_some(id),
                dtype,
                shape,
                radices: canonical.rows,
                held,
                // The order of fused rows is not to be copied unseen.
                loose: loose && !known.stored.is_joined(),
                by_expert: ByExpert::of(&known.stored),
            })?;
        }
        Ok(())
    }

    /// A name that only a strategy places.
    pub(super) fn plain(
        &self,
        one: &Named,
        (stages, shape, dtype): (&[InStage], Shape, Dtype),
        adding: &mut Adding<'_>,
    ) -> Result<(), PlanError> {
        let error = |source| PlanError::Layout { name: one.name.to_string(), source };
        let stored = |layout: &TensorLayout, device| Laid::plain(&shape, layout, device).map_err(error);
        let mut held = Held::default();
        self.hold(one, stages, stored, |_, lowest, holder| held.push(lowest, holder))?;
        adding.add(one.whole(dtype, shape, held, false))
    }

    /// What a name shows of the checkpoint as a whole.
    fn take_note(
        &self,
        one: &Named,
        known: &Known,
        stages: &[InStage],
        adding: &mut Adding<'_>,
    ) -> Result<(), PlanError> {
        let catalog = &mut *adding.catalog;
        if self.foreign {
            return Ok(());
        }
        if known.stored.is_joined() {
            if Self::is_factor(known) {
                self.check_factor(one, known, stages)?;
                catalog.fused_factors.insert(one.name.to_string());
            } else {
                catalog.fused = true;
            }
        }
        let Some(family) = catalog.family() else { return Ok(()) };
        let of_heads = known.stored.row.params().all(|param| family.has_rows_of_heads(param));
        if of_heads && known.state.is_empty() && !known.stored.is_shared() {
            for in_stage in stages {
                catalog.attention_ways = gcd(catalog.attention_ways, in_stage.layout.parts(0));
            }
        }
        if self.is_vocabulary(known) && self.arrangement.devices() > 1 {
            let whole = stages.iter().all(|s| s.layout.parts(0) == 1);
            *catalog.vocabulary_whole.get_or_insert(whole) &= whole;
        }
        Ok(())
    }

    /// The sizes that are the checkpoint's own: the rank of an adapter, the columns of a group.
    fn own_sizes(&self, one: &Named, known: &Known, shape: &Shape, sized: &Sized) -> Result<OwnSizes, PlanError> {
        let own = known.ids().next().and_then(|id| sized.own_sizes(id, shape));
        let grouped = group_scale_of(&one.name);
        let possible =
            |own: &OwnSizes| grouped.is_none() || self.spec.is_none() || crate::model::GROUP_SIZES.contains(&own.group);
        own.filter(possible).ok_or_else(|| {
            let weight = grouped.unwrap_or_default();
            let why = format!(
                "`{}` is {shape}, which is no whole groups of 64 or 128 of the model's columns of `{weight}`",
                one.name
            );
            PlanError::Quantised(why)
        })
    }

    /// The full shape must be the model's.
    fn check_shape(&self, one: &Named, known: &Known, expected: &[u64], shape: &Shape) -> Result<(), PlanError> {
        if let Some(model) = self.spec
            && let Some(layers) = known.stored.row.params().map(|param| model.layers_of(param)).max()
            && let Some(layer) = known.stored.captures.layer.filter(|layer| *layer >= layers)
        {
            return Err(PlanError::Ambiguous(if self.foreign {
                format!("`{}` is of a layer beyond the {layers} of the model configuration", one.name)
            } else {
                format!("`{}` is of layer {layer}, the model configuration has {layers} layers", one.name)
            }));
        }
        if expected == shape.dims() {
            return Ok(());
        }
        let (file, _) = one.holders[0];
        Err(PlanError::WrongShape {
            name: one.name.to_string(),
            path: self.files[file].path.clone(),
            found: shape.clone(),
            expected: Shape::new(expected).unwrap_or_default(),
            expected_by: match (self.spec, self.foreign) {
                (None, _) => "the shapes of the other parameters".to_owned(),
                (Some(_), true) => "the model configuration".to_owned(),
                (Some(_), false) => "the model configuration (shapes over all ranks)".to_owned(),
            },
        })
    }
}

impl Named {
    /// A parameter that no layout knows and that all ranks hold alike: each holds it whole.
    pub(super) fn loose(&self, files: &[SourceFile<'_>], adding: &mut Adding<'_>) -> Result<(), PlanError> {
        let whole = |&(file, entry): &(usize, usize)| {
            let region = Region::whole(files[file].entries[entry].shape.dims());
            Shard { file, entry, piece: Piece::dense(region) }
        };
        let (file, entry) = self.holders[0];
        let first = &files[file].entries[entry];
        let held = Held { used: self.holders.iter().map(whole).collect(), copies: Vec::new() };
        adding.add(self.whole(first.dtype, first.shape.clone(), held, true))
    }

    /// The name as a tensor of its own, whose rows are one axis.
    fn whole(&self, dtype: Dtype, shape: Shape, held: Held, loose: bool) -> Tensor {
        let radices = shape.dims().iter().take(1).copied().collect();
        Tensor { name: self.name.clone(), id: None, dtype, shape, radices, held, loose, by_expert: None }
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
