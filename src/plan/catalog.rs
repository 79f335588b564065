//! All entries of all ranks as logical tensors: unfused, whole, each with its holders.

mod copied;
mod foreign;
mod full;
mod hold;
mod quantised;
mod refine;
mod tied;
mod whole;

pub use foreign::{ForeignNotes, ForeignOptions};
pub use quantised::QuantisedAs;

use std::collections::{HashMap, HashSet};
use std::fmt;

use super::fused_rows::{grouping, radices};
use super::holders::{Holder, Holders};
use super::low_rank::Pair;
use super::pieces::{self, Order, Part};
use super::{Arrangement, PlanError, SourceFile, agreement};
use crate::layout::{Piece, Region, TensorLayout};
use crate::models::{FusionLayout, ModelSpec, before, fused, is_copy, is_lora};
use crate::tensor::{Dtype, Shape, TensorName};

/// How to read a source checkpoint.
pub struct CatalogOptions<'a> {
    /// The model, when it was named.
    pub spec: Option<&'a ModelSpec>,
    /// How the parameters lie over the ranks.
    pub arrangement: Arrangement<'a>,
    /// In which order the rows of fused parameters stand.
    pub fusion: FusionLayout,
    /// Whether the source's or the target's fused parameters are grouped, so that the heads matter.
    pub heads_matter: bool,
    /// Names to leave out.
    pub ignore: &'a dyn Fn(&str) -> bool,
}

impl fmt::Debug for CatalogOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CatalogOptions").field("spec", &self.spec).field("fusion", &self.fusion).finish_non_exhaustive()
    }
}

/// A parameter of the model, unfused, whatever the files hold.
#[derive(Clone, Debug)]
pub struct LogicalTensor {
    /// Its unfused name.
    pub name: TensorName,
    /// Its elements.
    pub dtype: Dtype,
    /// Its full shape.
    pub shape: Shape,
    /// The axes as which axis 0 is read. The product is the number of rows. Empty for a scalar.
    pub(super) radices: Vec<u64>,
    pub(super) holders: Holders,
    /// Whether no layout knows it, and all ranks hold it alike.
    pub loose: bool,
    /// How its elements are made of what its holders hold, where they are not just that.
    pub(super) quantise: Option<super::quantise::Quantise>,
    /// The adapter that is added to what its holders hold, where one is merged.
    pub(super) update: Option<Pair>,
}

/// The parameters of a checkpoint.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    tensors: Vec<LogicalTensor>,
    by_name: HashMap<TensorName, usize>,
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

/// One name, and who holds it: file and entry, in the order of ranks.
struct Named {
    name: TensorName,
    holders: Vec<(usize, usize)>,
}

