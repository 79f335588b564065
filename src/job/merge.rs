//! `merge-manifest A B`: are the parts that several hosts have published together a whole?

use std::path::{Path, PathBuf};

use super::observer::Observer;
use super::settings;
use crate::Error;
use crate::cluster::{ClusterError, PartManifest, merge};
use crate::formats::{FormatError, json_cost};
use crate::input::{InputError, MANIFEST, is_manifest};
use crate::report::write_merged;
use crate::sys;

/// Bytes of a manifest. A tensor takes some 300 bytes: this is 900,000.
const MAX_MANIFEST: u64 = 256 << 20;

/// The manifests of parts, joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The manifest of the whole.
    pub manifest: Vec<u8>,
    /// Files of the whole.
    pub files: usize,
    /// Tensors of the whole.
    pub tensors: usize,
}

/// Joins the manifests of parts that several hosts have published, and checks what can be checked from here. `output`: the file
/// that the manifest of the whole is written to; one that is there must be a manifest.
///
/// # Errors
/// Parts that make no whole; files that are not there.
pub fn merge_manifests(parts: &[PathBuf], output: Option<&Path>, observer: &dyn Observer) -> Result<Joined, Error> {
    if let Some(path) = output
        && path.symlink_metadata().is_ok()
        && !is_manifest(path)
    {
        return Err(Error::NoManifestThere(path.to_owned()));
    }
    let (budget, mut read) = (settings::budget(None), Vec::with_capacity(parts.len()));
    for path in parts {
        let file = if path.is_dir() { path.join(MANIFEST) } else { path.clone() };
        let bytes = sys::read_small(&file, MAX_MANIFEST)?;
        let fault = |what| InputError::Format { path: file.clone(), source: FormatError::new(0, what).into() };
        budget.take(json_cost(&bytes)).map_err(fault)?;
        let manifest = PartManifest::parse(&bytes)?;
        if path.is_dir() {
            check_files(path, &manifest)?;
        } else {
            observer.note(&format!(
                "{} is a file: only what it lists is checked, not the files themselves",
                path.display()
            ));
        }
        read.push((path.display().to_string(), manifest));
    }
    let whole = merge(&read)?;
    let (files, tensors) = (whole.files.len(), whole.tensors.len());
    let mut manifest = Vec::new();
    // Writing to a vector cannot fail.
    let _ = write_merged(whole, &mut manifest);
    if let Some(path) = output {
        sys::replace_small(path, true, &manifest)?;
    }
    Ok(Joined { manifest, files, tensors })
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
