//! Routes between two checkpoints that both are there, so that they can be compared.

use std::collections::{HashMap, HashSet};

use super::SourceFile;
use super::catalog::Catalog;
use super::route::{OutputFile, OutputTensor};
use super::router::{Router, Way};
use super::shards::Shard;
use super::value::Plan;
use crate::formats::FileLayout;
use crate::layout::Piece;
use crate::source::Extents;

/// Which of a checkpoint's tensors are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compared {
    /// All of them.
    All,
    /// Those that a conversion of the checkpoint would not read, because another rank holds the same: of any size where it is
    /// of another stage (nothing else makes sure that a tied embedding is one tensor), else up to this many bytes.
    Replicas {
        /// The largest of one stage that are compared, in bytes.
        at_most: u64,
    },
}

/// Routes from checkpoint A to the places where checkpoint B already holds the same tensors, so that the two can be
/// compared. Floating-point elements of another type than B's are converted to it. The outputs' layouts are empty; the extents say
/// where B's bytes lie, file by file and tensor by tensor.
pub fn compare(
    which: Compared,
    a_files: &[SourceFile<'_>],
    a: &Catalog,
    b_files: &[SourceFile<'_>],
    b: &Catalog,
) -> (Plan, Vec<Vec<Extents>>) {
    let mut router = Router::new(a_files, a);
    router.merge = false;
    let mut pieces: HashMap<(usize, usize), Vec<(usize, Piece)>> = HashMap::new();
    let mut replicas: HashSet<(usize, usize)> = HashSet::new();
    for tensor in b.tensors() {
        if let Compared::Replicas { at_most } = which {
            let small = |h: &&Shard| b_files[h.file].entries[h.entry].extents.len() <= at_most;
            let compared = tensor.shards.replicas().iter().filter(small).chain(tensor.shards.copies());
            replicas.extend(compared.map(|h| (h.file, h.entry)));
        }
        let Some(index) = a.get(&tensor.name) else { continue };
        // Copies first: what is read of one in the stead of a missing rank is a part of the copy.
        for shard in tensor.shards.replicas().iter().chain(tensor.shards.used()) {
            let known = pieces.entry((shard.file, shard.entry)).or_default();
            // What belongs to the input of a fused layer is the same piece for each part.
            if known.iter().all(|(of, piece)| *piece != shard.piece && !(*of == index && holds(piece, &shard.piece))) {
                known.push((index, shard.piece.clone()));
            }
        }
    }
    pieces.retain(|entry, _| which == Compared::All || replicas.contains(entry));
    let (mut outputs, mut places) = (Vec::new(), Vec::new());
    for (file_index, file) in b_files.iter().enumerate() {
        let (mut tensors, mut extents) = (Vec::new(), Vec::new());
        for (entry_index, entry) in file.entries.iter().enumerate() {
            let Some(pieces) = pieces.get(&(file_index, entry_index)) else { continue };
            let mut routes = Vec::new();
            // The parts of a fused parameter need not be of one type in A.
            for (index, piece) in pieces {
                let from = a.tensors()[*index].dtype;
                let from = if from.is_float() && entry.dtype.is_float() { from } else { entry.dtype };
                let way = Way::cast(from, entry.dtype, &entry.shape);
                routes.extend(router.routes(&[(*index, piece.clone())], &way));
            }
            router.in_target_order(&mut routes);
            tensors.push(OutputTensor {
                name: entry.name.clone(),
                dtype: entry.dtype,
                shape: entry.shape.clone(),
                first_holder: true,
                routes,
            });
            extents.push(entry.extents.clone());
        }
        outputs.push(OutputFile {
            path: file.path.display().to_string(),
            rank: Some(file.rank),
            format: None,
            layout: FileLayout::default(),
            tensors,
        });
        places.push(extents);
    }
    (router.into_plan(outputs), places)
}

/// Whether one piece of a tensor is a part of the other.
fn holds(piece: &Piece, part: &Piece) -> bool {
    piece.region.intersect(&part.region).is_some_and(|shared| shared == part.region)
}
