//! The indexes in `tests/data`: what MindSpore and the original scripts wrote, as hashes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Tensor, read_tensors, sha16};

/// Dtype, dims and hash of a parameter.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub(crate) struct Expected(pub(crate) String, pub(crate) Vec<u64>, pub(crate) String);

/// File to parameter to what it holds.
pub(crate) type Index = BTreeMap<String, BTreeMap<String, Expected>>;

/// A path in `tests/data`.
pub(crate) fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// The index of a folder of `tests/data`.
pub(crate) fn index(folder: &str) -> Index {
    let bytes = std::fs::read(data(folder).join("index.json")).expect("the index is there");
    serde_json::from_slice(&bytes).expect("the index parses")
}

/// The tensors must be exactly the expected ones.
#[track_caller]
pub(crate) fn compare(what: &str, tensors: &[Tensor], expected: &BTreeMap<String, Expected>) {
    let found: BTreeMap<String, Expected> =
        tensors.iter().map(|t| (t.name.clone(), Expected(t.dtype.clone(), t.dims.clone(), sha16(&t.bytes)))).collect();
    assert_eq!(found.len(), tensors.len(), "{what}: a name twice");
    let names = |map: &BTreeMap<String, Expected>| map.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&found), names(expected), "{what}: the names");
    for (name, expected) in expected {
        assert_eq!(&found[name], expected, "{what}: {name}");
    }
}

/// A written directory must hold the files that the index has below `key`, and their parameters, and nothing else but the
/// manifest. `extension`: of the written files; the index always says `.ckpt`.
#[track_caller]
pub(crate) fn compare_dir(dir: &Path, index: &Index, key: &str, extension: &str, keep: impl Fn(&str) -> bool) {
    let mut written = vec!["manifest.json".to_owned()];
    for (file, expected) in index.iter().filter_map(|(k, v)| Some((k.strip_prefix(key)?.strip_prefix('/')?, v))) {
        let (rank, _) = file.split_once('/').unwrap_or((file, ""));
        let number = rank.strip_prefix("rank_").expect("a rank");
        let file = format!("{rank}/checkpoint_{number}.{extension}");
        let expected = expected.iter().filter(|(n, _)| keep(n)).map(|(n, e)| (n.clone(), e.clone())).collect();
        compare(&format!("{key}/{file}"), &read_tensors(&dir.join(&file)), &expected);
        written.push(file);
    }
    assert!(written.len() > 1, "{key} is not in the index");
    written.sort();
    assert_eq!(files_below(dir), written, "the files of {}", dir.display());
}

fn files_below(dir: &Path) -> Vec<String> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if path.is_dir() {
            files.extend(files_below(&path).into_iter().map(|below| format!("{name}/{below}")));
        } else {
            files.push(name);
        }
    }
    files.sort();
    files
}
