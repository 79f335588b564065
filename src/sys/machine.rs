//! What the machine has, and what this process has used.

/// A field of a `/proc` status file in bytes (`Name:   123 kB`).
fn proc_field(path: &str, field: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Anonymous memory of this process now, in bytes: what it allocated, without the mapped files.
pub fn anonymous_memory() -> Option<u64> {
    proc_field("/proc/self/status", "RssAnon")
}
