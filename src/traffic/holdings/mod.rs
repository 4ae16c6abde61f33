//! Permits that this node holds under caps of the whole cluster.
//!
//! ```text
//!   worker ─ take, give ─▶ purse (used, held) ─ mark, bell ─▶ agent ─▶ the key's owner
//!                              ▲                                │
//!                              └────────── add, keep ───────────┘
//! ```
//!
//! A connection is let in on a permit that is held, without waiting; who finds none asks. The agent
//! brings more before they run out, and takes back what lies about. Keys that live as long as a
//! configuration (a rule's total, a backend) have a [`Holding`] of their own, one atomic number;
//! clients come and go in a table, and only those that are connected, or were a moment ago, are in
//! it.

mod purse;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;

use super::ask::{Answer, Answering, Ask, Asking};
use super::bell::Bell;
use super::window::Alone;
use crate::base::{KeyHash, LimitId};

pub(crate) use purse::spare;

use purse::Purse;

const SHARDS: usize = 64;

/// What counts together over the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CapKey {
    /// The cap.
    pub limit: LimitId,
    /// Whose connections.
    pub key: KeyHash,
}

impl CapKey {
    /// To ask for permits of it.
    pub fn ask(self, cap: u32) -> Ask {
        Ask::Permits { limit: self.limit, key: self.key, cap }
    }
}

/// How a key stands on this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Connections.
    pub used: u32,
    /// Permits, those in use included.
    pub held: u32,
    /// The cap, as configured here.
    pub cap: u32,
}

/// The agent's view of the permits: what it looks at and what it may change.
pub trait Holder: Send + Sync {
    /// Moves up to `most` keys to `out` at which something happened that the agent should see.
    fn drain(&self, most: usize, out: &mut Vec<CapKey>);

    /// How `key` stands; `None` when this node has nothing to do with it (any more).
    fn look(&self, key: CapKey) -> Option<Standing>;

    /// `permits` more came, under a cap of `cap`.
    fn add(&self, key: CapKey, cap: u32, permits: u32);

    /// Keeps `keep` permits, or as many as are used; a client without any is forgotten.
    fn keep(&self, key: CapKey, keep: u32);

    /// Whether every permit that comes free is to be told at once.
    fn eager(&self, key: CapKey, eager: bool);

    /// How many nodes share the caps.
    fn nodes(&self, alive: usize);

    /// Nobody knows any more what was told: has every key looked at.
    fn look_at_all(&self);

    /// Has `wake` called when there is something to drain, on a worker's thread.
    fn on_urgent(&self, _wake: Box<dyn Fn() + Send + Sync>) {}
}

impl Holder for Alone {
    fn drain(&self, _: usize, _: &mut Vec<CapKey>) {}

    fn look(&self, _: CapKey) -> Option<Standing> {
        None
    }

    fn add(&self, _: CapKey, _: u32, _: u32) {}

    fn keep(&self, _: CapKey, _: u32) {}

    fn eager(&self, _: CapKey, _: bool) {}

    fn nodes(&self, _: usize) {}

    fn look_at_all(&self) {}
}

/// A cap's key that lives as long as the configuration names it, or a connection holds it.
pub struct Holding {
    key: CapKey,
    cap: AtomicU32,
    purse: AtomicU64,
    of: Arc<Marked>,
    /// Told when permits came: others may wait for them.
    more: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

/// A client's.
#[derive(Debug, Default)]
struct Client {
    purse: Purse,
    cap: u32,
}

/// Keys that the agent should look at.
#[derive(Debug, Default)]
struct Marked {
    keys: Mutex<Vec<CapKey>>,
    bell: Bell,
}

/// All of a node's.
pub struct Holdings {
    clients: Box<[Mutex<HashMap<CapKey, Client>>]>,
    fixed: Mutex<HashMap<CapKey, Weak<Holding>>>,
    marked: Arc<Marked>,
    nodes: AtomicUsize,
    asking: OnceLock<Arc<dyn Asking>>,
    unasked: AtomicU64,
}

impl Default for Holdings {
    fn default() -> Self {
        Holdings {
            clients: (0..SHARDS).map(|_| Mutex::default()).collect(),
            fixed: Mutex::default(),
            marked: Arc::default(),
            nodes: AtomicUsize::new(1),
            asking: OnceLock::new(),
            unasked: AtomicU64::new(0),
        }
    }
}

impl Holdings {
    /// Who is asked; the first one stays. Before, nobody is.
    pub fn ask_by(&self, asking: Arc<dyn Asking>) {
        let _ = self.asking.set(asking);
    }

