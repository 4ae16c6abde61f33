//! Datagrams into a whole gossip machine that has a member beside it, in virtual time.
//!
//! An input is a sequence of steps:
//!
//! ```text
//!   | who 1 | kind 1 | length 2 | bytes …   | who 1 | kind 1 | length 2 | bytes …
//! ```
//!
//! The bytes are a whole datagram, or the payload of a good one of `kind` from the member or from a
//! stranger, so that what is behind the checks is reached as well; or time goes by, as many
//! hundredths of a second as there are bytes.
//!
//! What must hold: every datagram is counted once, what is sent in answer is bounded, nothing from a
//! stranger changes who is a member, and the machine never asks to be woken without end.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tidegate::base::{Actor, BootId, NodeId, time};
use tidegate::cluster::MOST_MEMBERS;
use tidegate::cluster::identity::Identity;
use tidegate::cluster::machine::{Input, Machine, Output, Rooms, Setup};
use tidegate::cluster::sync::StreamId;
use tidegate::cluster::wire::records::{Challenge, Join, Meta, Record, records};
use tidegate::cluster::wire::{Envelope, Kind, MAX_DATAGRAM, MAX_PAYLOAD};

/// The wall clock at the beginning, milliseconds since 1970.
pub const EPOCH_MS: u64 = 1_800_000_000_000;
/// The machine that is fuzzed.
pub const OWN: Actor = actor(0x0202);
/// Its member, as the golden bytes of the wire format call it.
pub const PEER: Actor =
    Actor { node: NodeId(0x0102_0304_0506_0708), boot: BootId::new(0x0a0b_0c0d_0e0f) };
/// Nobody it knows.
pub const STRANGER: Actor = actor(0x0303);

/// Steps of one input.
const MOST_STEPS: usize = 64;
/// Virtual time of one input at most: what is awaited longest is a suspect's end.
const LONGEST: Duration = Duration::from_secs(20);
/// Sent in answer to one datagram: views and verdicts are told in full.
const MOST_SENT: usize = 64;
/// Wakings in a second of virtual time.
const MOST_WAKINGS: u32 = 2000;

/// Who a step is from, by its first byte.
pub mod who {
    /// A whole datagram.
    pub const ANYBODY: u8 = 0;
    /// The payload of one of the member's.
    pub const PEER: u8 = 1;
    /// The payload of one of a stranger's.
    pub const STRANGER: u8 = 2;
    /// Time.
    pub const NOBODY: u8 = 3;
    /// How many there are.
    pub const ALL: u8 = 4;
}

const fn actor(node: u64) -> Actor {
    Actor { node: NodeId(node), boot: BootId::new(node) }
}

/// Where an actor is found.
pub fn address(actor: Actor) -> SocketAddr {
    let last = match actor {
        PEER => 1,
        OWN => 2,
        _ => 3,
    };
    SocketAddr::from(([10, 0, 0, last], 9090))
}

/// As an actor is known to foca.
pub fn identity(actor: Actor) -> Identity {
    Identity { actor, address: address(actor), generation: EPOCH_MS }
}

/// One step of an input.
pub fn step(who: u8, kind: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("a datagram's worth").to_be_bytes();
    [&[who, kind], &length[..], bytes].concat()
}

/// Takes a sequence of steps.
pub fn take(mut input: &[u8]) {
    let mut world = World::new();
    for _ in 0..MOST_STEPS {
        let Some((head, rest)) = input.split_at_checked(4) else { return };
        let length = usize::from(u16::from_be_bytes([head[2], head[3]])).min(rest.len());
        let (bytes, rest) = rest.split_at(length);
        input = rest;
        world.step(head[0] % who::ALL, head[1], bytes);
    }
}

/// The machine and what its member and a stranger can say.
pub struct World {
    began: Instant,
    pub(super) now: Instant,
    pub(super) machine: Machine,
    /// What the machine wants done with streams.
    streams: Vec<Output>,
    own: Envelope,
    peer: Envelope,
    stranger: Envelope,
}

impl World {
    /// The member has joined as every node does: by answering a challenge.
    pub fn new() -> World {
        let now = time::now();
        let setup =
            Setup { unix_ms: EPOCH_MS, seed: 1, ..Setup::new(OWN, "own".into(), address(OWN)) };
        let label = setup.label.clone();
        let mut world = World {
            began: now,
            now,
            streams: Vec::new(),
            machine: Machine::new(setup, Rooms::empty(), now),
            own: Envelope::new(&label, OWN),
            peer: Envelope::new(&label, PEER),
            stranger: Envelope::new(&label, STRANGER),
        };
        world.join(0);
        let nonce = world.challenge().expect("a joiner is challenged").nonce;
        world.join(nonce);
        assert_eq!(world.machine.alive(), 2, "the member is let in");
        world.drain();
        world
    }

