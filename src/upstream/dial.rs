//! From a client to a connected backend.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::narrow::{Allowed, Filter};
use super::picture::{Offer, Order};
use super::pool::Pool;
use super::queue::{LineFull, Place};
use super::slot::{Lease, Slot};
use crate::balance::Turn;
use crate::base::{BackendAddr, ClientAddr, id, time};
use crate::net::tls::Session;
use crate::net::{self, TcpOptions};
use crate::traffic::Answer;

/// Backends whose permits are asked for on behalf of one connection.
const MOST_ASKED: usize = 4;
/// Between two asks on behalf of those who wait.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// A connection to a backend, just made.
#[derive(Debug)]
pub struct Dialed {
    /// Connected, with the pool's `tcp` options.
    pub stream: TcpStream,
    /// TLS on it, when the backend is to be reached by TLS.
    pub session: Option<Box<Session>>,
    /// Its place; keep it as long as the connection.
    pub lease: Lease,
    /// Backends tried, this one included.
    pub attempts: u32,
    /// Time spent waiting for a full backend.
    pub queued: Duration,
    /// Time spent connecting, failed attempts included.
    pub connect: Duration,
}

/// The first that a backend gets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Opening<'a> {
    /// Before TLS, if there is any: a PROXY header.
    pub header: &'a [u8],
    /// What the client has sent already: as all that it sends later, within TLS.
    pub first: &'a [u8],
}

/// Why a client got no backend.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Nobody may be used.
    #[error("no backend can be used")]
    NoBackend,
    /// The client may use none of the pool's backends.
    #[error("no backend may be used by this client")]
    NotAllowed,
    /// All that may be used are full, and there is no queue.
    #[error("all backends are full")]
    Full,
    /// All are full and so is the queue.
    #[error("all backends are full and so is the queue")]
    QueueFull,
    /// Waited in the queue for nothing.
    #[error("no backend had room in time")]
    QueueTimeout,
    /// The last one tried could not be connected to.
    #[error("cannot connect to {address} (backend {attempts} of those tried): {error}")]
    Connect {
        /// The last one.
        address: BackendAddr,
        /// What it said.
        error: io::Error,
        /// Backends tried.
        attempts: u32,
        /// Spent connecting, to all of them, microseconds.
        took_us: u32,
    },
    /// The last one tried did not answer in time.
    #[error("{address} did not answer in time (backend {attempts} of those tried)")]
    Timeout {
        /// The last one.
        address: BackendAddr,
        /// Backends tried.
        attempts: u32,
        /// Spent connecting, to all of them, microseconds.
        took_us: u32,
    },
    /// The whole took too long.
    #[error("no connection before the deadline")]
    Deadline,
}

impl DialError {
    /// The reason code.
    pub fn label(&self) -> &'static str {
        match self {
            DialError::NoBackend => "no_backend",
            DialError::NotAllowed => "not_allowed",
            DialError::Full => "backends_full",
            DialError::QueueFull => "queue_full",
            DialError::QueueTimeout => "queue_timeout",
            DialError::Connect { .. } => "connect_failed",
            DialError::Timeout { .. } => "connect_timeout",
            DialError::Deadline => "connect_deadline",
        }
    }

    /// Backends tried.
    pub fn attempts(&self) -> u32 {
        match self {
            DialError::Connect { attempts, .. } | DialError::Timeout { attempts, .. } => *attempts,
            _ => 0,
        }
    }
}

/// One dial under way.
struct Trip<'a> {
    pool: &'a Pool,
    turn: Turn,
    only: Option<Filter<'a>>,
    /// What `only` allows of the picture that was looked at last.
    allowed: Option<Allowed>,
    deadline: Instant,
    /// Tried in vain; no allocation until that happens.
    failed: Vec<SocketAddr>,
    last_error: Option<DialError>,
    queued: Duration,
    connecting: Duration,
}

