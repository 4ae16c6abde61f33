//! A network in virtual time. Real gossip machines, everything around them simulated: events in a
//! heap ordered by (time, order, sequence), chance only from one seed. `SIM_SEED=… cargo test`
//! replays a run. Gossip is sealed, unless a test or `SIM_PLAINTEXT=1` says otherwise.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use tidegate::balance::Tally;
use tidegate::base::{Actor, BootId, NodeId, time};
use tidegate::cluster::acts::{Acts, Row};
use tidegate::cluster::asks::Ticket;
use tidegate::cluster::exchange::INTERVAL;
use tidegate::cluster::keyring::Keyring;
use tidegate::cluster::machine::{Input, Machine, Output, Rooms, Setup, StreamEvent};
use tidegate::cluster::state::State;
use tidegate::cluster::sync::StreamId;
use tidegate::cluster::wire::{Cover, Envelope, Head, Kind, MAX_PAYLOAD, Seal};
use tidegate::cluster::{MemberState, Profile, SyncAt};
use tidegate::health::Verdicts;
use tidegate::net::tls::{TICKET_LIFETIME, TicketKeys};
use tidegate::traffic::{Answer, Holdings, Ledger, LimitPlan, Limiter, Limits, Origin, SharedPace};

use crate::support::{Book, ring};

/// The wall clock that all nodes start from, milliseconds since 1970.
pub(crate) const EPOCH_MS: u64 = 1_800_000_000_000;
/// A cut or a stall explains failures seen up to this long after it ended.
const EXPLAINS: Duration = Duration::from_secs(10);

/// What the links do to every datagram.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Links {
    /// Share lost.
    pub(crate) loss: f64,
    /// Share that arrives twice.
    pub(crate) twice: f64,
    /// One way, at least.
    pub(crate) latency: Duration,
    /// Added at random, which also reorders.
    pub(crate) jitter: Duration,
}

/// A LAN that loses nothing.
pub(crate) const LAN: Links = Links {
    loss: 0.0,
    twice: 0.0,
    latency: Duration::from_micros(300),
    jitter: Duration::from_micros(400),
};

/// A LAN in a bad state: loses, doubles and reorders.
pub(crate) const BAD: Links = Links {
    loss: 0.05,
    twice: 0.01,
    latency: Duration::from_micros(300),
    jitter: Duration::from_millis(4),
};

/// What outlives a host's process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    pub(crate) node: u64,
    pub(crate) state: State,
    pub(crate) acts: Vec<Row>,
}
/// Sites 50 ms apart whose links lose 2 %.
pub(crate) const FAR: Links = Links {
    loss: 0.02,
    twice: 0.001,
    latency: Duration::from_millis(50),
    jitter: Duration::from_millis(10),
};

/// One host.
pub(crate) struct Host {
    pub(crate) name: String,
    /// Where its packets come from.
    pub(crate) source: SocketAddr,
    /// Where it says to be found.
    pub(crate) advertised: SocketAddr,
    pub(crate) seeds: Vec<SocketAddr>,
    /// `None` while its process is dead.
    pub(crate) machine: Option<Machine>,
    pub(crate) book: Arc<Book>,
    /// Instead of the book, where the fabric has a limit.
    pub(crate) limiter: Option<Arc<Limiter>>,
    /// Its workers rang the bell.
    rung: Arc<AtomicBool>,
    pub(crate) verdicts: Arc<Verdicts>,
    /// Permits that its process holds.
    pub(crate) holdings: Arc<Holdings>,
    pub(crate) acts: Arc<Acts>,
    /// Pacers that it shares.
    pub(crate) pace: Arc<SharedPace>,
    pub(crate) tally: Arc<Tally>,
    /// By which secrets its process seals session tickets.
    pub(crate) tickets: Arc<TicketKeys>,
    /// Secrets that its processes made.
    pub(crate) minted: Arc<AtomicU64>,
    /// Added to the wall clock when a process starts.
    pub(crate) clock_off_ms: i64,
    /// What it keeps over restarts, when it has a disk.
    pub(crate) disk: Option<Disk>,
    boots: u64,
    boot: u64,
    highest_generation: u64,
    stalled: bool,
    waiting: VecDeque<(SocketAddr, Vec<u8>)>,
    wake: Option<Instant>,
}

