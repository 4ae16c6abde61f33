//! The machine's shell: one thread, one socket, one loop. The only place of the cluster wing that
//! knows tokio.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rand::TryRng;
use rand::rngs::SysRng;
use tokio::net::UdpSocket as TokioSocket;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::{Notify, oneshot};
use tokio::time::{sleep_until, timeout};

use super::ClusterPlan;
use super::asks::Ticket;
use super::desk::{Asked, DeskClock};
use super::handle::{Opinions, Order, Shown, Windows, source_towards};
use super::keyring::Keyring;
use super::machine::{Input, Machine, Output, Rooms, Setup, StreamEvent};
use super::plan::SyncAt;
use super::roster::MemberView;
use super::state::{Keeper, State};
use super::streams::{News, Streams};
use super::sync::StreamId;
use super::tickets;
use super::wire::MAX_DATAGRAM;
use crate::base::{Actor, BootId, Endpoint, Host, NodeId, Publisher, time};
use crate::net::{Resolver, run_first};
use crate::traffic::Answer;

/// Datagrams, or asks, read before anything else gets its turn.
const AT_ONCE: usize = 64;
/// What a name may take to resolve.
const RESOLVING: Duration = Duration::from_secs(3);
/// What the start waits for names, when its address depends on them.
const FIRST_RESOLVING: Duration = Duration::from_secs(1);
/// Seeds that do not resolve are complained of this often, while this node is alone.
const COMPLAIN: Duration = Duration::from_secs(30);
/// Figures are published this often.
const FIGURES: Duration = Duration::from_millis(100);
/// Bytes of datagrams that may wait for us in the kernel.
const WAITING: usize = 1 << 20;

/// What the agent's thread owns.
pub(super) struct Agent {
    pub(super) plan: ClusterPlan,
    pub(super) windows: Windows,
    pub(super) socket: UdpSocket,
    pub(super) bound: SocketAddr,
    /// Hears calls for push/pull.
    pub(super) listener: TcpListener,
    pub(super) sync: SyncAt,
    pub(super) shown: Arc<Shown>,
    pub(super) members: Publisher<Vec<MemberView>>,
    /// Asks of workers, and how long they wait.
    pub(super) desk: Arc<DeskClock>,
    pub(super) votes: Publisher<Opinions>,
    /// Workers wake the agent by it.
    pub(super) urgent: Arc<Notify>,
    pub(super) node: NodeId,
    /// As the machine last wanted it kept: what a new start of the agent begins with.
    pub(super) state: Mutex<State>,
    pub(super) keeper: Option<Keeper>,
}

/// Runs the agent until nobody can give orders any more. A panic inside is survived: a new boot
/// takes the socket over.
pub(super) fn run(
    agent: Agent,
    mut orders: Receiver<Order>,
    mut asked: Receiver<Asked>,
    ready: SyncSender<io::Result<SocketAddr>>,
) {
    // Workers that fill all processors would keep peers waiting for levels: then a limit is held late.
    if let Err(error) = run_first() {
        tracing::info!(
            %error,
            "gossip runs as all other threads do: with LimitNICE=-19 or CAP_SYS_NICE, limits of the cluster hold better while all processors are busy"
        );
    }
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = ready.send(Err(error));
            return;
        }
    };
    if let Err(error) = socket2::SockRef::from(&agent.socket).set_recv_buffer_size(WAITING) {
        tracing::debug!(%error, "the gossip socket keeps its small receive buffer");
    }
    let (address, guessed) = runtime.block_on(agent.find_address());
    *agent.shown.address.lock() = address;
    // Whoever started the agent goes on when there is something to be seen of it, or it has failed.
    let mut ready = Some(move || drop(ready.send(Ok(address))));
    let mut say_ready = || {
        if let Some(ready) = ready.take() {
            ready();
        }
    };
    loop {
        let ended = catch_unwind(AssertUnwindSafe(|| {
            turn(&runtime, &agent, &mut orders, &mut asked, guessed, &mut say_ready)
        }));
        say_ready();
        match ended {
            Ok(Ok(())) => return,
            Ok(Err(error)) => tracing::error!(%error, "the gossip socket failed; trying again"),
            Err(_) => tracing::error!("the gossip agent panicked; it starts anew"),
        }
        agent.shown.restarts.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(500));
        if orders.is_closed() {
            return;
        }
    }
}