impl Pool {
    /// Connects `client` to a backend: the policy's choice, then lazily the next one, at most
    /// `connect_attempts` of them and none twice. When all are full it waits in the pool's queue.
    /// With a filter the choice, retries and the wait are among the backends that it allows, as if
    /// the pool had no others. Ends before `connect_timeout × connect_attempts + queue.timeout`.
    /// To be awaited on any runtime; cancelled, it gives back whatever it holds.
    ///
    /// # Errors
    /// [`DialError`]: the last attempt's fault, or why there was none.
    pub fn dial<'a>(
        self: &'a Arc<Self>,
        client: ClientAddr,
        only: Option<Filter<'a>>,
    ) -> impl Future<Output = Result<Dialed, DialError>> + use<'a> {
        self.dial_with(client, only, Opening::default())
    }

    /// As [`Pool::dial`]; `opening` is the first that a backend gets. An attempt is done when that is
    /// written and the handshake is.
    ///
    /// # Errors
    /// As there.
    pub async fn dial_with(
        self: &Arc<Self>,
        client: ClientAddr,
        only: Option<Filter<'_>>,
        opening: Opening<'_>,
    ) -> Result<Dialed, DialError> {
        let plan = self.plan();
        let most = plan.connect_attempts.max(1);
        let longest = plan.connect_timeout.saturating_mul(most).saturating_add(plan.queue.timeout);
        let (turn, allowed) = match only {
            None => (self.next_turn(client_key(client)), None),
            Some(only) => {
                let (turn, allowed) = self.narrow(client, only)?;
                (turn, Some(allowed))
            }
        };
        let began = time::now();
        let mut trip = Trip {
            pool: self,
            turn,
            only,
            allowed,
            deadline: began.checked_add(longest).unwrap_or(began),
            failed: Vec::new(),
            last_error: None,
            queued: Duration::ZERO,
            connecting: Duration::ZERO,
        };
        while trip.attempts() < most {
            let lease = trip.place().await?;
            if let Some((stream, session)) = trip.connect(&lease, opening).await? {
                let attempts = trip.attempts() + 1;
                let (queued, connect) = (trip.queued, trip.connecting);
                return Ok(Dialed { stream, session, lease, attempts, queued, connect });
            }
        }
        Err(trip.ended(DialError::NoBackend))
    }
}

impl Pool {
    /// What `only` allows, and a turn among them.
    fn narrow(&self, client: ClientAddr, only: Filter<'_>) -> Result<(Turn, Allowed), DialError> {
        let turn = self.narrowed_turn(client_key(client));
        let picture = self.view().look();
        let allowed = picture.allowed(only, turn.noise);
        if allowed.is_nobody() {
            // A name without addresses is in no picture, and may be allowed all the same.
            let lost = self.members().iter().any(|(name, address)| only(name, *address));
            return Err(if lost { DialError::NoBackend } else { DialError::NotAllowed });
        }
        Ok((self.turn_among(&allowed, turn), allowed))
    }

    /// Asks for permits of `slot`'s backend.
    async fn ask_for(&self, slot: &Slot) -> Answer {
        match (&slot.holding, slot.cap) {
            (Some(holding), Some(cap)) => self.holdings().ask(holding.key(), cap).await,
            _ => Answer::Nobody,
        }
    }

    /// Asks once for those who wait in the queue, and waits a moment: one of them for all. Permits
    /// that come are handed out in the queue's order.
    async fn keep_asking(&self, turn: Turn, failed: &[SocketAddr], allowed: Option<&Allowed>) {
        if let Some(_asking) = self.queue().begin_asking(allowed) {
            let borrowers = {
                let picture = self.view().look();
                match allowed {
                    None => picture.order().borrowers(turn, failed),
                    Some(allowed) if allowed.is_of(&picture) => {
                        allowed.order(&picture).borrowers(turn, failed)
                    }
                    // Its dial is about to hear that the picture changed.
                    Some(_) => Vec::new(),
                }
            };
            for slot in borrowers.into_iter().take(MOST_ASKED) {
                self.ask_for(&slot).await;
            }
            sleep(ASK_AGAIN).await;
        } else {
            sleep(2 * ASK_AGAIN).await;
        }
    }
}

impl<'a> Trip<'a> {
    fn attempts(&self) -> u32 {
        self.failed.len() as u32
    }

    /// The last attempt's fault says more than that nobody is left.
    fn ended(&mut self, otherwise: DialError) -> DialError {
        self.last_error.take().unwrap_or(otherwise)
    }

    /// Looks at the order of now, of all or of those that are allowed.
    fn look<T>(&mut self, look: impl FnOnce(&Order, Turn, &[SocketAddr]) -> T) -> T {
        let picture = self.pool.view().look();
        let (turn, failed) = (self.turn, &self.failed);
        let Some(only) = self.only else { return look(picture.order(), turn, failed) };
        let judged = self.allowed.take().filter(|allowed| allowed.is_of(&picture));
        let judged = judged.unwrap_or_else(|| picture.allowed(only, turn.noise));
        look(self.allowed.insert(judged).order(&picture), turn, failed)
    }