    /// Asks the owner of `key` for permits.
    pub fn ask(&self, key: CapKey, cap: u32) -> Answering<'_> {
        match self.asking.get() {
            Some(asking) => asking.ask(key.ask(cap)),
            None => Box::pin(std::future::ready(Answer::Nobody)),
        }
    }

    /// The holding of `key`, the same for as long as anybody has it.
    pub fn holding(&self, key: CapKey, cap: u32) -> Arc<Holding> {
        let mut fixed = self.fixed.lock();
        if let Some(holding) = fixed.get(&key).and_then(Weak::upgrade) {
            holding.cap.store(cap, Ordering::Relaxed);
            return holding;
        }
        fixed.retain(|_, holding| holding.strong_count() > 0);
        let holding = Arc::new(Holding {
            key,
            cap: AtomicU32::new(cap),
            purse: AtomicU64::new(0),
            of: Arc::clone(&self.marked),
            more: OnceLock::new(),
        });
        fixed.insert(key, Arc::downgrade(&holding));
        holding
    }

    /// One more connection of client `key` on a permit that is held; else ask.
    pub fn take(&self, key: CapKey, cap: u32) -> bool {
        self.change(key, cap, Purse::take)
    }

    /// One more connection of client `key` although nobody answers: as long as this node's even
    /// share is not used up.
    pub fn take_unasked(&self, key: CapKey, cap: u32) -> bool {
        let taken = self.change(key, cap, |purse| purse.take_unasked(self.even_share(cap)));
        self.unasked.fetch_add(u64::from(taken), Ordering::Relaxed);
        taken
    }

    /// A connection of client `key` ended.
    pub fn give(&self, key: CapKey) {
        let mut shard = self.shard(key).lock();
        let Some(client) = shard.get_mut(&key) else { return };
        client.purse = client.purse.give();
        let call = client.purse.calls() && !client.purse.marked;
        client.purse.marked |= call;
        drop(shard);
        if call {
            self.marked.mark(key);
        }
    }

    /// As [`Holdings::take_unasked`], of a key that is not a client's.
    pub fn take_holding_unasked(&self, holding: &Holding) -> bool {
        let most = self.even_share(holding.cap.load(Ordering::Relaxed));
        let taken = holding.change(|purse| purse.take_unasked(most)).is_some();
        self.unasked.fetch_add(u64::from(taken), Ordering::Relaxed);
        taken
    }

    /// Clients that are connected, or were a moment ago.
    pub fn clients(&self) -> usize {
        self.clients.iter().map(|shard| shard.lock().len()).sum()
    }

    /// Connections let in on this node's own word, since start.
    pub fn unasked(&self) -> u64 {
        self.unasked.load(Ordering::Relaxed)
    }

    /// Permits held and used, of all keys together.
    pub fn sums(&self) -> (u64, u64) {
        let mut sums = (0, 0);
        let mut add = |purse: Purse| {
            sums.0 += u64::from(purse.held);
            sums.1 += u64::from(purse.used);
        };
        for shard in &self.clients {
            shard.lock().values().for_each(|client| add(client.purse));
        }
        for holding in self.fixed.lock().values().filter_map(Weak::upgrade) {
            add(holding.purse());
        }
        sums
    }

    /// What this node may let in on its own word: its part of the cap, rounded up.
    fn even_share(&self, cap: u32) -> u32 {
        let nodes = self.nodes.load(Ordering::Relaxed).clamp(1, u32::MAX as usize) as u32;
        cap.div_ceil(nodes)
    }

    /// Changes a client's purse, which begins empty; whether that could be done.
    fn change(&self, key: CapKey, cap: u32, change: impl FnOnce(Purse) -> Option<Purse>) -> bool {
        let mut shard = self.shard(key).lock();
        let client = shard.entry(key).or_default();
        client.cap = cap;
        let Some(purse) = change(client.purse) else {
            if client.purse.empty() {
                shard.remove(&key);
            }
            return false;
        };
        client.purse = purse;
        let call = purse.calls() && !purse.marked;
        client.purse.marked |= call;
        drop(shard);
        if call {
            self.marked.mark(key);
        }
        true
    }

    fn shard(&self, key: CapKey) -> &Mutex<HashMap<CapKey, Client>> {
        // The key is a hash under a salt already.
        &self.clients[(key.key.0 >> 58) as usize % SHARDS]
    }

    fn fixed(&self, key: CapKey) -> Option<Arc<Holding>> {
        self.fixed.lock().get(&key).and_then(Weak::upgrade)
    }

