//! Names to rows by one hash: a name's numbers count as one, whatever they are, so that all names of a row have one key.

/// A hash of the text of a name in which every run of digits is the same (FNV-1a).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    hash: u64,
    in_number: bool,
}

impl Default for Key {
    fn default() -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, in_number: false }
    }
}

impl Key {
    /// The key of a name.
    pub(super) fn of(name: &str) -> Self {
        let mut key = Self::default();
        key.write(name);
        key
    }

    /// Goes on with more of the name.
    pub(super) fn write(&mut self, text: &str) {
        for &byte in text.as_bytes() {
            let digit = byte.is_ascii_digit();
            if digit && self.in_number {
                continue;
            }
            self.in_number = digit;
            let byte = if digit { b'0' } else { byte };
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
}

/// What is known under each key, in the order in which it was given.
#[derive(Debug)]
pub(super) struct Index<T>(Box<[(u64, T)]>);

impl<T: Copy> Index<T> {
    pub(super) fn new(entries: impl IntoIterator<Item = (Key, T)>) -> Self {
        let mut entries: Vec<(u64, T)> = entries.into_iter().map(|(key, what)| (key.hash, what)).collect();
        entries.sort_by_key(|(hash, _)| *hash);
        Self(entries.into())
    }

    /// What may be meant by a name of this key: other names may have the key as well.
    pub(super) fn candidates(&self, key: Key) -> impl Iterator<Item = T> + '_ {
        let first = self.0.partition_point(|(hash, _)| *hash < key.hash);
        self.0[first..].iter().take_while(move |(hash, _)| *hash == key.hash).map(|(_, what)| *what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_do_not_count_and_everything_else_does() {
        let same = |a: &str, b: &str| Key::of(a) == Key::of(b);
        assert!(same("layers.0.w1", "layers.127.w3"));
        assert!(!same("layers.0.w1", "layers..w1") && !same("layers.0.w", "layers.0.v"));
        let mut parts = Key::of("layers.1");
        parts.write("2.w1");
        assert_eq!(parts, Key::of("layers.12.w1"), "a number may be written in parts");
        let index = Index::new([(Key::of("a.1"), 'x'), (Key::of("b"), 'y'), (Key::of("a.2"), 'z')]);
        assert_eq!(index.candidates(Key::of("a.30")).collect::<String>(), "xz");
        assert_eq!(index.candidates(Key::of("c")).count(), 0);
    }
}
