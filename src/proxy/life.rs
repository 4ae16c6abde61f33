//! The life of a connection:
//!
//! ```text
//! accepted → admit_peer() → Peer → greet() → Client → admit_client() → Admitted → secure() → Known
//!          → dial() → Leased → relay() → Outcome
//! ```
//!
//! Each step takes the noun of the step before, so that a wrong order does not compile. Permits and
//! leases lie in the nouns and go back when these are dropped, on every path.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::base::{ClientAddr, Endpoint, Identity, time};
use crate::net::tls::{TlsRoute, route};
use crate::net::{self, End, HeaderVersion, Leg, Meter as _, Terms, TlsTold, Told, write_header};
use crate::traffic::{ClientPace, Decision, LimitKey, Limiter, Permission, Permit, Subject, Way};
use crate::upstream::{DialError, Dialed, Lease, Opening};

use super::access_log::Secured;
use super::cut::Why;
use super::door::{Crowded, Handshake};
use super::farewell::Refusal;
use super::greeting::{self, HEADER_TIMEOUT, Shown, SoFar};
use super::limits;
use super::outcome::{Outcome, Reason, Side};
use super::plan::RulePlan;
use super::tale::Tale;

/// A connection just accepted; it counts among the worker's handshakes until it is relayed.
pub(super) struct Accepted {
    stream: TcpStream,
    /// Given back early by who waits in a queue, which has a bound of its own: else one client over
    /// its limit could take all handshakes.
    handshake: Option<Handshake>,
}

/// Somebody whose address may connect.
struct Peer(Accepted);

/// A peer that has said who it speaks for: itself, or whom its PROXY header names.
struct Client {
    peer: Peer,
    address: ClientAddr,
    /// Where the client connected to, by its PROXY header.
    destination: Option<SocketAddr>,
    /// What was read beyond what was asked for: the first that comes next.
    peeked: Vec<u8>,
}

/// A client within the rule's limits.
struct Admitted {
    client: Client,
    permit: Option<Box<Permit>>,
    pace: Option<Box<ClientPace>>,
}

/// A client that has shown by TLS who it is, as far as its rule asks for it.
struct Known {
    admitted: Admitted,
    shown: Option<Box<Shown>>,
}

/// A client and its backend, no longer a handshake.
struct Leased {
    client: Leg,
    upstream: Leg,
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
        let mut place = tale.door.worker.cut.enter(tale.client.ip());
        tale.place = place.at();
        let walked = place.unless(pin!(walk(accepted, &mut tale))).await;
        match walked {
            Ok(Ok(outcome)) => tale.tell(outcome),
            Ok(Err(refusal)) => {
                tale.tell(refusal.outcome);
                let _ = place.unless(pin!(refusal.say(&tale.door.worker.lingering))).await;
            }
            Err(Why::Shutdown) => tale.tell(Outcome::new(Reason::ShutdownCut, Side::Proxy)),
            Err(Why::Ban) => tale.tell(Outcome::new(Reason::BanCut, Side::Proxy)),
        }
    }
}

/// The way of a connection.
async fn walk(accepted: Accepted, tale: &mut Tale) -> Result<Outcome, Refusal> {
    let peer = accepted.admit_peer(tale)?;
    let client = peer.greet(tale).await?;
    let admitted = client.admit_client(tale).await?;
    let known = admitted.secure(tale).await?;
    let leased = known.dial(tale).await?;
    let end = leased.relay(tale).await;
    if let Some(fault) = end.broken_tls() {
        tale.secured.get_or_insert_default().fault = Some(fault.to_string().into());
    }
    Ok(Outcome::from(&end))
}

impl Accepted {
    pub(super) fn new(stream: TcpStream, handshake: Handshake) -> Self {
        Accepted { stream, handshake: Some(handshake) }
    }

    /// By ban and by network, before anything is read: here refusing is cheapest.
    fn admit_peer(self, tale: &Tale) -> Result<Peer, Refusal> {
        self.admit_address(tale)
    }

    fn admit_address(self, tale: &Tale) -> Result<Peer, Refusal> {
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
        match outcome.reason {
            // Room is wanted now, and it would linger.
            Reason::CrowdedOut => Refusal::reset(self.stream, outcome),
            _ => Refusal::close(self.stream, outcome),
        }
    }
}

impl Peer {
    /// Learns who the client is: the peer, unless the rule reads PROXY headers.
    async fn greet(self, tale: &mut Tale) -> Result<Client, Refusal> {
        if tale.rule.plan.proxy_from.is_none() {
            let (destination, peeked) = (None, Vec::new());
            return Ok(Client { address: tale.client, peer: self, destination, peeked });
        }
        // Boxed: most rules read none.
        Box::pin(self.read_header(tale)).await
    }

