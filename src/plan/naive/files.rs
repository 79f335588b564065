//! The files of a source: bytes in memory, and what a parser would say of them.

use std::path::PathBuf;

use super::cut::Block;
use super::placement::{Placement, shape};
use super::random::Random;
use super::whole::{Item, Model};
use crate::formats::Entry;
use crate::plan::SourceFile;
use crate::plan::evidence::InMemory;
use crate::source::{ByteRange, Extents};
use crate::tensor::{Dtype, Shape, TensorName};

/// One tensor of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tensor {
    pub(super) name: String,
    pub(super) dtype: Dtype,
    pub(super) shape: Shape,
    pub(super) bytes: Vec<u8>,
}

/// What one file holds, before it is written.
#[derive(Clone, Debug)]
pub(super) struct Contents {
    pub(super) rank: usize,
    pub(super) tensors: Vec<Tensor>,
}

/// The bytes of elements: their numbers, in as many bytes as the dtype has.
pub(super) fn bytes_of(elements: &[u32], dtype: Dtype) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(elements.len() * dtype.size_in_memory());
    for element in elements {
        bytes.extend_from_slice(&element.to_le_bytes()[..dtype.size_in_memory()]);
    }
    bytes
}

/// A file for each rank.
pub(super) fn contents(model: &Model, placement: &Placement) -> Vec<Contents> {
    let of_rank = |rank| {
        let tensor = |(item, block): (&Item, Block)| Tensor {
            name: item.name.clone(),
            dtype: model.dtype,
            shape: shape(&block.dims),
            bytes: bytes_of(&block.elements, model.dtype),
        };
        Contents { rank, tensors: placement.blocks(model, rank).map(tensor).collect() }
    };
    (0..placement.ranks()).map(of_rank).collect()
}

/// A file as the program gets it.
#[derive(Debug)]
pub(super) struct File {
    path: PathBuf,
    rank: u32,
    pub(super) bytes: Vec<u8>,
    pub(super) entries: Vec<Entry>,
}

impl File {
    /// Puts the tensors one after the other, some in two parts, with something between them.
    pub(super) fn new(random: &mut Random, contents: &Contents) -> Self {
        let mut bytes = Vec::new();
        let mut entries = Vec::new();
        for tensor in &contents.tensors {
            let mut extents = Extents::default();
            let cut = if random.one_in(4) { random.below(tensor.bytes.len() + 1) } else { 0 };
            for part in [&tensor.bytes[..cut], &tensor.bytes[cut..]] {
                bytes.resize(bytes.len() + random.below(9), 0xee);
                extents.push(ByteRange::new(bytes.len() as u64, part.len() as u64).expect("small"));
                bytes.extend(part);
            }
            let name = TensorName::from(tensor.name.as_str());
            entries.push(Entry { name, dtype: tensor.dtype, shape: tensor.shape.clone(), extents });
        }
        let path = PathBuf::from(format!("rank_{0}/{1}.ckpt", contents.rank, random.below(1000)));
        Self { path, rank: u32::try_from(contents.rank).expect("few ranks"), bytes, entries }
    }

    pub(super) fn source(&self) -> SourceFile<'_> {
        SourceFile { path: self.path.clone(), rank: self.rank, len: self.bytes.len() as u64, entries: &self.entries }
    }
}

/// What files hold.
pub(super) fn evidence(files: &[File]) -> InMemory<'_> {
    InMemory(files.iter().map(|file| (&*file.bytes, &*file.entries)).collect())
}
