//! Is `lm_head` the embedding? What the files and the options leave open is asked, never taken for granted.

use super::case::Case;
use super::known_model::KnownModel;
use super::settings;
use super::spec::Job;
use crate::Error;
use crate::engine::{self, CancelToken};
use crate::input::ForeignInput;
use crate::model::naming::HEAD;
use crate::model::{Place, Role};
use crate::plan::{self, Catalog, Compared, PlanError, SourceFile};

/// Whether a checkpoint of PyTorch's shares its embedding with `lm_head`: as its configuration says, else as the option says.
/// `target_tied`: whether -y says that the target does, which leaves nothing to ask.
pub(super) fn source_tied(
    job: &Job,
    foreign: &ForeignInput,
    target_tied: bool,
    ignore: &dyn Fn(&str) -> bool,
) -> Result<bool, Error> {
    let asked = job.model.tied;
    // Meta's params.json says nothing about it: llama 3.2 1B and 3B are tied, the larger ones are not.
    if foreign.model.is_some() && !foreign.dialect.is_meta() {
        agree(job, foreign.tied, "the configuration beside the checkpoint")?;
        return Ok(foreign.tied);
    }
    let names = || {
        let names = foreign.input.files.iter().flat_map(|file| &file.entries).map(|entry| &*entry.name);
        names.filter(|name| !ignore(name))
    };
    // What is not known may be the head under another name: it is named first, as the names are read.
    if names().any(|name| matches!(foreign.dialect.place(name), Place::Unknown)) {
        return Ok(asked.unwrap_or(false));
    }
    let params = foreign.dialect.family().params();
    let is_head = |name: &str| match foreign.dialect.place(name) {
        Place::Stored(stored) => stored.row.params().any(|param| params[usize::from(param)].role == Role::Head),
        Place::Buffer | Place::Unknown => false,
    };
    let has_head = names().any(is_head);
    match asked {
        Some(false) if !has_head => Err(PlanError::Lacks(vec![HEAD.to_owned()]).into()),
        None if !has_head && !target_tied => Err(PlanError::NoHead.into()),
        _ => Ok(asked.unwrap_or(false)),
    }
}

/// Whether rank files may do without `lm_head` in a Hugging Face directory, where neither -y nor a `config.json` says.
pub(super) fn check_ours(job: &Job, catalog: &Catalog) -> Result<(), Error> {
    match (job.model.tied, catalog.has_head()) {
        (None | Some(false), true) | (Some(true), false) => Ok(()),
        (None, false) => Err(PlanError::NoHead.into()),
        (Some(false), false) => Err(PlanError::Lacks(vec![HEAD.to_owned()]).into()),
        (Some(true), true) => Err(Error::Usage(format!(
            "--tie-word-embeddings true: the source has a `{HEAD}` of its own; leave it out with --ignore {HEAD} if it is the \
             embedding"
        ))),
    }
}

/// What -y or the `config.json` says, or the option; `None`: none of them says anything.
pub(super) fn stated(job: &Job, known: &KnownModel) -> Result<Option<bool>, Error> {
    match known.spec() {
        Some(spec) => agree(job, spec.tied(), known.whose()).map(|()| Some(spec.tied())),
        None => Ok(job.model.tied),
    }
}

/// The option must not contradict what is written down.
pub(super) fn agree(job: &Job, said: bool, whose: &str) -> Result<(), Error> {
    match job.model.tied.filter(|asked| *asked != said) {
        None => Ok(()),
        Some(asked) => Err(Error::Usage(format!(
            "--tie-word-embeddings {asked}: {whose} says tie_word_embeddings: {said} (or nothing, which means false); correct it \
             there"
        ))),
    }
}

/// Leaves `lm_head` out of a model that shares the embedding. It must be the embedding.
pub(super) fn leave_copy_out(case: &Case<'_>, files: &[SourceFile<'_>], catalog: &mut Catalog) -> Result<(), Error> {
    if !catalog.has_head() {
        return Ok(());
    }
    if !is_embedding(case, files, catalog)? {
        return Err(Error::ReplicasDiffer(vec![format!("{HEAD} in {}", case.job.source.path.display())]));
    }
    catalog.leave_head_out();
    case.note(&format!("{HEAD} is left out: the model ties it to the embedding, to which it is equal"));
    Ok(())
}

/// What a configuration must say instead of what it says, and why.
pub(super) type Correction = (bool, String);

/// Decides about `lm_head` where the configuration (`tied`) says otherwise than the ranks: what is the embedding byte for
/// byte is left out, what is not is kept. Returns what the configuration must say instead, where that is another thing.
pub(super) fn settle(
    case: &Case<'_>,
    files: &[SourceFile<'_>],
    catalog: &mut Catalog,
    tied: bool,
) -> Result<Option<Correction>, Error> {
    match (catalog.has_head(), tied) {
        (true, true) if is_embedding(case, files, catalog)? => {
            catalog.leave_head_out();
            case.note(&format!(
                "{HEAD} is equal to the embedding, and config.json says that they are one (tie_word_embeddings): it is left out"
            ));
            Ok(None)
        }
        (true, true) => Ok(Some((false, format!("{HEAD} differs from the embedding and is kept")))),
        (false, false) => Ok(Some((true, format!("the model has no {HEAD} of its own")))),
        (true, false) | (false, true) => Ok(None),
    }
}

/// Whether `lm_head` holds the bytes of the embedding. Reads both up to the first difference, in pieces.
fn is_embedding(case: &Case<'_>, files: &[SourceFile<'_>], catalog: &Catalog) -> Result<bool, Error> {
    let Some((embedding, head)) = catalog.embedding_and_head() else { return Ok(false) };
    let (plan, places) = plan::compare(Compared::All, files, &embedding, files, &head);
    plan::prove_covered(&plan)?;
    let mappings = case.input().mappings();
    let engine = settings::settle(&case.job.requested(), &mappings, None).config;
    let none = CancelToken::default();
    let found = engine::compare(&plan, &mappings, &mappings, &places, &engine, &engine::Noop, &none)?;
    Ok(found.is_empty())
}
