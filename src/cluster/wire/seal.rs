//! Sealing: AES-256-GCM under a key that one boot of one node has to itself.
//!
//! The key is HKDF-SHA256(cluster key, purpose ‖ node id ‖ boot id ‖ label), so that the sender's
//! running number can be the nonce: a boot id is fresh random at every start, and a number is used
//! once. What is authenticated beside the content is the head, the recipient's node id (0: anyone)
//! and the cluster's label; so a datagram for one node does not open at another.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::Prk;

use super::head::{ANSWER, ANYONE, HEAD, Head};
use super::{Kind, OVERHEAD};
use crate::base::{Actor, NodeId};
use crate::cluster::keyring::{Key, KeyId};

/// What a derived key is for: keys for different purposes have nothing in common.
const DATAGRAMS: &[u8] = b"tidegate datagram 1";
/// The greatest number that fits the head.
const LAST: u64 = (1 << 48) - 1;

/// Seals what one boot sends, or opens it.
#[derive(Debug)]
pub struct Seal {
    id: KeyId,
    sender: Actor,
    label: Box<[u8]>,
    key: LessSafeKey,
}

/// What a datagram is, but for its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cover {
    /// What it carries.
    pub kind: Kind,
    /// For whom; `None` for whoever is at the address it is sent to.
    pub to: Option<NodeId>,
    /// The sender's running number; never used twice.
    pub counter: u64,
    /// The recipient's nonce, sent back.
    pub answer: Option<u64>,
}

impl Seal {
    /// Of what `sender` sends to the cluster called `label`, under the cluster's `key` whose root
    /// is `root`.
    pub fn new(key: &Key, root: &Prk, label: &str, sender: Actor) -> Self {
        let node = sender.node.0.to_be_bytes();
        let boot = sender.boot.bits().to_be_bytes();
        let info = [DATAGRAMS, &node, &boot, label.as_bytes()];
        Seal { id: key.id, sender, label: label.as_bytes().into(), key: derive(root, &info) }
    }

    /// Which key of the cluster it is under.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// A datagram; `None` when the sender has used up its numbers (2^48: at 10 000 a second, after
    /// 900 years).
    pub fn datagram(&self, cover: Cover, content: &[u8]) -> Option<Vec<u8>> {
        if cover.counter > LAST {
            return None;
        }
        let flags = if cover.to.is_none() { ANYONE } else { 0 };
        let flags = flags | if cover.answer.is_some() { ANSWER } else { 0 };
        let head = Head {
            key: self.id.get(),
            kind: cover.kind as u8,
            flags,
            sender: self.sender,
            counter: cover.counter,
        };
        let answer = cover.answer.map(u64::to_be_bytes);
        let answer = answer.as_ref().map_or(&[][..], |nonce| &nonce[..]);
        let mut bytes = Vec::with_capacity(OVERHEAD + answer.len() + content.len());
        head.put(&mut bytes);
        let aad = self.aad(&bytes, cover.to);
        bytes.extend_from_slice(answer);
        bytes.extend_from_slice(content);
        let sealed = &mut bytes[HEAD..];
        let nonce = nonce(cover.counter);
        let tag = self.key.seal_in_place_separate_tag(nonce, Aad::from(aad), sealed).ok()?;
        bytes.extend_from_slice(tag.as_ref());
        Some(bytes)
    }

    /// The content of a datagram whose head is `head`, heard by `own`; `None` when the seal does not
    /// hold.
    pub fn open(&self, head: &Head, own: NodeId, bytes: &[u8]) -> Option<Vec<u8>> {
        let to = if head.anyone() { None } else { Some(own) };
        let (clear, sealed) = bytes.split_at_checked(HEAD)?;
        let aad = self.aad(clear, to);
        let mut content = sealed.to_vec();
        let opened = self.key.open_in_place(nonce(head.counter), Aad::from(aad), &mut content);
        let length = opened.ok()?.len();
        content.truncate(length);
        Some(content)
    }

    fn aad(&self, head: &[u8], to: Option<NodeId>) -> Vec<u8> {
        // Node id 0 stands for anyone; no node has it. The label is last, so nothing is ambiguous.
        let to = to.map_or(0, |node| node.0).to_be_bytes();
        [head, &to, &self.label].concat()
    }
}

/// An AES-256 key that is `root`'s for `info`.
pub(crate) fn derive(root: &Prk, info: &[&[u8]]) -> LessSafeKey {
    let key = root.expand(info, &AES_256_GCM).expect("HKDF gives up to 8160 bytes");
    LessSafeKey::new(UnboundKey::from(key))
}

/// The nonce of a number.
pub(crate) fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    bytes[NONCE_LEN - 8..].copy_from_slice(&counter.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}
