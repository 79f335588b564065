//! The architecture, checked: which module may use which, where unsafe code is, how long files are and what they are called.

mod architecture;
mod modules;
mod tokens;
mod uses;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const MOST_LINES: usize = 600;
const BANNED_NAMES: [&str; 6] = ["util", "utils", "common", "helpers", "types", "misc"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every `.rs` file below a folder with its text; the path as from the root.
fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    collect(&root().join(folder), &mut found);
    found.sort();
    found
}

fn collect(dir: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in std::fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            let name = path.file_name().unwrap_or_default();
            // Other programs' output.
            if name != "target" && name != "corpus" && name != "artifacts" {
                collect(&path, found);
            }
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = std::fs::read_to_string(&path).expect("UTF-8");
            found.push((path.strip_prefix(root()).expect("below the root").to_owned(), text));
        }
    }
}

fn all_sources() -> Vec<(PathBuf, String)> {
    let all: Vec<_> = ["src", "examples", "tests", "tools", "fuzz"].into_iter().flat_map(sources).collect();
    assert!(all.len() > 80, "the sources are found");
    all
}

/// The table in the documentation of `src/lib.rs`: module to level.
fn levels() -> BTreeMap<String, usize> {
    let lib = std::fs::read_to_string(root().join("src/lib.rs")).expect("src/lib.rs");
    let mut levels = BTreeMap::new();
    for line in lib.lines().filter_map(|line| line.strip_prefix("//! | ")) {
        let mut cells = line.split('|').map(str::trim);
        let (Some(Ok(level)), Some(modules)) = (cells.next().map(str::parse::<usize>), cells.next()) else { continue };
        for module in modules.split(['[', ']', '`', ',', ' ']).filter(|word| !word.is_empty()) {
            levels.insert(module.to_owned(), level);
        }
    }
    levels
}

/// The module of a file in `src`: its first component.
fn module(path: &Path) -> String {
    let below = path.strip_prefix("src").expect("a file in src");
    let first = below.iter().next().expect("a name").to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// The lines of code: without comments, which may name whom they like.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(number, line)| (number + 1, line.split("//").next().unwrap_or("")))
}

/// Nothing below the command line prints: notes go to whoever observes.
#[test]
fn only_the_program_and_its_progress_print() {
    for (path, text) in sources("src") {
        // clippy looks for the macros.
        let prints = ["stderr()", "stdout()", "report::say("];
        if ["src/cli", "src/report", "src/sys"].iter().any(|below| path.starts_with(below)) {
            continue;
        }
        for (number, line) in code(&text) {
            assert!(prints.iter().all(|print| !line.contains(print)), "{}:{number}: {line}", path.display());
        }
    }
}

/// The compiler asks for the documentation of what is public outside the crate; most of what is `pub` here is not.
#[test]
fn every_public_item_is_documented() {
    let items = ["fn", "const fn", "struct", "enum", "trait", "type", "const", "static"];
    for (path, text) in sources("src") {
        let mut documented = false;
        for (number, line) in text.lines().enumerate() {
            let line = line.trim_start();
            let public = line.strip_prefix("pub ").is_some_and(|rest| {
                items.iter().any(|item| rest.strip_prefix(item).is_some_and(|rest| rest.starts_with(' ')))
            });
            assert!(!public || documented || line.contains('$'), "{}:{}: {line}", path.display(), number + 1);
            // Attributes may be between the text and the item, on several lines too.
            documented = line.starts_with("///") || documented && !line.ends_with([';', '{', '}']) && !line.is_empty();
        }
    }
}

#[test]
fn unsafe_code_is_where_it_is_expected() {
    let keyword = concat!("un", "safe");
    let mut in_settings = 0;
    for (path, text) in all_sources() {
        if path.starts_with("src/sys") {
            continue;
        }
        for (number, line) in code(&text) {
            let words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
            let count = words.filter(|word| *word == keyword).count();
            if path == Path::new("src/job/settings.rs") {
                in_settings += count;
            } else {
                assert_eq!(count, 0, "{}:{number}: {line}", path.display());
            }
        }
    }
    assert_eq!(in_settings, 1, "the promise that inputs stay unchanged, and nothing else");
}

#[test]
fn no_file_is_too_long() {
    for (path, text) in all_sources() {
        let lines = text.lines().count();
        assert!(lines <= MOST_LINES, "{} has {lines} lines", path.display());
    }
}

#[test]
fn every_file_begins_with_what_it_is() {
    for (path, text) in all_sources() {
        // A fuzz target begins with the attribute that takes its main away.
        let start = text.trim_start_matches("#![no_main]").trim_start();
        assert!(start.starts_with("//! "), "{} does not begin with //!", path.display());
    }
}

#[test]
fn no_file_has_a_name_that_says_nothing() {
    for (path, _) in all_sources() {
        for part in &path {
            let name = part.to_string_lossy();
            let stem = name.trim_end_matches(".rs");
            assert!(!BANNED_NAMES.contains(&stem), "{}", path.display());
        }
    }
}

#[test]
fn every_folder_of_fixtures_tells_where_they_come_from() {
    let mut folders = 0;
    for entry in std::fs::read_dir(root().join("tests/data")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            folders += 1;
            let readme = std::fs::read_to_string(path.join("README.md")).unwrap_or_default();
            assert!(readme.len() > 100, "{} has no README", path.display());
        }
    }
    assert!(folders >= 4);
}

#[test]
fn the_fuzz_readme_and_script_name_every_target_and_nothing_else() {
    let main = |(path, text): (PathBuf, String)| text.contains("fuzz_target!").then_some(path);
    let targets: Vec<String> = sources("fuzz/fuzz_targets")
        .into_iter()
        .filter_map(main)
        .map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned())
        .collect();
    assert!(!targets.is_empty(), "the targets are found");
    let text = |name: &str| std::fs::read_to_string(root().join(name)).expect(name);
    let sorted = |mut names: Vec<String>| {
        names.sort();
        names
    };
    let readme = text("fuzz/README.md");
    let rows = readme.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    assert_eq!(sorted(rows.map(str::to_owned).collect()), targets, "fuzz/README.md");
    let script = text("tools/fuzz.sh");
    let seeds = script.lines().filter_map(|line| line.trim().strip_prefix('[')?.split_once("]='"));
    assert_eq!(sorted(seeds.map(|(name, _)| name.to_owned()).collect()), targets, "tools/fuzz.sh");
}

/// A reason that names a module of the crate must name one that is there.
#[test]
fn the_reasons_in_clippy_toml_name_modules_that_exist() {
    let text = std::fs::read_to_string(root().join("clippy.toml")).expect("clippy.toml");
    let modules = levels();
    let mut named = 0;
    for reason in text.lines().filter_map(|line| line.split("reason = \"").nth(1)) {
        for word in reason.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')) {
            let word = word.trim_end_matches(':');
            let Some((module, item)) = word.split_once("::") else { continue };
            assert!(modules.contains_key(module), "{word}");
            let below = sources(&format!("src/{module}"));
            let item = item.rsplit("::").next().unwrap_or(item);
            let says = |text: &str| {
                ["fn", "struct", "mod", "enum"].iter().any(|kind| text.contains(&format!("{kind} {item}")))
            };
            assert!(below.iter().any(|(_, text)| says(text)), "{word} is not in src/{module}");
            named += 1;
        }
    }
    assert!(named > 0, "the reasons name something");
}
