//! A node's membership in its cluster, for the rest of the house: started once, read from anywhere.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use parking_lot::Mutex;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::{Notify, oneshot};

use super::ClusterPlan;
use super::acts::Acts;
use super::desk::{Desk, DeskClock};
use super::figures::Figures;
use super::keyring::{Keyring, RingError};
use super::plan::SyncAt;
use super::private::is_public;
use super::roster::MemberView;
use super::shell::{Agent, random, run};
use super::state::{Dir, DirError, Keeper, News, State};
use crate::balance::Tally;
use crate::base::{BackendKey, GossipAddr, NodeId, View, publish_and_view, time};
use crate::health::{Peers, Rota, Verdicts, Vote};
use crate::net::tls::TicketKeys;
use crate::net::{Resolver, TcpOptions, bind_listeners, bind_udp};
use crate::traffic::{Alone, Asking, Holder, Ledger, Levels, Paced};

/// What the cluster wing looks at and tells.
pub struct Windows {
    /// Own use of limits.
    pub ledger: Arc<dyn Ledger>,
    /// Told what peers used.
    pub levels: Arc<dyn Levels>,
    /// Own permits under caps over the cluster.
    pub holder: Arc<dyn Holder>,
    /// Own pacers of bandwidth that all nodes share.
    pub paced: Arc<dyn Paced>,
    /// Own verdicts on backends.
    pub verdicts: Arc<Verdicts>,
    /// What operators did.
    pub acts: Arc<Acts>,
    /// Own connections in flight, and told of the peers'.
    pub tally: Arc<Tally>,
    /// Told by which secrets session tickets are sealed: the cluster's where gossip is sealed, else
    /// this node's.
    pub tickets: Arc<TicketKeys>,
    /// Digest of the configuration that runs.
    pub config_digest: View<String>,
    /// Resolves seeds.
    pub resolver: Resolver,
}

impl Windows {
    /// Of a node that limits and checks nothing.
    pub fn empty(config_digest: View<String>, resolver: Resolver) -> Self {
        Windows {
            ledger: Arc::new(Alone),
            levels: Arc::new(Alone),
            holder: Arc::new(Alone),
            paced: Arc::new(Alone),
            verdicts: Arc::default(),
            acts: Acts::empty(),
            tally: Arc::default(),
            tickets: Arc::default(),
            config_digest,
            resolver,
        }
    }
}

/// Why a node cannot take part.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The gossip socket.
    #[error("cannot listen for gossip at {address} (UDP): {error}; change `cluster.bind_addr`")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why not.
        error: io::Error,
    },
    /// The listener of push/pull.
    #[error(
        "cannot listen for push/pull at {address} (TCP): {error}; change `cluster.sync_addr`, which \
         is `cluster.bind_addr` unless it is written"
    )]
    BindSync {
        /// Where.
        address: SocketAddr,
        /// Why not.
        error: io::Error,
    },
    /// Plaintext and a public address.
    #[error(
        "`cluster.{field}`: {address} is a public address and gossip is plaintext; seal it by \
         `cluster.keys_file` (`tidegate keys generate` makes one), use a private address, or write \
         `cluster.insecure: true` to allow it"
    )]
    Public {
        /// `bind_addr`, `sync_addr`, `advertise_addr` or `peers`.
        field: &'static str,
        /// The address.
        address: SocketAddr,
    },
    /// An advertised address that nobody can send to.
    #[error("`cluster.advertise_addr`: {0} is not an address that peers can send to")]
    Advertise(SocketAddr),
    /// The state directory.
    #[error(transparent)]
    State(#[from] DirError),
    /// The system gives no thread.
    #[error("cannot start the gossip thread: {0}")]
    Thread(io::Error),
}

/// Published by the agent, read by everybody.
pub(super) struct Shown {
    pub(super) members: View<Vec<MemberView>>,
    pub(super) votes: View<Opinions>,
    pub(super) figures: Mutex<Figures>,
    pub(super) fault: Mutex<Option<String>>,
    pub(super) cloned: Mutex<Option<String>>,
    /// What seals gossip now; a new life of the agent begins with it.
    pub(super) ring: Mutex<Option<Arc<Keyring>>>,
    pub(super) address: Mutex<SocketAddr>,
    pub(super) answered: AtomicBool,
    pub(super) impaired: AtomicBool,
    pub(super) restarts: AtomicU64,
    /// How keeping the state goes, when there is a directory for it.
    pub(super) kept: Option<Arc<News>>,
    /// Milliseconds from `began` to when the agent last ran.
    pub(super) ran: AtomicU64,
    pub(super) began: std::time::Instant,
}

