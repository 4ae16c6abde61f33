//! The window between a limiter and the other nodes: reports out, levels in. Narrow on purpose: who
//! keeps a key's books, and how they are reached, is the other side's.

use std::time::{Duration, Instant};

use super::meter::Meter;
use super::plan::Algorithm;
use crate::base::{KeyHash, LimitId};

/// What this node has admitted for a key. Reports merge by the largest `total`: losing, doubling
/// or reordering them is harmless.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Report {
    /// The limit.
    pub limit: LimitId,
    /// The key.
    pub key: KeyHash,
    /// Tokens, cumulative, only grows while the process lives.
    pub total: u64,
    /// The part of `total` since the node began to track the key (again); stops at its maximum.
    pub tenure: u32,
    /// How many of the tokens still matter to somebody who hears of the key for the first time, or
    /// after a silence; the others have long been refilled.
    pub recent: u32,
    /// What this node holds for the level; `None` until the key's owner has answered once.
    pub level: Option<f32>,
}

/// What the owner of a key answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level {
    /// Tokens left over the whole cluster; below zero when more was admitted than there was.
    pub level: f32,
    /// The low bits of the newest `total` of this node's that is in `level`.
    pub acked: u32,
    /// Tokens per second that the other nodes take at present.
    pub remote: f32,
}

/// How many share the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Company {
    /// Alive nodes, this one included.
    pub alive: usize,
    /// Nodes that are or should be there: those alive, those that failed and did not leave.
    pub known: usize,
}

impl Company {
    /// A node that never had a peer.
    pub const ALONE: Company = Company { alive: 1, known: 1 };

    /// No peer is alive, though there should be some.
    pub fn isolated(self) -> bool {
        self.alive <= 1 && self.known > 1
    }
}

/// Reports out: what this node admitted.
pub trait Ledger: Send + Sync {
    /// Moves to `out` up to `most` reports that are worth telling now (a threshold of the limit was
    /// passed), or, when `all` is set, all that changed since they were last told.
    fn drain(&self, now: Instant, all: bool, most: usize, out: &mut Vec<Report>);

    /// The report of one key as it is now, when the key is tracked.
    fn report(&self, now: Instant, limit: LimitId, key: KeyHash) -> Option<Report>;

    /// Has `wake` called when a threshold is passed, once between two drains: on a worker's thread,
    /// so it must be quick. Without it, thresholds are noticed when somebody drains.
    fn on_urgent(&self, _wake: Box<dyn Fn() + Send + Sync>) {}
}

/// Levels in: what the cluster as a whole has left.
pub trait Levels: Send + Sync {
    /// The owner of a key told its level.
    fn told(&self, now: Instant, limit: LimitId, key: KeyHash, told: Level);

    /// The owner of a key says that it runs low: from now on this node reports what it takes of it,
    /// however little. A key that was not tracked here is tracked from now on, at `level`.
    fn hot(&self, now: Instant, limit: LimitId, key: KeyHash, level: f32);

    /// The owner of a key has not answered for `during` more: what the other nodes take meanwhile,
    /// as far as it is known, is taken from the bucket.
    fn silent(&self, now: Instant, limit: LimitId, key: KeyHash, during: Duration);

    /// Who shares the limits.
    fn company(&self, company: Company);

    /// How `limit` counts, its meter by ticks since `start`; `None` for a limit that this node does
    /// not have.
    fn counting(&self, limit: LimitId, start: Instant) -> Option<Counting>;
}

/// How a limit counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Counting {
    /// As it is meant.
    pub algorithm: Algorithm,
    /// As it is at present: slower, perhaps, while members are lost.
    pub meter: Meter,
    /// Most keys that are tracked.
    pub keys: usize,
}

/// The window of a node that is alone: nothing to tell, nobody to ask.
#[derive(Clone, Copy, Debug)]
pub struct Alone;

impl Ledger for Alone {
    fn drain(&self, _: Instant, _: bool, _: usize, _: &mut Vec<Report>) {}

    fn report(&self, _: Instant, _: LimitId, _: KeyHash) -> Option<Report> {
        None
    }
}

impl Levels for Alone {
    fn told(&self, _: Instant, _: LimitId, _: KeyHash, _: Level) {}

    fn hot(&self, _: Instant, _: LimitId, _: KeyHash, _: f32) {}

    fn silent(&self, _: Instant, _: LimitId, _: KeyHash, _: Duration) {}

    fn company(&self, _: Company) {}

    fn counting(&self, _: LimitId, _: Instant) -> Option<Counting> {
        None
    }
}
