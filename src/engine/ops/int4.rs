//! Integers of four bits: two in a byte, the first in the low half.

use crate::source::index;

/// Puts integers, of one byte each, to their places in a buffer that begins at byte `from` of the tensor; the first is element
/// `at`. What else a byte holds stays.
pub(super) fn pack(integers: &[u8], at: u64, from: u64, buf: &mut [u8]) {
    let mut byte = index(at / 2 - from);
    let (before, rest) = integers.split_at(index(at % 2).min(integers.len()));
    if let [high] = before {
        buf[byte] = (buf[byte] & 0xf) | (high << 4);
        byte += 1;
    }
    let (pairs, last) = rest.as_chunks::<2>();
    for (out, [low, high]) in buf[byte..].iter_mut().zip(pairs) {
        *out = (low & 0xf) | (high << 4);
    }
    if let [low] = last {
        let out = &mut buf[byte + pairs.len()];
        *out = (*out & 0xf0) | (low & 0xf);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However seven integers are cut into runs, in whatever order, the bytes are those of all at once.
    #[test]
    fn runs_may_end_in_the_middle_of_a_byte() {
        let integers: Vec<u8> = [-8i8, 7, -1, 0, 3, -5, 1, -2].iter().map(|i| i.cast_unsigned()).collect();
        let whole = [0x78, 0x0f, 0xb3, 0xe1];
        for cut in 0..=integers.len() {
            for last_first in [false, true] {
                // Element 6 of the tensor is the first.
                let mut buf = [0xaa; 4];
                let (head, tail) = integers.split_at(cut);
                let mut runs = [(head, 6), (tail, 6 + cut as u64)];
                if last_first {
                    runs.reverse();
                }
                for (run, at) in runs.into_iter().filter(|(run, _)| !run.is_empty()) {
                    pack(run, at, 3, &mut buf);
                }
                assert_eq!(buf, whole, "{cut} {last_first}");
            }
        }
    }
}
