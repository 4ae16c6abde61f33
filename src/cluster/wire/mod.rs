//! What a datagram looks like.
//!
//! ```text
//!  0        1         2       3        4             12         18          24
//!  | version | key id | type  | flags  | sender node | its boot  | counter   | payload … | tag 16 |
//! ```
//!
//! Numbers are big-endian. Key id 0 is plaintext: the tag is then the label's hash (8 bytes), so
//! that clusters that meet on one network do not hear each other, and a checksum (8 bytes) over the
//! recipient's node id, the header and the payload, keyed by the label, so that what was corrupted
//! or meant for somebody else is dropped. It authenticates nobody. The recipient is not on the
//! wire; [`ANYONE`] in the flags says that the sender did not know it.

pub mod encoding;
pub mod lease;
pub mod limits;
pub mod reason;
pub mod records;

use crate::base::id::stable_hash;
use crate::base::{Actor, BootId, NodeId};

pub use reason::Reason;

/// The version we speak; others are dropped.
pub const VERSION: u8 = 1;
/// Fits IPv6's smallest MTU.
pub const MAX_DATAGRAM: usize = 1200;
/// Header and tag.
pub const OVERHEAD: usize = HEADER + TAG;
/// Room for a payload.
pub const MAX_PAYLOAD: usize = MAX_DATAGRAM - OVERHEAD;
/// Flag: the recipient's node id was not known to the sender.
pub const ANYONE: u8 = 1;

const HEADER: usize = 24;
const TAG: usize = 16;
const PLAINTEXT: u8 = 0;
/// Salt of a label's hash; anything fixed will do.
const LABEL_SALT: u64 = 0x6c61_6265_6c00_0001;

/// What a datagram carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// foca's own message: membership.
    Swim = 1,
    /// Asking to be let in, and what belongs to it.
    Join = 2,
    /// What a node is called and runs.
    Meta = 3,
    /// Use of limits.
    Counters = 4,
    /// Verdicts on backends.
    Health = 5,
    /// Comparing views of who is there.
    View = 6,
    /// What operators did to the cluster.
    Acts = 8,
    /// Connections in flight.
    Load = 9,
    /// Permits of caps over the cluster.
    Lease = 10,
}

impl Kind {
    /// All kinds, in wire order.
    pub const ALL: [Kind; 9] = [
        Kind::Swim,
        Kind::Join,
        Kind::Meta,
        Kind::Counters,
        Kind::Health,
        Kind::View,
        Kind::Acts,
        Kind::Load,
        Kind::Lease,
    ];

    /// As metrics call it.
    pub fn label(self) -> &'static str {
        match self {
            Kind::Swim => "swim",
            Kind::Join => "join",
            Kind::Meta => "meta",
            Kind::Counters => "counters",
            Kind::Health => "health",
            Kind::View => "view",
            Kind::Acts => "acts",
            Kind::Load => "load",
            Kind::Lease => "lease",
        }
    }

    fn of(byte: u8) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// Seals and opens one node's datagrams.
#[derive(Debug)]
pub struct Envelope {
    label: u64,
    own: Actor,
    counter: u64,
}

/// A datagram that is whole and meant for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened<'a> {
    /// What it carries.
    pub kind: Kind,
    /// Who says to have sent it.
    pub sender: Actor,
    /// The sender's running number.
    pub counter: u64,
    /// Foca's message or records, by kind.
    pub payload: &'a [u8],
}

impl Envelope {
    /// Of the node `own` in the cluster called `label`.
    pub fn new(label: &str, own: Actor) -> Self {
        Envelope { label: stable_hash(LABEL_SALT, label.as_bytes()), own, counter: 0 }
    }

    /// A datagram for `to`, or for whoever is at the address it is sent to.
    pub fn seal(&mut self, kind: Kind, to: Option<NodeId>, payload: &[u8]) -> Vec<u8> {
        self.counter += 1;
        let mut bytes = Vec::with_capacity(OVERHEAD + payload.len());
        let flags = if to.is_none() { ANYONE } else { 0 };
        bytes.extend_from_slice(&[VERSION, PLAINTEXT, kind as u8, flags]);
        bytes.extend_from_slice(&self.own.node.0.to_be_bytes());
        bytes.extend_from_slice(&self.own.boot.bits().to_be_bytes()[2..]);
        bytes.extend_from_slice(&self.counter.to_be_bytes()[2..]);
        bytes.extend_from_slice(payload);
        let checksum = self.checksum(to, &bytes);
        bytes.extend_from_slice(&self.label.to_be_bytes());
        bytes.extend_from_slice(&checksum.to_be_bytes());
        bytes
    }

    /// Takes a datagram apart, or says why it is not for us.
    pub fn open<'a>(&self, bytes: &'a [u8]) -> Result<Opened<'a>, Reason> {
        if bytes.len() < OVERHEAD {
            return Err(Reason::TooShort);
        }
        if bytes.len() > MAX_DATAGRAM {
            return Err(Reason::TooLong);
        }
        if bytes[0] != VERSION {
            return Err(Reason::BadVersion);
        }
        if bytes[1] != PLAINTEXT {
            return Err(Reason::UnknownKey);
        }
        let (body, tag) = bytes.split_at(bytes.len() - TAG);
        if tag[..8] != self.label.to_be_bytes() {
            return Err(Reason::BadLabel);
        }
        let to = if body[3] & ANYONE == 0 { Some(self.own.node) } else { None };
        if tag[8..] != self.checksum(to, body).to_be_bytes() {
            return Err(Reason::BadChecksum);
        }
        let sender = Actor { node: NodeId(be(&body[4..12])), boot: BootId::new(be(&body[12..18])) };
        if sender == self.own {
            return Err(Reason::Own);
        }
        let kind = Kind::of(body[2]).ok_or(Reason::UnknownType)?;
        Ok(Opened { kind, sender, counter: be(&body[18..24]), payload: &body[HEADER..] })
    }

    fn checksum(&self, to: Option<NodeId>, body: &[u8]) -> u64 {
        // Node id 0 stands for anyone; no node has it.
        let recipient = to.map_or(0, |node| node.0);
        stable_hash(self.label ^ stable_hash(recipient, b"recipient"), body)
    }
}

/// Up to eight bytes, big-endian.
fn be(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests;
