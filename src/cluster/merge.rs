//! Manifests of parts that were published apart, joined to the manifest of the whole.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::ClusterError;

/// A manifest of a part, as `--local-output` writes it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct PartManifest {
    /// Program and version.
    pub tool: Value,
    /// The fingerprint of the plan.
    pub plan: String,
    /// The checksum of the strategies that were written with it, where any were.
    #[serde(default)]
    pub strategies: Option<String>,
    /// Which part, as `0 of 2`. A manifest of a whole has none.
    pub part: Option<String>,
    /// The options of the conversion.
    pub options: Map<String, Value>,
    /// Decisions of the conversion and their reasons.
    #[serde(default)]
    pub choices: Vec<Value>,
    /// The source files.
    pub inputs: Vec<Value>,
    /// The part's files.
    pub files: Vec<Value>,
    /// What quantising did to each matrix of the whole model, where anything was quantised.
    #[serde(default)]
    pub quantised: Vec<Value>,
    /// The part's tensors.
    pub tensors: Vec<Value>,
    /// The files of the whole.
    #[serde(default)]
    pub whole: Vec<Value>,
}

impl PartManifest {
    /// Reads a manifest.
    ///
    /// # Errors
    /// Where it is none.
    pub fn parse(bytes: &[u8]) -> Result<Self, ClusterError> {
        serde_json::from_slice(bytes).map_err(|e| merge_error(format!("not a manifest: {e}")))
    }
}

fn merge_error(what: String) -> ClusterError {
    ClusterError::Merge(what)
}

/// Joins the manifests of all parts of a conversion to that of the whole, as one host would have written it: all parts are
/// there, of one plan, and together they hold every file once. `parts`: what each is called, and what it holds.
///
/// # Errors
/// Where they are not parts of one conversion, or something is missing or there twice.
pub fn merge(parts: &[(String, PartManifest)]) -> Result<PartManifest, ClusterError> {
    let Some((first_name, first)) = parts.first() else { return Err(merge_error("there are none".to_owned())) };
    let mut numbers: HashMap<u32, &str> = HashMap::new();
    let mut count = 0;
    for (name, part) in parts {
        if part.plan != first.plan
            || part.tool != first.tool
            || part.whole != first.whole
            || part.strategies != first.strategies
        {
            return Err(merge_error(format!("{first_name} and {name} are of different plans")));
        }
        if part.quantised != first.quantised {
            return Err(merge_error(format!("{first_name} and {name} were quantised with different scales")));
        }
        let number = part.part.as_deref().and_then(|text| text.split_once(" of "));
        let number = number.and_then(|(index, count)| Some((index.parse().ok()?, count.parse().ok()?)));
        let Some((index, of)): Option<(u32, u32)> = number else {
            return Err(merge_error(format!("{name} is the manifest of a whole, not of a part")));
        };
        count = of;
        if let Some(other) = numbers.insert(index, name) {
            return Err(merge_error(format!("{other} and {name} are both part {index}")));
        }
    }
    let missing: Vec<String> =
        (0..count).filter(|n| !numbers.contains_key(n)).map(|n| n.to_string()).take(20).collect();
    if !missing.is_empty() {
        return Err(merge_error(format!("part {} of {count} is missing", missing.join(", "))));
    }
    let path = |file: &Value, key: &str| file.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut held: HashMap<String, (&Value, &str)> = HashMap::new();
    let mut tensors: HashMap<String, Vec<Value>> = HashMap::new();
    for (name, part) in parts {
        for file in &part.files {
            if let Some((_, other)) = held.insert(path(file, "path"), (file, name)) {
                return Err(merge_error(format!("{} is in {other} and in {name}", path(file, "path"))));
            }
        }
        for tensor in &part.tensors {
            tensors.entry(path(tensor, "file")).or_default().push(tensor.clone());
        }
    }
    let mut whole = PartManifest {
        part: None,
        files: Vec::with_capacity(first.whole.len()),
        tensors: Vec::new(),
        whole: Vec::new(),
        ..first.clone()
    };
    for file in &first.whole {
        match held.remove(&path(file, "path")) {
            Some((there, _)) if there == file => {}
            Some((_, name)) => {
                return Err(merge_error(format!("{} is not in {name} as it should be", path(file, "path"))));
            }
            None => return Err(merge_error(format!("no part has {}", path(file, "path")))),
        }
        whole.files.push(file.clone());
        whole.tensors.extend(tensors.remove(&path(file, "path")).unwrap_or_default());
    }
    match held.keys().chain(tensors.keys()).next() {
        Some(stray) => Err(merge_error(format!("{stray} is not a file of the whole"))),
        None => Ok(whole),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn part(index: u32) -> PartManifest {
        let file = |n: u32| json!({"path": format!("rank_{n}/x"), "length": 10 + n, "rank": n});
        PartManifest {
            tool: json!({"name": "ckpt-convert"}),
            plan: "abc".to_owned(),
            strategies: None,
            part: Some(format!("{index} of 2")),
            options: Map::new(),
            choices: Vec::new(),
            inputs: Vec::new(),
            files: vec![file(index), file(index + 2)],
            quantised: vec![json!({"name": "w", "rms_error": 0.1})],
            tensors: vec![json!({"file": format!("rank_{index}/x"), "name": "w"})],
            whole: (0..4).map(file).collect(),
        }
    }

    fn merged(a: PartManifest, b: PartManifest) -> Result<PartManifest, String> {
        merge(&[("a".to_owned(), a), ("b".to_owned(), b)]).map_err(|e| e.to_string())
    }

    #[test]
    fn parts_in_any_order_make_the_whole() {
        let whole = merged(part(1), part(0)).unwrap();
        assert_eq!(whole.files, part(0).whole);
        assert_eq!(whole.tensors.len(), 2);
        assert_eq!(whole.part, None);
    }

    #[test]
    fn what_is_not_whole_is_refused_by_name() {
        type Change = fn(&mut PartManifest);
        let cases: [(Change, &str); 8] = [
            (|p| p.quantised[0]["rms_error"] = json!(0.2), "a and b were quantised with different scales"),
            (|p| p.plan.push('x'), "a and b are of different plans"),
            (|p| p.part = Some("0 of 2".to_owned()), "both part 0"),
            (|p| p.part = Some("2 of 3".to_owned()), "part 1 of 3 is missing"),
            (|p| p.part = None, "b is the manifest of a whole"),
            (|p| drop(p.files.pop()), "no part has rank_3/x"),
            (|p| p.files[0] = json!({"path": "rank_0/x"}), "rank_0/x is in a and in b"),
            (|p| p.files[1]["length"] = json!(1), "rank_3/x is not in b as it should be"),
        ];
        for (change, said) in cases {
            let mut b = part(1);
            change(&mut b);
            let error = merged(part(0), b).unwrap_err();
            assert!(error.contains(said), "{said}: {error}");
        }
    }
}
