//! From a path to the files of a checkpoint that PyTorch programs wrote. Only names are read, no contents (but for
//! an index).

mod fault;
mod gguf;
mod listing;
mod numbered;
mod sets;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

pub use fault::ForeignFault;
pub use gguf::holds_gguf;
pub use listing::ForeignIndex;

use self::listing::{GGUF, Listing, TORCH, extension, is_dir};
use self::sets::{BIN, SAFETENSORS, Set};
use super::InputError;
use super::discover::rank_of;

/// The files of a foreign checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignFiles {
    /// The files that hold tensors.
    pub kind: ForeignKind,
    /// Hugging Face's `config.json` beside them.
    pub config: Option<PathBuf>,
    /// Files beside them that a user of the model needs, the configuration among them: to be carried along unchanged.
    pub companions: Vec<PathBuf>,
    /// What was there and was not taken, as sentences to be printed.
    pub notes: Vec<String>,
}

/// In which form the tensors are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForeignKind {
    /// Hugging Face's safetensors.
    HfSafetensors {
        /// The files, sorted by name.
        files: Vec<PathBuf>,
        /// The index, if there is one.
        index: Option<ForeignIndex>,
    },
    /// Hugging Face's pickled files.
    HfBin {
        /// The files, sorted by name.
        files: Vec<PathBuf>,
        /// The index, if there is one.
        index: Option<ForeignIndex>,
    },
    /// One file that `torch.save` wrote.
    SinglePth(PathBuf),
    /// llama.cpp's, in one file or several.
    Gguf(Vec<PathBuf>),
    /// Meta's release.
    Meta {
        /// The shards `consolidated.<nn>.pth` in order.
        shards: Vec<PathBuf>,
        /// `params.json`.
        params: PathBuf,
    },
}

/// The tool that wrote a checkpoint, as far as file names show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provenance {
    /// MindSpore: rank directories, a `.ckpt`, or MindSpore's index.
    MindSpore,
    /// PyTorch: `.bin`, `.pth` or `.pt` files, or what could only be meant so.
    Foreign,
    /// safetensors under names that both use. [`origin`](crate::model::origin), given the names in the
    /// headers of all files, decides.
    ByNames,
}

/// Files that MindSpore puts beside whole models.
const MINDSPORE_INDEX: &str = "param_name_map.json";
/// The file that marks an adapter's directory.
const ADAPTER: [&str; 3] = ["adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"];
/// Models of other programs, which are named in the refusal.
const OTHERS: [&str; 5] = ["msgpack", "h5", "onnx", "ot", "npz"];
const CONFIG: &str = "config.json";
const PARAMS: &str = "params.json";

/// Files that a user of the model needs beside the tensors.
const COMPANIONS: [&str; 6] =
    [CONFIG, "generation_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt"];

/// The tool that wrote the checkpoint at a path, by the names of files only.
///
/// # Errors
/// Nothing is there, or it cannot be listed.
pub fn provenance(path: &Path) -> Result<Provenance, InputError> {
    if !is_dir(path)? {
        return Ok(match extension(path) {
            Some("bin" | "pth" | "pt" | GGUF) => Provenance::Foreign,
            Some("safetensors") => Provenance::ByNames,
            _ => Provenance::MindSpore,
        });
    }
    let listing = Listing::of(path)?;
    let has =
        |wanted: &[&str]| listing.files.iter().any(|f| extension(Path::new(f)).is_some_and(|e| wanted.contains(&e)));
    let ranks = listing.dirs.iter().any(|name| rank_of(name).is_some());
    if ranks || listing.files.contains(MINDSPORE_INDEX) || has(&["ckpt"]) {
        return Ok(Provenance::MindSpore);
    }
    // What cannot be read, an adapter too, is best refused by the code that knows what it is.
    let foreign =
        listing.adapter().is_some() || listing.files.contains(CONFIG) || has(&TORCH) || has(&[GGUF]) || has(&OTHERS);
    Ok(match (has(&["safetensors"]), foreign) {
        (true, _) if listing.adapter().is_none() => Provenance::ByNames,
        (_, true) => Provenance::Foreign,
        _ => Provenance::MindSpore,
    })
}

