//! The plans of `-f pt_to_ms` and `-f ms_to_pt`.

use std::collections::BTreeSet;
use std::path::Path;

use super::request::Request;
use super::run::Planned;
use super::train_to_infer::{Trained, note_counters};
use super::transfer::{self, Source};
use super::{head, hf_config};
use crate::Error;
use crate::cli::args::FormatArg;
use crate::cli::commands::note;
use crate::cli::config;
use crate::formats::{FileLayout, FormatKind, Segment};
use crate::input::{Companions, ForeignInput, Input, companions, load_config, load_model, read_companions};
use crate::job::reading::{self, Read, Reading, Tied};
use crate::models::ModelSpec;
use crate::models::foreign::{Family, Naming};
use crate::plan::{
    self, Catalog, Fate, ForeignNotes, OutputFile, PlanError, PlanOptions, Sorted, Sorter, SourceFile, WholeModel,
    WholeReader,
};

/// transformers' own default for `max_shard_size`.
const SHARD_BYTES: u64 = 5_000_000_000;

/// Plans a conversion from a checkpoint of PyTorch's to rank files.
pub(super) fn pt_to_ms(request: &Request, foreign: &ForeignInput) -> Result<Planned, Error> {
    let args = &request.args;
    foreign.notes.iter().for_each(|text| note(text));
    let named = args.layout.yaml_path.as_deref().map(load_model).transpose()?;
    if let (Some(named), Some(found)) = (&named, &foreign.spec) {
        check_same(named, found)?;
    }
    let ignore = config::Patterns::new(&args.files.ignore)?;
    let files = foreign.input.source_files();
    let how = Reading {
        spec: named.as_ref(),
        strategy: None,
        fusion: request.source_order(),
        other_grouped: request.target_order() == crate::model::FusionLayout::Grouped,
        heads: args.heads(),
        ignore: &|name| ignore.matches(name),
    };
    let named_tied = named.as_ref().map(|spec| spec.tied);
    let source_tied = head::source_tied(request, foreign, named_tied == Some(true), how.ignore)?;
    let tied = Tied { source: source_tied, target: named_tied.unwrap_or(source_tied) };
    let (Read { catalog, spec, inferred }, notes) = reading::read_foreign(foreign, &files, &how, tied)?;
    if let Some(inferred) = inferred {
        note(&inferred);
    }
    say(&notes);
    let target = reading::strategy(args.place.dst_strategy.as_deref())?;
    let source = Source {
        files: &files,
        catalog: &catalog,
        spec: spec.as_ref(),
        named: named.as_ref(),
        // What a source of Hugging Face's says of its head is settled when it is read.
        tied: Some(true),
        target: target.as_ref(),
        format: FormatKind::Ckpt,
        // A head that is left out because it is the embedding must be the embedding.
        all_replicas: args.files.check_replicas || notes.head_is_copy,
        asked_out: &|name| ignore.matches(name),
        quantise: &transfer::unquantised,
    };
    let mut planned = transfer::over_ranks(request, &source)?;
    let carried = read_companions(&foreign.companions, &|name| ignore.matches(name))?;
    carry_along(carried, &mut planned);
    Ok(planned)
}

fn say(notes: &ForeignNotes) {
    if !notes.dropped.is_empty() {
        let count = notes.dropped.len();
        note(&format!("{count} buffers that are no parameters were left out: {}", plan::list(&notes.dropped)));
    }
    if notes.head_from_embedding {
        note(
            "the source ties lm_head to the embedding, the target does not: lm_head.weight is written from the embedding",
        );
    }
    if notes.head_is_copy {
        note("lm_head.weight is left out: the model ties it to the embedding, to which it is compared");
    }
}

