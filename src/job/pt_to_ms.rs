//! The recipe of `-f pt_to_ms`: from a checkpoint of PyTorch's to rank files.

use super::case::Case;
use super::head;
use super::left_out::LeftOut;
use super::planner::{Conversion, Facts};
use super::reading::{self, Read, Reading, Tied};
use crate::Error;
use crate::formats::CKPT;
use crate::input::{ForeignInput, read_companions};
use crate::model::FusionLayout;
use crate::model::Model;
use crate::model::naming::{HEAD, HEAD_LAYER};
use crate::plan::{self, ForeignNotes, PlanError};

/// Plans it.
pub(super) fn plan(case: &Case<'_>, foreign: &ForeignInput) -> Result<Conversion, Error> {
    let (job, named) = (case.job, case.known.named.as_ref());
    foreign.notes.iter().for_each(|text| case.note(text));
    if let (Some(named), Some(found)) = (named, &foreign.model) {
        check_same(named, found)?;
    }
    let left_out = LeftOut::as_asked(case)?;
    let files = foreign.input.source_files();
    let how = Reading {
        evidence: &foreign.input,
        spec: named,
        strategy: None,
        fusion: case.source_order(),
        other_grouped: case.target_order() == FusionLayout::Grouped,
        heads: job.heads(),
        ignore: &|name| left_out.leaves_out(name),
    };
    let named_tied = named.map(Model::tied);
    let source_tied = head::source_tied(job, foreign, named_tied == Some(true), how.ignore)?;
    let tied = Tied { source: source_tied, target: named_tied.unwrap_or(source_tied) };
    let (Read { catalog, spec, inferred }, notes) = reading::read_foreign(foreign, &files, &how, tied)?;
    if let Some(text) = inferred {
        case.note(&text);
    }
    say(case, &notes);
    let target = reading::strategy(job.target.strategy.as_deref(), job.run.reading.memory)?;
    // A head that is left out because it is the embedding must be the embedding.
    let all_replicas = job.checks.replicas || notes.head_is_copy;
    // What a source of Hugging Face's says of its head is settled when it is read.
    let (tied, format) = (Some(true), CKPT);
    let facts = Facts { case, files: &files, left_out, catalog, spec, tied, target, format, all_replicas };
    let mut conversion = facts.over_ranks(None)?;
    let carried = read_companions(&foreign.companions, &|name| facts.left_out.is_ignored(name))?;
    conversion.carry_along(case, carried);
    Ok(conversion)
}

/// Says what was done beside renaming.
pub(super) fn say(case: &Case<'_>, notes: &ForeignNotes) {
    if !notes.dropped.is_empty() {
        let count = notes.dropped.len();
        case.note(&format!("{count} buffers that are no parameters were left out: {}", plan::list(&notes.dropped)));
    }
    if notes.head_from_embedding {
        case.note(&format!(
            "the source ties {HEAD_LAYER} to the embedding, the target does not: {HEAD} is written from the embedding"
        ));
    }
    if notes.head_is_copy {
        case.note(&format!("{HEAD} is left out: the model ties it to the embedding, to which it is compared"));
    }
}

/// The model that -y names must be the one beside the files.
pub(super) fn check_same(named: &Model, found: &Model) -> Result<(), Error> {
    let sizes = |s: &Model| {
        [
            ("hidden size", s.hidden()),
            ("layers", s.layers().into()),
            ("heads", s.heads()),
            ("kv heads", s.kv_heads()),
            ("head dimension", s.head_dim()),
            ("ffn rows", s.ffn().unwrap_or_default()),
            ("experts", s.axis("Expert").unwrap_or_default()),
            ("ffn rows of an expert", s.axis("MoeFfn").unwrap_or_default()),
            ("vocabulary", s.vocab()),
            ("biases of q, k and v", s.qkv_bias().into()),
        ]
    };
    let differ = sizes(named).into_iter().zip(sizes(found)).find(|(a, b)| a != b);
    differ.map_or(Ok(()), |((what, named), (_, found))| Err(PlanError::OtherModelNamed { what, named, found }.into()))
}
