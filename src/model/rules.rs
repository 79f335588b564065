//! The rules by which a family reads a configuration: values of names, what fields they need, and why there is no value.

use super::error::{ModelError, SpecError};
use super::fields::Wanted;
use super::param::{Param, When};
use super::pattern::MAX_LAYERS;
use super::size::{Configuration, Expression, Node, Operator, Value};

/// The deepest chain of names in the sizes of a family.
const DEEPEST: u32 = 16;

/// How the values of names follow from a configuration's fields.
pub(super) type NamedRules = [(String, Expression)];

/// A configuration read by rules.
pub(super) struct Rules<'a> {
    rules: &'a NamedRules,
    configuration: &'a Configuration,
}

impl<'a> Rules<'a> {
    pub(super) fn new(rules: &'a NamedRules, configuration: &'a Configuration) -> Self {
        Self { rules, configuration }
    }

    fn rule(&self, name: &str) -> Option<&'a Expression> {
        rule(self.rules, name)
    }

    /// The rule of a name as text.
    pub(super) fn text(&self, name: &str) -> String {
        self.rule(name).map_or_else(|| name.to_owned(), Expression::to_string)
    }

    /// The value of a name: by its rule, else the field of that name.
    pub(super) fn value(&self, name: &str) -> Option<Value> {
        self.value_within(name, 0)
    }

    fn value_within(&self, name: &str, depth: u32) -> Option<Value> {
        if depth > DEEPEST {
            return None;
        }
        match self.rule(name) {
            Some(rule) => self.of_within(rule, depth + 1),
            None => self.configuration.get(name).cloned(),
        }
    }

    /// The value of an expression.
    pub(super) fn of(&self, rule: &Expression) -> Option<Value> {
        self.of_within(rule, 0)
    }

    fn of_within(&self, rule: &Expression, depth: u32) -> Option<Value> {
        // A rule that has the name of a field means the field by it.
        rule.value(&|name| match self.rule(name) {
            Some(other) if std::ptr::eq(other, rule) => self.configuration.get(name).cloned(),
            _ => self.value_within(name, depth),
        })
    }

    /// Whether the model has a parameter; `None` where the configuration does not say so.
    pub(super) fn present(&self, param: &Param) -> Option<bool> {
        let When::If(condition) = &param.when else { return Some(true) };
        match self.of(condition)? {
            Value::Flag(flag) => Some(flag),
            Value::Number(_) => None,
        }
    }

    /// A number of layers, which may be none.
    pub(super) fn layers(value: Option<Value>) -> Option<u32> {
        match value? {
            Value::Number(0.0) => Some(0),
            Value::Number(number) => u32::try_from(whole(number)?).ok().filter(|&layers| layers <= MAX_LAYERS),
            Value::Flag(_) => None,
        }
    }

    /// The field that a name or an expression comes down to, where it is one field.
    fn field(&self, node: &'a Node, within: Option<&'a Expression>, depth: u32) -> Option<String> {
        match node {
            _ if depth > DEEPEST => None,
            Node::Name(name) => match self.rule(name).filter(|rule| within.is_none_or(|own| !std::ptr::eq(own, *rule)))
            {
                Some(rule) => self.field(&rule.root, Some(rule), depth + 1),
                None => Some(name.clone()),
            },
            Node::First(all) => {
                let lookup = |name: &str| self.value_within(name, depth);
                let defined = all.iter().find(|node| node.value(&lookup).is_some())?;
                self.field(defined, within, depth + 1)
            }
            _ => None,
        }
    }

    /// An expression in terms of the configuration's fields.
    fn shown(&self, node: &'a Node, within: Option<&'a Expression>, depth: u32) -> String {
        if let Some(field) = self.field(node, within, depth) {
            return field;
        }
        let lookup = |name: &str| self.value_within(name, depth);
        match node {
            _ if depth > DEEPEST => node.to_string(),
            Node::Name(name) => match self.rule(name) {
                Some(rule) => self.shown(&rule.root, Some(rule), depth + 1),
                None => name.clone(),
            },
            Node::First(all) => match all.iter().find(|node| node.value(&lookup).is_some()) {
                Some(defined) => self.shown(defined, within, depth + 1),
                None => node.to_string(),
            },
            Node::Binary(operator, a, b) => {
                let side = |node| self.shown(node, within, depth + 1);
                format!("{} {} {}", side(a), operator.sign(), side(b))
            }
            _ => node.to_string(),
        }
    }

    /// Why an expression has no value. `within`: the rule that it is of.
    fn why(&self, node: &'a Node, within: Option<&'a Expression>, depth: u32) -> Option<SpecError> {
        if depth > DEEPEST {
            return None;
        }
        let inner = |node: &'a Node| self.why(node, within, depth + 1);
        let lookup = |name: &str| match within {
            Some(own) if self.rule(name).is_some_and(|rule| std::ptr::eq(rule, own)) => {
                self.configuration.get(name).cloned()
            }
            _ => self.value_within(name, depth),
        };
        if node.value(&lookup).is_some() {
            return None;
        }
        match node {
            Node::Number(_) | Node::Flag(_) => None,
            Node::Name(name) => match self.rule(name).filter(|rule| within.is_none_or(|own| !std::ptr::eq(own, *rule)))
            {
                Some(rule) => self.why(&rule.root, Some(rule), depth + 1),
                None => Some(SpecError::Missing(name.clone())),
            },
            Node::Not(of) | Node::Floor(of) => inner(of),
            // The last is what counts where no other is stated.
            Node::First(all) => inner(all.last()?),
            Node::RoundUp(a, b) => inner(a).or_else(|| inner(b)),
            Node::Binary(operator, a, b) => inner(a).or_else(|| inner(b)).or_else(|| {
                if *operator != Operator::Divide {
                    return None;
                }
                let shown = |node: &'a Node| self.shown(node, within, depth);
                let value = |node: &'a Node| match node.value(&lookup)? {
                    Value::Number(number) => Some(format!("`{number}`")),
                    Value::Flag(_) => None,
                };
                Some(match &**b {
                    Node::Number(by) => {
                        SpecError::BadValue { field: shown(a), value: value(a)?, wanted: format!("a multiple of {by}") }
                    }
                    _ => SpecError::BadValue {
                        field: shown(b),
                        value: value(b)?,
                        wanted: format!("a divisor of {}", shown(a)),
                    },
                })
            }),
        }
    }

    /// The error of a model that has no value for a name, in terms of the configuration's fields.
    pub(super) fn explain(&self, params: &[Param], error: ModelError) -> SpecError {
        let (ModelError::NotStated { what, .. } | ModelError::BadSize { axis: what, .. }) = &error else {
            return SpecError::Model(error);
        };
        let param = params.iter().find(|param| param.id == *what);
        let condition = param.and_then(|param| match &param.when {
            When::Always => None,
            When::If(rule) | When::LayersBelow(rule) | When::LayersFrom(rule) => Some(rule),
        });
        let Some(rule) = self.rule(what).or(condition) else { return SpecError::Missing(what.clone()) };
        if let Some(why) = self.why(&rule.root, Some(rule), 0) {
            return why;
        }
        let template = params.iter().any(|param| param.template.as_deref() == Some(what));
        match (self.field(&rule.root, Some(rule), 0), self.of(rule)) {
            (Some(field), Some(Value::Number(number))) => {
                let wanted =
                    if template { "a number of layers that a model can have" } else { "a positive whole number" };
                SpecError::BadValue { field, value: format!("`{number}`"), wanted: wanted.to_owned() }
            }
            _ => SpecError::Model(error),
        }
    }
}

