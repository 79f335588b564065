//! `verify A B`: are two checkpoints the same model?

mod other_order;

use std::path::{Path, PathBuf};

use serde::Serialize;

use self::other_order::other_order;
use super::fusion_order::{self, Order, Typed};
use super::reading::{self, Opened, Read, Reading};
use crate::Error;
use crate::cli::args::VerifyArgs;
use crate::cli::commands::{note, print, print_json};
use crate::cli::run_args::ReaderArg;
use crate::cli::{ExitStatus, config};
use crate::engine::{self, CancelToken};
use crate::input::{RankGaps, StrategySource, load_model};
use crate::model::FusionLayout;
use crate::models::ModelSpec;
use crate::plan::{self, Catalog, Compared, Heads, SourceFile};
use crate::report::{Choice, Progress, bytes, plain};

/// How many differences are listed.
const SHOWN: usize = 20;

/// What a comparison found.
#[derive(Debug, Serialize)]
struct Verdict {
    same: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    choices: Vec<Choice>,
    tensors: usize,
    bytes: u64,
    differences: Vec<String>,
}

/// One of the two checkpoints.
struct Side<'a> {
    opened: &'a Opened,
    files: Vec<SourceFile<'a>>,
    strategy: Option<StrategySource>,
}

impl<'a> Side<'a> {
    fn new(opened: &'a Opened, strategy: Option<&Path>) -> Result<Self, Error> {
        Ok(Self { opened, files: opened.input().source_files(), strategy: reading::strategy(strategy)? })
    }
}

/// Both checkpoints, and what is known of their model.
struct Sides<'a> {
    spec: Option<&'a ModelSpec>,
    heads: Heads,
    ignore: &'a dyn Fn(&str) -> bool,
    a: Side<'a>,
    b: Side<'a>,
}

impl Sides<'_> {
    /// Reads the headers of both as models, with their fused rows in these orders.
    fn read(&self, a: FusionLayout, b: FusionLayout) -> Result<(Read, Read), Error> {
        let one = |side: &Side<'_>, fusion, other| {
            let (spec, strategy, ignore) = (self.spec, side.strategy.as_ref(), self.ignore);
            let other_grouped = other == FusionLayout::Grouped;
            side.opened.read(&side.files, &Reading { spec, strategy, fusion, other_grouped, heads: self.heads, ignore })
        };
        let (mut a, mut b) = (one(&self.a, a, b)?, one(&self.b, b, a)?);
        // Meta's rows are read by the halves of their heads.
        a.catalog.refine_like(&b.catalog);
        b.catalog.refine_like(&a.catalog);
        Ok((a, b))
    }
}

/// The order of a side's fused rows. That its files are not those of the manifest beside it is only said: how far they differ
/// is what the comparison shows. An option then decides alone.
fn order((path, opened): (&PathBuf, &Opened), gaps: RankGaps, typed: Typed) -> Result<Order, Error> {
    let files = &opened.input().files;
    let mut made = fusion_order::made(path, files)?;
    if let Some(Err(stale)) = made.as_ref().map(|made| made.check(path, files, gaps)) {
        note(&stale.to_string());
        made = made.filter(|_| typed.order.is_none());
    }
    let ours = matches!(opened, Opened::Ours(_));
    let fused = ours && fusion_order::is_fused(files.iter().flat_map(|file| &file.entries));
    fusion_order::source_order(typed, fused, made.as_ref())
}

