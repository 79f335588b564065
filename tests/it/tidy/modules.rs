//! The modules of a crate: what each defines, imports and names, tests left out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::tokens::{Token, tokens};

/// One name that a `use` brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Import {
    pub(super) path: Vec<String>,
    /// Under which name it is known here; `*` for all of a module's.
    pub(super) name: String,
    pub(super) public: bool,
}

/// A module that is not a test.
#[derive(Debug, Default)]
pub(super) struct Module {
    pub(super) file: PathBuf,
    pub(super) parent: Option<usize>,
    pub(super) children: BTreeMap<String, usize>,
    pub(super) items: BTreeSet<String>,
    pub(super) imports: Vec<Import>,
    /// All paths outside of imports, single names among them.
    pub(super) paths: Vec<Vec<String>>,
    /// All string literals.
    pub(super) texts: Vec<String>,
}

/// A crate; its root is the first module.
#[derive(Debug, Default)]
pub(super) struct Crate {
    pub(super) modules: Vec<Module>,
}

const ITEMS: [&str; 8] = ["fn", "struct", "enum", "union", "trait", "type", "const", "static"];

impl Crate {
    /// The modules that are reached from `root`.
    pub(super) fn new(files: &BTreeMap<PathBuf, String>, root: &Path) -> Self {
        let mut all = Self::default();
        all.add_file(files, root, root.parent().unwrap_or(root), None);
        all
    }

    /// `dir`: where the files of its submodules are.
    fn add_file(
        &mut self,
        files: &BTreeMap<PathBuf, String>,
        path: &Path,
        dir: &Path,
        parent: Option<usize>,
    ) -> Option<usize> {
        let tokens = without_tests(&tokens(files.get(path)?));
        Some(self.add(files, path, dir, parent, &tokens))
    }

    fn add(
        &mut self,
        files: &BTreeMap<PathBuf, String>,
        path: &Path,
        dir: &Path,
        parent: Option<usize>,
        tokens: &[Token],
    ) -> usize {
        let index = self.modules.len();
        self.modules.push(Module { file: path.to_owned(), parent, ..Module::default() });
        let (mut at, mut depth) = (0, 0);
        while let Some(token) = tokens.get(at) {
            match token {
                Token::Mark('{') => depth += 1,
                Token::Mark('}') => depth -= 1,
                Token::Text(text) => self.modules[index].texts.push(text.clone()),
                Token::Name(word) => {
                    let next = name(tokens.get(at + 1));
                    match (word.as_str(), next) {
                        ("use", _) if tokens.get(at + 1) != Some(&Token::Mark('<')) => {
                            let public = is_public(&tokens[..at]);
                            at = imports(tokens, at + 1, &mut self.modules[index].imports, public);
                            continue;
                        }
                        ("mod", Some(child)) if depth == 0 => {
                            let below = dir.join(child);
                            let (added, end) = if tokens.get(at + 2) == Some(&Token::Mark('{')) {
                                let end = closing(tokens, at + 2);
                                (Some(self.add(files, path, &below, Some(index), &tokens[at + 3..end])), end)
                            } else {
                                let candidates = [dir.join(format!("{child}.rs")), below.join("mod.rs")];
                                let found = candidates.iter().find(|path| files.contains_key(*path));
                                (found.and_then(|file| self.add_file(files, file, &below, Some(index))), at + 1)
                            };
                            self.modules[index].children.extend(added.map(|added| (child.to_owned(), added)));
                            at = end + 1;
                            continue;
                        }
                        (word, Some(item)) if depth == 0 && ITEMS.contains(&word) && !ITEMS.contains(&item) => {
                            self.modules[index].items.insert(item.to_owned());
                        }
                        ("macro_rules", _) if depth == 0 => {
                            self.modules[index].items.extend(name(tokens.get(at + 2)).map(str::to_owned));
                        }
                        _ => {}
                    }
                    if begins_path(tokens, at) {
                        let path = path_at(tokens, at);
                        self.modules[index].paths.push(path);
                    }
                }
                _ => {}
            }
            at += 1;
        }
        index
    }
}

fn name(token: Option<&Token>) -> Option<&str> {
    if let Some(Token::Name(name)) = token { Some(name) } else { None }
}

