//! The plans of `-f pt_to_ms` and `-f ms_to_pt`.

use std::path::PathBuf;

use super::train_to_infer::Trained;
use super::transfer::{self, Source};
use super::{Planned, Request};
use crate::Error;
use crate::cli::args::FormatArg;
use crate::cli::commands::note;
use crate::cli::commands::reading::{self, Read, Reading};
use crate::cli::config;
use crate::formats::{FileLayout, FormatKind};
use crate::input::{ForeignInput, Input, companions, load_config, load_model};
use crate::models::ModelSpec;
use crate::models::foreign::{Family, Naming};
use crate::plan::{self, Catalog, ForeignNotes, OutputFile, PlanError, PlanOptions, WholeModel, WholeReader};
use crate::sys::read_small;

/// transformers' own default for `max_shard_size`.
const SHARD_BYTES: u64 = 5_000_000_000;
/// More than any configuration or tokenizer file has.
const COMPANION_LIMIT: u64 = 256 << 20;

/// Plans a conversion from a checkpoint of PyTorch's to rank files.
pub(super) fn pt_to_ms(request: &Request, foreign: &ForeignInput) -> Result<Planned, Error> {
    let args = &request.args;
    foreign.notes.iter().for_each(|text| note(text));
    let named = args.yaml_path.as_deref().map(load_model).transpose()?;
    if let (Some(named), Some(found)) = (&named, &foreign.spec) {
        check_same(named, found)?;
    }
    let ignore = config::Patterns::new(&args.ignore)?;
    let files = foreign.input.source_files();
    let how = Reading {
        spec: named.as_ref(),
        strategy: None,
        fusion: config::fusion(args.src_fusion),
        other_grouped: config::fusion(args.dst_fusion) == crate::models::FusionLayout::Grouped,
        heads: args.heads(),
        ignore: &|name| ignore.matches(name),
    };
    let target_tied = named.as_ref().map_or(foreign.tied, |spec| spec.tied);
    let (Read { catalog, spec, inferred }, notes) = reading::read_foreign(foreign, &files, &how, target_tied)?;
    if let Some(inferred) = inferred {
        note(&inferred);
    }
    say(&notes);
    let target = reading::strategy(args.dst_strategy.as_deref())?;
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
        all_replicas: args.check_replicas || notes.head_is_copy,
        quantise: &transfer::unquantised,
    };
    let mut planned = transfer::over_ranks(request, &source)?;
    carry_along(&foreign.companions, &mut planned)?;
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
    differ.map_or(Ok(()), |((what, a), (_, b))| {
        Err(PlanError::Ambiguous(format!("{what}: -y says {a}, the configuration beside the checkpoint says {b}"))
            .into())
    })
}

/// Plans a conversion from rank files to a Hugging Face directory.
pub(super) fn ms_to_pt(request: &Request, input: &Input) -> Result<Planned, Error> {
    let args = &request.args;
    let named = args.yaml_path.as_deref().map(load_model).transpose()?;
    let beside = match (&args.hf_config, request.source.is_dir()) {
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
    let trained = request.trained().then(|| Trained::read(request, input)).transpose()?;
    let strategy = if trained.is_none() { reading::strategy(args.src_strategy.as_deref())? } else { None };
    let strategy = strategy.as_ref().or_else(|| trained.as_ref()?.strategy.as_ref());
    let ignore = config::Patterns::new(&args.ignore)?;
    let family = described.as_ref().map(|(_, family)| *family);
    let files = input.source_files();
    let Read { mut catalog, spec, inferred } = reading::read(
        &files,
        &Reading {
            spec: known,
            strategy,
            fusion: config::fusion(args.src_fusion),
            // Its q, k and v stand by heads.
            other_grouped: family == Some(Family::InternLm2),
            heads: args.heads(),
            ignore: &|name| trained.as_ref().map_or_else(|| ignore.matches(name), |trained| trained.leaves_out(name)),
        },
    )?;
    if let Some(inferred) = inferred {
        note(&inferred);
    }
    if let Some(alpha) = trained.as_ref().and_then(|trained| trained.merge_alpha) {
        catalog.merge_adapters(alpha)?;
    }
    catalog.check_complete(transfer::tied(args, known)?)?;
    if described.is_none() {
        note(
            "no config.json beside the source: transformers needs one to load the result (--hf-config DIR carries it along)",
        );
    }
    let naming = Naming::new(family.unwrap_or_else(|| family_of(&catalog)));
    let target = plan::foreign_target(&catalog, naming, spec.as_ref())?;
    let options = PlanOptions {
        precision: request.weights,
        norms: request.norms,
        format: match args.format {
            None | Some(FormatArg::Safetensors) => FormatKind::Safetensors,
            Some(FormatArg::Bin) => FormatKind::PyTorch,
            Some(FormatArg::Ckpt) => return Err(Error::Usage("-f ms_to_pt writes safetensors or bin".to_owned())),
        },
        crc: false,
        // Only .ckpt files have padding.
        padding: true,
        whole: Some(WholeModel {
            shard_bytes: args.max_shard_size.map_or(SHARD_BYTES, |size| size.as_u64()),
            reader: WholeReader::HuggingFace,
        }),
    };
    let plan = plan::build(&files, &catalog, vec![target], &options)?;
    plan::prove(&plan)?;
    let replicas = transfer::replicas(&files, &catalog, args.check_replicas)?;
    let mut planned = Planned {
        training_state: std::collections::BTreeMap::new(),
        strategies: None,
        target: args.dst_ckpt_path.join(format!("{}_hf", config::precision_name(request.precision))),
        ignored: catalog.ignored.len(),
        replicas,
        plan,
    };
    if let Some(trained) = trained {
        trained.account(&mut planned);
    }
    carry_along(&beside, &mut planned)?;
    Ok(planned)
}

/// The family whose names fit, where no configuration tells: llama and qwen2 differ in their biases only.
fn family_of(catalog: &Catalog) -> Family {
    let bias = catalog.tensors().iter().any(|t| t.name.ends_with(".attention.wq.bias"));
    if bias { Family::Qwen2 } else { Family::Llama }
}

/// Adds files to a target, unchanged.
fn carry_along(files: &[PathBuf], planned: &mut Planned) -> Result<(), Error> {
    for path in files {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let mut layout = FileLayout::default();
        layout.literal(&read_small(path, COMPANION_LIMIT)?);
        let tensors = Vec::new();
        planned.plan.outputs.push(OutputFile {
            path: name.to_owned(),
            rank: None,
            format: None,
            layout,
            tensors,
            crc: false,
            tensor_crcs: Vec::new(),
        });
    }
    Ok(())
}
