//! `merge-manifest A B`: are the parts that several hosts have published together a whole?

use std::path::Path;

use crate::Error;
use crate::cli::ExitStatus;
use crate::cli::args::MergeArgs;
use crate::cli::commands::{note, print};
use crate::cluster::{ClusterError, PartManifest, merge};
use crate::input::{MANIFEST, is_manifest};
use crate::report::write_merged;
use crate::sys;

/// Bytes of a manifest. A tensor takes some 300 bytes: this is fourteen million.
const MAX_MANIFEST: u64 = 4 << 30;

/// Joins the manifests and checks what can be checked from here.
pub(crate) fn run(args: &MergeArgs) -> Result<ExitStatus, Error> {
    if let Some(path) = &args.output
        && path.symlink_metadata().is_ok()
        && !is_manifest(path)
    {
        return Err(Error::NoManifestThere(path.clone()));
    }
    let mut parts = Vec::with_capacity(args.parts.len());
    for path in &args.parts {
        let file = if path.is_dir() { path.join(MANIFEST) } else { path.clone() };
        let manifest = PartManifest::parse(&sys::read_small(&file, MAX_MANIFEST)?)?;
        if path.is_dir() {
            check_files(path, &manifest)?;
        } else {
            note(&format!("{} is a file: only what it lists is checked, not the files themselves", path.display()));
        }
        parts.push((path.display().to_string(), manifest));
    }
    let count = parts.len();
    let whole = merge(&parts)?;
    let (files, tensors) = (whole.files.len(), whole.tensors.len());
    let mut text = Vec::new();
    // Writing to a vector cannot fail.
    let _ = write_merged(whole, &mut text);
    match &args.output {
        Some(path) => {
            sys::replace_small(path, true, &text)?;
            print(&format!("{count} parts make a whole: {files} files, {tensors} tensors, {}\n", path.display()))?;
        }
        None => print(&String::from_utf8_lossy(&text))?,
    }
    Ok(ExitStatus::Done)
}

/// The files that a part lists must be there, with their lengths.
fn check_files(dir: &Path, manifest: &PartManifest) -> Result<(), Error> {
    for file in &manifest.files {
        let path = file.get("path").and_then(|path| path.as_str()).unwrap_or_default();
        let len = std::fs::metadata(dir.join(path)).map(|meta| meta.len()).ok();
        if len.is_none() || len != file.get("length").and_then(serde_json::Value::as_u64) {
            let there = len.map_or_else(|| "not there".to_owned(), |len| format!("{len} bytes"));
            return Err(ClusterError::Merge(format!("{} is {there}", dir.join(path).display())).into());
        }
    }
    Ok(())
}
