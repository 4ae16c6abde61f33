//! Refusing a client: an orderly close, or a reset.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::net::Leg;

use super::outcome::Outcome;

/// How long a refused client may take to go.
const LINGER: Duration = Duration::from_millis(500);
/// What it may still send.
const LINGER_BYTES: usize = 64 * 1024;
/// Refused clients that linger at once, per worker or library balancer; beyond, they are closed without waiting, or a
/// flood of refused clients would take the descriptors of the welcome ones.
const MOST_LINGERING: u32 = 256;

/// A client that is sent away.
pub(super) struct Refusal {
    leg: Leg,
    manner: Manner,
    pub(super) outcome: Outcome,
}

/// How it is sent away.
#[derive(Clone, Copy, Debug)]
pub(super) enum Manner {
    /// The client reads an end of file.
    Close,
    /// The client's next call fails.
    Reset,
}

impl Refusal {
    pub(super) fn new(leg: impl Into<Leg>, manner: Manner, outcome: Outcome) -> Self {
        Refusal { leg: leg.into(), manner, outcome }
    }

    pub(super) fn close(leg: impl Into<Leg>, outcome: Outcome) -> Self {
        Refusal::new(leg, Manner::Close, outcome)
    }

    pub(super) fn reset(leg: impl Into<Leg>, outcome: Outcome) -> Self {
        Refusal::new(leg, Manner::Reset, outcome)
    }

    /// Says it to the client. `lingering` counts those who linger.
    ///
    /// Closing a socket while received bytes lie in it unread, or before more of them come, turns
    /// the close into a reset. So an orderly close says the end first and then reads for a moment
    /// whatever the client had sent without knowing.
    pub(super) async fn say(self, lingering: &AtomicU32) {
        match self.manner {
            Manner::Reset => {
                // A socket that cannot be told is gone already.
                let _ = SockRef::from(self.leg.socket()).set_linger(Some(Duration::ZERO));
            }
            Manner::Close => {
                let Some(_place) = Lingering::enter(lingering) else { return };
                // Boxed: refusing is short, and would make every connection's future larger.
                let _ = timeout(LINGER, Box::pin(end(self.leg))).await;
            }
        }
    }
}

async fn end(mut leg: Leg) {
    if leg.end().await.is_ok() {
        drain(&mut leg.into_socket()).await;
    }
}

async fn drain(stream: &mut TcpStream) {
    let mut rest = LINGER_BYTES;
    let mut buf = [0; 1024];
    while rest > 0 {
        match stream.read(&mut buf).await {
            Ok(0) | Err(_) => return,
            Ok(n) => rest = rest.saturating_sub(n),
        }
    }
}

struct Lingering<'a>(&'a AtomicU32);

impl<'a> Lingering<'a> {
    fn enter(count: &'a AtomicU32) -> Option<Self> {
        let more = |now| (now < MOST_LINGERING).then_some(now + 1);
        count.fetch_update(Relaxed, Relaxed, more).ok()?;
        Some(Lingering(count))
    }
}

impl Drop for Lingering<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
