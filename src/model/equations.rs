//! Equations over the sizes of axes: sums of products of axes, each with a known value.

use smallvec::SmallVec;

use super::param::Axis;

/// A positive fraction, reduced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ratio {
    pub num: u128,
    pub den: u128,
}

impl Ratio {
    pub(super) const ONE: Self = Self { num: 1, den: 1 };

    /// `None` for what is not positive.
    pub(super) fn new(num: u128, den: u128) -> Option<Self> {
        let common = divisor(num, den);
        (num > 0 && den > 0).then(|| Self { num: num / common, den: den / common })
    }

    /// `None` for what is not a positive whole number, or too large to be exact.
    pub(super) fn of(number: f64) -> Option<Self> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole, positive and below 2^53")]
        let whole = |number: f64| number as u128;
        let exact = number.fract() == 0.0 && (1.0..9_007_199_254_740_992.0).contains(&number);
        exact.then(|| Self { num: whole(number), den: 1 })
    }

    /// Its value, if it is a size.
    pub(super) fn whole(self) -> Option<u64> {
        u64::try_from(self.num).ok().filter(|_| self.den == 1)
    }

    fn times(self, other: Self) -> Option<Self> {
        // First what both share, so that no more than the result has to fit.
        let (a, b) = (Self::new(self.num, other.den)?, Self::new(other.num, self.den)?);
        Some(Self { num: a.num.checked_mul(b.num)?, den: a.den.checked_mul(b.den)? })
    }

    fn inverse(self) -> Self {
        Self { num: self.den, den: self.num }
    }

    fn over(self, other: Self) -> Option<Self> {
        self.times(other.inverse())
    }

    fn power(self, exponent: i32) -> Option<Self> {
        let base = if exponent < 0 { self.inverse() } else { self };
        let exponent = exponent.unsigned_abs();
        Some(Self { num: base.num.checked_pow(exponent)?, den: base.den.checked_pow(exponent)? })
    }

    fn plus(self, other: Self) -> Option<Self> {
        let num = self.num.checked_mul(other.den)?.checked_add(other.num.checked_mul(self.den)?)?;
        Self::new(num, self.den.checked_mul(other.den)?)
    }

    /// `Ok(None)`: the difference is not positive.
    fn minus(self, other: Self) -> Result<Option<Self>, Fault> {
        let product = |a: u128, b: u128| a.checked_mul(b).ok_or(Fault::TooLarge);
        let (ours, theirs) = (product(self.num, other.den)?, product(other.num, self.den)?);
        let den = product(self.den, other.den)?;
        Ok(ours.checked_sub(theirs).and_then(|num| Self::new(num, den)))
    }
}

fn divisor(a: u128, b: u128) -> u128 {
    if b == 0 { a } else { divisor(b, a % b) }
}

/// A product of axes with exponents, in the order in which they were met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Product(pub SmallVec<[(Axis, i32); 6]>);

impl Product {
    pub(super) fn of(axes: impl IntoIterator<Item = Axis>) -> Self {
        Self(axes.into_iter().map(|axis| (axis, 1)).collect())
    }

    /// `None`: an exponent is out of range.
    pub(super) fn multiply(&mut self, axis: Axis, exponent: i32) -> Option<()> {
        match self.0.iter().position(|(own, _)| *own == axis) {
            Some(at) => {
                self.0[at].1 = self.0[at].1.checked_add(exponent)?;
                if self.0[at].1 == 0 {
                    self.0.remove(at);
                }
            }
            None if exponent != 0 => self.0.push((axis, exponent)),
            None => {}
        }
        Some(())
    }

    fn same(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && self.0.iter().all(|factor| other.0.contains(factor))
    }
}

/// Where something is known from: places in a list of statements, sorted.
pub(super) type Sources = SmallVec<[usize; 4]>;

fn join(sources: &mut Sources, others: &[usize]) {
    sources.extend_from_slice(others);
    sources.sort_unstable();
    sources.dedup();
}

/// `terms[0] + terms[1] + … = total`.
#[derive(Clone, Debug)]
pub(super) struct Equation {
    pub terms: SmallVec<[Product; 3]>,
    pub total: Ratio,
    /// What states it; `None`: the family.
    pub source: Option<usize>,
}

/// What an equation has led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The others say that the terms are this much; `None`: that some of them are already as much as all, or more.
    Clash { by: Sources, expected: Option<Ratio> },
    /// Numbers beyond 128 bits.
    TooLarge,
}

/// An axis by the others: `value` times `rest`.
#[derive(Clone, Debug)]
pub(super) struct Pivot {
    pub axis: Axis,
    pub value: Ratio,
    /// Of axes that are no pivots.
    pub rest: Product,
    pub by: Sources,
}

