//! The bounded table of a limit's keys: all memory is taken when it is made, and stays so under any
//! flood.
//!
//! ```text
//!   key ─ spread by the node's secret ─▶ one set of WAYS slots, under one small lock
//!
//!   cache line   0             1 2 3 4 (half)       (half) 5
//!   set        │ lock, 7 keys │ 7 slots of 32 B  ···│··· 7 pasts of 12 B, base │    55 B per key
//! ```
//!
//! Nearly every decision finds its set in no cache, so the set is laid out by what a decision
//! reads: the line of the lock and the keys, and the one line that the key's slot is in. What only
//! talking to the other nodes needs lies apart, in the slots' pasts.
//!
//! A set that is full gives up its **fullest** bucket, as a full one carries no information, and
//! never one emptier than the newcomer's: so a flood of one-shot keys displaces only itself, and
//! who is close to a limit stays tracked. When all are emptier, the newcomer is not tracked.
//!
//! Totals only grow, over evictions as well. A set remembers the largest total that left it
//! (`base`), and a newcomer begins there. So a key that comes back, which is always to the same
//! set, begins at or above everything told of it before.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::meter::Used;
use crate::base::id::stable_hash;

/// Slots per set: their keys and the lock fill one cache line.
const WAYS: usize = 7;
/// How far back a past goes at least, and at most twice as far; in tokens.
const SPAN: u64 = 1 << 31;

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

/// Has a range of addresses fetched while its caller goes on. Advice: a table answers alike whether
/// it is heard or not.
pub type Fetch = fn(Range<usize>);

#[derive(Debug)]
pub(super) struct Table {
    sets: Box<[Aligned]>,
    spread: Spread,
    fetch: Fetch,
    /// No newcomer's total begins below it.
    floor: AtomicU64,
}

/// Spreads keys over the sets: strongly universal multiply-shift (M. Dietzfelbinger, *Universal
/// hashing and k-wise independent random variables via integer arithmetic without primes*, 1996).
/// Whoever does not know the factors cannot name two keys that share a set more often than chance
/// has it. Keys are SipHashes already, so clients cannot choose them anyway; only who knows the
/// cluster's salt could.
#[derive(Debug)]
struct Spread {
    factor: u128,
    summand: u128,
}

impl Spread {
    fn new(secret: u64) -> Self {
        let half = |n: u8| u128::from(stable_hash(secret, &[n]));
        Spread { factor: half(0) << 64 | half(1), summand: half(2) << 64 | half(3) }
    }

    fn of(&self, key: TableKey) -> u64 {
        let sum = u128::from(key.0).wrapping_mul(self.factor).wrapping_add(self.summand);
        (sum >> 64) as u64
    }
}

/// A set begins with a cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Aligned(Mutex<Set>);

const _: () = assert!(size_of::<Aligned>() == 6 * 64);

/// Bytes of a set that a decision may read: up to the last slot.
const DECISION: usize = 5 * 64;

#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct Set {
    keys: [u64; WAYS],
    slots: [Slot; WAYS],
    pasts: [Past; WAYS],
    base: u64,
}

/// What a decision has to know of one key.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Slot {
    /// Tokens used by all nodes together.
    pub(super) used: Used,
    /// Tokens used by this node, leaking at its share of the rate.
    pub(super) own: Used,
    /// Tokens admitted by this node, cumulative over tenures.
    pub(super) total: u64,
    /// The low bits of the `total` that somebody was told of last.
    said: u32,
    /// When a report went out last, in milliseconds, wrapping.
    pub(super) said_at: u16,
    /// When the key was last said to run low, in tenths of a second, wrapping; see `Limiter`.
    pub(super) hot_at: u16,
}

/// What else there is to tell of one key, and was told of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Past {
    /// The low bits of the `total` that this tenure began with.
    began: u32,
    /// The low bits of the newest `total` that is in a level which the owner told.
    acked: u32,
    /// What the other nodes took per second, when the owner last told.
    pub(super) remote: f32,
}

/// One key in its set.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub(super) slot: &'a mut Slot,
    pub(super) past: &'a mut Past,
}

/// Who had to leave.
#[derive(Debug)]
pub(super) struct Leaver {
    pub(super) key: TableKey,
    pub(super) slot: Slot,
    pub(super) past: Past,
}

