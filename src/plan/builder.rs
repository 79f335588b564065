//! Catalog and target to routes.

mod boxes;

use std::collections::{HashMap, HashSet};

use self::boxes::{groups_of, rows_of, unpacked};
use super::calculation::Computed;
use super::catalog::{Catalog, LogicalTensor};
use super::holders::{Holder, Holders};
use super::low_rank::Pair;
use super::quantise::{Gathered, QuantisedModel};
use super::route::{
    LowRank, OutputFile, OutputTensor, Plan, PlanSource, Quantised, Route, SourceTensor, TensorCrc, Transform,
};
use super::source::hold_blocks;
use super::target::{Content, Kind, TargetEntry, TargetRank};
use super::{PlanError, SourceFile, low_rank};
use crate::formats::mindspore::{self, CkptOptions};
use crate::formats::{FileLayout, FormatError, FormatFault, FormatKind, TensorToWrite, pytorch, safetensors};
use crate::layout::{Move, Piece, Region};
use crate::source::Extents;
use crate::tensor::{Dtype, Shape};

/// The precision that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// As in the source.
    Keep,
    /// All floating-point parameters as this dtype.
    To(Dtype),
}

/// How the output files shall be written.
#[derive(Clone, Copy, Debug)]
pub struct PlanOptions {
    /// The precision of weights and biases.
    pub precision: Precision,
    /// The precision of the norms.
    pub norms: Precision,
    /// The format of the output files.
    pub format: FormatKind,
    /// Whether `.ckpt` files get a CRC trailer.
    pub crc: bool,
    /// Whether `.ckpt` files may be padded so that data can be written straight from the mapped source.
    pub padding: bool,
    /// For a target of one rank: write a whole-model directory instead of a rank directory.
    pub whole: Option<WholeModel>,
}

/// A directory that holds a whole model in numbered files, with an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WholeModel {
    /// The most bytes of tensors in a file; a larger tensor has a file of its own.
    pub shard_bytes: u64,
    /// Whose directory it is.
    pub reader: WholeReader,
}

/// Who reads a whole-model directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WholeReader {
    /// MindSpore: safetensors with a `param_name_map.json`.
    MindSpore,
    /// Hugging Face's transformers.
    HuggingFace,
}

/// Tensors smaller than this are not worth an aligned place.
const ALIGNED_FROM: u64 = 64 << 10;