fn rule<'a>(rules: &'a NamedRules, name: &str) -> Option<&'a Expression> {
    rules.iter().find(|(known, _)| known == name).map(|(_, rule)| rule)
}

/// A positive whole number below which products of a few fit 64 bits.
pub(super) fn whole(number: f64) -> Option<u64> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole, positive and below 2^32")]
    let whole = |n: f64| n as u64;
    (number.fract() == 0.0 && (1.0..4_294_967_296.0).contains(&number)).then(|| whole(number))
}

/// The fields that rules read, and as what, each once.
pub(super) struct Reads<'a> {
    rules: &'a NamedRules,
    /// Fields that are neither sizes nor flags.
    between: &'a [(String, (f64, f64))],
    found: Vec<(String, Wanted)>,
}

impl<'a> Reads<'a> {
    pub(super) fn new(rules: &'a NamedRules, between: &'a [(String, (f64, f64))]) -> Self {
        Self { rules, between, found: Vec::new() }
    }

    pub(super) fn found(self) -> Vec<(String, Wanted)> {
        self.found
    }

    /// The fields of a name: of its rule, or the field of that name.
    pub(super) fn name(&mut self, name: &str, wanted: Wanted) {
        match rule(self.rules, name) {
            Some(rule) => self.node(&rule.root, Some(rule), wanted, 0),
            None => self.field(name, wanted),
        }
    }

    /// The fields of an expression.
    pub(super) fn expression(&mut self, expression: &Expression, wanted: Wanted) {
        self.node(&expression.root, None, wanted, 0);
    }

    fn field(&mut self, name: &str, wanted: Wanted) {
        if self.found.iter().any(|(known, _)| known == name) {
            return;
        }
        let between = self.between.iter().find(|(known, _)| known == name);
        let wanted = between.map_or(wanted, |(_, (from, to))| Wanted::Between(*from, *to));
        self.found.push((name.to_owned(), wanted));
    }

    fn node(&mut self, node: &Node, within: Option<&Expression>, wanted: Wanted, depth: u32) {
        match node {
            _ if depth > DEEPEST => {}
            Node::Number(_) | Node::Flag(_) => {}
            Node::Name(name) => {
                let other = rule(self.rules, name).filter(|rule| within.is_none_or(|own| !std::ptr::eq(own, *rule)));
                match other {
                    Some(rule) => self.node(&rule.root, Some(rule), wanted, depth + 1),
                    None => self.field(name, wanted),
                }
            }
            Node::Not(inner) | Node::Floor(inner) => self.node(inner, within, wanted, depth),
            Node::First(all) => all.iter().for_each(|node| self.node(node, within, wanted, depth)),
            Node::Binary(_, a, b) | Node::RoundUp(a, b) => {
                self.node(a, within, wanted, depth);
                self.node(b, within, wanted, depth);
            }
        }
    }
}
