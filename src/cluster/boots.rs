//! Boots of peers, and what is sealed for them and by them.
//!
//! ```text
//!             challenged                 answers with the nonce
//!   stranger ────────────▶ stranger, asked ────────────────────▶ known ──▶ forgotten
//!   nothing counts         nothing counts                        each number counts once
//! ```
//!
//! A boot is only believed when it seals back a nonce that was made for it a moment ago: so what was
//! recorded earlier is dead, whoever restarted meanwhile, and no clock is asked. Keys that were
//! derived for a sender are kept only after one of its datagrams was authentic.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::hkdf::Prk;
use rand::Rng;

use super::MOST_MEMBERS;
use super::keyring::{KeyId, Keyring};
use super::replay::Replay;
use super::wire::{Cover, Head, Kind, Reason, Seal};
use crate::base::{Actor, NodeId};

/// Known boots at most: of every member the one that runs and the one before.
const MOST_KNOWN: usize = 2 * MOST_MEMBERS;
/// Challenges that are open at most; only senders that hold a key of the cluster get any.
const MOST_ASKED: usize = MOST_MEMBERS;
/// How long a challenge can be answered.
const ANSWERABLE: Duration = Duration::from_secs(10);
/// A nonce is used again for this long, so that an answer on its way still counts.
const SAME_NONCE: Duration = Duration::from_secs(5);
/// A boot that was not heard for this long is forgotten, and challenged when it speaks again.
const FORGOTTEN: Duration = Duration::from_secs(3600);

/// What a datagram's sender is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A boot that passed its challenge earlier.
    Known,
    /// A known boot that passes another challenge by this datagram.
    Proved,
    /// A boot that passes its first challenge by this datagram.
    Learnt,
    /// A boot that is not known: it holds a key, but perhaps this was recorded long ago.
    Stranger,
    /// The same, and what it sent as an answer is none.
    Failed,
}

/// An authentic datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// What it carries.
    pub kind: Kind,
    /// Who sealed it.
    pub sender: Actor,
    /// What the sender is to us.
    pub standing: Standing,
    /// Whether the sender did not know who would hear it.
    pub anyone: bool,
    /// Foca's message or records, by kind.
    pub payload: Vec<u8>,
}

/// A boot that passed its challenge.
#[derive(Debug)]
struct Known {
    seals: Vec<Seal>,
    replay: Replay,
    /// Numbers up to this one were used before the challenge was passed; they count only with the
    /// nonce, which shows that they were sealed after it was made.
    floor: u64,
    nonce: u64,
    address: SocketAddr,
    heard: Instant,
    /// Its own challenge of us, to be answered until it speaks to us.
    owed: Option<u64>,
}

#[derive(Debug)]
struct Asked {
    nonce: u64,
    made: Instant,
    sent: Instant,
}

/// All boots that this one has to do with, and its own seal.
#[derive(Debug)]
pub struct Boots {
    own: Actor,
    label: String,
    ring: Arc<Keyring>,
    roots: Vec<(KeyId, Prk)>,
    seal: Seal,
    counter: u64,
    known: HashMap<Actor, Known>,
    asked: HashMap<Actor, Asked>,
}

impl Boots {
    /// Of the boot `own` in the cluster called `label`; it knows nobody.
    pub fn new(own: Actor, label: &str, ring: Arc<Keyring>) -> Self {
        let roots = roots(&ring);
        let seal = own_seal(&ring, label, own);
        let (known, asked) = (HashMap::new(), HashMap::new());
        Boots { own, label: label.to_owned(), ring, roots, seal, counter: 0, known, asked }
    }

    /// Seals and opens by another ring from now on. Who is known stays known.
    pub fn rekey(&mut self, ring: Arc<Keyring>) {
        self.roots = roots(&ring);
        self.seal = own_seal(&ring, &self.label, self.own);
        self.ring = ring;
        for known in self.known.values_mut() {
            known.seals.clear();
        }
    }

