//! The books of one limit: what this node knows, as an owner, of the keys that it keeps the level
//! of. All memory is taken when they are made.
//!
//! ```text
//!   report of an actor ─▶ row (its counter) ─ news ─▶ the key's level ─▶ who must hear of it
//!
//!   head  │ key 8 │ used 8 │ first row 4 │ fresh 2 │ excess 2 │ hot 2 │        26 B per key
//!   row   │ total 4 │ next 4 │ told 4 │ actor 2 │ heard 2 │ rate 2 │ told at 2 │   20 B per actor
//! ```
//!
//! A key is kept as long as its bucket is not full or somebody reports it. When a set of heads is
//! full its fullest bucket goes, as in the table of the limiter; when there is no row left, an actor
//! is folded without one, by what is recent of its use.
//!
//! Books that hear of a key for the first time do not know what the ones before them knew. So for
//! twice the reports' interval they hold two levels: one from a full bucket less all that is
//! reported, and the lowest that a reporter holds, less what is newly spent. The lower one counts.

use std::time::Duration;

use super::bf16::Bf16;
use crate::base::KeyHash;
use crate::base::id::stable_hash;
use crate::crdt::{Counter, Told};
use crate::traffic::meter::{Meter, Ticks, Used, duration, ticks_of};

/// Keys per set.
const WAYS: usize = 8;
/// No row.
const NONE: u32 = u32::MAX;
/// An actor that was silent for twice the interval of reports, but at least so long, is folded like
/// a new one.
const SILENCE: Duration = Duration::from_secs(1);
/// Rows that were silent for longer leave.
const KEEP: Duration = Duration::from_secs(10);
/// Rows of slow limits stay longer: what a node took of one is recent for so long that, told anew, it
/// would be taken off once more.
const KEEP_SLOW: Duration = Duration::from_secs(120);
/// A limit of at most so many tokens per second is slow.
const SLOW: f64 = 100.0;
/// Between two levels told to one reporter without being asked.
const PAUSE: Duration = Duration::from_millis(5);
/// Between two times that everybody is told of a key running low.
const HOT_EVERY: Duration = Duration::from_secs(1);
/// Over which an actor's rate is averaged.
const AVERAGED: f64 = 0.5;
/// A full round of [`Books::sweep`] takes so many calls.
const ROUND: usize = 32;
/// In a row's actor: it wants to be told.
const WANTS: u16 = 1 << 15;

/// When something is folded.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// By the meter.
    pub ticks: Ticks,
    /// Milliseconds since the same beginning.
    ms: u64,
}

impl Moment {
    /// A moment by the meter's ticks.
    pub fn new(ticks: Ticks) -> Self {
        Moment { ticks, ms: duration(ticks).as_millis() as u64 }
    }

    /// Hundredths of a second, wrapping every eleven minutes: rows leave long before.
    fn stamp(self) -> u16 {
        (self.ms / 10) as u16
    }

    /// As [`Moment::stamp`], never 0.
    fn mark(self) -> u16 {
        self.stamp().max(1)
    }
}

fn since(stamp: u16, now: u16) -> Duration {
    Duration::from_millis(u64::from(now.wrapping_sub(stamp)) * 10)
}

/// Where a key's head is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place(u32);

/// A reporter's number; which actor it is knows whoever keeps the books.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reporter(pub u16);

impl Reporter {
    /// Most reporters that can be told apart.
    pub const MOST: usize = WANTS as usize;
}

/// A level to be told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Telling {
    /// Of this key.
    pub key: KeyHash,
    /// Tokens left.
    pub level: f32,
    /// The newest total of the reporter's that is in it.
    pub acked: u32,
    /// Tokens per second that the others take.
    pub remote: f32,
}

/// Whether a key runs low.
#[derive(Clone, Debug, PartialEq)]
pub enum Low {
    /// At least half of its burst is left.
    No,
    /// It does, and everybody was told a moment ago.
    Told,
    /// It does, and everybody is to be told.
    Tell {
        /// The key.
        key: KeyHash,
        /// Tokens left.
        level: f32,
        /// Who reports it anyway and need not be told.
        reporting: Vec<Reporter>,
    },
}

