//! One rate limit: decides by its own table, at once, and keeps a ledger of what it admitted for
//! whoever keeps the books of a key over the whole cluster.
//!
//! ```text
//!   admit ──▶ set of the key's slot: take a token, total += 1, unsaid += 1
//!                └▶ marks: dirty (something unsaid), urgent (q unsaid)
//!   drain ◀── the agent, every few milliseconds: reports of marked sets, newest totals
//!   told  ──▶ the owner's level, less what it does not know of yet, is the bucket from now on
//! ```
//!
//! Quiet keys are not reported: while nobody said that the key runs low, the bucket is at least half
//! full *and* this node's own recent use is below a quarter of its share of the burst, the others
//! can do nothing with it. A key that becomes hot is reported with the total that it has then.
//!
//! What a told level does not know of yet is what was admitted since the total that it acknowledges,
//! but no more than this node's recent use: the rest has long been refilled.
//!
//! A report whose key is evicted: its bucket was at least as full as that of a key that came in just
//! now, so as a rule nothing is left that anybody would have to know. Where something is (a told
//! level made the newcomer emptier), the report goes to a small list that the next drain takes
//! first. A full list counts what was lost (`untold`) and holds up nobody.

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::ask::{Answer, Ask, Asking};
use super::bell::Bell;
use super::client_key::client_key;
use super::counts::{Counts, LimitCounts, add};
use super::marks::{Marks, Visit};
use super::meter::{Meter, Ticks, Used, duration, ticks, ticks_of};
use super::networks::Networks;
use super::plan::{Action, Consistency, LimitKey, LimitPlan, OnIsolated, OnPartition};
use super::queue::{Queue, QueuePlace};
use super::subject::Subject;
use super::table::{Entry, Fetch, Leaver, Past, Place, Set, Slot, Table, TableKey};
use super::window::{Alone, Company, Level, Report};
use crate::base::KeyHash;
use crate::base::id::stable_hash;

/// Between two reports of one key, in milliseconds.
const PAUSE: u16 = 5;
/// Evicted keys' reports that wait for the next drain.
const LEAVERS: usize = 256;
/// How long a key stays hot, in tenths of a second.
const HOT: u16 = 20;
/// For how long nobody is asked after nobody answered.
const BLIND: Duration = Duration::from_millis(25);
/// The whole rate, as a share of it in 65536ths.
const WHOLE: u32 = 1 << 16;
/// When who is refused whatever the bucket says should come again.
const DENIED: Duration = Duration::from_secs(1);

/// One rate limit, shared by all workers. Of itself it is one process's: what it shares with other
/// nodes goes through [`Limits`](super::Limits).
///
/// ```
/// use std::time::{Duration, Instant};
///
/// use tidegate::base::{LimitId, RuleName};
/// use tidegate::traffic::{
///     Action, Algorithm, Decision, LimitKey, LimitPlan, LimitScope, Limiter, Quota, Sharing,
///     Subject,
/// };
///
/// let plan = LimitPlan {
///     id: LimitId::of_rule(&RuleName::from("logins")),
///     algorithm: Algorithm::TokenBucket(Quota::new(10.0, 2.0).expect("a rate above zero")),
///     scope: LimitScope::Node,
///     key: LimitKey::Identity,
///     action: Action::Reject,
///     ipv6_prefix: 64,
///     exempt: Vec::new(),
///     shadow: false,
///     max_keys: 1024,
///     sharing: Sharing::default(),
/// };
/// let now = Instant::now();
/// // Keep both numbers secret: they decide who shares memory with whom.
/// let limiter = Limiter::new(plan, 1, 2, now);
/// let subject = |identity| Subject { address: [192, 0, 2, 1].into(), identity: Some(identity) };
///
/// assert_eq!(limiter.admit(subject("client.a"), now), Decision::Admit);
/// assert_eq!(limiter.admit(subject("client.a"), now), Decision::Admit);
/// let Decision::Refuse { retry_after } = limiter.admit(subject("client.a"), now) else {
///     panic!("over the burst");
/// };
/// assert!(retry_after <= Duration::from_millis(100));
/// assert_eq!(limiter.admit(subject("client.b"), now), Decision::Admit);
/// assert_eq!(limiter.admit(subject("client.a"), now + retry_after), Decision::Admit);
/// ```
pub struct Limiter {
    plan: LimitPlan,
    meter: Meter,
    exempt: Networks<()>,
    salt: u64,
    /// Salts names, so that none is ever taken for an address.
    name_salt: u64,
    origin: Origin,
    table: Table,
    dirty: Marks,
    urgent: Marks,
    /// Rung when something becomes urgent; a limit of this node alone has none.
    bell: OnceLock<Arc<Bell>>,
    asker: OnceLock<Arc<dyn Asking>>,
    leavers: Mutex<Vec<Report>>,
    /// Alive nodes that share the limit, this one included.
    nodes: AtomicU32,
    /// The share of the rate that holds now, in 65536ths; 0 refuses everybody.
    share: AtomicU32,
    /// Strict mode: until when nobody is asked.
    blind_until: AtomicU64,
    counts: Counts,
    queue: Queue,
}

