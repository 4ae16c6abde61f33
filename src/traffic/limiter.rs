//! One rate limit: decides by its own table, at once, and keeps a ledger of what it admitted so
//! that the peers may debit it as well.
//!
//! ```text
//!   admit ──▶ set of the key's slot: take a token, total += 1, unsaid += 1
//!                └▶ marks: dirty (something unsaid), urgent (q unsaid)
//!   drain ◀── the agent, every few milliseconds: marked sets' rows, newest totals
//!   spent_elsewhere ──▶ debit the slot, which never counts into the own total
//! ```
//!
//! Rows of quiet keys are not told: while the bucket is at least half full *and* this node's own
//! recent use is below a quarter of its share of the burst, the peers can do nothing with it. A key
//! that becomes hot is told with the total that it has then.
//!
//! A row whose key is evicted: its bucket was at least as full as that of a key that came in just
//! now, so as a rule nothing is left that the peers would have to debit. Where something is (a
//! peers' debit made the newcomer emptier), the row goes to a small list that the next drain takes
//! first. A full list counts what was lost (`untold`) and holds up nobody.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::bell::Bell;
use super::client_key::client_key;
use super::counts::{Counts, LimitCounts, add};
use super::marks::{Marks, Visit};
use super::meter::{Meter, Ticks, duration, ticks};
use super::networks::Networks;
use super::plan::{Action, LimitKey, LimitPlan};
use super::queue::{Queue, QueuePlace};
use super::table::{Place, Slot, Table, TableKey};
use super::window::Spent;
use crate::base::KeyHash;
use crate::base::id::stable_hash;

/// Between two reports of one key, in milliseconds.
const PAUSE: u16 = 5;
/// Evicted rows that wait for the next drain.
const LEAVERS: usize = 256;

/// One rate limit, shared by all workers.
#[derive(Debug)]
pub struct Limiter {
    plan: LimitPlan,
    meter: Meter,
    exempt: Networks<()>,
    salt: u64,
    start: Instant,
    table: Table,
    dirty: Marks,
    urgent: Marks,
    /// Rung when something becomes urgent; a limit of this node alone has none.
    bell: OnceLock<Arc<Bell>>,
    leavers: Mutex<Vec<Spent>>,
    /// Alive nodes that share the limit, this one included.
    nodes: AtomicU32,
    counts: Counts,
    queue: Queue,
}

/// The answer to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Come in.
    Admit,
    /// Not now.
    Refuse {
        /// When there will be a token, if nobody else takes it.
        retry_after: Duration,
    },
}

impl Limiter {
    /// `salt` is the cluster's and makes a client's key the same on every node; `secret` is this
    /// node's alone and keeps others from choosing who shares a set of the table.
    pub fn new(plan: LimitPlan, salt: u64, secret: u64, start: Instant) -> Self {
        let keys = match plan.key {
            LimitKey::Client => plan.max_keys as usize,
            LimitKey::Rule => 1,
        };
        let queue = match plan.action {
            Action::Delay { queue, .. } => queue,
            Action::Reject | Action::Drop => 0,
        };
        let table = Table::new(keys, secret);
        Limiter {
            meter: Meter::new(plan.algorithm),
            exempt: Networks::new(plan.exempt.iter().map(|network| (*network, ()))),
            salt,
            start,
            dirty: Marks::new(table.sets()),
            urgent: Marks::new(table.sets()),
            table,
            bell: OnceLock::new(),
            leavers: Mutex::new(Vec::with_capacity(LEAVERS)),
            nodes: AtomicU32::new(1),
            counts: Counts::default(),
            queue: Queue::new(queue),
            plan,
        }
    }

    /// May `client` come in? Takes a token if so. Never waits for anything but another decision in
    /// the same set, and allocates nothing. In shadow mode everybody may.
    pub fn admit(&self, client: IpAddr, now: Instant) -> Decision {
        let decision = self.ask(client, now);
        if decision == Decision::Admit {
            return decision;
        }
        if self.plan.shadow {
            self.count_refused();
            return Decision::Admit;
        }
        // Who may still wait in the queue is refused only when the queue is.
        if !matches!(self.plan.action, Action::Delay { .. }) {
            self.count_refused();
        }
        decision
    }

