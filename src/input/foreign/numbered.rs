//! Numbers in file names: `model-00001-of-00003.safetensors`, `consolidated.00.pth`.

use std::collections::BTreeMap;

/// The most missing files that are listed: names may claim any number.
const MOST_LISTED: usize = 64;

/// Number and total of `<stem>-<number>-of-<total>.<extension>`.
pub(super) fn part_of(name: &str, stem: &str, extension: &str) -> Option<(u64, u64)> {
    let middle = name.strip_prefix(stem)?.strip_prefix('-')?.strip_suffix(extension)?.strip_suffix('.')?;
    let (number, total) = middle.split_once("-of-")?;
    let (number, total) = (digits(number, 5)?, digits(total, 5)?);
    (1..=total).contains(&number).then_some((number, total))
}

/// The number of `consolidated.<nn>.pth`.
pub(super) fn shard(name: &str) -> Option<u64> {
    let number = name.strip_prefix("consolidated.")?.strip_suffix(".pth")?;
    digits(number, 2)
}

/// The names of the numbers from `first` up to the highest there that are missing, as far as they are listed.
pub(super) fn gaps(first: u64, there: &BTreeMap<u64, String>, name: impl Fn(u64) -> String) -> Vec<String> {
    let last = there.last_key_value().map_or(first, |(&last, _)| last);
    (first..=last).filter(|n| !there.contains_key(n)).take(MOST_LISTED).map(name).collect()
}

/// The names of the numbers from 1 to `total` that are missing, as far as they are listed.
pub(super) fn missing(total: u64, there: &BTreeMap<u64, String>, name: impl Fn(u64) -> String) -> Vec<String> {
    (1..=total).filter(|n| !there.contains_key(n)).take(MOST_LISTED).map(name).collect()
}

/// Exactly so many digits, as the libraries write them: no number is written in two ways.
fn digits(text: &str, count: usize) -> Option<u64> {
    let plain = text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().ok())?
}
