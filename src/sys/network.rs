//! Which addresses and which name this machine has.

use std::io;
use std::net::IpAddr;

/// The addresses of this machine's interfaces (of this network namespace), without the loopback's, each once.
///
/// # Errors
/// What the system returns.
pub fn addresses() -> io::Result<Vec<IpAddr>> {
    let mut found = Vec::new();
    for ip in if_addrs::get_if_addrs()?.iter().map(if_addrs::Interface::ip) {
        if !ip.is_loopback() && !found.contains(&ip) {
            found.push(ip);
        }
    }
    Ok(found)
}

/// The machine's name, as far as it has one.
pub fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").map_or_else(|_| String::new(), |name| name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_is_nobodys_own() {
        assert!(addresses().unwrap().iter().all(|ip| !ip.is_loopback()));
    }
}
