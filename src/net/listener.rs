//! A listener that never dies: what accept reports is either about one connection, and is passed
//! over, or about this process running out of something, and is waited out and counted.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

/// Why accepting had to pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PauseCause {
    /// No descriptor left for this process (EMFILE).
    ProcessFiles,
    /// No descriptor left for the system (ENFILE).
    SystemFiles,
    /// No buffers (ENOBUFS).
    Buffers,
    /// No memory (ENOMEM).
    Memory,
    /// As many connections as may be are on their way to a backend already.
    Handshakes,
    /// Something that we know no name for; pausing keeps it from becoming a busy loop.
    Other,
}

const CAUSES: usize = 6;

impl PauseCause {
    const ALL: [PauseCause; CAUSES] = [
        PauseCause::ProcessFiles,
        PauseCause::SystemFiles,
        PauseCause::Buffers,
        PauseCause::Memory,
        PauseCause::Handshakes,
        PauseCause::Other,
    ];

    /// How long to wait: ends may come soon, and the queue holds those who wait.
    pub const WAIT: Duration = Duration::from_millis(50);

    /// As shown in metrics.
    pub fn label(self) -> &'static str {
        match self {
            PauseCause::ProcessFiles => "emfile",
            PauseCause::SystemFiles => "enfile",
            PauseCause::Buffers => "enobufs",
            PauseCause::Memory => "enomem",
            PauseCause::Handshakes => "max_handshakes",
            PauseCause::Other => "other",
        }
    }
}

/// Counts of pauses by cause.
#[derive(Debug, Default)]
pub struct Pauses([AtomicU64; CAUSES]);

impl Pauses {
    /// Counts one.
    pub fn count(&self, cause: PauseCause) {
        self.0[cause as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Adds these counts to `total`, which has one entry for each label, in a fixed order.
    pub fn add_to(&self, total: &mut Vec<(&'static str, u64)>) {
        if total.is_empty() {
            total.extend(PauseCause::ALL.map(|cause| (cause.label(), 0)));
        }
        for ((_, sum), count) in total.iter_mut().zip(&self.0) {
            *sum += count.load(Ordering::Relaxed);
        }
    }
}

/// Accepts one connection. Failures that concern one connection only (it was gone before we came)
/// are passed over.
///
/// # Errors
/// [`PauseCause`]: the caller should count it, wait [`PauseCause::WAIT`] and ask again.
pub fn poll_accept(
    listener: &TcpListener,
    cx: &mut Context<'_>,
) -> Poll<Result<(TcpStream, SocketAddr), PauseCause>> {
    loop {
        match listener.poll_accept(cx) {
            Poll::Ready(Ok(accepted)) => return Poll::Ready(Ok(accepted)),
            Poll::Ready(Err(error)) => match pause(&error) {
                Some(cause) => return Poll::Ready(Err(cause)),
                None => continue,
            },
            Poll::Pending => return Poll::Pending,
        }
    }
}

/// Whether a failed accept is a reason to pause; `None` for what accept(2) lists as errors of the
/// connection that was to be accepted.
pub fn pause(error: &io::Error) -> Option<PauseCause> {
    match error.raw_os_error() {
        Some(libc::EMFILE) => Some(PauseCause::ProcessFiles),
        Some(libc::ENFILE) => Some(PauseCause::SystemFiles),
        Some(libc::ENOBUFS) => Some(PauseCause::Buffers),
        Some(libc::ENOMEM) => Some(PauseCause::Memory),
        Some(
            libc::ECONNABORTED
            | libc::EINTR
            | libc::EPROTO
            | libc::EPERM
            | libc::ENETDOWN
            | libc::ENOPROTOOPT
            | libc::EHOSTDOWN
            | libc::ENONET
            | libc::EHOSTUNREACH
            | libc::EOPNOTSUPP
            | libc::ENETUNREACH
            | libc::ETIMEDOUT,
        ) => None,
        _ => Some(PauseCause::Other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_this_process_lacks_pauses_accepting() {
        let of = |code| pause(&io::Error::from_raw_os_error(code));
        assert_eq!(of(libc::EMFILE), Some(PauseCause::ProcessFiles));
        assert_eq!(of(libc::ENOBUFS), Some(PauseCause::Buffers));
        assert_eq!(of(libc::ECONNABORTED), None);
        assert_eq!(of(libc::EBADF), Some(PauseCause::Other), "never a busy loop");
    }

    #[test]
    fn pauses_of_all_workers_add_up_by_cause() {
        let (one, two) = (Pauses::default(), Pauses::default());
        one.count(PauseCause::ProcessFiles);
        two.count(PauseCause::ProcessFiles);
        two.count(PauseCause::Memory);
        let mut total = Vec::new();
        one.add_to(&mut total);
        two.add_to(&mut total);
        assert_eq!(total[0], ("emfile", 2));
        assert_eq!(total[3], ("enomem", 1));
    }
}