/// A product by the axes that are no pivots.
struct Reduced {
    value: Ratio,
    rest: Product,
    by: Sources,
}

/// What is known of the axes.
#[derive(Clone, Debug, Default)]
pub(super) struct System {
    pub pivots: Vec<Pivot>,
}

impl System {
    pub(super) fn pivot(&self, axis: Axis) -> Option<&Pivot> {
        self.pivots.iter().find(|pivot| pivot.axis == axis)
    }

    /// The size of an axis that depends on no other.
    pub(super) fn decided(&self, axis: Axis) -> Option<u64> {
        self.pivot(axis).filter(|pivot| pivot.rest.0.is_empty())?.value.whole()
    }

    /// Whether any other axis is known by this one.
    pub(super) fn mentions(&self, axis: Axis) -> bool {
        self.pivots.iter().any(|pivot| pivot.rest.0.iter().any(|(own, _)| *own == axis))
    }

    fn reduce(&self, product: &Product) -> Option<Reduced> {
        let mut reduced = Reduced { value: Ratio::ONE, rest: Product::default(), by: Sources::new() };
        for &(axis, exponent) in &product.0 {
            let Some(pivot) = self.pivot(axis) else {
                reduced.rest.multiply(axis, exponent)?;
                continue;
            };
            reduced.value = reduced.value.times(pivot.value.power(exponent)?)?;
            for &(axis, own) in &pivot.rest.0 {
                reduced.rest.multiply(axis, own.checked_mul(exponent)?)?;
            }
            join(&mut reduced.by, &pivot.by);
        }
        Some(reduced)
    }

    /// Takes an equation in. `false`: it says nothing yet, as more than one of its terms is unknown.
    pub(super) fn take(&mut self, equation: &Equation) -> Result<bool, Fault> {
        let mut known: Option<Ratio> = None;
        let mut unknown: SmallVec<[(Product, Ratio); 3]> = SmallVec::new();
        let mut by = Sources::new();
        for term in &equation.terms {
            let Reduced { value, rest, by: own } = self.reduce(term).ok_or(Fault::TooLarge)?;
            join(&mut by, &own);
            if rest.0.is_empty() {
                known = Some(match known {
                    None => value,
                    Some(sum) => sum.plus(value).ok_or(Fault::TooLarge)?,
                });
            } else if let Some((_, count)) = unknown.iter_mut().find(|(product, _)| product.same(&rest)) {
                *count = count.plus(value).ok_or(Fault::TooLarge)?;
            } else {
                unknown.push((rest, value));
            }
        }
        let left = match known {
            None => Some(equation.total),
            Some(known) => equation.total.minus(known)?,
        };
        match (&unknown[..], left) {
            ([], None) if known == Some(equation.total) => Ok(true),
            ([], _) => Err(Fault::Clash { by, expected: known }),
            (_, None) => Err(Fault::Clash { by, expected: None }),
            ([(product, count)], Some(left)) => {
                join(&mut by, equation.source.as_slice());
                self.state(product, left.over(*count).ok_or(Fault::TooLarge)?, &by).ok_or(Fault::TooLarge)
            }
            (_, Some(_)) => Ok(false),
        }
    }

    /// Makes a product of axes that are no pivots known. `Some(false)`: no axis has it as its first power.
    fn state(&mut self, product: &Product, value: Ratio, by: &[usize]) -> Option<bool> {
        let of = |exponent: i32| product.0.iter().position(|(_, own)| *own == exponent);
        let Some(at) = of(1).or_else(|| of(-1)) else { return Some(false) };
        let (axis, exponent) = product.0[at];
        let mut rest = Product::default();
        for (_, &(other, own)) in product.0.iter().enumerate().filter(|(place, _)| *place != at) {
            rest.multiply(other, own.checked_mul(-exponent)?)?;
        }
        let value = if exponent == 1 { value } else { value.inverse() };
        let new = Pivot { axis, value, rest, by: Sources::from_slice(by) };
        for pivot in &mut self.pivots {
            let Some(at) = pivot.rest.0.iter().position(|(own, _)| *own == axis) else { continue };
            let (_, exponent) = pivot.rest.0.remove(at);
            pivot.value = pivot.value.times(new.value.power(exponent)?)?;
            for &(other, own) in &new.rest.0 {
                pivot.rest.multiply(other, own.checked_mul(exponent)?)?;
            }
            join(&mut pivot.by, by);
        }
        self.pivots.push(new);
        Some(true)
    }

