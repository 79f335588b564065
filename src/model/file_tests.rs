//! Family files that are wrong: every line of them is said, and nothing that only follows.

use super::*;
use crate::model::{Captures, Share, Value, builtin_family, registered};

fn errors(text: &str) -> Vec<String> {
    let base = |name: &str| builtin_family(name).cloned();
    match Family::read("mine.yaml", text, &base) {
        Ok(family) => panic!("{} is read", family.name),
        Err(errors) => errors.0.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn each_broken_line_is_one_error_with_its_number() {
    let text = "
family: mine
extends: dense
model_typs: [mine]
params:
  layer:
    bias: {dims: [[Hidden]], rol: bias}
    bad: {dims: [hidden]}
    cut: {dims: [[Hidden]], cut: Vocab}
    when:
      dims: [[Hidden]]
      when: {if: 'a +'}
    role: {dims: [[Hidden]], role: header}
sizes:
  config.json:
    Ffn: (intermediate_size
schemes:
  hf:
    extends: [hf-tops]
    names:
      \"model.layers.{l}.\":
        mlp.x.weight: nothing
        mlp.y.weight: {join: [gate, down]}
        mlp.z.weight: bias
        mlp.{x}.weight: gate
        mlp.w.weight: {is: gate}
      \"model.\":
        gate.weight: gate
";
    let found = errors(text);
    let lines = [
        "line 4: the file: `model_typs` is not a key here; known are family, ",
        "line 7: params bias: `rol` is not a key here; known are dims, ",
        "line 8: params bad: it is not a list",
        "line 9: params cut: it is cut over Vocab, which is none of its axes",
        "line 12: params when: the expression ends too early",
        "line 13: params role: its role is one of embedding, ",
        "line 16: sizes config.json Ffn: `)` is missing",
        "line 19: schemes hf: `hf-tops` is neither a fragment nor an inherited scheme",
        "line 22: schemes hf model.layers.{l}.mlp.x.weight: `nothing` is not a parameter",
        "line 23: schemes hf model.layers.{l}.mlp.y.weight: ",
        "line 25: schemes hf model.layers.{l}.mlp.{x}.weight: ",
        "line 26: schemes hf model.layers.{l}.mlp.w.weight: it is neither a parameter, nor {is, dims}, ",
        "line 28: schemes hf model.gate.weight: `gate` and the name do not agree on whether there are layers",
    ];
    assert_eq!(found.len(), lines.len(), "{found:#?}");
    for (error, line) in found.iter().zip(lines) {
        assert!(error.starts_with(&format!("the family file `mine.yaml`, {line}")), "{error}\n{line}");
    }
}

#[test]
fn what_is_no_family_file_is_one_error() {
    let base = errors("family: mine\nextends: densely\nparams: 3\n");
    assert_eq!(base, ["the family file `mine.yaml`, line 2: it extends `densely`, which is not a family"]);
    for (text, what) in [
        ("family: [", "line 1"),
        ("a: 1\na: 2\n", "the key `a` is there twice, at line 2"),
        ("- a\n", "line 1: the file: it is not a mapping"),
        ("params: {}\n", "line 1: family: the name is missing"),
        (&"x".repeat(2 << 20), "more than 1048576"),
    ] {
        let found = errors(text);
        assert!(found.len() == 1 && found[0].contains(what), "{found:?}");
    }
    // A parameter with other axes than the rows that are inherited know.
    let found =
        errors("family: mine\nextends: dense\nparams: {layer: {gate: {dims: [[Other], [Hidden]], cut: Other}}}\n");
    assert!(found.iter().all(|error| error.contains("which it inherits, does not fit its parameters")), "{found:?}");
}

/// The files of the program with a line, a character or a word of another file in the wrong place: an error or a family, and of a
/// family every element of what is stored is of one part.
#[test]
fn a_file_that_is_changed_anywhere_is_an_error_or_a_family() {
    let words =
        ["[]", "{}", "null", "-1", "Hidden", "layer", "q", "{l}", "[[Hidden]]", "{join: [q, q]}", "*x", "1 / 0", "|"];
    let fields =
        [("hidden_size", 64.0), ("num_hidden_layers", 2.0), ("num_attention_heads", 8.0), ("vocab_size", 96.0)];
    let more = [
        ("intermediate_size", 48.0),
        ("num_experts", 4.0),
        ("num_local_experts", 4.0),
        ("moe_intermediate_size", 16.0),
    ];
    let fields = fields.into_iter().chain(more).map(|(name, n)| (name.to_owned(), Value::Number(n))).collect();
    let (mut families, mut errors) = (0, 0);
    let mut state = 1u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below.max(1)
    };
    for known in registered() {
        for _ in 0..150 {
            let mut lines: Vec<String> = known.text.lines().map(str::to_owned).collect();
            let at = random(lines.len());
            match random(4) {
                0 => _ = lines.remove(at),
                1 => lines.insert(at, lines[random(lines.len())].clone()),
                2 => lines.swap(at, random(known.text.lines().count())),
                _ => {
                    let line = &lines[at];
                    let cut = line.char_indices().nth(random(line.chars().count())).map_or(0, |(at, _)| at);
                    lines[at] = format!("{}{}{}", &line[..cut], words[random(words.len())], &line[cut..]);
                }
            }
            let text = lines.join("\n");
            match Family::read("changed.yaml", &text, &|name| builtin_family(name).cloned()) {
                Err(found) => {
                    errors += 1;
                    assert!(!found.0.is_empty() && !found.to_string().is_empty(), "{text}");
                }
                Ok(family) => {
                    families += 1;
                    let Ok(sizes) = family.sizes("config.json", &fields) else { continue };
                    for row in family.schemes.iter().flat_map(|scheme| &scheme.rows) {
                        let name = row.pattern.name(Captures { layer: Some(1), expert: Some(0) }).unwrap();
                        let captures = row.pattern.matches(&name).unwrap();
                        let Ok(stored) = family.stored(row, captures, &sizes, Share::WHOLE) else { continue };
                        let parts = stored.parts.iter().map(|part| part.piece.region.len().iter().product::<u64>());
                        assert_eq!(parts.sum::<u64>(), stored.dims.iter().product::<u64>(), "{name}: {text}");
                    }
                }
            }
        }
    }
    assert!(families > 200 && errors > 200, "{families} {errors}");
}
