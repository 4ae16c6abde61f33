//! Moving bytes between sockets within the kernel, by `splice(2)` through a pipe.
//!
//! Pipes are scarce: each takes two descriptors, and a user without privileges gets so many pages
//! for all of its pipes (`pipe-user-pages-soft`), after which pipes come with two pages and cannot
//! grow. So every thread keeps a few, lends them while bytes are in them, and opens no more than
//! [`MOST_OPEN`]; who gets none copies instead.

use std::cell::RefCell;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsRawFd, RawFd};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::net::TcpStream;

/// Asked for; 64 pages are one fill of a socket in bulk.
pub(super) const PIPE_SIZE: usize = 256 * 1024;
/// A pipe smaller than this is worse than copying.
const LEAST_SIZE: usize = 64 * 1024;
/// Pipes of one thread.
const MOST_OPEN: usize = 128;
/// Empty pipes kept for the next.
const MOST_SPARE: usize = 8;

/// A pipe and how many bytes are in it.
pub(super) struct Pipe {
    read: PipeReader,
    write: PipeWriter,
    held: usize,
    /// [`Pool::open`] of the thread that it counts for.
    home: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Pool {
    spare: Vec<Pipe>,
    /// Spare and lent. Pipes hold it as well: a relay may have moved to another thread while bytes
    /// lay in one.
    open: Arc<AtomicUsize>,
    /// The kernel (or a sandbox) knows no splice between pipes and sockets.
    refused: bool,
}

thread_local! {
    static POOL: RefCell<Pool> = RefCell::default();
}

/// An empty pipe of this thread; `None` when there is none to be had.
pub(super) fn take() -> Option<Pipe> {
    POOL.with_borrow_mut(|pool| {
        if let Some(pipe) = pool.spare.pop() {
            return Some(pipe);
        }
        if pool.refused || pool.open.load(Relaxed) >= MOST_OPEN {
            return None;
        }
        Pipe::open(&pool.open)
    })
}

/// Takes an empty pipe back, also one of another thread.
pub(super) fn give_back(mut pipe: Pipe) {
    debug_assert_eq!(pipe.held, 0, "bytes of one connection must never reach another");
    POOL.with_borrow_mut(|pool| {
        if pool.spare.len() < MOST_SPARE && !pool.refused && pipe.moves_to(&pool.open) {
            pool.spare.push(pipe);
        }
    });
}

/// Whether `error` says that splice cannot be used here at all; it is not tried again.
pub(super) fn is_refused(error: &io::Error) -> bool {
    let refused = matches!(
        error.raw_os_error(),
        Some(libc::EINVAL | libc::ENOSYS | libc::EPERM | libc::EOPNOTSUPP)
    );
    if refused {
        POOL.with_borrow_mut(|pool| pool.refused = true);
    }
    refused
}

impl Pipe {
    fn open(home: &Arc<AtomicUsize>) -> Option<Pipe> {
        let (read, write) = io::pipe().ok()?;
        let fd = write.as_raw_fd();
        // EPERM over the user's soft limit is no fault: the size got decides.
        // SAFETY: F_SETPIPE_SZ and F_GETPIPE_SZ touch no memory of ours; `fd` is open for the call.
        let size = unsafe {
            libc::fcntl(fd, libc::F_SETPIPE_SZ, PIPE_SIZE as libc::c_int);
            libc::fcntl(fd, libc::F_GETPIPE_SZ)
        };
        let enough = usize::try_from(size).is_ok_and(|size| size >= LEAST_SIZE);
        enough.then(|| {
            home.fetch_add(1, Relaxed);
            Pipe { read, write, held: 0, home: Arc::clone(home) }
        })
    }

    /// Counts for `home` from now on; `false` when no more pipes may.
    fn moves_to(&mut self, home: &Arc<AtomicUsize>) -> bool {
        if Arc::ptr_eq(&self.home, home) {
            return true;
        }
        if home.load(Relaxed) >= MOST_OPEN {
            return false;
        }
        home.fetch_add(1, Relaxed);
        std::mem::replace(&mut self.home, Arc::clone(home)).fetch_sub(1, Relaxed);
        true
    }

    /// Bytes in the pipe.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Moves up to `most` bytes from the socket into the pipe. Only an empty pipe is filled, so
    /// that `WouldBlock` can only mean an empty socket. Zero: the source has ended.
    pub(super) fn fill(&mut self, from: &TcpStream, most: usize) -> io::Result<usize> {
        let moved = splice(from.as_raw_fd(), self.write.as_raw_fd(), most)?;
        self.held += moved;
        Ok(moved)
    }

    /// Moves what the pipe holds into the socket, as far as it takes it.
    pub(super) fn empty(&mut self, to: &TcpStream) -> io::Result<usize> {
        let moved = splice(self.read.as_raw_fd(), to.as_raw_fd(), self.held)?;
        if moved == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.held -= moved;
        Ok(moved)
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.home.fetch_sub(1, Relaxed);
    }
}

fn splice(from: RawFd, to: RawFd, most: usize) -> io::Result<usize> {
    // SAFETY: both descriptors are open for the length of the call, offsets are null as pipes and
    // sockets demand, and no memory of ours is read or written.
    let moved = unsafe {
        libc::splice(
            from,
            ptr::null_mut(),
            to,
            ptr::null_mut(),
            most,
            libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK,
        )
    };
    usize::try_from(moved).map_err(|_| io::Error::last_os_error())
}

/// Pipes of this thread, and how many of them are not lent.
#[cfg(test)]
pub(super) fn open_and_spare() -> (usize, usize) {
    POOL.with_borrow(|pool| (pool.open.load(Relaxed), pool.spare.len()))
}

/// Bytes that the peer has not acknowledged yet; 0 when that cannot be told.
pub(super) fn unsent(socket: &TcpStream) -> usize {
    let mut bytes: libc::c_int = 0;
    // SAFETY: TIOCOUTQ writes one c_int, and `bytes` is one that lives through the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if result == 0 { usize::try_from(bytes).unwrap_or(0) } else { 0 }
}
