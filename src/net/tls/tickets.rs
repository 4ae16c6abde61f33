//! Session tickets: what a server gives its client, sealed, so that it need keep nothing itself.
//!
//! ```text
//!   | secret's id 16 | nonce 12 | sealed session … | tag 16 |
//! ```
//!
//! The secrets come from outside and change while connections come in; all workers see one set. Each
//! context (what a session may be resumed into) has keys of its own, made from the secrets by HKDF:
//! with one key for all, a session begun where no certificate is asked for would resume where one
//! is demanded. AES-256-GCM-SIV, because nonces are random and all nodes draw them: should two be
//! alike, nothing is lost but that two equal sessions look equal.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use aws_lc_rs::rand;
use rustls::server::ProducesTickets;
use zeroize::{Zeroize as _, ZeroizeOnDrop};

use crate::base::hex;

/// How long a ticket is good for; a secret seals for as long, and then opens for as long again.
pub const TICKET_LIFETIME: Duration = Duration::from_secs(6 * 3600);
/// Longer than the ticket of any session, with the client's certificates in it.
pub const MOST_TICKET: usize = 16 << 10;

/// What is derived of a secret; things for different purposes have nothing in common.
const PURPOSE: &[u8] = b"tidegate ticket 1";
const NAME: &[u8] = b"tidegate ticket name 1";
const ID: usize = 16;
const TAG: usize = 16;

/// A secret, random, of which keys are made. Wiped when it is dropped, and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct TicketSecret {
    /// Its name, made of the other two: it stands in tickets, and tells nothing of them.
    pub id: [u8; ID],
    /// Which span of the wall clock it seals in, counted in [`TICKET_LIFETIME`]s since 1970.
    pub epoch: u64,
    /// The secret itself.
    pub secret: [u8; 32],
}

impl TicketSecret {
    /// Of 32 bytes that nobody can guess. Equal ones have equal names on all nodes.
    pub fn new(epoch: u64, secret: [u8; 32]) -> TicketSecret {
        let mut id = [0; ID];
        let named =
            root(&secret).expand(&[NAME, &epoch.to_be_bytes()], Name).map(|okm| okm.fill(&mut id));
        // Sixteen bytes are far within what HKDF can give.
        debug_assert!(matches!(named, Ok(Ok(()))));
        TicketSecret { id, epoch, secret }
    }
}

struct Name;

impl KeyType for Name {
    fn len(&self) -> usize {
        ID
    }
}

impl fmt::Debug for TicketSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TicketSecret({}, epoch {})", hex(&self.id[..4]), self.epoch)
    }
}

impl Drop for TicketSecret {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

impl ZeroizeOnDrop for TicketSecret {}

/// The secrets in use at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TicketSet {
    /// All of them: each opens.
    pub secrets: Vec<TicketSecret>,
    /// The id of the one that seals; `None`: tickets are neither made nor taken.
    pub sealing: Option<[u8; ID]>,
    /// Since when that one seals here, milliseconds since 1970.
    pub since_ms: u64,
    /// Whether other nodes are told, so that a session resumes there as well.
    pub shared: bool,
}

/// The secrets of a node, for all its rules and workers.
#[derive(Debug, Default)]
pub struct TicketKeys {
    set: ArcSwap<TicketSet>,
}

impl TicketKeys {
    /// None yet: no tickets are made until there are.
    pub fn new() -> Arc<TicketKeys> {
        Arc::default()
    }

    /// Has these secrets take the place of those before, for all ticketers at once.
    pub fn publish(&self, set: TicketSet) {
        // Whoever has keys of an equal set keeps them.
        if **self.set.load() != set {
            self.set.store(Arc::new(set));
        }
    }

    /// The secrets as last published.
    pub fn current(&self) -> Arc<TicketSet> {
        self.set.load_full()
    }

    /// What makes and takes tickets of one context: whatever decides whether a session may be resumed
    /// must be in it (a rule's name, whose certificates it takes, whom it lets in). Tickets of one
    /// context are nothing in another. The same context has the same keys on all nodes that share
    /// secrets.
    pub fn ticketer(self: &Arc<Self>, context: &[u8]) -> Arc<dyn ProducesTickets> {
        let of = self.current();
        let made = ArcSwap::from_pointee(Made::new(of, context));
        Arc::new(Ticketer { keys: Arc::clone(self), context: context.into(), made })
    }
}

/// Tickets of one context.
struct Ticketer {
    keys: Arc<TicketKeys>,
    context: Box<[u8]>,
    /// Made once per published set, not per handshake.
    made: ArcSwap<Made>,
}

/// The keys of a set, for a context.
struct Made {
    of: Arc<TicketSet>,
    /// By secret's id.
    keys: Vec<([u8; ID], LessSafeKey)>,
}

impl Made {
    fn new(of: Arc<TicketSet>, context: &[u8]) -> Made {
        let key = |secret: &TicketSecret| (secret.id, derive(&secret.secret, context));
        let keys = of.secrets.iter().map(key).collect();
        Made { of, keys }
    }

    fn key(&self, id: [u8; ID]) -> Option<&LessSafeKey> {
        self.keys.iter().find(|(of, _)| *of == id).map(|(_, key)| key)
    }
}

fn root(secret: &[u8; 32]) -> Prk {
    Salt::new(HKDF_SHA256, b"tidegate").extract(secret)
}

fn derive(secret: &[u8; 32], context: &[u8]) -> LessSafeKey {
    let info = [PURPOSE, context];
    let root = root(secret);
    let key = root.expand(&info, &AES_256_GCM_SIV).expect("HKDF gives up to 8160 bytes");
    LessSafeKey::new(UnboundKey::from(key))
}

impl Ticketer {
    fn made(&self) -> Arc<Made> {
        let set = self.keys.set.load();
        let made = self.made.load();
        if Arc::ptr_eq(&made.of, &set) {
            return Arc::clone(&made);
        }
        // Two workers may both make them: they are the same.
        let made = Arc::new(Made::new(Arc::clone(&set), &self.context));
        self.made.store(Arc::clone(&made));
        made
    }
}

impl ProducesTickets for Ticketer {
    fn enabled(&self) -> bool {
        self.keys.set.load().sealing.is_some()
    }

    fn lifetime(&self) -> u32 {
        TICKET_LIFETIME.as_secs() as u32
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        if plain.len() > MOST_TICKET - ID - NONCE_LEN - TAG {
            return None;
        }
        let made = self.made();
        let id = made.of.sealing?;
        let key = made.key(id)?;
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).ok()?;
        let mut ticket = Vec::with_capacity(ID + NONCE_LEN + plain.len() + TAG);
        ticket.extend_from_slice(&id);
        ticket.extend_from_slice(&nonce);
        ticket.extend_from_slice(plain);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let sealed = &mut ticket[ID + NONCE_LEN..];
        let tag = key.seal_in_place_separate_tag(nonce, Aad::from(id), sealed).ok()?;
        ticket.extend_from_slice(tag.as_ref());
        Some(ticket)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        if ticket.len() > MOST_TICKET {
            return None;
        }
        let (id, rest) = ticket.split_first_chunk::<ID>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let made = self.made();
        let key = made.key(*id)?;
        let mut plain = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = key.open_in_place(nonce, Aad::from(id), &mut plain).ok()?.len();
        plain.truncate(length);
        Some(plain)
    }
}

impl fmt::Debug for Ticketer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ticketer").field(&self.keys.current()).finish()
    }
}

#[cfg(test)]
mod tests;