#[derive(Clone, Copy, Debug)]
struct Row {
    counter: Counter,
    next: u32,
    /// The level that the reporter was last told.
    told: f32,
    actor: u16,
    heard: u16,
    rate: Bf16,
    /// When it was, in milliseconds, wrapping.
    told_at: u16,
}

/// The books of one limit.
#[derive(Debug)]
pub struct Books {
    secret: u64,
    sets: usize,
    keys: Box<[u64]>,
    used: Box<[Used]>,
    first: Box<[u32]>,
    /// Since when the books know the key; 0 when they are not new to it any more.
    fresh: Box<[u16]>,
    /// By how much the lowest level that was reported is below ours, while the books are new.
    excess: Box<[Bf16]>,
    /// When everybody was last told that the key runs low; 0 for long ago.
    hot: Box<[u16]>,
    rows: Box<[Row]>,
    free: u32,
    free_rows: usize,
    /// Keys that were folded since the last round of telling, a bit each.
    restless: Box<[u64]>,
    hand: usize,
    held: usize,
    silence: Duration,
    /// For how long books that are new to a key listen for its level.
    adopting: Duration,
    /// Reports that found no place: cumulative.
    pub untracked: u64,
}

impl Books {
    /// Room for `keys` keys and as many rows as twice that; `secret` is this node's alone. A key
    /// that changes is reported every `interval` at least.
    pub fn new(keys: usize, secret: u64, interval: Duration) -> Self {
        let sets = keys.div_ceil(WAYS).max(1);
        let heads = sets * WAYS;
        let rows = 2 * heads;
        let row = |at: usize| Row {
            counter: Counter::default(),
            next: if at + 1 < rows { at as u32 + 1 } else { NONE },
            told: 0.0,
            actor: 0,
            heard: 0,
            rate: Bf16::default(),
            told_at: 0,
        };
        Books {
            secret,
            sets,
            keys: vec![0; heads].into(),
            used: vec![Used::default(); heads].into(),
            first: vec![NONE; heads].into(),
            fresh: vec![0; heads].into(),
            excess: vec![Bf16::default(); heads].into(),
            hot: vec![0; heads].into(),
            rows: (0..rows).map(row).collect(),
            free: 0,
            free_rows: rows,
            restless: vec![0; heads.div_ceil(64)].into(),
            hand: 0,
            held: 0,
            silence: SILENCE.max(2 * interval),
            adopting: 2 * interval,
            untracked: 0,
        }
    }

    /// Folds a report into the key's level; `wants` says whether the reporter is to be told of the
    /// level from now on. `None` when the books have no place for the key.
    pub fn fold(
        &mut self,
        now: Moment,
        meter: &Meter,
        (key, reporter, wants): (KeyHash, Reporter, bool),
        told: Told,
        held: Option<f32>,
    ) -> Option<Place> {
        let Some(at) = self.place(now, meter, key, f64::from(told.tenure.min(told.recent))) else {
            self.untracked += 1;
            return None;
        };
        let gone =
            self.row_of(at, reporter).map(|row| since(self.rows[row as usize].heard, now.stamp()));
        let (news, known) = self.merge(now, at, reporter, wants, told);
        let old = match gone {
            Some(gone) if known => self.take_old(now, meter, at, (news, told.recent), gone),
            _ => 0,
        };
        self.used[at] = meter.debit(self.used[at], now.ticks, f64::from(news - old));
        self.adopt(now, meter, at, (news, known), held);
        self.restless[at / 64] |= 1 << (at % 64);
        Some(Place(at as u32))
    }

