//! Waking once for many segments: the source of a long bulk is told to wake us only when
//! [`BATCH`] bytes are there (`SO_RCVLOWAT`). Waking for every segment was a quarter of what bulk
//! cost.
//!
//! Bytes of a source that pauses before there are so many would lie in its queue for ever, so a
//! timer watches: when it rings, any byte wakes us again, and as much again must go by before
//! batching is tried another time. So a stream of short bursts loses [`PATIENCE`] a few times in
//! its life, not once per burst.

use std::future::Future;
use std::io;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::task::Context;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use crate::base::time;

/// Bytes worth waking for.
const BATCH: libc::c_int = 512 * 1024;
/// How long they may take to come. Slower than 2 Gbit/s there is little to gain.
const PATIENCE: Duration = Duration::from_millis(2);

/// Batching of one direction that has carried much.
pub(super) struct Batching {
    on: bool,
    /// It is tried again when this much was carried.
    next_at: u64,
    /// When the source was last found empty.
    since: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Batching {
    /// Not on yet. Must be called on a runtime.
    pub(super) fn new() -> Self {
        Batching { on: false, next_at: 0, since: time::now(), timer: Box::pin(sleep(PATIENCE)) }
    }

    /// The source is empty for now, after `moved` bytes: it should wake us for a batch.
    pub(super) fn expect(&mut self, from: &TcpStream, moved: u64) {
        if !self.on && moved >= self.next_at {
            self.on = wake_at(from, BATCH).is_ok();
        }
        self.since = time::now();
    }

    /// While the source is waited for: gives up when the batch takes too long. The timer is set
    /// anew only when it rings, for setting it can cost a call.
    pub(super) fn poll_patience(&mut self, cx: &mut Context<'_>, from: &TcpStream, moved: u64) {
        while self.on && self.timer.as_mut().poll(cx).is_ready() {
            let due = self.since + PATIENCE;
            if due <= time::now() {
                self.stop(from, moved);
            } else {
                self.timer.as_mut().reset(due.into());
            }
        }
    }

    /// Any byte wakes us again; if there are some, the kernel does so now.
    pub(super) fn stop(&mut self, from: &TcpStream, moved: u64) {
        if self.on {
            self.on = false;
            self.next_at = moved.saturating_mul(2);
            // It was possible to set, so it is possible to set back.
            let _ = wake_at(from, 1);
        }
    }
}

/// Sets `SO_RCVLOWAT`, which socket2 does not know.
fn wake_at(socket: &TcpStream, bytes: libc::c_int) -> io::Result<()> {
    // SAFETY: the kernel reads one c_int from where it is pointed, and `bytes` lives through the
    // call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVLOWAT,
            (&raw const bytes).cast(),
            size_of_val(&bytes) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;

    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (near, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn a_few_bytes_wait_for_more_only_as_long_as_patience_lasts() {
        let (near, mut far) = pair().await;
        let mut batching = Batching::new();
        batching.expect(&near, 1000);
        assert!(batching.on);
        far.write_all(b"a tail").await.unwrap();
        let unwatched = timeout(PATIENCE * 10, near.readable()).await;
        assert!(unwatched.is_err(), "woken for less than a batch");

        batching.expect(&near, 1000);
        let watched = poll_fn(|cx| {
            batching.poll_patience(cx, &near, 1000);
            near.poll_read_ready(cx).map(|ready| ready.unwrap())
        });
        timeout(Duration::from_secs(5), watched).await.expect("the tail is never read");
        assert!(!batching.on);
        batching.expect(&near, 1999);
        assert!(!batching.on, "tried again too soon");
        batching.expect(&near, 2000);
        assert!(batching.on, "never tried again");
    }

    #[tokio::test]
    async fn an_end_wakes_at_once() {
        let (near, far) = pair().await;
        let mut batching = Batching::new();
        batching.expect(&near, 1000);
        drop(far);
        let woken = poll_fn(|cx| match near.poll_read_ready(cx) {
            Poll::Ready(ready) => Poll::Ready(ready.is_ok()),
            Poll::Pending => Poll::Pending,
        });
        assert!(timeout(Duration::from_secs(5), woken).await.expect("the end is not seen"));
    }
}