fn turn(
    runtime: &Runtime,
    agent: &Agent,
    orders: &mut Receiver<Order>,
    asked: &mut Receiver<Asked>,
    guessed: bool,
    ready: &mut dyn FnMut(),
) -> io::Result<()> {
    let machine = agent.machine()?;
    let socket = agent.socket.try_clone()?;
    let listener = agent.listener.try_clone()?;
    let (seeds_in, seeds) = channel(1);
    runtime.block_on(async {
        let socket = TokioSocket::from_std(socket)?;
        let mut shell = Shell {
            agent,
            socket,
            machine,
            streams: Streams::open(listener)?,
            seeds_in,
            resolving: false,
            guessed,
            digest: agent.windows.config_digest.take(),
            ring: agent.shown.ring.lock().clone(),
            open_asks: HashMap::new(),
            next_ticket: 0,
            figures_at: time::now(),
            // Names often appear a moment after a container starts.
            complain_at: time::now() + FIRST_RESOLVING,
        };
        shell.begin();
        ready();
        shell.run(orders, asked, seeds).await;
        Ok(())
    })
}

impl Agent {
    fn machine(&self) -> io::Result<Machine> {
        let actor = Actor { node: self.node, boot: BootId::new(random()?) };
        let setup = Setup {
            label: self.plan.label.clone(),
            digest: self.windows.config_digest.look().to_string(),
            seeds: !self.plan.peers.is_empty(),
            profile: self.plan.profile,
            traffic_cap: self.plan.traffic_cap,
            sync: Some(self.sync),
            public: self.plan.insecure,
            keys: self.shown.ring.lock().clone(),
            plaintext_until: self.plan.plaintext_until.unwrap_or(0),
            unix_ms: time::unix_ms(),
            seed: random()?,
            state: self.state.lock().clone(),
            ..Setup::new(actor, self.plan.node_name.clone(), *self.shown.address.lock())
        };
        let rooms = Rooms {
            ledger: Arc::clone(&self.windows.ledger),
            levels: Arc::clone(&self.windows.levels),
            holder: Arc::clone(&self.windows.holder),
            paced: Arc::clone(&self.windows.paced),
            verdicts: Arc::clone(&self.windows.verdicts),
            acts: Arc::clone(&self.windows.acts),
            tally: Arc::clone(&self.windows.tally),
            tickets: Arc::clone(&self.windows.tickets),
            draw: tickets::system(),
        };
        Ok(Machine::new(setup, rooms, time::now()))
    }

    /// Where peers find us, and whether that was only guessed: as configured, as bound, or the
    /// source address of the route to the first peer.
    async fn find_address(&self) -> (SocketAddr, bool) {
        let port = self.bound.port();
        if let Some(advertise) = self.plan.advertise {
            let port = if advertise.port() == 0 { port } else { advertise.port() };
            return (SocketAddr::new(advertise.ip(), port), false);
        }
        if !self.bound.ip().is_unspecified() {
            return (self.bound, false);
        }
        let peers = &self.plan.peers;
        let mut known = peers.iter().find_map(|peer| source_towards(peer.literal()?));
        let named = peers.iter().any(|peer| peer.literal().is_none());
        if known.is_none() && named {
            let seeds = resolve(&self.windows.resolver, peers);
            let seeds = timeout(FIRST_RESOLVING, seeds).await.unwrap_or_default();
            known = seeds.addresses.into_iter().find_map(source_towards);
        }
        if let Some(ip) = known {
            return (SocketAddr::new(ip, port), false);
        }
        let ip = match self.own_by_name().await {
            Some(ip) => ip,
            // Any private address will do to learn the default route.
            None => source_towards(([10, 255, 255, 255], 9).into()).unwrap_or_else(|| {
                tracing::warn!("cannot tell which address peers find this node at: set `cluster.advertise_addr`");
                Ipv4Addr::LOCALHOST.into()
            }),
        };
        (SocketAddr::new(ip, port), true)
    }

    /// What our host name resolves to: container runtimes write it into `/etc/hosts`.
    async fn own_by_name(&self) -> Option<IpAddr> {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
        let host = Host::Name(name.trim().into());
        let resolved = timeout(FIRST_RESOLVING, self.windows.resolver.resolve(&host)).await;
        let addresses = resolved.ok()?.ok()?.addresses;
        addresses.into_iter().find(|ip| !ip.is_loopback())
    }
}

/// One life of the agent.
struct Shell<'a> {
    agent: &'a Agent,
    socket: TokioSocket,
    machine: Machine,
    streams: Streams,
    seeds_in: Sender<Seeds>,
    resolving: bool,
    guessed: bool,
    digest: Arc<String>,
    ring: Option<Arc<Keyring>>,
    open_asks: HashMap<Ticket, oneshot::Sender<Answer>>,
    next_ticket: u64,
    figures_at: Instant,
    complain_at: Instant,
}