/// A datagram as somebody on the wire saw it.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    pub(crate) source: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) bytes: Vec<u8>,
}

#[derive(Debug)]
enum What {
    Deliver { from: usize, source: SocketAddr, to: SocketAddr, bytes: Vec<u8> },
    Flow { from: usize, to: End, what: Flow },
    Seeds(usize, u64),
    Thaw(usize),
    Wake(usize),
}

/// One end of a stream: a process of a host, and its name for the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct End {
    host: usize,
    boot: u64,
    pub(crate) stream: StreamId,
}

#[derive(Clone, Debug)]
enum Flow {
    Accepted(SocketAddr),
    Connected,
    Bytes(Vec<u8>),
    Closed,
}

#[derive(Debug)]
struct Event {
    at: Instant,
    order: u8,
    seq: u64,
    what: What,
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Event {}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Event {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order, self.seq).cmp(&(other.at, other.order, other.seq))
    }
}

pub(crate) struct Fabric {
    pub(crate) now: Instant,
    pub(crate) began: Instant,
    pub(crate) rng: StdRng,
    pub(crate) links: Links,
    /// What seals the gossip of processes started from now on.
    pub(crate) keys: Option<Arc<Keyring>>,
    /// Until when those with keys hear those without, milliseconds since 1970.
    pub(crate) plaintext_until: u64,
    /// Everything that is sent while it is there.
    pub(crate) recorded: Option<Vec<Recorded>>,
    /// Kinds of datagrams that are lost, all of them.
    pub(crate) mute: Vec<Kind>,
    /// What was written to streams, when it is wanted.
    pub(crate) written: Option<Vec<(usize, Vec<u8>)>>,
    /// Share of datagrams that are changed on their way, with a seal or checksum to match.
    pub(crate) mutate: f64,
    pub(crate) hosts: Vec<Host>,
    /// Bytes per second a process may send, for those started from now on.
    pub(crate) cap: u64,
    /// A limit that they share, and how often they report of it.
    pub(crate) limit: Option<LimitPlan>,
    pub(crate) interval: Duration,
    /// How long a secret of session tickets seals, in processes started from now on.
    pub(crate) ticket_span: Duration,
    /// Of processes started from now on.
    pub(crate) profile: Profile,
    /// Healthy nodes that somebody declared failed: (when, who, whom).
    pub(crate) false_downs: Vec<(Duration, String, String)>,
    /// What workers of a node were answered, until somebody takes it.
    pub(crate) answers: Vec<(usize, Ticket, Answer)>,
    /// Largest backlog of any machine.
    pub(crate) backlog: usize,
    at: HashMap<SocketAddr, usize>,
    events: BinaryHeap<Reverse<Event>>,
    seq: u64,
    /// The other end of each end.
    pipes: HashMap<End, End>,
    /// When the last bytes to an end arrive: a stream keeps its order.
    flows_until: HashMap<End, Instant>,
    streams: u64,
    cuts: HashSet<(usize, usize)>,
    excused_until: HashMap<(usize, usize), Instant>,
    reported: HashSet<(usize, u64)>,
}

