//! Numbers and names as people read them. Decimal units, as disks and `dd` use them.

use std::time::Duration;

/// A name from a file as it may be shown on a terminal: a hostile one must neither command the terminal nor look like a
/// line of ours.
pub fn plain(name: &str) -> String {
    name.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
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

/// Gigabytes per second.
#[expect(clippy::cast_precision_loss, reason = "for people")]
pub fn rate(count: u64, time: Duration) -> String {
    format!("{:.2} GB/s", count as f64 / 1e9 / time.as_secs_f64().max(1e-9))
}
