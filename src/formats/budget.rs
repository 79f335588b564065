//! Memory that reading headers may take: an account that parsers draw on before they keep anything.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::{FormatError, FormatFault};

/// How many bytes of memory may still be taken for what headers say. What is stated is an estimate from above of what is taken:
/// [`limits`](super::limits) has the figures.
#[derive(Debug)]
pub struct Budget {
    left: AtomicU64,
    allowed: u64,
    /// Whether the user has said how much, and not the machine.
    stated: bool,
    exceeded: AtomicBool,
}

impl Budget {
    /// So many bytes, of which some are held already. `stated`: whether it is the user who says that, with `--memory`.
    pub const fn new(allowed: u64, held: u64, stated: bool) -> Self {
        let left = AtomicU64::new(allowed.saturating_sub(held));
        Self { left, allowed, stated, exceeded: AtomicBool::new(false) }
    }

    /// As much as there is: for bytes that are in memory anyway.
    pub const fn unlimited() -> Self {
        Self::new(u64::MAX, 0, false)
    }

    /// Takes so many bytes, for good.
    ///
    /// # Errors
    /// Where fewer are left, then and from then on.
    pub fn take(&self, bytes: u64) -> Result<(), FormatFault> {
        let took = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes));
        if took.is_err() {
            self.exceeded.store(true, Ordering::Relaxed);
        }
        self.check()
    }

    /// As [`Self::take`], for the field at an offset.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub(super) fn take_at(&self, at: u64, bytes: u64) -> Result<(), FormatError> {
        self.take(bytes).map_err(|what| FormatError::new(at, what))
    }

    /// Whether all that was requested was there.
    ///
    /// # Errors
    /// Where it was not.
    pub(super) fn check(&self) -> Result<(), FormatFault> {
        if self.exceeded.load(Ordering::Relaxed) {
            return Err(FormatFault::Memory { allowed: self.allowed, stated: self.stated });
        }
        Ok(())
    }

    /// What is taken from now on is given back in the end.
    pub(super) fn loan(&self) -> Loan<'_> {
        Loan { budget: self, taken: 0 }
    }
}

/// Bytes that are given back when it is dropped.
#[derive(Debug)]
pub(super) struct Loan<'b> {
    budget: &'b Budget,
    taken: u64,
}

impl Loan<'_> {
    /// Takes so many bytes more.
    ///
    /// # Errors
    /// As [`Budget::take`].
    pub(super) fn take_at(&mut self, at: u64, bytes: u64) -> Result<(), FormatError> {
        self.budget.take_at(at, bytes)?;
        self.taken += bytes;
        Ok(())
    }
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        self.budget.left.fetch_add(self.taken, Ordering::Relaxed);
    }
}

#[cfg(test)]
#[path = "budget_tests.rs"]
mod parser_tests;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lent_comes_back_and_what_was_missing_is_not_forgotten() {
        let budget = Budget::new(150, 50, true);
        budget.take(30).unwrap();
        {
            let mut loan = budget.loan();
            loan.take_at(7, 70).unwrap();
            assert_eq!(loan.take_at(7, 1).unwrap_err().at, 7);
        }
        let fault = FormatFault::Memory { allowed: 150, stated: true };
        assert_eq!(budget.take(1), Err(fault), "a parser that goes on all the same does not succeed");
        let budget = Budget::new(150, 50, true);
        drop(budget.loan().take_at(0, 100));
        assert_eq!(budget.take(100), Ok(()));
        Budget::unlimited().take(u64::MAX).unwrap();
    }
}
