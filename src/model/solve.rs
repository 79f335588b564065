//! The sizes of a model's axes, from the shapes of its tensors.
//!
//! Each stored dimension is a product of axes, or, where parts are joined, a sum of products. What the family says of its axes
//! among themselves (`KeyValue: 2`, `Half: HeadDim / Pair`) is known beforehand.

use std::collections::BTreeMap;

use smallvec::{SmallVec, smallvec};

use super::equations::{Equation, Fault, Product, Ratio, Sources, System};
use super::error::ModelError;
use super::family::Family;
use super::param::{Axis, Sizes};
use super::pattern::Captures;
use super::scheme::{EXPERT, PackPart, Row};
use super::size::{Expression, Factors, Value};

/// A tensor of a checkpoint.
#[derive(Clone, Debug)]
pub struct Fact<'a> {
    /// The row of its name.
    pub row: &'a Row,
    /// What the name captures.
    pub captures: Captures,
    /// Its dimensions over all ranks.
    pub dims: Vec<u64>,
}

/// What the shapes of a checkpoint say about its model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Solved {
    /// Sizes with which every tensor has its dimensions.
    pub sizes: Sizes,
    /// The axes whose sizes the shapes do not decide: of a product of which only the value is known, the outermost has all of it
    /// and the others are 1. An axis that no tensor has is 1.
    pub open: Vec<Axis>,
}

/// What is given: the tensors, and what the user states.
struct Given<'a> {
    family: &'a Family,
    facts: Vec<&'a Fact<'a>>,
    stated: &'a [(Axis, u64)],
}

