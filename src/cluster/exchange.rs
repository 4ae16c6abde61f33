//! Use of limits between nodes. Every key has an owner, and a backup, by rendezvous hashing among the
//! members that share: they fold what all nodes report into one level per key, and the owner tells
//! it to those who report.
//!
//! ```text
//!   ledger ─drain─▶ report ─┬─▶ the owner's books ─ level ─▶ back to the reporter
//!                           │         ├─ to others whose view is wrong by now
//!                           │         └─ runs low: to everybody, so that the quiet ones report
//!                           └─▶ the backup's books, without an answer
//! ```
//!
//! Reports are cumulative, so losing, doubling or reordering them harms nothing. An owner that does
//! not answer is asked again; meanwhile what the others take is assumed; then its backup is asked
//! instead, for a while, and the owner told without an answer, lest it miss what it is asked of by
//! others. Books of a limit that this node does not have are kept by what the reporter
//! says of it, so that nodes whose files differ still agree.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::books::{Books, Low, Moment, Place, Reporter, Telling};
use super::line::Line;
use super::owners::{Owners, Pair};
use super::reporters::Reporters;
use super::wire::limits::{
    Counts, Hot, HotRow, LevelRow, Levels as LevelRows, MOST_HOT, MOST_LEVELS, MOST_REPORTS,
    ReportRow, Reports,
};
use super::wire::pack;
use super::wire::records::Record;
use crate::base::{Actor, KeyHash, LimitId};
use crate::crdt::Told;
use crate::traffic::meter::{Meter, ticks};
use crate::traffic::{Answer, Ledger, Level, Levels, Report};

/// Every changed key is reported at least this often (the design's T).
pub const INTERVAL: Duration = Duration::from_millis(200);
/// Between two looks for urgent reports while there is traffic.
pub const BUSY: Duration = Duration::from_millis(5);
/// Without traffic for this long the ledger is looked at once per interval only, or when it is
/// urgent.
const QUIET_AFTER: Duration = Duration::from_secs(1);
/// A look that comes later than it should by this shows that this node stood still.
const STALL: Duration = Duration::from_millis(50);
/// Reports taken from the ledger at once.
const MOST_DRAINED: usize = 8192;
/// Between two datagrams of questions and answers to one peer.
const TOGETHER: Duration = Duration::from_millis(2);
/// Bytes that a report costs: a row to the owner, and one to the backup.
const REPORTED: usize = 56;
/// Limits that only others have, for which books are kept.
const MOST_FOREIGN: usize = 64;
/// Keys in the books of such a limit.
const FOREIGN_KEYS: usize = 2048;
/// They are thrown away when nobody reported for this long.
const FOREIGN_KEPT: Duration = Duration::from_secs(60);

/// What went wrong and right, cumulative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Times that an owner did not answer and its backup was asked instead.
    pub failovers: u64,
    /// Reports sent again.
    pub resent: u64,
    /// Reports told, answered or not.
    pub reported: u64,
    /// Levels told.
    pub levels: u64,
    /// Times that a node was told of a key that runs low.
    pub hot: u64,
}

/// Both directions.
#[derive(Debug)]
pub struct Exchange {
    own: Actor,
    began: Instant,
    unix_ms: u64,
    secret: u64,
    interval: Duration,
    owners: Owners,
    books: BTreeMap<LimitId, Shelf>,
    reporters: Reporters,
    lines: BTreeMap<Actor, Line>,
    seq: u32,
    /// Keys with a reporter that was told only just now.
    soon: BTreeSet<(LimitId, Place)>,
    /// Keys that run low and went on falling after everybody was told.
    falling: BTreeSet<(LimitId, Place)>,
    out: Out,
    /// Questions and answers, by peer, and when the next may go: many at once go together.
    posted: BTreeMap<Actor, Posted>,
    last_look: Instant,
    next_look: Instant,
    next_interval: Instant,
    last_traffic: Option<Instant>,
    drained: Vec<Report>,
    /// What was done so far.
    pub counted: Counted,
}

/// The books of one limit.
#[derive(Debug)]
struct Shelf {
    books: Books,
    keys: usize,
    /// How the reporters count, when this node does not have the limit; and when they last did.
    foreign: Option<(Meter, Instant)>,
}