/// Where a limiter's time begins.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// By the monotonic clock.
    pub at: Instant,
    /// The same moment by the wall clock, in milliseconds since 1970: where fixed windows are cut.
    pub unix_ms: u64,
}

impl From<Instant> for Origin {
    /// Windows are cut from this moment on.
    fn from(at: Instant) -> Self {
        Origin { at, unix_ms: 0 }
    }
}

/// The answer to a client.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Decision {
    /// Come in.
    Admit,
    /// Not now.
    Refuse {
        /// When there will be a token, if nobody else takes it.
        retry_after: Duration,
    },
    /// The key's owner has to be asked for a token: [`Asking::ask`](super::Asking) it, and tell the
    /// limiter by [`Limiter::answered`].
    Ask(Ask),
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter").field("plan", &self.plan).finish_non_exhaustive()
    }
}

impl Limiter {
    /// `salt` is the cluster's and makes a client's key the same on every node; `secret` is this
    /// node's alone and keeps others from choosing who shares a set of the table.
    pub fn new(plan: LimitPlan, salt: u64, secret: u64, origin: impl Into<Origin>) -> Self {
        let origin = origin.into();
        let keys = match plan.key {
            LimitKey::Client | LimitKey::Identity => plan.max_keys as usize,
            LimitKey::Rule => 1,
        };
        let queue = match plan.action {
            Action::Delay { queue, .. } => queue,
            Action::Reject | Action::Drop => 0,
        };
        let table = Table::new(keys, secret);
        Limiter {
            meter: Meter::new(plan.algorithm, origin.unix_ms),
            exempt: Networks::new(plan.exempt.iter().map(|network| (*network, ()))),
            salt,
            name_salt: stable_hash(salt, b"identity"),
            origin,
            dirty: Marks::new(table.sets()),
            urgent: Marks::new(table.sets()),
            table,
            bell: OnceLock::new(),
            asker: OnceLock::new(),
            leavers: Mutex::new(Vec::with_capacity(LEAVERS)),
            nodes: AtomicU32::new(1),
            share: AtomicU32::new(WHOLE),
            blind_until: AtomicU64::new(0),
            counts: Counts::default(),
            queue: Queue::new(queue),
            plan,
        }
    }

    /// The same, but the part of its table that a decision needs is fetched by `fetch` while what
    /// needs no memory is done.
    pub fn fetching(mut self, fetch: Fetch) -> Self {
        self.table.fetch_by(fetch);
        self
    }

