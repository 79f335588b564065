//! Our own `manifest.json` beside a source: which files were written there, with what sums, and the order of fused rows.
//!
//! The file may be anybody's and may say anything: a bounded number of bytes is read, and nothing that it says is taken without
//! a look at the files.

use std::collections::{BTreeSet, HashMap};
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::discover::rank_of;
use super::{InputError, LoadedFile, MANIFEST, ManifestHead, RankGaps};
use crate::model::FusionLayout;
use crate::model::naming::fused;
use crate::plan::list;
use crate::source::{ByteRange, Extents};
use crate::sys::read_small;

/// The largest manifest that is read: some 900,000 tensors.
const MAX_MANIFEST: u64 = 256 << 20;
/// The version of manifests that is known.
pub(super) const VERSION: u64 = 1;

/// What lies beside a source.
#[derive(Debug)]
pub enum Beside {
    /// No manifest.
    Nothing,
    /// A `manifest.json` that is not ours.
    Other(PathBuf),
    /// The manifest of a conversion.
    Made(Made),
}

/// What a conversion has written, by its manifest.
#[derive(Debug)]
pub struct Made {
    /// The manifest.
    pub manifest: PathBuf,
    /// In which order the rows of fused parameters were written.
    pub fusion: FusionLayout,
    dir: PathBuf,
    /// The files of tensors by their paths.
    files: HashMap<String, Listed>,
    /// Whether it is the manifest of a part, whose tensors are not all.
    part: bool,
    /// Whether the source joins files of several conversions by links, of which only the order is known.
    joined: bool,
}

/// The sum of a tensor's bytes, as it was written.
#[derive(Clone, Debug)]
pub struct ListedSum {
    /// Index of its file among those that were found.
    pub file: usize,
    /// Its bytes in the file. They are in the file: its own header says the same.
    pub place: Extents,
    /// The CRC-64/NVME.
    pub sum: u64,
    /// Its name, its file and where it begins, as text.
    pub name: String,
    /// Whether it is a fused matrix.
    pub fused: bool,
}

#[derive(Deserialize)]
pub(super) struct Head {
    pub(super) manifest_version: u64,
    pub(super) tool: Tool,
}

#[derive(Deserialize)]
pub(super) struct Tool {
    pub(super) name: String,
}

#[derive(Deserialize)]
struct Body {
    options: Options,
    files: Vec<Listed>,
    #[serde(default)]
    part: Option<IgnoredAny>,
    #[serde(default)]
    whole: Option<Vec<Listed>>,
}

#[derive(Deserialize)]
struct Options {
    dst_fusion: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Listed {
    pub(super) path: String,
    pub(super) length: u64,
    #[serde(default)]
    rank: Option<u32>,
}

#[derive(Deserialize)]
struct Tensors {
    tensors: Vec<Summed>,
}

#[derive(Deserialize)]
struct Summed {
    name: String,
    file: String,
    offset: u64,
    length: u64,
    hash: String,
    #[serde(default)]
    extents: Vec<(u64, u64)>,
}

impl Made {
    /// Reads the manifest beside a source: in the directory that was named, or that holds the file that was named, and where
    /// that is a rank's directory in the one above; else where its files lie to which links lead.
    ///
    /// # Errors
    /// A manifest of ours that is damaged, of another version, or larger than any that is read; files of several conversions
    /// that were written in different orders.
    pub fn beside(source: &Path, found: &[LoadedFile]) -> Result<Beside, InputError> {
        let beside = Self::in_dir(&directory(&absolute(source)))?;
        if !matches!(beside, Beside::Nothing) {
            return Ok(beside);
        }
        let real = found.iter().filter_map(|file| file.mapping.path().canonicalize().ok());
        let dirs: BTreeSet<PathBuf> = real.map(|path| directory(&path)).collect();
        let mut first: Option<Self> = None;
        for dir in dirs {
            let Beside::Made(made) = Self::in_dir(&dir)? else { continue };
            match &mut first {
                None => first = Some(made),
                Some(first) if first.fusion == made.fusion => first.joined = true,
                Some(first) => {
                    let why = format!(
                        "states {} as the order of fused rows, {} states {}",
                        first.fusion,
                        made.manifest.display(),
                        made.fusion
                    );
                    return Err(InputError::Manifest { manifest: first.manifest.clone(), why });
                }
            }
        }
        Ok(first.map_or(Beside::Nothing, Beside::Made))
    }

