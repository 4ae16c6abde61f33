//! What the tests of this suite share: windows on rooms that only remember.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tidegate::base::{KeyHash, LimitId};
use tidegate::health::{Sighting, Verdict};
use tidegate::traffic::{Ledger, Levels, Spent};

/// A limiter that admits what it is told and remembers what peers spent.
#[derive(Debug, Default)]
pub(crate) struct Book {
    own: Mutex<BTreeMap<u64, u64>>,
    dirty: Mutex<BTreeSet<u64>>,
    elsewhere: Mutex<BTreeMap<u64, u64>>,
    nodes: AtomicUsize,
}

/// A verdict that lasts, on which peers that check alike agree within three seconds.
pub(crate) fn sighting(verdict: Verdict, now: Instant) -> Sighting {
    let (settled, until) = (now + Duration::from_secs(3), now + Duration::from_secs(100_000));
    Sighting { verdict, streak: 1, latency: None, settled, until }
}

pub(crate) const LIMIT: LimitId = LimitId(7);

impl Book {
    /// This node admits `tokens` of `key`.
    pub(crate) fn spend(&self, key: u64, tokens: u64) {
        *self.own.lock().entry(key).or_default() += tokens;
        self.dirty.lock().insert(key);
    }

    /// What peers spent of `key`, as far as it was told.
    pub(crate) fn elsewhere(&self, key: u64) -> u64 {
        self.elsewhere.lock().get(&key).copied().unwrap_or_default()
    }

    /// Nodes that share the limits.
    pub(crate) fn nodes(&self) -> usize {
        self.nodes.load(Ordering::Relaxed)
    }
}

impl Ledger for Book {
    fn drain(&self, _: Instant, all: bool, most: usize, out: &mut Vec<Spent>) {
        if !all {
            return;
        }
        let mut dirty = self.dirty.lock();
        for key in dirty.iter().take(most).copied().collect::<Vec<_>>() {
            dirty.remove(&key);
            let total = self.own.lock()[&key];
            let recent = u32::try_from(total).unwrap();
            out.push(Spent { limit: LIMIT, key: KeyHash(key), total, since: 0, recent });
        }
    }
}

impl Levels for Book {
    fn spent_elsewhere(&self, _: Instant, limit: LimitId, key: KeyHash, tokens: u64) {
        assert_eq!(limit, LIMIT);
        *self.elsewhere.lock().entry(key.0).or_default() += tokens;
    }

    fn nodes(&self, alive: usize) {
        self.nodes.store(alive, Ordering::Relaxed);
    }
}
