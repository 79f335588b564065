//! What each device holds under a name.

use super::sized::Sized;
use crate::layout::{Piece, TensorLayout};
use crate::model::{OwnSizes, Share, StoredPart, StoredTensor, WholeTensor};
use crate::plan::tensor_id::Known;
use crate::plan::{Arrangement, PlanError};
use crate::tensor::Shape;

/// What a device holds: the dimensions in its file, and the pieces of each part.
pub(in crate::plan) struct Laid {
    pub dims: Vec<u64>,
    pub pieces: Vec<(usize, Piece)>,
}

impl Laid {
    /// A tensor that is no part of another and whose rows are not read as several axes.
    pub(in crate::plan) fn plain(
        full: &Shape,
        layout: &TensorLayout,
        device: u64,
    ) -> Result<Self, crate::layout::LayoutError> {
        let region = layout.region(full.dims(), device)?;
        Ok(Self { dims: region.len().to_vec(), pieces: vec![(0, Piece::dense(region))] })
    }
}

/// What each device holds under a name.
pub(in crate::plan) struct Lay<'a> {
    sized: &'a Sized,
    known: &'a Known,
    own: OwnSizes,
    name: &'a str,
    whole: WholeTensor,
    sliced: bool,
}

impl<'a> Lay<'a> {
    pub(in crate::plan) fn new(
        sized: &'a Sized,
        known: &'a Known,
        own: OwnSizes,
        name: &'a str,
    ) -> Result<Self, PlanError> {
        let (family, sizes, stored) = (sized.family, &sized.sizes, &known.stored);
        let whole = match stored.companion {
            None => family.whole(stored.row, stored.captures, sizes),
            Some(companion) => family.whole_companion(stored.row, stored.captures, companion, own, sizes),
        };
        let whole = whole.map_err(|e| Sized::error(name, e))?;
        let sliced = stored.companion.is_some() || family.is_sliced(stored.row);
        Ok(Self { sized, known, own, name, whole, sliced })
    }

    /// The dimensions in a device's file, and where in it the parts are.
    pub(in crate::plan) fn on(
        &self,
        arrangement: Arrangement<'_>,
        layout: &TensorLayout,
        device: u64,
    ) -> Result<Laid, PlanError> {
        let error = |e| Sized::error(self.name, e);
        let StoredTensor { dims, parts } = match arrangement {
            Arrangement::Rules(ranks) if ranks > 1 && self.is_by_share(ranks) => {
                let (stored, sizes) = (&self.known.stored, &self.sized.sizes);
                let (row, captures, share) = (stored.row, stored.captures, Share::of(device, ranks));
                let family = self.sized.family;
                let held = match stored.companion {
                    None => family.stored(row, captures, sizes, share),
                    Some(companion) => family.stored_companion(row, captures, companion, self.own, sizes, share),
                };
                held.map_err(error)?
            }
            _ => self.whole.on(layout, device).map_err(error)?,
        };
        let index = |part: StoredPart| {
            let (at, id) = self.known.ids().enumerate().find(|(_, id)| id.param == part.id)?;
            Some((at, self.sized.in_canonical_axes(id, self.own, part.piece)?))
        };
        Ok(Laid { dims, pieces: parts.into_iter().filter_map(index).collect() })
    }

    /// Whether only a rank's share says what it holds: no layout does.
    fn is_by_share(&self, ranks: u64) -> bool {
        !self.sliced || self.sized.family.exceeds(self.known.stored.row, &self.sized.sizes, ranks)
    }

    /// The dimensions over all devices.
    pub(in crate::plan) fn dims(&self) -> &[u64] {
        self.whole.dims()
    }
}