    fn in_dir(dir: &Path) -> Result<Beside, InputError> {
        let manifest = dir.join(MANIFEST);
        let Ok(meta) = std::fs::metadata(&manifest) else { return Ok(Beside::Nothing) };
        let fault = |why: String| InputError::Manifest { manifest: manifest.clone(), why };
        if meta.is_file()
            && meta.len() > MAX_MANIFEST
            && ManifestHead::of(dir).is_some_and(|head| head.looks_like_ours())
        {
            return Err(fault(format!("has {} bytes, more than the {MAX_MANIFEST} that are read", meta.len())));
        }
        if !meta.is_file() || meta.len() > MAX_MANIFEST {
            return Ok(Beside::Other(manifest));
        }
        let bytes = read_small(&manifest, MAX_MANIFEST)?;
        let head = match serde_json::from_slice::<Head>(&bytes) {
            Ok(head) if head.tool.name == env!("CARGO_PKG_NAME") => head,
            Err(e) if ManifestHead::begins(&bytes).looks_like_ours() => return Err(fault(format!("is damaged: {e}"))),
            _ => return Ok(Beside::Other(manifest)),
        };
        if head.manifest_version != VERSION {
            let why = format!("is of version {}, this program knows version {VERSION}", head.manifest_version);
            return Err(fault(why));
        }
        let body: Body = serde_json::from_slice(&bytes).map_err(|e| fault(format!("is damaged: {e}")))?;
        let order = &body.options.dst_fusion;
        let fusion = [FusionLayout::RankConcat, FusionLayout::Grouped].into_iter().find(|known| known.name() == order);
        let fusion = fusion.ok_or_else(|| fault(format!("states an unknown order of fused rows, `{order}`")))?;
        let part = body.part.is_some();
        let mut files = HashMap::new();
        for file in body.whole.unwrap_or(body.files).into_iter().filter(|file| holds_tensors(&file.path)) {
            let path = Path::new(&file.path);
            if !path.components().all(|part| matches!(part, Component::Normal(_))) {
                return Err(fault(format!("lists a file outside its directory, `{}`", file.path)));
            }
            if let Some(twice) = files.insert(file.path.clone(), file) {
                return Err(fault(format!("lists `{}` twice", twice.path)));
            }
        }
        let dir = dir.to_owned();
        Ok(Beside::Made(Self { manifest, fusion, dir, files, part, joined: false }))
    }

    /// Whether the source joins files of several conversions by links: this is the manifest of one of them.
    pub fn is_joined(&self) -> bool {
        self.joined
    }

    /// What can be seen without reading tensors: each file that was found is listed, with its rank and length, and each that
    /// is listed was found.
    ///
    /// # Errors
    /// Where the files are not those that were written.
    pub fn check(&self, source: &Path, found: &[LoadedFile], gaps: RankGaps) -> Result<(), InputError> {
        let fault = |why: String| Err(InputError::Manifest { manifest: self.manifest.clone(), why });
        if self.joined {
            return Ok(());
        }
        // The directory of one rank, or one file, of several.
        let alone = absolute(source) != self.dir;
        let mut seen: Vec<&str> = Vec::with_capacity(found.len());
        for file in found {
            let Some((path, listed)) = self.listed(file) else {
                return fault(format!("does not list {}", file.mapping.path().display()));
            };
            let there = file.mapping.len() as u64;
            if listed.length != there {
                return fault(format!("lists `{path}` with {} bytes; the file has {there}", listed.length));
            }
            if alone && found.len() < self.files.len() {
                let (manifest, files) = (self.manifest.clone(), self.files.len());
                return Err(InputError::PartOfWhole { manifest, files, named: source.to_owned() });
            }
            if let Some(rank) = listed.rank.filter(|rank| *rank != file.rank) {
                return fault(format!("lists `{path}` for rank {rank}; it lies with rank {}", file.rank));
            }
            seen.push(path);
        }
        seen.sort_unstable();
        let missing = self.files.keys().filter(|path| seen.binary_search(&path.as_str()).is_err());
        // Ranks that others replace may be left out as a whole.
        let left_out = |path: &str| {
            let rank = Path::new(path).parent().filter(|dir| !dir.as_os_str().is_empty());
            gaps == RankGaps::Allowed && rank.is_some_and(|dir| !self.dir.join(dir).exists())
        };
        let mut missing: Vec<String> = missing.filter(|path| !left_out(path)).cloned().collect();
        missing.sort();
        if missing.is_empty() { Ok(()) } else { fault(format!("lists {}, not found there", list(&missing))) }
    }

