//! Every error text of the program is explained in `docs/en/troubleshooting.md` and `docs/zh/troubleshooting.md`.
//!
//! A text is there as the source has it, with `…` in the place of a value. Texts that only hand on another one (`{path}: {source}`)
//! have no words of their own and are exempt. What the pages list beside errors, as notes and findings, must be in the source, too.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The pages, and how their explanations begin.
const PAGES: [(&str, [&str; 2]); 2] = [
    ("docs/en/troubleshooting.md", ["- Meaning: ", "- What to do: "]),
    ("docs/zh/troubleshooting.md", ["- 含义：", "- 处理："]),
];

/// What comes before the literal of an error.
const ERRORS: [&str; 3] = ["#[error(", "Error::Usage(", "Error::Usage(format!("];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(dir: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") && !path.to_string_lossy().ends_with("tests.rs") {
            let text = std::fs::read_to_string(&path).expect("UTF-8");
            let own = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned();
            found.push((path.strip_prefix(root()).expect("below the root").to_owned(), own));
        }
    }
}

/// The literals of a source, and its code with each of them as `""`. The number is where in that code a literal is.
#[derive(Default)]
struct Lexed {
    code: String,
    literals: Vec<(usize, String)>,
}

fn lex(text: &str) -> Lexed {
    let mut lexed = Lexed::default();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if rest.starts_with("//") {
            rest = &rest[rest.find('\n').unwrap_or(rest.len())..];
        } else if let Some(raw) = ["r\"", "r#\""].into_iter().find(|raw| rest.starts_with(raw) && !in_word(&lexed.code))
        {
            let end = raw[1..].chars().rev().collect::<String>();
            let body = &rest[raw.len()..];
            let length = body.find(&end).expect("a raw literal ends");
            lexed.literal(body[..length].to_owned());
            rest = &body[length + end.len()..];
        } else if c == '"' {
            let (literal, after) = unescape(&rest[1..]);
            lexed.literal(literal);
            rest = after;
        } else if c == '\'' {
            // A character; a lifetime has no quote after it.
            let body = &rest[1..];
            let skip = if body.starts_with('\\') { 2 } else { body.chars().next().map_or(0, char::len_utf8) };
            let end = body[skip..].find('\'').filter(|&end| end == 0 || body.starts_with('\\'));
            rest = end.map_or(body, |end| &body[skip + end + 1..]);
        } else {
            lexed.code.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    lexed
}

fn in_word(code: &str) -> bool {
    code.chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_')
}

/// A literal from after its first quote, and what follows it.
fn unescape(text: &str) -> (String, &str) {
    let mut literal = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (literal, &text[at + 1..]),
            '\\' => match chars.next().expect("an escape").1 {
                '\n' => {
                    let rest = chars.as_str();
                    let skipped = rest.len() - rest.trim_start().len();
                    chars = text[text.len() - rest.len() + skipped..].char_indices();
                    let (more, after) = unescape(chars.as_str());
                    return (literal + &more, after);
                }
                'n' => literal.push('\n'),
                't' => literal.push('\t'),
                other => literal.push(other),
            },
            c => literal.push(c),
        }
    }
    panic!("a literal without an end");
}

impl Lexed {
    fn literal(&mut self, text: String) {
        self.literals.push((self.code.len(), text));
        self.code.push_str("\"\"");
    }

    /// The literals that are texts of errors, those that an error gets by a name included.
    fn errors(&self) -> Vec<&str> {
        let before = |at: usize| self.code[..at].trim_end();
        let mut found: Vec<&str> = Vec::new();
        for (at, text) in &self.literals {
            if ERRORS.iter().any(|start| before(*at).ends_with(start)) {
                found.push(text);
            }
        }
        for (at, start) in self.code.match_indices("Error::Usage(") {
            let word: String =
                self.code[at + start.len()..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let named = [format!("let {word} ="), format!("let {word} = format!(")];
            let named = |literal: &&(usize, String)| {
                let code: String = before(literal.0).split_whitespace().collect::<Vec<_>>().join(" ");
                literal.0 < at && !word.is_empty() && named.iter().any(|start| code.ends_with(start))
            };
            found.extend(self.literals.iter().rev().find(named).map(|(_, text)| text.as_str()));
        }
        found
    }
}

/// A literal as a user sees it, with `…` for each value.
fn shown(literal: &str) -> String {
    let mut shown = String::new();
    let mut chars = literal.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '{' | '}' if chars.peek() == Some(&c) => shown.extend(chars.next()),
            '{' => {
                chars.by_ref().find(|c| *c == '}');
                shown.push('…');
            }
            c => shown.push(c),
        }
    }
    shown
}

/// A text that only hands on what others say has no letters of its own.
fn has_words(text: &str) -> bool {
    text.chars().any(char::is_alphabetic)
}