    /// After a refusal by a limit with [`Action::Delay`]: a place to wait for a token, or `None`
    /// (a refusal) when all places are taken. The waiter sleeps, asks [`QueuePlace::admit`], and
    /// gives up after the action's `max`.
    pub fn enter_queue(self: &Arc<Self>) -> Option<QueuePlace> {
        if !self.queue.enter() {
            self.count_refused();
            return None;
        }
        add(&self.counts.at(0).delayed, 1);
        Some(QueuePlace::new(Arc::clone(self)))
    }

    /// The limit.
    pub fn plan(&self) -> &LimitPlan {
        &self.plan
    }

    /// What was done so far.
    pub fn counts(&self) -> LimitCounts {
        self.counts.sum()
    }

    /// Bytes of the table, taken when the limiter is made.
    pub fn bytes(&self) -> usize {
        self.table.bytes()
    }

    /// The key of `client`, the same on every node; `None` when it is exempt.
    pub fn key(&self, client: IpAddr) -> Option<KeyHash> {
        if self.exempt.find(client).is_some() {
            return None;
        }
        let hash = match self.plan.key {
            LimitKey::Rule => stable_hash(self.salt, b"rule"),
            LimitKey::Client => match client_key(client, self.plan.ipv6_prefix) {
                IpAddr::V4(ip) => stable_hash(self.salt, &ip.octets()),
                IpAddr::V6(ip) => stable_hash(self.salt, &ip.octets()),
            },
        };
        Some(KeyHash(TableKey::new(hash).hash()))
    }

    /// As [`Limiter::admit`], without counting refusals.
    pub(super) fn ask(&self, client: IpAddr, now: Instant) -> Decision {
        let Some(key) = self.key(client) else { return Decision::Admit };
        let now = ticks(self.start, now);
        let key = TableKey::new(key.0);
        let at = self.table.set_of(key);
        let counts = self.counts.at(at);
        // A full bucket has a token, whatever the quota.
        let newcomer = self.meter.full(now);
        let newcomer = self.meter.take(newcomer, now).unwrap_or(newcomer);

        let mut set = self.table.set(at).lock();
        let slot = match set.place(key, newcomer, self.table.floor()) {
            Place::Known(slot) => {
                match self.meter.take(slot.used, now) {
                    Ok(used) => slot.used = used,
                    Err(early) => return Decision::Refuse { retry_after: duration(early) },
                }
                slot
            }
            Place::New(slot, leaver) => {
                self.settle(slot, leaver, at, now);
                slot
            }
            Place::NoRoom => {
                add(&counts.untracked, 1);
                add(&counts.admitted, 1);
                return Decision::Admit;
            }
        };
        slot.own = self.meter.add_own(slot.own, now, self.nodes());
        slot.total += 1;
        slot.tenure = slot.tenure.saturating_add(1);
        slot.unsaid = slot.unsaid.saturating_add(1);
        self.dirty.mark(at);
        if f64::from(slot.unsaid) >= self.threshold() {
            self.urgent.mark(at);
            if let Some(bell) = self.bell.get() {
                bell.ring();
            }
        }
        drop(set);
        add(&counts.admitted, 1);
        Decision::Admit
    }

    /// From now on `bell` is rung when a row should be told at once.
    pub(super) fn ring_by(&self, bell: &Arc<Bell>) {
        let _ = self.bell.set(Arc::clone(bell));
    }

    /// Peers spent `tokens` more of `key`.
    pub(super) fn spent_elsewhere(&self, now: Instant, key: KeyHash, tokens: u64) {
        if tokens == 0 {
            return;
        }
        let now = ticks(self.start, now);
        let key = TableKey::new(key.0);
        let at = self.table.set_of(key);
        let newcomer = self.meter.debit(self.meter.full(now), now, tokens);
        let mut set = self.table.set(at).lock();
        match set.place(key, newcomer, self.table.floor()) {
            Place::Known(slot) => {
                slot.used = self.meter.debit(slot.used, now, tokens);
                if slot.unsaid > 0 {
                    // It was quiet perhaps, and is not any more.
                    self.dirty.mark(at);
                }
            }
            Place::New(slot, leaver) => self.settle(slot, leaver, at, now),
            Place::NoRoom => return,
        }
        drop(set);
        add(&self.counts.at(at).spent_elsewhere, tokens);
    }

