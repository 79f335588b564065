//! Expressions over a model's configuration: `head_dim | hidden_size / num_attention_heads`.
//!
//! `a | b` is the first that the configuration defines; `/` must come out even, `//` rounds down; `floor(x)`,
//! `round_up(x, multiple)`, `not x`; names are fields of the configuration or axes of the family.

use std::collections::BTreeMap;
use std::fmt;

/// A value of a configuration.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A number. Sizes are far below 2^53, so they are exact.
    Number(f64),
    /// True or false.
    Flag(bool),
}

/// The fields of a configuration that are numbers or flags: what is absent, null or "None" is not there.
pub type Configuration = BTreeMap<String, Value>;

/// An expression, and its text.
#[derive(Clone, Debug, PartialEq)]
pub struct Expression {
    text: String,
    pub(super) root: Node,
}

impl Eq for Expression {}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    Number(f64),
    Flag(bool),
    Name(String),
    Not(Box<Node>),
    First(Vec<Node>),
    Binary(Operator, Box<Node>, Box<Node>),
    Floor(Box<Node>),
    RoundUp(Box<Node>, Box<Node>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Operator {
    Add,
    Subtract,
    Multiply,
    /// Must come out even.
    Divide,
    DivideDown,
}

impl Operator {
    pub(super) const fn sign(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::DivideDown => "//",
        }
    }
}

/// The deepest nesting of an expression.
const DEEPEST: usize = 32;

impl Expression {
    /// Reads an expression.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parser = Parser { tokens: tokens(text)?, at: 0, depth: 0 };
        let root = parser.first()?;
        match parser.tokens.get(parser.at) {
            None => Ok(Self { text: text.trim().to_owned(), root }),
            Some(token) => Err(format!("`{token}` in `{text}` does not follow from what is before it")),
        }
    }

    /// Its value; `None` where the configuration does not define what it needs, or the arithmetic is not possible.
    pub fn value(&self, lookup: &dyn Fn(&str) -> Option<Value>) -> Option<Value> {
        self.root.value(lookup)
    }

    /// The product that it is; `None`: it is anything else.
    pub(super) fn product(&self) -> Option<Factors<'_>> {
        let mut factors = Factors { powers: Vec::new(), number: (1, 1) };
        product(&self.root, 1, &mut factors)?;
        Some(factors)
    }

    /// The names in it.
    pub fn names(&self) -> Vec<&str> {
        let mut found = Vec::new();
        names(&self.root, &mut found);
        found
    }
}

/// A product of names, each to a power, and of a number.
#[derive(Debug, PartialEq)]
pub(super) struct Factors<'a> {
    pub powers: Vec<(&'a str, i32)>,
    /// As a fraction.
    pub number: (u128, u128),
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn product<'a>(node: &'a Node, exponent: i32, factors: &mut Factors<'a>) -> Option<()> {
    match node {
        Node::Number(value) => {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole, positive and small")]
            let whole = |value: f64| value as u128;
            let value = Some(*value).filter(|n| n.fract() == 0.0 && (1.0..4_294_967_296.0).contains(n)).map(whole)?;
            let side = if exponent > 0 { &mut factors.number.0 } else { &mut factors.number.1 };
            *side = side.checked_mul(value)?;
        }
        Node::Name(name) => factors.powers.push((name, exponent)),
        Node::Binary(Operator::Multiply, a, b) => {
            product(a, exponent, factors)?;
            product(b, exponent, factors)?;
        }
        Node::Binary(Operator::Divide, a, b) => {
            product(a, exponent, factors)?;
            product(b, -exponent, factors)?;
        }
        _ => return None,
    }
    Some(())
}

fn names<'a>(node: &'a Node, found: &mut Vec<&'a str>) {
    match node {
        Node::Number(_) | Node::Flag(_) => {}
        Node::Name(name) => found.push(name),
        Node::Not(inner) | Node::Floor(inner) => names(inner, found),
        Node::First(all) => all.iter().for_each(|node| names(node, found)),
        Node::Binary(_, a, b) | Node::RoundUp(a, b) => {
            names(a, found);
            names(b, found);
        }
    }
}

