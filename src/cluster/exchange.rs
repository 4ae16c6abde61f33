//! Use of limits between nodes: own rows out, peers' rows in.
//!
//! Rows are grow-only and told as they stand, so losing, doubling or reordering datagrams harms
//! nothing; each is told once more at the next interval, which mends a single loss.
//!
//! ```text
//!   ledger ─drain─▶ due ─▶ a datagram to every peer ─▶ again ─(next T)─▶ once more
//!   datagram ─▶ counters ─growth─▶ levels
//! ```

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use super::wire::MAX_PAYLOAD;
use super::wire::encoding::encode;
use super::wire::records::{Record, SpentRow, SpentRows};
use crate::base::{Actor, KeyHash, LimitId};
use crate::crdt::{Bounds, Counters, Outbox, Row, RowKey};
use crate::traffic::{Ledger, Levels, Spent};

/// Every changed row is told at least this often (the design's T).
pub const INTERVAL: Duration = Duration::from_millis(200);
/// Between two looks for urgent rows while there is traffic.
pub const BUSY: Duration = Duration::from_millis(5);
/// Without traffic for this long the ledger is looked at once per interval only, or when it is
/// urgent.
const QUIET_AFTER: Duration = Duration::from_secs(1);
/// Rows held of all peers together.
const MOST_ROWS: usize = 262_144;
/// Keys waiting to be told.
const MOST_WAITING: usize = 131_072;
/// Lines taken from the ledger at once.
const MOST_DRAINED: usize = 8192;
/// Rows unheard of for longer leave.
const KEEP: Duration = Duration::from_secs(300);

type Key = (LimitId, KeyHash);

/// Both directions.
#[derive(Debug)]
pub struct Exchange {
    due: Outbox<Key, Row>,
    again: Outbox<Key, Row>,
    heard: Counters,
    last_look: Instant,
    next_look: Instant,
    next_interval: Instant,
    last_traffic: Option<Instant>,
    expire_at: Instant,
    drained: Vec<Spent>,
}

impl Exchange {
    /// Nothing told, nothing heard.
    pub fn new(now: Instant) -> Self {
        let bounds = Bounds { rows: MOST_ROWS, silence: Duration::from_secs(1), keep: KEEP };
        Exchange {
            due: Outbox::new(MOST_WAITING, 1),
            again: Outbox::new(MOST_WAITING, 1),
            heard: Counters::new(bounds),
            last_look: now,
            next_look: now,
            next_interval: now,
            last_traffic: None,
            expire_at: now + KEEP,
            drained: Vec::new(),
        }
    }

    /// When to look at the ledger next.
    pub fn due(&self) -> Instant {
        self.next_look
    }

    /// Something should be told now: the next look comes as soon as looks may come.
    pub fn hurry(&mut self, now: Instant) {
        self.next_look = self.next_look.min(now.max(self.last_look + BUSY));
    }

    /// Looks at the ledger, when it is time; whether anything is to be told.
    pub fn look(&mut self, now: Instant, ledger: &dyn Ledger) -> bool {
        if now < self.next_look {
            return false;
        }
        let all = now >= self.next_interval;
        self.last_look = now;
        self.drained.clear();
        ledger.drain(now, all, MOST_DRAINED, &mut self.drained);
        if all {
            // What was told in the last interval is told once more; what changed since replaces it.
            self.again.cut(
                usize::MAX,
                |_, _| 1,
                |key, row| {
                    self.due.put(*key, *row);
                },
            );
            self.next_interval = now + INTERVAL;
        }
        for spent in std::mem::take(&mut self.drained) {
            self.last_traffic = Some(now);
            let row = Row { total: spent.total, since: spent.since, recent: spent.recent };
            self.due.put((spent.limit, spent.key), row);
        }
        let busy = self.last_traffic.is_some_and(|at| now.duration_since(at) < QUIET_AFTER);
        self.next_look = if busy { now + BUSY } else { now + INTERVAL };
        if now >= self.expire_at {
            self.heard.expire(now);
            self.expire_at = now + KEEP / 10;
        }
        !self.due.is_empty()
    }

