//! The relay: carries bytes both ways between a client and a backend until both have ended.
//!
//! ```text
//!            ┌──────────── up: Direction ────────────▶
//!   client ──┤  read → 64 KiB of the thread → write   ├── upstream
//!            ◀─────────── down: Direction ────────────┘
//! ```
//!
//! What makes it cheap: a connection at rest owns no buffer (one per *thread* serves them all, see
//! `direction`); what moves in bulk goes through a kernel pipe without being copied (`splice`);
//! pacing and bytes that could not be passed on at once are boxed, for they are rare. All of a
//! relay runs in one task, so that the two directions share one waker and one timer.
//!
//! A half-closed connection stays half-open: an end from one side is passed on to the other, whose
//! answer still comes through.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep_until};

use crate::base::time;
use crate::traffic::Pacer;

use super::Keepalive;

mod batch;
mod direction;
mod pace;
mod splice;
mod wire;

use direction::{Direction, Failure};
use wire::Wire;

pub use wire::{Leg, Sealed};

/// What a relay is bound to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terms<'a> {
    /// Ends a relay that carried nothing either way for this long; zero: never.
    pub idle_timeout: Duration,
    /// For the socket to the backend (the client's has it from its listener). Set when the relay has
    /// lived for a while: until then it could do nothing, and many relays end before.
    pub keepalive: Option<&'a Keepalive>,
    /// Pace what the client sends; all of them are asked.
    pub upload: [Option<&'a Pacer>; 2],
    /// Pace what the client gets.
    pub download: [Option<&'a Pacer>; 2],
    /// One task awaits the relay from its beginning to its end, which spares asking the timer every
    /// time. Without it the relay may also begin in one task and go on in another.
    pub one_task: bool,
}

/// One of the two ends of a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Who connected to us.
    Client,
    /// Whom we connected to.
    Upstream,
}

/// How a relay ended.
#[derive(Debug)]
pub enum End {
    /// Both sides have sent all they had; `first` was the first to end.
    Done {
        /// Who ended first.
        first: Side,
    },
    /// Nothing moved for the idle timeout.
    Idle,
    /// The connection to `side` failed.
    Failed {
        /// Whose connection.
        side: Side,
        /// Whether that side had ended its half before: it left rather than broke.
        after_its_end: bool,
        /// As the system says.
        error: io::Error,
    },
}

impl End {
    /// What was wrong with the TLS of the side that failed, if that was it.
    pub(crate) fn broken_tls(&self) -> Option<&io::Error> {
        match self {
            End::Failed { error, .. } if error.kind() == io::ErrorKind::InvalidData => Some(error),
            _ => None,
        }
    }
}

/// Hears how many bytes were delivered, now and then while a relay lives and when it ends, also
/// when it is dropped in between.
pub trait Meter {
    /// `up` more bytes reached the backend, `down` more the client.
    fn moved(&self, up: u64, down: u64);
}

/// Hears nothing.
impl Meter for () {
    fn moved(&self, _: u64, _: u64) {}
}

/// Carries bytes between `client` and `upstream` until both have ended, one failed or nothing moved
/// for too long. Dropping the future cuts the relay; the streams are the caller's to close.
///
/// To be awaited on any tokio runtime, the multi-threaded one included: the relay borrows buffers
/// and empty pipes of whichever thread polls it, keeps what it could not pass on, and nothing of a
/// thread between two polls. Its future is `Send` where the meter is `Sync`. Cheapest is a
/// current-thread runtime per core, for sockets then never change their thread.
///
/// ```
/// use tidegate::net::{End, Side, Terms, relay};
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
/// use tokio::net::{TcpListener, TcpStream};
///
/// # #[tokio::main]
/// # async fn main() -> std::io::Result<()> {
/// let (front, back) = (TcpListener::bind("127.0.0.1:0").await?, TcpListener::bind("127.0.0.1:0").await?);
/// let mut client = TcpStream::connect(front.local_addr()?).await?;
/// let mut accepted = front.accept().await?.0;
/// let mut upstream = TcpStream::connect(back.local_addr()?).await?;
/// let mut server = back.accept().await?.0;
///
/// let relaying = tokio::spawn(async move {
///     relay(&mut accepted, &mut upstream, Terms::default(), &()).await
/// });
/// client.write_all(b"question").await?;
/// client.shutdown().await?;
/// let mut asked = String::new();
/// server.read_to_string(&mut asked).await?;
/// assert_eq!(asked, "question");
/// server.write_all(b"answer").await?;
/// drop(server);
/// let mut answer = String::new();
/// client.read_to_string(&mut answer).await?;
/// assert_eq!(answer, "answer");
/// assert!(matches!(relaying.await?, End::Done { first: Side::Client }));
/// # Ok(())
/// # }
/// ```
///
/// Not an `async fn`, which would keep its arguments a second time as long as the relay lives.
pub fn relay<'a, M: Meter>(
    client: &'a mut TcpStream,
    upstream: &'a mut TcpStream,
    terms: Terms<'a>,
    meter: &'a M,
) -> impl Future<Output = End> + use<'a, M> {
    relay_wires(client, upstream, terms, meter)
}