/// The texts of errors and where they are, and all literals.
fn of_the_source() -> (BTreeMap<String, PathBuf>, BTreeSet<String>) {
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    let (mut errors, mut all) = (BTreeMap::new(), BTreeSet::new());
    for (path, text) in files {
        let lexed = lex(&text);
        all.extend(lexed.literals.iter().map(|(_, literal)| shown(literal)));
        for text in lexed.errors().into_iter().map(shown).filter(|text| has_words(text)) {
            errors.insert(text, path.clone());
        }
    }
    (errors, all)
}

/// The text of a line of the form `**CODE**`.
fn entry(line: &str) -> Option<&str> {
    let code = line.strip_prefix("**`")?.strip_suffix("`**")?;
    Some(code.strip_prefix("` ").and_then(|code| code.strip_suffix(" `")).unwrap_or(code))
}

fn page(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn entries(page: &str) -> Vec<&str> {
    page.lines().filter_map(entry).collect()
}

#[test]
fn every_error_text_is_explained_in_both_languages() {
    let (errors, _) = of_the_source();
    assert!(errors.len() > 200, "{}: the texts are found", errors.len());
    for (name, [meaning, remedy]) in PAGES {
        let text = page(name);
        let explained: BTreeSet<&str> = entries(&text).into_iter().collect();
        let missing: Vec<String> = errors
            .iter()
            .filter(|(error, _)| !explained.contains(error.as_str()))
            .map(|(error, path)| {
                let code = if error.contains('`') { format!("`` {error} ``") } else { format!("`{error}`") };
                format!("**{code}**\n\n{meaning}...\n{remedy}...\n(from {})\n", path.display())
            })
            .collect();
        assert!(
            missing.is_empty(),
            "{name} does not explain these error texts; add each to the group of what the user was doing, alone or with those \
             that share its explanation:\n\n{}",
            missing.join("\n")
        );
    }
}

#[test]
fn no_text_is_explained_that_the_program_does_not_have() {
    let (_, all) = of_the_source();
    for (name, _) in PAGES {
        let text = page(name);
        let stale: Vec<&str> = entries(&text).into_iter().filter(|text| !all.contains(*text)).collect();
        assert!(stale.is_empty(), "{name} explains texts that are nowhere in src; correct or remove them: {stale:#?}");
    }
}

#[test]
fn each_text_is_listed_once_with_its_meaning_and_what_to_do() {
    let [english, chinese] = PAGES.map(|(name, _)| page(name));
    assert_eq!(entries(&english), entries(&chinese), "the pages list the same texts in the same order");
    for (name, labels) in PAGES {
        let text = page(name);
        let listed = entries(&text);
        assert_eq!(listed.iter().collect::<BTreeSet<_>>().len(), listed.len(), "{name} lists a text twice");
        let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
        for (at, line) in lines.iter().enumerate().filter(|(_, line)| entry(line).is_some()) {
            let after = lines[at..].iter().skip_while(|line| entry(line).is_some());
            for (label, explanation) in labels.iter().zip(after) {
                let words = explanation.strip_prefix(label).unwrap_or_else(|| panic!("{name}: {line}: no `{label}`"));
                let chinese = |c: char| ('\u{4e00}'..='\u{9fff}').contains(&c);
                assert!(words.len() > 8 && words.contains(chinese) == name.contains("/zh/"), "{name}: {line}: {words}");
            }
        }
    }
}

#[test]
fn the_reader_of_sources_finds_each_way_to_write_an_error() {
    let source = concat!(
        "// #[error(\"a comment\")]\n",
        "#[error(\"one {0} and {{braces}}\")]\n",
        "#[error(\n    \"two \\\n     lines of `{name:?}`\", .x\n)]\n",
        "let c = ['\"', '\\'', '\\\\']; fn f<'a>(x: &'a str) {}\n",
        "Err(Error::Usage(format!(\n    \"three {a}\"\n)))\n",
        "Error::Usage(\"four \\\"quoted\\\"\".to_owned());\n",
        "let why =\n    \"five\"; return Err(Error::Usage(why.to_owned()));\n",
        "let raw = r#\"{\"no\": 1}\"#; note(\"no error\");\n",
        "#[error(\"{path}: {0}\")]\n",
    );
    let lexed = lex(source);
    let found: BTreeSet<String> = lexed.errors().into_iter().map(shown).collect();
    let expected = ["one … and {braces}", "two lines of `…`", "three …", "four \"quoted\"", "five", "…: …"];
    assert_eq!(found, expected.map(str::to_owned).into_iter().collect());
    assert!(!has_words("…: …") && has_words("line …: …"));
    assert!(lexed.literals.iter().any(|(_, text)| text == "no error"), "all literals are found");
    assert_eq!(entry("**`` a `b` ``**"), Some("a `b`"));
    assert_eq!(entry("**`plain …`**"), Some("plain …"));
    assert_eq!(entry("**bold**"), None);
}