/// What is to be sent, by peer; ordered, so that a run with one seed is one run.
#[derive(Debug, Default)]
struct Out {
    reports: BTreeMap<(Actor, LimitId, bool), Vec<ReportRow>>,
    levels: BTreeMap<(Actor, LimitId, u32), Vec<LevelRow>>,
    hot: BTreeMap<(Actor, LimitId), Vec<HotRow>>,
    counts: BTreeMap<LimitId, Counts>,
}

/// Questions and answers for one peer.
#[derive(Debug)]
struct Posted {
    records: Vec<Record>,
    next: Instant,
}

/// What is folded: whose report, how, and what to do about it.
struct Fold {
    actor: Actor,
    seq: u32,
    wants: bool,
}

impl Exchange {
    /// Of the node `own`, alone; `unix_ms` is the wall clock now, `secret` this node's alone, and
    /// `interval` the longest time between two reports of a key that changes.
    pub fn new(own: Actor, now: Instant, unix_ms: u64, secret: u64, interval: Duration) -> Self {
        Exchange {
            own,
            began: now,
            unix_ms,
            secret,
            interval,
            owners: Owners::new([own]),
            books: BTreeMap::new(),
            reporters: Reporters::default(),
            lines: BTreeMap::new(),
            seq: 0,
            soon: BTreeSet::new(),
            falling: BTreeSet::new(),
            out: Out::default(),
            posted: BTreeMap::new(),
            last_look: now,
            next_look: now,
            next_interval: now,
            last_traffic: None,
            drained: Vec::new(),
            counted: Counted::default(),
        }
    }

    /// When to look at the ledger next.
    pub fn due(&self) -> Instant {
        let posted = self.posted.values().filter(|posted| !posted.records.is_empty());
        posted.map(|posted| posted.next).fold(self.next_look, Instant::min)
    }

    /// Something should be told now: the next look comes as soon as looks may come.
    pub fn hurry(&mut self, now: Instant) {
        self.next_look = self.next_look.min(now.max(self.last_look + BUSY));
    }

    /// Who shares the limits from now on, this node included.
    pub fn shared_by(&mut self, members: impl IntoIterator<Item = Actor>) {
        self.owners = Owners::new(members);
        let there: BTreeSet<Actor> = self.owners.members().iter().copied().collect();
        self.lines.retain(|peer, _| there.contains(peer));
        self.posted.retain(|peer, _| there.contains(peer));
    }

    /// Who keeps the books of keys.
    pub fn owners(&self) -> &Owners {
        &self.owners
    }

    /// Looks at the ledger, when it is time; what is to be sent is then asked for by
    /// [`Exchange::payloads`]. About `bytes` of new reports are sent at the most; whether there were
    /// more.
    pub fn look(
        &mut self,
        now: Instant,
        ledger: &dyn Ledger,
        levels: &dyn Levels,
        bytes: usize,
    ) -> bool {
        if now < self.next_look {
            return false;
        }
        let late = now.saturating_duration_since(self.next_look);
        if late > STALL {
            self.lines.values_mut().for_each(|line| line.excuse(late));
        }
        self.last_look = now;
        let all = now >= self.next_interval;
        let mut more = false;
        if bytes > 0 && self.owners.members().len() > 1 {
            let mut drained = std::mem::take(&mut self.drained);
            let most = (bytes / REPORTED).clamp(1, MOST_DRAINED);
            ledger.drain(now, all, most, &mut drained);
            more = drained.len() == most;
            for report in drained.drain(..) {
                self.last_traffic = Some(now);
                self.route(now, report, levels);
            }
            self.drained = drained;
        }
        self.look_at_lines(now, ledger, levels);
        self.tell_soon(now, levels);
        if all {
            // What was cut off is told as soon as it may.
            self.next_interval = now + if more { BUSY } else { self.interval };
            self.tell_all(now, levels);
            self.sweep(now, levels);
        }
        let busy = self.last_traffic.is_some_and(|at| now.duration_since(at) < QUIET_AFTER)
            || self.lines.values().any(Line::waiting);
        self.next_look = now + if busy { BUSY } else { self.interval };
        more
    }