impl Node {
    /// Its value, as [`Expression::value`].
    pub(super) fn value(&self, lookup: &dyn Fn(&str) -> Option<Value>) -> Option<Value> {
        evaluate(self, lookup)
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Name(name) => f.write_str(name),
            Self::Not(inner) => write!(f, "not ({inner})"),
            Self::Floor(inner) => write!(f, "floor({inner})"),
            Self::RoundUp(a, b) => write!(f, "round_up({a}, {b})"),
            Self::First(all) => {
                let all: Vec<String> = all.iter().map(Self::to_string).collect();
                write!(f, "({})", all.join(" | "))
            }
            Self::Binary(operator, a, b) => {
                let side = |node: &Self| match node {
                    Self::Binary(..) => format!("({node})"),
                    _ => node.to_string(),
                };
                write!(f, "{} {} {}", side(a), operator.sign(), side(b))
            }
        }
    }
}

fn evaluate(node: &Node, lookup: &dyn Fn(&str) -> Option<Value>) -> Option<Value> {
    let number = |node: &Node| match evaluate(node, lookup)? {
        Value::Number(number) => Some(number),
        Value::Flag(_) => None,
    };
    let value = match node {
        Node::Number(number) => *number,
        Node::Flag(flag) => return Some(Value::Flag(*flag)),
        Node::Name(name) => return lookup(name),
        Node::Not(inner) => {
            return match evaluate(inner, lookup)? {
                Value::Flag(flag) => Some(Value::Flag(!flag)),
                Value::Number(_) => None,
            };
        }
        Node::First(all) => return all.iter().find_map(|node| evaluate(node, lookup)),
        Node::Floor(inner) => number(inner)?.floor(),
        Node::RoundUp(inner, multiple) => {
            let multiple = number(multiple).filter(|&m| m > 0.0)?;
            (number(inner)? / multiple).ceil() * multiple
        }
        Node::Binary(operator, a, b) => {
            let (a, b) = (number(a)?, number(b)?);
            match operator {
                Operator::Add => a + b,
                Operator::Subtract => a - b,
                Operator::Multiply => a * b,
                Operator::Divide | Operator::DivideDown if b == 0.0 => return None,
                // Division of sizes that does not come out even is a configuration of no model.
                Operator::Divide if a % b != 0.0 => return None,
                Operator::Divide => a / b,
                Operator::DivideDown => (a / b).floor(),
            }
        }
    };
    value.is_finite().then_some(Value::Number(value))
}

fn tokens(text: &str) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        let length = match first {
            '/' if rest.starts_with("//") => 2,
            '+' | '-' | '*' | '/' | '|' | '(' | ')' | ',' => 1,
            c if word(c) => rest.find(|c: char| !word(c)).unwrap_or(rest.len()),
            other => return Err(format!("`{other}` in `{text}` has no meaning in an expression")),
        };
        let (token, after) = rest.split_at(length);
        found.push(token.to_owned());
        rest = after.trim_start();
    }
    Ok(found)
}

struct Parser {
    tokens: Vec<String>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> Option<&str> {
        self.tokens.get(self.at).map(String::as_str)
    }

    fn take(&mut self, token: &str) -> bool {
        let found = self.peek() == Some(token);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, token: &str) -> Result<(), String> {
        if self.take(token) { Ok(()) } else { Err(format!("`{token}` is missing")) }
    }

