//! `verify A B`: are two checkpoints the same model?

mod other_order;
mod sides;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use self::other_order::other_order;
use self::sides::{Side, Sides};
use super::choices::{Fusion, Precision};
use super::fusion_order::{self, Order, Typed};
use super::observer::{Observer, Silent, Step};
use super::patterns::Patterns;
use super::reading::{self, Opened};
use super::{settings, spec};
use crate::Error;
use crate::engine::{self, CancelToken};
use crate::input::{RankGaps, load_model};
use crate::model::Model;
use crate::plan::{self, Catalog, Compared, Heads};
use crate::report::{Choice, bytes, plain};
use crate::tensor::Dtype;

/// How many differences are listed.
const SHOWN: usize = 20;

const NO_COMPARED_TYPE: &str = "--as takes a floating-point type, and not with --tolerance: fp16, bf16 or fp32";

const BOTH_BY_BLOCKS: &str = "both are GGUF files whose weights are quantised by blocks, which are not compared with each \
                              other: convert one of them first";

/// A requested comparison: whether two checkpoints are the same model, whatever their layout.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Verify {
    /// One checkpoint.
    pub a: Compare,
    /// The other.
    pub b: Compare,
    /// The model; whether the requested orders overrule a manifest.
    pub model: spec::Model,
    /// Patterns of names that are left out.
    pub ignore: Vec<String>,
    /// The second is quantised, and its weights may be so many steps off.
    pub tolerance: Option<f64>,
    /// fp16, bf16 or fp32: what the second has as this and the first as another floating-point type is converted before it is
    /// compared, to nearest even.
    pub precision: Option<Precision>,
    /// How both are read.
    pub reading: spec::Reading,
}

/// One of two checkpoints that are compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compare {
    /// A directory or a file.
    pub path: PathBuf,
    /// Its strategy.
    pub strategy: Option<PathBuf>,
    /// The order of its fused rows.
    pub fusion: Option<Fusion>,
}

impl Compare {
    fn gaps(&self) -> RankGaps {
        if self.strategy.is_some() { RankGaps::Allowed } else { RankGaps::Refused }
    }
}

/// What a comparison found.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// Whether they are the same model.
    pub same: bool,
    /// Decisions about how they were read, and their reasons.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<Choice>,
    /// Parameters.
    pub tensors: usize,
    /// Bytes of them.
    pub bytes: u64,
    /// Where they differ, in sentences.
    pub differences: Vec<String>,
}

/// Whether two checkpoints are the same model, whatever their layout, fusion and format.
///
/// # Errors
/// Where they cannot be compared.
pub fn verify(a: impl AsRef<Path>, b: impl AsRef<Path>) -> Result<Verdict, Error> {
    Verify::new(a, b).run(&Silent, &CancelToken::default())
}

/// The order of a side's fused rows. That its files are not those of the manifest beside it is only said: how far they differ
/// is what the comparison shows. An option then decides alone.
fn order(
    side: &Compare,
    opened: &Opened,
    (typed, copied): (Typed, bool),
    observer: &dyn Observer,
) -> Result<Order, Error> {
    let files = &opened.input().files;
    let mut made = fusion_order::made(&side.path, files, observer)?;
    if let Some(Err(stale)) = made.as_ref().map(|made| made.check(&side.path, files, side.gaps())) {
        observer.note(&stale.to_string());
        made = made.filter(|_| typed.order.is_none());
    }
    let ours = matches!(opened, Opened::Ours(_)) && !copied;
    let fused = ours && fusion_order::is_fused(files.iter().flat_map(|file| &file.entries));
    fusion_order::source_order(typed, fused, made.as_ref())
}

impl Verify {
    /// Of two checkpoints.
    pub fn new(a: impl AsRef<Path>, b: impl AsRef<Path>) -> Self {
        let side = |path: &Path| Compare { path: path.to_owned(), ..Compare::default() };
        Self { a: side(a.as_ref()), b: side(b.as_ref()), ..Self::default() }
    }

    /// The model that is named, or that a configuration beside one of the two describes: what it says is true of both.
    fn described(&self, a: &Opened, b: &Opened) -> Result<Option<Model>, Error> {
        let named = self.model.yaml.as_deref().map(load_model).transpose()?;
        Ok(named.or_else(|| [a, b].into_iter().find_map(|side| side.described().cloned())))
    }

