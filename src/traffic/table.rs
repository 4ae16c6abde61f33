//! The bounded table of a limit's keys: all memory is taken when it is made, and stays so under any
//! flood.
//!
//! ```text
//!   key ─ SipHash under the node's secret ─▶ one set of WAYS slots, under one small lock
//!
//!   set   │ keys 8 × 8 B │ slots 8 × 48 B │ base │      58 B per key
//! ```
//!
//! A set that is full gives up its **fullest** bucket, as a full one carries no information, and
//! never one emptier than the newcomer's: so a flood of one-shot keys displaces only itself, and
//! who is close to a limit stays tracked. When all are emptier, the newcomer is not tracked.
//!
//! Totals only grow, over evictions as well. A set remembers the largest total that left it
//! (`base`), and a newcomer begins there. So a key that comes back, which is always to the same
//! set, begins at or above everything told of it before.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::meter::Used;
use crate::base::id::stable_hash;

/// Slots per set: their keys fill one cache line.
const WAYS: usize = 8;

/// A key in the table. Zero means an empty slot; a hash of zero becomes one, on every node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TableKey(u64);

impl TableKey {
    pub(super) fn new(hash: u64) -> Self {
        TableKey(hash.max(1))
    }

    pub(super) fn hash(self) -> u64 {
        self.0
    }
}

#[derive(Debug)]
pub(super) struct Table {
    sets: Box<[Mutex<Set>]>,
    secret: u64,
    /// No newcomer's total begins below it.
    floor: AtomicU64,
}

#[derive(Debug, Default)]
pub(super) struct Set {
    keys: [u64; WAYS],
    slots: [Slot; WAYS],
    base: u64,
}

/// What is known of one key.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Slot {
    /// Tokens used by all nodes together.
    pub(super) used: Used,
    /// Tokens used by this node, leaking at its share of the rate.
    pub(super) own: Used,
    /// Tokens admitted by this node, cumulative over tenures.
    pub(super) total: u64,
    /// The part of `total` in this tenure; stops at its maximum.
    pub(super) tenure: u32,
    /// Tokens that nobody was told of; stops at its maximum.
    pub(super) unsaid: u32,
    /// Tokens that are in no level which the owner told; stops at its maximum.
    pub(super) unacked: u32,
    /// What the other nodes took per second, when the owner last told.
    pub(super) remote: f32,
    /// When a report went out last, in milliseconds, wrapping.
    pub(super) said_at: u16,
    /// When the key was last said to run low, in tenths of a second, wrapping; see `Limiter`.
    pub(super) hot_at: u16,
}