    /// Folds a report, then grants the reporter one token more, or not, and says what is left.
    /// `None` when the books have no place for the key.
    pub fn grant(
        &mut self,
        now: Moment,
        meter: &Meter,
        (key, reporter): (KeyHash, Reporter),
        told: Told,
        held: Option<f32>,
    ) -> Option<(bool, f64)> {
        let at = self.fold(now, meter, (key, reporter, true), told, held)?.0 as usize;
        let granted = self.level(now, meter, at) >= 1.0;
        if granted {
            self.used[at] = meter.debit(self.used[at], now.ticks, 1.0);
            // It is counted here already when the reporter tells of it.
            if let Some(row) = self.row_of(at, reporter) {
                self.rows[row as usize].counter.grow();
            }
        }
        Some((granted, self.level(now, meter, at)))
    }

    /// What `reporter` is to be told now; it then counts as told.
    pub fn tell(
        &mut self,
        now: Moment,
        meter: &Meter,
        at: Place,
        reporter: Reporter,
    ) -> Option<Telling> {
        let head = at.0 as usize;
        let level = self.level(now, meter, head) as f32;
        let row = self.row_of(head, reporter)?;
        let remote = self.rate_of_others(now, head, row);
        let key = KeyHash(self.keys[head]);
        let row = &mut self.rows[row as usize];
        (row.told, row.told_at) = (level, now.ms as u16);
        Some(Telling { key, level, acked: row.counter.total(), remote: remote as f32 })
    }

    /// Who else holds a wrong view of the key by now: it differs by a twentieth of the burst (or
    /// by any token when `all` is set), and nothing was told for a moment. The second is whether
    /// somebody has to be looked at again soon.
    pub fn misled(
        &self,
        now: Moment,
        meter: &Meter,
        at: Place,
        all: bool,
    ) -> (Vec<Reporter>, bool) {
        let head = at.0 as usize;
        let level = self.level(now, meter, head);
        let tolerance = if all { 0.5_f64.max(meter.burst() / 200.0) } else { meter.burst() / 20.0 };
        let (mut misled, mut soon) = (Vec::new(), false);
        self.each_row(head, |_, row| {
            let (reporter, wants) = (Reporter(row.actor & !WANTS), row.actor & WANTS != 0);
            if !wants || since(row.heard, now.stamp()) > 2 * self.silence {
                return;
            }
            let ago = (now.ms as u16).wrapping_sub(row.told_at);
            let view = f64::from(row.told) + meter.rate() * f64::from(ago) / 1000.0;
            if (view.min(meter.burst()) - level).abs() < tolerance {
                return;
            }
            if u128::from(ago) < PAUSE.as_millis() {
                soon = true;
            } else {
                misled.push(reporter);
            }
        });
        (misled, soon)
    }

    /// Whether a key runs low, and everybody is to be told; that is once a second at the most.
    pub fn runs_low(&mut self, now: Moment, meter: &Meter, at: Place) -> Low {
        let head = at.0 as usize;
        let level = self.level(now, meter, head);
        if self.keys[head] == 0 || level >= meter.burst() / 2.0 {
            return Low::No;
        }
        let hot = self.hot[head];
        if hot != 0 && since(hot, now.stamp()) < HOT_EVERY {
            return Low::Told;
        }
        self.hot[head] = now.mark();
        let mut reporting = Vec::new();
        let silence = self.silence;
        self.each_row(head, |_, row| {
            if since(row.heard, now.stamp()) <= silence {
                reporting.push(Reporter(row.actor & !WANTS));
            }
        });
        Low::Tell { key: KeyHash(self.keys[head]), level: level as f32, reporting }
    }

    /// Takes the keys that were folded since this was last asked.
    pub fn take_restless(&mut self) -> Vec<Place> {
        let mut places = Vec::new();
        for (word, bits) in self.restless.iter_mut().enumerate() {
            let mut left = std::mem::take(bits);
            while left != 0 {
                places.push(Place(word as u32 * 64 + left.trailing_zeros()));
                left &= left - 1;
            }
        }
        places
    }

    /// Tokens left of `key`, when the books know it.
    pub fn level_of(&self, now: Moment, meter: &Meter, key: KeyHash) -> Option<f64> {
        let at = self.find(key)?;
        Some(self.level(now, meter, at))
    }

