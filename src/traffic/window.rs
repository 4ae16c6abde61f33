//! The window between a limiter and the other nodes: ledger out, levels in.
//! Narrow on purpose: the arithmetic behind it may change without either side noticing.

use std::time::Instant;

use crate::base::{KeyHash, LimitId};

/// One line of a ledger: what this node has admitted for a key. Peers merge lines by the largest
/// `total`; what lies above both `since` and the total they know is news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent {
    /// The limit.
    pub limit: LimitId,
    /// The key.
    pub key: KeyHash,
    /// Tokens, cumulative, only grows while the process lives.
    pub total: u64,
    /// Where `total` stood when the node began to track the key (again): a key that was evicted
    /// and comes back starts above everything that was told of it before.
    pub since: u64,
    /// How many of the tokens still matter to somebody who hears of the key for the first time, or
    /// after a silence; the others have long been refilled.
    pub recent: u32,
}

/// Ledger out: what this node admitted.
pub trait Ledger: Send + Sync {
    /// Moves to `out` up to `most` lines that changed enough to be told now (a threshold of the
    /// limit was passed), or, when `all` is set, every line that changed since it was last told.
    fn drain(&self, now: Instant, all: bool, most: usize, out: &mut Vec<Spent>);

    /// Has `wake` called when a threshold is passed, once between two drains: on a worker's thread,
    /// so it must be quick. Without it, thresholds are noticed when somebody drains.
    fn on_urgent(&self, _wake: Box<dyn Fn() + Send + Sync>) {}
}

/// Levels in: what the others admitted.
pub trait Levels: Send + Sync {
    /// Peers spent `tokens` more of `key`. A key that was never seen here is tracked from now on,
    /// as the peers' spending counts for this node too; unknown limits are ignored.
    fn spent_elsewhere(&self, now: Instant, limit: LimitId, key: KeyHash, tokens: u64);

    /// How many alive nodes share the limits, this one included: sizes the flush thresholds.
    fn nodes(&self, alive: usize);
}

/// The window of a node that is alone: nothing to tell, nobody to ask.
#[derive(Clone, Copy, Debug)]
pub struct Alone;

impl Ledger for Alone {
    fn drain(&self, _: Instant, _: bool, _: usize, _: &mut Vec<Spent>) {}
}

impl Levels for Alone {
    fn spent_elsewhere(&self, _: Instant, _: LimitId, _: KeyHash, _: u64) {}

    fn nodes(&self, _: usize) {}
}
