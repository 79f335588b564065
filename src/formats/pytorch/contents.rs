//! What a checkpoint of PyTorch's holds, whichever container it is in.

use super::view::TensorView;

/// What a PyTorch checkpoint holds.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct PytorchFile {
    /// The tensors of the state dict, in its order. Two may lie in the same bytes: PyTorch shares storages.
    pub tensors: Vec<TensorView>,
    /// What else the state dict holds: extra states, numbers, nested dicts.
    pub others: Vec<Other>,
    /// What is beside the state dict: epoch, optimizer, arguments.
    pub beside: Vec<Other>,
    /// The keys that lead to the state dict; empty where it is the whole checkpoint.
    pub wrappers: Vec<&'static str>,
}

/// A value that is no tensor of the state dict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Other {
    /// Its key as text.
    pub name: String,
    /// What it is, as Python names it: `int`, `dict`, `argparse.Namespace`.
    pub kind: &'static str,
    /// How many tensors it holds, at any depth. What two values share counts for the first.
    pub tensors: usize,
}
