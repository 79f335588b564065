//! Which file may use which; and which files may name parameters of models.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::modules::Crate;
use super::uses::circles;
use super::{levels, module, sources};

/// What shows that a string is, or looks for, a parameter's name.
const PARAMETER_NAMES: [&str; 11] = [
    "attention.",
    "self_attn",
    "feed_forward",
    "model.layers",
    "blk.",
    "decoder.layers",
    "tok_embeddings",
    "lm_head",
    "w_qkv",
    "w_gate_hidden",
    "embed_tokens",
];

fn the_crate() -> Crate {
    let files: BTreeMap<PathBuf, String> = sources("src").into_iter().collect();
    let found = Crate::new(&files, Path::new("src/lib.rs"));
    assert!(found.modules.len() > 150, "the modules are found: {}", found.modules.len());
    found
}

#[test]
fn a_file_uses_files_of_lower_layers_only() {
    let (levels, uses) = (levels(), the_crate().uses());
    let in_table = |file: &Path| {
        let module = module(file);
        levels.get(&module).copied().unwrap_or_else(|| panic!("{module} is in no layer of src/lib.rs"))
    };
    // What can go wrong in all layers is between them and those that show it.
    let error = Path::new("src/error.rs");
    let highest = uses[error].iter().map(|file| in_table(file)).max().expect("errors of other layers");
    let level = |file: &Path| if file == error { 2 * highest + 1 } else { 2 * in_table(file) };
    let mut wrong = Vec::new();
    // The face, and the door for tests, lead everywhere.
    let doors = ["src/lib.rs", "src/internals.rs"].map(Path::new);
    for (file, used) in uses.iter().filter(|(file, _)| !doors.contains(&file.as_path())) {
        for other in used.iter().filter(|other| module(other) != module(file)) {
            if level(other) >= level(file) {
                wrong.push(format!("{} uses {}", file.display(), other.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "not in a lower layer:\n{}", wrong.join("\n"));
}

/// What the command line may use of the crate: the face, what renders it, and the system for files of its own.
const OF_THE_PROGRAM: [&str; 8] = ["cli", "job", "report", "sys", "Error", "ErrorKind", "CancelToken", "Event"];
/// Hints are about the errors of every layer.
const READS_ERRORS: &str = "src/cli/diagnostics.rs";

#[test]
fn the_command_line_is_a_client_of_the_face() {
    let of = the_crate();
    let files = of.modules.iter().filter(|m| m.file.starts_with("src/cli") && m.file != Path::new(READS_ERRORS));
    let mut count = 0;
    for of in files {
        count += 1;
        let paths = of.imports.iter().map(|import| &import.path).chain(&of.paths);
        let names = paths.filter(|path| path[0] == "crate").filter_map(|path| path.get(1));
        let other: Vec<&String> = names.filter(|name| !OF_THE_PROGRAM.contains(&name.as_str())).collect();
        assert!(other.is_empty(), "{} uses {other:?}", of.file.display());
    }
    assert!(count > 20, "{count}");
    for (path, text) in sources("examples") {
        assert!(!text.contains("ckpt_convert::internals"), "{}", path.display());
    }
}

/// What planning may use of the system: the words of a failed read.
const OF_THE_PLAN: [&str; 1] = ["FileError"];

#[test]
fn planning_can_read_nothing() {
    let of = the_crate();
    let mut count = 0;
    for of in of.modules.iter().filter(|module| module.file.starts_with("src/plan")) {
        count += 1;
        let paths = of.imports.iter().map(|import| &import.path).chain(&of.paths);
        let reads = |path: &&Vec<String>| match path.get(..2) {
            Some([first, second]) if first == "crate" && second == "sys" => {
                path.get(2).is_none_or(|name| !OF_THE_PLAN.contains(&name.as_str()))
            }
            Some([first, second]) if first == "crate" => second == "storage",
            _ => path[0] == "std" && path.get(1).is_some_and(|name| name == "fs"),
        };
        let wrong: Vec<_> = paths.filter(reads).collect();
        assert!(wrong.is_empty(), "{} uses {wrong:?}", of.file.display());
    }
    assert!(count > 50, "{count}");
}

#[test]
fn no_file_is_on_a_circle_of_uses() {
    let uses = the_crate().uses();
    let circles = circles(&uses);
    let mut lines = vec!["these files use one another".to_owned()];
    for circle in &circles {
        lines.push("a circle".to_owned());
        lines.extend(circle.iter().map(|file| {
            let used = uses[file].intersection(circle).map(|f| f.display().to_string()).collect::<Vec<_>>();
            format!("    {} -> {}", file.display(), used.join(", "))
        }));
    }
    assert!(circles.is_empty(), "{}", lines.join("\n"));
}

#[test]
fn names_of_parameters_are_in_the_tables_of_models_only() {
    let names = |text: &String| PARAMETER_NAMES.iter().any(|name| text.contains(name));
    let of = the_crate();
    let found = of.modules.iter().filter(|module| !module.file.starts_with("src/model"));
    let found: Vec<&PathBuf> = found.filter(|m| m.texts.iter().any(names)).map(|m| &m.file).collect();
    assert!(found.is_empty(), "names of parameters belong to src/model: {found:?}");
}

/// What a source is made of is known to the modules that make it, and below them.
#[test]
fn only_storage_knows_that_files_are_mapped() {
    let knows = |of: &super::modules::Module| {
        of.imports
            .iter()
            .map(|import| &import.path)
            .chain(&of.paths)
            .any(|path| path.iter().any(|name| name == "Mapping"))
    };
    let of = the_crate();
    let found = of.modules.iter().filter(|m| !m.file.starts_with("src/storage") && !m.file.starts_with("src/sys"));
    let found: Vec<&PathBuf> = found.filter(|m| knows(m)).map(|m| &m.file).collect();
    assert!(found.is_empty(), "they want a blob of src/storage: {found:?}");
}

/// Whatever differs from format to format is asked of the format.
#[test]
fn only_formats_tell_formats_apart() {
    let compared = |kind| ["== KIND", "!= KIND", "KIND =>"].map(|code| code.replace("KIND", kind));
    let codes: Vec<String> = ["CKPT", "SAFETENSORS", "PYTORCH", "GGUF"].into_iter().flat_map(compared).collect();
    let told = |text: &str| codes.iter().any(|code| text.contains(code)) || text.contains("FormatKind");
    let found: Vec<PathBuf> = sources("src")
        .into_iter()
        .filter(|(path, text)| !path.starts_with("src/formats") && told(text))
        .map(|(path, _)| path)
        .collect();
    assert!(found.is_empty(), "a method of the trait Format belongs there: {found:?}");
}

/// A crate of small files.
fn small(files: &[(&str, &str)]) -> Crate {
    let files = files.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned())).collect();
    Crate::new(&files, Path::new("src/lib.rs"))
}

fn used(of: &Crate) -> BTreeMap<String, Vec<String>> {
    let show = |file: &PathBuf| file.strip_prefix("src").unwrap_or(file).display().to_string();
    of.uses().iter().map(|(file, used)| (show(file), used.iter().map(show).collect())).collect()
}

#[test]
fn every_way_to_write_a_use_leads_to_the_file_that_defines_it() {
    let of = small(&[
        ("src/lib.rs", "mod a; pub mod b; mod error; pub use error::Error; #[cfg(test)] mod t;"),
        ("src/a.rs", "pub struct A; pub fn f() {} pub enum E { X } pub(crate) mod inner { pub struct I; }"),
        ("src/error.rs", "pub struct Error;"),
        ("src/t.rs", "use crate::a::A;"),
        (
            "src/b/mod.rs",
            "mod one; mod two; mod three; mod four; mod five; mod six; mod seven; pub use one::One;\n\
             pub use two::{Two, two as second};\nmod quoted; mod tests_inside;",
        ),
        ("src/b/one.rs", "pub struct One; use super::Two; fn g() -> crate::Error { super::super::a::f() }"),
        ("src/b/two.rs", "use crate::{a::{A, E::{self, X}}, b}; pub struct Two; pub fn two(_: b::One) {}"),
        (
            "src/b/three.rs",
            "use super::second; fn f() { use crate::a; let x = a::inner::I; assert!(x == super::One); }",
        ),
        ("src/b/four.rs", "use super::*; fn f(_: One) {}"),
        ("src/b/five.rs", "pub use super::six::Six; fn f(six: u8) { x.Six(); }"),
        ("src/b/six.rs", "use std::fmt; pub struct Six; impl fmt::Display for Six {}"),
        ("src/b/seven.rs", "pub use super::six::Six; fn f() -> Six { Six }"),
        (
            "src/b/quoted.rs",
            "// use crate::a::A;\nconst S: &str = \"crate::a::A\"; const C: char = '\"'; struct Q<'a>(&'a u8);",
        ),
        (
            "src/b/tests_inside.rs",
            "fn f() {} #[cfg(test)] fn g() { crate::a::f(); } #[cfg(test)] mod tests { use crate::a::A; }\n\
             #[cfg(not(test))] fn h() -> crate::Error { }",
        ),
    ]);
    let expected = [
        ("a.rs", &[][..]),
        ("b/five.rs", &[]),
        ("b/four.rs", &["b/one.rs"]),
        ("b/mod.rs", &[]),
        ("b/one.rs", &["a.rs", "b/two.rs", "error.rs"]),
        ("b/quoted.rs", &[]),
        ("b/seven.rs", &["b/six.rs"]),
        ("b/six.rs", &[]),
        ("b/tests_inside.rs", &["error.rs"]),
        ("b/three.rs", &["a.rs", "b/one.rs", "b/two.rs"]),
        ("b/two.rs", &["a.rs", "b/one.rs"]),
        ("error.rs", &[]),
        ("lib.rs", &[]),
    ];
    let expected: BTreeMap<String, Vec<String>> = expected
        .iter()
        .map(|(file, used)| ((*file).to_owned(), used.iter().map(|f| (*f).to_owned()).collect()))
        .collect();
    assert_eq!(used(&of), expected);
    let circle = circles(&of.uses());
    assert_eq!(circle, [BTreeSet::from(["src/b/one.rs", "src/b/two.rs"].map(PathBuf::from))]);
}

#[test]
fn the_layers_are_read_from_the_table() {
    assert_eq!(levels().get("tensor"), Some(&0));
    assert!(levels()["cli"] > levels()["plan"]);
    assert!(levels().len() >= 13, "{:?}", levels());
}
