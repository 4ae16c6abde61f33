//! Bandwidth: a token bucket over bytes that paces reads. What was read is charged afterwards, as
//! nobody knows before how much there is; the debt is then waited for.
//!
//! The bucket is one number, the moment at which all that was charged is paid for:
//!
//! ```text
//!    ── now ──────────── paid_at ──▶        a debt: wait until then
//!    ── paid_at ──────── now ──────▶        a credit: at most CREDIT of it is kept
//! ```

use std::fmt;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::holdings::CapKey;

/// What an idle or late reader may make up for. Longer than a timer is late, and so short that it
/// is 1 % of 5 s.
const CREDIT: Duration = Duration::from_millis(50);

/// A rate that connections and threads share.
#[derive(Debug)]
pub struct Pacer {
    rate: NonZeroU64,
    /// The rate now: all of it, or this node's part.
    pace: AtomicU64,
    start: Instant,
    /// Nanoseconds after `start`.
    paid_at: AtomicU64,
    shared: Option<Box<Shared>>,
}

/// Of a rate that all nodes share.
struct Shared {
    key: CapKey,
    /// Bytes charged since they were last taken.
    moved: AtomicU64,
    /// `begin` was called, and rest was not found since.
    active: AtomicBool,
    begin: Box<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Pacer {
    /// `rate` is in bytes per second. Begins without credit and without debt.
    pub fn new(rate: NonZeroU64, now: Instant) -> Self {
        Pacer {
            rate,
            pace: AtomicU64::new(rate.get()),
            start: now,
            paid_at: AtomicU64::new(0),
            shared: None,
        }
    }

    /// Of a rate that all nodes share; `begin` is called when it moves after a rest.
    pub(super) fn shared(
        rate: NonZeroU64,
        now: Instant,
        key: CapKey,
        begin: Box<dyn Fn() + Send + Sync>,
    ) -> Self {
        let (moved, active) = (AtomicU64::new(0), AtomicBool::new(false));
        let shared = Some(Box::new(Shared { key, moved, active, begin }));
        Pacer { shared, ..Pacer::new(rate, now) }
    }

    /// Bytes per second, as configured: over all nodes when they share.
    pub fn rate(&self) -> NonZeroU64 {
        self.rate
    }

    /// Bytes per second that this node may move now.
    pub fn pace(&self) -> u64 {
        self.pace.load(Ordering::Relaxed)
    }

    pub(super) fn set_rate(&self, rate: u64) {
        self.pace.store(rate.max(1), Ordering::Relaxed);
    }

    /// Whose rate it is, when all nodes share it.
    pub fn key(&self) -> Option<CapKey> {
        self.shared.as_ref().map(|shared| shared.key)
    }

    /// Bytes charged since this was last asked.
    pub(super) fn take_moved(&self) -> u64 {
        self.shared.as_ref().map_or(0, |shared| shared.moved.swap(0, Ordering::Relaxed))
    }

    /// Nothing moves: it says so when that ends.
    pub(super) fn rest(&self) {
        if let Some(shared) = &self.shared {
            shared.active.store(false, Ordering::SeqCst);
        }
    }

    /// The most bytes to move before [`Pacer::charge`] is asked: what the rate gives in about 16
    /// ms, 256 KiB at most; at least 1 KiB (so that slow rates do not read in crumbs) but never
    /// more than 50 ms of a very slow rate.
    pub fn quantum(&self) -> usize {
        let rate = self.pace();
        let least = (rate / 20).clamp(1, 1024);
        (rate / 64).clamp(least, 256 * 1024) as usize
    }

    /// Charges `bytes` that were moved; returns how long to wait before the next read (zero: go
    /// on).
    pub fn charge(&self, bytes: usize, now: Instant) -> Duration {
        let now = self.since_start(now);
        let cost = (bytes as f64 * (1e9 / self.pace() as f64)).round() as u64;
        if let Some(shared) = &self.shared {
            shared.moved.fetch_add(bytes as u64, Ordering::Relaxed);
            if !shared.active.load(Ordering::Relaxed) && !shared.active.swap(true, Ordering::SeqCst)
            {
                (shared.begin)();
            }
        }
        let earliest = now.saturating_sub(CREDIT.as_nanos() as u64);
        let pay = |paid_at: u64| paid_at.max(earliest).saturating_add(cost);
        let before =
            match self
                .paid_at
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |paid_at| Some(pay(paid_at)))
            {
                Ok(before) | Err(before) => before,
            };
        Duration::from_nanos(pay(before).saturating_sub(now))
    }