/// Finds the files of a foreign checkpoint: a file, or a directory with one model in it.
///
/// Of a directory that has both, the safetensors are taken, as `transformers` does, and a note says so; a set of them that
/// is not whole is an error all the same.
///
/// # Errors
/// Where anything is missing, in the way, or not the only one of its kind: nothing is picked by chance.
pub fn discover_foreign(path: &Path) -> Result<ForeignFiles, InputError> {
    if !is_dir(path)? {
        return one_file(path);
    }
    let listing = Listing::of(path)?;
    if let Some(adapter) = listing.adapter() {
        return Err(listing.fault(ForeignFault::Adapter(adapter.to_owned())));
    }
    let mut notes = Vec::new();
    let kind = match (listing.set(&SAFETENSORS)?, listing.set_exists(&BIN), listing.shards()) {
        (Some(Set { files, index }), bin, shards) => {
            if bin {
                notes.push(format!("{}: the safetensors files are read, the .bin files are not", path.display()));
            }
            notes.extend(ignored_shards(path, &shards));
            ForeignKind::HfSafetensors { files, index }
        }
        (None, true, shards) => {
            notes.extend(ignored_shards(path, &shards));
            match listing.set(&BIN)? {
                Some(Set { files, index }) => ForeignKind::HfBin { files, index },
                None => return Err(listing.nothing()),
            }
        }
        (None, false, shards) if !shards.is_empty() => listing.meta(&shards)?,
        (None, false, _) => listing.single()?,
    };
    Ok(listing.with_companions(kind, notes))
}

/// Checks that every name of an index is in the file that it gives, and that the files hold nothing else.
///
/// `files`: the name of each file and the names of its entries.
///
/// # Errors
/// The names that are elsewhere, missing, or not in the index.
pub fn check_index<'a, N>(index: &ForeignIndex, files: impl IntoIterator<Item = (&'a str, N)>) -> Result<(), InputError>
where
    N: IntoIterator<Item = &'a str>,
{
    let (mut unnamed, mut elsewhere) = (Vec::new(), BTreeSet::new());
    let mut found: BTreeSet<&str> = BTreeSet::new();
    for (file, names) in files {
        for name in names {
            match index.map.get(name) {
                None => unnamed.push(name.to_owned()),
                Some(said) if said == file => _ = found.insert(name),
                Some(_) => _ = elsewhere.insert(name),
            }
        }
    }
    let missing =
        index.map.keys().map(String::as_str).filter(|name| !found.contains(name) && !elsewhere.contains(name));
    let missing: Vec<String> = missing.map(str::to_owned).collect();
    let elsewhere: Vec<String> = elsewhere.into_iter().map(str::to_owned).collect();
    let wrong = [
        (elsewhere, "not (only) in the file that the index names"),
        (missing, "named in the index, but in no file"),
        (unnamed, "in a file, but not named in the index"),
    ];
    match wrong.into_iter().find(|(names, _)| !names.is_empty()) {
        None => Ok(()),
        Some((names, why)) => {
            Err(InputError::Index { index: index.path.clone(), why: format!("{} {why}", crate::plan::list(&names)) })
        }
    }
}

/// Whether a file of this name is one that [`companions`] finds.
fn is_companion(name: &str) -> bool {
    COMPANIONS.contains(&name)
        || name.starts_with("tokenizer")
        || name.starts_with("chat_template")
        || extension(Path::new(name)) == Some("model")
}

/// Files of a directory that a user of the model needs beside the tensors: configuration and tokenizer.
///
/// # Errors
/// The directory cannot be listed.
pub fn companions(dir: &Path) -> Result<Vec<PathBuf>, InputError> {
    Ok(Listing::of(dir)?.companions())
}