/// The model that -y names must be the one beside the files.
fn check_same(named: &ModelSpec, found: &ModelSpec) -> Result<(), Error> {
    let sizes = |s: &ModelSpec| {
        [
            ("hidden size", s.hidden),
            ("layers", s.layers.into()),
            ("heads", s.heads),
            ("kv heads", s.kv_heads),
            ("head dimension", s.head_dim),
            ("ffn rows", s.ffn),
            ("vocabulary", s.vocab),
            ("biases of q, k and v", s.qkv_bias.into()),
        ]
    };
    let differ = sizes(named).into_iter().zip(sizes(found)).find(|(a, b)| a != b);
    differ.map_or(Ok(()), |((what, named), (_, found))| Err(PlanError::OtherModelNamed { what, named, found }.into()))
}

/// Plans a conversion from rank files to a Hugging Face directory.
pub(super) fn ms_to_pt(request: &Request, input: &Input) -> Result<Planned, Error> {
    let args = &request.args;
    let named = args.layout.yaml_path.as_deref().map(load_model).transpose()?;
    let beside = match (&args.files.hf_config, request.source.is_dir()) {
        (Some(dir), _) => companions(dir)?,
        (None, true) => companions(&request.source)?,
        (None, false) => Vec::new(),
    };
    let described =
        beside.iter().find(|path| path.ends_with("config.json")).map(|path| load_config(path)).transpose()?;
    if let (Some(named), Some((found, _))) = (&named, &described) {
        check_same(named, found)?;
    }
    let known = named.as_ref().or(described.as_ref().map(|(spec, _)| spec));
    if let Some(known) = known {
        head::agree(request, known.tied, if named.is_some() { "-y" } else { "the config.json" })?;
    }
    let trained = request.trained().then(|| Trained::read(request, input)).transpose()?;
    let strategy = if trained.is_none() { reading::strategy(args.place.src_strategy.as_deref())? } else { None };
    let strategy = strategy.as_ref().or_else(|| trained.as_ref()?.strategy.as_ref());
    let family = described.as_ref().map(|(_, family)| *family);
    let files = input.source_files();
    let plain = Plain::of(&files, config::Patterns::new(&args.files.ignore)?, trained.is_none());
    let Read { mut catalog, inferred, .. } = reading::read(
        &files,
        &Reading {
            spec: known,
            strategy,
            fusion: request.source_order(),
            // Its q, k and v stand by heads.
            other_grouped: family == Some(Family::InternLm2),
            heads: args.heads(),
            ignore: &|name| trained.as_ref().map_or_else(|| plain.leaves_out(name), |trained| trained.leaves_out(name)),
        },
    )?;
    if let Some(inferred) = inferred {
        note(&inferred);
    }
    let mut facts = hf_config::Facts::default();
    if let Some((found, _)) = &described {
        facts.tied = head::settle(request, input, &files, &mut catalog, found.tied)?;
    }
    if let Some(alpha) = trained.as_ref().and_then(|trained| trained.merge_alpha) {
        catalog.merge_adapters(alpha)?;
    }
    if described.is_none() {
        let tied =
            if catalog.has_head() { "" } else { ", and it must say `tie_word_embeddings: true`: there is no lm_head" };
        note(&format!(
            "no config.json beside the source: transformers needs one to load the result (--hf-config DIR carries it along){tied}",
        ));
    }
    let naming = Naming::new(family.unwrap_or_else(|| family_of(&catalog)));
    if let Some(held) = catalog.quantised_as() {
        let why = format!(
            "the source is quantised ({held}), and Hugging Face has no names for that: convert the checkpoint that it was made from"
        );
        return Err(PlanError::Quantised(why).into());
    }
    if known.is_none() {
        head::check_ours(request, &catalog)?;
    }
    // Whether it needs a head is settled.
    catalog.check_complete(Some(true))?;
    let target = plan::foreign_target(&catalog, &reading::dialect(naming))?;
    let plan = plan::build(&files, &catalog, vec![target], &plan_options(request)?)?;
    plan::prove(&plan)?;
    facts.dtype = hf_config::dtype_of_weights(&plan);
    let replicas = transfer::replicas(&files, &catalog, args.files.check_replicas)?;
    let state: usize = plain.sorted.training.values().sum();
    let mut planned = Planned {
        choices: request.fusion_choices(catalog.fused, false),
        strategies: None,
        target: args.place.dst_ckpt_path.join(format!("{}_hf", config::precision_name(request.precision))),
        ignored: catalog.ignored.len() - state,
        training_state: plain.sorted.training,
        replicas,
        plan,
    };
    if let Some(trained) = trained {
        trained.account(&mut planned);
    }
    let mut carried = read_companions(&beside, &|name| plain.ignore.matches(name))?;
    if let Some((name, json)) = carried.files.iter_mut().find(|(name, _)| name == "config.json") {
        let (corrected, changes) = hf_config::corrected(Path::new(name), json, &facts)?;
        *json = corrected;
        planned.choices.extend(changes);
    } else if let Some((tied, why)) = facts.tied {
        note(&format!(
            "no config.json is written: the one that the result gets must say `tie_word_embeddings: {tied}` ({why})"
        ));
    }
    carry_along(carried, &mut planned);
    Ok(planned)
}