    /// Lets go of a part of what has become silent; call it regularly, at least every 10 s.
    pub fn sweep(&mut self, now: Moment, meter: &Meter) {
        let step = self.keys.len().div_ceil(ROUND);
        let keep = if meter.rate() <= SLOW { KEEP_SLOW } else { KEEP };
        for _ in 0..step {
            let at = self.hand;
            self.hand = (self.hand + 1) % self.keys.len();
            if self.keys[at] == 0 {
                continue;
            }
            self.drop_rows(at, |row| since(row.heard, now.stamp()) > keep);
            self.settle(now, meter, at);
            let hot = self.hot[at];
            if hot != 0 && since(hot, now.stamp()) >= HOT_EVERY {
                self.hot[at] = 0;
            }
            if self.first[at] == NONE && self.used[at] <= meter.full(now.ticks) {
                self.forget(at);
            }
        }
    }

    /// Keys held, and rows.
    pub fn held(&self) -> (usize, usize) {
        (self.held, self.rows.len() - self.free_rows)
    }

    /// Bytes, fixed for life.
    pub fn bytes(&self) -> usize {
        let head = 8 + size_of::<Used>() + 4 + 2 + size_of::<Bf16>() + 2;
        self.keys.len() * head + self.rows.len() * size_of::<Row>() + self.restless.len() * 8
    }

    fn set_of(&self, key: KeyHash) -> usize {
        let hash = stable_hash(self.secret, &key.0.to_le_bytes());
        ((u128::from(hash) * self.sets as u128) >> 64) as usize * WAYS
    }

    fn find(&self, key: KeyHash) -> Option<usize> {
        let set = self.set_of(key);
        let place = self.keys[set..set + WAYS].iter().position(|known| *known == key.0.max(1));
        place.map(|at| set + at)
    }

    /// Finds the head of `key`, or makes one, perhaps in the place of a fuller bucket.
    fn place(&mut self, now: Moment, meter: &Meter, key: KeyHash, spent: f64) -> Option<usize> {
        if let Some(at) = self.find(key) {
            self.settle(now, meter, at);
            return Some(at);
        }
        let set = self.set_of(key);
        let at = match self.keys[set..set + WAYS].iter().position(|known| *known == 0) {
            Some(free) => set + free,
            None => {
                let fullest = (set..set + WAYS).min_by_key(|at| self.used[*at])?;
                let newcomer = meter.debit(meter.full(now.ticks), now.ticks, spent);
                if self.used[fullest] > newcomer {
                    return None;
                }
                self.forget(fullest);
                fullest
            }
        };
        self.keys[at] = key.0.max(1);
        self.used[at] = meter.full(now.ticks);
        (self.fresh[at], self.hot[at]) = (now.mark(), 0);
        self.excess[at] = Bf16::default();
        self.held += 1;
        Some(at)
    }

    fn forget(&mut self, at: usize) {
        self.drop_rows(at, |_| true);
        self.keys[at] = 0;
        self.used[at] = Used::default();
        self.restless[at / 64] &= !(1 << (at % 64));
        self.held -= 1;
    }

    /// Merges a report into its row; the news, and whether the reporter was known and not silent.
    fn merge(
        &mut self,
        now: Moment,
        at: usize,
        reporter: Reporter,
        wants: bool,
        told: Told,
    ) -> (u32, bool) {
        let actor = reporter.0 | if wants { WANTS } else { 0 };
        if let Some(row) = self.row_of(at, reporter) {
            let silence = self.silence;
            let row = &mut self.rows[row as usize];
            let gone = since(row.heard, now.stamp());
            let silent = gone > silence;
            let news = row.counter.merge(told, silent);
            let rate = row.rate.get() * decay(gone) + f64::from(news) / AVERAGED;
            (row.rate, row.heard, row.actor) = (Bf16::new(rate), now.stamp(), actor);
            return (news, !silent);
        }
        let (counter, news) = Counter::first(told);
        let row = self.free;
        if row == NONE {
            self.untracked += 1;
            return (news, false);
        }
        self.free = self.rows[row as usize].next;
        self.free_rows -= 1;
        self.rows[row as usize] = Row {
            counter,
            next: self.first[at],
            told: f32::INFINITY,
            actor,
            heard: now.stamp(),
            rate: Bf16::new(f64::from(news) / AVERAGED),
            told_at: (now.ms as u16).wrapping_sub(PAUSE.as_millis() as u16),
        };
        self.first[at] = row;
        (news, false)
    }

