//! What goes into a machine and what comes out.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::StreamEvent;
use crate::balance::Tally;
use crate::base::{Actor, NodeName};
use crate::cluster::acts::Acts;
use crate::cluster::asks::Ticket;
use crate::cluster::exchange::INTERVAL;
use crate::cluster::keyring::Keyring;
use crate::cluster::plan::SyncAt;
use crate::cluster::profile::Profile;
use crate::cluster::state::State;
use crate::cluster::sync::StreamId;
use crate::cluster::tickets::Draw;
use crate::health::Verdicts;
use crate::net::tls::{TICKET_LIFETIME, TicketKeys};
use crate::traffic::{Alone, Answer, Ask, Holder, Ledger, Levels, Paced};

/// What a machine begins with.
#[derive(Clone, Debug)]
pub struct Setup {
    /// This node and this start of it; the node id must not be 0.
    pub actor: Actor,
    /// What it is called.
    pub name: NodeName,
    /// Which cluster.
    pub label: String,
    /// Where peers find it.
    pub address: SocketAddr,
    /// Where it answers push/pull.
    pub sync: Option<SyncAt>,
    /// Version of the program.
    pub version: String,
    /// Digest of its configuration.
    pub digest: String,
    /// Whether there are seeds to ask.
    pub seeds: bool,
    /// What lies between the nodes.
    pub profile: Profile,
    /// Bytes per second it may send.
    pub traffic_cap: u64,
    /// Public addresses may be used although nothing is encrypted.
    pub public: bool,
    /// What seals gossip; without, it is plaintext.
    pub keys: Option<Arc<Keyring>>,
    /// With keys: plaintext is heard and spoken as well until then, milliseconds since 1970.
    pub plaintext_until: u64,
    /// The wall clock, milliseconds since 1970.
    pub unix_ms: u64,
    /// Seed of everything random but the ids.
    pub seed: u64,
    /// What was kept of the last life.
    pub state: State,
    /// Longest time between two reports of a limited key that changes.
    pub interval: Duration,
    /// How long a secret of session tickets seals.
    pub ticket_span: Duration,
}

impl Setup {
    /// A node without seeds, with everything else as a test or a plan begins it.
    pub fn new(actor: Actor, name: NodeName, address: SocketAddr) -> Self {
        Setup {
            actor,
            name,
            label: "default".to_owned(),
            address,
            sync: None,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            digest: String::new(),
            seeds: false,
            profile: Profile::Lan,
            traffic_cap: 3 << 20,
            public: false,
            keys: None,
            plaintext_until: 0,
            unix_ms: 0,
            seed: 0,
            state: State::default(),
            interval: INTERVAL,
            ticket_span: TICKET_LIFETIME,
        }
    }
}

/// What the machine looks at and tells.
#[derive(Clone)]
pub struct Rooms {
    /// Own use of limits.
    pub ledger: Arc<dyn Ledger>,
    /// Told what peers used.
    pub levels: Arc<dyn Levels>,
    /// Own permits under caps over the cluster.
    pub holder: Arc<dyn Holder>,
    /// Own pacers of bandwidth that all nodes share.
    pub paced: Arc<dyn Paced>,
    /// Own verdicts.
    pub verdicts: Arc<Verdicts>,
    /// What operators did.
    pub acts: Arc<Acts>,
    /// Own connections in flight, and told of the peers'.
    pub tally: Arc<Tally>,
    /// Told by which secrets session tickets are sealed.
    pub tickets: Arc<TicketKeys>,
    /// Where new secrets come from.
    pub draw: Draw,
}

impl Rooms {
    /// The rooms of a node that limits and checks nothing, and has no secrets.
    pub fn empty() -> Self {
        Rooms {
            ledger: Arc::new(Alone),
            levels: Arc::new(Alone),
            holder: Arc::new(Alone),
            paced: Arc::new(Alone),
            verdicts: Arc::default(),
            acts: Acts::empty(),
            tally: Arc::default(),
            tickets: Arc::default(),
            draw: Arc::new(|_| false),
        }
    }
}

/// What happens to a machine.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// Time went by.
    Tick,
    /// A datagram came in.
    Datagram {
        /// Where it was sent from.
        from: SocketAddr,
        /// All of it.
        bytes: &'a [u8],
    },
    /// Something happened to a stream.
    Stream {
        /// Which.
        stream: StreamId,
        /// What.
        event: StreamEvent<'a>,
    },
    /// The ledger has something that should be told at once.
    Urgent,
    /// A worker asks; it is answered by [`Output::Answer`], once.
    Ask {
        /// The caller's name for it, never used twice.
        ticket: Ticket,
        /// What.
        ask: Ask,
    },
    /// The seeds' addresses, as asked for by [`Output::Resolve`].
    Seeds(Vec<SocketAddr>),
    /// The configuration changed.
    Digest(String),
    /// The keys changed; of no consequence for a node that began without.
    Keys(Arc<Keyring>),
    /// Where peers find us, when that is only known now.
    Address(SocketAddr),
    /// This node is going to leave: tell it.
    Leaving,
    /// This node leaves now.
    Leave,
}

/// What a machine wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Send a datagram.
    Send {
        /// Where to.
        to: SocketAddr,
        /// All of it.
        bytes: Vec<u8>,
    },
    /// Open a stream; its end is told by [`Input::Stream`].
    Connect {
        /// Its name from now on.
        stream: StreamId,
        /// Where to.
        to: SocketAddr,
    },
    /// Send bytes over a stream.
    Write {
        /// Which.
        stream: StreamId,
        /// All of them.
        bytes: Vec<u8>,
    },
    /// End a stream; nothing that comes in over it is told any more.
    Close {
        /// Which.
        stream: StreamId,
        /// When all is sent and received; else at once.
        gently: bool,
    },
    /// Resolve the seeds anew and answer by [`Input::Seeds`].
    Resolve,
    /// [`super::Machine::members`] changed.
    Members,
    /// [`super::Machine::votes`] changed.
    Votes,
    /// The answer to an ask.
    Answer {
        /// Which ask.
        ticket: Ticket,
        /// The answer.
        answer: Answer,
    },
    /// [`super::Machine::state`] changed in a way that should outlive this process.
    Persist,
}