/// Where a key went.
pub(super) enum Place<'a> {
    /// It is in this slot already.
    Known(Entry<'a>),
    /// It got a new slot, and pushed out somebody perhaps.
    New(Entry<'a>, Option<Leaver>),
    /// All the others are emptier.
    NoRoom,
}

impl Table {
    /// Room for `keys` keys, rounded up to whole sets.
    pub(super) fn new(keys: usize, secret: u64) -> Self {
        let sets = keys.div_ceil(WAYS).max(1);
        Table {
            sets: (0..sets).map(|_| Aligned::default()).collect(),
            spread: Spread::new(secret),
            fetch: |_| {},
            floor: AtomicU64::new(0),
        }
    }

    /// Has sets fetched by `fetch`, before they are read.
    pub(super) fn fetch_by(&mut self, fetch: Fetch) {
        self.fetch = fetch;
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
        ((u128::from(self.spread.of(key)) * self.sets.len() as u128) >> 64) as usize
    }

    /// A decision will read this set in a moment.
    pub(super) fn soon(&self, at: usize) {
        let start = (&raw const self.sets[at]).addr();
        (self.fetch)(start..start + DECISION);
    }

    pub(super) fn set(&self, at: usize) -> &Mutex<Set> {
        &self.sets[at].0
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
            let set = set.0.lock();
            set.slots.iter().map(|slot| slot.total).fold(set.base, u64::max)
        });
        highest.fold(self.floor(), u64::max)
    }

    /// Bytes held, fixed for life.
    pub(super) fn bytes(&self) -> usize {
        self.sets.len() * size_of::<Aligned>()
    }
}

impl Set {
    fn entry(&mut self, at: usize) -> Entry<'_> {
        Entry { slot: &mut self.slots[at], past: &mut self.pasts[at] }
    }

    /// The entry of `key`, when it has one.
    pub(super) fn find(&mut self, key: TableKey) -> Option<Entry<'_>> {
        let at = self.keys.iter().position(|k| *k == key.0)?;
        Some(self.entry(at))
    }

    /// Finds `key`, or makes room for it; `used` is what a newcomer will have used.
    pub(super) fn place(&mut self, key: TableKey, used: Used, floor: u64) -> Place<'_> {
        if let Some(at) = self.keys.iter().position(|k| *k == key.0) {
            return Place::Known(self.entry(at));
        }
        let free = self.keys.iter().position(|k| *k == 0);
        let mut leaver = None;
        let at = match free {
            Some(at) => at,
            None => {
                // Among equals it is anybody's turn, as by the newcomer's hash: were it always the
                // first's, who sits there would never stay long enough to be limited.
                let first = (key.0 % WAYS as u64) as usize;
                let fullest = (1..WAYS).map(|n| (first + n) % WAYS).fold(first, |fullest, at| {
                    if self.slots[at].used < self.slots[fullest].used { at } else { fullest }
                });
                let slot = self.slots[fullest];
                if slot.used > used {
                    return Place::NoRoom;
                }
                self.base = self.base.max(slot.total);
                let (key, past) = (TableKey(self.keys[fullest]), self.pasts[fullest]);
                leaver = Some(Leaver { key, slot, past });
                fullest
            }
        };
        self.keys[at] = key.0;
        let total = self.base.max(floor);
        let low = total as u32;
        self.slots[at] = Slot { used, total, said: low, ..Slot::default() };
        self.pasts[at] = Past { began: low, acked: low, remote: 0.0 };
        Place::New(self.entry(at), leaver)
    }

    /// The keys in the set.
    pub(super) fn entries(&mut self) -> impl Iterator<Item = (TableKey, Entry<'_>)> {
        let entries = self.slots.iter_mut().zip(&mut self.pasts);
        let entries = self.keys.iter().zip(entries).filter(|(key, _)| **key != 0);
        entries.map(|(key, (slot, past))| (TableKey(*key), Entry { slot, past }))
    }
}

impl Slot {
    /// Tokens that nobody was told of; stops growing somewhere above 2³¹.
    pub(super) fn unsaid(&self) -> u32 {
        (self.total as u32).wrapping_sub(self.said)
    }

    /// All of it was told, at `at` in milliseconds.
    pub(super) fn say(&mut self, at: u16) {
        (self.said, self.said_at) = (self.total as u32, at);
    }
}

impl Past {
    /// The part of the slot's total in this tenure; stops growing somewhere above 2³¹.
    pub(super) fn tenure(&self, slot: &Slot) -> u32 {
        (slot.total as u32).wrapping_sub(self.began)
    }

    /// Tokens that are in no level which the owner told; stops growing somewhere above 2³¹.
    pub(super) fn unacked(&self, slot: &Slot) -> u32 {
        (slot.total as u32).wrapping_sub(self.acked)
    }

    /// The owner told a level which all but `unacked` tokens are in.
    pub(super) fn ack(&mut self, slot: &Slot, unacked: u32) {
        self.acked = (slot.total as u32).wrapping_sub(unacked);
    }
}