    fn first(&mut self) -> Result<Node, String> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err("the expression is nested too deeply".to_owned());
        }
        let mut all = vec![self.sum()?];
        while self.take("|") {
            all.push(self.sum()?);
        }
        self.depth -= 1;
        Ok(if all.len() == 1 { all.swap_remove(0) } else { Node::First(all) })
    }

    fn sum(&mut self) -> Result<Node, String> {
        let mut left = self.product()?;
        loop {
            let operator = match self.peek() {
                Some("+") => Operator::Add,
                Some("-") => Operator::Subtract,
                _ => return Ok(left),
            };
            self.at += 1;
            left = Node::Binary(operator, Box::new(left), Box::new(self.product()?));
        }
    }

    fn product(&mut self) -> Result<Node, String> {
        let mut left = self.atom()?;
        loop {
            let operator = match self.peek() {
                Some("*") => Operator::Multiply,
                Some("/") => Operator::Divide,
                Some("//") => Operator::DivideDown,
                _ => return Ok(left),
            };
            self.at += 1;
            left = Node::Binary(operator, Box::new(left), Box::new(self.atom()?));
        }
    }

    fn atom(&mut self) -> Result<Node, String> {
        let Some(token) = self.peek().map(str::to_owned) else {
            return Err("the expression ends too early".to_owned());
        };
        self.at += 1;
        match token.as_str() {
            "(" => {
                let inner = self.first()?;
                self.expect(")")?;
                Ok(inner)
            }
            "not" => {
                self.depth += 1;
                if self.depth > DEEPEST {
                    return Err("the expression is nested too deeply".to_owned());
                }
                let inner = self.atom()?;
                self.depth -= 1;
                Ok(Node::Not(Box::new(inner)))
            }
            "true" => Ok(Node::Flag(true)),
            "false" => Ok(Node::Flag(false)),
            "floor" | "round_up" => {
                self.expect("(")?;
                let inner = Box::new(self.first()?);
                let node = if token == "floor" {
                    Node::Floor(inner)
                } else {
                    self.expect(",")?;
                    Node::RoundUp(inner, Box::new(self.first()?))
                };
                self.expect(")")?;
                Ok(node)
            }
            word if word.starts_with(|c: char| c.is_ascii_digit()) => {
                word.parse().map(Node::Number).map_err(|_| format!("`{word}` is not a number"))
            }
            word if word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') => Ok(Node::Name(word.to_owned())),
            other => Err(format!("`{other}` is not a value")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str, fields: &[(&str, f64)]) -> Option<Value> {
        let lookup = |name: &str| fields.iter().find(|(n, _)| *n == name).map(|&(_, v)| Value::Number(v));
        Expression::parse(text).unwrap().value(&lookup)
    }

    #[test]
    fn the_first_that_the_configuration_defines_counts() {
        let fields = [("hidden_size", 4096.0), ("heads", 32.0)];
        assert_eq!(value("head_dim | hidden_size / heads", &fields), Some(Value::Number(128.0)));
        let given = [("head_dim", 64.0), ("hidden_size", 4096.0), ("heads", 32.0)];
        assert_eq!(value("head_dim | hidden_size / heads", &given), Some(Value::Number(64.0)));
        assert_eq!(value("head_dim", &fields), None);
        assert_eq!(value("hidden_size / 3", &fields), None, "sizes are divided evenly");
        assert_eq!(value("hidden_size // 3", &fields), Some(Value::Number(1365.0)));
        assert_eq!(value("1 / 0", &fields), None);
        assert_eq!(value("not (tied | false)", &fields), Some(Value::Flag(true)));
    }

    /// The ffn rows of released models, as their `config.json` states them: 7B, 13B (llama 1 and 2), 70B.
    #[test]
    fn the_ffn_rule_gives_the_released_sizes() {
        let rule =
            "round_up(floor(multiplier * (4 * dim * 2 // 3)), multiple_of) | round_up(4 * dim * 2 // 3, multiple_of)";
        assert_eq!(value(rule, &[("dim", 4096.0), ("multiple_of", 256.0)]), Some(Value::Number(11008.0)));
        assert_eq!(value(rule, &[("dim", 5120.0), ("multiple_of", 256.0)]), Some(Value::Number(13824.0)));
        let large = [("dim", 8192.0), ("multiple_of", 4096.0), ("multiplier", 1.3)];
        assert_eq!(value(rule, &large), Some(Value::Number(28672.0)));
    }

    #[test]
    fn a_product_is_known_by_its_factors() {
        let of = |text: &str| {
            let expression = Expression::parse(text).unwrap();
            expression.product().map(|found| (format!("{:?}", found.powers), found.number))
        };
        assert_eq!(of("a / (b * 2 / 3)"), Some(("[(\"a\", 1), (\"b\", -1)]".to_owned(), (3, 2))));
        assert_eq!(of("2"), Some(("[]".to_owned(), (2, 1))));
        for other in ["a + 1", "a // 2", "a | b", "0", "a * 0.5", "not a", "true"] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn a_broken_expression_says_what_is_wrong() {
        for broken in ["", "a +", "a b", "(a", "a)", "round_up(a)", "1x", "a ? b", "not", "|"] {
            assert!(Expression::parse(broken).is_err(), "{broken}");
        }
        let deep = format!("{}a{}", "(".repeat(100_000), ")".repeat(100_000));
        assert!(Expression::parse(&deep).unwrap_err().contains("too deeply"));
        assert!(Expression::parse(&format!("{}a", "not ".repeat(100_000))).is_err());
    }
}
