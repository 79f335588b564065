//! `merge-manifest A B`: are the parts that several hosts have published together a whole?

use super::print;
use crate::Error;
use crate::cli::ExitStatus;
use crate::cli::args::MergeArgs;
use crate::cli::screen::Screen;
use crate::job::{Joined, merge_manifests};

/// Joins the manifests.
pub(in crate::cli) fn run(args: &MergeArgs) -> Result<ExitStatus, Error> {
    let joined = merge_manifests(&args.parts, args.output.as_deref(), &Screen::of_notes())?;
    let Joined { manifest, files, tensors } = &joined;
    match &args.output {
        Some(path) => {
            let (count, path) = (args.parts.len(), path.display());
            print(&format!("{count} parts make a whole: {files} files, {tensors} tensors, {path}\n"))?;
        }
        None => print(&String::from_utf8_lossy(manifest))?,
    }
    Ok(ExitStatus::Done)
}
