//! All entries of all ranks as logical tensors: unfused, whole, each with its holders.

mod add;
mod complete;
mod copied;
mod foreign;
mod full;
mod hold;
mod quantised;
mod refine;
mod sizes;
mod stored;
mod tied;
mod vocabulary;

pub use foreign::{ForeignNotes, ForeignOptions};
pub use quantised::QuantisedAs;

use std::collections::{HashMap, HashSet};
use std::fmt;

use self::add::Adding;
pub(super) use self::sizes::Sized;
pub(super) use self::stored::{Laid, Lay};
use super::holders::{Holder, Holders};
use super::low_rank::Pair;
use super::source::hold_blocks;
use super::tensor_id::{Known, TensorId};
use super::{Arrangement, PlanError, SourceFile, agreement, rank_count};
use crate::layout::{LayoutError, TensorLayout};
use crate::model::naming::{is_copy, is_lora};
use crate::model::{Dialect, Family, FusionLayout, Model};
use crate::tensor::{Dtype, Shape, TensorName};

/// How to read a source checkpoint.
pub struct CatalogOptions<'a> {
    /// The model, when it was named.
    pub spec: Option<&'a Model>,
    /// How the parameters lie over the ranks.
    pub arrangement: Arrangement<'a>,
    /// In which order the rows of fused parameters are.
    pub fusion: FusionLayout,
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
    /// What it is. `None`: nothing that the family knows, or a state of an optimizer.
    pub(super) id: Option<TensorId>,
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

/// One name, what it is, and who holds it: file and entry, in the order of ranks.
struct Named {
    name: TensorName,
    known: Option<Known>,
    holders: Vec<(usize, usize)>,
}

/// The layout of one parameter in one stage that holds it.
struct InStage {
    stage: u64,
    layout: TensorLayout,
    full_shape: Option<Shape>,
    /// The dimension of which the ranks hold more than there is, as several hold the same of some of the parts, and how long it is.
    mixed: Option<(usize, u64)>,
}

impl InStage {
    /// The full shape, from that of one rank's block.
    fn full(&self, local: &Shape) -> Result<Shape, LayoutError> {
        let Some((dim, length)) = self.mixed else { return self.layout.full_shape(local) };
        let mut dims = local.dims().to_vec();
        if let Some(own) = dims.get_mut(dim) {
            *own = length;
        }
        Ok(Shape::new(dims)?)
    }
}

/// What is known of a name before the sizes of the model are.
enum Reading {
    /// No layout knows it and no family, and all ranks hold it alike.
    Loose,
    Laid {
        stages: Vec<InStage>,
        shape: Shape,
        dtype: Dtype,
        /// Whether no layout knows it, and all ranks hold it alike: each has it whole.
        loose: bool,
    },
}

/// Who reads: whose names, how they lie over the files, and what to say of it.
struct Reader<'a> {
    files: &'a [SourceFile<'a>],
    dialect: Option<&'a Dialect>,
    spec: Option<&'a Model>,
    arrangement: Arrangement<'a>,
    /// Whether fused rows follow one another part by part, so that their order depends on the number of ranks.
    rank_concat: bool,
    /// The strides of an entry (file, entry) in elements, where it is a view that is not row-major.
    strides: &'a dyn Fn(usize, usize) -> Option<Vec<u64>>,
    /// Whether they are files of PyTorch programs.
    foreign: bool,
    /// Whether any tensor is quantised by blocks: all floating-point numbers are read as singles.
    by_blocks: bool,
    named: &'a [Named],
    index: HashMap<&'a str, usize>,
}

impl Catalog {
    /// Reads the headers of a checkpoint as the tensors of a model.
    ///
    /// # Errors
    /// See [`PlanError`]: a missing rank or parameter, shapes that disagree with the layout or the model, ranks that
    /// disagree with each other, names that nothing places.
    pub fn new(files: &[SourceFile<'_>], options: &CatalogOptions<'_>) -> Result<Self, PlanError> {
        if let Arrangement::Strategy(set) = options.arrangement {
            // Fewer directories than ranks may do, where replicas stand in; more cannot be right.
            let ranks = u64::from(rank_count(files));
            if ranks > set.ranks() {
                return Err(PlanError::StrategyRanks { side: "source", strategy: set.ranks(), ranks });
            }
        }
        let order = options.fusion.name();
        let names = || files.iter().flat_map(|file| file.entries).map(|entry| entry.name.as_str());
        let dialect = match options.spec {
            Some(model) => Some(Dialect::mindspore(model.family(), order)),
            None => Dialect::recognise_mindspore(names(), order),
        };
        let mut catalog = Self::default();
        let named = catalog.names(files, dialect.as_ref(), options.ignore)?;
        let reader = Reader {
            files,
            dialect: dialect.as_ref(),
            spec: options.spec,
            arrangement: options.arrangement,
            rank_concat: options.fusion == FusionLayout::RankConcat,
            strides: &|_, _| None,
            foreign: false,
            by_blocks: hold_blocks(files),
            named: &named,
            index: index(&named),
        };
        reader.check_copies()?;
        reader.read(&mut catalog)?;
        catalog.check_whole(options)?;
        Ok(catalog)
    }

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
        let count = |t: &LogicalTensor| t.holders.replicas().len() - t.holders.copies().len();
        let larger = |t: &LogicalTensor| if t.shape.bytes(t.dtype) > bytes { count(t) } else { 0 };
        self.tensors.iter().map(larger).sum()
    }