/// What woke the loop.
enum Action {
    Tick,
    Urgent,
    Readable,
    Order(Option<Order>),
    Asked(Asked),
    Seeds(Seeds),
    Stream(StreamId, News),
}

impl Shell<'_> {
    /// The first turn, after which this node sees itself at least.
    fn begin(&mut self) {
        self.machine.handle(time::now(), Input::Tick);
        self.agent.members.publish(self.machine.members());
        self.do_outputs();
        self.publish();
    }

    async fn run(
        &mut self,
        orders: &mut Receiver<Order>,
        asked: &mut Receiver<Asked>,
        mut seeds: Receiver<Seeds>,
    ) {
        loop {
            self.do_outputs();
            self.publish();
            let timeout = self.machine.poll_timeout();
            let action = tokio::select! {
                order = orders.recv() => Action::Order(order),
                _ = self.socket.readable() => Action::Readable,
                Some(seeds) = seeds.recv() => Action::Seeds(seeds),
                Some(first) = asked.recv() => Action::Asked(first),
                (stream, news) = self.streams.next() => Action::Stream(stream, news),
                () = self.agent.urgent.notified() => Action::Urgent,
                () = sleep_until(timeout.into()) => Action::Tick,
            };
            match action {
                Action::Tick => self.machine.handle(time::now(), Input::Tick),
                Action::Urgent => self.machine.handle(time::now(), Input::Urgent),
                Action::Readable => self.read(),
                Action::Seeds(seeds) => self.seeds(seeds),
                Action::Asked(first) => self.take_asks(first, asked),
                Action::Stream(stream, news) => self.stream(stream, news),
                Action::Order(None) => return,
                Action::Order(Some(Order::Leaving)) => {
                    self.machine.handle(time::now(), Input::Leaving);
                }
                Action::Order(Some(Order::Leave(said))) => {
                    self.machine.handle(time::now(), Input::Leave);
                    self.do_outputs();
                    let _ = said.send(());
                }
            }
        }
    }

    fn read(&mut self) {
        // One byte more than any datagram of ours, so that a longer one is seen to be longer.
        let mut buffer = [0; MAX_DATAGRAM + 1];
        for _ in 0..AT_ONCE {
            match self.socket.try_recv_from(&mut buffer) {
                Ok((length, from)) => {
                    let from = SocketAddr::new(from.ip().to_canonical(), from.port());
                    let bytes = &buffer[..length];
                    self.machine.handle(time::now(), Input::Datagram { from, bytes });
                }
                // Nothing left, or the echo of something that could not be delivered.
                Err(_) => return,
            }
        }
    }

    fn stream(&mut self, stream: StreamId, news: News) {
        let event = match &news {
            News::TurnedAway => StreamEvent::TurnedAway,
            News::Connected => StreamEvent::Connected,
            News::Bytes(bytes) => StreamEvent::Bytes(bytes),
            News::Closed(why) => StreamEvent::Closed(why),
            News::Accepted(from) => StreamEvent::Accepted { from: *from },
        };
        self.machine.handle(time::now(), Input::Stream { stream, event });
    }

    fn take_asks(&mut self, first: Asked, asked: &mut Receiver<Asked>) {
        let more = std::iter::from_fn(|| asked.try_recv().ok());
        for (ask, answer) in std::iter::once(first).chain(more).take(AT_ONCE) {
            self.next_ticket += 1;
            let ticket = Ticket(self.next_ticket);
            self.open_asks.insert(ticket, answer);
            self.machine.handle(time::now(), Input::Ask { ticket, ask });
        }
    }

    fn seeds(&mut self, Seeds { addresses: seeds, failed }: Seeds) {
        self.resolving = false;
        let now = time::now();
        if !failed.is_empty() && self.machine.alive() == 1 && now >= self.complain_at {
            self.complain_at = now + COMPLAIN;
            tracing::warn!(
                "this node is alone, and some peers do not resolve: {}",
                failed.join("; ")
            );
        }
        if self.guessed
            && let Some(ip) = seeds.iter().find_map(|seed| source_towards(*seed))
        {
            self.guessed = false;
            let address = SocketAddr::new(ip, self.agent.bound.port());
            self.machine.handle(time::now(), Input::Address(address));
            *self.agent.shown.address.lock() = self.machine.identity().address;
        }
        self.machine.handle(time::now(), Input::Seeds(seeds));
    }

    fn do_outputs(&mut self) {
        let digest = self.agent.windows.config_digest.look();
        if !Arc::ptr_eq(&digest, &self.digest) {
            self.digest = Arc::clone(&digest);
            self.machine.handle(time::now(), Input::Digest(digest.to_string()));
        }
        let ring = self.agent.shown.ring.lock().clone();
        if let Some(ring) =
            ring.filter(|ring| self.ring.as_ref().is_none_or(|old| !Arc::ptr_eq(ring, old)))
        {
            self.ring = Some(Arc::clone(&ring));
            self.machine.handle(time::now(), Input::Keys(ring));
        }
        let (mut members, mut votes, mut persist) = (false, false, false);
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Send { to, bytes } => self.send(to, &bytes),
                Output::Connect { stream, to } => self.streams.connect(stream, to),
                Output::Write { stream, bytes } => self.streams.write(stream, bytes),
                Output::Close { stream, gently } => self.streams.close(stream, gently),
                Output::Resolve => self.resolve(),
                Output::Members => members = true,
                Output::Votes => votes = true,
                Output::Answer { ticket, answer } => {
                    if let Some(asker) = self.open_asks.remove(&ticket) {
                        // An error: the connection has gone meanwhile.
                        let _ = asker.send(answer);
                    }
                }
                Output::Persist => persist = true,
            }
        }
        if persist {
            self.persist();
        }
        if members {
            self.agent.members.publish(self.machine.members());
        }
        if members || votes {
            self.agent.votes.publish(Opinions {
                checking: self.machine.checking().into(),
                votes: self.machine.votes(),
            });
        }
    }

    /// A datagram that cannot be sent now is lost, as any datagram may be.
    fn send(&self, to: SocketAddr, bytes: &[u8]) {
        let to = match to {
            SocketAddr::V4(v4) if self.agent.bound.is_ipv6() => {
                SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port())
            }
            to => to,
        };
        if let Err(error) = self.socket.try_send_to(bytes, to) {
            tracing::debug!(%to, %error, "a gossip datagram was not sent");
        }
    }

    /// Hands what should outlive the process to the keeper, which writes it when the disk is ready.
    fn persist(&self) {
        let state = self.machine.state(time::now());
        *self.agent.state.lock() = state.clone();
        if let Some(keeper) = &self.agent.keeper {
            keeper.keep(state);
        }
    }

    fn resolve(&mut self) {
        if std::mem::replace(&mut self.resolving, true) {
            return;
        }
        let resolver = self.agent.windows.resolver.clone();
        let peers = self.agent.plan.peers.clone();
        let seeds = self.seeds_in.clone();
        tokio::spawn(async move {
            let resolved = resolve(&resolver, &peers).await;
            let _ = seeds.send(resolved).await;
        });
    }

    fn publish(&mut self) {
        let shown = &self.agent.shown;
        let now = time::now();
        shown.ran.store(shown.age_ms(), Ordering::Relaxed);
        self.agent.desk.be_patient(self.machine.patience());
        if now < self.figures_at {
            return;
        }
        self.figures_at = now + FIGURES;
        shown.answered.store(self.machine.answered(), Ordering::Relaxed);
        shown.impaired.store(self.machine.impaired(), Ordering::Relaxed);
        *shown.fault.lock() = self.machine.fault().map(str::to_owned);
        *shown.cloned.lock() = self.machine.cloned();
        *shown.figures.lock() = self.machine.figures();
    }
}