    /// Compares headers first, then all bytes.
    ///
    /// # Errors
    /// Where they cannot be compared.
    pub fn run(&self, observer: &dyn Observer, cancel: &CancelToken) -> Result<Verdict, Error> {
        self.reading.check()?;
        let ignore = Patterns::of("--ignore", &self.ignore)?;
        let a = Opened::open(&self.a.path, self.a.gaps(), self.reading.memory)?;
        let b = Opened::open(&self.b.path, self.b.gaps(), self.reading.memory)?;
        let sources = [a.input().mappings(), b.input().mappings()].concat();
        let verdict = reading::as_read(&sources, self.compare((&a, &b), &ignore, (observer, cancel)))?;
        reading::check_unchanged(&sources, observer)?;
        Ok(verdict)
    }

    /// The type that the first is converted to.
    fn as_dtype(&self) -> Result<Option<Dtype>, Error> {
        match self.precision.map(Precision::of_weights) {
            None => Ok(None),
            Some(plan::Precision::To(dtype)) if self.tolerance.is_none() => Ok(Some(dtype)),
            Some(_) => Err(Error::Usage(NO_COMPARED_TYPE.to_owned())),
        }
    }

    /// Compares two checkpoints that are open.
    fn compare(
        &self,
        (a, b): (&Opened, &Opened),
        ignore: &Patterns,
        (observer, cancel): (&dyn Observer, &CancelToken),
    ) -> Result<Verdict, Error> {
        let requested = self.reading.requested();
        let precision = self.as_dtype()?;
        a.input().check_ranks()?;
        b.input().check_ranks()?;
        for side in [&self.a, &self.b] {
            if let Some(text) = reading::other_strategies(&side.path, side.strategy.as_deref())? {
                observer.note(&text);
            }
        }
        let spec = self.described(a, b)?;
        let sides = Sides {
            spec: spec.as_ref(),
            heads: Heads { heads: self.model.heads, kv_heads: self.model.kv_heads },
            ignore: &|name| ignore.matches(name),
            a: Side::new(a, self.a.strategy.as_deref(), self.reading.memory)?,
            b: Side::new(b, self.b.strategy.as_deref(), self.reading.memory)?,
        };
        let copied = sides.copied();
        let typed = |option, order| (Typed::new(option, order, self.model.force_fusion), copied);
        let a_order = order(&self.a, a, typed("--src-fusion", self.a.fusion), observer)?;
        let b_order = order(&self.b, b, typed("--dst-fusion", self.b.fusion), observer)?;
        let choice = |(side, order): (&str, &Order)| order.fused.then(|| order.choice(side));
        let choices: Vec<Choice> = [("first", &a_order), ("second", &b_order)].into_iter().filter_map(choice).collect();
        for choice in &choices {
            observer.note(&choice.text());
        }
        let (a_read, b_read) = sides.read(a_order.layout, b_order.layout)?;
        if let Some(inferred) = &a_read.inferred {
            observer.note(inferred);
        }
        let (a_catalog, b_catalog) = (a_read.catalog, b_read.catalog);
        let (a_files, b_files) = (&sides.a.files, &sides.b.files);
        if let Some(steps) = self.tolerance {
            let pairs = plan::tolerance(a_files, &a_catalog, b_files, &b_catalog)?;
            let step = Step::begin(observer, "comparing");
            let (a_maps, b_maps) = (a.input().mappings(), b.input().mappings());
            let engine_config = settings::settle(&requested, &[a_maps.clone(), b_maps.clone()].concat(), None).config;
            let found = engine::distances(&pairs, &a_maps, &b_maps, &engine_config, &step, cancel)?;
            step.finish();
            return Ok(within(&a_catalog, choices, &found, steps));
        }
        let mut verdict = Verdict {
            same: false,
            choices,
            tensors: a_catalog.tensors().len(),
            bytes: a_catalog.tensors().iter().map(|t| t.shape.bytes(t.dtype)).sum(),
            differences: headers(&a_catalog, &b_catalog, precision),
        };
        if verdict.differences.is_empty() {
            let step = Step::begin(observer, "comparing");
            // All that B holds against A; then what A holds more than once, and was not compared, against B.
            let (a_maps, b_maps) = (a.input().mappings(), b.input().mappings());
            let engine_config = settings::settle(&requested, &[a_maps.clone(), b_maps.clone()].concat(), None).config;
            let of_a = (a_files, &a_catalog, &a_maps);
            let of_b = (b_files, &b_catalog, &b_maps);
            // What is quantised by blocks is read, but there are no bytes to be compared with.
            let (first, second) = match (a.input().holds_blocks(), b.input().holds_blocks()) {
                (true, true) => return Err(Error::Usage(BOTH_BY_BLOCKS.to_owned())),
                (false, true) => (of_b, of_a),
                (_, false) => (of_a, of_b),
            };
            // What was converted cannot be converted back: then A is held against itself.
            let again = if precision.is_some() { (first, first) } else { (second, first) };
            let both_ways =
                [(Compared::All, first, second), (Compared::Replicas { at_most: u64::MAX }, again.0, again.1)];
            for (which, (files, catalog, maps), (other_files, other_catalog, other_maps)) in both_ways {
                let (plan, places) = plan::compare(which, files, catalog, other_files, other_catalog);
                plan::prove_covered(&plan)?;
                let found = engine::compare(&plan, maps, other_maps, &places, &engine_config, &step, cancel)?;
                let describe = |d: &engine::Difference| {
                    let (file, tensor) = (&plan.outputs[d.file], &plan.outputs[d.file].tensors[d.tensor]);
                    let element = d.at / tensor.dtype.size();
                    format!(
                        "`{}` differs first at element {element} of {}{} in {}",
                        tensor.name, tensor.dtype, tensor.shape, file.path
                    )
                };
                verdict.differences.extend(found.iter().map(describe));
                if !verdict.differences.is_empty() {
                    break;
                }
            }
            step.finish();
            if !verdict.differences.is_empty() {
                let pair = ((&a_order, &a_catalog), (&b_order, &b_catalog));
                let hint = other_order(&sides, pair, |plan, places| {
                    Ok(engine::compare(plan, &a_maps, &b_maps, places, &engine_config, &engine::Noop, cancel)?
                        .is_empty())
                })?;
                if let Some(hint) = hint {
                    observer.note(&hint);
                }
            }
        }
        verdict.same = verdict.differences.is_empty();
        Ok(verdict)
    }
}