impl Fabric {
    /// Without hosts. The seed is `SIM_SEED` or `default_seed`, and is printed.
    pub(crate) fn new(default_seed: u64, links: Links) -> Fabric {
        let seed = std::env::var("SIM_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or(default_seed);
        println!("SIM_SEED={seed}");
        let now = time::now();
        Fabric {
            now,
            began: now,
            rng: StdRng::seed_from_u64(seed),
            links,
            keys: std::env::var_os("SIM_PLAINTEXT").is_none().then(|| ring(&[1])),
            plaintext_until: 0,
            recorded: None,
            mute: Vec::new(),
            written: None,
            mutate: 0.0,
            hosts: Vec::new(),
            cap: 3 << 20,
            limit: None,
            interval: INTERVAL,
            ticket_span: TICKET_LIFETIME,
            profile: Profile::Lan,
            false_downs: Vec::new(),
            answers: Vec::new(),
            backlog: 0,
            at: HashMap::new(),
            events: BinaryHeap::new(),
            seq: 0,
            pipes: HashMap::new(),
            flows_until: HashMap::new(),
            streams: 0,
            cuts: HashSet::new(),
            excused_until: HashMap::new(),
            reported: HashSet::new(),
        }
    }

    /// `nodes` hosts with the first as the others' seed, all started and of one view. Gossip is
    /// sealed.
    pub(crate) fn cluster(default_seed: u64, links: Links, nodes: usize) -> Fabric {
        Fabric::cluster_of(Profile::Lan, default_seed, links, nodes)
    }

    /// The same of another profile than the LAN's.
    pub(crate) fn cluster_of(
        profile: Profile,
        default_seed: u64,
        links: Links,
        nodes: usize,
    ) -> Fabric {
        let mut fabric = Fabric::new(default_seed, links);
        fabric.profile = profile;
        fabric.grown(nodes)
    }

    /// The same with plaintext gossip.
    pub(crate) fn plaintext(default_seed: u64, links: Links, nodes: usize) -> Fabric {
        let mut fabric = Fabric::new(default_seed, links);
        fabric.keys = None;
        fabric.grown(nodes)
    }

    pub(crate) fn grown(mut self, nodes: usize) -> Fabric {
        let fabric = &mut self;
        for _ in 0..nodes {
            fabric.host();
        }
        for host in 0..nodes {
            fabric.start(host);
        }
        fabric.until("the first full view", Duration::from_secs(30), Fabric::one_view);
        self
    }

    /// One more host, not started; it asks the first.
    pub(crate) fn host(&mut self) -> usize {
        let index = self.hosts.len();
        let source =
            SocketAddr::from(([10, 0, (index / 200) as u8, (index % 200) as u8 + 1], 9090));
        self.at.insert(source, index);
        self.hosts.push(Host {
            name: format!("n{index}"),
            source,
            advertised: source,
            seeds: vec!["10.0.0.1:9090".parse().unwrap()],
            machine: None,
            book: Arc::default(),
            limiter: None,
            rung: Arc::default(),
            verdicts: Arc::default(),
            holdings: Arc::default(),
            acts: Acts::empty(),
            pace: Arc::default(),
            tally: Arc::default(),
            tickets: TicketKeys::new(),
            minted: Arc::default(),
            clock_off_ms: 0,
            disk: None,
            boots: 0,
            boot: 0,
            highest_generation: 0,
            stalled: false,
            waiting: VecDeque::new(),
            wake: None,
        });
        index
    }

    /// A process starts.
    pub(crate) fn start(&mut self, index: usize) {
        let gone = self.now.duration_since(self.began).as_millis() as u64;
        let (fresh, boot) = (self.rng.next_u64() | 1, BootId::new(self.rng.next_u64()));
        let host = &mut self.hosts[index];
        let node = match &mut host.disk {
            None => fresh,
            Some(Disk { node: 0, .. }) => {
                host.disk = Some(Disk { node: fresh, ..Disk::default() });
                fresh
            }
            Some(disk) => disk.node,
        };
        let actor = Actor { node: NodeId(node), boot };
        host.boots += 1;
        host.boot = actor.boot.bits();
        host.book = Arc::default();
        host.holdings = Arc::default();
        host.pace = Arc::default();
        let setup = Setup {
            label: "sim".to_owned(),
            digest: "digest".to_owned(),
            seeds: true,
            sync: Some(SyncAt::Gossip),
            traffic_cap: self.cap,
            profile: self.profile,
            keys: self.keys.clone(),
            plaintext_until: self.plaintext_until,
            unix_ms: (EPOCH_MS + gone).saturating_add_signed(host.clock_off_ms),
            seed: self.rng.next_u64(),
            state: host.disk.as_ref().map(|disk| disk.state.clone()).unwrap_or_default(),
            interval: self.interval,
            ticket_span: self.ticket_span,
            ..Setup::new(actor, host.name.as_str().into(), host.advertised)
        };
        self.start_as(index, setup);
    }

    /// A process starts with a setup of its own.
    pub(crate) fn start_as(&mut self, index: usize, setup: Setup) {
        let setup = Setup { keys: setup.keys.or_else(|| self.keys.clone()), ..setup };
        let host = &mut self.hosts[index];
        let mut rooms = Rooms::empty();
        rooms.ledger = host.book.clone();
        rooms.levels = host.book.clone();
        if let Some(plan) = &self.limit {
            let origin = Origin { at: self.now, unix_ms: setup.unix_ms };
            let limiter = Arc::new(Limiter::new(plan.clone(), 7, setup.seed, origin));
            let limits = Arc::new(Limits::new());
            limits.replace(vec![Arc::clone(&limiter)]);
            let rung = Arc::clone(&host.rung);
            limits.on_urgent(Box::new(move || rung.store(true, Ordering::Relaxed)));
            rooms.ledger = limits.clone();
            rooms.levels = limits;
            host.limiter = Some(limiter);
        }
        rooms.verdicts = host.verdicts.clone();
        rooms.holder = host.holdings.clone();
        host.acts = Acts::new(setup.actor, &setup.name);
        if let Some(disk) = &host.disk {
            host.acts.merge(self.now, &disk.acts);
        }
        rooms.acts = host.acts.clone();
        rooms.paced = host.pace.clone();
        rooms.tally = host.tally.clone();
        host.tickets = TicketKeys::new();
        rooms.tickets = host.tickets.clone();
        let (minted, rng) = (host.minted.clone(), Mutex::new(StdRng::seed_from_u64(!setup.seed)));
        rooms.draw = Arc::new(move |bytes| {
            minted.fetch_add(1, Ordering::Relaxed);
            rng.lock().fill_bytes(bytes);
            true
        });
        host.boot = setup.actor.boot.bits();
        host.machine = Some(Machine::new(setup, rooms, self.now));
        host.stalled = false;
        self.input(index, Input::Tick);
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self, index: usize) {
        let host = &mut self.hosts[index];
        host.machine = None;
        host.waiting.clear();
        host.wake = None;
    }

    /// The process does not run for `stall`; its socket buffers on.
    pub(crate) fn stall(&mut self, index: usize, stall: Duration) {
        self.hosts[index].stalled = true;
        for other in 0..self.hosts.len() {
            self.excuse(other, index, stall);
        }
        self.push(self.now + stall, 1, What::Thaw(index));
    }

    /// Datagrams from `from` no longer reach `to`.
    pub(crate) fn cut(&mut self, from: usize, to: usize) {
        self.cuts.insert((from, to));
    }

    /// No datagram between the two sides.
    pub(crate) fn split(&mut self, one: &[usize], other: &[usize]) {
        for &a in one {
            for &b in other {
                self.cut(a, b);
                self.cut(b, a);
            }
        }
    }

    /// All links work.
    pub(crate) fn heal(&mut self) {
        for (a, b) in std::mem::take(&mut self.cuts) {
            self.excuse(a, b, Duration::ZERO);
            self.excuse(b, a, Duration::ZERO);
        }
    }

    /// All links work, and what follows has no excuse in their having been cut.
    pub(crate) fn mend(&mut self) {
        self.cuts.clear();
    }

    fn excuse(&mut self, who: usize, whom: usize, during: Duration) {
        self.excused_until.insert((who, whom), self.now + during + EXPLAINS);
    }

    /// Something happens to a node's machine, if it lives.
    pub(crate) fn input(&mut self, index: usize, input: Input<'_>) {
        let now = self.now;
        let Some(machine) = &mut self.hosts[index].machine else { return };
        machine.handle(now, input);
        self.after(index);
    }

    /// Lets a node know that its workers rang, if they did.
    pub(crate) fn ring(&mut self, index: usize) {
        if self.hosts[index].rung.swap(false, Ordering::Relaxed) && !self.hosts[index].stalled {
            self.input(index, Input::Urgent);
        }
    }

    fn after(&mut self, index: usize) {
        let mut look = false;
        loop {
            let host = &mut self.hosts[index];
            let Some(machine) = &mut host.machine else { return };
            let Some(output) = machine.poll_output() else { break };
            match output {
                Output::Send { to, bytes } => self.transmit(index, to, bytes),
                Output::Connect { stream, to } => self.connect(index, stream, to),
                Output::Write { stream, bytes } => self.flow(index, stream, Flow::Bytes(bytes)),
                Output::Close { stream, .. } => self.flow(index, stream, Flow::Closed),
                Output::Resolve => {
                    let boot = host.boot;
                    self.push(self.now + Duration::from_millis(1), 1, What::Seeds(index, boot));
                }
                Output::Members => look = true,
                Output::Votes => {}
                Output::Answer { ticket, answer } => self.answers.push((index, ticket, answer)),
                Output::Persist => {
                    let state = machine.state(self.now);
                    if let Some(disk) = &mut host.disk {
                        disk.state = state;
                        disk.acts = host.acts.rows(self.now);
                    }
                }
            }
        }
        if look {
            self.look_for_false_downs(index);
        }
        let now = self.now;
        let host = &mut self.hosts[index];
        let Some(machine) = &host.machine else { return };
        self.backlog = self.backlog.max(machine.backlog());
        let generation = machine.identity().generation;
        assert!(
            generation >= host.highest_generation || host.clock_off_ms < 0,
            "a generation fell"
        );
        host.highest_generation = host.highest_generation.max(generation);
        let wake = machine.poll_timeout().max(now + Duration::from_micros(50));
        if host.wake.is_none_or(|at| at > wake || at <= now) {
            host.wake = Some(wake);
            self.push(wake, 2, What::Wake(index));
        }
    }

    fn transmit(&mut self, from: usize, to: SocketAddr, bytes: Vec<u8>) {
        assert!(bytes.len() <= 1200, "a datagram of {} bytes", bytes.len());
        if self.mute.iter().any(|kind| *kind as u8 == bytes[2]) {
            return;
        }
        let copies = if self.rng.random_bool(self.links.twice) { 2 } else { 1 };
        let source = self.hosts[from].source;
        if let Some(recorded) = &mut self.recorded {
            recorded.push(Recorded { source, to, bytes: bytes.clone() });
        }
        for _ in 0..copies {
            if self.rng.random_bool(self.links.loss) {
                continue;
            }
            let mut bytes = bytes.clone();
            if self.mutate > 0.0 && self.rng.random_bool(self.mutate) {
                self.spoil(from, to, &mut bytes);
            }
            let jitter = self.links.jitter.mul_f64(self.rng.random::<f64>());
            let at = self.now + self.links.latency + jitter;
            self.push(at, 0, What::Deliver { from, source, to, bytes });
        }
    }

    /// A stream from a process to whoever listens at `to`: no loss, but nothing goes over a cut.
    fn connect(&mut self, from: usize, stream: StreamId, to: SocketAddr) {
        let caller = End { host: from, boot: self.hosts[from].boot, stream };
        let listening = self.at.get(&to).copied().filter(|to| self.hosts[*to].machine.is_some());
        let Some(host) = listening else {
            self.push_flow(from, caller, Flow::Closed);
            return;
        };
        self.streams += 1;
        let stream = StreamId::In(self.streams);
        let called = End { host, boot: self.hosts[host].boot, stream };
        self.pipes.extend([(caller, called), (called, caller)]);
        self.push_flow(from, called, Flow::Accepted(self.hosts[from].source));
        self.push_flow(host, caller, Flow::Connected);
    }

    fn flow(&mut self, from: usize, stream: StreamId, what: Flow) {
        let end = End { host: from, boot: self.hosts[from].boot, stream };
        if let (Flow::Bytes(bytes), Some(written)) = (&what, &mut self.written) {
            written.push((from, bytes.clone()));
        }
        let Some(&to) = self.pipes.get(&end) else { return };
        if matches!(what, Flow::Closed) {
            self.pipes.remove(&end);
        }
        self.push_flow(from, to, what);
    }

    fn push_flow(&mut self, from: usize, to: End, what: Flow) {
        let jitter = self.links.jitter.mul_f64(self.rng.random::<f64>());
        let at = self.now + self.links.latency + jitter;
        let at = self.flows_until.get(&to).map_or(at, |until| at.max(*until));
        self.flows_until.insert(to, at);
        self.push(at, 0, What::Flow { from, to, what });
    }

    fn arrive(&mut self, from: usize, to: End, what: &Flow) {
        let host = &self.hosts[to.host];
        if host.boot != to.boot || host.machine.is_none() || self.cuts.contains(&(from, to.host)) {
            return;
        }
        let stream = to.stream;
        if host.stalled {
            // Its kernel takes it, and the process reads it later.
            let later = self.now + Duration::from_millis(50);
            self.flows_until.insert(to, later);
            self.push(later, 0, What::Flow { from, to, what: what.clone() });
            return;
        }
        let event = match what {
            Flow::Accepted(from) => StreamEvent::Accepted { from: *from },
            Flow::Connected => StreamEvent::Connected,
            Flow::Closed => {
                self.pipes.remove(&to);
                self.flows_until.remove(&to);
                StreamEvent::Closed("the other end closed it")
            }
            Flow::Bytes(bytes) => {
                for event in bytes.chunks(16 << 10).map(StreamEvent::Bytes) {
                    self.input(to.host, Input::Stream { stream, event });
                }
                return;
            }
        };
        self.input(to.host, Input::Stream { stream, event });
    }

    /// Somebody who is no node of ours calls a host, and says `bytes`.
    pub(crate) fn call(&mut self, host: usize, bytes: &[u8]) -> StreamId {
        self.streams += 1;
        let stream = StreamId::In(self.streams);
        let event = StreamEvent::Accepted { from: SocketAddr::from(([10, 9, 9, 9], 999)) };
        self.input(host, Input::Stream { stream, event });
        self.input(host, Input::Stream { stream, event: StreamEvent::Bytes(bytes) });
        stream
    }

    /// Changes some of the payload and seals it again, so that the change is not noticed.
    fn spoil(&mut self, from: usize, to: SocketAddr, bytes: &mut Vec<u8>) {
        let Some(sender) = self.hosts[from].machine.as_ref().map(Machine::identity) else { return };
        let Some(receiver) = self.at.get(&to).and_then(|to| self.hosts[*to].machine.as_ref())
        else {
            return;
        };
        let head = Head::read(bytes).expect("our own head");
        let kind = Kind::of(head.kind).expect("our own kind");
        let own = receiver.identity().actor.node;
        let node = (!head.anyone()).then_some(own);
        let seal = self
            .keys
            .as_ref()
            .map(|ring| Seal::new(ring.first(), &ring.first().root(), "sim", sender.actor));
        let mut payload = match &seal {
            // Sealed for another boot of the address: it is lost anyway.
            Some(seal) => match seal.open(&head, own, bytes) {
                Some(payload) => payload,
                None => return,
            },
            None => bytes[24..bytes.len() - 16].to_vec(),
        };
        // A nonce that is sent back stays: what is behind it is to be heard.
        let answer = head.answers().then(|| u64::from_be_bytes(*payload.first_chunk().unwrap()));
        payload.drain(..if answer.is_some() { 8 } else { 0 });
        for _ in 0..self.rng.random_range(1..4) {
            if payload.is_empty() {
                break;
            }
            let at = self.rng.random_range(0..payload.len());
            match self.rng.random_range(0..3) {
                0 => payload[at] ^= 1 << self.rng.random_range(0..8),
                1 => payload.truncate(at),
                _ => payload.insert(at, self.rng.random()),
            }
        }
        payload.truncate(MAX_PAYLOAD);
        *bytes = match seal {
            Some(seal) => {
                let cover = Cover { kind, to: node, counter: head.counter, answer };
                seal.datagram(cover, &payload).expect("a number that fits")
            }
            None => Envelope::new("sim", sender.actor).seal(kind, node, &payload),
        };
    }

    fn push(&mut self, at: Instant, order: u8, what: What) {
        self.seq += 1;
        self.events.push(Reverse(Event { at, order, seq: self.seq, what }));
    }

    fn look_for_false_downs(&mut self, index: usize) {
        let Some(machine) = &self.hosts[index].machine else { return };
        for member in machine.members() {
            let Some(&whom) = self.at.get(&member.address.0) else { continue };
            let healthy = self.hosts[whom].machine.is_some()
                && self.hosts[whom].boot == member.boot_id.bits()
                && !self.hosts[whom].stalled;
            let cut = self.cuts.contains(&(whom, index)) || self.cuts.contains(&(index, whom));
            let excused =
                self.excused_until.get(&(index, whom)).is_some_and(|until| *until > self.now);
            let down = member.state == MemberState::Failed && !member.own;
            if down
                && healthy
                && !cut
                && !excused
                && self.reported.insert((index, self.hosts[whom].boot))
            {
                let who = self.hosts[index].name.clone();
                let whom = self.hosts[whom].name.clone();
                self.false_downs.push((self.now - self.began, who, whom));
            }
        }
    }

    /// Lets `time` go by.
    pub(crate) fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self.step(until) {}
        self.now = until;
    }