/// A file by itself: not one of several that make a model.
fn one_file(path: &Path) -> Result<ForeignFiles, InputError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let listing = Listing::of(dir)?;
    let fault = |fault| InputError::Foreign { path: path.to_owned(), fault };
    if ADAPTER.contains(&name.as_str()) {
        return Err(fault(ForeignFault::Adapter(name)));
    }
    let one_of =
        [&SAFETENSORS, &BIN].into_iter().find_map(|naming| numbered::part_of(&name, naming.stem, naming.extension));
    if let Some((_, total)) = one_of.filter(|&(_, total)| total > 1) {
        return Err(fault(ForeignFault::OnePart { files: total }));
    }
    let kind = match extension(path) {
        Some("safetensors") => ForeignKind::HfSafetensors { files: vec![path.to_owned()], index: None },
        Some("bin") => ForeignKind::HfBin { files: vec![path.to_owned()], index: None },
        Some("pth" | "pt") if numbered::shard(&name).is_some() => {
            let shards = listing.shards();
            if shards.len() > 1 {
                return Err(fault(ForeignFault::OnePart { files: shards.len() as u64 }));
            }
            if listing.files.contains(PARAMS) {
                listing.meta(&shards)?
            } else {
                ForeignKind::SinglePth(path.to_owned())
            }
        }
        Some("pth" | "pt") => ForeignKind::SinglePth(path.to_owned()),
        Some(GGUF) => ForeignKind::Gguf(listing.parts_of(&name)?),
        _ => return Err(fault(ForeignFault::Nothing { found: vec![name] })),
    };
    Ok(listing.with_companions(kind, Vec::new()))
}

fn ignored_shards(dir: &Path, shards: &BTreeMap<u64, String>) -> Option<String> {
    let some = !shards.is_empty();
    some.then(|| format!("{}: Hugging Face's files are read, consolidated.*.pth are not", dir.display()))
}

impl Listing<'_> {
    /// Nothing that is known, and what there is instead.
    fn nothing(&self) -> InputError {
        let model = |e: &str| TORCH.contains(&e) || OTHERS.contains(&e) || matches!(e, "ckpt" | "safetensors");
        let found = self.files.iter().filter(|f| extension(Path::new(f)).is_some_and(model));
        self.fault(ForeignFault::Nothing { found: found.cloned().collect() })
    }

    fn adapter(&self) -> Option<&'static str> {
        ADAPTER.into_iter().find(|name| self.files.contains(*name))
    }

    /// Meta's shards by number.
    fn shards(&self) -> BTreeMap<u64, String> {
        self.files.iter().filter_map(|name| Some((numbered::shard(name)?, name.clone()))).collect()
    }

    fn meta(&self, shards: &BTreeMap<u64, String>) -> Result<ForeignKind, InputError> {
        let missing = numbered::gaps(0, shards, |n| format!("consolidated.{n:02}.pth"));
        if !missing.is_empty() {
            return Err(self.fault(ForeignFault::Missing(missing)));
        }
        if !self.files.contains(PARAMS) {
            return Err(self.fault(ForeignFault::Missing(vec![PARAMS.to_owned()])));
        }
        let shards = shards.values().map(|name| self.dir.join(name)).collect();
        Ok(ForeignKind::Meta { shards, params: self.dir.join(PARAMS) })
    }

    /// The only `.pth` or `.pt` of the directory.
    fn single(&self) -> Result<ForeignKind, InputError> {
        let torch = |name: &&String| matches!(extension(Path::new(name)), Some("pth" | "pt"));
        let found: Vec<&String> = self.files.iter().filter(torch).collect();
        match found.as_slice() {
            [] => gguf::only_one(self)?.map(ForeignKind::Gguf).ok_or_else(|| self.nothing()),
            [one] => Ok(ForeignKind::SinglePth(self.dir.join(one))),
            _ => Err(InputError::Several { dir: self.dir.to_owned(), names: found.into_iter().cloned().collect() }),
        }
    }

    fn companions(&self) -> Vec<PathBuf> {
        self.files.iter().filter(|name| is_companion(name)).map(|name| self.dir.join(name)).collect()
    }

    fn with_companions(&self, kind: ForeignKind, notes: Vec<String>) -> ForeignFiles {
        let companions = self.companions();
        let config = self.files.contains(CONFIG).then(|| self.dir.join(CONFIG));
        ForeignFiles { kind, config, companions, notes }
    }
}

#[cfg(test)]
mod tests;
