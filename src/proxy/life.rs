//! The life of a connection:
//!
//! ```text
//! accepted → admit_peer() → Peer → greet() → Client → admit_client() → Admitted → dial() → Leased
//!          → relay() → Outcome
//! ```
//!
//! Each step takes the noun of the step before, so that a wrong order does not compile. Permits and
//! leases lie in the nouns and go back when these are dropped, on every path.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::base::{ClientAddr, time};
use crate::net::{self, Terms};
use crate::traffic::{
    Action, Answer, CapReached, Caps, ClientPace, Decision, Denied, Limiter, Permit,
};
use crate::upstream::{DialError, Lease};

use super::cut::Why;
use super::farewell::Refusal;
use super::outcome::{Outcome, Reason, Side};
use super::tale::Tale;
use super::worker::Handshake;

/// A connection just accepted; it counts among the worker's handshakes until it is relayed.
pub(super) struct Accepted {
    stream: TcpStream,
    /// Given back early by who waits in a queue, which has a bound of its own: else one client over
    /// its limit could take all handshakes.
    handshake: Option<Handshake>,
}

/// Somebody whose address may connect.
struct Peer(Accepted);

/// A peer that has said who it speaks for: itself.
struct Client {
    peer: Peer,
    address: ClientAddr,
}

/// A client within the rule's limits.
struct Admitted {
    client: Client,
    permit: Option<Box<Permit>>,
    pace: Option<Box<ClientPace>>,
}

/// A client and its backend, no longer a handshake.
struct Leased {
    client: TcpStream,
    upstream: TcpStream,
    lease: Lease,
    pace: Option<Box<ClientPace>>,
    _permit: Option<Box<Permit>>,
}

/// Lives one connection from accept to end and tells its tale.
///
/// Not an `async fn`, here and in [`Leased::relay`]: that would keep its arguments twice as long as
/// the connection lives.
#[expect(clippy::manual_async_fn, reason = "memory per connection")]
pub(super) fn live(accepted: Accepted, mut tale: Tale) -> impl Future<Output = ()> {
    async move {
        let door = Arc::clone(&tale.door);
        let mut place = door.worker.cut.enter(tale.client.ip());
        let walked = place.unless(pin!(walk(accepted, &mut tale))).await;
        match walked {
            Ok(Ok(outcome)) => tale.tell(outcome),
            Ok(Err(refusal)) => {
                tale.tell(refusal.outcome);
                let _ = place.unless(pin!(refusal.say(&door.worker))).await;
            }
            Err(Why::Shutdown) => tale.tell(Outcome::new(Reason::ShutdownCut, Side::Proxy)),
            Err(Why::Ban) => tale.tell(Outcome::new(Reason::BanCut, Side::Proxy)),
        }
    }
}

/// The way of a connection.
async fn walk(accepted: Accepted, tale: &mut Tale) -> Result<Outcome, Refusal> {
    let peer = accepted.admit_peer(tale)?;
    let Ok(client) = peer.greet(tale).await;
    let admitted = client.admit_client(tale).await?;
    let leased = admitted.dial(tale).await?;
    Ok(leased.relay(tale).await)
}

impl Accepted {
    pub(super) fn new(stream: TcpStream, handshake: Handshake) -> Self {
        Accepted { stream, handshake: Some(handshake) }
    }

    /// By ban and by network, before anything is read: here refusing is cheapest.
    fn admit_peer(self, tale: &Tale) -> Result<Peer, Refusal> {
        let banned = tale.door.worker.snapshot.look().bans.look().refuses(tale.client.ip());
        if banned {
            // Reset: an orderly close would linger for it.
            let outcome = Outcome::new(Reason::Banned, Side::Client);
            return Err(Refusal::reset(self.stream, outcome));
        }
        if tale.rule.access.allows(tale.client.ip()) {
            Ok(Peer(self))
        } else {
            Err(self.refuse(Outcome::new(Reason::AccessDenied, Side::Client)))
        }
    }

    fn refuse(self, outcome: Outcome) -> Refusal {
        Refusal::close(self.stream, outcome)
    }
}

impl Peer {
    /// Learns who the client is. Without a PROXY header and TLS there is nothing to wait for: the
    /// client is the peer.
    async fn greet(self, tale: &Tale) -> Result<Client, Infallible> {
        Ok(Client { address: tale.client, peer: self })
    }
}

impl Client {
    /// By the rule's limits: connections at once, connections per second.
    async fn admit_client(mut self, tale: &Tale) -> Result<Admitted, Refusal> {
        let (rule, ip) = (&tale.rule, self.address.ip());
        let permit = match &rule.caps {
            None => None,
            Some(caps) => {
                let entered = match caps.enter(ip) {
                    Ok(permit) => Ok(permit),
                    // Boxed: waiting for another node's word is rare, once permits are here.
                    Err(denied) => Box::pin(ask_for_permit(caps, ip, denied)).await,
                };
                match entered {
                    // Boxed: without caps there is none, and most rules have no caps.
                    Ok(permit) => Some(Box::new(permit)),
                    Err(cap) => return Err(self.peer.0.refuse(cap.into())),
                }
            }
        };
        if let Some(limiter) = &rule.limiter
            && let Decision::Refuse { retry_after } = decide(limiter, ip).await
        {
            let outcome = Outcome::new(Reason::RateLimited, Side::Client);
            match limiter.plan().action {
                Action::Reject => return Err(self.peer.0.refuse(outcome)),
                Action::Drop => return Err(Refusal::reset(self.peer.0.stream, outcome)),
                // Boxed: waiting is rare, and would make every connection's future larger.
                Action::Delay { max, .. } => {
                    drop(self.peer.0.handshake.take());
                    if !Box::pin(wait_for_token(limiter, self.address, retry_after, max)).await {
                        return Err(self.peer.0.refuse(outcome));
                    }
                }
            }
        }
        let pacers = rule.client_pacers.as_ref();
        let pace = pacers.map(|pacers| Box::new(pacers.of(ip, time::now())));
        Ok(Admitted { client: self, permit, pace })
    }
}