impl Entry<'_> {
    /// A token was admitted.
    pub(super) fn count(&mut self) {
        self.slot.total += 1;
        if self.slot.total.is_multiple_of(SPAN) {
            self.forget();
        }
    }

    /// Keeps the differences between totals from wrapping: none grows beyond what is left here and
    /// a span.
    #[cold]
    fn forget(&mut self) {
        let now = self.slot.total as u32;
        for then in [&mut self.slot.said, &mut self.past.began, &mut self.past.acked] {
            *then = now.wrapping_sub(now.wrapping_sub(*then).min(SPAN as u32 - 1));
        }
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
    fn a_key_takes_at_most_56_bytes() {
        let table = Table::new(7 << 17, 1);
        assert!(table.bytes() <= 56 * (7 << 17), "{} B", table.bytes());
        assert_eq!((table.sets(), table.keys()), (1 << 17, 7 << 17));
        assert!(Table::new(1000, 1).keys() >= 1000);
    }

    #[test]
    fn a_decision_reads_two_cache_lines() {
        let line = |at: *const u8| at.addr() / 64;
        let table = Table::new(100, 1);
        for set in &table.sets {
            let first = line((&raw const *set).cast());
            let set = set.0.lock();
            assert_eq!(line((&raw const set.keys).cast()), first);
            assert_eq!(line((&raw const set.keys[WAYS - 1]).cast()), first);
            for slot in &set.slots {
                let at: *const u8 = (&raw const *slot).cast();
                assert_eq!(line(at), line(at.wrapping_add(size_of::<Slot>() - 1)));
            }
        }
    }

    #[test]
    fn what_was_not_told_for_billions_of_tokens_stays_much() {
        let mut set = Set::default();
        let Place::New(mut entry, _) = set.place(TableKey::new(1), used(1), 12) else {
            panic!("no place")
        };
        for span in 1..6 {
            entry.slot.total = span * SPAN - 1;
            entry.count();
            let (slot, past) = (&*entry.slot, &*entry.past);
            let most = [slot.unsaid(), past.tenure(slot), past.unacked(slot)];
            assert!(most.iter().all(|most| *most == SPAN as u32 - 1 || span == 1), "{most:?}");
            // The most before the next time.
            entry.slot.total += SPAN - 1;
            assert!(entry.past.tenure(entry.slot) > SPAN as u32, "span {span}");
        }
        entry.slot.say(7);
        entry.past.ack(entry.slot, 3);
        entry.count();
        assert_eq!((entry.slot.unsaid(), entry.past.unacked(entry.slot)), (1, 4));
    }

    #[test]
    fn the_fullest_bucket_leaves_first() {
        let mut set = full_set([9, 5, 7, 2, 4, 8, 3]);
        for gone in [4, 7] {
            match set.place(TableKey::new(100 + gone), used(50), 0) {
                Place::New(_, Some(leaver)) => assert_eq!(leaver.key, TableKey::new(gone)),
                _ => panic!("nobody left"),
            }
        }
    }

    #[test]
    fn nobody_emptier_than_the_newcomer_leaves() {
        let mut set = full_set([9, 5, 7, 2, 4, 8, 3]);
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
        for (_, entry) in set.entries() {
            entry.slot.total = 500;
            assert_eq!(entry.past.tenure(entry.slot), 500);
        }
        // Two leave, come back, and begin where they stood or above.
        let mut left = Vec::new();
        for key in [100, 101] {
            let Place::New(_, Some(leaver)) = set.place(TableKey::new(key), used(60), 0) else {
                panic!("nobody left for {key}")
            };
            left.push(leaver.key);
        }
        let mut highest = 0;
        for key in left {
            let Place::New(entry, Some(_)) = set.place(key, used(60), 0) else {
                panic!("no place for {key:?}")
            };
            assert_eq!((entry.slot.total, entry.past.tenure(entry.slot)), (500, 0));
            highest = highest.max(entry.slot.total);
        }
        let Place::New(entry, _) = set.place(TableKey::new(200), used(60), 9_000) else {
            panic!("no place")
        };
        assert_eq!(entry.slot.total, 9_000);
    }

    #[test]
    fn keys_in_any_row_spread_evenly_over_the_sets() {
        let table = Table::new(1 << 13, 5);
        let number = table.sets();
        // One after another, far apart, and differing in their highest bits alone.
        for step in [1, 1 << 20, 0x9e37_79b9_7f4a_7c15, 1 << 48] {
            let mut keys = vec![0u32; number];
            for n in 1..=10 * number as u64 {
                keys[table.set_of(TableKey::new(n.wrapping_mul(step)))] += 1;
            }
            let most = *keys.iter().max().unwrap();
            assert!(most <= 40, "{most} of 10 in one set, {step} apart");
        }
    }

    #[test]
    fn two_nodes_place_keys_differently() {
        let (one, other) = (Table::new(10_000, 1), Table::new(10_000, 2));
        let same =
            (1..1000).map(TableKey::new).filter(|key| one.set_of(*key) == other.set_of(*key));
        assert!(same.count() < 20);
    }
}