    /// A token of a key whose books this node keeps is asked for by `from`; `None` when the books
    /// have no place for it.
    pub fn grant(
        &mut self,
        now: Instant,
        from: Actor,
        (limit, said): (LimitId, Option<Counts>),
        row: ReportRow,
        levels: &dyn Levels,
    ) -> Option<Answer> {
        let meter = self.shelf(now, limit, said, levels)?;
        let moment = self.moment(now);
        let reporter = self.reporters.number(now, from)?;
        let told = Told { total: row.total, tenure: row.tenure, recent: row.recent };
        let key = KeyHash(u64::from_be_bytes(row.key));
        let books = &mut self.books.get_mut(&limit)?.books;
        let (granted, level) = books.grant(moment, &meter, (key, reporter), told, row.level)?;
        Some(if granted { Answer::Granted { level } } else { Answer::Refused { level } })
    }

    /// How a limit of this node's counts, to be told to an owner that may not have it.
    pub fn counts(&self, limit: LimitId, levels: &dyn Levels) -> Option<Counts> {
        levels.counting(limit, self.began).map(|counting| counting.algorithm.into())
    }

    /// Reports of a peer came in.
    pub fn hear_reports(
        &mut self,
        now: Instant,
        from: Actor,
        reports: &Reports,
        levels: &dyn Levels,
    ) {
        let limit = LimitId(reports.limit);
        let Some(meter) = self.shelf(now, limit, Some(reports.counts), levels) else { return };
        // While others are busy this node has to look often as well, for it tells them.
        self.last_traffic = Some(now);
        let fold = Fold { actor: from, seq: reports.seq, wants: reports.seq != 0 };
        for row in reports.rows.iter().take(MOST_REPORTS) {
            let told = Told { total: row.total, tenure: row.tenure, recent: row.recent };
            let key = KeyHash(u64::from_be_bytes(row.key));
            self.fold(now, limit, &meter, &fold, (key, told, row.level), levels);
        }
        self.hurry(now);
    }

    /// Levels came in of a peer that keeps books.
    pub fn hear_levels(
        &mut self,
        now: Instant,
        from: Actor,
        told: &LevelRows,
        levels: &dyn Levels,
    ) {
        let limit = LimitId(told.limit);
        let keys: Vec<KeyHash> =
            told.rows.iter().map(|row| KeyHash(u64::from_be_bytes(row.key))).collect();
        if told.seq != 0
            && let Some(line) = self.lines.get_mut(&from)
        {
            line.answered(now, told.seq);
            line.superseded(limit, &keys, told.seq);
        }
        for (key, row) in keys.into_iter().zip(&told.rows) {
            // Only who is asked at present is believed: what a backup pushes is older or partial.
            if self.authority(now, limit, key) == Some(from) {
                let level = Level { level: row.level, acked: row.acked, remote: row.remote };
                levels.told(now, limit, key, level);
            }
        }
    }

    /// Keys run low, says a peer that keeps books.
    pub fn hear_hot(&mut self, now: Instant, from: Actor, hot: &Hot, levels: &dyn Levels) {
        let limit = LimitId(hot.limit);
        for HotRow { key, level } in hot.rows.iter().take(MOST_HOT).copied() {
            let key = KeyHash(u64::from_be_bytes(key));
            if self.authority(now, limit, key) == Some(from) {
                levels.hot(now, limit, key, level);
                self.last_traffic = Some(now);
            }
        }
        self.hurry(now);
    }

    /// A question or an answer for `to`: sent at once, but when many come, together.
    pub fn post(&mut self, now: Instant, to: Actor, record: Record) {
        let empty = || Posted { records: Vec::new(), next: now };
        self.posted.entry(to).or_insert_with(empty).records.push(record);
    }

