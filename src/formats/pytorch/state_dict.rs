//! Finds the state dict in what a pickle holds, and lists it.

use std::collections::HashSet;

use super::contents::{Other, PytorchFile};
use super::value::{Id, Pickle, Storage, Value};
use super::view::TensorView;
use crate::formats::{Budget, FormatError, FormatFault, limits};
use crate::source::ByteRange;

/// Keys under which training scripts put the state dict.
const WRAPPERS: [&str; 4] = ["state_dict", "model", "module", "model_state_dict"];
/// How many of them are looked through, one inside the other.
const MOST_WRAPPERS: usize = 2;
/// How many names a message lists.
const LISTED: usize = 8;

/// The tensors of the one state dict of a pickle. `at`: where in the file the pickle begins. `place`: where in the file
/// a storage lies, if it is there.
pub(super) fn read(
    pickle: &Pickle<'_>,
    at: u64,
    budget: &Budget,
    mut place: impl FnMut(&Storage<'_>) -> Option<ByteRange>,
) -> Result<PytorchFile, FormatError> {
    let fault = |what| FormatError::new(at, what);
    let mut candidates = Vec::new();
    look(pickle, pickle.root, &mut Vec::new(), &mut candidates);
    let mut distinct: Vec<&Candidate> = Vec::new();
    for candidate in &candidates {
        if distinct.iter().all(|other| other.dict != candidate.dict) {
            distinct.push(candidate);
        }
    }
    let candidate = match distinct.as_slice() {
        [one] => *one,
        [] => return Err(fault(FormatFault::NoStateDict(describe(pickle)))),
        several => {
            let paths: Vec<String> = several.iter().map(|c| format!("`{}`", c.path.join("/"))).collect();
            return Err(fault(FormatFault::SeveralStateDicts(paths.join(", ").replace("``", "the checkpoint itself"))));
        }
    };
    let (asked, limit) = (dict(pickle, candidate.dict).len(), limits::MAX_ENTRIES);
    if asked > limit {
        let (field, asked, limit) = ("entries of the state dict", asked as u64, limit as u64);
        return Err(fault(FormatFault::LimitExceeded { field, asked, limit }));
    }
    let mut file = PytorchFile { wrappers: candidate.path.clone(), ..PytorchFile::default() };
    let mut names = HashSet::new();
    let mut census = Census::new(pickle);
    for &(key, value) in dict(pickle, candidate.dict) {
        let text = if let Value::Text(name) = pickle.get(key) { name.len() } else { 0 };
        budget.take_at(at, limits::ENTRY_BYTES + text as u64)?;
        if !pickle.get(value).is_tensor() {
            file.others.push(census.other(key, value));
            continue;
        }
        let &Value::Text(name) = pickle.get(key) else {
            return Err(fault(FormatFault::Malformed("state dict: a tensor whose key is no text")));
        };
        if !names.insert(name) {
            return Err(fault(FormatFault::Duplicate(name.into())));
        }
        file.tensors.push(view(pickle, at, name, value, &mut place)?);
    }
    // From the outside in, all but the key that leads on.
    let mut outer = pickle.root;
    for wrapper in &candidate.path {
        let mut next = outer;
        for &(key, value) in dict(pickle, outer) {
            if matches!(pickle.get(key), Value::Text(key) if key == wrapper) {
                next = value;
            } else {
                file.beside.push(census.other(key, value));
            }
        }
        outer = next;
    }
    Ok(file)
}

fn view(
    pickle: &Pickle<'_>,
    at: u64,
    name: &str,
    value: Id,
    place: &mut impl FnMut(&Storage<'_>) -> Option<ByteRange>,
) -> Result<TensorView, FormatError> {
    let (asked, limit) = (name.len() as u64, limits::MAX_NAME_BYTES);
    if asked > limit {
        return Err(FormatError::new(at, FormatFault::LimitExceeded { field: "name of a tensor", asked, limit }));
    }
    let tensor = match pickle.get(value) {
        Value::Tensor(tensor) => tensor,
        other => {
            let what = FormatFault::UnsupportedTensor { tensor: name.into(), kind: other.kind() };
            return Err(FormatError::new(at, what));
        }
    };
    let missing = |storage: &str| {
        let what = FormatFault::MissingStorage { tensor: name.into(), storage: storage.into() };
        FormatError::new(tensor.at, what)
    };
    let storage = pickle.storages.get(tensor.storage as usize).ok_or_else(|| missing(""))?;
    let bytes = place(storage).ok_or_else(|| missing(storage.key))?;
    TensorView::place(name, tensor, storage, bytes)
}

/// A dict with tensors in it, and the keys that lead there.
struct Candidate {
    path: Vec<&'static str>,
    dict: Id,
}

/// Gathers the dicts that hold tensors: this one, and those under the keys of wrappers. At most two levels deep, so a
/// pickle of any shape costs no more than a few passes over its dicts.
fn look(pickle: &Pickle<'_>, id: Id, path: &mut Vec<&'static str>, found: &mut Vec<Candidate>) {
    if dict(pickle, id).iter().any(|&(_, value)| pickle.get(value).is_tensor()) {
        found.push(Candidate { path: path.clone(), dict: id });
    }
    if path.len() == MOST_WRAPPERS {
        return;
    }
    for wrapper in WRAPPERS {
        // Of a key that is set twice the last counts, as in Python.
        let under =
            dict(pickle, id).iter().rev().find(|(key, _)| matches!(pickle.get(*key), Value::Text(k) if *k == wrapper));
        if let Some(&(_, value)) = under {
            path.push(wrapper);
            look(pickle, value, path, found);
            path.pop();
        }
    }
}

fn dict<'p>(pickle: &'p Pickle<'_>, id: Id) -> &'p [(Id, Id)] {
    match pickle.get(id) {
        Value::Dict(items) => items,
        _ => &[],
    }
}

/// What is where a state dict was expected.
fn describe(pickle: &Pickle<'_>) -> String {
    let Value::Dict(items) = pickle.root() else { return format!("it is a {}", pickle.root().kind()) };
    let keys: Vec<String> = items
        .iter()
        .take(LISTED)
        .map(|&(key, value)| format!("`{}` ({})", key_text(pickle.get(key)), pickle.get(value).kind()))
        .collect();
    let more = if items.len() > LISTED { format!(" and {} more", items.len() - LISTED) } else { String::new() };
    if keys.is_empty() { "it is an empty dict".into() } else { format!("it has {}{more}", keys.join(", ")) }
}

fn key_text(key: &Value<'_>) -> String {
    match key {
        Value::Text(text) => text.chars().take(80).collect(),
        Value::Int(n) => n.to_string(),
        other => format!("a {}", other.kind()),
    }
}

/// Counts tensors in values, each value once.
struct Census<'p, 'a> {
    pickle: &'p Pickle<'a>,
    seen: Vec<bool>,
}

impl<'p, 'a> Census<'p, 'a> {
    fn new(pickle: &'p Pickle<'a>) -> Self {
        Self { pickle, seen: vec![false; pickle.values.len()] }
    }

    fn other(&mut self, key: Id, value: Id) -> Other {
        let kind = self.pickle.get(value).kind();
        Other { name: key_text(self.pickle.get(key)), kind, tensors: self.tensors(value) }
    }

    fn tensors(&mut self, root: Id) -> usize {
        let (mut count, mut open) = (0, vec![root]);
        while let Some(id) = open.pop() {
            match self.seen.get_mut(id.0 as usize) {
                Some(seen) if !*seen => *seen = true,
                _ => continue,
            }
            match self.pickle.get(id) {
                Value::List(items) => open.extend(items),
                Value::Tuple(items) => open.extend(items.iter()),
                Value::Dict(items) => open.extend(items.iter().flat_map(|&(key, value)| [key, value])),
                value => count += usize::from(value.is_tensor()),
            }
        }
        count
    }
}