    fn offer(&mut self) -> Offer {
        self.look(|order, turn, failed| order.offers(turn).next(failed))
    }

    fn borrowers(&mut self) -> Vec<Arc<Slot>> {
        self.look(Order::borrowers)
    }

    /// What may be used of the picture of now; `None`: everything.
    fn judge(&mut self) -> Option<Allowed> {
        self.only?;
        self.look(|_, _, _| {});
        self.allowed.clone()
    }

    /// The next place. The picture is looked at anew for every attempt: a connect may have taken
    /// seconds.
    async fn place(&mut self) -> Result<Lease, DialError> {
        let queue = &self.pool.plan().queue;
        // A freed place is handed to who waits; nobody snatches it in the moment before.
        if queue.size == 0 || self.pool.queue().waiting() == 0 {
            match self.offer() {
                Offer::Place(lease) => return Ok(lease),
                Offer::Nobody => return Err(self.ended(DialError::NoBackend)),
                Offer::Full => {}
            }
            if let Some(lease) = self.borrow().await {
                return Ok(lease);
            }
            if queue.size == 0 {
                return Err(self.ended(DialError::Full));
            }
        } else if self.only.is_some() && self.look(|order, _, failed| order.is_spent(failed)) {
            // Others wait for what this one may not use; it has nothing to wait for.
            return Err(self.ended(DialError::NoBackend));
        }
        self.wait().await
    }

    /// Where backends are full only as far as this node's permits go, asks the cluster for one more:
    /// of the first in this turn's order, then of the next.
    async fn borrow(&mut self) -> Option<Lease> {
        self.pool.plan().shared_caps?;
        // Asking, and waiting for the answer, is rare: it takes no room in a dial that need not.
        Box::pin(async {
            for slot in self.borrowers().into_iter().take(MOST_ASKED) {
                match self.pool.ask_for(&slot).await {
                    Answer::Granted { .. } => {
                        // Somebody else may have been quicker; then whoever has a place.
                        if let Offer::Place(lease) = self.offer() {
                            return Some(lease);
                        }
                    }
                    Answer::Refused { .. } => {}
                    Answer::Nobody => {
                        if let Some(lease) = slot.take_place_unasked(self.pool.holdings()) {
                            return Some(lease);
                        }
                    }
                }
            }
            None
        })
        .await
    }

    async fn wait(&mut self) -> Result<Lease, DialError> {
        if self.only.is_some() {
            return Box::pin(self.wait_among()).await;
        }
        let pool = self.pool;
        let mut place = match self.line_up(None) {
            Ok(place) => place,
            Err(full) => return self.pass(full),
        };
        let began = time::now();
        let budget = pool.plan().queue.timeout.saturating_sub(self.queued);
        let lease = timeout(budget, async {
            if pool.plan().shared_caps.is_none() {
                return place.lease().await;
            }
            loop {
                tokio::select! {
                    biased;
                    lease = place.lease() => return lease,
                    () = pool.keep_asking(self.turn, &self.failed, None) => {}
                }
            }
        })
        .await
        .ok()
        .flatten();
        self.waited(began, lease)
    }

    /// Waits for a place at a backend that is allowed, and says anew which are whenever the picture
    /// changed.
    async fn wait_among(&mut self) -> Result<Lease, DialError> {
        let pool = self.pool;
        // Heard from before the look at the picture on, so that no change is missed.
        let mut changed = pin!(pool.queue().changed());
        let allowed = self.judge();
        let mut place = match self.line_up(allowed) {
            Ok(place) => place,
            Err(full) => return self.pass(full),
        };
        let began = time::now();
        let budget = pool.plan().queue.timeout.saturating_sub(self.queued);
        let lease = timeout(budget, async {
            loop {
                tokio::select! {
                    biased;
                    lease = place.lease() => return lease,
                    () = &mut changed => {
                        changed.set(pool.queue().changed());
                        if let Some(allowed) = self.judge() {
                            place.allow(allowed);
                        }
                    }
                    () = pool.keep_asking(self.turn, &self.failed, self.allowed.as_ref()),
                        if pool.plan().shared_caps.is_some() => {}
                }
            }
        })
        .await
        .ok()
        .flatten();
        self.waited(began, lease)
    }