    /// What is to be sent now.
    pub fn payloads(&mut self, now: Instant) -> Vec<(Actor, Vec<u8>)> {
        let out = std::mem::take(&mut self.out);
        let mut records: BTreeMap<Actor, Vec<Record>> = BTreeMap::new();
        for (to, posted) in &mut self.posted {
            if posted.next <= now && !posted.records.is_empty() {
                records.insert(*to, std::mem::take(&mut posted.records));
                posted.next = now + TOGETHER;
            }
        }
        for ((to, limit, wants), rows) in out.reports {
            let Some(counts) = out.counts.get(&limit).copied() else { continue };
            for rows in rows.chunks(MOST_REPORTS) {
                let seq = if wants { self.sent(now, to, limit, rows) } else { 0 };
                self.counted.reported += rows.len() as u64;
                let reports = Reports { seq, limit: limit.0, counts, rows: rows.to_vec() };
                records.entry(to).or_default().push(Record::Reports(reports));
            }
        }
        for ((to, limit, seq), rows) in out.levels {
            self.counted.levels += rows.len() as u64;
            for rows in rows.chunks(MOST_LEVELS) {
                let told = LevelRows { seq, limit: limit.0, rows: rows.to_vec() };
                records.entry(to).or_default().push(Record::Levels(told));
            }
        }
        for ((to, limit), rows) in out.hot {
            self.counted.hot += rows.len() as u64;
            for rows in rows.chunks(MOST_HOT) {
                let hot = Hot { limit: limit.0, rows: rows.to_vec() };
                records.entry(to).or_default().push(Record::Hot(hot));
            }
        }
        let packed = |(to, records): (Actor, Vec<Record>)| {
            pack(records.iter().map(Record::bytes)).into_iter().map(move |payload| (to, payload))
        };
        records.into_iter().flat_map(packed).collect()
    }

    /// Keys that this node keeps books of, and rows in them.
    pub fn rows(&self) -> (usize, usize) {
        self.books
            .values()
            .map(|shelf| shelf.books.held())
            .fold((0, 0), |sum, held| (sum.0 + held.0, sum.1 + held.1))
    }

    /// Bytes of all books.
    pub fn bytes(&self) -> usize {
        self.books.values().map(|shelf| shelf.books.bytes()).sum()
    }

    /// Reports that books had no place for, cumulative.
    pub fn untracked(&self) -> u64 {
        self.books.values().map(|shelf| shelf.books.untracked).sum()
    }

    /// What this node's books say of a key.
    pub fn level(&self, now: Instant, limit: LimitId, key: KeyHash, meter: &Meter) -> Option<f64> {
        self.books.get(&limit)?.books.level_of(self.moment(now), meter, key)
    }

    /// The usual time from a report to its answer, of the slowest line; zero until there was one.
    pub fn rtt(&self) -> Duration {
        self.lines.values().map(Line::rtt).max().unwrap_or_default()
    }

    /// The usual time from a report to its answer, of the line to `peer`.
    pub fn rtt_to(&self, peer: Actor) -> Duration {
        self.lines.get(&peer).map(Line::rtt).unwrap_or_default()
    }

    /// Who is asked of a key at present: its primary, or the backup while that does not answer.
    pub fn authority(&self, now: Instant, limit: LimitId, key: KeyHash) -> Option<Actor> {
        let Pair { primary, backup } = self.owners.of(limit, key)?;
        match backup {
            Some(backup) if self.given_up(now, primary) => Some(backup),
            _ => Some(primary),
        }
    }

    fn given_up(&self, now: Instant, peer: Actor) -> bool {
        self.lines.get(&peer).is_some_and(|line| line.given_up(now))
    }

    fn moment(&self, now: Instant) -> Moment {
        Moment::new(ticks(self.began, now))
    }

    /// Brings a report to whoever keeps the books of its key.
    fn route(&mut self, now: Instant, report: Report, levels: &dyn Levels) {
        let Report { limit, key, .. } = report;
        let Some(Pair { primary, backup }) = self.owners.of(limit, key) else { return };
        // One that is not asked for a while may be alive, and be asked by others: it hears all.
        let (asked, other) = match backup {
            Some(backup) if self.given_up(now, primary) => (backup, Some(primary)),
            backup => (primary, backup),
        };
        self.bring(now, asked, &report, true, levels);
        if let Some(other) = other {
            self.bring(now, other, &report, false, levels);
        }
    }

    fn bring(
        &mut self,
        now: Instant,
        to: Actor,
        report: &Report,
        wants: bool,
        levels: &dyn Levels,
    ) {
        let Report { limit, key, total, tenure, recent, level } = *report;
        if to == self.own {
            let Some(meter) = self.shelf(now, limit, None, levels) else { return };
            let fold = Fold { actor: to, seq: 0, wants };
            let told = Told { total: total as u32, tenure, recent };
            self.fold(now, limit, &meter, &fold, (key, told, level), levels);
            return;
        }
        if let Entry::Vacant(counts) = self.out.counts.entry(limit) {
            let Some(counting) = levels.counting(limit, self.began) else { return };
            counts.insert(counting.algorithm.into());
        }
        let row = ReportRow::from(*report);
        self.out.reports.entry((to, limit, wants)).or_default().push(row);
    }

