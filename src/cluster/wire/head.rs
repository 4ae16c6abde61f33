//! What stands in clear at the head of every datagram.

use super::{MAX_DATAGRAM, OVERHEAD, Reason, VERSION};
use crate::base::{Actor, BootId, NodeId};

/// Bytes of a head.
pub const HEAD: usize = 24;
/// Flag: the recipient's node id was not known to the sender.
pub const ANYONE: u8 = 1;
/// Flag: the content begins with the recipient's nonce, sealed back.
pub const ANSWER: u8 = 2;

/// The head of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Which key of the cluster seals it; 0 is plaintext.
    pub key: u8,
    /// What it carries, as on the wire.
    pub kind: u8,
    /// [`ANYONE`] and [`ANSWER`].
    pub flags: u8,
    /// Who says to have sent it.
    pub sender: Actor,
    /// The sender's running number, 48 bits.
    pub counter: u64,
}

impl Head {
    /// Appends the head to a datagram.
    pub fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[VERSION, self.key, self.kind, self.flags]);
        out.extend_from_slice(&self.sender.node.0.to_be_bytes());
        out.extend_from_slice(&self.sender.boot.bits().to_be_bytes()[2..]);
        out.extend_from_slice(&self.counter.to_be_bytes()[2..]);
    }

    /// The head of a datagram of ours that is as long as one can be.
    ///
    /// # Errors
    /// Its length or its version cannot be ours.
    pub fn read(bytes: &[u8]) -> Result<Head, Reason> {
        if bytes.len() < OVERHEAD {
            return Err(Reason::TooShort);
        }
        if bytes.len() > MAX_DATAGRAM {
            return Err(Reason::TooLong);
        }
        if bytes[0] != VERSION {
            return Err(Reason::BadVersion);
        }
        Ok(Head {
            key: bytes[1],
            kind: bytes[2],
            flags: bytes[3],
            sender: Actor {
                node: NodeId(be(&bytes[4..12])),
                boot: BootId::new(be(&bytes[12..18])),
            },
            counter: be(&bytes[18..24]),
        })
    }

    /// Whether the sender knew who would hear it.
    pub fn anyone(&self) -> bool {
        self.flags & ANYONE != 0
    }

    /// Whether the content begins with a nonce sent back.
    pub fn answers(&self) -> bool {
        self.flags & ANSWER != 0
    }
}

/// Up to eight bytes, big-endian.
pub(super) fn be(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}
