//! Rust source as tokens, without comments.

/// A token, as far as the checks distinguish them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A name or keyword.
    Name(String),
    /// What a string literal says, escapes as they are written.
    Text(String),
    /// `::`
    Path,
    /// Any other character that is not part of a number, character or lifetime.
    Mark(char),
}

/// The tokens of a file.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    let mut scanner = Scanner { rest: text, tokens: Vec::new() };
    while scanner.step() {}
    scanner.tokens
}

struct Scanner<'a> {
    rest: &'a str,
    tokens: Vec<Token>,
}

impl Scanner<'_> {
    fn step(&mut self) -> bool {
        let Some(first) = self.rest.chars().next() else { return false };
        if first.is_whitespace() {
            self.rest = self.rest.trim_start();
        } else if self.rest.starts_with("//") {
            self.rest = self.rest.split_once('\n').map_or("", |(_, rest)| rest);
        } else if self.rest.starts_with("/*") {
            self.skip_comment();
        } else if self.string() {
        } else if first.is_alphabetic() || first == '_' {
            let name = self.take_while(|c| c.is_alphanumeric() || c == '_').to_owned();
            self.tokens.push(Token::Name(name));
        } else if first.is_ascii_digit() {
            self.take_while(|c| c.is_alphanumeric() || c == '_');
        } else if first == '\'' {
            self.skip_quote();
        } else if let Some(rest) = self.rest.strip_prefix("::") {
            self.rest = rest;
            self.tokens.push(Token::Path);
        } else {
            self.rest = &self.rest[first.len_utf8()..];
            self.tokens.push(Token::Mark(first));
        }
        true
    }

    fn take_while(&mut self, mut of: impl FnMut(char) -> bool) -> &str {
        let end = self.rest.find(|c| !of(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    /// Comments may hold others.
    fn skip_comment(&mut self) {
        let mut depth = 0;
        while !self.rest.is_empty() {
            let (opens, closes) = (self.rest.starts_with("/*"), self.rest.starts_with("*/"));
            let len = if opens || closes { 2 } else { self.rest.chars().next().map_or(1, char::len_utf8) };
            self.rest = &self.rest[len..];
            depth += i32::from(opens) - i32::from(closes);
            if depth == 0 {
                return;
            }
        }
    }

    /// A string with any prefix, raw or not.
    fn string(&mut self) -> bool {
        let after_kind = self.rest.trim_start_matches(['b', 'c']);
        if self.rest.len() - after_kind.len() > 1 {
            return false;
        }
        let (raw, after) = after_kind.strip_prefix('r').map_or((false, after_kind), |rest| (true, rest));
        let hashes = if raw { after.len() - after.trim_start_matches('#').len() } else { 0 };
        let Some(body) = after[hashes..].strip_prefix('"') else { return false };
        let end = if raw {
            body.find(&format!("\"{}", "#".repeat(hashes)))
        } else {
            let mut escaped = false;
            body.find(|c| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            })
        };
        let end = end.unwrap_or(body.len());
        self.tokens.push(Token::Text(body[..end].to_owned()));
        self.rest = body.get(end + 1 + hashes..).unwrap_or("");
        true
    }

    /// A character or a lifetime.
    fn skip_quote(&mut self) {
        let body = &self.rest[1..];
        let mut chars = body.char_indices();
        let end = match chars.next() {
            Some((_, '\\')) => chars.skip(1).find(|(_, c)| *c == '\'').map(|(at, _)| at + 1),
            Some(_) => chars.next().filter(|(_, c)| *c == '\'').map(|(at, _)| at + 1),
            None => None,
        };
        self.rest = match end {
            Some(end) => &body[end..],
            None => body.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_'),
        };
    }
}

#[test]
fn strings_comments_and_characters_are_told_apart() {
    let text =
        ["a::b /* x /* y */ */ \"s\\\"t\" // \"no\"", "r#\"raw \"text\"\"# b'\"' '\\'' 'a 1.0e5 b\"bytes\" c\"\""];
    let text = text.join("\n");
    let name = |text: &str| Token::Name(text.to_owned());
    let string = |text: &str| Token::Text(text.to_owned());
    // A byte character is its prefix and a character that is skipped.
    let expected = [
        name("a"),
        Token::Path,
        name("b"),
        string("s\\\"t"),
        string("raw \"text\""),
        name("b"),
        Token::Mark('.'),
        string("bytes"),
        string(""),
    ];
    assert_eq!(tokens(&text), expected);
}