    /// Folds one report into the books, answers it, and tells whom else it concerns.
    fn fold(
        &mut self,
        now: Instant,
        limit: LimitId,
        meter: &Meter,
        fold: &Fold,
        (key, told, held): (KeyHash, Told, Option<f32>),
        levels: &dyn Levels,
    ) {
        let moment = self.moment(now);
        let Some(reporter) = self.reporters.number(now, fold.actor) else { return };
        let Some(shelf) = self.books.get_mut(&limit) else { return };
        let Some(at) = shelf.books.fold(moment, meter, (key, reporter, fold.wants), told, held)
        else {
            return;
        };
        if fold.wants {
            if let Some(telling) = shelf.books.tell(moment, meter, at, reporter) {
                self.tell(now, limit, fold.actor, fold.seq, telling, levels);
            }
        } else if self.owners.of(limit, key).is_none_or(|pair| pair.primary != self.own) {
            // It is the owner's affair whom else this concerns, though it was not asked by this one.
            return;
        }
        self.tell_misled(now, limit, meter, at, false, levels);
        self.tell_low(now, limit, meter, at, levels);
    }

    /// Tells everybody of a key that runs low, at once and again while it falls.
    fn tell_low(
        &mut self,
        now: Instant,
        limit: LimitId,
        meter: &Meter,
        at: Place,
        levels: &dyn Levels,
    ) {
        let moment = self.moment(now);
        let Some(shelf) = self.books.get_mut(&limit) else { return };
        match shelf.books.runs_low(moment, meter, at) {
            Low::Tell { key, level, reporting } => {
                self.falling.remove(&(limit, at));
                self.tell_hot(now, limit, (key, level), &reporting, levels);
            }
            Low::Told => {
                self.falling.insert((limit, at));
            }
            Low::No => {
                self.falling.remove(&(limit, at));
            }
        }
    }

    fn tell(
        &mut self,
        now: Instant,
        limit: LimitId,
        to: Actor,
        seq: u32,
        telling: Telling,
        levels: &dyn Levels,
    ) {
        let Telling { key, level, acked, remote } = telling;
        if to == self.own {
            levels.told(now, limit, key, Level { level, acked, remote });
            return;
        }
        let row = LevelRow { key: key.0.to_be_bytes(), level, acked, remote };
        self.out.levels.entry((to, limit, seq)).or_default().push(row);
    }

    /// Tells a key's level to those who hold a wrong one.
    fn tell_misled(
        &mut self,
        now: Instant,
        limit: LimitId,
        meter: &Meter,
        at: Place,
        all: bool,
        levels: &dyn Levels,
    ) {
        let moment = self.moment(now);
        let Some(shelf) = self.books.get_mut(&limit) else { return };
        let (misled, soon) = shelf.books.misled(moment, meter, at, all);
        if soon {
            self.soon.insert((limit, at));
        }
        for reporter in misled {
            let Some(actor) = self.reporters.actor(reporter) else { continue };
            let there = self.owners.members().contains(&actor);
            let Some(shelf) = self.books.get_mut(&limit).filter(|_| there) else { continue };
            if let Some(telling) = shelf.books.tell(moment, meter, at, reporter) {
                self.tell(now, limit, actor, 0, telling, levels);
            }
        }
    }

    fn tell_hot(
        &mut self,
        now: Instant,
        limit: LimitId,
        (key, level): (KeyHash, f32),
        reporting: &[Reporter],
        levels: &dyn Levels,
    ) {
        let reporting: BTreeSet<Actor> =
            reporting.iter().filter_map(|reporter| self.reporters.actor(*reporter)).collect();
        for &member in self.owners.members() {
            if member == self.own {
                levels.hot(now, limit, key, level);
            } else if !reporting.contains(&member) {
                let row = HotRow { key: key.0.to_be_bytes(), level };
                self.out.hot.entry((member, limit)).or_default().push(row);
            }
        }
    }

    /// Those who were told only a moment ago when a key's level changed.
    fn tell_soon(&mut self, now: Instant, levels: &dyn Levels) {
        for (limit, at) in std::mem::take(&mut self.soon) {
            if let Some(meter) = self.meter(limit, levels) {
                self.tell_misled(now, limit, &meter, at, false, levels);
            }
        }
    }