    /// Of `news` beyond what is recent of it, the reporter's even share was refilled while it said
    /// nothing. Where the bucket was full meanwhile, that refill is not in our level; so these tokens
    /// are taken off as of when the reporter was last heard. How many they are.
    fn take_old(
        &mut self,
        now: Moment,
        meter: &Meter,
        at: usize,
        (news, recent): (u32, u32),
        gone: Duration,
    ) -> u32 {
        let old = news.saturating_sub(recent);
        if old == 0 || !meter.refills() || self.level(now, meter, at) < meter.burst() / 2.0 {
            return 0;
        }
        let then = now.ticks.saturating_sub(ticks_of(gone));
        self.used[at] = meter.debit(self.used[at], then, f64::from(old)).max(self.used[at]);
        old
    }

    /// While the books are new to a key: the lowest level that a reporter holds.
    fn adopt(
        &mut self,
        now: Moment,
        meter: &Meter,
        at: usize,
        (news, known): (u32, bool),
        held: Option<f32>,
    ) {
        if self.fresh[at] == 0 {
            return;
        }
        let mut excess = self.excess[at].get();
        if !known {
            // In what a reporter holds, its own spending is taken off already.
            excess = (excess - f64::from(news)).max(0.0);
        }
        if let Some(held) = held.filter(|held| held.is_finite()) {
            let own = meter.level(self.used[at], now.ticks);
            excess = excess.max(own - f64::from(held));
        }
        self.excess[at] = Bf16::new(excess);
    }

    /// Once the books are not new to a key any more, the lower of the two levels is the level.
    fn settle(&mut self, now: Moment, meter: &Meter, at: usize) {
        let fresh = self.fresh[at];
        if fresh != 0 && since(fresh, now.stamp()) >= self.adopting {
            let excess = std::mem::take(&mut self.excess[at]).get();
            self.used[at] = meter.debit(self.used[at], now.ticks, excess);
            self.fresh[at] = 0;
        }
    }

    fn level(&self, now: Moment, meter: &Meter, at: usize) -> f64 {
        let excess = if self.fresh[at] == 0 { 0.0 } else { self.excess[at].get() };
        meter.level(self.used[at], now.ticks) - excess
    }

    fn row_of(&self, at: usize, reporter: Reporter) -> Option<u32> {
        let mut row = self.first[at];
        while row != NONE {
            if self.rows[row as usize].actor & !WANTS == reporter.0 {
                return Some(row);
            }
            row = self.rows[row as usize].next;
        }
        None
    }

    fn each_row(&self, at: usize, mut visit: impl FnMut(u32, &Row)) {
        let mut row = self.first[at];
        while row != NONE {
            visit(row, &self.rows[row as usize]);
            row = self.rows[row as usize].next;
        }
    }

    fn rate_of_others(&self, now: Moment, at: usize, own: u32) -> f64 {
        let mut sum = 0.0;
        self.each_row(at, |row, other| {
            if row != own {
                sum += other.rate.get() * decay(since(other.heard, now.stamp()));
            }
        });
        sum
    }

    fn drop_rows(&mut self, at: usize, gone: impl Fn(&Row) -> bool) {
        let (mut row, mut kept) = (self.first[at], NONE);
        while row != NONE {
            let next = self.rows[row as usize].next;
            if gone(&self.rows[row as usize]) {
                self.rows[row as usize].next = self.free;
                self.free = row;
                self.free_rows += 1;
            } else {
                self.rows[row as usize].next = kept;
                kept = row;
            }
            row = next;
        }
        self.first[at] = kept;
    }
}

/// What is left of a rate after `gone`.
fn decay(gone: Duration) -> f64 {
    (-gone.as_secs_f64() / AVERAGED).exp()
}

#[cfg(test)]
mod tests;