    /// Takes all in. The ones that say nothing, by their places; or what is wrong, and with which.
    pub(super) fn take_all(&mut self, equations: &[Equation]) -> Result<Vec<usize>, (usize, Fault)> {
        let mut left: Vec<usize> = (0..equations.len()).collect();
        loop {
            let before = left.len();
            let mut silent = Vec::new();
            for at in left {
                if !self.take(&equations[at]).map_err(|fault| (at, fault))? {
                    silent.push(at);
                }
            }
            left = silent;
            if left.is_empty() || left.len() == before {
                return Ok(left);
            }
        }
    }

    /// The size of every axis that is mentioned, where those that are open may be any: the outermost as large, the others as small
    /// as they can be. `None`: not all can be whole.
    pub(super) fn assign(&self, axes: usize) -> Option<Vec<u64>> {
        let mut free = vec![1u64; axes];
        // Each round multiplies at least one axis, which none of the pivots needs twice.
        for _ in 0..=self.pivots.len() {
            let mut sizes = free.clone();
            let mut wanting = None;
            for pivot in &self.pivots {
                let factor =
                    |&(axis, exponent): &(Axis, i32)| Ratio::new(free[axis.place()].into(), 1)?.power(exponent);
                let value = pivot.rest.0.iter().try_fold(pivot.value, |value, own| value.times(factor(own)?))?;
                match value.whole() {
                    Some(size) => sizes[pivot.axis.place()] = size,
                    None => wanting = wanting.or(Some((pivot, value.den))),
                }
            }
            let Some((pivot, den)) = wanting else { return Some(sizes) };
            let &(axis, _) = pivot.rest.0.iter().find(|(_, exponent)| *exponent == 1)?;
            free[axis.place()] = free[axis.place()].checked_mul(u64::try_from(den).ok()?)?;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn equation(terms: &[&[u8]], total: u128, source: usize) -> Equation {
        Equation {
            terms: terms.iter().map(|axes| Product::of(axes.iter().map(|&axis| Axis(axis)))).collect(),
            total: Ratio::new(total, 1).unwrap(),
            source: Some(source),
        }
    }

    #[test]
    fn products_and_sums_are_solved_in_any_order() {
        // a b + a c = 30, a b = 18, c = 4
        let all = [equation(&[&[0, 1], &[0, 2]], 30, 0), equation(&[&[0, 1]], 18, 1), equation(&[&[2]], 4, 2)];
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let mut system = System::default();
            let equations: Vec<Equation> = order.iter().map(|&at| all[at].clone()).collect();
            assert_eq!(system.take_all(&equations), Ok(vec![]));
            assert_eq!(system.assign(3), Some(vec![3, 6, 4]));
        }
    }

    #[test]
    fn what_does_not_follow_stays_open_and_the_outermost_is_the_largest() {
        let mut system = System::default();
        assert_eq!(system.take_all(&[equation(&[&[0, 1]], 12, 0), equation(&[&[0, 2]], 18, 1)]), Ok(vec![]));
        assert_eq!(system.assign(3), Some(vec![6, 2, 3]));
        assert_eq!(system.take_all(&[equation(&[&[1], &[2]], 10, 2)]), Ok(vec![]));
        assert_eq!(system.assign(3), Some(vec![3, 4, 6]));
        let mut two = System::default();
        assert_eq!(two.take_all(&[equation(&[&[0], &[1]], 12, 0)]), Ok(vec![0]));
    }

    #[test]
    fn what_contradicts_is_named_with_all_that_it_contradicts() {
        let mut system = System::default();
        let first = [equation(&[&[0, 1]], 12, 0), equation(&[&[0]], 4, 1)];
        assert_eq!(system.take_all(&first), Ok(vec![]));
        let by = |sources: &[usize]| Sources::from_slice(sources);
        let clash = system.take_all(&[equation(&[&[1]], 4, 2)]).unwrap_err();
        assert_eq!(clash, (0, Fault::Clash { by: by(&[0, 1]), expected: Ratio::new(3, 1) }));
        let clash = system.take_all(&[equation(&[&[1], &[2]], 3, 2)]).unwrap_err();
        assert_eq!(clash, (0, Fault::Clash { by: by(&[0, 1]), expected: None }));
    }

    #[test]
    fn numbers_beyond_128_bits_are_an_error() {
        let mut system = System::default();
        let large = u128::from(u64::MAX);
        let all: Vec<Equation> = (1..=3).map(|axis| equation(&[&[axis]], large - u128::from(axis), 0)).collect();
        assert_eq!(system.take_all(&all), Ok(vec![]));
        assert_eq!(system.take(&equation(&[&[1, 2, 3]], 5, 1)), Err(Fault::TooLarge));
    }
}