/// Whether a quantised checkpoint is near enough to the unquantised one.
fn within(catalog: &Catalog, choices: Vec<Choice>, found: &[engine::Distance], steps: f64) -> Verdict {
    // NaN is no tolerance.
    let far = found.iter().filter(|d| d.steps.partial_cmp(&steps).is_none_or(std::cmp::Ordering::is_gt));
    let describe = |d: &engine::Distance| {
        if d.steps.is_finite() {
            format!("`{}` is {:.3} steps off at element {}", d.name, d.steps, d.element)
        } else {
            format!("`{}` differs first at element {}", d.name, d.element)
        }
    };
    let mut verdict = Verdict {
        same: false,
        choices,
        tensors: found.len(),
        bytes: catalog.tensors().iter().map(|t| t.shape.bytes(t.dtype)).sum(),
        differences: far.map(describe).collect(),
    };
    verdict.same = verdict.differences.is_empty();
    verdict
}

/// Names, dtypes and shapes that are not the same on both sides. `precision`: what the first is converted to.
fn headers(a: &Catalog, b: &Catalog, precision: Option<Dtype>) -> Vec<String> {
    let mut differences = Vec::new();
    // Parameters that differ in nothing but these types, and the place of the first among the differences.
    let mut types: BTreeMap<(Dtype, Dtype), (usize, usize)> = BTreeMap::new();
    for tensor in a.tensors() {
        match b.get(&tensor.name).map(|index| &b.tensors()[index]) {
            None => differences.push(format!("`{}` is only in the first", tensor.name)),
            Some(other) if (other.dtype, &other.shape) == (tensor.dtype, &tensor.shape) => {}
            Some(other) => {
                let floats = other.shape == tensor.shape && other.dtype.is_float() && tensor.dtype.is_float();
                if floats && precision == Some(other.dtype) {
                    continue;
                }
                if floats {
                    let (_, count) = types.entry((tensor.dtype, other.dtype)).or_insert((differences.len(), 0));
                    *count += 1;
                    if *count > 1 {
                        continue;
                    }
                }
                differences.push(format!(
                    "`{}` is {}{} in the first but {}{} in the second",
                    tensor.name, tensor.dtype, tensor.shape, other.dtype, other.shape
                ));
            }
        }
    }
    for ((first, second), (at, count)) in types.into_iter().filter(|(_, (_, count))| *count > 1) {
        differences[at] = format!(
            "{count} parameters are {first} in the first but {second} in the second; --as {second} compares them after the \
             conversion"
        );
    }
    let only_second = b.tensors().iter().filter(|t| a.get(&t.name).is_none());
    differences.extend(only_second.map(|t| format!("`{}` is only in the second", t.name)));
    differences
}

impl Verdict {
    /// As text.
    pub fn text(&self) -> String {
        if self.same {
            return format!("the same model: {} parameters, {}\n", self.tensors, bytes(self.bytes));
        }
        let mut lines = vec!["different:".to_owned()];
        lines.extend(self.differences.iter().take(SHOWN).map(|difference| format!("  {}", plain(difference))));
        if self.differences.len() > SHOWN {
            lines.push(format!("  and {} more", self.differences.len() - SHOWN));
        }
        format!("{}\n", lines.join("\n"))
    }
}
