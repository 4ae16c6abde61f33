//! Plaintext: the tag is the label's hash (8 bytes), so that clusters that meet on one network do not
//! hear each other, and a checksum (8 bytes) over the recipient's node id, the head and the payload,
//! keyed by the label, so that what was corrupted or meant for somebody else is dropped. It
//! authenticates nobody.

use super::head::{ANYONE, HEAD, Head};
use super::{Kind, OVERHEAD, PLAINTEXT, Reason, TAG};
use crate::base::id::stable_hash;
use crate::base::{Actor, NodeId};

/// Salt of a label's hash; anything fixed will do.
const LABEL_SALT: u64 = 0x6c61_6265_6c00_0001;

/// Writes and reads one node's plaintext datagrams.
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
    /// Whether the sender did not know who would hear it.
    pub anyone: bool,
    /// Foca's message or records, by kind.
    pub payload: &'a [u8],
}

impl Envelope {
    /// Of the node `own` in the cluster called `label`.
    pub fn new(label: &str, own: Actor) -> Self {
        Envelope { label: hash_of_label(label), own, counter: 0 }
    }

    /// A datagram for `to`, or for whoever is at the address it is sent to.
    pub fn seal(&mut self, kind: Kind, to: Option<NodeId>, payload: &[u8]) -> Vec<u8> {
        self.counter += 1;
        let mut bytes = Vec::with_capacity(OVERHEAD + payload.len());
        let flags = if to.is_none() { ANYONE } else { 0 };
        let (sender, counter) = (self.own, self.counter);
        Head { key: PLAINTEXT, kind: kind as u8, flags, sender, counter }.put(&mut bytes);
        bytes.extend_from_slice(payload);
        let checksum = self.checksum(to, &bytes);
        bytes.extend_from_slice(&self.label.to_be_bytes());
        bytes.extend_from_slice(&checksum.to_be_bytes());
        bytes
    }

    /// Takes a datagram apart, or says why it is not for us.
    pub fn open<'a>(&self, bytes: &'a [u8]) -> Result<Opened<'a>, Reason> {
        let head = Head::read(bytes)?;
        if head.key != PLAINTEXT {
            return Err(Reason::UnknownKey);
        }
        let (body, tag) = bytes.split_at(bytes.len() - TAG);
        if tag[..8] != self.label.to_be_bytes() {
            return Err(Reason::BadLabel);
        }
        let to = if head.anyone() { None } else { Some(self.own.node) };
        if tag[8..] != self.checksum(to, body).to_be_bytes() {
            return Err(Reason::BadChecksum);
        }
        if head.sender == self.own {
            return Err(Reason::Own);
        }
        let kind = Kind::of(head.kind).ok_or(Reason::UnknownType)?;
        Ok(Opened {
            kind,
            sender: head.sender,
            counter: head.counter,
            anyone: head.anyone(),
            payload: &body[HEAD..],
        })
    }

    fn checksum(&self, to: Option<NodeId>, body: &[u8]) -> u64 {
        // Node id 0 stands for anyone; no node has it.
        checksum(self.label, to.map_or(0, |node| node.0), body)
    }
}

pub(super) fn hash_of_label(label: &str) -> u64 {
    stable_hash(LABEL_SALT, label.as_bytes())
}

/// Over `body`, meant for `recipient` alone.
pub(super) fn checksum(label: u64, recipient: u64, body: &[u8]) -> u64 {
    stable_hash(label ^ stable_hash(recipient, b"recipient"), body)
}
