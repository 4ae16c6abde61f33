//! How many descriptors this process may have. A proxied connection takes two, and two more while
//! it is spliced; the soft limit that shells and containers give (often 1024) is there for programs
//! that use `select(2)`, and any process may raise it to the hard one.

use std::io;

/// Raises the soft limit of open files to the hard one; returns the limit that holds now.
///
/// # Errors
/// The system refuses to say or to change it; the limit is as before then.
pub fn raise_file_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: getrlimit writes one rlimit to where it is pointed, and `limit` lives through the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: setrlimit only reads the rlimit that it is pointed to.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(limit.rlim_cur)
}