    /// Runs until `holds`, looked at every 10 ms; how long that took.
    pub(crate) fn until(
        &mut self,
        what: &str,
        within: Duration,
        mut holds: impl FnMut(&Fabric) -> bool,
    ) -> Duration {
        let from = self.now;
        while !holds(self) {
            assert!(self.now - from < within, "not within {within:?}: {what}\n{}", self.picture());
            self.run(Duration::from_millis(10));
        }
        self.now - from
    }

    fn step(&mut self, until: Instant) -> bool {
        match self.events.peek() {
            Some(Reverse(event)) if event.at <= until => {}
            _ => return false,
        }
        let Some(Reverse(event)) = self.events.pop() else { return false };
        self.now = self.now.max(event.at);
        match event.what {
            What::Deliver { from, source, to, bytes } => self.deliver(from, source, to, bytes),
            What::Flow { from, to, what } => self.arrive(from, to, &what),
            What::Seeds(index, boot) => {
                let host = &self.hosts[index];
                if host.boot == boot && !host.stalled {
                    let seeds = host.seeds.clone();
                    self.input(index, Input::Seeds(seeds));
                }
            }
            What::Thaw(index) => {
                self.hosts[index].stalled = false;
                self.input(index, Input::Tick);
                while let Some((from, bytes)) = self.hosts[index].waiting.pop_front() {
                    self.input(index, Input::Datagram { from, bytes: &bytes });
                }
            }
            What::Wake(index) => {
                let host = &mut self.hosts[index];
                if host.wake == Some(event.at) {
                    host.wake = None;
                    if !host.stalled {
                        self.input(index, Input::Tick);
                    }
                }
            }
        }
        true
    }