    /// The sums of the tensors of the files that were found.
    ///
    /// # Errors
    /// Where a file's own header says something else about a tensor than the manifest, or that is damaged.
    pub fn sums(&self, found: &[LoadedFile]) -> Result<Vec<ListedSum>, InputError> {
        let fault = |why: String| InputError::Manifest { manifest: self.manifest.clone(), why };
        // Read again: hundreds of megabytes are not held for what few ask for.
        let bytes = read_small(&self.manifest, MAX_MANIFEST)?;
        let Tensors { tensors } = serde_json::from_slice(&bytes).map_err(|e| fault(format!("is damaged: {e}")))?;
        let paths: HashMap<&str, usize> =
            found.iter().enumerate().filter_map(|(index, file)| Some((self.listed(file)?.0, index))).collect();
        let mut entries: Vec<HashMap<&str, &Extents>> = Vec::with_capacity(found.len());
        entries.extend(found.iter().map(|f| f.entries.iter().map(|e| (&*e.name, &e.extents)).collect()));
        let mut sums = Vec::with_capacity(tensors.len());
        for tensor in tensors {
            let Some(&file) = paths.get(tensor.file.as_str()) else { continue };
            let name = format!("{} in {} at byte {}", tensor.name, tensor.file, tensor.offset);
            let sum = tensor.hash.strip_prefix("crc64nvme:").and_then(|hex| u64::from_str_radix(hex, 16).ok());
            let sum = sum.ok_or_else(|| fault(format!("has no sum of {name}")))?;
            let place = extents(&tensor).ok_or_else(|| fault(format!("gives no place for {name}")))?;
            match entries[file].remove(tensor.name.as_str()) {
                Some(there) if *there == place => {
                    let fused = fused(&tensor.name).is_some_and(|f| *f.name == *tensor.name && !f.shared);
                    sums.push(ListedSum { file, place, sum, name, fused });
                }
                Some(_) => return Err(fault(format!("lists {name}, which lies elsewhere by the file's own header"))),
                None => return Err(fault(format!("lists {name}, which the file's own header does not"))),
            }
        }
        let unlisted = entries.iter().zip(found).find_map(|(names, file)| Some((*names.keys().min()?, file)));
        match unlisted.filter(|_| !self.part && !self.joined) {
            Some((name, file)) => Err(fault(format!("does not list `{name}` of {}", file.mapping.path().display()))),
            None => Ok(sums),
        }
    }

    /// What the manifest lists of a file: by its path, by that to which links lead, or, where it was given another name, as
    /// the only one of its rank, if it has the length of that.
    fn listed(&self, file: &LoadedFile) -> Option<(&str, &Listed)> {
        let by_path = |path: &Path| {
            let below = path.strip_prefix(&self.dir).ok()?;
            let parts: Option<Vec<&str>> = below.iter().map(|part| part.to_str()).collect();
            self.files.get_key_value(parts?.join("/").as_str())
        };
        let path = file.mapping.path();
        let known = by_path(&absolute(path)).or_else(|| by_path(&path.canonicalize().ok()?));
        let renamed = || {
            let mut of_rank = self.files.iter().filter(|(_, listed)| listed.rank == Some(file.rank));
            let only = of_rank.next().filter(|_| of_rank.next().is_none())?;
            (only.1.length == file.mapping.len() as u64).then_some(only)
        };
        known.or_else(renamed).map(|(path, listed)| (path.as_str(), listed))
    }
}

/// The directory in which a source's manifest would be: that of a file, or of a directory of ranks.
fn directory(source: &Path) -> PathBuf {
    let dir = if source.is_dir() { source } else { source.parent().unwrap_or(source) };
    let is_rank = dir.file_name().is_some_and(|name| rank_of(&name.to_string_lossy()).is_some());
    match dir.parent() {
        Some(above) if is_rank && !dir.join(MANIFEST).is_file() => above.to_owned(),
        _ => dir.to_owned(),
    }
}

/// The path from the root, with links as they are.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Configurations and tokenizers are carried along and may be edited.
fn holds_tensors(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|e| e == "ckpt" || e == "safetensors" || e == "bin")
}

fn extents(tensor: &Summed) -> Option<Extents> {
    let mut extents = Extents::default();
    let alone = [(tensor.offset, tensor.length)];
    let parts = if tensor.extents.is_empty() { &alone[..] } else { &tensor.extents };
    let mut total = 0u64;
    for &(start, len) in parts {
        total = total.checked_add(len)?;
        extents.push(ByteRange::new(start, len)?);
    }
    (total == tensor.length).then_some(extents)
}