    async fn read_header(mut self, tale: &mut Tale) -> Result<Client, Refusal> {
        let ip = tale.client.ip();
        let trusted = tale.rule.plan.proxy_from.iter().flatten().any(|net| net.contains(&ip));
        if !trusted {
            return Err(self.0.refuse(Outcome::new(Reason::ProxyUntrusted, Side::Client)));
        }
        let mut peeked = Vec::new();
        let longest = tale.rule.tls.as_ref().map_or(HEADER_TIMEOUT, |tls| tls.handshake_timeout);
        let crowded = Crowded::of(self.0.handshake.as_ref());
        let began = tale.age();
        let read = greeting::read_header(&mut self.0.stream, &mut peeked, longest, crowded).await;
        tale.note_handshake(began);
        let header = match read {
            Ok(header) => header,
            Err((outcome, fault)) => {
                let fault = fault.map(|fault| fault.to_string());
                tale.secured = SoFar { server_name: None, fault }.into_secured();
                return Err(self.0.refuse(outcome));
            }
        };
        let mut peer = self;
        if let Some(source) = header.source {
            tale.client = ClientAddr(source);
            tale.door.worker.cut.rename(tale.place, tale.client.ip());
            // What holds for an address holds for the one that is named as well.
            peer = peer.0.admit_address(tale)?;
        }
        Ok(Client { address: tale.client, peer, destination: header.destination, peeked })
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
                    Err(denied) => Box::pin(limits::ask_for_permit(caps, ip, denied)).await,
                };
                match entered {
                    // Boxed: without caps there is none, and most rules have no caps.
                    Ok(permit) => Some(Box::new(permit)),
                    Err(cap) => return Err(self.peer.0.refuse(cap.into())),
                }
            }
        };
        if let Some(limiter) = &rule.limiter
            && limiter.plan().key != LimitKey::Identity
            && let Decision::Refuse { retry_after } = limits::decide(limiter, ip.into()).await
        {
            let handshake = &mut self.peer.0.handshake;
            let waiting = limits::without_token(limiter, ip.into(), retry_after, handshake);
            if let Err(manner) = Box::pin(waiting).await {
                let outcome = Outcome::new(Reason::RateLimited, Side::Client);
                return Err(Refusal::new(self.peer.0.stream, manner, outcome));
            }
        }
        let pacers = rule.client_pacers.as_ref();
        let pace = pacers.map(|pacers| Box::new(pacers.of(ip, time::now())));
        Ok(Admitted { client: self, permit, pace })
    }
}

impl Admitted {
    /// Learns by TLS who the client is and whom it wants, where the rule has TLS.
    async fn secure(self, tale: &mut Tale) -> Result<Known, Refusal> {
        if tale.rule.tls.is_none() {
            return Ok(Known { admitted: self, shown: None });
        }
        // Boxed: a handshake ends long before the relay does, whose memory it would else take.
        Box::pin(self.shake_hands(tale)).await
    }

    async fn shake_hands(mut self, tale: &mut Tale) -> Result<Known, Refusal> {
        let rule = Arc::clone(&tale.rule);
        let Some(tls) = &rule.tls else { return Ok(Known { admitted: self, shown: None }) };
        let Client { peer, peeked, .. } = &mut self.client;
        // Who has waited for a token is a handshake again.
        let handshake = peer.0.handshake.get_or_insert_with(|| tale.door.enter());
        let crowded = Crowded::of(Some(handshake));
        let mut so_far = SoFar::default();
        let stream = &mut peer.0.stream;
        let began = tale.age();
        let shaken = greeting::shake_hands(tls, stream, peeked, crowded, &mut so_far).await;
        tale.note_handshake(began);
        let shown = match shaken {
            Ok(shown) => Box::new(shown),
            Err(outcome) => {
                tale.secured = so_far.into_secured();
                return Err(self.client.peer.0.refuse(outcome));
            }
        };
        tale.secured = Some(Box::new(Secured {
            version: shown.session.as_ref().map(|session| session.version()),
            server_name: shown.server_name.as_deref().map(Into::into),
            identity: shown.identity.as_ref().map(|identity| identity.name().into()),
            ..Secured::default()
        }));
        let mut known = Known { admitted: self, shown: Some(shown) };
        if let Some(limiter) = &rule.limiter
            && limiter.plan().key == LimitKey::Identity
        {
            known = known.admit_identity(limiter, tale).await?;
        }
        Ok(known)
    }
}

