//! `verify A B`: are two checkpoints the same model?

use serde::Serialize;

use super::reading::{self, Opened, Reading};
use super::{note, print, print_json};
use crate::Error;
use crate::cli::args::VerifyArgs;
use crate::cli::{ExitStatus, config};
use crate::engine::{self, CancelToken, Durability};
use crate::input::{RankGaps, load_model};
use crate::models::FusionLayout;
use crate::plan::{self, Catalog, Compared, Heads};
use crate::report::{Progress, bytes, plain};

/// How many differences are listed.
const SHOWN: usize = 20;

/// What a comparison found.
#[derive(Debug, Serialize)]
struct Verdict {
    same: bool,
    tensors: usize,
    bytes: u64,
    differences: Vec<String>,
}

/// Compares headers first, then all bytes.
pub(in crate::cli) fn run(args: &VerifyArgs) -> Result<ExitStatus, Error> {
    let wishes = config::wishes(&args.run, Durability::Cached)?;
    // Nothing is written, so a signal may end the program as it likes.
    let cancel = CancelToken::default();
    let spec = args.yaml_path.as_deref().map(load_model).transpose()?;
    let ignore = config::Patterns::new(&args.ignore)?;
    let gaps = |strategy: &Option<_>| if strategy.is_some() { RankGaps::Allowed } else { RankGaps::Refused };
    let a = Opened::open(&args.a, gaps(&args.src_strategy))?;
    let b = Opened::open(&args.b, gaps(&args.dst_strategy))?;
    let (a_files, b_files) = (a.input().source_files(), b.input().source_files());
    let (a_fusion, b_fusion) = (config::fusion(args.src_fusion), config::fusion(args.dst_fusion));
    let grouped = |fusion| fusion == FusionLayout::Grouped;
    let a_strategy = reading::strategy(args.src_strategy.as_deref())?;
    let b_strategy = reading::strategy(args.dst_strategy.as_deref())?;
    let read = |side: &Opened, files, strategy, fusion, other| {
        let ignore = &|name: &str| ignore.matches(name);
        let heads = Heads { heads: args.heads, kv_heads: args.kv_heads };
        let other_grouped = grouped(other);
        side.read(files, &Reading { spec: spec.as_ref(), strategy, fusion, other_grouped, heads, ignore })
    };
    let a_read = read(&a, &a_files, a_strategy.as_ref(), a_fusion, b_fusion)?;
    let b_read = read(&b, &b_files, b_strategy.as_ref(), b_fusion, a_fusion)?;
    if let Some(inferred) = &a_read.inferred {
        note(inferred);
    }
    let (mut a_catalog, mut b_catalog) = (a_read.catalog, b_read.catalog);
    // Meta's rows are read by the halves of their heads.
    a_catalog.refine_like(&b_catalog);
    b_catalog.refine_like(&a_catalog);
    if let Some(steps) = args.tolerance {
        let pairs = plan::tolerance(&a_files, &a_catalog, &b_files, &b_catalog)?;
        let progress = Progress::start(config::progress(&args.run), "comparing");
        let (a_maps, b_maps) = (a.input().mappings(), b.input().mappings());
        let engine_config = config::settle(&wishes, &[a_maps.clone(), b_maps.clone()].concat(), None).config;
        let found = engine::distances(&pairs, &a_maps, &b_maps, &engine_config, &progress, &cancel)?;
        drop(progress);
        return Ok(within(args, &a_catalog, &found, steps));
    }
    let mut verdict = Verdict {
        same: false,
        tensors: a_catalog.tensors().len(),
        bytes: a_catalog.tensors().iter().map(|t| t.shape.bytes(t.dtype)).sum(),
        differences: headers(&a_catalog, &b_catalog),
    };
    if verdict.differences.is_empty() {
        let progress = Progress::start(config::progress(&args.run), "comparing");
        // All that B holds against A; then what A holds more than once, and was not looked at, against B.
        let (a_maps, b_maps) = (a.input().mappings(), b.input().mappings());
        let engine_config = config::settle(&wishes, &[a_maps.clone(), b_maps.clone()].concat(), None).config;
        let sides = [
            (Compared::All, (&a_files, &a_catalog, &a_maps), (&b_files, &b_catalog, &b_maps)),
            (
                Compared::Replicas { at_most: u64::MAX },
                (&b_files, &b_catalog, &b_maps),
                (&a_files, &a_catalog, &a_maps),
            ),
        ];
        for (which, (files, catalog, maps), (other_files, other_catalog, other_maps)) in sides {
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
        drop(progress);
    }
    verdict.same = verdict.differences.is_empty();
    report(args, &verdict);
    Ok(if verdict.same { ExitStatus::Done } else { ExitStatus::Input })
}

/// Whether a quantised checkpoint is near enough to the unquantised one.
fn within(args: &VerifyArgs, catalog: &Catalog, found: &[engine::Distance], steps: f64) -> ExitStatus {
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
        tensors: found.len(),
        bytes: catalog.tensors().iter().map(|t| t.shape.bytes(t.dtype)).sum(),
        differences: far.map(describe).collect(),
    };
    verdict.same = verdict.differences.is_empty();
    report(args, &verdict);
    if verdict.same { ExitStatus::Done } else { ExitStatus::Input }
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

fn report(args: &VerifyArgs, verdict: &Verdict) {
    if args.run.json {
        return print_json(verdict);
    }
    if verdict.same {
        print(&format!("the same model: {} parameters, {}\n", verdict.tensors, bytes(verdict.bytes)));
        return;
    }
    let mut lines = vec!["different:".to_owned()];
    lines.extend(verdict.differences.iter().take(SHOWN).map(|difference| format!("  {}", plain(difference))));
    if verdict.differences.len() > SHOWN {
        lines.push(format!("  and {} more", verdict.differences.len() - SHOWN));
    }
    print(&format!("{}\n", lines.join("\n")));
}
