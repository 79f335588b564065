//! Name patterns: literal text with numbered captures, `model.layers.{l}.mlp.experts.{e}.up_proj.weight`.

use std::fmt;

use super::index::Key;

/// More layers, and more experts, than any model has. Larger numbers are not taken for one.
pub const MAX_LAYERS: u32 = 10_000;

/// The number at the beginning of a text, and what follows it. Numbers are canonical: `01` is not one.
pub(super) fn number(text: &str) -> Option<(u32, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, after) = text.split_at(digits);
    let canonical = number.len() == 1 || !number.starts_with('0');
    Some((number.parse().ok().filter(|&n: &u32| canonical && n < MAX_LAYERS)?, after))
}

/// What the captures of a name are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Captures {
    /// `{l}`: the layer.
    pub layer: Option<u32>,
    /// `{e}`: the expert.
    pub expert: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Text(String),
    Layer,
    Expert,
}

/// A pattern of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Vec<Token>);

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// A brace without its other, a capture that is not `{l}` or `{e}`, a capture twice, two captures side by side.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut tokens: Vec<Token> = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let Some(open) = rest.find(['{', '}']) else {
                tokens.push(Token::Text(rest.to_owned()));
                break;
            };
            if open > 0 {
                tokens.push(Token::Text(rest[..open].to_owned()));
            }
            let (token, length) = match &rest[open..] {
                capture if capture.starts_with("{l}") => (Token::Layer, 3),
                capture if capture.starts_with("{e}") => (Token::Expert, 3),
                _ => return Err(format!("`{text}` has a brace that belongs to neither {{l}} nor {{e}}")),
            };
            if tokens.contains(&token) {
                return Err(format!("`{text}` has a capture twice"));
            }
            if matches!(tokens.last(), Some(Token::Layer | Token::Expert)) {
                return Err(format!("`{text}` has two captures without text between them"));
            }
            tokens.push(token);
            rest = &rest[open + length..];
        }
        Ok(Self(tokens))
    }

    /// The captures, where the name is of this pattern.
    pub fn matches(&self, name: &str) -> Option<Captures> {
        self.begins(name).filter(|(_, rest)| rest.is_empty()).map(|(captures, _)| captures)
    }

    /// The captures, where the name begins with this pattern, and the rest of the name.
    pub fn begins<'a>(&self, name: &'a str) -> Option<(Captures, &'a str)> {
        let mut found = Captures::default();
        let mut rest = name;
        for token in &self.0 {
            match token {
                Token::Text(text) => rest = rest.strip_prefix(text.as_str())?,
                Token::Layer | Token::Expert => {
                    let (number, after) = number(rest)?;
                    match token {
                        Token::Layer => found.layer = Some(number),
                        _ => found.expert = Some(number),
                    }
                    rest = after;
                }
            }
        }
        Some((found, rest))
    }

    /// The first component of the names, with its full stop; `None` where it is captured, or the only one.
    pub fn first_component(&self) -> Option<&str> {
        match self.0.first()? {
            Token::Text(text) => text.find('.').map(|at| &text[..=at]),
            Token::Layer | Token::Expert => None,
        }
    }

    /// The pattern without this end; `None` where it has another.
    pub fn without(&self, end: &str) -> Option<Self> {
        let mut tokens = self.0.clone();
        match tokens.last_mut() {
            Some(Token::Text(text)) => *text = text.strip_suffix(end).filter(|text| !text.is_empty())?.to_owned(),
            _ => return None,
        }
        Some(Self(tokens))
    }

    /// The name with these captures; `None` where one is missing.
    pub fn name(&self, captures: Captures) -> Option<String> {
        let mut name = String::new();
        for token in &self.0 {
            match token {
                Token::Text(text) => name.push_str(text),
                Token::Layer => name.push_str(&captures.layer?.to_string()),
                Token::Expert => name.push_str(&captures.expert?.to_string()),
            }
        }
        Some(name)
    }

    /// The key of all its names in an index.
    pub(super) fn key(&self) -> Key {
        let mut key = Key::default();
        self.0.iter().for_each(|token| match token {
            Token::Text(text) => key.write(text),
            Token::Layer | Token::Expert => key.write("0"),
        });
        key
    }

    /// The part of its names that follows the layer: `attention.wq.weight`. `None` where there is no layer, or more to capture.
    pub(super) fn in_layer(&self) -> Option<&str> {
        match &self.0[..] {
            [Token::Text(_), Token::Layer, Token::Text(rest)] => rest.strip_prefix('.'),
            _ => None,
        }
    }

    /// The layer, and the part that follows it, of a name that begins as those of this pattern do.
    pub(super) fn layer_of<'a>(&self, name: &'a str) -> Option<(u32, &'a str)> {
        let [Token::Text(before), Token::Layer, ..] = &self.0[..] else { return None };
        let (layer, rest) = number(name.strip_prefix(before.as_str())?)?;
        Some((layer, rest.strip_prefix('.')?))
    }

    /// Whether it captures a layer.
    pub fn has_layer(&self) -> bool {
        self.0.contains(&Token::Layer)
    }

    /// Whether it captures an expert.
    pub fn has_expert(&self) -> bool {
        self.0.contains(&Token::Expert)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|token| match token {
            Token::Text(text) => f.write_str(text),
            Token::Layer => f.write_str("{l}"),
            Token::Expert => f.write_str("{e}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_matched_and_printed_by_the_same_pattern() {
        let pattern = Pattern::parse("model.layers.{l}.mlp.experts.{e}.up_proj.weight").unwrap();
        let found = pattern.matches("model.layers.12.mlp.experts.0.up_proj.weight").unwrap();
        assert_eq!(found, Captures { layer: Some(12), expert: Some(0) });
        assert_eq!(pattern.name(found).unwrap(), "model.layers.12.mlp.experts.0.up_proj.weight");
        assert_eq!(pattern.to_string(), "model.layers.{l}.mlp.experts.{e}.up_proj.weight");
        for other in [
            "model.layers.012.mlp.experts.0.up_proj.weight",
            "model.layers.-1.mlp.experts.0.up_proj.weight",
            "model.layers..mlp.experts.0.up_proj.weight",
            "model.layers.99999999999.mlp.experts.0.up_proj.weight",
            "model.layers.12.mlp.experts.0.up_proj.weight.x",
            "x.model.layers.12.mlp.experts.0.up_proj.weight",
        ] {
            assert_eq!(pattern.matches(other), None, "{other}");
        }
        for broken in ["a.{l", "a.}", "a.{x}.b", "{l}{e}", "{l}.{l}"] {
            assert!(Pattern::parse(broken).is_err(), "{broken}");
        }
    }
}
