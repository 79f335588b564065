//! Which addresses and which name this machine has.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The list that the kernel's answer was copied to.
struct Interfaces(*mut libc::ifaddrs);

impl Drop for Interfaces {
    fn drop(&mut self) {
        // SAFETY: the pointer came from a `getifaddrs` that succeeded, and is freed nowhere else. Nothing that points into the
        // list outlives it: `addresses` copies what it reads.
        unsafe { libc::freeifaddrs(self.0) }
    }
}

/// The addresses of this machine's interfaces (of this network namespace), without the loopback's, each once.
///
/// # Errors
/// What the system answers.
pub fn addresses() -> io::Result<Vec<IpAddr>> {
    let mut first = std::ptr::null_mut();
    // SAFETY: `getifaddrs` asks for a place to write a pointer to; `first` is one and lives long enough.
    if unsafe { libc::getifaddrs(&raw mut first) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let list = Interfaces(first);
    let mut found = Vec::new();
    let mut next = list.0;
    // SAFETY: each pointer of the list is null or points to an entry that lives until `list` is dropped.
    while let Some(entry) = unsafe { next.as_ref() } {
        next = entry.ifa_next;
        // SAFETY: `ifa_addr` is null or points to an address that begins with its family and lives as long as the list.
        let Some(address) = (unsafe { entry.ifa_addr.as_ref() }) else { continue };
        let ip = match i32::from(address.sa_family) {
            libc::AF_INET => {
                // SAFETY: an address of family AF_INET is a `sockaddr_in`; a read asks nothing of its alignment.
                let v4 = unsafe { entry.ifa_addr.cast::<libc::sockaddr_in>().read_unaligned() };
                IpAddr::V4(Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr)))
            }
            libc::AF_INET6 => {
                // SAFETY: an address of family AF_INET6 is a `sockaddr_in6`; a read asks nothing of its alignment.
                let v6 = unsafe { entry.ifa_addr.cast::<libc::sockaddr_in6>().read_unaligned() };
                IpAddr::V6(Ipv6Addr::from(v6.sin6_addr.s6_addr))
            }
            _ => continue,
        };
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