    fn line_up(&self, allowed: Option<Allowed>) -> Result<Place<'a>, LineFull> {
        let (pool, turn) = (self.pool, self.turn);
        let (size, serial) = (pool.plan().queue.size, pool.serial());
        pool.queue().line_up(size, serial, pool.view(), turn, &self.failed, allowed)
    }

    fn waited(&mut self, began: Instant, lease: Option<Lease>) -> Result<Lease, DialError> {
        self.queued += time::now().saturating_duration_since(began);
        lease.ok_or_else(|| self.ended(DialError::QueueTimeout))
    }

    /// The line is full. Where those in it wait for something else, there may be a place that none of
    /// them can use.
    fn pass(&mut self, full: LineFull) -> Result<Lease, DialError> {
        if full.mixed {
            self.pool.queue().serve();
            if let Offer::Place(lease) = self.offer() {
                return Ok(lease);
            }
        }
        Err(self.ended(DialError::QueueFull))
    }

    /// Connects; `None` when the next one should be tried.
    async fn connect(
        &mut self,
        lease: &Lease,
        opening: Opening<'_>,
    ) -> Result<Option<(TcpStream, Option<Box<Session>>)>, DialError> {
        let plan = self.pool.plan();
        let began = time::now();
        let left = self.deadline.saturating_duration_since(began);
        if left.is_zero() {
            return Err(self.ended(DialError::Deadline));
        }
        let address = lease.address();
        let longest = plan.connect_timeout.min(left);
        let result = if opening.is_empty() && lease.tls().is_none() {
            timeout(longest, net::connect(address.0, &plan.tcp))
                .await
                .map(|connected| connected.map(|stream| (stream, None)))
        } else {
            // Boxed: most backends are reached without.
            let mut accepted = false;
            let opened = connect_and_open(lease, opening, &plan.tcp, &mut accepted);
            match timeout(longest, Box::pin(opened)).await {
                // It is there; what does not answer is its TLS.
                Err(_) if accepted => Ok(Err(broken_tls("the handshake was not done in time"))),
                result => result,
            }
        };
        self.connecting += time::now().saturating_duration_since(began);
        let attempts = self.attempts() + 1;
        let took_us = u32::try_from(self.connecting.as_micros()).unwrap_or(u32::MAX);
        let fault = match result {
            Ok(Ok(connected)) => {
                lease.account().connected();
                return Ok(Some(connected));
            }
            Ok(Err(error)) if net::is_own_lack(&error) => {
                // Nothing that another backend, or an ejection, could mend.
                return Err(DialError::Connect { address, error, attempts, took_us });
            }
            Ok(Err(error)) => DialError::Connect { address, error, attempts, took_us },
            Err(_) => DialError::Timeout { address, attempts, took_us },
        };
        if blames_backend(&fault) {
            self.pool.connect_failed(lease.account(), &fault);
        }
        self.failed.push(address.0);
        self.last_error = Some(fault);
        Ok(None)
    }
}

impl Opening<'_> {
    fn is_empty(&self) -> bool {
        self.header.is_empty() && self.first.is_empty()
    }
}

/// Connects, goes through the handshake, and writes what comes before and after it.
async fn connect_and_open(
    lease: &Lease,
    opening: Opening<'_>,
    tcp: &TcpOptions,
    accepted: &mut bool,
) -> io::Result<(TcpStream, Option<Box<Session>>)> {
    let mut stream = net::connect(lease.address().0, tcp).await?;
    *accepted = true;
    let Some(tls) = lease.tls() else {
        // In one piece: some backends want to see a header in their first read.
        stream.write_all(&[opening.header, opening.first].concat()).await?;
        return Ok((stream, None));
    };
    stream.write_all(opening.header).await?;
    let mut session = tls.connect(&mut stream).await.map_err(broken_tls)?;
    session.write_all(&mut stream, opening.first).await?;
    Ok((stream, Some(session)))
}

/// One kind of error, whatever became of the handshake: the backend did accept.
fn broken_tls(fault: impl Into<Box<dyn Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, fault)
}

/// Whether a fault speaks against the backend. Having no local port left for it does not, though
/// another one may still be reached.
fn blames_backend(fault: &DialError) -> bool {
    match fault {
        DialError::Connect { error, .. } => error.raw_os_error() != Some(libc::EADDRNOTAVAIL),
        _ => true,
    }
}

/// What consistent hashing knows of a client: its address, the same on every node.
fn client_key(client: ClientAddr) -> u64 {
    match client.ip() {
        std::net::IpAddr::V4(ip) => id::stable_hash(0, &ip.octets()),
        std::net::IpAddr::V6(ip) => id::stable_hash(0, &ip.octets()),
    }
}