    /// Everybody whose view is off by any token.
    fn tell_all(&mut self, now: Instant, levels: &dyn Levels) {
        let limits: Vec<LimitId> = self.books.keys().copied().collect();
        for limit in limits {
            let Some(meter) = self.meter(limit, levels) else { continue };
            let Some(shelf) = self.books.get_mut(&limit) else { continue };
            for at in shelf.books.take_restless() {
                self.tell_misled(now, limit, &meter, at, true, levels);
            }
        }
        for (limit, at) in self.falling.clone() {
            match self.meter(limit, levels) {
                Some(meter) => self.tell_low(now, limit, &meter, at, levels),
                None => self.falling.clear(),
            }
        }
    }

    fn look_at_lines(&mut self, now: Instant, ledger: &dyn Ledger, levels: &dyn Levels) {
        let mut again = BTreeSet::new();
        for line in self.lines.values_mut().filter(|line| line.waiting()) {
            let silence = line.look(now);
            for (limit, key, during) in silence.assume {
                levels.silent(now, limit, key, during);
            }
            again.extend(silence.resend);
            self.counted.failovers += u64::from(silence.gave_up);
        }
        for (limit, key) in again {
            if let Some(report) = ledger.report(now, limit, key) {
                self.counted.resent += 1;
                self.route(now, report, levels);
            }
        }
    }

    fn sweep(&mut self, now: Instant, levels: &dyn Levels) {
        self.reporters.forget_silent(now);
        let moment = self.moment(now);
        let began = self.began;
        self.books.retain(|limit, shelf| {
            let meter = match (levels.counting(*limit, began), &shelf.foreign) {
                (Some(counting), _) => {
                    shelf.foreign = None;
                    counting.meter
                }
                (None, Some((meter, heard))) => {
                    if now.saturating_duration_since(*heard) > FOREIGN_KEPT {
                        return false;
                    }
                    *meter
                }
                // This node had the limit until a moment ago; others may have it still.
                (None, None) => return false,
            };
            shelf.books.sweep(moment, &meter);
            true
        });
    }

    /// How a limit counts whose books there are.
    fn meter(&self, limit: LimitId, levels: &dyn Levels) -> Option<Meter> {
        match levels.counting(limit, self.began) {
            Some(counting) => Some(counting.meter),
            None => self.books.get(&limit)?.foreign.map(|(meter, _)| meter),
        }
    }

    /// Makes sure that there are books of `limit`, and says how it counts: as this node has it, or
    /// as the reporter says.
    fn shelf(
        &mut self,
        now: Instant,
        limit: LimitId,
        said: Option<Counts>,
        levels: &dyn Levels,
    ) -> Option<Meter> {
        let own = levels.counting(limit, self.began);
        let (meter, keys, foreign) = match own {
            Some(counting) => (counting.meter, counting.keys / 2, None),
            None => {
                let unix_ms = self.unix_ms;
                let meter = Meter::new(said.and_then(Counts::algorithm)?, unix_ms);
                (meter, FOREIGN_KEYS, Some((meter, now)))
            }
        };
        let known = self.books.get(&limit).map(|shelf| shelf.keys);
        if known != Some(keys) {
            let foreigners = self.books.values().filter(|shelf| shelf.foreign.is_some()).count();
            if foreign.is_some() && known.is_none() && foreigners >= MOST_FOREIGN {
                return None;
            }
            let secret = self.secret ^ limit.0;
            let books = Books::new(keys, secret, self.interval);
            self.books.insert(limit, Shelf { books, keys, foreign });
        } else if let Some(shelf) = self.books.get_mut(&limit) {
            shelf.foreign = foreign;
        }
        Some(meter)
    }

    /// Notes that reports go out which want an answer; their number.
    fn sent(&mut self, now: Instant, to: Actor, limit: LimitId, rows: &[ReportRow]) -> u32 {
        self.seq = self.seq.wrapping_add(1).max(1);
        let keys = rows.iter().map(|row| KeyHash(u64::from_be_bytes(row.key))).collect();
        let line = self.lines.entry(to).or_insert_with(|| Line::new(now));
        line.sent(now, self.seq, limit, keys);
        self.seq
    }
}

#[cfg(test)]
mod tests;