    /// Moves rows to `out` until it holds `most`: those with something unsaid when `all` is set,
    /// else those past their threshold.
    pub(super) fn drain(&self, now: Instant, all: bool, most: usize, out: &mut Vec<Spent>) {
        {
            let mut leavers = self.leavers.lock();
            let room = most.saturating_sub(out.len()).min(leavers.len());
            out.extend(leavers.drain(..room));
        }
        let now = ticks(self.start, now);
        let marks = if all { &self.dirty } else { &self.urgent };
        let least = if all { 1.0 } else { self.threshold() };
        marks.visit(|at| self.drain_set(at, now, all, least, most, out));
    }

    fn drain_set(
        &self,
        at: usize,
        now: Ticks,
        all: bool,
        least: f64,
        most: usize,
        out: &mut Vec<Spent>,
    ) -> Visit {
        if out.len() >= most {
            return Visit::Stop;
        }
        let mut again = Visit::Done;
        let mut set = self.table.set(at).lock();
        for (key, slot) in set.entries() {
            if slot.unsaid == 0 || f64::from(slot.unsaid) < least || self.is_quiet(slot, now) {
                continue;
            }
            if !all && milliseconds(now).wrapping_sub(slot.said_at) < PAUSE {
                again = Visit::Again;
                continue;
            }
            if out.len() >= most {
                return Visit::Stop;
            }
            out.push(self.row(key, slot, now));
            slot.unsaid = 0;
            slot.said_at = milliseconds(now);
        }
        again
    }

    /// A key has just got its slot, which `leaver` had before.
    fn settle(&self, slot: &mut Slot, leaver: Option<(TableKey, Slot)>, at: usize, now: Ticks) {
        slot.said_at = milliseconds(now).wrapping_sub(PAUSE);
        let Some((key, leaver)) = leaver else {
            add(&self.counts.at(at).keys, 1);
            return;
        };
        if leaver.unsaid == 0 || leaver.used <= self.meter.full(now) {
            return;
        }
        // The lock is held by a drain at most; nobody waits for that here.
        match self.leavers.try_lock() {
            Some(mut leavers) if leavers.len() < LEAVERS => {
                leavers.push(self.row(key, &leaver, now));
            }
            _ => add(&self.counts.at(at).untold, u64::from(leaver.unsaid)),
        }
    }

    fn row(&self, key: TableKey, slot: &Slot, now: Ticks) -> Spent {
        Spent {
            limit: self.plan.id,
            key: KeyHash(key.hash()),
            total: slot.total,
            since: slot.since(),
            recent: self.meter.own(slot.own, now, self.nodes()).ceil() as u32,
        }
    }

    /// Nothing that the peers would have to know.
    fn is_quiet(&self, slot: &Slot, now: Ticks) -> bool {
        let (burst, nodes) = (self.meter.burst(), self.nodes());
        self.meter.level(slot.used, now) >= burst / 2.0
            && self.meter.own(slot.own, now, nodes) < (burst / 4.0 / f64::from(nodes)).max(1.0)
    }

    /// Unsaid tokens that are worth a report before the interval's end.
    fn threshold(&self) -> f64 {
        let burst = self.meter.burst();
        (burst / 2.0 / f64::from(self.nodes())).min(burst / 20.0).max(1.0)
    }

    fn nodes(&self) -> u32 {
        self.nodes.load(Ordering::Relaxed)
    }

    pub(super) fn share_among(&self, nodes: usize) {
        let nodes = u32::try_from(nodes).unwrap_or(u32::MAX).max(1);
        self.nodes.store(nodes, Ordering::Relaxed);
    }

    pub(super) fn begin_totals_at(&self, floor: u64) {
        self.table.raise_floor(floor);
    }

    pub(super) fn highest_total(&self) -> u64 {
        self.table.highest_total()
    }

    pub(super) fn queue(&self) -> &Queue {
        &self.queue
    }

    pub(super) fn count_refused(&self) {
        add(&self.counts.at(0).refused, 1);
    }
}

/// Wraps every 65 s; who is compared over a wrap is told 5 ms later, no harm.
fn milliseconds(now: Ticks) -> u16 {
    (duration(now).as_millis() & 0xffff) as u16
}

#[cfg(test)]
mod tests;