impl Family {
    /// The sizes of all axes by the shapes of a checkpoint. `stated`: sizes that are known otherwise. A checkpoint may be without
    /// any of its tensors, as long as the others show what they are.
    ///
    /// # Errors
    /// Shapes that no model of this family has, with the tensors that do not go with each other; a joined tensor whose parts no
    /// other tensor shows.
    pub fn solve(&self, facts: &[Fact<'_>], stated: &[(Axis, u64)]) -> Result<Solved, ModelError> {
        let mut by_row: BTreeMap<*const Row, &Fact<'_>> = BTreeMap::new();
        let mut given = Given { family: self, facts: Vec::new(), stated };
        for fact in facts {
            match by_row.get(&std::ptr::from_ref(fact.row)) {
                // All layers and experts are alike.
                Some(first) if first.dims == fact.dims => {}
                Some(first) => return Err(given.unlike(first, fact)),
                None => {
                    by_row.insert(fact.row, fact);
                    given.facts.push(fact);
                }
            }
        }
        given.solve(facts)
    }

    /// Whether where the elements of a row are follows from more than the products of axes that the shapes show: from one of the
    /// axes that are open.
    pub fn depends_on(&self, row: &Row, open: &[Axis]) -> bool {
        let is_open = |axis: &Axis| open.contains(axis);
        let numbered = row.pattern.has_expert() && self.axis(EXPERT).is_some_and(|axis| is_open(&axis));
        numbered
            || row.pack.parts.len() > 1 && row.pack.outer.iter().any(is_open)
            || row.pack.parts.iter().any(|part| self.takes_apart(row, part, open))
    }

    /// Whether the file has axes in another order, so that axes that are open are not next to each other.
    fn takes_apart(&self, row: &Row, part: &PackPart, open: &[Axis]) -> bool {
        let Some(dims) = &part.dims else { return false };
        let kept = |axis: &Axis| !(row.pattern.has_expert() && self.axis_name(*axis) == EXPERT);
        let canonical: Vec<Axis> = self.params()[usize::from(part.param)].axes().filter(kept).collect();
        let file: Vec<Axis> = dims.iter().flatten().copied().filter(kept).collect();
        if canonical == file {
            return false;
        }
        // From the first that is open to the last.
        let first = canonical.iter().position(|axis| open.contains(axis));
        let last = canonical.iter().rposition(|axis| open.contains(axis));
        let Some(run) = first.zip(last).map(|(first, last)| &canonical[first..=last]) else { return false };
        !file.windows(run.len()).any(|axes| axes == run)
    }
}

impl Given<'_> {
    fn solve(&self, facts: &[Fact<'_>]) -> Result<Solved, ModelError> {
        let mut equations = self.stated()?;
        let identities = self.family.identities();
        let rules: Vec<Equation> = identities.iter().filter_map(|identity| self.family.equation(identity)).collect();
        let others: Vec<_> = identities.into_iter().filter(|one| self.family.equation(one).is_none()).collect();
        for (at, fact) in self.facts.iter().enumerate() {
            equations.extend(self.equations(at, fact)?);
        }
        let solve = |rules: &[Equation]| {
            let mut system = System::default();
            system.take_all(rules).map_err(|(_, fault)| self.error(None, fault))?;
            let silent = system.take_all(&equations).map_err(|(at, fault)| self.error(Some(&equations[at]), fault))?;
            if let Some(&at) = silent.first() {
                return Err(self.undecided(&equations[at]));
            }
            self.evaluate(&others, &mut system)?;
            Ok(system)
        };
        let system = solve(&rules)?;
        // The last, as the first are known by rules.
        let decided = system.pivots.iter().rev().filter(|pivot| pivot.rest.0.is_empty());
        if let Some(pivot) = decided.into_iter().find(|pivot| pivot.value.whole().is_none()) {
            return Err(self.not_whole(pivot.axis, pivot.value, &pivot.by));
        }
        // A number beside axes of which only the product is known is one of them: 2 halves of heads whose rows are not known.
        let open = |axis: Axis| system.pivot(axis).is_none_or(|pivot| !pivot.rest.0.is_empty());
        let has = |axis: Axis, term: &Product| term.0.iter().any(|(own, _)| *own == axis);
        let terms = || equations.iter().flat_map(|equation| &equation.terms);
        let beside = |axis: Axis| terms().any(|term| has(axis, term) && term.0.iter().any(|(other, _)| open(*other)));
        let is_number = |rule: &Equation| match &rule.terms[..] {
            [Product(factors)] => factors.len() == 1 && beside(factors[0].0),
            _ => false,
        };
        let without: Vec<Equation> = rules.iter().filter(|rule| !is_number(rule)).cloned().collect();
        let relaxed = solve(&without).ok().and_then(|system| Some((system.assign(self.axes())?, system)));
        let solved = relaxed.or_else(|| Some((system.assign(self.axes())?, system.clone())));
        let Some((sizes, system)) = solved else {
            let wanting = system.pivots.iter().find(|pivot| pivot.value.whole().is_none()).or(system.pivots.first());
            let pivot = wanting.ok_or_else(|| ModelError::TooLarge(self.family.name.clone()))?;
            return Err(self.not_whole(pivot.axis, pivot.value, &pivot.by));
        };
        let open = (0..=u8::MAX).take(self.axes()).map(Axis);
        let open = open.filter(|axis| system.pivot(*axis).is_none_or(|pivot| !pivot.rest.0.is_empty())).collect();
        let mut solved = Solved { sizes: Sizes(sizes), open };
        self.experts(facts, &system, &mut solved)?;
        Ok(solved)
    }

    /// Axes that follow by rules that are no products, once all axes in these are known.
    fn evaluate(&self, rules: &[(Axis, &Expression)], system: &mut System) -> Result<(), ModelError> {
        #[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^53")]
        let number = |size: u64| Value::Number(size as f64);
        loop {
            let before = system.pivots.len();
            for (axis, rule) in rules {
                let decided = |name: &str| self.family.axis(name).and_then(|axis| system.decided(axis));
                if !rule.names().iter().all(|name| decided(name).is_some()) {
                    continue;
                }
                let value = rule.value(&|name| decided(name).map(number));
                let Some(Value::Number(value)) = value else { continue };
                let Some(total) = Ratio::of(value) else { continue };
                let equation = Equation { terms: smallvec![Product::of([*axis])], total, source: None };
                system.take(&equation).map_err(|fault| self.error(Some(&equation), fault))?;
            }
            if system.pivots.len() == before {
                return Ok(());
            }
        }
    }

    fn axes(&self) -> usize {
        self.family.axes.len()
    }

    /// The experts that names number are some of those that there are.
    fn experts(&self, facts: &[Fact<'_>], system: &System, solved: &mut Solved) -> Result<(), ModelError> {
        let last = facts.iter().filter(|fact| fact.captures.expert.is_some()).max_by_key(|fact| fact.captures.expert);
        let (Some(axis), Some(last)) = (self.family.axis(EXPERT), last) else { return Ok(()) };
        let count = last.captures.expert.map_or(0, |expert| u64::from(expert) + 1);
        let size = &mut solved.sizes.0[axis.place()];
        match system.pivot(axis) {
            Some(pivot) if pivot.rest.0.is_empty() && count > *size => Err(ModelError::ShapesClash {
                tensor: name(last).into(),
                others: self.names(&pivot.by).into(),
                what: EXPERT.into(),
                found: format!("at least {count}").into(),
                expected: size.to_string().into(),
            }),
            None if !system.mentions(axis) => {
                *size = count;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn stated(&self) -> Result<Vec<Equation>, ModelError> {
        let of = |(at, &(axis, size)): (usize, &(Axis, u64))| {
            let source = self.facts.len() + at;
            let total = Ratio::new(size.into(), 1).ok_or_else(|| ModelError::ShapesNotWhole {
                family: self.family.name.as_str().into(),
                what: self.family.axis_name(axis).into(),
                value: size.to_string().into(),
                by: self.names(&[source]).into(),
            })?;
            Ok(Equation { terms: smallvec![Product::of([axis])], total, source: Some(source) })
        };
        self.stated.iter().enumerate().map(of).collect()
    }

    /// One for each dimension.
    fn equations(&self, at: usize, fact: &Fact<'_>) -> Result<Vec<Equation>, ModelError> {
        let parts: SmallVec<[Vec<Vec<Axis>>; 4]> =
            fact.row.pack.parts.iter().map(|part| self.family.dims_in_file(fact.row, part)).collect();
        let count = parts.first().map_or(0, Vec::len);
        if count != fact.dims.len() {
            return Err(self.wrong_dimensions(fact, count));
        }
        let of = |(dim, &length): (usize, &u64)| {
            let joined = if dim == fact.row.pack.dim { parts.len() } else { 1 };
            let terms: SmallVec<[Product; 3]> =
                parts.iter().take(joined).map(|dims| self.product(&dims[dim])).collect();
            let what = || self.sum(&terms);
            let total = Ratio::new(length.into(), 1).ok_or_else(|| ModelError::ShapesNotWhole {
                family: self.family.name.as_str().into(),
                what: what().into(),
                value: length.to_string().into(),
                by: self.names(&[at]).into(),
            })?;
            Ok(Equation { terms, total, source: Some(at) })
        };
        fact.dims.iter().enumerate().map(of).collect()
    }

    /// A product in canonical order as far as there is one: the outermost axis first.
    fn product(&self, axes: &[Axis]) -> Product {
        let mut sorted = axes.to_vec();
        let of = |param: &super::param::Param| -> Option<Vec<usize>> {
            axes.iter().map(|axis| param.axes().position(|own| own == *axis)).collect()
        };
        if let Some(places) = self.family.params().iter().find_map(of) {
            let mut order: Vec<(usize, Axis)> = places.into_iter().zip(axes.iter().copied()).collect();
            order.sort_unstable();
            sorted = order.into_iter().map(|(_, axis)| axis).collect();
        }
        Product::of(sorted)
    }

    fn error(&self, equation: Option<&Equation>, fault: Fault) -> ModelError {
        let tensor = equation.and_then(|equation| equation.source).map(|at| self.names(&[at]));
        let tensor = tensor.unwrap_or_else(|| self.names(&[]));
        match (fault, equation) {
            (Fault::Clash { by, expected }, Some(equation)) => ModelError::ShapesClash {
                tensor: tensor.into(),
                others: self.names(&by).into(),
                what: self.sum(&equation.terms).into(),
                found: show(equation.total).into(),
                expected: expected.map_or_else(|| format!("more than {}", show(equation.total)), show).into(),
            },
            _ => ModelError::TooLarge(tensor),
        }
    }

    fn unlike(&self, first: &Fact<'_>, second: &Fact<'_>) -> ModelError {
        if first.dims.len() != second.dims.len() {
            return self.wrong_dimensions(second, first.dims.len());
        }
        let differ = first.dims.iter().zip(&second.dims).position(|(a, b)| a != b).unwrap_or(0);
        let at = |fact: &Fact<'_>| fact.dims.get(differ).map(u64::to_string).unwrap_or_default();
        ModelError::ShapesClash {
            tensor: name(second).into(),
            others: name(first).into(),
            what: format!("dimension {differ}").into(),
            found: at(second).into(),
            expected: at(first).into(),
        }
    }

    fn wrong_dimensions(&self, fact: &Fact<'_>, expected: usize) -> ModelError {
        ModelError::WrongDimensions {
            tensor: name(fact),
            found: fact.dims.len(),
            expected,
            family: self.family.name.clone(),
        }
    }

    fn undecided(&self, equation: &Equation) -> ModelError {
        ModelError::ShapesUndecided { tensor: self.names(equation.source.as_slice()), what: self.sum(&equation.terms) }
    }

    fn not_whole(&self, axis: Axis, value: Ratio, by: &Sources) -> ModelError {
        ModelError::ShapesNotWhole {
            family: self.family.name.as_str().into(),
            what: self.family.axis_name(axis).into(),
            value: show(value).into(),
            by: self.names(by).into(),
        }
    }

    /// The tensors and statements by their places.
    fn names(&self, sources: &[usize]) -> String {
        let of = |&at: &usize| match self.facts.get(at) {
            Some(fact) => name(fact),
            None => match self.stated.get(at - self.facts.len()) {
                Some((axis, size)) => format!("the stated {} of {size}", self.family.axis_name(*axis)),
                None => String::new(),
            },
        };
        match sources {
            [] => format!("the {} family", self.family.name),
            all => all.iter().map(of).collect::<Vec<_>>().join(", "),
        }
    }

    fn sum(&self, terms: &[Product]) -> String {
        let name = |(axis, _): &(Axis, i32)| self.family.axis_name(*axis).to_owned();
        let product = |term: &Product| term.0.iter().map(name).collect::<Vec<_>>().join(" x ");
        terms.iter().map(product).collect::<Vec<_>>().join(" + ")
    }
}

fn name(fact: &Fact<'_>) -> String {
    let name = fact.row.pattern.name(fact.captures).unwrap_or_else(|| fact.row.pattern.to_string());
    format!("`{name}` {:?}", fact.dims)
}

fn show(ratio: Ratio) -> String {
    if ratio.den == 1 { ratio.num.to_string() } else { format!("{}/{}", ratio.num, ratio.den) }
}

impl Family {
    /// What holds of the axes in every model: the rules for sizes that mention nothing but axes and numbers. An axis that one kind of
    /// configuration states has no such rule.
    fn identities(&self) -> Vec<(Axis, &Expression)> {
        let mut found = Vec::new();
        for axis in (0..=u8::MAX).take(self.axes.len()).map(Axis) {
            let name = self.axis_name(axis);
            let own = || self.sizes.iter().flat_map(|kind| &kind.rules).filter(|(known, _)| known == name);
            let of_axes =
                |rule: &Expression| rule.names().iter().all(|other| *other != name && self.axis(other).is_some());
            if own().all(|(_, rule)| of_axes(rule)) {
                found.extend(own().map(|(_, rule)| (axis, rule)));
            }
        }
        found
    }

    /// An identity as an equation; `None`: it is no product.
    fn equation(&self, (axis, rule): &(Axis, &Expression)) -> Option<Equation> {
        let Factors { powers, number } = rule.product()?;
        // axis = number x others, so that axis / others = number.
        let mut product = Product::of([*axis]);
        for (name, exponent) in powers {
            product.multiply(self.axis(name)?, -exponent)?;
        }
        Some(Equation { terms: smallvec![product], total: Ratio::new(number.0, number.1)?, source: None })
    }
}

#[cfg(test)]
mod tests;