    /// Changes whatever `key` is, without a call.
    fn settle(&self, key: CapKey, change: impl Fn(Purse) -> Purse) {
        if let Some(holding) = self.fixed(key) {
            holding.set(change);
            return;
        }
        let mut shard = self.shard(key).lock();
        if let Some(client) = shard.get_mut(&key) {
            client.purse = change(client.purse);
            if client.purse.empty() {
                shard.remove(&key);
            }
        }
    }
}

impl Holder for Holdings {
    fn drain(&self, most: usize, out: &mut Vec<CapKey>) {
        self.marked.bell.answered();
        let mut keys = self.marked.keys.lock();
        let (begin, taken) = (out.len(), keys.len().min(most));
        out.extend(keys.drain(..taken));
        let more = !keys.is_empty();
        drop(keys);
        for key in &out[begin..] {
            self.settle(*key, |purse| Purse { marked: false, ..purse });
        }
        if more {
            self.marked.bell.ring();
        }
    }

    fn look(&self, key: CapKey) -> Option<Standing> {
        if let Some(holding) = self.fixed(key) {
            let Purse { used, held, .. } = holding.purse();
            return Some(Standing { used, held, cap: holding.cap.load(Ordering::Relaxed) });
        }
        let shard = self.shard(key).lock();
        let client = shard.get(&key)?;
        let Purse { used, held, .. } = client.purse;
        Some(Standing { used, held, cap: client.cap })
    }

    fn add(&self, key: CapKey, cap: u32, permits: u32) {
        let Some(holding) = self.fixed(key) else {
            let mut shard = self.shard(key).lock();
            let client = shard.entry(key).or_insert(Client { purse: Purse::default(), cap });
            client.purse = client.purse.add(permits);
            return;
        };
        holding.set(|purse| purse.add(permits));
        if let Some(more) = holding.more.get() {
            more();
        }
    }

    fn keep(&self, key: CapKey, keep: u32) {
        self.settle(key, |purse| purse.keep(keep));
    }

    fn eager(&self, key: CapKey, eager: bool) {
        self.settle(key, |purse| Purse { eager, ..purse });
    }

    fn nodes(&self, alive: usize) {
        self.nodes.store(alive.max(1), Ordering::Relaxed);
    }

    fn look_at_all(&self) {
        let fixed: Vec<CapKey> = self.fixed.lock().keys().copied().collect();
        let mut all = fixed;
        for shard in &self.clients {
            all.extend(shard.lock().keys().copied());
        }
        self.marked.keys.lock().extend(all);
        self.marked.bell.ring();
    }

    fn on_urgent(&self, wake: Box<dyn Fn() + Send + Sync>) {
        self.marked.bell.hang(wake);
    }
}

impl Marked {
    fn mark(&self, key: CapKey) {
        self.keys.lock().push(key);
        self.bell.ring();
    }
}

impl Holding {
    /// One more connection on a permit that is held; else ask.
    pub fn take(&self) -> bool {
        self.change(Purse::take).is_some()
    }

    /// A connection ended.
    pub fn give(&self) {
        self.change(|purse| Some(purse.give()));
    }

    /// Has `more` called when permits came. The first one stays.
    pub fn on_more(&self, more: Box<dyn Fn() + Send + Sync>) {
        let _ = self.more.set(more);
    }

    /// What it holds for.
    pub fn key(&self) -> CapKey {
        self.key
    }

    /// Connections that have a permit.
    pub fn used(&self) -> u32 {
        self.purse().used
    }

    fn purse(&self) -> Purse {
        Purse::of(self.purse.load(Ordering::SeqCst))
    }

    fn set(&self, change: impl Fn(Purse) -> Purse) {
        let changed = |bits| Some(change(Purse::of(bits)).bits());
        let _ = self.purse.fetch_update(Ordering::SeqCst, Ordering::SeqCst, changed);
    }

    /// Sequentially consistent, for the queue of those who wait for a place: see there.
    fn change(&self, change: impl Fn(Purse) -> Option<Purse>) -> Option<()> {
        let mut call = false;
        let changed = |bits| {
            let mut purse = change(Purse::of(bits))?;
            call = purse.calls() && !purse.marked;
            purse.marked |= call;
            Some(purse.bits())
        };
        self.purse.fetch_update(Ordering::SeqCst, Ordering::SeqCst, changed).ok()?;
        if call {
            self.of.mark(self.key);
        }
        Some(())
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        // The agent finds nothing there, and gives back what was held.
        self.of.mark(self.key);
    }
}

impl fmt::Debug for Holding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Holding").field("key", &self.key).field("purse", &self.purse()).finish()
    }
}

impl fmt::Debug for Holdings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Holdings").field("clients", &self.clients()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
