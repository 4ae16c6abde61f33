//! How many files, and so connections, this process may have open.

use std::io;

/// Descriptors that are not connections: listeners, epoll, logs, gossip, checks, admin.
const OTHERS: u64 = 128;

/// Raises the soft limit of open files (`RLIMIT_NOFILE`) to the hard one, as only programs that use
/// `select` need the soft one, and answers it. Process-wide: for the program, not for libraries.
///
/// # Errors
/// The system refuses to tell or to raise it.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a live, writable rlimit for the length of the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` is a live rlimit; the call only reads it.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(limit.rlim_max)
}

/// Connections that `descriptors` allow: two for each, client and backend.
pub fn connections_for(descriptors: u64) -> u64 {
    descriptors.saturating_sub(OTHERS) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_the_hard_one_afterwards() {
        let limit = raise_descriptor_limit().unwrap();
        assert!(limit > OTHERS);
        assert_eq!(raise_descriptor_limit().unwrap(), limit);
        let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
        let soft: u64 = line.split_whitespace().nth(3).unwrap().parse().unwrap();
        assert_eq!(soft, limit);
    }

    #[test]
    fn a_connection_takes_two_descriptors() {
        assert_eq!(connections_for(20_128), 10_000);
        assert_eq!(connections_for(10), 0);
    }
}
