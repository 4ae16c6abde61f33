//! Grow-only counters by actor. A row is only ever written by its actor and only ever grows, so the
//! largest total seen is the newest: loss, duplication and reordering are harmless.
//!
//! ```text
//!   total     0 ────────── since ─────── known ──────────── total
//!             └ earlier tenures ┘└ merged before ┘└─ grown ─┘
//! ```
//!
//! A total may begin above zero: an actor that stopped tracking a key and begins again starts at
//! `since`, above everything it told before. Only what lies above both `since` and what is known
//! has been spent and not been merged yet.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::base::{Actor, KeyHash, LimitId};

/// Whose tokens a row counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowKey {
    /// The limit.
    pub limit: LimitId,
    /// The key.
    pub key: KeyHash,
    /// Who spent them: the row's only writer.
    pub actor: Actor,
}

/// What an actor tells of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Tokens spent, cumulative.
    pub total: u64,
    /// Where `total` stood when the actor began to track the key; at most `total`.
    pub since: u64,
    /// How many of the tokens are recent enough to matter still to somebody who hears of this key
    /// for the first time.
    pub recent: u32,
}

/// What a merge changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Growth {
    /// Tokens that were not known before. Over any order, loss and repetition these sum up to what
    /// the newest merged row says.
    pub grown: u64,
    /// The part of `grown` that should be debited now: all of it while the row is heard regularly;
    /// no more than the row's recent tokens when it is heard for the first time or after a silence
    /// (its older tokens have long been refilled).
    pub debit: u64,
    /// The row was not known, or had been silent for longer than [`Bounds::silence`].
    pub first: bool,
}

/// What keeps [`Counters`] small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Most rows; further ones are refused and counted.
    pub rows: usize,
    /// A row not heard of for longer is treated like a new one. About twice the longest interval
    /// between two reports, at least 1 s.
    pub silence: Duration,
    /// A row not heard of for longer leaves at the next [`Counters::expire`]. At least `silence`
    /// and the longest window of a limit.
    pub keep: Duration,
}

/// The rows of other actors, as far as they are known.
#[derive(Debug)]
pub struct Counters {
    rows: HashMap<RowKey, Known>,
    bounds: Bounds,
    refused: u64,
    /// When expired rows were last looked for because there was no room.
    searched: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    total: u64,
    heard: Instant,
}

impl Counters {
    /// No rows yet.
    pub fn new(bounds: Bounds) -> Self {
        Counters { rows: HashMap::new(), bounds, refused: 0, searched: None }
    }

    /// Merges what an actor tells. A row that finds no room changes nothing and has no growth.
    pub fn merge(&mut self, key: RowKey, row: Row, now: Instant) -> Growth {
        let since = row.since.min(row.total);
        if let Some(known) = self.rows.get_mut(&key) {
            let first = now.saturating_duration_since(known.heard) > self.bounds.silence;
            let grown = row.total.saturating_sub(known.total.max(since));
            known.total = known.total.max(row.total);
            known.heard = known.heard.max(now);
            return Growth::of(grown, first, row.recent);
        }
        if !self.has_room(now) {
            self.refused += 1;
            return Growth::default();
        }
        self.rows.insert(key, Known { total: row.total, heard: now });
        Growth::of(row.total - since, true, row.recent)
    }

    /// The largest total merged for `key`.
    pub fn total(&self, key: &RowKey) -> Option<u64> {
        self.rows.get(key).map(|known| known.total)
    }

    /// Forgets rows that were silent for [`Bounds::keep`]; call it about once a second.
    pub fn expire(&mut self, now: Instant) {
        let keep = self.bounds.keep;
        self.rows.retain(|_, known| now.saturating_duration_since(known.heard) <= keep);
    }

    /// Forgets an actor that has left or failed; should it speak again, its rows are new.
    pub fn forget(&mut self, actor: Actor) {
        self.rows.retain(|key, _| key.actor != actor);
    }

    /// Rows held.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// No rows held.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Rows that found no room, cumulative.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// A full map is searched for expired rows, but not for every refused row.
    fn has_room(&mut self, now: Instant) -> bool {
        if self.rows.len() < self.bounds.rows {
            return true;
        }
        let rest = self.bounds.silence;
        if self.searched.is_none_or(|at| now.saturating_duration_since(at) >= rest) {
            self.searched = Some(now);
            self.expire(now);
        }
        self.rows.len() < self.bounds.rows
    }
}

impl Growth {
    fn of(grown: u64, first: bool, recent: u32) -> Self {
        let debit = if first { grown.min(u64::from(recent)) } else { grown };
        Growth { grown, debit, first }
    }
}

#[cfg(test)]
mod tests;