/// The limiter's decision; a strict one may have to ask another node first, for some milliseconds.
async fn decide(limiter: &Limiter, client: IpAddr) -> Decision {
    match limiter.admit(client, time::now()) {
        // Boxed, as waiting is rare.
        Decision::Ask(ask) => {
            let answer = limiter.asker().ask(ask).await;
            limiter.answered(ask, answer, time::now())
        }
        decision => decision,
    }
}

/// Asks the cluster for what was denied, each cap once and once more when somebody else was quicker.
async fn ask_for_permit(
    caps: &Arc<Caps>,
    ip: IpAddr,
    mut denied: Denied,
) -> Result<Permit, CapReached> {
    const MOST_ASKS: u32 = 4;
    for _ in 0..MOST_ASKS {
        let Some(answering) = caps.ask(denied) else { break };
        match answering.await {
            Answer::Granted { .. } => match caps.enter(ip) {
                Ok(permit) => return Ok(permit),
                Err(again) => denied = again,
            },
            Answer::Refused { .. } => break,
            Answer::Nobody => return caps.enter_unasked(ip),
        }
    }
    Err(denied.cap)
}

/// Waits in the limiter's queue until there is a token; `false` when there was no place or no
/// token in time.
async fn wait_for_token(
    limiter: &Arc<Limiter>,
    client: ClientAddr,
    mut retry_after: Duration,
    longest: Duration,
) -> bool {
    let Some(mut place) = limiter.enter_queue() else { return false };
    let until = time::now() + longest;
    loop {
        let left = until.saturating_duration_since(time::now());
        if retry_after > left {
            return false;
        }
        // A timer's step: another waiter may have taken the token that we were told of.
        sleep(retry_after.max(Duration::from_millis(1))).await;
        let decision = match place.admit(client.ip(), time::now()) {
            Decision::Ask(ask) => {
                let answer = limiter.asker().ask(ask).await;
                place.answered(ask, answer, time::now())
            }
            decision => decision,
        };
        match decision {
            Decision::Refuse { retry_after: again } => retry_after = again,
            Decision::Admit | Decision::Ask(_) => return true,
        }
    }
}

impl Admitted {
    /// A backend, connected.
    async fn dial(mut self, tale: &mut Tale) -> Result<Leased, Refusal> {
        let waited = tale.age();
        if tale.rule.plan.pool.queue.size > 0 {
            drop(self.client.peer.0.handshake.take());
        }
        // Boxed: dialling ends long before the relay does, whose memory it would else take.
        let dialed = Box::pin(tale.rule.pool.dial(self.client.address, None)).await;
        match dialed {
            Ok(dialed) => {
                tale.note_phases(waited + dialed.queued, dialed.connect);
                tale.attempts = u8::try_from(dialed.attempts).unwrap_or(u8::MAX);
                tale.backend = Some(dialed.lease.address());
                Ok(Leased {
                    client: self.client.peer.0.stream,
                    upstream: dialed.stream,
                    lease: dialed.lease,
                    pace: self.pace,
                    _permit: self.permit,
                })
            }
            Err(error) => {
                tale.attempts = u8::try_from(error.attempts()).unwrap_or(u8::MAX);
                let dialing = tale.age().saturating_sub(waited);
                match &error {
                    DialError::Connect { address, .. } | DialError::Timeout { address, .. } => {
                        tale.backend = Some(*address);
                        tale.note_phases(waited, dialing);
                    }
                    _ => tale.note_phases(waited + dialing, Duration::ZERO),
                }
                Err(self.client.peer.0.refuse(Outcome::from(&error)))
            }
        }
    }
}

impl Leased {
    /// Carries bytes until the end.
    #[expect(clippy::manual_async_fn, reason = "memory per connection")]
    fn relay(mut self, tale: &Tale) -> impl Future<Output = Outcome> {
        async move {
            // All of it by name, or a block captures only what it uses and the permit goes back
            // before the relay has begun.
            let Leased { client, upstream, lease, pace, _permit } = &mut self;
            let pace = pace.as_deref();
            let upload = pace.and_then(|pace| pace.upload()).map(Arc::as_ref);
            let download = pace.and_then(|pace| pace.download()).map(Arc::as_ref);
            let terms = Terms {
                idle_timeout: tale.rule.plan.idle_timeout,
                keepalive: Some(&tale.rule.pool.plan().tcp.keepalive),
                upload: [upload, lease.upload()],
                download: [download, lease.download()],
            };
            let end = net::relay(client, upstream, terms, tale).await;
            Outcome::from(&end)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn future_size<F: Future>(_: impl FnOnce(Accepted, Tale) -> F) -> usize {
        size_of::<F>()
    }

    /// Memory per connection is a bar of ours. With what tokio adds this makes a task of 1024 bytes
    /// (they come in steps of 128); each of the two sockets takes 256 more.
    #[test]
    fn a_connection_at_rest_is_small() {
        let size = future_size(live);
        println!("live {size}, tale {}, leased {}", size_of::<Tale>(), size_of::<Leased>());
        assert!(size <= 848, "{size} bytes");
    }
}