    /// The names of our keys, the one that seals first.
    pub fn key_ids(&self) -> Vec<u8> {
        self.ring.ids()
    }

    /// The key that seals.
    pub fn first_key(&self) -> KeyId {
        self.ring.first().id
    }

    /// The root of the key called `id` on the wire.
    pub fn root(&self, id: u8) -> Option<&Prk> {
        let named = |(key, _): &&(KeyId, Prk)| key.get() == id;
        self.roots.iter().find(named).map(|(_, root)| root)
    }

    /// How many boots are known.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Whether `actor` passed its challenge.
    pub fn knows(&self, actor: Actor) -> bool {
        self.known.contains_key(&actor)
    }

    /// Whether opening a datagram needs a key that was not derived yet: it costs the more.
    pub fn is_dear(&self, head: &Head) -> bool {
        let known = self.known.get(&head.sender);
        !known.is_some_and(|known| known.seals.iter().any(|seal| seal.id().get() == head.key))
    }

    /// A datagram for `to`, or for whoever is at the address it is sent to; it answers the challenge
    /// that we owe, if any.
    pub fn seal(&mut self, kind: Kind, to: Option<Actor>, payload: &[u8]) -> Option<Vec<u8>> {
        let owed = to.and_then(|to| self.known.get(&to)?.owed);
        self.seal_answering(kind, to, owed, payload)
    }

    /// A datagram that sends `answer` back.
    pub fn seal_answering(
        &mut self,
        kind: Kind,
        to: Option<Actor>,
        answer: Option<u64>,
        payload: &[u8],
    ) -> Option<Vec<u8>> {
        self.counter += 1;
        let to = to.map(|to| to.node);
        self.seal.datagram(Cover { kind, to, counter: self.counter, answer }, payload)
    }

    /// Opens a datagram that came from `from`. What it does not accept changes nothing.
    ///
    /// # Errors
    /// Nobody who holds our keys sealed it for us, it was heard before, or it is of a kind that we
    /// do not know.
    pub fn open(
        &mut self,
        now: Instant,
        from: SocketAddr,
        head: &Head,
        bytes: &[u8],
    ) -> Result<Opening, Reason> {
        let sender = head.sender;
        let id = KeyId::new(head.key).ok_or(Reason::UnknownKey)?;
        let key = self.ring.key(id).ok_or(Reason::UnknownKey)?;
        let root = self.roots.iter().find(|(root, _)| *root == id).ok_or(Reason::UnknownKey)?;
        let known = self.known.get_mut(&sender);
        if known.as_ref().is_some_and(|known| !known.replay.may_be_new(head.counter)) {
            return Err(Reason::Replay);
        }
        let kept = known.as_ref().and_then(|known| known.seals.iter().find(|seal| seal.id() == id));
        let (derived, content) = match kept {
            Some(seal) => (None, seal.open(head, self.own.node, bytes)),
            None => {
                let seal = Seal::new(key, &root.1, &self.label, sender);
                let content = seal.open(head, self.own.node, bytes);
                (Some(seal), content)
            }
        };
        let mut payload = content.ok_or(Reason::BadSeal)?;
        let mut answer = None;
        if head.answers() {
            let nonce = payload.first_chunk::<8>().ok_or(Reason::Undecodable)?;
            answer = Some(u64::from_be_bytes(*nonce));
            payload.drain(..8);
        }
        let kind = Kind::of(head.kind).ok_or(Reason::UnknownType)?;
        let good = |asked: &Asked| {
            answer == Some(asked.nonce) && now.saturating_duration_since(asked.made) < ANSWERABLE
        };
        let passed = self.asked.get(&sender).is_some_and(good);
        let standing = match (known, passed) {
            (Some(known), _) => {
                if head.counter <= known.floor && answer != Some(known.nonce) {
                    return Err(Reason::Replay);
                }
                known.replay.note(head.counter);
                known.seals.extend(derived);
                (known.heard, known.address) = (now, from);
                // Who speaks to us knows us.
                if kind != Kind::Hello && !head.anyone() {
                    known.owed = None;
                }
                if passed { Standing::Proved } else { Standing::Known }
            }
            (None, true) => {
                self.make_room();
                let mut replay = Replay::default();
                replay.note(head.counter);
                let known = Known {
                    seals: derived.into_iter().collect(),
                    replay,
                    floor: head.counter,
                    nonce: answer.unwrap_or_default(),
                    address: from,
                    heard: now,
                    owed: None,
                };
                self.known.insert(sender, known);
                Standing::Learnt
            }
            (None, false) if answer.is_some() => Standing::Failed,
            (None, false) => Standing::Stranger,
        };
        if passed {
            self.asked.remove(&sender);
        }
        Ok(Opening { kind, sender, standing, anyone: head.anyone(), payload })
    }

