//! The registry of a node's cluster-scoped limiters: the whole of what the cluster wing sees of
//! them.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::ask::Asking;
use super::bell::Bell;
use super::limiter::Limiter;
use super::plan::LimitScope;
use super::window::{Company, Counting, Ledger, Level, Levels, Report};
use crate::base::{KeyHash, LimitId, Publisher, publish_and_view};

/// What a limiter that is being replaced may still admit before the last worker has heard of it.
const MARGIN: u64 = 1 << 20;

/// The limiters that a node shares with its peers, by id.
pub struct Limits {
    shared: Publisher<HashMap<LimitId, Arc<Limiter>>>,
    /// Which limiter is drained first next time.
    turn: AtomicUsize,
    settled: Mutex<Settled>,
    bell: Arc<Bell>,
    asker: OnceLock<Arc<dyn Asking>>,
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limits").field("shared", &self.shared).finish_non_exhaustive()
    }
}

/// What a limiter that comes in is told at once.
#[derive(Debug)]
struct Settled {
    /// Above every total that a limiter which has left has told.
    floor: u64,
    company: Company,
}

impl Default for Limits {
    fn default() -> Self {
        Limits::new()
    }
}

impl Limits {
    /// No limiters yet, a single node.
    pub fn new() -> Self {
        let (shared, _) = publish_and_view(HashMap::new());
        Limits {
            shared,
            turn: AtomicUsize::new(0),
            settled: Mutex::new(Settled { floor: 0, company: Company::ALONE }),
            bell: Arc::default(),
            asker: OnceLock::new(),
        }
    }

    /// Takes over `limiters` (all of the node's; those of node scope are left out). One that was
    /// here before keeps its state, being the same `Arc`; one that leaves is no longer drained. Call
    /// it *before* the workers get to see the new limiters: their totals begin above those of the
    /// limiters that leave, as the peers remember what this process told of a limit's keys.
    pub fn replace(&self, limiters: Vec<Arc<Limiter>>) {
        let mut settled = self.settled.lock();
        let before = self.shared.current();
        let shared: HashMap<_, _> = limiters
            .into_iter()
            .filter(|limiter| limiter.plan().scope == LimitScope::Cluster)
            .map(|limiter| (limiter.plan().id, limiter))
            .collect();
        let stays = |limiter: &Arc<Limiter>| {
            shared.get(&limiter.plan().id).is_some_and(|now| Arc::ptr_eq(now, limiter))
        };
        for leaver in before.values().filter(|limiter| !stays(limiter)) {
            settled.floor = settled.floor.max(leaver.highest_total().saturating_add(MARGIN));
        }
        for limiter in shared.values() {
            let is_new = !before.get(&limiter.plan().id).is_some_and(|b| Arc::ptr_eq(b, limiter));
            if is_new {
                limiter.begin_totals_at(settled.floor);
                limiter.ring_by(&self.bell);
                if let Some(asker) = self.asker.get() {
                    limiter.ask_by(asker);
                }
                limiter.share_among(settled.company);
            }
        }
        self.shared.publish(shared);
    }

    /// Whom strict limits ask; said before there are any.
    pub fn ask_by(&self, asker: Arc<dyn Asking>) {
        let _ = self.asker.set(asker);
    }

    /// The shared limiters now.
    pub fn limiters(&self) -> Vec<Arc<Limiter>> {
        self.shared.current().values().cloned().collect()
    }
}

impl Ledger for Limits {
    fn drain(&self, now: Instant, all: bool, most: usize, out: &mut Vec<Report>) {
        let shared = self.shared.current();
        if shared.is_empty() {
            return;
        }
        self.bell.answered();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let begin = out.len();
        // First an even share for each, so that one limit's flood does not silence the others;
        // then whoever has more, in turn.
        for share in [(most / shared.len()).max(1), most] {
            for limiter in shared.values().cycle().skip(turn % shared.len()).take(shared.len()) {
                let end = (out.len() + share).min(begin + most);
                limiter.drain(now, all, end, out);
            }
        }
    }

    fn report(&self, now: Instant, limit: LimitId, key: KeyHash) -> Option<Report> {
        self.shared.current().get(&limit)?.report(now, key)
    }

    fn on_urgent(&self, wake: Box<dyn Fn() + Send + Sync>) {
        self.bell.hang(wake);
    }
}

impl Levels for Limits {
    fn told(&self, now: Instant, limit: LimitId, key: KeyHash, told: Level) {
        if let Some(limiter) = self.shared.current().get(&limit) {
            limiter.told(now, key, told);
        }
    }

    fn hot(&self, now: Instant, limit: LimitId, key: KeyHash, level: f32) {
        if let Some(limiter) = self.shared.current().get(&limit) {
            limiter.hot(now, key, level);
        }
    }

    fn silent(&self, now: Instant, limit: LimitId, key: KeyHash, during: Duration) {
        if let Some(limiter) = self.shared.current().get(&limit) {
            limiter.silent(now, key, during);
        }
    }

    fn company(&self, company: Company) {
        // Under the lock of `replace`, so that no limiter is missed.
        let mut settled = self.settled.lock();
        settled.company = company;
        for limiter in self.shared.current().values() {
            limiter.share_among(company);
        }
    }

    fn counting(&self, limit: LimitId, start: Instant) -> Option<Counting> {
        let shared = self.shared.current();
        let limiter = shared.get(&limit)?;
        Some(Counting {
            algorithm: limiter.plan().algorithm,
            meter: limiter.meter_since(start),
            keys: limiter.keys(),
        })
    }
}

#[cfg(test)]
mod tests;
