//! What the machine has, and what this process has used.

use std::path::{Path, PathBuf};

use super::Ring;

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

/// Memory that this process may still take, in bytes: what the machine can free, or the limit of the control group (a
/// container's) where that is smaller.
pub fn available_memory() -> Option<u64> {
    let machine = proc_field("/proc/meminfo", "MemAvailable");
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let group = group_limit(&groups, Path::new("/sys/fs/cgroup"));
    [machine, group].into_iter().flatten().min()
}

/// The least limit of the control groups that `/proc/self/cgroup` names, and of all above them.
fn group_limit(groups: &str, root: &Path) -> Option<u64> {
    let mut least = None;
    for line in groups.lines() {
        // hierarchy:controllers:path
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let (root, file): (PathBuf, _) = if controllers.is_empty() {
            (root.to_owned(), "memory.max")
        } else if controllers.split(',').any(|c| c == "memory") {
            (root.join("memory"), "memory.limit_in_bytes")
        } else {
            continue;
        };
        // In a container the path may be the host's: the limit is then at the root that the container sees.
        for group in Path::new(path.trim_start_matches('/')).ancestors() {
            let text = std::fs::read_to_string(root.join(group).join(file)).unwrap_or_default();
            // "max", or a number near 2^63: no limit.
            let limit = text.trim().parse::<u64>().ok().filter(|limit| *limit < 1 << 62);
            least = [least, limit].into_iter().flatten().min();
        }
    }
    least
}

/// Whether `io_uring` is available; if not, what the kernel says.
pub fn uring() -> std::io::Result<()> {
    Ring::new(1).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_limit_of_a_group_and_those_above_it_counts() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        // Version 2: `max` says nothing, the group above is tighter than the one below.
        write("a/b/memory.max", "900000000\n");
        write("a/memory.max", "500000000\n");
        write("memory.max", "max\n");
        assert_eq!(group_limit("0::/a/b\n", dir.path()), Some(500_000_000));
        assert_eq!(group_limit("0::/elsewhere\n", dir.path()), None);
        // Version 1: its own tree, and a huge number for "none".
        write("memory/c/memory.limit_in_bytes", "268435456\n");
        write("memory/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(group_limit("5:cpu:/c\n4:memory:/c\n", dir.path()), Some(268_435_456));
        assert_eq!(group_limit("4:memory:/\n", dir.path()), None);
        assert_eq!(group_limit("", dir.path()), None);
    }

    #[test]
    fn there_is_memory() {
        assert!(available_memory().is_some_and(|bytes| bytes > 1 << 20));
    }
}