    /// The nonce that challenges `actor`; a fresh one, or the one that it may be answering just now.
    pub fn challenge(&mut self, now: Instant, actor: Actor, rng: &mut impl Rng) -> u64 {
        if let Some(asked) = self.asked.get_mut(&actor)
            && now.saturating_duration_since(asked.made) < SAME_NONCE
        {
            asked.sent = now;
            return asked.nonce;
        }
        if self.asked.len() >= MOST_ASKED && !self.asked.contains_key(&actor) {
            let oldest = self.asked.iter().min_by_key(|(_, asked)| asked.made);
            oldest.map(|(actor, _)| *actor).map(|actor| self.asked.remove(&actor));
        }
        let nonce = rng.next_u64();
        self.asked.insert(actor, Asked { nonce, made: now, sent: now });
        nonce
    }

    /// When `actor` was last challenged, if that is still open.
    pub fn challenged(&self, actor: Actor) -> Option<Instant> {
        self.asked.get(&actor).map(|asked| asked.sent)
    }

    /// A known boot challenges us: it is answered with all that we send it, until it speaks to us.
    pub fn owe(&mut self, actor: Actor, nonce: u64) {
        if let Some(known) = self.known.get_mut(&actor) {
            known.owed = Some(nonce);
        }
    }

    /// Known boots of the node `node`, and where they were last heard.
    pub fn of_node(&self, node: NodeId) -> Vec<(Actor, SocketAddr)> {
        let known = self.known.iter().filter(|(actor, _)| actor.node == node);
        known.map(|(actor, known)| (*actor, known.address)).collect()
    }

    /// Where a known boot was last heard.
    pub fn address(&self, actor: Actor) -> Option<SocketAddr> {
        self.known.get(&actor).map(|known| known.address)
    }

    /// A boot that is gone: should it speak again, it is challenged.
    pub fn forget(&mut self, actor: Actor) {
        self.known.remove(&actor);
    }

    /// Lets go of who was not heard for long, and of challenges that nobody answered.
    pub fn tidy(&mut self, now: Instant) {
        let since = |then: Instant| now.saturating_duration_since(then);
        self.known.retain(|_, known| since(known.heard) < FORGOTTEN);
        self.asked.retain(|_, asked| since(asked.made) < ANSWERABLE);
    }

    fn make_room(&mut self) {
        if self.known.len() >= MOST_KNOWN {
            let oldest = self.known.iter().min_by_key(|(_, known)| known.heard);
            oldest.map(|(actor, _)| *actor).map(|actor| self.known.remove(&actor));
        }
    }
}

fn roots(ring: &Keyring) -> Vec<(KeyId, Prk)> {
    ring.keys().map(|key| (key.id, key.root())).collect()
}

fn own_seal(ring: &Keyring, label: &str, own: Actor) -> Seal {
    Seal::new(ring.first(), &ring.first().root(), label, own)
}

#[cfg(test)]
mod tests;