impl Known {
    /// By the rule's limit per identity.
    async fn admit_identity(
        mut self,
        limiter: &Arc<Limiter>,
        tale: &Tale,
    ) -> Result<Known, Refusal> {
        let subject = Subject { address: tale.client.ip(), identity: tale.identity() };
        let Decision::Refuse { retry_after } = limits::decide(limiter, subject).await else {
            return Ok(self);
        };
        let handshake = &mut self.admitted.client.peer.0.handshake;
        match limits::without_token(limiter, subject, retry_after, handshake).await {
            Ok(()) => Ok(self),
            Err(manner) => {
                let outcome = Outcome::new(Reason::RateLimited, Side::Client);
                Err(Refusal::new(self.into_leg(), manner, outcome))
            }
        }
    }

    fn into_leg(self) -> Leg {
        Leg::over(self.admitted.client.peer.0.stream, self.shown.and_then(|shown| shown.session))
    }

    fn refuse(self, outcome: Outcome) -> Refusal {
        Refusal::close(self.into_leg(), outcome)
    }

    /// A backend, connected.
    async fn dial(mut self, tale: &mut Tale) -> Result<Leased, Refusal> {
        let before = tale.age();
        if tale.rule.plan.pool.queue.size > 0 {
            drop(self.admitted.client.peer.0.handshake.take());
        }
        let client = self.admitted.client.address;
        let plain = self.shown.is_none()
            && self.admitted.client.peeked.is_empty()
            && tale.rule.plan.pool.send_proxy.is_none();
        // Boxed: dialling ends long before the relay does, whose memory it would else take.
        let dialed = match plain {
            true => Box::pin(tale.rule.pool.dial(client, None)).await,
            false => Box::pin(self.dial_known(tale)).await,
        };
        match dialed {
            Ok(dialed) => {
                tale.note_phases(before, dialed.queued, dialed.connect);
                tale.attempts = u8::try_from(dialed.attempts).unwrap_or(u8::MAX);
                tale.backend = Some(dialed.lease.address());
                let upstream = Leg::over(dialed.stream, dialed.session);
                let Admitted { client, permit, pace } = self.admitted;
                let stream = client.peer.0.stream;
                let client = Leg::over(stream, self.shown.and_then(|shown| shown.session));
                Ok(Leased { client, upstream, lease: dialed.lease, pace, _permit: permit })
            }
            Err(error) => {
                tale.attempts = u8::try_from(error.attempts()).unwrap_or(u8::MAX);
                let dialing = tale.age().saturating_sub(before);
                if let DialError::Connect { error, .. } = &error {
                    tale.secured.get_or_insert_default().fault = Some(error.to_string().into());
                }
                let connecting = match &error {
                    DialError::Connect { address, took_us, .. }
                    | DialError::Timeout { address, took_us, .. } => {
                        tale.backend = Some(*address);
                        Duration::from_micros((*took_us).into())
                    }
                    _ => Duration::ZERO,
                };
                tale.note_phases(before, dialing.saturating_sub(connecting), connecting);
                if matches!(error, DialError::NotAllowed) {
                    return Err(self.turn_away(tale));
                }
                Err(self.refuse(Outcome::from(&error)))
            }
        }
    }

    /// Dials among the backends that the client's name leads to and its identity may use; the first
    /// that one gets is the PROXY header, then what was peeked.
    async fn dial_known(&self, tale: &Tale) -> Result<Dialed, DialError> {
        let (rule, client) = (&tale.rule, &self.admitted.client);
        let header = match rule.plan.pool.send_proxy {
            None => Vec::new(),
            Some(version) => self.header(version),
        };
        let opening = Opening { header: &header, first: &client.peeked };
        let routes = rule.tls.as_ref().is_some_and(|tls| !tls.routes.is_empty());
        let dialed = if routes || rule.authorization.is_some() {
            let route = self.route(tale);
            let only = |name: &Endpoint, address| {
                let way = Way { name, address, route: name_of(route) };
                leads_to(route, &rule.plan, name) && self.may_go(tale, way)
            };
            rule.pool.dial_with(client.address, Some(&only), opening).await
        } else {
            rule.pool.dial_with(client.address, None, opening).await
        }?;
        tale.moved(client.peeked.len() as u64, 0);
        Ok(dialed)
    }

    fn server_name(&self) -> Option<&str> {
        self.shown.as_ref()?.server_name.as_deref()
    }

