//! Which process this is, so that another one on the same machine can see whether it still lives.

use std::path::Path;

/// A process, named so that no other is ever taken for it: process numbers are used again, and containers have their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessId {
    /// Where the number means something: this boot of this machine, and the namespace of process numbers in it.
    pub space: String,
    /// The process number.
    pub pid: u32,
    /// When it began, in the kernel's ticks since boot.
    pub began: u64,
}

impl ProcessId {
    /// This process.
    pub fn own() -> Self {
        let pid = std::process::id();
        Self { space: space(), pid, began: began(pid).unwrap_or(0) }
    }

    /// Whether it has ended. `None` where that cannot be seen from here.
    pub fn has_ended(&self) -> Option<bool> {
        let here = space();
        if here.is_empty() || here != self.space || self.began == 0 {
            return None;
        }
        Some(began(self.pid) != Some(self.began))
    }
}

/// The boot and the namespace. Empty where one of them cannot be determined.
fn space() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    let namespace = std::fs::read_link("/proc/self/ns/pid");
    match (boot, namespace) {
        (Ok(boot), Ok(namespace)) => format!("{} {}", boot.trim(), namespace.display()),
        _ => String::new(),
    }
}

/// When a process began. `None`: there is none of that number, or only what is left of one.
fn began(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    // The name is in parentheses and may hold anything; after it come the state and, as the 20th field, the start.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if state == "Z" || state == "X" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_lives_until_it_ends() {
        assert_eq!(ProcessId::own().has_ended(), Some(false));
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let other = ProcessId { pid: child.id(), began: began(child.id()).unwrap(), ..ProcessId::own() };
        assert_eq!(other.has_ended(), Some(false));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(other.has_ended(), Some(true));
        assert_eq!(ProcessId { space: "elsewhere".to_owned(), ..other }.has_ended(), None);
    }
}
