//! What a datagram looks like.
//!
//! ```text
//!  0        1         2       3        4             12         18          24
//!  | version | key id | type  | flags  | sender node | its boot  | counter   | payload … | tag 16 |
//! ```
//!
//! Numbers are big-endian. The key id names the key of the cluster that [`seal`]s the payload; 0 is
//! [`plain`]text. The recipient is not on the wire, but in what the tag is made of; [`ANYONE`] in
//! the flags says that the sender did not know it.

pub mod encoding;
pub mod head;
pub mod lease;
pub mod limits;
pub mod plain;
pub mod reason;
pub mod records;
pub mod seal;
pub mod stream;

pub use head::{ANSWER, ANYONE, Head};
pub use plain::{Envelope, Opened};
pub use reason::Reason;
pub use seal::{Cover, Seal};

/// The version we speak; others are dropped.
pub const VERSION: u8 = 1;
/// Fits IPv6's smallest MTU.
pub const MAX_DATAGRAM: usize = 1200;
/// Head and tag.
pub const OVERHEAD: usize = head::HEAD + TAG;
/// Room for a payload, beside a nonce that is sent back.
pub const MAX_PAYLOAD: usize = MAX_DATAGRAM - OVERHEAD - NONCE;
/// The key id of plaintext.
pub const PLAINTEXT: u8 = 0;

const TAG: usize = 16;
const NONCE: usize = 8;

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
    /// Challenging a boot that is not known, and what belongs to it.
    Hello = 7,
    /// What operators did to the cluster.
    Acts = 8,
    /// Connections in flight.
    Load = 9,
    /// Permits of caps over the cluster.
    Lease = 10,
    /// Push/pull: what goes over a [`stream`], and no datagram.
    Sync = 11,
    /// Secrets of session tickets, never in plaintext.
    Tickets = 12,
}

impl Kind {
    /// All kinds, in wire order.
    pub const ALL: [Kind; 12] = [
        Kind::Swim,
        Kind::Join,
        Kind::Meta,
        Kind::Counters,
        Kind::Health,
        Kind::View,
        Kind::Hello,
        Kind::Acts,
        Kind::Load,
        Kind::Lease,
        Kind::Sync,
        Kind::Tickets,
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
            Kind::Hello => "hello",
            Kind::Sync => "sync",
            Kind::Tickets => "tickets",
        }
    }

    /// The kind that is `byte` on the wire.
    pub fn of(byte: u8) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// Encoded records in their order, in as few payloads as hold them.
pub fn pack(records: impl IntoIterator<Item = Vec<u8>>) -> Vec<Vec<u8>> {
    let mut payloads: Vec<Vec<u8>> = Vec::new();
    for record in records {
        match payloads.last_mut() {
            Some(last) if last.len() + record.len() <= MAX_PAYLOAD => last.extend(record),
            _ => payloads.push(record),
        }
    }
    payloads
}

#[cfg(test)]
mod tests;
