//! What the tests of this suite share: windows on rooms that only remember.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tidegate::base::{KeyHash, LimitId};
use tidegate::cluster::keyring::{Key, KeyId, Keyring};
use tidegate::health::{Sighting, Verdict};
use tidegate::traffic::meter::Meter;
use tidegate::traffic::{Algorithm, Company, Counting, Ledger, Level, Levels, Quota, Report};

/// A verdict that lasts, on which peers that check alike agree within three seconds.
pub(crate) fn sighting(verdict: Verdict, now: Instant) -> Sighting {
    let (settled, until) = (now + Duration::from_secs(3), now + Duration::from_secs(100_000));
    Sighting { verdict, streak: 1, latency: None, settled, until }
}

/// Keys of these names, the first of which seals; not as secret as they should be.
pub(crate) fn ring(ids: &[u8]) -> Arc<Keyring> {
    let key = |id: u8| Key::new(KeyId::new(id).unwrap(), [id; 32]);
    let mut ring = Keyring::new([7; 16], key(ids[0]));
    ids[1..].iter().for_each(|id| ring.install(key(*id)).unwrap());
    Arc::new(ring)
}

pub(crate) const LIMIT: LimitId = LimitId(7);
/// Tokens of a full bucket: none comes back while a test runs.
pub(crate) const BURST: u64 = 10_000;

pub(crate) const ALGORITHM: Algorithm =
    Algorithm::TokenBucket(Quota { rate: 0.0005, burst: BURST as f64 });

/// A limiter that admits what it is told, reports all of it, and remembers what it was told.
#[derive(Debug, Default)]
pub(crate) struct Book(Mutex<Pages>);

#[derive(Debug, Default)]
struct Pages {
    own: BTreeMap<u64, u64>,
    dirty: BTreeSet<u64>,
    told: BTreeMap<u64, Level>,
    company: Option<Company>,
}

impl Book {
    /// This node admits `tokens` of `key`.
    pub(crate) fn spend(&self, key: u64, tokens: u64) {
        let mut pages = self.0.lock();
        *pages.own.entry(key).or_default() += tokens;
        pages.dirty.insert(key);
    }

    /// What all nodes spent of `key`, as its owner last told this one.
    pub(crate) fn spent(&self, key: u64) -> u64 {
        let pages = self.0.lock();
        pages.told.get(&key).map_or(0, |told| BURST - told.level.round() as u64)
    }

    /// Nodes that share the limits.
    pub(crate) fn nodes(&self) -> usize {
        self.0.lock().company.map_or(0, |company| company.alive)
    }
}

impl Pages {
    fn report(&self, key: u64) -> Option<Report> {
        let total = *self.own.get(&key)?;
        let all = u32::try_from(total).unwrap();
        let held = |told: &Level| told.level - all.wrapping_sub(told.acked) as f32;
        let level = self.told.get(&key).map(held);
        Some(Report { limit: LIMIT, key: KeyHash(key), total, tenure: all, recent: all, level })
    }
}

impl Ledger for Book {
    fn drain(&self, _: Instant, all: bool, most: usize, out: &mut Vec<Report>) {
        let mut pages = self.0.lock();
        if !all {
            return;
        }
        for key in pages.dirty.iter().take(most).copied().collect::<Vec<_>>() {
            pages.dirty.remove(&key);
            out.extend(pages.report(key));
        }
    }

    fn report(&self, _: Instant, _: LimitId, key: KeyHash) -> Option<Report> {
        self.0.lock().report(key.0)
    }
}

impl Levels for Book {
    fn told(&self, _: Instant, limit: LimitId, key: KeyHash, told: Level) {
        assert_eq!(limit, LIMIT);
        self.0.lock().told.insert(key.0, told);
    }

    fn hot(&self, _: Instant, _: LimitId, _: KeyHash, _: f32) {}

    fn silent(&self, _: Instant, _: LimitId, _: KeyHash, _: Duration) {}

    fn company(&self, company: Company) {
        self.0.lock().company = Some(company);
    }

    fn counting(&self, limit: LimitId, _: Instant) -> Option<Counting> {
        let meter = Meter::new(ALGORITHM, 0);
        (limit == LIMIT).then_some(Counting { algorithm: ALGORITHM, meter, keys: 65_536 })
    }
}
