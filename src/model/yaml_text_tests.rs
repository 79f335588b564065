//! What is read is what `PyYAML` reads, and hostile files are refused in one line.

use serde_json::json;

use super::*;

/// Where another value than `PyYAML`'s is read, and which.
fn differences() -> Vec<(&'static str, Value)> {
    vec![
        // Numbers in YAML 1.2 and for those who write them; PyYAML requires a point.
        ("/scalars/short_floats", json!([1e-5, 1e-6, 1e3])),
        // 8 or 10, as the version of YAML has it: left as texts, which no number takes.
        ("/scalars/leading_zeros", json!(["010", "00", "08"])),
        // Flags in YAML 1.1 only: left as texts, which no flag takes.
        ("/scalars/old_flags", json!(["yes", "No", "on", "Off"])),
    ]
}

fn fixture(name: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/yaml").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn the_values_are_those_of_pyyaml() {
    let mut expected: Value = serde_json::from_str(&fixture("expected.json")).unwrap();
    for (place, ours) in differences() {
        let theirs = expected.pointer_mut(place).unwrap_or_else(|| panic!("no {place}"));
        assert_ne!(*theirs, ours, "{place} is no difference");
        *theirs = ours;
    }
    let files = expected.as_object().unwrap();
    assert_eq!(files.len(), 4);
    for (name, expected) in files {
        let found = read(&fixture(&format!("{name}.yaml"))).unwrap();
        for (key, value) in expected.as_object().unwrap() {
            assert_eq!(&found[key], value, "{name}: {key}");
        }
        assert_eq!(&found, expected, "{name}");
    }
}

#[test]
fn what_is_wrong_is_said_in_one_line_with_its_place() {
    for (text, said) in [
        ("model:\n  x: 1\n y: 2\n", "line 3"),
        ("model:\n\tx: 1\n", "tabs"),
        ("a: \"open\nb: 1\n", "line 1"),
        ("a: {b: 1\nc: 2\n", "line 2"),
        ("a: b: c\n", "line 1"),
        ("a: @x\n", "line 1"),
        ("a: *nope\n", "unknown anchor at line 1"),
        ("a: 1\nb: 2\na: 3\n", "the key `a` is there twice, at line 3"),
        ("a: 1\n---\nb: 2\n", "more than one document"),
        ("a: &a [*a]\n", "an alias names what it is in"),
        ("[", "line 1"),
        ("\u{1}", "line 1"),
    ] {
        let error = read(text).unwrap_err().to_string();
        assert!(error.starts_with("the model configuration is not readable: ") && error.contains(said), "{error}");
        assert!(!error.contains('\n') && !error.contains("Options"), "{error}");
    }
    assert_eq!(read("").unwrap(), Value::Null);
}

/// As many texts one after the other, each made from its number.
fn repeat(count: usize, make: impl Fn(usize) -> String) -> String {
    (0..count).map(make).collect::<Vec<_>>().concat()
}

/// Each would be gigabytes, minutes or the end of the stack.
#[test]
fn bombs_are_refused_by_the_limit_that_they_meet() {
    let keys = repeat(10_000, |n| format!("k{n}: 1, "));
    let merges = |count: usize| {
        let entries = repeat(count, |n| format!("  c{n}:\n    <<: *a\n"));
        format!("a: &a {{{keys}}}\nb:\n{entries}")
    };
    let each_names_the_last: String = repeat(30, |n| {
        format!("a{n}: &a{n} [{}]\n", if n == 0 { "x,".into() } else { format!("*a{},", n - 1).repeat(9) })
    });
    let values = "more than 100000 values, aliases and merge keys (<<) included";
    for (what, text, said) in [
        ("aliases", format!("a: &a [{}]\nb: [{}]\n", "x,".repeat(10_000), "*a,".repeat(10_000)), values),
        ("aliases of aliases", each_names_the_last, values),
        ("merge keys", merges(10_000), values),
        ("a few merge keys", merges(90), values),
        ("merged lists", format!("a: &a {{{keys}}}\nb:\n  <<: [{}]\n", "*a,".repeat(900)), values),
        (
            "merges of nothing",
            format!("a: &a {{}}\n{}", repeat(101, |n| format!("c{n}: {{<<: *a}}\n"))),
            "more than 100 merge keys",
        ),
        ("aliases of nothing", format!("a: &a []\nb: [{}]\n", "*a,".repeat(1001)), "more than 1000 aliases"),
        (
            "texts",
            format!("a: &a '{}'\nb: [{}]\n", "x".repeat(3_000_000), "*a,".repeat(900)),
            "more than 16777216 bytes of text",
        ),
        ("values", "x,".repeat(100_001).replacen('x', "[x", 1) + "]", values),
        ("brackets", "[".repeat(100_000), "more than 64 levels"),
        ("braces", "{a: ".repeat(100_000), "more than 64 levels"),
        ("dashes", "- ".repeat(100_000), "more than 64 levels"),
        ("keys", "? ".repeat(100_000), "more than 64 levels"),
        ("indentation", repeat(2000, |n| format!("{}a:\n", " ".repeat(n))), "more than 64 levels"),
        ("bytes", " ".repeat(MAX_CONFIG_BYTES + 1), "4194305 bytes, more than 4194304"),
    ] {
        let error = read(&text).expect_err(what).to_string();
        assert!(error.contains(said), "{what}: {error}");
    }
    // What is barely within them is read.
    assert!(read(&("[".repeat(64) + &"]".repeat(64))).is_ok());
    assert!(read(&format!("a: &a [{}]\nb: [{}]\n", "x,".repeat(90), "*a,".repeat(900))).is_ok());
}