impl Catalog {
    /// Reads the headers of a checkpoint as the tensors of a model.
    ///
    /// # Errors
    /// See [`PlanError`]: a missing rank or parameter, shapes that disagree with the layout or the model, ranks that
    /// disagree with each other, names that nothing places.
    pub fn new(files: &[SourceFile<'_>], options: &CatalogOptions<'_>) -> Result<Self, PlanError> {
        let mut catalog = Self::default();
        let named = catalog.names(files, options)?;
        let reader = Reader { files, options, named: &named, index: index(&named) };
        reader.check_copies()?;
        let (mut differ, mut unplaced) = (Vec::new(), Vec::new());
        for one in &named {
            let stages = reader.stages(one)?;
            if stages.is_empty() {
                // One holder gives no evidence.
                if one.holders.len() > 1 && agreement::agree(files, &one.holders) {
                    reader.loose(one, &mut catalog)?;
                } else {
                    differ.push(one.name.to_string());
                }
                continue;
            }
            catalog.attention_is_cut(&one.name, &stages);
            match fused(&one.name).filter(|f| *f.name == *one.name) {
                Some(parts) => {
                    if is_lora(&one.name) {
                        reader.check_factor(one, &parts, &stages)?;
                        catalog.fused_factors.insert(one.name.to_string());
                    } else {
                        catalog.fused = true;
                    }
                    reader.fused(one, &parts, &stages, &mut catalog)?;
                }
                None => reader.plain(one, &stages, &mut catalog)?,
            }
        }
        if !differ.is_empty() {
            unplaced.append(&mut differ);
            return Err(match options.arrangement {
                Arrangement::Strategy(_) => PlanError::Differ(unplaced),
                Arrangement::Rules(_) => PlanError::Unplaced { side: "source", names: unplaced },
            });
        }
        catalog.check_whole(options)?;
        Ok(catalog)
    }

    /// The tensors, in the order in which the lowest rank holds them.
    pub fn tensors(&self) -> &[LogicalTensor] {
        &self.tensors
    }

    /// How many replicas of parameters within a stage are larger than this many bytes.
    pub fn replicas_above(&self, bytes: u64) -> usize {
        let count = |t: &LogicalTensor| t.holders.replicas().len() - t.holders.copies().len();
        let larger = |t: &LogicalTensor| if t.shape.bytes(t.dtype) > bytes { count(t) } else { 0 };
        self.tensors.iter().map(larger).sum()
    }

    /// The index of a tensor among [`Self::tensors`].
    pub fn get(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    fn names(&mut self, files: &[SourceFile<'_>], options: &CatalogOptions<'_>) -> Result<Vec<Named>, PlanError> {
        let mut named: Vec<Named> = Vec::new();
        let mut index: HashMap<TensorName, usize> = HashMap::new();
        let mut order: Vec<usize> = (0..files.len()).collect();
        order.sort_by_key(|&f| files[f].rank);
        for file in order {
            for (entry, found) in files[file].entries.iter().enumerate() {
                if (options.ignore)(&found.name) {
                    self.ignored.push(found.name.to_string());
                    continue;
                }
                if is_copy(&found.name) {
                    self.input_copies = true;
                    continue;
                }
                let at = *index.entry(found.name.clone()).or_insert_with(|| {
                    named.push(Named { name: found.name.clone(), holders: Vec::new() });
                    named.len() - 1
                });
                // Files come in the order of ranks, so only the last holder can be of the same rank.
                if let Some(&(other, _)) = named[at].holders.last().filter(|(f, _)| files[*f].rank == files[file].rank)
                {
                    return Err(PlanError::HeldTwice {
                        rank: files[file].rank,
                        name: found.name.to_string(),
                        first: files[other].path.clone(),
                        second: files[file].path.clone(),
                    });
                }
                named[at].holders.push((file, entry));
            }
        }
        self.ignored.sort_unstable();
        self.ignored.dedup();
        Ok(named)
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

    /// Adds a tensor whose name is new.
    pub(super) fn push(&mut self, tensor: LogicalTensor) {
        self.quantised.extend(before(&tensor.name));
        self.by_name.insert(tensor.name.clone(), self.tensors.len());
        self.tensors.push(tensor);
    }

    /// Takes note of the parts into which q, k and v are cut.
    fn attention_is_cut(&mut self, name: &str, stages: &[InStage]) {
        if fused(name).is_some_and(|f| f.query_rows_of.is_some() && !f.shared) {
            for in_stage in stages {
                self.attention_ways = gcd(self.attention_ways, in_stage.layout.parts(0));
            }
        }
    }

    /// A catalog without tensors, of which the same is known as of this one; what is read to make others is kept.
    pub(super) fn emptied(&self) -> Self {
        Self {
            fused: self.fused,
            vocabulary_whole: self.vocabulary_whole,
            attention_ways: self.attention_ways,
            head_settled: self.head_settled,
            ignored: self.ignored.clone(),
            vectors: self.vectors.clone(),
            ..Self::default()
        }
    }

    fn add(&mut self, name: &str, dtype: Dtype, shape: Shape, radices: Vec<u64>, held: Held) -> Result<(), PlanError> {
        let name = TensorName::from(name);
        if self.by_name.contains_key(&name) {
            // A checkpoint that holds both `wq` and `w_qkv` of one layer.
            return Err(PlanError::Ambiguous(format!("`{name}` is there both by itself and in a fused parameter")));
        }
        let holders = Holders::new(held.used, held.copies);
        self.push(LogicalTensor { name, dtype, shape, radices, holders, loose: false, quantise: None, update: None });
        Ok(())
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn index(named: &[Named]) -> HashMap<TensorName, usize> {
    named.iter().enumerate().map(|(i, n)| (n.name.clone(), i)).collect()
}

/// Who holds a tensor.
#[derive(Clone, Default)]
struct Held {
    /// Those of the lowest stage, which are read.
    used: Vec<Holder>,
    /// Those of other stages, as of a tied embedding.
    copies: Vec<Holder>,
}

impl Held {
    fn push(&mut self, lowest_stage: bool, holder: Holder) {
        if lowest_stage { self.used.push(holder) } else { self.copies.push(holder) }
    }
}

/// The layout of one parameter in one stage that holds it.
struct InStage {
    stage: u64,
    layout: TensorLayout,
    full_shape: Option<Shape>,
}

struct Reader<'a> {
    files: &'a [SourceFile<'a>],
    options: &'a CatalogOptions<'a>,
    named: &'a [Named],
    index: HashMap<TensorName, usize>,
}

impl Reader<'_> {
    /// A parameter that the file holds by itself.
    fn plain(&self, one: &Named, stages: &[InStage], catalog: &mut Catalog) -> Result<(), PlanError> {
        let (shape, dtype) = self.full(one, stages)?;
        if self.options.spec.is_some() {
            self.check_spec(&one.name, &shape, one.holders[0])?;
        }
        let related = fused(&one.name);
        let rows = shape.dims().first().copied();
        let radices = match rows {
            Some(rows) => radices(related.as_ref(), &one.name, rows, self.refine()),
            None => Vec::new(),
        };
        if radices.iter().product::<u64>() != rows.unwrap_or(1) {
            return Err(self.wrong_rows(&one.name, rows.unwrap_or(1)));
        }
        let stored = |layout: &TensorLayout, device| pieces::plain(shape.dims(), &radices, layout, device);
        let mut held = Held::default();
        self.hold(one, stages, stored, |_, lowest, holder| held.push(lowest, holder))?;
        if crate::models::role(&one.name).is_some_and(|r| r.split == crate::models::Split::Vocabulary)
            && self.options.arrangement.devices() > 1
        {
            let whole = stages.iter().all(|s| s.layout.parts(0) == 1);
            *catalog.vocabulary_whole.get_or_insert(whole) &= whole;
        }
        catalog.add(&one.name, dtype, shape, radices, held)
    }

    /// A parameter that no layout knows and that all ranks hold alike: each holds it whole.
    fn loose(&self, one: &Named, catalog: &mut Catalog) -> Result<(), PlanError> {
        let whole = |&(file, entry): &(usize, usize)| {
            let region = Region::whole(self.files[file].entries[entry].shape.dims());
            Holder { file, entry, piece: Piece::dense(region) }
        };
        let (file, entry) = one.holders[0];
        let first = &self.files[file].entries[entry];
        let radices = first.shape.dims().iter().take(1).copied().collect();
        let held = Held { used: one.holders.iter().map(whole).collect(), copies: Vec::new() };
        catalog.add(&one.name, first.dtype, first.shape.clone(), radices, held)?;
        if let Some(added) = catalog.tensors.last_mut() {
            added.loose = true;
        }
        Ok(())
    }

    /// A fused parameter: each part becomes a tensor.
    fn fused(
        &self,
        one: &Named,
        info: &crate::models::Fused,
        stages: &[InStage],
        catalog: &mut Catalog,
    ) -> Result<(), PlanError> {
        if info.shared {
            return self.shared(one, info, stages, catalog);
        }
        let (shape, dtype) = self.full(one, stages)?;
        let Some((&total, tail)) = shape.dims().split_first() else {
            return Err(self.wrong_rows(&one.name, 1));
        };
        let query_rows = match (&info.query_rows_of, self.options.spec) {
            (None, _) => None,
            (_, Some(spec)) => Some(spec.query_rows()),
            (Some(output), None) => self.columns_of(output)?,
        };
        let parts = super::fused_rows::parts(info, total, query_rows, self.refine())
            .map_err(|wanted| PlanError::FusedRows { name: one.name.to_string(), rows: total, wanted })?;
        if parts.iter().any(|p| p.radices.iter().product::<u64>() != p.rows) {
            return Err(self.wrong_rows(&one.name, total));
        }
        let shape_of = |part: &Part| Shape::new([&[part.rows], tail].concat());
        for (name, part) in info.parts.iter().zip(&parts) {
            let shape = shape_of(part).map_err(|e| PlanError::Layout { name: name.clone(), source: e.into() })?;
            if self.options.spec.is_some() {
                self.check_spec(name, &shape, one.holders[0])?;
            }
        }
        let by_heads = self.refine().map(|spec| grouping(info, spec));
        let order = match (self.options.fusion, &by_heads) {
            (FusionLayout::RankConcat, _) => Order::RankConcat,
            (FusionLayout::Grouped, Some(grouping)) => Order::Grouped(grouping),
            (FusionLayout::Grouped, None) => return Err(heads_unknown()),
        };
        let stored = |layout: &TensorLayout, device| pieces::fused(order, &parts, tail, layout, device);
        let mut held: Vec<Held> = parts.iter().map(|_| Held::default()).collect();
        self.hold(one, stages, stored, |part, lowest, holder| held[part].push(lowest, holder))?;
        for ((name, part), held) in info.parts.iter().zip(&parts).zip(held) {
            let shape = shape_of(part).map_err(|e| PlanError::Layout { name: name.clone(), source: e.into() })?;
            catalog.add(name, dtype, shape, part.radices.clone(), held)?;
        }
        Ok(())
    }

    /// What belongs to the input of a fused layer is the same for each part.
    fn shared(
        &self,
        one: &Named,
        info: &crate::models::Fused,
        stages: &[InStage],
        catalog: &mut Catalog,
    ) -> Result<(), PlanError> {
        let (shape, dtype) = self.full(one, stages)?;
        let radices: Vec<u64> = shape.dims().iter().take(1).copied().collect();
        let stored = |layout: &TensorLayout, device| pieces::plain(shape.dims(), &radices, layout, device);
        let mut held = Held::default();
        self.hold(one, stages, stored, |_, lowest, holder| held.push(lowest, holder))?;
        for name in &info.parts {
            if self.options.spec.is_some() {
                self.check_spec(name, &shape, one.holders[0])?;
            }
            catalog.add(name, dtype, shape.clone(), radices.clone(), held.clone())?;
        }
        Ok(())
    }
}

pub(super) fn heads_unknown() -> PlanError {
    PlanError::Ambiguous(
        "grouped fused parameters follow the heads, which no file states: give --heads and --kv-heads, or name the model \
         with -y"
            .to_owned(),
    )
}