/// As [`relay`], where one side at least has TLS on it.
pub fn relay_legs<'a, M: Meter>(
    client: &'a mut Leg,
    upstream: &'a mut Leg,
    terms: Terms<'a>,
    meter: &'a M,
) -> impl Future<Output = End> + use<'a, M> {
    relay_wires(client, upstream, terms, meter)
}

fn relay_wires<'a, C: Wire, U: Wire, M: Meter>(
    client: &'a mut C,
    upstream: &'a mut U,
    terms: Terms<'a>,
    meter: &'a M,
) -> impl Future<Output = End> + use<'a, C, U, M> {
    let mut ways = Ways::new(&terms, meter);
    async move {
        let mut timer = pin!(ways.timer());
        poll_fn(|cx| ways.poll(cx, client, upstream, timer.as_mut())).await
    }
}

/// Told to the meter at least this often while bytes move.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// A relay that lives longer than this lasts, as far as keepalive goes.
const LASTS: Duration = Duration::from_secs(5);

/// Both directions of one relay.
struct Ways<'a, M: Meter> {
    up: Direction<'a>,
    down: Direction<'a>,
    /// Milliseconds; 0: never. Half the size of a `Duration` and long enough: 49 days.
    idle_ms: u32,
    /// Still to be set.
    keepalive: Option<&'a Keepalive>,
    active_at: Instant,
    told_at: Instant,
    told: (u64, u64),
    timer_runs: bool,
    one_task: bool,
    first_end: Option<Side>,
    /// A write towards this side failed; what it had sent before is still passed on.
    broken: Option<(Side, io::Error)>,
    meter: &'a M,
}

impl<'a, M: Meter> Ways<'a, M> {
    fn new(terms: &Terms<'a>, meter: &'a M) -> Self {
        let now = time::now();
        Ways {
            up: Direction::new(terms.upload),
            down: Direction::new(terms.download),
            idle_ms: millis(terms.idle_timeout),
            keepalive: terms.keepalive.filter(|keepalive| !keepalive.idle.is_zero()),
            active_at: now,
            told_at: now,
            told: (0, 0),
            timer_runs: false,
            one_task: terms.one_task,
            first_end: None,
            broken: None,
            meter,
        }
    }

    fn timer(&self) -> Option<Sleep> {
        let idle = (self.idle_ms > 0).then(|| self.idle_timeout());
        let lasts = self.keepalive.map(|keepalive| LASTS.min(keepalive.idle));
        let first = idle.into_iter().chain(lasts).min()?;
        Some(sleep_until((self.active_at + first).into()))
    }

    fn idle_timeout(&self) -> Duration {
        Duration::from_millis(self.idle_ms.into())
    }

    fn poll<C: Wire, U: Wire>(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut C,
        upstream: &mut U,
        timer: Pin<&mut Option<Sleep>>,
    ) -> Poll<End> {
        let mut active = false;
        let last = self.down.is_over();
        let up = self.up.poll(cx, client, upstream, last, &mut active);
        let last = self.up.is_over();
        let down = self.down.poll(cx, upstream, client, last, &mut active);
        if active {
            self.note_activity();
        }
        self.note_first_end();
        if let Some(end) = self.end(up, down) {
            let end = self.blame_the_first(end, client.was_whole(), upstream.was_whole());
            pass_reset(&end, client.socket(), upstream.socket());
            return Poll::Ready(end);
        }
        self.poll_timer(cx, upstream.socket(), timer)
    }

