//! Numbers and names as people read them. Decimal units, as disks and `dd` use them.

use std::time::Duration;

/// A name from a file as it may be shown on a terminal: a hostile one must neither command the terminal nor look like a
/// line of ours.
pub fn plain(name: &str) -> String {
    name.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// `1 file`, `2 files`.
pub(super) fn count(number: impl TryInto<u64>, one: &str) -> String {
    match number.try_into() {
        Ok(1) => format!("1 {one}"),
        Ok(number) => format!("{number} {one}s"),
        // No count is larger than any number of 64 bits.
        Err(_) => format!("many {one}s"),
    }
}

/// `13.48 GB`.
pub fn bytes(count: u64) -> String {
    indicatif::DecimalBytes(count).to_string()
}

/// `12.3 s`, `4 min 5 s`.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds < 60 {
        format!("{:.2} s", time.as_secs_f64())
    } else {
        format!("{} min {} s", seconds / 60, seconds % 60)
    }
}

/// `1.23 GB/s`, `45.60 kB/s`.
#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::cast_sign_loss, reason = "for people")]
pub fn rate(count: u64, time: Duration) -> String {
    format!("{}/s", bytes((count as f64 / time.as_secs_f64().max(1e-9)) as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_one() {
        assert_eq!(
            [count(0_usize, "file"), count(1_u32, "file"), count(2_u64, "file")],
            ["0 files", "1 file", "2 files"]
        );
    }

    #[test]
    fn a_rate_has_the_unit_that_fits() {
        let rate = |count| rate(count, Duration::from_millis(500));
        assert_eq!(rate(51_950), "103.90 kB/s");
        assert_eq!(rate(5_000_000), "10.00 MB/s");
        assert_eq!(rate(6_740_000_000), "13.48 GB/s");
        assert_eq!(rate(0), "0 B/s");
    }
}