/// Whether the name at a place may begin a path: it is no later segment, field or method.
fn begins_path(tokens: &[Token], at: usize) -> bool {
    let before = |n: usize| at.checked_sub(n).and_then(|at| tokens.get(at));
    let is_member = before(1) == Some(&Token::Mark('.')) && before(2) != Some(&Token::Mark('.'));
    let is_named = tokens.get(at + 1) == Some(&Token::Mark(':'));
    before(1) != Some(&Token::Path) && !is_member && !is_named
}

/// The path that begins with a name.
fn path_at(tokens: &[Token], mut at: usize) -> Vec<String> {
    let mut path = Vec::new();
    while let Some(name) = name(tokens.get(at)) {
        path.push(name.to_owned());
        if tokens.get(at + 1) != Some(&Token::Path) {
            break;
        }
        at += 2;
    }
    path
}

/// Whether `pub` or `pub(…)` precedes.
fn is_public(before: &[Token]) -> bool {
    let named = |at: usize| name(before.get(at)) == Some("pub");
    match before.iter().rposition(|t| *t == Token::Mark('(')) {
        Some(open) if before.last() == Some(&Token::Mark(')')) => open > 0 && named(open - 1),
        _ => !before.is_empty() && named(before.len() - 1),
    }
}

/// Where the bracket that opens at `open` closes.
fn closing(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token {
            Token::Mark('{' | '(' | '[') => depth += 1,
            Token::Mark('}' | ')' | ']') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    tokens.len()
}

/// Reads a `use` from the token after the word to the semicolon; returns where that is.
fn imports(tokens: &[Token], from: usize, found: &mut Vec<Import>, public: bool) -> usize {
    let end = (from..tokens.len()).find(|at| tokens[*at] == Token::Mark(';')).unwrap_or(tokens.len());
    tree(&tokens[from..end], &[], found, public);
    end
}

/// One tree, or several with commas between them.
fn tree(tokens: &[Token], prefix: &[String], found: &mut Vec<Import>, public: bool) {
    let mut at = 0;
    while at < tokens.len() {
        let mut path = prefix.to_vec();
        let mut local = None;
        while let Some(token) = tokens.get(at) {
            match token {
                Token::Name(word) if word == "as" => {
                    local = name(tokens.get(at + 1)).map(str::to_owned);
                    at += 1;
                }
                Token::Name(word) => path.push(word.clone()),
                Token::Mark('*') => local = Some("*".to_owned()),
                Token::Mark('{') => {
                    let end = closing(tokens, at);
                    tree(&tokens[at + 1..end], &path, found, public);
                    path.clear();
                    at = end;
                }
                Token::Mark(',') => break,
                _ => {}
            }
            at += 1;
        }
        // `a::{self}` is `a`.
        if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
            path.pop();
        }
        if let Some(last) = path.last() {
            let name = local.unwrap_or_else(|| last.clone());
            found.push(Import { path, name, public });
        }
        at += 1;
    }
}

/// The tokens without those of items under `#[cfg(test)]`, and without other attributes' names.
fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let (mut kept, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        let is_attribute = tokens[at] == Token::Mark('#') && tokens.get(at + 1) == Some(&Token::Mark('['));
        if !is_attribute {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        let end = closing(tokens, at + 1);
        let names: Vec<&str> = tokens[at..end].iter().filter_map(|token| name(Some(token))).collect();
        if names.starts_with(&["cfg"]) && names.contains(&"test") && !names.contains(&"not") {
            at = item_end(tokens, end + 1);
        } else {
            kept.extend_from_slice(&tokens[at..=end.min(tokens.len() - 1)]);
            at = end + 1;
        }
    }
    kept
}

/// Where the item, field or statement that begins at `from` has ended.
fn item_end(tokens: &[Token], mut from: usize) -> usize {
    // Further attributes belong to the item.
    while tokens.get(from) == Some(&Token::Mark('#')) {
        from = closing(tokens, from + 1) + 1;
    }
    let is_field = tokens.get(from + 1) == Some(&Token::Mark(':'));
    let mut at = from;
    while let Some(token) = tokens.get(at) {
        match token {
            Token::Mark('(' | '[') => at = closing(tokens, at),
            Token::Mark('{') => return closing(tokens, at) + 1,
            Token::Mark(';') => return at + 1,
            Token::Mark(',') if is_field => return at + 1,
            _ => {}
        }
        at += 1;
    }
    at
}