    fn deliver(&mut self, from: usize, source: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        let Some(&index) = self.at.get(&to) else { return };
        if self.cuts.contains(&(from, index)) {
            return;
        }
        let host = &mut self.hosts[index];
        if host.stalled && host.machine.is_some() {
            // A socket's buffer is not endless.
            if host.waiting.len() < 1000 {
                host.waiting.push_back((source, bytes));
            }
            return;
        }
        self.input(index, Input::Datagram { from: source, bytes: &bytes });
    }

    /// The living machine of a host.
    pub(crate) fn machine(&self, index: usize) -> &Machine {
        self.hosts[index].machine.as_ref().expect("its process lives")
    }

    /// Hosts whose process lives.
    pub(crate) fn living(&self) -> Vec<usize> {
        (0..self.hosts.len()).filter(|index| self.hosts[*index].machine.is_some()).collect()
    }

    /// What `who` thinks of the node called as `whom`: one entry, or none.
    pub(crate) fn state(&self, who: usize, whom: usize) -> Option<MemberState> {
        let name = self.hosts[whom].name.as_str();
        let members = self.machine(who).members();
        let mut found = members.iter().filter(|member| &*member.name.0 == name);
        let state = found.next().map(|member| member.state);
        assert!(found.next().is_none(), "two rows are called {name}\n{members:#?}");
        state
    }