    /// The payload of the next datagram to all peers.
    pub fn payload(&mut self) -> Option<Vec<u8>> {
        let mut by_limit: HashMap<LimitId, Vec<SpentRow>> = HashMap::new();
        let mut open = HashSet::new();
        let (due, again) = (&mut self.due, &mut self.again);
        due.cut(
            MAX_PAYLOAD,
            |(limit, key), row| {
                let mut bytes = Vec::with_capacity(40);
                encode(&spent_row(*key, row), &mut bytes);
                // A limit's first row pays for the record's head.
                let head = if open.insert(*limit) { 3 + 9 + 3 } else { 0 };
                bytes.len() + head
            },
            |(limit, key), row| {
                by_limit.entry(*limit).or_default().push(spent_row(*key, row));
                again.put((*limit, *key), *row);
            },
        );
        if by_limit.is_empty() {
            return None;
        }
        let mut payload = Vec::with_capacity(MAX_PAYLOAD);
        let mut by_limit: Vec<_> = by_limit.into_iter().collect();
        by_limit.sort_by_key(|(limit, _)| *limit);
        for (limit, rows) in by_limit {
            Record::Spent(SpentRows { limit: limit.0, rows }).put(&mut payload);
        }
        Some(payload)
    }

    /// There is nobody to tell.
    pub fn discard(&mut self) {
        self.due.cut(usize::MAX, |_, _| 1, |_, _| {});
        self.again.cut(usize::MAX, |_, _| 1, |_, _| {});
    }

    /// Rows of `actor` came in; what is new goes to `levels`.
    pub fn hear(&mut self, now: Instant, actor: Actor, spent: &SpentRows, levels: &dyn Levels) {
        let limit = LimitId(spent.limit);
        for row in &spent.rows {
            let key = KeyHash(row.key);
            let told = Row { total: row.total, since: row.since, recent: row.recent };
            let growth = self.heard.merge(RowKey { limit, key, actor }, told, now);
            if growth.debit > 0 {
                levels.spent_elsewhere(now, limit, key, growth.debit);
            }
        }
    }

    /// What `actor` has spent of a key, as far as it is known.
    pub fn total(&self, limit: LimitId, key: KeyHash, actor: Actor) -> Option<u64> {
        self.heard.total(&RowKey { limit, key, actor })
    }

    /// An actor is gone for good.
    pub fn forget(&mut self, actor: Actor) {
        self.heard.forget(actor);
    }

    /// Rows held.
    pub fn rows(&self) -> usize {
        self.heard.len()
    }

    /// Rows waiting to be told.
    pub fn waiting(&self) -> usize {
        self.due.len()
    }
}

fn spent_row(key: KeyHash, row: &Row) -> SpentRow {
    SpentRow { key: key.0, total: row.total, since: row.since, recent: row.recent }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time;

    struct Nothing;

    impl Ledger for Nothing {
        fn drain(&self, _: Instant, _: bool, _: usize, _: &mut Vec<Spent>) {}
    }

    struct Something;

    impl Ledger for Something {
        fn drain(&self, _: Instant, _: bool, _: usize, out: &mut Vec<Spent>) {
            let (limit, key) = (LimitId(1), KeyHash(1));
            out.push(Spent { limit, key, total: 5, since: 0, recent: 5 });
        }
    }

    #[test]
    fn what_is_urgent_is_told_at_once_but_not_more_often_than_looks_may_come() {
        let began = time::now();
        let mut exchange = Exchange::new(began);
        let quiet = began + 2 * QUIET_AFTER;
        exchange.look(quiet, &Nothing);
        assert_eq!(exchange.due(), quiet + INTERVAL);

        let later = quiet + Duration::from_millis(50);
        exchange.hurry(later);
        assert!(exchange.look(later, &Something));
        exchange.hurry(later + Duration::from_millis(1));
        assert_eq!(exchange.due(), later + BUSY);
    }
}