    fn join(&mut self, nonce: u64) {
        let text = || "x".to_owned();
        let (name, digest, version) = (text(), text(), text());
        let meta = Meta {
            actor: PEER,
            seq: 1,
            name,
            digest,
            version,
            keys: vec![1],
            sync: Some(address(PEER)),
        };
        let join = Record::Join(Join { identity: identity(PEER), nonce, meta }).bytes();
        // Only the first ask goes to whoever is there.
        let to = (nonce != 0).then_some(OWN.node);
        let bytes = self.peer.seal(Kind::Join, to, &join);
        self.machine.handle(self.now, Input::Datagram { from: address(PEER), bytes: &bytes });
    }

    fn challenge(&mut self) -> Option<Challenge> {
        let sent = self.drain();
        sent.iter().find_map(|bytes| {
            let opened = self.peer.open(bytes).ok()?;
            let records = records(opened.payload).ok()?;
            records.into_iter().find_map(|record| match record {
                Record::Challenge(challenge) => Some(challenge),
                _ => None,
            })
        })
    }

    /// One step; how many datagrams were taken for good because of it.
    pub fn step(&mut self, who: u8, kind: u8, bytes: &[u8]) -> u64 {
        let kind = Kind::ALL[usize::from(kind) % Kind::ALL.len()];
        let payload = &bytes[..bytes.len().min(MAX_PAYLOAD)];
        let to = Some(OWN.node);
        match who {
            who::ANYBODY => {
                let whole = self.own.open(bytes).is_ok();
                self.hear(PEER, bytes, whole)
            }
            who::PEER => {
                let bytes = self.peer.seal(kind, to, payload);
                self.hear(PEER, &bytes, true)
            }
            who::STRANGER => {
                let bytes = self.stranger.seal(kind, to, payload);
                // The member may have told of it. And foca's messages are taken of everybody while
                // gossip is plaintext.
                let members = self.machine.members();
                let known = members.iter().any(|member| member.node_id == STRANGER.node);
                self.hear(STRANGER, &bytes, known || kind == Kind::Swim)
            }
            _ => {
                self.pass(Duration::from_millis(10) * bytes.len() as u32);
                0
            }
        }
    }

    fn hear(&mut self, from: Actor, bytes: &[u8], may_change: bool) -> u64 {
        // What is due anyway is done before, so that what changes is the datagram's doing.
        self.machine.handle(self.now, Input::Tick);
        self.drain();
        let members = self.machine.members();
        let (taken, dropped) = self.counted();
        self.machine.handle(self.now, Input::Datagram { from: address(from), bytes });
        let (taken_now, dropped_now) = self.counted();
        assert_eq!(taken_now + dropped_now, taken + dropped + 1, "counted once");
        let sent = self.drain().len();
        assert!(sent <= MOST_SENT, "{sent} datagrams for one");
        assert!(self.machine.members().len() <= MOST_MEMBERS);
        if !may_change {
            assert_eq!(self.machine.members(), members, "a stranger changed who is there");
        }
        taken_now - taken
    }

    pub(super) fn pass(&mut self, time: Duration) {
        let until = (self.now + time).min(self.began + LONGEST);
        let mut wakings = 0;
        while self.machine.poll_timeout() <= until {
            // As a runtime's timer does, at the earliest a moment later.
            self.now = self.machine.poll_timeout().max(self.now + Duration::from_micros(10));
            self.machine.handle(self.now, Input::Tick);
            self.drain();
            wakings += 1;
            let most = (MOST_WAKINGS as f64 * time.as_secs_f64()) as u32 + 100;
            assert!(wakings <= most, "woken {wakings} times in {time:?}");
        }
        self.now = self.now.max(until);
    }

    fn drain(&mut self) -> Vec<Vec<u8>> {
        let mut sent = Vec::new();
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Send { bytes, .. } => {
                    assert!(bytes.len() <= MAX_DATAGRAM, "a datagram of {} bytes", bytes.len());
                    sent.push(bytes);
                }
                Output::Connect { .. } | Output::Write { .. } | Output::Close { .. } => {
                    self.streams.push(output);
                }
                _ => {}
            }
        }
        sent
    }

    /// Waits until the machine calls its member.
    pub(super) fn call(&mut self) -> Option<StreamId> {
        self.pass(Duration::from_secs(1));
        self.take_outputs().into_iter().find_map(|output| match output {
            Output::Connect { stream, .. } => Some(stream),
            _ => None,
        })
    }

    /// What the machine wanted done with streams since.
    pub(super) fn take_outputs(&mut self) -> Vec<Output> {
        self.drain();
        std::mem::take(&mut self.streams)
    }

    /// Datagrams taken for good, and dropped.
    fn counted(&self) -> (u64, u64) {
        let figures = self.machine.figures();
        let taken = figures.received.iter().map(|(_, datagrams, _)| datagrams).sum();
        (taken, figures.dropped.iter().map(|(_, count)| count).sum())
    }
}

impl Default for World {
    fn default() -> Self {
        World::new()
    }
}