/// Where a key went.
pub(super) enum Place<'a> {
    /// It is in this slot already.
    Known(&'a mut Slot),
    /// It got a new slot, and pushed out somebody perhaps.
    New(&'a mut Slot, Option<(TableKey, Slot)>),
    /// All the others are emptier.
    NoRoom,
}

impl Table {
    /// Room for `keys` keys, rounded up to whole sets.
    pub(super) fn new(keys: usize, secret: u64) -> Self {
        let sets = keys.div_ceil(WAYS).max(1);
        Table {
            sets: (0..sets).map(|_| Mutex::default()).collect(),
            secret,
            floor: AtomicU64::new(0),
        }
    }

    pub(super) fn sets(&self) -> usize {
        self.sets.len()
    }

    /// Keys that it can hold.
    pub(super) fn keys(&self) -> usize {
        self.sets.len() * WAYS
    }

    /// Which set `key` belongs to: nobody outside this node can tell.
    pub(super) fn set_of(&self, key: TableKey) -> usize {
        let hash = stable_hash(self.secret, &key.0.to_le_bytes());
        ((u128::from(hash) * self.sets.len() as u128) >> 64) as usize
    }

    pub(super) fn set(&self, at: usize) -> &Mutex<Set> {
        &self.sets[at]
    }

    /// Totals of keys that come in from now on begin at `floor` or above.
    pub(super) fn raise_floor(&self, floor: u64) {
        self.floor.fetch_max(floor, Ordering::Relaxed);
    }

    pub(super) fn floor(&self) -> u64 {
        self.floor.load(Ordering::Relaxed)
    }

    /// At least every total that any key has had.
    pub(super) fn highest_total(&self) -> u64 {
        let highest = self.sets.iter().map(|set| {
            let set = set.lock();
            set.slots.iter().map(|slot| slot.total).fold(set.base, u64::max)
        });
        highest.fold(self.floor(), u64::max)
    }

    /// Bytes held, fixed for life.
    pub(super) fn bytes(&self) -> usize {
        self.sets.len() * size_of::<Mutex<Set>>()
    }
}

impl Set {
    /// The slot of `key`, when it has one.
    pub(super) fn find(&mut self, key: TableKey) -> Option<&mut Slot> {
        let at = self.keys.iter().position(|k| *k == key.0)?;
        Some(&mut self.slots[at])
    }

    /// Finds `key`, or makes room for it; `used` is what a newcomer will have used.
    pub(super) fn place(&mut self, key: TableKey, used: Used, floor: u64) -> Place<'_> {
        if let Some(at) = self.keys.iter().position(|k| *k == key.0) {
            return Place::Known(&mut self.slots[at]);
        }
        let free = self.keys.iter().position(|k| *k == 0);
        let mut leaver = None;
        let at = match free {
            Some(at) => at,
            None => {
                // Among equals it is anybody's turn, as by the newcomer's hash: were it always the
                // first's, who sits there would never stay long enough to be limited.
                let first = key.0 as usize % WAYS;
                let fullest = (1..WAYS).map(|n| (first + n) % WAYS).fold(first, |fullest, at| {
                    if self.slots[at].used < self.slots[fullest].used { at } else { fullest }
                });
                if self.slots[fullest].used > used {
                    return Place::NoRoom;
                }
                self.base = self.base.max(self.slots[fullest].total);
                leaver = Some((TableKey(self.keys[fullest]), self.slots[fullest]));
                fullest
            }
        };
        self.keys[at] = key.0;
        self.slots[at] = Slot { used, total: self.base.max(floor), ..Slot::default() };
        Place::New(&mut self.slots[at], leaver)
    }

    /// The keys in the set.
    pub(super) fn entries(&mut self) -> impl Iterator<Item = (TableKey, &mut Slot)> {
        let slots = self.keys.iter().zip(&mut self.slots);
        slots.filter(|(key, _)| **key != 0).map(|(key, slot)| (TableKey(*key), slot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::meter::Meter;
    use crate::traffic::plan::{Algorithm, Quota};

    fn used(tokens: u64) -> Used {
        let quota = Quota { rate: 1.0, burst: 100.0 };
        let meter = Meter::new(Algorithm::TokenBucket(quota), 0);
        meter.debit(meter.full(0), 0, tokens as f64)
    }

    fn full_set(tokens: [u64; WAYS]) -> Set {
        let mut set = Set::default();
        for (n, tokens) in tokens.into_iter().enumerate() {
            assert!(matches!(
                set.place(TableKey::new(n as u64 + 1), used(tokens), 0),
                Place::New(_, None)
            ));
        }
        set
    }

    #[test]
    fn a_key_takes_at_most_64_bytes() {
        let table = Table::new(1 << 20, 1);
        assert!(table.bytes() <= 64 << 20, "{} B per key", table.bytes() >> 20);
        assert_eq!(table.sets(), 1 << 17);
    }

    #[test]
    fn the_fullest_bucket_leaves_first() {
        let mut set = full_set([9, 5, 7, 2, 4, 8, 3, 6]);
        for gone in [4, 7] {
            match set.place(TableKey::new(100 + gone), used(50), 0) {
                Place::New(_, Some((key, _))) => assert_eq!(key, TableKey::new(gone)),
                _ => panic!("nobody left"),
            }
        }
    }

    #[test]
    fn nobody_emptier_than_the_newcomer_leaves() {
        let mut set = full_set([9, 5, 7, 2, 4, 8, 3, 6]);
        assert!(matches!(set.place(TableKey::new(100), used(1), 0), Place::NoRoom));
        assert!(matches!(set.place(TableKey::new(100), used(2), 0), Place::New(_, Some(_))));
    }

    #[test]
    fn among_equally_full_buckets_it_is_not_always_the_same_slots_turn() {
        let mut set = full_set([1; WAYS]);
        let mut gone = std::collections::BTreeSet::new();
        for key in 100..200 {
            let before = set.keys;
            let hash = stable_hash(0, &[key]);
            assert!(matches!(set.place(TableKey::new(hash), used(1), 0), Place::New(_, Some(_))));
            gone.insert((0..WAYS).find(|at| before[*at] != set.keys[*at]).unwrap());
        }
        assert_eq!(gone.len(), WAYS);
    }

    #[test]
    fn totals_only_grow_over_evictions() {
        let mut set = full_set([1; WAYS]);
        for (_, slot) in set.entries() {
            (slot.total, slot.tenure) = (500, 500);
        }
        // Keys 5 and 6 leave, come back, and begin where they stood or above.
        let mut highest = 0;
        for key in [100, 101, 5, 6] {
            let Place::New(slot, Some(_)) = set.place(TableKey::new(key), used(60), 0) else {
                panic!("no place for {key}")
            };
            assert_eq!((slot.total, slot.tenure), (500, 0));
            highest = highest.max(slot.total);
        }
        let Place::New(slot, _) = set.place(TableKey::new(200), used(60), 9_000) else {
            panic!("no place")
        };
        assert_eq!(slot.total, 9_000);
    }

    #[test]
    fn two_nodes_place_keys_differently() {
        let (one, other) = (Table::new(10_000, 1), Table::new(10_000, 2));
        let same =
            (1..1000).map(TableKey::new).filter(|key| one.set_of(*key) == other.set_of(*key));
        assert!(same.count() < 20);
    }
}
