//! What a limiter has done, counted in stripes so that threads do not share a cache line.

use std::sync::atomic::{AtomicU64, Ordering};

const STRIPES: usize = 16;

/// What a limiter has done since it was made, but for `keys`, which is now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitCounts {
    /// Let in, exempt clients not counted.
    pub admitted: u64,
    /// Refused; in shadow mode, those that would have been.
    pub refused: u64,
    /// Made to wait in the queue, whatever became of them then.
    pub delayed: u64,
    /// Slots of the table in use, never more than its size. A key whose bucket is full again keeps
    /// its slot until somebody else needs it.
    pub keys: u64,
    /// Let in without being tracked, as the table had no room for another key.
    pub untracked: u64,
    /// Tokens by which told levels were below what this node held for them: what peers spent.
    pub spent_elsewhere: u64,
    /// Tokens that nobody was ever told of, as their key had to leave the table first.
    pub untold: u64,
    /// Levels that owners told.
    pub told: u64,
    /// Sum over `told` of how far a told level was from what this node held for it, in tokens.
    pub level_error: u64,
    /// Sum over `told` of the tokens that were not in the told level yet.
    pub unsynced: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counts([Stripe; STRIPES]);

#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct Stripe {
    pub(super) admitted: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) delayed: AtomicU64,
    pub(super) keys: AtomicU64,
    pub(super) untracked: AtomicU64,
    pub(super) spent_elsewhere: AtomicU64,
    pub(super) untold: AtomicU64,
    pub(super) told: AtomicU64,
    pub(super) level_error: AtomicU64,
    pub(super) unsynced: AtomicU64,
}

impl Counts {
    /// The stripe for what happens at `place` (a set of the table).
    pub(super) fn at(&self, place: usize) -> &Stripe {
        &self.0[place % STRIPES]
    }

    pub(super) fn sum(&self) -> LimitCounts {
        let sum = |field: fn(&Stripe) -> &AtomicU64| {
            self.0.iter().map(|stripe| field(stripe).load(Ordering::Relaxed)).sum()
        };
        LimitCounts {
            admitted: sum(|s| &s.admitted),
            refused: sum(|s| &s.refused),
            delayed: sum(|s| &s.delayed),
            keys: sum(|s| &s.keys),
            untracked: sum(|s| &s.untracked),
            spent_elsewhere: sum(|s| &s.spent_elsewhere),
            untold: sum(|s| &s.untold),
            told: sum(|s| &s.told),
            level_error: sum(|s| &s.level_error),
            unsynced: sum(|s| &s.unsynced),
        }
    }
}

/// Adds `n` to a count.
pub(super) fn add(count: &AtomicU64, n: u64) {
    count.fetch_add(n, Ordering::Relaxed);
}