    fn identity(&self) -> Option<&Identity> {
        self.shown.as_ref()?.identity.as_ref()
    }

    /// Where the name that the client asked for, and what it speaks, lead; `None`: to the rule's own
    /// backends.
    fn route<'a>(&self, tale: &'a Tale) -> Option<&'a TlsRoute> {
        let offered = self.shown.as_ref().map_or(&[][..], |shown| &shown.alpn);
        route::route(&tale.rule.tls.as_ref()?.routes, self.server_name(), offered)
    }

    fn may_go(&self, tale: &Tale, way: Way<'_>) -> bool {
        let Some(authorization) = &tale.rule.authorization else { return true };
        authorization.judge(self.identity(), way).permission == Permission::Allow
    }

    /// What a backend is told of the client.
    fn header(&self, version: HeaderVersion) -> Vec<u8> {
        let client = &self.admitted.client;
        let source = client.address.0;
        let local = || client.peer.0.stream.local_addr().unwrap_or(source);
        let shown = self.shown.as_deref();
        let identity = self.identity();
        let session = shown.and_then(|shown| shown.session.as_ref());
        // What was agreed on; where TLS passes through that is for the backend to say.
        let alpn = session.and_then(|session| session.agreed().alpn_protocol());
        let cipher = session.and_then(|session| session.cipher());
        let tls = session.map(|session| TlsTold {
            version: session.version(),
            cipher: cipher.as_deref(),
            common_name: identity.and_then(|identity| identity.common_name.as_deref()),
            verified: identity.is_some(),
            resumed: session.resumed(),
        });
        let destination = client.destination.unwrap_or_else(local);
        let server_name = self.server_name();
        write_header(version, &Told { source, destination, server_name, alpn, tls })
    }

    /// No backend is for this client: its name leads nowhere, or it may use none of those.
    fn turn_away(self, tale: &mut Tale) -> Refusal {
        let route = self.route(tale);
        let led = |name: &Endpoint| leads_to(route, &tale.rule.plan, name);
        if !tale.rule.pool.plan().backends.iter().any(|backend| led(&backend.address)) {
            let passed = self.shown.as_ref().is_some_and(|shown| shown.session.is_none());
            if let Some(tls) = tale.rule.tls.as_ref().filter(|_| passed) {
                let known = tls.routes.iter().any(|route| route.leads(self.server_name()));
                greeting::say_no_route(&self.admitted.client.peer.0.stream, known);
            }
            return self.refuse(Outcome::new(Reason::NoRoute, Side::Client));
        }
        if let Some(authorization) = &tale.rule.authorization {
            let route = name_of(route);
            // A rule that denies says more than the default, which may have kept others from it.
            let by = tale.rule.pool.members().iter().find_map(|(name, address)| {
                let way = Way { name, address: *address, route };
                authorization.judge(self.identity(), way).rule.filter(|_| led(name))
            });
            let by: Box<str> = by.map_or("default", |rule| &rule.text).into();
            if let Some(unsaid) = tale.rule.stats.may_warn(time::unix_ms()) {
                tracing::warn!(
                    rule = %tale.rule.plan.name,
                    client = %tale.client,
                    identity = tale.identity().unwrap_or("none"),
                    by = &*by,
                    unsaid,
                    "a client may use no backend"
                );
            }
            tale.secured.get_or_insert_default().denied_by = Some(by);
        }
        self.refuse(Outcome::new(Reason::NotAuthorized, Side::Client))
    }
}

/// By which authorization knows a route.
fn name_of(route: Option<&TlsRoute>) -> Option<&str> {
    route?.server_name.as_deref()
}

/// Whether `route`, or none, leads to the backend that is configured as `name`.
fn leads_to(route: Option<&TlsRoute>, plan: &RulePlan, name: &Endpoint) -> bool {
    match route {
        Some(route) => route.backends.contains(name),
        None => {
            let mut routed = plan.pool.backends.iter().filter(|backend| backend.routed);
            !routed.any(|backend| backend.address == *name)
        }
    }
}

impl Leased {
    /// Carries bytes until the end.
    #[expect(clippy::manual_async_fn, reason = "memory per connection")]
    fn relay(mut self, tale: &Tale) -> impl Future<Output = End> {
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
                one_task: true,
            };
            match (client, upstream) {
                (Leg::Bare(client), Leg::Bare(upstream)) => {
                    net::relay(client, upstream, terms, tale).await
                }
                // Boxed: a connection without TLS need not have room for it.
                (client, upstream) => {
                    Box::pin(net::relay_legs(client, upstream, terms, tale)).await
                }
            }
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