    /// Everybody alive sees everybody alive, by name and this boot, and knows how many share.
    pub(crate) fn one_view(&self) -> bool {
        let living = self.living();
        let boots: HashSet<(&str, u64)> = living
            .iter()
            .map(|index| (self.hosts[*index].name.as_str(), self.hosts[*index].boot))
            .collect();
        let all_share = |index: &usize| self.machine(*index).alive() == living.len();
        // The cheap question first: this is asked very often.
        living.iter().all(all_share)
            && living.iter().all(|index| {
                let members = self.machine(*index).members();
                let alive = members.iter().filter(|member| member.state == MemberState::Alive);
                let seen: HashSet<(&str, u64)> =
                    alive.map(|member| (&*member.name.0, member.boot_id.bits())).collect();
                seen == boots
            })
    }

    /// Everybody's view, for a failed test.
    pub(crate) fn picture(&self) -> String {
        let mut lines = vec![format!("after {:?}", self.now - self.began)];
        for index in self.living().into_iter().take(12) {
            let members = self.machine(index).members();
            let seen: Vec<String> = members
                .iter()
                .take(12)
                .map(|member| format!("{}:{}", member.name, member.state.label()))
                .collect();
            lines.push(format!(
                "{} ({}) sees {}",
                self.hosts[index].name,
                members.len(),
                seen.join(" ")
            ));
        }
        lines.join("\n")
    }
}
