//! The window between a limiter and the other nodes: ledger out, levels in, one async question.
//! Narrow on purpose: the arithmetic behind it may change without either side noticing.

use std::future::Future;
use std::pin::Pin;
use std::time::Instant;

use crate::base::{KeyHash, LimitId};

/// One line of a ledger: what this node has admitted for a key since it began to track it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent {
    /// The limit.
    pub limit: LimitId,
    /// The key.
    pub key: KeyHash,
    /// Tokens, cumulative, only grows while the process lives.
    pub total: u64,
}

/// Ledger out: what this node admitted.
pub trait Ledger: Send + Sync {
    /// Moves to `out` up to `most` lines that changed enough to be told now (a threshold of the
    /// limit was passed), or, when `all` is set, every line that changed since it was last told.
    fn drain(&self, now: Instant, all: bool, most: usize, out: &mut Vec<Spent>);
}

/// Levels in: what the others admitted.
pub trait Levels: Send + Sync {
    /// Peers spent `tokens` more of `key`; unknown limits and keys that this node could not track
    /// are ignored.
    fn spent_elsewhere(&self, now: Instant, limit: LimitId, key: KeyHash, tokens: u64);

    /// How many alive nodes share the limits, this one included: sizes the flush thresholds.
    fn nodes(&self, alive: usize);
}

/// The async question (strict mode): may `tokens` of `key` be spent, and how many were left?
pub trait Question: Send + Sync {
    /// `None` when nobody could be asked in time.
    fn ask(
        &self,
        limit: LimitId,
        key: KeyHash,
        tokens: u32,
    ) -> Pin<Box<dyn Future<Output = Option<f64>> + Send + '_>>;
}

/// The window of a node that is alone: nobody to ask.
#[derive(Clone, Copy, Debug)]
pub struct Alone;

impl Question for Alone {
    fn ask(
        &self,
        _: LimitId,
        _: KeyHash,
        _: u32,
    ) -> Pin<Box<dyn Future<Output = Option<f64>> + Send + '_>> {
        Box::pin(std::future::ready(None))
    }
}