/// Joins what the source holds and what the target shall hold to a plan.
///
/// # Errors
/// Where a dtype cannot be converted, or a header cannot express a tensor.
pub fn build(
    files: &[SourceFile<'_>],
    catalog: &Catalog,
    targets: Vec<TargetRank>,
    options: &PlanOptions,
) -> Result<Plan, PlanError> {
    let mut builder = Builder::new(files, catalog);
    let outputs = builder.outputs(targets, options)?;
    let Builder { tensors, updates, factors, .. } = builder;
    Ok(Plan { sources: sources(files), tensors, outputs, updates, factors, computed: None })
}

/// As [`build`], for a quantised model. `files` are those of the source and, last, [`super::computed_file`].
///
/// # Errors
/// As [`build`].
pub fn build_quantised(
    files: &[SourceFile<'_>],
    model: &QuantisedModel,
    targets: Vec<TargetRank>,
    options: &PlanOptions,
) -> Result<Plan, PlanError> {
    let mut builder = Builder::new(files, &model.catalog);
    let outputs = builder.outputs(targets, options)?;
    let calculations = model.linears.iter().map(|l| l.calculation(|name, what| builder.gather(name, what))).collect();
    let (bytes, caches) = (model.room.bytes.clone(), model.caches.clone());
    let computed = Some(Computed { source: files.len() - 1, bytes, calculations, caches });
    let Builder { tensors, updates, factors, .. } = builder;
    Ok(Plan { sources: sources(files), tensors, outputs, updates, factors, computed })
}

impl Builder<'_> {
    fn outputs(&mut self, targets: Vec<TargetRank>, options: &PlanOptions) -> Result<Vec<OutputFile>, PlanError> {
        let builder = self;
        let mut outputs = Vec::new();
        for target in targets {
            let entries = target.entries.into_iter();
            let tensors = entries.map(|entry| builder.tensor(&entry, options)).collect::<Result<Vec<_>, _>>()?;
            if let Some(whole) = options.whole {
                outputs.extend(builder.whole_model(target.rank, tensors, whole, options)?);
            } else {
                let extension = options.format.extension();
                let path = format!("rank_{0}/checkpoint_{0}.{extension}", target.rank);
                outputs.push(builder.file(path, target.rank, tensors, options)?);
            }
        }
        Ok(outputs)
    }
}

fn sources(files: &[SourceFile<'_>]) -> Vec<PlanSource> {
    files.iter().map(|f| PlanSource { path: f.path.clone(), len: f.bytes.len() as u64, rank: f.rank }).collect()
}

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
/// compared. The outputs' layouts are empty; the extents say where B's bytes lie, file by file and tensor by tensor.
pub fn compare(
    which: Compared,
    a_files: &[SourceFile<'_>],
    a: &Catalog,
    b_files: &[SourceFile<'_>],
    b: &Catalog,
) -> (Plan, Vec<Vec<Extents>>) {
    let mut builder = Builder::new(a_files, a);
    builder.merge = false;
    let mut pieces: HashMap<(usize, usize), Vec<(usize, Piece)>> = HashMap::new();
    let mut replicas: HashSet<(usize, usize)> = HashSet::new();
    for tensor in b.tensors() {
        if let Compared::Replicas { at_most } = which {
            let small = |h: &&Holder| b_files[h.file].entries[h.entry].extents.len() <= at_most;
            let compared = tensor.holders.replicas().iter().filter(small).chain(tensor.holders.copies());
            replicas.extend(compared.map(|h| (h.file, h.entry)));
        }
        let Some(index) = a.get(&tensor.name) else { continue };
        // Copies first: what is read of one in the stead of a missing rank is a part of the copy.
        for holder in tensor.holders.replicas().iter().chain(tensor.holders.used()) {
            let known = pieces.entry((holder.file, holder.entry)).or_default();
            // What belongs to the input of a fused layer is the same piece for each part.
            if known.iter().all(|(of, piece)| *piece != holder.piece && !(*of == index && holds(piece, &holder.piece)))
            {
                known.push((index, holder.piece.clone()));
            }
        }
    }
    pieces.retain(|entry, _| which == Compared::All || replicas.contains(entry));
    let (mut outputs, mut places) = (Vec::new(), Vec::new());
    for (file_index, file) in b_files.iter().enumerate() {
        let (mut tensors, mut extents) = (Vec::new(), Vec::new());
        for (entry_index, entry) in file.entries.iter().enumerate() {
            let Some(pieces) = pieces.get(&(file_index, entry_index)) else { continue };
            tensors.push(OutputTensor {
                name: entry.name.clone(),
                dtype: entry.dtype,
                shape: entry.shape.clone(),
                first_holder: true,
                routes: builder.routes(pieces, entry.dtype, Transform::Copy),
                quantised: None,
            });
            extents.push(entry.extents.clone());
        }
        outputs.push(OutputFile {
            path: file.path.display().to_string(),
            rank: Some(file.rank),
            format: None,
            layout: FileLayout::default(),
            tensors,
            crc: false,
            tensor_crcs: Vec::new(),
        });
        places.push(extents);
    }
    (Plan { sources: sources(a_files), tensors: builder.tensors, outputs, ..Plan::default() }, places)
}

/// Routes by where their bytes begin in the target.
fn in_target_order(routes: &mut [Route]) {
    routes.sort_by_key(|r| r.moves.dst * r.transform.unit());
}

/// Whether one piece of a tensor is a part of the other.
fn holds(piece: &Piece, part: &Piece) -> bool {
    piece.region.intersect(&part.region).is_some_and(|shared| shared == part.region)
}

/// What brings elements of one floating-point type to another.
fn to(from: Dtype, to: Dtype) -> Transform {
    if from == to { Transform::Copy } else { Transform::Cast { from, to } }
}

pub(super) struct Builder<'a> {
    files: &'a [SourceFile<'a>],
    catalog: &'a Catalog,
    /// Whether any tensor is quantised by blocks.
    by_blocks: bool,
    /// (file, entry) to the index among `tensors`.
    index: HashMap<(usize, usize), usize>,
    tensors: Vec<SourceTensor>,
    /// Whether adapters are merged into their weights.
    merge: bool,
    updates: Vec<LowRank>,
    factors: Vec<OutputTensor>,
    /// Factors in the catalog to those in the plan.
    pairs: HashMap<(usize, usize), (usize, usize)>,
}

impl<'a> Builder<'a> {
    pub(super) fn new(files: &'a [SourceFile<'a>], catalog: &'a Catalog) -> Self {
        let (tensors, updates, factors) = (Vec::new(), Vec::new(), Vec::new());
        let by_blocks = hold_blocks(files);
        let (index, pairs) = (HashMap::new(), HashMap::new());
        Self { files, catalog, by_blocks, index, tensors, merge: true, updates, factors, pairs }
    }

    /// The factors that are merged into a weight, whole and in single precision, and their scale.
    fn pair(&mut self, pair: Pair) -> (usize, usize, f32) {
        if let Some(&(a, b)) = self.pairs.get(&(pair.a, pair.b)) {
            return (a, b, pair.scale);
        }
        let (catalog, first) = (self.catalog, self.factors.len());
        for index in [pair.a, pair.b] {
            let tensor = &catalog.vectors[index];
            let whole: Vec<u64> = tensor.radices.iter().chain(tensor.shape.dims().iter().skip(1)).copied().collect();
            let transform = match tensor.dtype {
                Dtype::F32 => Transform::Copy,
                from => Transform::Cast { from, to: Dtype::F32 },
            };
            let mut routes = Vec::new();
            self.elements(tensor, &Piece::dense(Region::whole(&whole)), tensor.dtype, transform, &mut routes);
            in_target_order(&mut routes);
            let (name, shape) = (tensor.name.clone(), tensor.shape.clone());
            self.factors.push(OutputTensor {
                name,
                dtype: Dtype::F32,
                shape,
                first_holder: true,
                routes,
                quantised: None,
            });
        }
        self.pairs.insert((pair.a, pair.b), (first, first + 1));
        (first, first + 1, pair.scale)
    }

    /// A plan of what was gathered only, without outputs.
    pub(super) fn into_plan(self) -> Plan {
        Plan { sources: sources(self.files), tensors: self.tensors, ..Plan::default() }
    }

    fn tensor(&mut self, entry: &TargetEntry, options: &PlanOptions) -> Result<OutputTensor, PlanError> {
        let precision = match entry.kind {
            Kind::Weight => options.precision,
            Kind::Norm => options.norms,
            Kind::Other => Precision::Keep,
        };
        if let Content::Pieces(pieces) = &entry.content
            && let Some(quantised) = self.quantised(pieces, entry)?
        {
            return Ok(OutputTensor {
                name: entry.name.clone(),
                dtype: entry.dtype,
                shape: entry.shape.clone(),
                first_holder: entry.first_holder,
                routes: Vec::new(),
                quantised: Some(Box::new(quantised)),
            });
        }
        let dtype = match precision {
            Precision::To(dtype) if entry.dtype.is_float() => dtype,
            _ => entry.dtype,
        };
        let transform =
            if dtype == entry.dtype { Transform::Copy } else { Transform::Cast { from: entry.dtype, to: dtype } };
        if let Transform::Cast { from, to } = transform
            && !(to.is_float() && to != Dtype::F64)
        {
            return Err(PlanError::Cast { name: entry.name.to_string(), from: from.name(), to: to.name() });
        }
        let routes = match &entry.content {
            Content::Pieces(pieces) => self.routes(pieces, entry.dtype, transform),
            Content::Entry(file, index) => {
                let moves = Move { src: 0, dst: 0, run: entry.shape.elements(), dims: Box::new([]) };
                let moves = if transform == Transform::Copy { moves.scaled(entry.dtype.size()) } else { moves };
                vec![Route { source: self.source(*file, *index), transform, moves }]
            }
        };
        Ok(OutputTensor {
            name: entry.name.clone(),
            dtype,
            shape: entry.shape.clone(),
            first_holder: entry.first_holder,
            routes,
            quantised: None,
        })
    }

    /// How the boxes of a target tensor are quantised, where they are: its elements, and what belongs to its rows and columns.
    fn quantised(&mut self, pieces: &[(usize, Piece)], entry: &TargetEntry) -> Result<Option<Quantised>, PlanError> {
        let catalog = self.catalog;
        let of = |tensor: usize| catalog.tensors()[tensor].quantise.as_ref();
        let (Some((tensor, piece)), &[_, stored]) = (pieces.first(), entry.shape.dims()) else { return Ok(None) };
        let Some(first) = of(*tensor) else { return Ok(None) };
        let columns = stored * first.width.in_a_byte();
        let (mut operand, mut scales, mut divide) = (Vec::new(), Vec::new(), Vec::new());
        for (tensor, piece) in pieces {
            let Some(how) = of(*tensor) else { return Ok(None) };
            let transform = to(how.from, Dtype::F16);
            let piece = unpacked(piece, how.width.in_a_byte());
            self.elements(&catalog.tensors()[*tensor], &piece, how.from, transform, &mut operand);
            let rows = rows_of(&piece, columns);
            let scaled = match how.group {
                None => rows.clone(),
                Some(size) => groups_of(&piece, columns, size)
                    .ok_or_else(|| PlanError::Groups { name: entry.name.to_string(), size })?,
            };
            let dtype = how.arithmetic.scales();
            self.bring(&catalog.vectors[how.scales].holders, &scaled, dtype, Transform::Copy, &mut scales);
            if let Some(vector) = how.divide {
                self.bring(&catalog.vectors[vector].holders, &rows, Dtype::F16, Transform::Copy, &mut divide);
            }
        }
        // All parts of a fused weight have one input, and so the same columns with the same factors.
        let multiply = first.multiply.map(|vector| {
            let piece = unpacked(piece, first.width.in_a_byte());
            let axis = piece.region.len().len() - 1;
            let region = Region::new([piece.region.start()[axis]], [piece.region.len()[axis]]);
            let mut routes = Vec::new();
            let (holders, dtype) = (&catalog.vectors[vector].holders, Dtype::F16);
            self.bring(holders, &Piece::dense(region), dtype, Transform::Copy, &mut routes);
            routes
        });
        for routes in [&mut operand, &mut scales, &mut divide] {
            in_target_order(routes);
        }
        let divide = first.divide.map(|_| divide);
        let (group, width, arithmetic) = (first.group.unwrap_or(columns), first.width, first.arithmetic);
        Ok(Some(Quantised { columns, group, width, arithmetic, operand, scales, multiply, divide }))
    }

    /// What the catalog's vectors give to a matrix or vector that is not written.
    pub(super) fn gather(&mut self, name: &str, what: &Gathered) -> OutputTensor {
        let catalog = self.catalog;
        let (mut routes, mut rows) = (Vec::new(), 0);
        let mut dims = Vec::new();
        for &(vector, first) in &what.parts {
            let tensor = &catalog.vectors[vector];
            let axes: Vec<u64> = tensor.radices.iter().chain(tensor.shape.dims().iter().skip(1)).copied().collect();
            let dense = Piece::dense(Region::whole(&axes));
            let piece = Piece::new(dense.region.clone(), first * what.columns, dense.strides().iter().copied());
            self.elements(tensor, &piece, tensor.dtype, to(tensor.dtype, what.dtype), &mut routes);
            rows += tensor.shape.dims().first().copied().unwrap_or(1);
            dims = tensor.shape.dims().to_vec();
        }
        if let Some(first) = dims.first_mut() {
            *first = rows;
        }
        in_target_order(&mut routes);
        OutputTensor {
            name: name.into(),
            dtype: what.dtype,
            // The parts' shapes are sound, and no model has 2^60 rows.
            shape: Shape::new(dims).unwrap_or_default(),
            first_holder: true,
            routes,
            quantised: None,
        }
    }

    /// What the holders give to the boxes of a target tensor, in target order.
    fn routes(&mut self, pieces: &[(usize, Piece)], dtype: Dtype, transform: Transform) -> Vec<Route> {
        let catalog = self.catalog;
        let mut routes = Vec::new();
        for (tensor, piece) in pieces {
            self.elements(&catalog.tensors()[*tensor], piece, dtype, transform, &mut routes);
        }
        in_target_order(&mut routes);
        routes
    }

    /// What a tensor gives to a box: its elements, of `dtype` in the source, and what is added to them.
    fn elements(
        &mut self,
        tensor: &LogicalTensor,
        piece: &Piece,
        dtype: Dtype,
        transform: Transform,
        routes: &mut Vec<Route>,
    ) {
        let Some(pair) = tensor.update.filter(|_| self.merge) else {
            return self.bring(&tensor.holders, piece, dtype, transform, routes);
        };
        let pair = self.pair(pair);
        for holder in tensor.holders.near(&piece.region) {
            let Some(moves) = holder.piece.to(piece) else { continue };
            let to = if let Transform::Cast { to, .. } = transform { to } else { dtype };
            self.updates.push(low_rank::place(self.files, tensor, holder, pair));
            let transform = Transform::Update { from: dtype, to, update: self.updates.len() - 1 };
            routes.push(Route { source: self.source(holder.file, holder.entry), transform, moves });
        }
    }

    /// What holders give to a box.
    fn bring(&mut self, holders: &Holders, piece: &Piece, dtype: Dtype, transform: Transform, routes: &mut Vec<Route>) {
        for holder in holders.near(&piece.region) {
            if let Some(moves) = holder.piece.to(piece) {
                let (transform, to) = self.decoding(holder, dtype, transform);
                let moves = if transform == Transform::Copy { moves.scaled(to.size()) } else { moves };
                routes.push(Route { source: self.source(holder.file, holder.entry), transform, moves });
            }
        }
    }

    /// What is done to the elements of a holder, and what they become. Where any tensor is quantised by blocks, a holder's dtype need
    /// not be that of its tensor.
    fn decoding(&self, holder: &Holder, dtype: Dtype, transform: Transform) -> (Transform, Dtype) {
        let to = if let Transform::Cast { to, .. } = transform { to } else { dtype };
        let transform = match self.files[holder.file].entries[holder.entry].dtype {
            Dtype::Blocks(from) => Transform::Dequantise { from, to },
            from if self.by_blocks && dtype.is_float() => self::to(from, to),
            _ => transform,
        };
        (transform, to)
    }

    fn source(&mut self, file: usize, entry: usize) -> usize {
        *self.index.entry((file, entry)).or_insert_with(|| {
            let found = &self.files[file].entries[entry];
            self.tensors.push(SourceTensor {
                file,
                name: found.name.clone(),
                dtype: found.dtype,
                extents: found.extents.clone(),
            });
            self.tensors.len() - 1
        })
    }

    fn to_write(&self, tensor: &OutputTensor) -> TensorToWrite {
        TensorToWrite {
            name: tensor.name.clone(),
            dtype: tensor.dtype,
            shape: tensor.shape.clone(),
            phase: self.phase(tensor),
        }
    }

    /// Where in a block the tensor should begin so that most of its bytes lie as they do in the source.
    fn phase(&self, tensor: &OutputTensor) -> Option<u64> {
        let mut votes: Vec<(u64, u64)> = Vec::new();
        for route in &tensor.routes {
            if route.transform != Transform::Copy || !route.moves.dims.is_empty() || route.moves.run < ALIGNED_FROM {
                continue;
            }
            let mut at = route.moves.dst;
            for range in self.tensors[route.source].extents.locate(route.moves.src, route.moves.run) {
                let block = FileLayout::BLOCK;
                let phase = (range.start() % block + block - at % block) % block;
                match votes.iter_mut().find(|(p, _)| *p == phase) {
                    Some((_, bytes)) => *bytes += range.len(),
                    None => votes.push((phase, range.len())),
                }
                at += range.len();
            }
        }
        votes.into_iter().max_by_key(|&(phase, bytes)| (bytes, u64::MAX - phase)).map(|(phase, _)| phase)
    }

    fn file(
        &self,
        path: String,
        rank: u32,
        tensors: Vec<OutputTensor>,
        options: &PlanOptions,
    ) -> Result<OutputFile, PlanError> {
        let list: Vec<TensorToWrite> = tensors.iter().map(|t| self.to_write(t)).collect();
        let crc = options.crc && options.format == FormatKind::Ckpt;
        let mut tensor_crcs = Vec::new();
        let layout = match options.format {
            FormatKind::Ckpt => {
                let defaults = CkptOptions::default();
                mindspore::layout(&list, CkptOptions { padding: options.padding, ..defaults }).map(|mut layout| {
                    if crc {
                        layout.reserve(mindspore::TRAILER_LEN);
                    }
                    layout
                })
            }
            FormatKind::Safetensors => {
                let pytorch = options.whole.is_some_and(|whole| whole.reader == WholeReader::HuggingFace);
                let reader = if pytorch { "pt" } else { "ms" };
                safetensors::layout(&list, &[("format".to_owned(), reader.to_owned())])
            }
            FormatKind::PyTorch => pytorch::layout(&list).map(|written| {
                tensor_crcs = written.checksums.into_iter().map(|c| TensorCrc { at: c.at, tensor: c.tensor }).collect();
                written.file
            }),
            FormatKind::Gguf => Err(FormatError::new(0, FormatFault::NotThisFormat("GGUF files are not written"))),
        };
        let layout = layout.map_err(|source| PlanError::Header { rank, source })?;
        Ok(OutputFile { path, rank: Some(rank), format: Some(options.format), layout, tensors, crc, tensor_crcs })
    }

    /// A whole-model directory: numbered files, and an index under the names that its readers look for.
    fn whole_model(
        &self,
        rank: u32,
        tensors: Vec<OutputTensor>,
        whole: WholeModel,
        options: &PlanOptions,
    ) -> Result<Vec<OutputFile>, PlanError> {
        let mut shards: Vec<Vec<OutputTensor>> = vec![Vec::new()];
        let (mut filled, mut total) = (0, 0);
        for tensor in tensors {
            let bytes = tensor.shape.bytes(tensor.dtype);
            if filled > 0 && filled + bytes > whole.shard_bytes {
                shards.push(Vec::new());
                filled = 0;
            }
            filled += bytes;
            total += bytes;
            if let Some(shard) = shards.last_mut() {
                shard.push(tensor);
            }
        }
        let count = shards.len();
        let (mut outputs, mut map) = (Vec::new(), Vec::new());
        let extension = options.format.extension();
        let stem = if options.format == FormatKind::PyTorch { "pytorch_model" } else { "model" };
        for (number, shard) in (1..).zip(shards) {
            let path = if count == 1 {
                format!("{stem}.{extension}")
            } else {
                format!("{stem}-{number:05}-of-{count:05}.{extension}")
            };
            map.extend(shard.iter().map(|t| (t.name.to_string(), path.clone())));
            outputs.push(self.file(path, rank, shard, options)?);
        }
        let index = safetensors::write_index(&map, total);
        let index_name = format!("{stem}.{extension}.index.json");
        let names: &[&str] = match whole.reader {
            WholeReader::MindSpore => &[&index_name, "param_name_map.json"],
            // transformers writes no index beside a single file.
            WholeReader::HuggingFace if count == 1 => &[],
            WholeReader::HuggingFace => &[&index_name],
        };
        for path in names {
            let mut layout = FileLayout::default();
            layout.literal(&index);
            outputs.push(OutputFile {
                path: (*path).to_owned(),
                rank: None,
                format: None,
                layout,
                tensors: Vec::new(),
                crc: false,
                tensor_crcs: Vec::new(),
            });
        }
        Ok(outputs)
    }
}
