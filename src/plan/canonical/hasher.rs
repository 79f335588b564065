//! The interface through which a plan is hashed, number by number.

/// Takes in the numbers and names of a plan, in order.
pub trait PlanHasher {
    /// Takes a number.
    fn number(&mut self, number: u64);

    /// Takes bytes, so that no two lists of them run into one another.
    fn bytes(&mut self, bytes: &[u8]);

    /// Takes numbers of which it is known how many there are.
    fn numbers(&mut self, numbers: impl IntoIterator<Item = u64>)
    where
        Self: Sized,
    {
        numbers.into_iter().for_each(|number| self.number(number));
    }

    /// Takes a number that need not be there.
    fn optional(&mut self, number: Option<u64>) {
        self.number(u64::from(number.is_some()));
        self.number(number.unwrap_or(0));
    }
}