/// What peers think of backends, and how checks are shared with them.
#[derive(Debug)]
pub(super) struct Opinions {
    /// Nodes that share the checks, this one first.
    pub(super) checking: Arc<[NodeId]>,
    /// By backend's id.
    pub(super) votes: HashMap<u64, Vec<Vote>>,
}

impl Shown {
    pub(super) fn age_ms(&self) -> u64 {
        time::now().saturating_duration_since(self.began).as_millis() as u64
    }

    /// Milliseconds since the agent last ran.
    pub(super) fn silent_ms(&self) -> u64 {
        self.age_ms().saturating_sub(self.ran.load(Ordering::Relaxed))
    }
}

/// What the agent is told.
pub(super) enum Order {
    Leaving,
    Leave(oneshot::Sender<()>),
}

/// This node in its cluster. Dropping it ends the agent without a word, as a crash would;
/// [`Cluster::leave`] first.
pub struct Cluster {
    shown: Arc<Shown>,
    desk: Arc<Desk>,
    desk_clock: Arc<DeskClock>,
    all_below: usize,
    orders: Option<Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

/// An agent that has not run for longer, though it runs ten times a second, is not believed: what it
/// published last would otherwise stand for ever.
const SILENT_MS: u64 = 3000;

/// The window on the peers' verdicts.
struct PeerVotes {
    shown: Arc<Shown>,
    all_below: usize,
}

impl PeerVotes {
    fn silent(&self) -> bool {
        self.shown.silent_ms() > SILENT_MS
    }
}

impl Peers for PeerVotes {
    fn votes(&self, backend: &BackendKey) -> Vec<Vote> {
        if self.silent() {
            return Vec::new();
        }
        self.shown.votes.look().votes.get(&backend.id()).cloned().unwrap_or_default()
    }

    fn rota(&self) -> Rota {
        if self.silent() {
            return Rota::alone();
        }
        let nodes = Arc::clone(&self.shown.votes.look().checking);
        match nodes.first() {
            Some(&own) => Rota { own, nodes, all_below: self.all_below },
            None => Rota::alone(),
        }
    }
}

impl Cluster {
    /// Binds the gossip socket and starts the agent on a thread of its own. The node is alone
    /// until a seed answers; seeds need not be there, nor be resolvable yet. May wait a second for
    /// names when the advertised address depends on them.
    ///
    /// # Errors
    /// The socket cannot be bound, or a public address is used although gossip is plaintext.
    pub fn start(plan: ClusterPlan, windows: Windows) -> Result<Cluster, ClusterError> {
        check(&plan)?;
        let bind_error = |error| ClusterError::Bind { address: plan.bind, error };
        let socket = bind_udp(plan.bind).map_err(bind_error)?;
        let bound = socket.local_addr().map_err(bind_error)?;

        let (listener, heard) = listen(&plan, bound)?;
        let sync = SyncAt::new(heard, bound);

        let (node, state, keeper) = remembered(&plan, &windows.acts)?;

        let began = time::now();
        let (members_in, members) = publish_and_view(Vec::new());
        let nobody = Opinions { checking: Arc::new([]), votes: HashMap::new() };
        let (votes_in, votes) = publish_and_view(nobody);
        let shown = Arc::new(Shown {
            members,
            votes,
            figures: Mutex::default(),
            fault: Mutex::default(),
            cloned: Mutex::default(),
            ring: Mutex::new(plan.keys.as_ref().map(|keys| Arc::clone(&keys.ring))),
            address: Mutex::new(bound),
            answered: AtomicBool::new(plan.peers.is_empty()),
            impaired: AtomicBool::new(false),
            restarts: AtomicU64::new(0),
            kept: keeper.as_ref().map(Keeper::news),
            ran: AtomicU64::new(0),
            began,
        });
        let (orders, inbox): (_, Receiver<Order>) = channel(16);
        let (desk, asked, desk_clock) = Desk::open();
        let (ready, started) = mpsc::sync_channel(1);
        let all_below = plan.probe_all_below;
        let (insecure, sealed) = (plan.insecure, plan.keys.is_some());
        let until = plan.plaintext_until.filter(|_| sealed);
        let urgent = Arc::new(Notify::new());
        let wake = Arc::clone(&urgent);
        windows.ledger.on_urgent(Box::new(move || wake.notify_one()));
        let wake = Arc::clone(&urgent);
        windows.holder.on_urgent(Box::new(move || wake.notify_one()));
        let wake = Arc::clone(&urgent);
        windows.acts.on_change(move || wake.notify_one());
        let agent = Agent {
            plan,
            windows,
            socket,
            bound,
            listener,
            sync,
            shown: Arc::clone(&shown),
            members: members_in,
            votes: votes_in,
            desk: Arc::clone(&desk_clock),
            urgent,
            node,
            state: Mutex::new(state),
            keeper,
        };
        let thread = std::thread::Builder::new()
            .name("gossip".to_owned())
            .spawn(move || run(agent, inbox, asked, ready))
            .map_err(ClusterError::Thread)?;
        let (orders, thread) = (Some(orders), Some(thread));
        let desk = Arc::new(desk);
        let mut cluster = Cluster { shown, desk, desk_clock, all_below, orders, thread };
        match started.recv() {
            Ok(Ok(address)) => {
                if !insecure && !sealed && is_public(address.ip()) {
                    return Err(ClusterError::Public { field: "advertise_addr", address });
                }
                say_how_safe(address, sealed, until);
                Ok(cluster)
            }
            Ok(Err(error)) => Err(ClusterError::Thread(error)),
            Err(_) => {
                cluster.orders = None;
                Err(ClusterError::Thread(io::Error::other("the gossip thread ended at once")))
            }
        }
    }

