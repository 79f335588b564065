//! All entries of all ranks as logical tensors: unfused, whole, each with its shards.

mod add;
mod complete;
mod copied;
mod foreign;
mod full;
mod hold;
mod lay;
mod quantised;
mod read;
mod reader;
mod refine;
mod sized;
mod sizes;
mod stored;
mod tied;
mod vocabulary;

pub use foreign::{ForeignNotes, ForeignOptions};
pub use quantised::QuantisedAs;
pub use reader::CatalogOptions;

use std::collections::{HashMap, HashSet};

pub(super) use self::lay::{Laid, Lay};
pub(super) use self::reader::heads_unknown;
pub(super) use self::sized::Sized;
use super::PlanError;
use super::made::{Pair, Quantise};
use super::shards::Shards;
use super::tensor_id::{Known, TensorId};
use crate::model::naming::before;
use crate::model::{Dialect, Family, FusionLayout};
use crate::tensor::{Dtype, Shape, TensorName};

/// A parameter of the model, unfused, whatever the files hold.
#[derive(Clone, Debug)]
pub struct LogicalTensor {
    /// Its unfused name.
    pub name: TensorName,
    /// What it is. `None`: nothing that the family knows, or a state of an optimizer.
    pub(super) id: Option<TensorId>,
    /// Its elements.
    pub dtype: Dtype,
    /// Its full shape.
    pub shape: Shape,
    /// The axes as which axis 0 is read. The product is the number of rows. Empty for a scalar.
    pub(super) radices: Vec<u64>,
    pub(super) shards: Shards,
    /// Whether no layout knows it, and all ranks hold it alike.
    pub loose: bool,
    /// How its elements are made of what its shards hold, where they are not exactly that.
    pub(super) quantise: Option<Quantise>,
    /// The adapter that is added to what its shards hold, where one is merged.
    pub(super) update: Option<Pair>,
}

/// The parameters of a checkpoint.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is seen by itself while the names are read")]
pub struct Catalog {
    tensors: Vec<LogicalTensor>,
    by_name: HashMap<TensorName, usize>,
    /// The family of the model and the sizes of its axes. `None`: no family has these names.
    pub(super) sized: Option<Sized>,
    /// Whether it was read from files of PyTorch programs.
    foreign: bool,
    /// Whether any source parameter was fused.
    pub fused: bool,
    /// Whether the source keeps the embedding whole on every rank. `None` where there is one rank or no embedding.
    pub vocabulary_whole: Option<bool>,
    /// Into how many parts the source cuts the rows of q, k and v: as many, or a divisor, cut no head. 0: not known.
    pub(super) attention_ways: u64,
    /// Whether the source's strategy says which of embedding and `lm_head` there are.
    head_settled: bool,
    /// Names left out because they were to be ignored.
    pub ignored: Vec<String>,
    /// The factors of adapters that are merged into their weights, by index: they do not go to the target.
    pub(super) merged: HashSet<usize>,
    /// The fused names of factors of adapters that the source holds fused.
    pub(super) fused_factors: HashSet<String>,
    /// The names that quantised weights and biases have unquantised.
    quantised: HashSet<String>,
    /// Whether the source holds second copies of what belongs to the layers' inputs. They are made anew.
    pub(super) input_copies: bool,
    /// What is read to make others, but is no parameter itself.
    pub(super) vectors: Vec<LogicalTensor>,
}

impl Catalog {
    /// The tensors, in the order in which the lowest rank holds them.
    pub fn tensors(&self) -> &[LogicalTensor] {
        &self.tensors
    }

    /// The family of the model. `None`: no family has these names.
    pub fn family(&self) -> Option<&'static Family> {
        self.sized.as_ref().map(|sized| sized.family)
    }

    /// How many replicas of parameters within a stage are larger than this many bytes.
    pub fn replicas_above(&self, bytes: u64) -> usize {
        let count = |t: &LogicalTensor| t.shards.replicas().len() - t.shards.copies().len();
        let larger = |t: &LogicalTensor| if t.shape.bytes(t.dtype) > bytes { count(t) } else { 0 };
        self.tensors.iter().map(larger).sum()
    }

    /// The index of a tensor among [`Self::tensors`].
    pub fn get(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// A tensor that must be there.
    pub(super) fn require(&self, name: &str) -> Result<&LogicalTensor, PlanError> {
        let at = self.get(name).ok_or_else(|| PlanError::Lacks(vec![name.to_owned()]))?;
        Ok(&self.tensors[at])
    }

    /// The index of a tensor among [`Self::tensors`].
    pub(super) fn find(&self, id: TensorId) -> Option<usize> {
        self.get(&id.name(self.family()?))
    }

    fn put(&mut self, tensor: LogicalTensor) {
        self.quantised.extend(before(&tensor.name));
        self.by_name.insert(tensor.name.clone(), self.tensors.len());
        self.tensors.push(tensor);
    }

    /// Adds a tensor whose name is new. What it is follows from the name, and in which axes its rows are read from that.
    pub(super) fn push(&mut self, mut tensor: LogicalTensor) {
        if let Some(sized) = &self.sized {
            let known = Known::of(&Dialect::mindspore(sized.family, FusionLayout::default().name()), &tensor.name);
            tensor.id = known.filter(|known| known.state.is_empty()).and_then(|known| known.ids().next());
            if let Some(id) = tensor.id {
                tensor.name = id.name(sized.family).as_str().into();
            }
            if let Some(rows) = tensor.id.and_then(|id| sized.rows(id, &tensor.shape)) {
                tensor.read_rows_as(&rows);
            }
        }
        self.put(tensor);
    }

    /// Takes a tensor out again.
    fn remove(&mut self, index: usize) {
        let removed = self.tensors.remove(index);
        self.by_name.remove(&removed.name);
        for at in self.by_name.values_mut().filter(|at| **at > index) {
            *at -= 1;
        }
    }

    /// Has an adapter merged into a tensor.
    pub(super) fn update(&mut self, tensor: usize, adapter: Pair) {
        self.tensors[tensor].update = Some(adapter);
    }

    /// A catalog without tensors, of which the same is known as of this one; what is read to make others is kept.
    pub(super) fn emptied(&self) -> Self {
        Self {
            sized: self.sized.clone(),
            fused: self.fused,
            vocabulary_whole: self.vocabulary_whole,
            attention_ways: self.attention_ways,
            head_settled: self.head_settled,
            ignored: self.ignored.clone(),
            vectors: self.vectors.clone(),
            ..Self::default()
        }
    }
}
