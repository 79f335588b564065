//! Is `lm_head` the embedding? What the files and the options leave open is asked, never taken for granted.

use super::Request;
use crate::Error;
use crate::input::ForeignInput;
use crate::models::TRANSFORMER_TOP;
use crate::plan::{Catalog, PlanError};

const HEAD: &str = TRANSFORMER_TOP[2];

/// Whether a checkpoint of PyTorch's shares its embedding with `lm_head`: as its configuration says, else as the option says.
/// `target_tied`: whether -y says that the target does, which leaves nothing to ask.
pub(super) fn source_tied(
    request: &Request,
    foreign: &ForeignInput,
    target_tied: bool,
    ignore: &dyn Fn(&str) -> bool,
) -> Result<bool, Error> {
    let asked = request.args.tie_word_embeddings;
    if foreign.spec.is_some() {
        agree(request, foreign.tied, "the configuration beside the checkpoint")?;
        return Ok(foreign.tied);
    }
    let mut names = foreign.input.files.iter().flat_map(|file| &file.entries).map(|entry| &*entry.name);
    let is_head = |name: &str| foreign.naming.place(name).names().iter().any(|ours| ours == HEAD);
    let has_head = names.any(|name| is_head(name) && !ignore(name));
    match asked {
        Some(false) if !has_head => Err(PlanError::Lacks(vec![HEAD.to_owned()]).into()),
        None if !has_head && !target_tied => Err(PlanError::NoHead.into()),
        _ => Ok(asked.unwrap_or(false)),
    }
}

/// Whether rank files may do without `lm_head` in a Hugging Face directory, where neither -y nor a `config.json` says.
pub(super) fn check_ours(request: &Request, catalog: &Catalog) -> Result<(), Error> {
    match (request.args.tie_word_embeddings, catalog.get(HEAD).is_some()) {
        (None | Some(false), true) | (Some(true), false) => Ok(()),
        (None, false) => Err(PlanError::NoHead.into()),
        (Some(false), false) => Err(PlanError::Lacks(vec![HEAD.to_owned()]).into()),
        (Some(true), true) => Err(Error::Usage(format!(
            "--tie-word-embeddings true: the source has a `{HEAD}` of its own; leave it out with --ignore {HEAD} if it is the \
             embedding"
        ))),
    }
}

/// The option must not contradict what is written down.
pub(super) fn agree(request: &Request, said: bool, whose: &str) -> Result<(), Error> {
    match request.args.tie_word_embeddings.filter(|asked| *asked != said) {
        None => Ok(()),
        Some(asked) => Err(Error::Usage(format!(
            "--tie-word-embeddings {asked}: {whose} says tie_word_embeddings: {said} (or nothing, which means false); correct it \
             there"
        ))),
    }
}