    /// The index of a tensor among [`Self::tensors`].
    pub fn get(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// The index of a tensor among [`Self::tensors`].
    pub(super) fn find(&self, id: TensorId) -> Option<usize> {
        self.get(&id.name(self.family()?))
    }

    /// All names that are not to be left out, each once, in the order of ranks.
    fn names(
        &mut self,
        files: &[SourceFile<'_>],
        dialect: Option<&Dialect>,
        ignore: &dyn Fn(&str) -> bool,
    ) -> Result<Vec<Named>, PlanError> {
        let mut named: Vec<Named> = Vec::new();
        let mut index: HashMap<TensorName, usize> = HashMap::new();
        let mut order: Vec<usize> = (0..files.len()).collect();
        order.sort_by_key(|&f| files[f].rank);
        for file in order {
            for (entry, found) in files[file].entries.iter().enumerate() {
                if ignore(&found.name) {
                    self.ignored.push(found.name.to_string());
                    continue;
                }
                if is_copy(&found.name) {
                    self.input_copies = true;
                    continue;
                }
                let at = *index.entry(found.name.clone()).or_insert_with(|| {
                    let known = dialect.and_then(|dialect| Known::of(dialect, &found.name));
                    named.push(Named { name: found.name.clone(), known, holders: Vec::new() });
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

fn index(named: &[Named]) -> HashMap<&str, usize> {
    named.iter().enumerate().map(|(at, one)| (one.name.as_str(), at)).collect()
}

impl Reader<'_> {
    /// Adds all names to a catalog.
    fn read(&self, catalog: &mut Catalog) -> Result<(), PlanError> {
        let mut readings = Vec::with_capacity(self.named.len());
        let mut differ = Vec::new();
        for one in self.named {
            let mut stages = self.stages(one)?;
            let loose = stages.is_empty();
            // One holder gives no evidence.
            let alike = || one.holders.len() > 1 && agreement::agree(self.files, &one.holders);
            if loose && !alike() {
                differ.push(one.name.to_string());
            } else if loose && one.known.is_some() {
                stages = self.whole_everywhere(one);
            }
            readings.push(if stages.is_empty() {
                Reading::Loose
            } else {
                let (shape, dtype) = self.full(one, &stages)?;
                Reading::Laid { stages, shape, dtype, loose }
            });
        }
        catalog.sized = self.sizes(&readings)?;
        let mut adding = Adding::new(catalog);
        for (one, reading) in self.named.iter().zip(readings) {
            match (reading, &one.known) {
                (Reading::Loose, _) => self.loose(one, &mut adding)?,
                (Reading::Laid { stages, shape, dtype, loose }, Some(known)) => {
                    self.stored(one, known, (&stages, shape, dtype, loose), &mut adding)?;
                }
                (Reading::Laid { stages, shape, dtype, .. }, None) => {
                    self.plain(one, (&stages, shape, dtype), &mut adding)?;
                }
            }
        }
        // That a rank is missing is better said than what cannot be known without it.
        if !differ.is_empty() {
            return Err(match self.arrangement {
                Arrangement::Strategy(_) => PlanError::Differ(differ),
                Arrangement::Rules(_) => PlanError::Unplaced { side: "source", names: differ },
            });
        }
        adding.finish()
    }

    fn heads_unknown(&self) -> PlanError {
        if self.foreign { foreign::heads_unknown() } else { heads_unknown() }
    }

    /// Whether it is of an adapter: the rows of its factor have an order as those of a fused weight have.
    fn is_factor(known: &Known) -> bool {
        known.stored.companion.is_some_and(|companion| is_lora(&companion.tail))
    }
}

pub(super) fn heads_unknown() -> PlanError {
    PlanError::Ambiguous(
        "grouped fused parameters follow the heads, which no file states: give --heads and --kv-heads, or name the model \
         with -y"
            .to_owned(),
    )
}