/// How the files are written.
fn plan_options(request: &Request) -> Result<PlanOptions, Error> {
    let args = &request.args;
    if args.files.crc {
        let why =
            "--crc goes with ckpt files, which -f ms_to_pt does not write; the manifest has the sums of all tensors";
        return Err(Error::Usage(why.to_owned()));
    }
    Ok(PlanOptions {
        precision: request.weights,
        norms: request.norms,
        format: match args.files.format {
            None | Some(FormatArg::Safetensors) => FormatKind::Safetensors,
            Some(FormatArg::Bin) => FormatKind::PyTorch,
            Some(FormatArg::Ckpt) => return Err(Error::Usage("-f ms_to_pt writes safetensors or bin".to_owned())),
        },
        crc: false,
        // Only .ckpt files have padding.
        padding: true,
        whole: Some(WholeModel {
            shard_bytes: args.files.max_shard_size.map_or(SHARD_BYTES, |size| size.as_u64()),
            reader: WholeReader::HuggingFace,
        }),
    })
}

/// A whole checkpoint, beside whose parameters there may be counters and the optimizer's state: transformers has no place for
/// them.
struct Plain {
    ignore: config::Patterns,
    counters: BTreeSet<String>,
    sorted: Sorted,
}

impl Plain {
    /// `sorts`: whether nothing else sorts the entries.
    fn of(files: &[SourceFile<'_>], ignore: config::Patterns, sorts: bool) -> Self {
        let counters = if sorts { plan::counters(files) } else { BTreeSet::new() };
        let mut plain = Self { ignore, counters, sorted: Sorted::default() };
        if sorts {
            plain.sorted = plan::sort_entries(files, &plain.sorter(&|name| plain.ignore.matches(name)));
            note_counters(&plain.sorted);
        }
        plain
    }

    fn sorter<'a>(&'a self, drop: &'a dyn Fn(&str) -> bool) -> Sorter<'a> {
        Sorter { counters: &self.counters, keep: &|_| false, drop }
    }

    fn leaves_out(&self, name: &str) -> bool {
        let drop = |name: &str| self.ignore.matches(name);
        matches!(self.sorter(&drop).fate(name), Fate::Dropped | Fate::Training(_))
    }
}

/// The family whose names fit, where no configuration tells: llama and qwen2 differ in their biases only.
fn family_of(catalog: &Catalog) -> Family {
    let bias = catalog.tensors().iter().any(|t| t.name.ends_with(".attention.wq.bias"));
    if bias { Family::Qwen2 } else { Family::Llama }
}

/// Adds files to a target.
fn carry_along(carried: Companions, planned: &mut Planned) {
    carried.notes.iter().for_each(|text| note(text));
    for (path, content) in carried.files {
        let segments = if content.is_empty() { Vec::new() } else { vec![Segment::Literal(content)] };
        let layout = FileLayout { segments };
        let tensors = Vec::new();
        planned.plan.outputs.push(OutputFile {
            path,
            rank: None,
            format: None,
            layout,
            tensors,
            crc: false,
            tensor_crcs: Vec::new(),
        });
    }
}