    /// Everybody known, this node first.
    pub fn members(&self) -> Arc<Vec<MemberView>> {
        self.shown.members.take()
    }

    /// What alive peers think of backends.
    pub fn peers(&self) -> Arc<dyn Peers> {
        Arc::new(PeerVotes { shown: Arc::clone(&self.shown), all_below: self.all_below })
    }

    /// Where workers ask other nodes.
    pub fn asking(&self) -> Arc<dyn Asking> {
        self.desk.clone()
    }

    /// Some peer answered, or there are none configured.
    pub fn answered(&self) -> bool {
        self.shown.answered.load(Ordering::Relaxed)
    }

    /// This node rather than its backends is ill: most are down to it while most peers disagree.
    pub fn impaired(&self) -> bool {
        self.shown.impaired.load(Ordering::Relaxed)
    }

    /// Why this node is not let in, while that stands: in words, with the remedy.
    pub fn fault(&self) -> Option<String> {
        self.shown.fault.lock().clone()
    }

    /// That another process runs with this node's id, while that stands: in words, with the remedy.
    pub fn cloned(&self) -> Option<String> {
        self.shown.cloned.lock().clone()
    }

    /// Seals and opens by another ring from now on; whether it differs from the one before.
    ///
    /// # Errors
    /// It is the ring of another cluster; the one before stays.
    pub fn rekey(&self, ring: &Arc<Keyring>) -> Result<bool, RingError> {
        let mut shown = self.shown.ring.lock();
        // Who began in plaintext has no session to take over: that waits for a restart.
        let Some(now) = shown.as_mut() else { return Ok(false) };
        if !now.same_cluster(ring) {
            return Err(RingError::OtherSalt);
        }
        if now == ring {
            return Ok(false);
        }
        // The agent looks at it several times a second.
        *now = Arc::clone(ring);
        Ok(true)
    }

    /// Counters and gauges, at most 100 ms old while the agent runs.
    pub fn figures(&self) -> Figures {
        let mut figures = self.shown.figures.lock().clone();
        figures.restarts = self.shown.restarts.load(Ordering::Relaxed);
        (figures.asks_crowded, figures.asks_stuck) = self.desk_clock.lost();
        if let Some(kept) = &self.shown.kept {
            figures.state_writes = (kept.written(), kept.errors());
        }
        figures.silent_ms = self.shown.silent_ms();
        figures
    }

    /// Why the state cannot be written, while that stands.
    pub fn state_fault(&self) -> Option<String> {
        self.shown.kept.as_ref().and_then(|kept| kept.fault())
    }

    /// Where peers find us; a bound port 0 is resolved.
    pub fn address(&self) -> GossipAddr {
        GossipAddr(*self.shown.address.lock())
    }

    /// Tells everybody that this node is going to leave; it stays a member until it does.
    pub fn leaving(&self) {
        self.order(Order::Leaving);
    }

    /// Leaves the cluster; returns when that was said.
    pub async fn leave(&self) {
        let (said, done) = oneshot::channel();
        self.order(Order::Leave(said));
        // An error means that the agent is gone, which is left as well.
        let _ = done.await;
    }

