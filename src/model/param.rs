//! Axes, sizes and parameters.

use smallvec::SmallVec;

/// A named axis of a family: its place among the axes of the family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Axis(pub(super) u8);

impl Axis {
    /// Its place among the axes of the family.
    pub(super) fn place(self) -> usize {
        usize::from(self.0)
    }
}

/// The size of each axis of a model, in the family's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sizes(pub(super) Vec<u64>);

impl Sizes {
    /// The size of an axis.
    pub fn of(&self, axis: Axis) -> u64 {
        // An axis that the model does not have is not cut and not counted.
        self.0.get(usize::from(axis.0)).copied().unwrap_or(1)
    }
}

/// Over what kind of ranks an axis is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mesh {
    /// Tensor parallelism.
    Tensor,
    /// Expert parallelism.
    Expert,
}

/// A cut: the ranks of a kind share an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The ranks.
    pub mesh: Mesh,
    /// The axis.
    pub axis: Axis,
}

/// What a parameter is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The table of the vocabulary.
    Embedding,
    /// The matrix of a linear layer.
    Linear,
    /// A bias of a linear layer.
    Bias,
    /// A normalisation.
    Norm,
    /// The matrix that chooses experts.
    Router,
    /// The output projection over the vocabulary.
    Head,
    /// Scales and zero points of keys and values.
    Cache,
}

impl Role {
    /// All of them, by their names in family files.
    pub(super) const ALL: [(&str, Self); 7] = [
        ("embedding", Self::Embedding),
        ("linear", Self::Linear),
        ("bias", Self::Bias),
        ("norm", Self::Norm),
        ("router", Self::Router),
        ("head", Self::Head),
        ("cache", Self::Cache),
    ];
}

/// In which models and layers a parameter is present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// In all.
    Always,
    /// Where this expression over the configuration is true.
    If(super::Expression),
    /// In the layers before the one that this expression numbers.
    LayersBelow(super::Expression),
    /// In the layers from the one that this expression numbers.
    LayersFrom(super::Expression),
}

impl When {
    /// The expression that it depends on; empty for none.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Always => String::new(),
            Self::If(rule) | Self::LayersBelow(rule) | Self::LayersFrom(rule) => rule.to_string(),
        }
    }
}

/// Stored dimensions, each a product of axes, slowest first.
pub(super) type Dims = Vec<Vec<Axis>>;

/// A parameter of a family, in its canonical order of axes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param {
    /// Its name in the family file.
    pub id: String,
    /// The canonical dimensions: each a product of axes.
    pub dims: Dims,
    /// How ranks share it; empty: every rank holds it whole.
    pub cut: SmallVec<[Cut; 2]>,
    /// What it is for.
    pub role: Role,
    /// Where it is present.
    pub when: When,
    /// A model may be without it where it is present.
    pub optional: bool,
    /// Whether networks load it.
    pub loaded: bool,
    /// The layer template that it belongs to; `None`: once in a model.
    pub template: Option<String>,
}

impl Param {
    /// The axes of the canonical order, flattened. A [`Piece`](crate::layout::Piece) of it has these axes.
    pub fn axes(&self) -> impl Iterator<Item = Axis> + '_ {
        self.dims.iter().flatten().copied()
    }

    /// The full dimensions; `None` where a product is too large.
    pub fn shape(&self, sizes: &Sizes) -> Option<Vec<u64>> {
        self.dims.iter().map(|dim| dim.iter().try_fold(1u64, |n, &axis| n.checked_mul(sizes.of(axis)))).collect()
    }
}

/// A parameter of a model: which, of which layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ParamId {
    /// Its place in [`Family::params`](super::Family::params).
    pub param: u16,
    /// The layer, for the parameters of one.
    pub layer: Option<u32>,
}