/// Compares headers first, then all bytes.
pub(crate) fn run(args: &VerifyArgs) -> Result<ExitStatus, Error> {
    let wishes = config::wishes_of_reading(&args.run)?;
    if args.tolerance.is_some() && (args.run.reader != ReaderArg::Auto || args.run.depth.is_some()) {
        let why = "--tolerance compares from the memory mapping: leave --reader and --depth out";
        return Err(Error::Usage(why.to_owned()));
    }
    // Nothing is written, so a signal may end the program as it likes.
    let cancel = CancelToken::default();
    let spec = args.yaml_path.as_deref().map(load_model).transpose()?;
    let ignore = config::Patterns::new(&args.ignore)?;
    let gaps = |strategy: &Option<_>| if strategy.is_some() { RankGaps::Allowed } else { RankGaps::Refused };
    let a = Opened::open(&args.a, gaps(&args.src_strategy))?;
    let b = Opened::open(&args.b, gaps(&args.dst_strategy))?;
    a.input().check_ranks()?;
    b.input().check_ranks()?;
    for (path, strategy) in [(&args.a, &args.src_strategy), (&args.b, &args.dst_strategy)] {
        if let Some(text) = reading::other_strategies(path, strategy.as_deref())? {
            note(&text);
        }
    }
    let sides = Sides {
        spec: spec.as_ref(),
        heads: Heads { heads: args.heads, kv_heads: args.kv_heads },
        ignore: &|name| ignore.matches(name),
        a: Side::new(&a, args.src_strategy.as_deref())?,
        b: Side::new(&b, args.dst_strategy.as_deref())?,
    };
    let typed = |option, order| Typed::new(option, order, args.force_fusion);
    let a_order = order((&args.a, &a), gaps(&args.src_strategy), typed("--src-fusion", args.src_fusion))?;
    let b_order = order((&args.b, &b), gaps(&args.dst_strategy), typed("--dst-fusion", args.dst_fusion))?;
    let choice = |(side, order): (&str, &Order)| order.fused.then(|| order.choice(side));
    let choices: Vec<Choice> = [("first", &a_order), ("second", &b_order)].into_iter().filter_map(choice).collect();
    for choice in &choices {
        note(&choice.text());
    }
    let (a_read, b_read) = sides.read(a_order.layout, b_order.layout)?;
    if let Some(inferred) = &a_read.inferred {
        note(inferred);
    }
    let (a_catalog, b_catalog) = (a_read.catalog, b_read.catalog);
    let (a_files, b_files) = (&sides.a.files, &sides.b.files);
    if let Some(steps) = args.tolerance {
        let pairs = plan::tolerance(a_files, &a_catalog, b_files, &b_catalog)?;
        let progress = Progress::start(config::progress(&args.output), "comparing");
        let (a_maps, b_maps) = (a.input().mappings(), b.input().mappings());
        let engine_config = config::settle(&wishes, &[a_maps.clone(), b_maps.clone()].concat(), None).config;
        let found = engine::distances(&pairs, &a_maps, &b_maps, &engine_config, &progress, &cancel)?;
        progress.finish();
        reading::check_unchanged(&[a_maps, b_maps].concat())?;
        return within(args, &a_catalog, choices, &found, steps);
    }
    let mut verdict = Verdict {
        same: false,
        choices,
        tensors: a_catalog.tensors().len(),
        bytes: a_catalog.tensors().iter().map(|t| t.shape.bytes(t.dtype)).sum(),
        differences: headers(&a_catalog, &b_catalog),
    };
    if verdict.differences.is_empty() {
        let progress = Progress::start(config::progress(&args.output), "comparing");
        // All that B holds against A; then what A holds more than once, and was not looked at, against B.
        let (a_maps, b_maps) = (a.input().mappings(), b.input().mappings());
        let engine_config = config::settle(&wishes, &[a_maps.clone(), b_maps.clone()].concat(), None).config;
        let both_ways = [
            (Compared::All, (a_files, &a_catalog, &a_maps), (b_files, &b_catalog, &b_maps)),
            (Compared::Replicas { at_most: u64::MAX }, (b_files, &b_catalog, &b_maps), (a_files, &a_catalog, &a_maps)),
        ];
        for (which, (files, catalog, maps), (other_files, other_catalog, other_maps)) in both_ways {
            let (plan, places) = plan::compare(which, files, catalog, other_files, other_catalog);
            plan::prove_covered(&plan)?;
            let found = engine::compare(&plan, maps, other_maps, &places, &engine_config, &progress, &cancel)?;
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
        progress.finish();
        if !verdict.differences.is_empty() {
            let pair = ((&a_order, &a_catalog), (&b_order, &b_catalog));
            let hint = other_order(&sides, pair, |plan, places| {
                Ok(engine::compare(plan, &a_maps, &b_maps, places, &engine_config, &engine::Noop, &cancel)?.is_empty())
            })?;
            if let Some(hint) = hint {
                note(&hint);
            }
        }
    }
    reading::check_unchanged(&[a.input().mappings(), b.input().mappings()].concat())?;
    verdict.same = verdict.differences.is_empty();
    report(args, &verdict)?;
    Ok(if verdict.same { ExitStatus::Done } else { ExitStatus::Input })
}

/// Whether a quantised checkpoint is near enough to the unquantised one.
fn within(
    args: &VerifyArgs,
    catalog: &Catalog,
    choices: Vec<Choice>,
    found: &[engine::Distance],
    steps: f64,
) -> Result<ExitStatus, Error> {
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
    report(args, &verdict)?;
    Ok(if verdict.same { ExitStatus::Done } else { ExitStatus::Input })
}

/// Names, dtypes and shapes that are not the same on both sides.
fn headers(a: &Catalog, b: &Catalog) -> Vec<String> {
    let mut differences = Vec::new();
    for tensor in a.tensors() {
        match b.get(&tensor.name).map(|index| &b.tensors()[index]) {
            None => differences.push(format!("`{}` is only in the first", tensor.name)),
            Some(other) if (other.dtype, &other.shape) != (tensor.dtype, &tensor.shape) => differences.push(format!(
                "`{}` is {}{} in the first but {}{} in the second",
                tensor.name, tensor.dtype, tensor.shape, other.dtype, other.shape
            )),
            Some(_) => {}
        }
    }
    let only_second = b.tensors().iter().filter(|t| a.get(&t.name).is_none());
    differences.extend(only_second.map(|t| format!("`{}` is only in the second", t.name)));
    differences
}

fn report(args: &VerifyArgs, verdict: &Verdict) -> Result<(), Error> {
    if args.output.json {
        return print_json(verdict);
    }
    if verdict.same {
        return print(&format!("the same model: {} parameters, {}\n", verdict.tensors, bytes(verdict.bytes)));
    }
    let mut lines = vec!["different:".to_owned()];
    lines.extend(verdict.differences.iter().take(SHOWN).map(|difference| format!("  {}", plain(difference))));
    if verdict.differences.len() > SHOWN {
        lines.push(format!("  and {} more", verdict.differences.len() - SHOWN));
    }
    print(&format!("{}\n", lines.join("\n")))
}