    /// How long to wait before the next read, without charging anything.
    pub fn wait(&self, now: Instant) -> Duration {
        let paid_at = self.paid_at.load(Ordering::Relaxed);
        Duration::from_nanos(paid_at.saturating_sub(self.since_start(now)))
    }

    fn since_start(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.start).as_nanos() as u64
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::base::time;

    const KIB: u64 = 1024;
    const MIB: u64 = 1024 * KIB;

    fn pacer(rate: u64, now: Instant) -> Pacer {
        Pacer::new(NonZeroU64::new(rate).unwrap(), now)
    }

    /// Bytes that `readers` take turns to move within `time`, each read as large as allowed, each
    /// timer `late`.
    fn moved(rate: u64, readers: usize, time: Duration, late: Duration) -> u64 {
        let start = time::now();
        let pacer = pacer(rate, start);
        let mut next = vec![start; readers];
        let mut moved = 0;
        loop {
            let reader = (0..readers).min_by_key(|n| next[*n]).unwrap();
            let now = next[reader];
            if now >= start + time {
                return moved;
            }
            moved += pacer.quantum() as u64;
            let wait = pacer.charge(pacer.quantum(), now);
            let late = if wait.is_zero() { Duration::from_micros(20) } else { late };
            next[reader] = now + wait + late;
        }
    }

    #[test]
    fn five_seconds_are_within_five_percent_at_any_rate_with_late_timers() {
        let time = Duration::from_secs(5);
        for rate in [64 * KIB, 512 * KIB, 10 * MIB, 100 * MIB, 1024 * MIB] {
            for (readers, late) in [(1, 0), (1, 1_500), (4, 1_500), (50, 3_000)] {
                let late = Duration::from_micros(late);
                let share = moved(rate, readers, time, late) as f64 / (5 * rate) as f64;
                // The first read of each reader is not waited for: that is the quantum's share.
                let first = (readers as u64 * pacer(rate, time::now()).quantum() as u64) as f64
                    / (5 * rate) as f64;
                assert!(
                    (0.95..1.05 + first).contains(&share),
                    "{rate} B/s, {readers} readers: {share}"
                );
            }
        }
    }

    #[test]
    fn an_idle_pacer_saves_up_no_more_than_its_credit() {
        let start = time::now();
        let pacer = pacer(MIB, start);
        let later = start + Duration::from_secs(60);
        let credit = (MIB as f64 * CREDIT.as_secs_f64()) as usize;
        assert_eq!(pacer.charge(credit, later), Duration::ZERO);
        let wait = pacer.charge(MIB as usize / 10, later);
        assert!((99..=101).contains(&wait.as_millis()), "{wait:?}");
        assert_eq!(pacer.wait(later), wait);
    }

    #[test]
    fn what_an_idle_pacer_gives_at_once_is_small_against_five_seconds() {
        let start = time::now();
        for rate in [64 * KIB, 10 * MIB, 100 * MIB] {
            let pacer = pacer(rate, start);
            let later = start + Duration::from_secs(60);
            let mut at_once = pacer.quantum() as u64;
            while pacer.charge(pacer.quantum(), later).is_zero() {
                at_once += pacer.quantum() as u64;
            }
            assert!(at_once * 50 <= 5 * rate, "{rate} B/s: {at_once} B at once");
        }
    }

    #[test]
    fn the_quantum_follows_the_rate() {
        let quantum = |rate| pacer(rate, time::now()).quantum();
        assert_eq!(quantum(64 * KIB), 1024);
        assert_eq!(quantum(100 * MIB), 256 * 1024);
        assert_eq!(quantum(2 * MIB), 32 * 1024);
        assert_eq!(quantum(1), 1);
        assert_eq!(quantum(2000), 100);
    }

    #[test]
    fn threads_never_lose_a_charge() {
        let start = time::now();
        let pacer = Arc::new(pacer(MIB, start));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let pacer = Arc::clone(&pacer);
                scope.spawn(move || {
                    for _ in 0..10_000 {
                        pacer.charge(1024, start);
                    }
                });
            }
        });
        let owed = pacer.wait(start).as_secs_f64();
        assert!((owed - 40_000.0 / 1024.0).abs() < 0.001, "{owed}");
    }

    #[test]
    fn an_absurd_charge_does_not_wrap_around() {
        let start = time::now();
        let pacer = pacer(1, start);
        pacer.charge(usize::MAX, start);
        assert!(pacer.charge(usize::MAX, start) > Duration::from_secs(1_000_000));
    }
}
