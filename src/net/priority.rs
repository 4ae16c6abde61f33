//! Which thread runs first when all processors are busy.

use std::io;

/// As far before the others as the system lets a thread be that still shares with them.
const FIRST: i32 = -19;

/// Lets the calling thread, and those it starts, run before the others of this machine, for threads
/// that work little and are waited for. Real-time priority is not asked for: a thread that spins for
/// a lock would never let go.
///
/// # Errors
/// The system does not allow it (no `CAP_SYS_NICE`, and `RLIMIT_NICE` is too low); nothing has changed.
pub fn run_first() -> io::Result<()> {
    // SAFETY: setpriority takes plain numbers; on Linux, 0 is the calling thread.
    let done = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, FIRST) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nice() -> i32 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        // Behind the name in brackets, which may hold anything, it is the 17th field.
        let behind = stat.rsplit_once(')').unwrap().1;
        behind.split_whitespace().nth(16).unwrap().parse().unwrap()
    }

    #[test]
    fn a_thread_runs_first_when_the_system_allows_it_and_alone() {
        let before = nice();
        let other = std::thread::spawn(|| (run_first(), nice())).join().unwrap();
        match other {
            (Ok(()), nice) => assert_eq!(nice, FIRST),
            (Err(error), nice) => {
                assert!(
                    matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES)),
                    "{error}"
                );
                assert_eq!(nice, before);
            }
        }
        assert_eq!(nice(), before, "the others stay as they are");
    }
}
