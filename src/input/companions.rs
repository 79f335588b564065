//! Files that are carried along to a target unchanged: configuration, tokenizer, and the code that they name.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::InputError;
use crate::formats::lfs_pointer;
use crate::sys::{FileError, FileOp, read_small};

/// More than the configuration and tokenizer of any model have together. All of it is held in memory.
const LIMIT: u64 = 128 << 20;

/// The files whose `auto_map` names code.
const NAME_CODE: [&str; 2] = ["config.json", "tokenizer_config.json"];

/// Files to be carried along.
#[derive(Clone, Debug, Default)]
pub struct Companions {
    /// Name and content.
    pub files: Vec<(String, Vec<u8>)>,
    /// What is named and cannot be carried, as sentences to be printed.
    pub notes: Vec<String>,
}

/// Reads files that are to be carried along, and the code beside them that their `auto_map` names, with what that imports
/// from beside it. `leave_out`: names that are not wanted.
///
/// # Errors
/// A Git LFS pointer; a link that leads out of the directory, unless into the blobs of Hugging Face's cache; more bytes than
/// such files have; a file that cannot be read.
pub fn read_companions(paths: &[PathBuf], leave_out: &dyn Fn(&str) -> bool) -> Result<Companions, InputError> {
    let mut found = Companions::default();
    let mut left = LIMIT;
    let mut code: Vec<(String, String)> = Vec::new();
    for path in paths {
        let Some(name) = path.file_name().and_then(|name| name.to_str()).filter(|name| !leave_out(name)) else {
            continue;
        };
        let bytes = read(path, &mut left)?;
        if NAME_CODE.contains(&name) {
            code.extend(auto_map(&bytes).into_iter().map(|module| (name.to_owned(), module)));
        }
        found.files.push((name.to_owned(), bytes));
    }
    let Some(dir) = paths.first().and_then(|path| path.parent()) else { return Ok(found) };
    let mut seen = BTreeSet::new();
    while let Some((by, module)) = code.pop() {
        let name = format!("{module}.py");
        if leave_out(&name) || !seen.insert(name.clone()) {
            continue;
        }
        let path = dir.join(&name);
        if !is_plain(&module) || path.symlink_metadata().is_err() {
            found
                .notes
                .push(format!("{by} names {name}, which is not beside it: transformers needs it to load the result"));
            continue;
        }
        let bytes = read(&path, &mut left)?;
        code.extend(imports(&bytes).into_iter().map(|module| (name.clone(), module)));
        found.files.push((name, bytes));
    }
    Ok(found)
}

/// A file's content, if it may be carried along. `left`: bytes that still may be.
fn read(path: &Path, left: &mut u64) -> Result<Vec<u8>, InputError> {
    let refused = |source| FileError { op: FileOp::Open, path: path.to_owned(), source };
    let real = path.canonicalize().map_err(refused)?;
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let dir = dir.canonicalize().map_err(refused)?;
    if !real.starts_with(&dir) && !is_blob(&dir, &real) {
        return Err(InputError::LinkLeadsOut { path: path.to_owned(), to: real });
    }
    let bytes = std::fs::metadata(&real).map_err(refused)?.len();
    if bytes > *left {
        return Err(InputError::CompanionsTooLarge { path: path.to_owned(), bytes, limit: LIMIT });
    }
    let content = read_small(&real, *left)?;
    *left -= content.len() as u64;
    refuse_pointer(path, &content)?;
    Ok(content)
}

/// Refuses a file that is only a pointer to another.
pub(super) fn refuse_pointer(path: &Path, content: &[u8]) -> Result<(), InputError> {
    match lfs_pointer(content) {
        Some(size) => Err(InputError::LfsPointer { path: path.to_owned(), size }),
        None => Ok(()),
    }
}

/// Whether a file is one of the blobs to which the links of Hugging Face's cache lead: those in
/// `<repository>/snapshots/<revision>` to `<repository>/blobs/<hash>`.
fn is_blob(dir: &Path, real: &Path) -> bool {
    let blobs = real.parent().filter(|parent| parent.file_name().is_some_and(|name| name == "blobs"));
    let repository = blobs.and_then(Path::parent);
    repository.is_some_and(|repository| dir.starts_with(repository.join("snapshots")))
}

/// The modules beside it that a configuration's `auto_map` names. What is of another repository (`repo--module.Class`) is
/// fetched from there, and so left as it is.
fn auto_map(json: &[u8]) -> Vec<String> {
    let Ok(config) = serde_json::from_slice::<Value>(json) else { return Vec::new() };
    let Some(map) = config["auto_map"].as_object() else { return Vec::new() };
    let classes = map.values().flat_map(|value| match value {
        Value::Array(several) => several.iter().collect::<Vec<_>>(),
        one => vec![one],
    });
    let module = |class: &Value| Some(class.as_str()?.rsplit_once('.')?.0.to_owned());
    classes.filter_map(module).filter(|module| !module.contains("--")).collect()
}

/// The modules beside it that a module imports, as `get_relative_imports` of transformers finds them.
fn imports(code: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(code);
    let of_line = |line: &str| {
        let mut words = line.split_whitespace();
        let three = (words.next()?, words.next()?, words.next());
        let (("import", module, None) | ("from", module, Some("import"))) = three else { return None };
        module.strip_prefix('.').filter(|module| is_plain(module)).map(str::to_owned)
    };
    text.lines().filter_map(of_line).collect()
}

/// Whether a module's name is that of a file in the directory itself.
fn is_plain(module: &str) -> bool {
    !module.is_empty() && module.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_named_by_classes_in_texts_and_lists() {
        let json =
            br#"{"auto_map": {"A": "m_a.A", "B": ["m_b.B", null], "C": "org/repo--m_c.C", "D": 1, "E": "../x.E"}}"#;
        assert_eq!(auto_map(json), ["m_a", "m_b", "../x"]);
        assert!(
            auto_map(b"[]").is_empty() && auto_map(br#"{"auto_map": null}"#).is_empty() && auto_map(b"{").is_empty()
        );
        assert!(is_plain("m_a") && !is_plain("../x") && !is_plain("") && !is_plain("a/b") && !is_plain("a.b"));
    }

    #[test]
    fn imports_are_those_that_transformers_finds() {
        let code = b"import os\nfrom .conf import C\n    from .quant import (\nimport .odd\nfrom ..up import X\nfrom . import y\n";
        assert_eq!(imports(code), ["conf", "quant", "odd"]);
    }

    #[test]
    fn only_the_cache_of_hugging_face_leads_out() {
        let blob = |dir: &str, real: &str| is_blob(Path::new(dir), Path::new(real));
        assert!(blob("/c/models--x/snapshots/1f", "/c/models--x/blobs/ab"));
        assert!(!blob("/c/models--x/snapshots/1f", "/c/models--y/blobs/ab"));
        assert!(!blob("/c/models--x", "/c/models--x/../blobs/ab"));
        assert!(!blob("/home/me/model", "/etc/shadow"));
    }
}