    /// May `client`, an address or a whole [`Subject`], come in? Takes a token if so. Never waits for
    /// anything but another decision in the same set, and allocates nothing. In shadow mode everybody
    /// may.
    pub fn admit<'a>(&self, client: impl Into<Subject<'a>>, now: Instant) -> Decision {
        self.judge(self.ask(client.into(), now))
    }

    /// Whom to ask after [`Decision::Ask`].
    pub fn asker(&self) -> &dyn Asking {
        self.asker.get().map_or(&Alone, |asker| &**asker)
    }

    /// After [`Decision::Ask`]: what the owner said. Nobody could be asked: for a moment this node
    /// admits by its own even share of the rate, and asks no further.
    pub fn answered(&self, ask: Ask, answer: Answer, now: Instant) -> Decision {
        self.judge(self.take_answer(ask, answer, now))
    }

    /// Counts refusals, and refuses nobody in shadow mode.
    fn judge(&self, decision: Decision) -> Decision {
        if !matches!(decision, Decision::Refuse { .. }) {
            return decision;
        }
        if self.plan.shadow {
            self.count_refused();
            return Decision::Admit;
        }
        // Who may still wait in the queue is refused only when the queue is.
        if !matches!(self.plan.action, Action::Delay { .. }) {
            self.count_refused();
        }
        decision
    }

    /// After a refusal by a limit with [`Action::Delay`]: a place to wait for a token, or `None`
    /// (a refusal) when all places are taken. The waiter sleeps, asks [`QueuePlace::admit`], and
    /// gives up after the action's `max`.
    pub fn enter_queue(self: &Arc<Self>) -> Option<QueuePlace> {
        if !self.queue.enter() {
            self.count_refused();
            return None;
        }
        add(&self.counts.at(0).delayed, 1);
        Some(QueuePlace::new(Arc::clone(self)))
    }

    /// The limit.
    pub fn plan(&self) -> &LimitPlan {
        &self.plan
    }

    /// What was done so far.
    pub fn counts(&self) -> LimitCounts {
        self.counts.sum()
    }

    /// Bytes of the table, taken when the limiter is made.
    pub fn bytes(&self) -> usize {
        self.table.bytes()
    }

    /// The key of `client`, the same on every node; `None` when its address is exempt.
    pub fn key<'a>(&self, client: impl Into<Subject<'a>>) -> Option<KeyHash> {
        self.key_of(client.into())
    }

    fn key_of(&self, client: Subject<'_>) -> Option<KeyHash> {
        if self.exempt.find(client.address).is_some() {
            return None;
        }
        let hash = match (self.plan.key, client.identity) {
            (LimitKey::Rule, _) => stable_hash(self.salt, b"rule"),
            (LimitKey::Identity, Some(name)) => stable_hash(self.name_salt, name.as_bytes()),
            // Who shows no certificate is known by the address.
            (LimitKey::Client | LimitKey::Identity, _) => {
                match client_key(client.address, self.plan.ipv6_prefix) {
                    IpAddr::V4(ip) => stable_hash(self.salt, &ip.octets()),
                    IpAddr::V6(ip) => stable_hash(self.salt, &ip.octets()),
                }
            }
        };
        Some(KeyHash(TableKey::new(hash).hash()))
    }

    /// As [`Limiter::admit`], without counting refusals.
    pub(super) fn ask(&self, client: Subject<'_>, now: Instant) -> Decision {
        let Some(key) = self.key_of(client) else { return Decision::Admit };
        let key = TableKey::new(key.0);
        let at = self.table.set_of(key);
        self.table.soon(at);
        let now = self.ticks(now);
        let Some(meter) = self.meter() else { return Decision::Refuse { retry_after: DENIED } };
        let counts = self.counts.at(at);
        // A full bucket has a token, whatever the quota.
        let newcomer = meter.full(now);
        let newcomer = meter.take(newcomer, now).unwrap_or(newcomer);

        let mut set = self.table.set(at).lock();
        if self.strict() {
            return self.ask_owner(&mut set, key, &meter, at, now);
        }
        let entry = match set.place(key, newcomer, self.table.floor()) {
            Place::Known(entry) => {
                match meter.take(entry.slot.used, now) {
                    Ok(used) => entry.slot.used = used,
                    Err(early) => return Decision::Refuse { retry_after: duration(early) },
                }
                entry
            }
            Place::New(entry, leaver) => {
                self.settle(entry.slot, leaver, at, now);
                entry
            }
            Place::NoRoom => {
                add(&counts.untracked, 1);
                add(&counts.admitted, 1);
                return Decision::Admit;
            }
        };
        self.note(entry, &meter, at, now);
        drop(set);
        add(&counts.admitted, 1);
        Decision::Admit
    }

    /// Strict mode: refuses what is known to be empty, and has the owner asked for everything else.
    fn ask_owner(
        &self,
        set: &mut Set,
        key: TableKey,
        meter: &Meter,
        at: usize,
        now: Ticks,
    ) -> Decision {
        if now < self.blind_until.load(Ordering::Relaxed) {
            return self.admit_share(set, key, meter, at, now);
        }
        let Some(Entry { slot, past }) = set.find(key) else {
            let (limit, key, total) = (self.plan.id, KeyHash(key.hash()), self.table.floor());
            let (tenure, recent, level) = (0, 0, None);
            return Decision::Ask(Ask::Token(Report { limit, key, total, tenure, recent, level }));
        };
        match meter.take(slot.used, now) {
            Ok(_) => Decision::Ask(Ask::Token(self.report_of(key, slot, past, meter, now))),
            Err(early) => Decision::Refuse { retry_after: duration(early) },
        }
    }

    /// As [`Limiter::answered`], without counting refusals.
    pub(super) fn take_answer(&self, ask: Ask, answer: Answer, now: Instant) -> Decision {
        let Ask::Token(asked) = ask else { return Decision::Refuse { retry_after: DENIED } };
        let now = self.ticks(now);
        let Some(meter) = self.meter() else { return Decision::Refuse { retry_after: DENIED } };
        let key = TableKey::new(asked.key.0);
        let at = self.table.set_of(key);
        let mut set = self.table.set(at).lock();
        let (granted, level) = match answer {
            Answer::Granted { level } => (true, level),
            Answer::Refused { level } => (false, level),
            Answer::Nobody => {
                let blind = ticks_of(BLIND);
                self.blind_until.fetch_max(now + blind, Ordering::Relaxed);
                return self.admit_share(&mut set, key, &meter, at, now);
            }
        };
        let level = if level.is_finite() { level } else { 0.0 };
        let used = meter.at_level(level, now);
        let entry = match set.place(key, used, self.table.floor()) {
            Place::Known(entry) => entry,
            Place::New(entry, leaver) => {
                self.settle(entry.slot, leaver, at, now);
                entry
            }
            // A table full of emptier buckets: the owner's word holds all the same.
            Place::NoRoom if granted => {
                add(&self.counts.at(at).untracked, 1);
                add(&self.counts.at(at).admitted, 1);
                return Decision::Admit;
            }
            Place::NoRoom => {
                return Decision::Refuse { retry_after: self.until_one(&meter, used, now) };
            }
        };
        entry.slot.used = used;
        if !granted {
            return Decision::Refuse { retry_after: self.until_one(&meter, used, now) };
        }
        self.note(entry, &meter, at, now);
        drop(set);
        add(&self.counts.at(at).admitted, 1);
        Decision::Admit
    }

    /// One of this node's even share of the rate.
    fn admit_share(
        &self,
        set: &mut Set,
        key: TableKey,
        meter: &Meter,
        at: usize,
        now: Ticks,
    ) -> Decision {
        let share = (meter.burst() / f64::from(self.nodes())).max(1.0);
        let entry = match set.place(key, meter.full(now), self.table.floor()) {
            Place::Known(entry) => entry,
            Place::New(entry, leaver) => {
                self.settle(entry.slot, leaver, at, now);
                entry
            }
            Place::NoRoom => return Decision::Refuse { retry_after: DENIED },
        };
        if meter.own(entry.slot.own, now, self.nodes()) + 1.0 > share {
            let rate = meter.rate() / f64::from(self.nodes());
            let retry_after = if rate > 0.0 { Duration::from_secs_f64(1.0 / rate) } else { DENIED };
            return Decision::Refuse { retry_after: retry_after.min(10 * DENIED) };
        }
        entry.slot.used = meter.debit(entry.slot.used, now, 1.0);
        self.note(entry, meter, at, now);
        add(&self.counts.at(at).admitted, 1);
        Decision::Admit
    }

    /// Until a bucket has a token.
    fn until_one(&self, meter: &Meter, used: Used, now: Ticks) -> Duration {
        match meter.take(used, now) {
            // There is one by now; the owner had none a moment ago.
            Ok(_) => Duration::from_millis(1),
            Err(early) => duration(early),
        }
    }

    /// Whether an owner has to be asked. A shadow waits for nobody.
    fn strict(&self) -> bool {
        let (nodes, meter) = (self.nodes(), &self.meter);
        let tiny = || meter.burst() < 4.0 * f64::from(nodes) && meter.rate() <= 100.0;
        nodes > 1
            && !self.plan.shadow
            && match self.plan.sharing.consistency {
                Consistency::Auto => tiny(),
                Consistency::Optimistic => false,
                Consistency::Strict => true,
            }
    }

    /// Notes in the ledger that a token was taken.
    fn note(&self, mut entry: Entry<'_>, meter: &Meter, at: usize, now: Ticks) {
        entry.slot.own = meter.add_own(entry.slot.own, now, self.nodes());
        entry.count();
        self.dirty.mark(at);
        if f64::from(entry.slot.unsaid()) >= self.threshold(entry.slot, meter, now) {
            self.urgent.mark(at);
            if let Some(bell) = self.bell.get() {
                bell.ring();
            }
        }
    }

    /// From now on `asker` is asked.
    pub(super) fn ask_by(&self, asker: &Arc<dyn Asking>) {
        let _ = self.asker.set(Arc::clone(asker));
    }

    /// From now on `bell` is rung when a row should be told at once.
    pub(super) fn ring_by(&self, bell: &Arc<Bell>) {
        let _ = self.bell.set(Arc::clone(bell));
    }

    /// The owner of `key` told its level.
    pub(super) fn told(&self, now: Instant, key: KeyHash, told: Level) {
        let now = self.ticks(now);
        let Some(meter) = self.meter() else { return };
        let key = TableKey::new(key.0);
        let at = self.table.set_of(key);
        let mut set = self.table.set(at).lock();
        // A key that has left the table meanwhile had hardly been used.
        let Some(Entry { slot, past }) = set.find(key) else { return };
        let unsynced = (slot.total as u32).wrapping_sub(told.acked).min(past.tenure(slot));
        if unsynced > past.unacked(slot) || !told.level.is_finite() {
            // Overtaken by a newer answer.
            return;
        }
        past.ack(slot, unsynced);
        past.remote = told.remote;
        let unknown = f64::from(unsynced).min(meter.own(slot.own, now, self.nodes()));
        let (held, level) = (meter.level(slot.used, now), f64::from(told.level) - unknown);
        slot.used = meter.at_level(level, now);
        if f64::from(told.level) < meter.burst() / 2.0 {
            slot.hot_at = tenths(now);
            if slot.unsaid() > 0 {
                // It was quiet perhaps, and is not any more.
                self.dirty.mark(at);
            }
        }
        drop(set);
        let counts = self.counts.at(at);
        add(&counts.told, 1);
        add(&counts.unsynced, u64::from(unsynced));
        add(&counts.level_error, (held - level).abs().round() as u64);
        add(&counts.spent_elsewhere, (held - level).max(0.0).round() as u64);
    }

    /// The owner of `key` says that it runs low.
    pub(super) fn hot(&self, now: Instant, key: KeyHash, level: f32) {
        let now = self.ticks(now);
        let Some(meter) = self.meter().filter(|_| level.is_finite()) else { return };
        let key = TableKey::new(key.0);
        let at = self.table.set_of(key);
        let newcomer = meter.at_level(level.into(), now);
        let mut held = meter.burst();
        let mut set = self.table.set(at).lock();
        let slot = match set.place(key, newcomer, self.table.floor()) {
            Place::Known(Entry { slot, past }) => {
                // What is held and was not reported is not in the owner's level.
                let unknown =
                    f64::from(past.unacked(slot)).min(meter.own(slot.own, now, self.nodes()));
                let told = meter.at_level(f64::from(level) - unknown, now);
                held = meter.level(slot.used, now);
                slot.used = slot.used.max(told);
                slot
            }
            Place::New(entry, leaver) => {
                self.settle(entry.slot, leaver, at, now);
                entry.slot
            }
            Place::NoRoom => return,
        };
        slot.hot_at = tenths(now);
        if slot.unsaid() > 0 {
            self.dirty.mark(at);
        }
        let fell = held - meter.level(slot.used, now);
        drop(set);
        add(&self.counts.at(at).spent_elsewhere, fell.max(0.0).round() as u64);
    }

    /// The owner of `key` has been silent for `during` more.
    pub(super) fn silent(&self, now: Instant, key: KeyHash, during: Duration) {
        let now = self.ticks(now);
        let Some(meter) = self.meter() else { return };
        let key = TableKey::new(key.0);
        let mut set = self.table.set(self.table.set_of(key)).lock();
        let Some(Entry { slot, past }) = set.find(key) else { return };
        // The others cannot take more than comes back.
        let tokens = f64::from(past.remote).min(meter.rate()) * during.as_secs_f64();
        slot.used = meter.debit(slot.used, now, tokens);
    }

    /// The report of `key` as it is now.
    pub(super) fn report(&self, now: Instant, key: KeyHash) -> Option<Report> {
        let now = self.ticks(now);
        let meter = self.meter()?;
        let key = TableKey::new(key.0);
        let mut set = self.table.set(self.table.set_of(key)).lock();
        let Entry { slot, past } = set.find(key)?;
        slot.say(milliseconds(now));
        Some(self.report_of(key, slot, past, &meter, now))
    }

    /// Moves reports to `out` until it holds `most`: of keys with something unsaid when `all` is
    /// set, else of those past their threshold.
    pub(super) fn drain(&self, now: Instant, all: bool, most: usize, out: &mut Vec<Report>) {
        {
            let mut leavers = self.leavers.lock();
            let room = most.saturating_sub(out.len()).min(leavers.len());
            out.extend(leavers.drain(..room));
        }
        let now = self.ticks(now);
        let Some(meter) = self.meter() else { return };
        let marks = if all { &self.dirty } else { &self.urgent };
        marks.visit(|at| self.drain_set(at, now, &meter, all, most, out));
    }

    fn drain_set(
        &self,
        at: usize,
        now: Ticks,
        meter: &Meter,
        all: bool,
        most: usize,
        out: &mut Vec<Report>,
    ) -> Visit {
        if out.len() >= most {
            return Visit::Stop;
        }
        let mut again = Visit::Done;
        let mut set = self.table.set(at).lock();
        for (key, Entry { slot, past }) in set.entries() {
            let least = if all { 1.0 } else { self.threshold(slot, meter, now) };
            if f64::from(slot.unsaid()) < least || self.is_quiet(slot, meter, now) {
                continue;
            }
            if !all && milliseconds(now).wrapping_sub(slot.said_at) < PAUSE {
                again = Visit::Again;
                continue;
            }
            if out.len() >= most {
                return Visit::Stop;
            }
            out.push(self.report_of(key, slot, past, meter, now));
            slot.say(milliseconds(now));
        }
        again
    }

    /// A key has just got its slot, which `leaver` had before.
    fn settle(&self, slot: &mut Slot, leaver: Option<Leaver>, at: usize, now: Ticks) {
        slot.said_at = milliseconds(now).wrapping_sub(PAUSE);
        slot.hot_at = tenths(now).wrapping_sub(HOT);
        let Some(Leaver { key, slot, past }) = leaver else {
            add(&self.counts.at(at).keys, 1);
            return;
        };
        let Some(meter) = self.meter() else { return };
        if slot.unsaid() == 0 || slot.used <= meter.full(now) {
            return;
        }
        // The lock is held by a drain at most; nobody waits for that here.
        match self.leavers.try_lock() {
            Some(mut leavers) if leavers.len() < LEAVERS => {
                leavers.push(self.report_of(key, &slot, &past, &meter, now));
            }
            _ => add(&self.counts.at(at).untold, u64::from(slot.unsaid())),
        }
    }

    fn report_of(
        &self,
        key: TableKey,
        slot: &Slot,
        past: &Past,
        meter: &Meter,
        now: Ticks,
    ) -> Report {
        let answered = past.unacked(slot) < past.tenure(slot);
        Report {
            limit: self.plan.id,
            key: KeyHash(key.hash()),
            total: slot.total,
            tenure: past.tenure(slot),
            recent: meter.own(slot.own, now, self.nodes()).round() as u32,
            level: answered.then(|| meter.level(slot.used, now) as f32),
        }
    }

    /// Nothing that the others would have to know.
    fn is_quiet(&self, slot: &Slot, meter: &Meter, now: Ticks) -> bool {
        let (burst, nodes) = (meter.burst(), self.nodes());
        tenths(now).wrapping_sub(slot.hot_at) >= HOT
            && meter.level(slot.used, now) >= burst / 2.0
            && meter.own(slot.own, now, nodes) < (burst / 4.0 / f64::from(nodes)).max(1.0)
    }

    /// Unsaid tokens that are worth a report before the interval's end. What is admitted beyond a
    /// window's limit is not made good within the window, as it is by a bucket: so the nearer its
    /// limit is, the more often it is reported.
    fn threshold(&self, slot: &Slot, meter: &Meter, now: Ticks) -> f64 {
        let (burst, nodes) = (meter.burst(), f64::from(self.nodes()));
        let worth = (burst / 2.0 / nodes).min(burst / 20.0);
        match meter.refills() {
            true => worth.max(1.0),
            false => worth.min(meter.level(slot.used, now) / 4.0 / nodes).max(1.0),
        }
    }

    /// How it counts now; `None` when everybody is refused.
    pub(super) fn meter(&self) -> Option<Meter> {
        match self.share.load(Ordering::Relaxed) {
            WHOLE => Some(self.meter),
            0 => None,
            share => Some(self.meter.slowed(f64::from(share) / f64::from(WHOLE))),
        }
    }

    /// How it counts now by ticks that began at `start`.
    pub(super) fn meter_since(&self, start: Instant) -> Meter {
        let Origin { at, unix_ms } = self.origin;
        let later = start.saturating_duration_since(at).as_millis() as u64;
        let earlier = at.saturating_duration_since(start).as_millis() as u64;
        let meter = Meter::new(self.plan.algorithm, (unix_ms + later).saturating_sub(earlier));
        match self.share.load(Ordering::Relaxed) {
            WHOLE => meter,
            share => meter.slowed(f64::from(share.max(1)) / f64::from(WHOLE)),
        }
    }

    fn ticks(&self, now: Instant) -> Ticks {
        ticks(self.origin.at, now)
    }

    fn nodes(&self) -> u32 {
        self.nodes.load(Ordering::Relaxed)
    }

    /// Who shares the limit from now on.
    pub(super) fn share_among(&self, company: Company) {
        let nodes = u32::try_from(company.alive).unwrap_or(u32::MAX).max(1);
        self.nodes.store(nodes, Ordering::Relaxed);
        let known = company.known.max(company.alive).max(1) as f64;
        let sharing = &self.plan.sharing;
        let proportional = match sharing.on_partition {
            OnPartition::Full => 1.0,
            OnPartition::Proportional => f64::from(nodes) / known,
        };
        let share = match sharing.on_isolated {
            OnIsolated::LocalShare if company.isolated() => 1.0 / known,
            OnIsolated::Deny if company.isolated() => 0.0,
            OnIsolated::LocalFull | OnIsolated::LocalShare | OnIsolated::Deny => proportional,
        };
        self.share.store((share * f64::from(WHOLE)).round() as u32, Ordering::Relaxed);
    }

    pub(super) fn begin_totals_at(&self, floor: u64) {
        self.table.raise_floor(floor);
    }

    pub(super) fn highest_total(&self) -> u64 {
        self.table.highest_total()
    }

    /// Keys that it can hold.
    pub(super) fn keys(&self) -> usize {
        self.table.keys()
    }

    pub(super) fn queue(&self) -> &Queue {
        &self.queue
    }

    pub(super) fn count_refused(&self) {
        add(&self.counts.at(0).refused, 1);
    }
}

/// Wraps every 65 s; who is compared over a wrap is told 5 ms later, no harm.
fn milliseconds(now: Ticks) -> u16 {
    (duration(now).as_millis() & 0xffff) as u16
}

/// Wraps every 6553 s; who is compared over a wrap is hot for 2 s without a reason, no harm.
fn tenths(now: Ticks) -> u16 {
    (duration(now).as_millis() / 100) as u16
}

#[cfg(test)]
mod tests;