    fn order(&self, order: Order) {
        let Some(orders) = &self.orders else { return };
        if orders.try_send(order).is_err() {
            tracing::warn!("the gossip agent does not take orders");
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The agent ends when nobody can order it any more.
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Where push/pull is heard: beside gossip, at the same port, unless the plan says otherwise.
fn listen(
    plan: &ClusterPlan,
    gossip: SocketAddr,
) -> Result<(TcpListener, SocketAddr), ClusterError> {
    let bind = |address: SocketAddr| {
        let mut all = bind_listeners(address, 1, &TcpOptions::default())?;
        let listener = all.pop().ok_or(io::ErrorKind::NotFound)?;
        let heard = listener.local_addr()?;
        Ok((listener, heard))
    };
    // The system chose a port of its own: that it is free for UDP does not make it so for TCP.
    if plan.sync == plan.bind && plan.bind.port() == 0 {
        let beside = bind(gossip).or_else(|_: io::Error| bind(plan.sync));
        return beside.map_err(|error| ClusterError::BindSync { address: gossip, error });
    }
    bind(plan.sync).map_err(|error| ClusterError::BindSync { address: plan.sync, error })
}

/// Who this node is, what it remembers, and who will keep what it learns.
fn remembered(
    plan: &ClusterPlan,
    acts: &Arc<Acts>,
) -> Result<(NodeId, State, Option<Keeper>), ClusterError> {
    let fresh = || -> Result<NodeId, ClusterError> {
        Ok(NodeId((random().map_err(ClusterError::Thread)? | 1).rotate_left(17)))
    };
    let Some(path) = &plan.state_dir else {
        tracing::info!(
            "no `cluster.state_dir`: after a restart this node has a new id, takes its place by the clock \
             and by what peers know, and finds them by its seeds alone; bans and other acts come from peers, \
             and are gone when all nodes are down at once"
        );
        return Ok((fresh()?, State::default(), None));
    };
    let dir = Dir::open(path)?;
    let (node, state) = match dir.read() {
        Some(saved) => {
            acts.merge(time::now(), &saved.acts);
            (saved.node, saved.state)
        }
        None => (fresh()?, State::default()),
    };
    tracing::info!(%node, peers = state.peers.len(), path = %dir.path().display(), "state is kept");
    let keeper = Keeper::start(dir, node, Arc::clone(acts)).map_err(ClusterError::Thread)?;
    Ok((node, state, Some(keeper)))
}

/// At every start: whether gossip can be forged, and how to mend that.
fn say_how_safe(address: SocketAddr, sealed: bool, until: Option<u64>) {
    let until = until.filter(|until| *until > time::unix_ms());
    match (sealed, until) {
        (true, None) => tracing::info!(%address, "gossip is sealed"),
        (true, Some(until)) => tracing::warn!(
            %address, until = %time::rfc3339(until),
            "gossip is sealed, but nodes without keys are heard as well for a while: until then \
             anyone who can send to this address can join"
        ),
        (false, _) => tracing::warn!(
            %address,
            "gossip is not authenticated: anyone who can send to this address can join; \
             `tidegate keys generate --file cluster.keys` makes the keys that seal it: copy the file to every \
             node and name it in `cluster.keys_file`"
        ),
    }
}

/// Plaintext stays on private networks, unless asked for in words.
fn check(plan: &ClusterPlan) -> Result<(), ClusterError> {
    if let Some(address) = plan.advertise
        && address.ip().is_unspecified()
    {
        return Err(ClusterError::Advertise(address));
    }
    if plan.insecure || plan.keys.is_some() {
        return Ok(());
    }
    let own = [
        ("bind_addr", Some(plan.bind)),
        ("sync_addr", Some(plan.sync)),
        ("advertise_addr", plan.advertise),
    ];
    let peers = plan.peers.iter().map(|peer| ("peers", peer.literal()));
    let public = own.into_iter().chain(peers).find_map(|(field, address)| {
        let address = address.filter(|address| is_public(address.ip()))?;
        Some(ClusterError::Public { field, address })
    });
    public.map_or(Ok(()), Err)
}

/// The source address of the route to `peer`.
pub(super) fn source_towards(peer: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = match peer {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    // Connecting a UDP socket sends nothing; it only asks for the route.
    socket.connect(peer).ok()?;
    let source = socket.local_addr().ok()?.ip();
    (!source.is_unspecified()).then_some(source)
}