/// What the configured peers resolve to.
#[derive(Debug, Default)]
struct Seeds {
    addresses: Vec<SocketAddr>,
    /// In words, why the others do not.
    failed: Vec<String>,
}

/// All addresses of all peers; what does not resolve is left out and tried again next time.
async fn resolve(resolver: &Resolver, peers: &[Endpoint]) -> Seeds {
    let mut asked = Vec::new();
    for peer in peers.iter().cloned() {
        let resolver = resolver.clone();
        asked.push(tokio::spawn(async move {
            match timeout(RESOLVING, resolver.resolve(&peer.host)).await {
                Ok(Ok(resolved)) => {
                    let with_port = |ip: &IpAddr| SocketAddr::new(*ip, peer.port);
                    Ok(resolved.addresses.iter().map(with_port).collect::<Vec<_>>())
                }
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err(format!("`{peer}` took longer than {RESOLVING:?} to resolve")),
            }
        }));
    }
    let mut seeds = Seeds::default();
    for asked in asked {
        match asked.await {
            Ok(Ok(addresses)) => seeds.addresses.extend(addresses),
            Ok(Err(failed)) => seeds.failed.push(failed),
            Err(_) => {}
        }
    }
    seeds
}

pub(super) fn random() -> io::Result<u64> {
    SysRng.try_next_u64().map_err(io::Error::other)
}