    /// Whether the relay is over, after both directions were polled.
    fn end(
        &mut self,
        up: Poll<Result<(), Failure>>,
        down: Poll<Result<(), Failure>>,
    ) -> Option<End> {
        for (polled, from, to) in
            [(up, Side::Client, Side::Upstream), (down, Side::Upstream, Side::Client)]
        {
            match polled {
                Poll::Ready(Err(Failure::Read(error))) => return Some(self.failed(from, error)),
                // The side is gone, but what it sent before may still lie in our receive queue: a
                // server that answers early and closes has its answer delivered.
                Poll::Ready(Err(Failure::Write(error))) if self.broken.is_none() => {
                    self.broken = Some((to, error));
                }
                _ => {}
            }
        }
        if !(self.up.is_over() && self.down.is_over()) {
            return None;
        }
        Some(match self.broken.take() {
            Some((side, error)) => self.failed(side, error),
            None => End::Done { first: self.first_end.unwrap_or(Side::Client) },
        })
    }

    fn failed(&mut self, side: Side, error: io::Error) -> End {
        let (side, error) = self.broken.take().unwrap_or((side, error));
        let from = match side {
            Side::Client => &self.up,
            Side::Upstream => &self.down,
        };
        End::Failed { side, after_its_end: from.has_ended(), error }
    }

    /// A side whose stream was torn off has the other one fail, which was told of it: the first is to
    /// blame.
    fn blame_the_first(&self, end: End, client_whole: bool, upstream_whole: bool) -> End {
        let torn = match self.first_end {
            Some(Side::Client) => !client_whole,
            Some(Side::Upstream) => !upstream_whole,
            None => false,
        };
        match (&end, self.first_end) {
            (End::Failed { side, .. }, Some(first)) if torn && first != *side => {
                let error = io::ErrorKind::ConnectionAborted.into();
                End::Failed { side: first, after_its_end: true, error }
            }
            _ => end,
        }
    }

    fn note_activity(&mut self) {
        let now = time::now();
        self.active_at = now;
        if now.duration_since(self.told_at) >= TELL_EVERY {
            self.told_at = now;
            self.tell();
        }
    }

    fn note_first_end(&mut self) {
        if self.first_end.is_none() {
            self.first_end = match (self.up.has_ended(), self.down.has_ended()) {
                (true, _) => Some(Side::Client),
                (false, true) => Some(Side::Upstream),
                (false, false) => None,
            };
        }
    }

    fn tell(&mut self) {
        let moved = (self.up.moved(), self.down.moved());
        if moved != self.told {
            self.meter.moved(moved.0 - self.told.0, moved.1 - self.told.1);
            self.told = moved;
        }
    }

    /// Activity does not touch the timer: when it rings, it is set to what is left.
    fn poll_timer(
        &mut self,
        cx: &mut Context<'_>,
        upstream: &TcpStream,
        timer: Pin<&mut Option<Sleep>>,
    ) -> Poll<End> {
        let Some(mut timer) = timer.as_pin_mut() else { return Poll::Pending };
        // Once polled it holds the task's waker, and need not be asked until it has rung.
        if self.one_task && self.timer_runs && !timer.is_elapsed() {
            return Poll::Pending;
        }
        self.timer_runs = true;
        loop {
            ready!(timer.as_mut().poll(cx));
            if let Some(keepalive) = self.keepalive.take() {
                // A socket that cannot be told is gone already.
                let _ = keepalive.apply(&SockRef::from(upstream));
            }
            if self.idle_ms == 0 {
                return Poll::Pending;
            }
            let due = self.active_at + self.idle_timeout();
            if due <= time::now() {
                return Poll::Ready(End::Idle);
            }
            timer.as_mut().reset(due.into());
        }
    }
}

impl<M: Meter> Drop for Ways<'_, M> {
    fn drop(&mut self) {
        self.tell();
    }
}

/// Rounded up, so that no timeout becomes none.
fn millis(timeout: Duration) -> u32 {
    u32::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX)
}

/// A side that reset its connection has the other side's reset as well, so that a torn stream does
/// not look like a whole one. Not while bytes for the client still lie in our send queue: a reset
/// would throw them away.
fn pass_reset(end: &End, client: &TcpStream, upstream: &TcpStream) {
    let End::Failed { side, after_its_end: false, .. } = end else { return };
    let other = match side {
        Side::Client => upstream,
        Side::Upstream if splice::unsent(client) == 0 => client,
        Side::Upstream => return,
    };
    // A socket that cannot be told is gone already.
    let _ = SockRef::from(other).set_linger(Some(Duration::ZERO));
}

#[cfg(test)]
mod tests;
