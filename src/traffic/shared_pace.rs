//! Bandwidth that all nodes share: pacers whose rate is this node's part of the whole, as the key's
//! owner last gave it.
//!
//! ```text
//!   relay ─ charge ─▶ pacer ─ active ─▶ sample ─▶ agent ─▶ the key's owner
//!                       ▲                                      │
//!                       └────────────── share ─────────────────┘
//! ```
//!
//! Only pacers that move more than a little are told of. One that begins has a small part, so that
//! it can begin at all; one whose owner does not answer has the even share.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::holdings::CapKey;
use super::pacer::Pacer;
use super::window::Alone;

/// An owner that did not answer for so long is no more: the even share.
const SILENCE: Duration = Duration::from_secs(1);
/// A pacer that begins has this part of its even share.
const BEGIN: u64 = 2;
/// What moves less than this part of its even share is not told.
const QUIET: f64 = 64.0;
/// A pacer at this part of its rate wants more.
const HUNGRY: f64 = 0.9;

/// What this node moves of one key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Demand {
    /// The key.
    pub key: CapKey,
    /// The rate of all nodes together, bytes per second.
    pub rate: u64,
    /// Bytes per second moved since the last sample.
    pub moved: u64,
    /// It would move more if it might.
    pub hungry: bool,
}

/// The agent's view of shared pacers.
pub trait Paced: Send + Sync {
    /// Adds to `out` what moved since this was last asked, but for what hardly moved.
    fn sample(&self, now: Instant, out: &mut Vec<Demand>);

    /// This node's part of `key` is `rate` bytes per second from now on.
    fn share(&self, now: Instant, key: CapKey, rate: u64);

    /// How many nodes share.
    fn nodes(&self, alive: usize);
}

impl Paced for Alone {
    fn sample(&self, _: Instant, _: &mut Vec<Demand>) {}

    fn share(&self, _: Instant, _: CapKey, _: u64) {}

    fn nodes(&self, _: usize) {}
}

/// All shared pacers of a node that move.
pub struct SharedPace {
    nodes: AtomicUsize,
    /// Those that were charged since they were last found still.
    active: Mutex<Vec<Weak<Pacer>>>,
    sampled: Mutex<Sampled>,
}

#[derive(Default)]
struct Sampled {
    at: Option<Instant>,
    moving: HashMap<CapKey, Moving>,
}

struct Moving {
    pacer: Weak<Pacer>,
    /// When its owner last answered, or it began.
    answered: Instant,
}

impl Default for SharedPace {
    fn default() -> Self {
        SharedPace {
            nodes: AtomicUsize::new(1),
            active: Mutex::default(),
            sampled: Mutex::default(),
        }
    }
}

impl SharedPace {
    /// A pacer of `key`, for `rate` bytes per second over all nodes.
    pub fn pacer(self: &Arc<Self>, key: CapKey, rate: NonZeroU64, now: Instant) -> Arc<Pacer> {
        let pacer = Arc::new_cyclic(|own| {
            let all = Arc::clone(self);
            let own = Weak::clone(own);
            Pacer::shared(rate, now, key, Box::new(move || all.active.lock().push(own.clone())))
        });
        pacer.set_rate(self.beginning(rate.get()));
        pacer
    }

    fn nodes(&self) -> u64 {
        self.nodes.load(Ordering::Relaxed).max(1) as u64
    }

    fn even(&self, rate: u64) -> u64 {
        rate.div_ceil(self.nodes())
    }

    fn beginning(&self, rate: u64) -> u64 {
        match self.nodes() {
            1 => rate,
            _ => self.even(rate).div_ceil(BEGIN),
        }
    }
}

impl Paced for SharedPace {
    fn sample(&self, now: Instant, out: &mut Vec<Demand>) {
        let mut sampled = self.sampled.lock();
        for pacer in std::mem::take(&mut *self.active.lock()) {
            let Some(key) = pacer.upgrade().and_then(|pacer| pacer.key()) else { continue };
            sampled.moving.insert(key, Moving { pacer, answered: now });
        }
        let since = sampled.at.replace(now).map(|at| now.saturating_duration_since(at));
        let Some(seconds) = since.map(|since| since.as_secs_f64()).filter(|s| *s > 0.0) else {
            return;
        };
        sampled.moving.retain(|key, moving| {
            let Some(pacer) = moving.pacer.upgrade() else { return false };
            let rate = pacer.rate().get();
            let moved = pacer.take_moved() as f64 / seconds;
            if moved < self.even(rate) as f64 / QUIET {
                // Still, or nearly: it begins anew when it moves again.
                pacer.set_rate(self.beginning(rate));
                if moved == 0.0 {
                    pacer.rest();
                    return false;
                }
                moving.answered = now;
                return true;
            }
            if now.saturating_duration_since(moving.answered) >= SILENCE {
                pacer.set_rate(self.even(rate));
            }
            let hungry = moved >= pacer.pace() as f64 * HUNGRY;
            out.push(Demand { key: *key, rate, moved: moved as u64, hungry });
            true
        });
    }

    fn share(&self, now: Instant, key: CapKey, rate: u64) {
        let mut sampled = self.sampled.lock();
        let Some(moving) = sampled.moving.get_mut(&key) else { return };
        moving.answered = now;
        if let Some(pacer) = moving.pacer.upgrade() {
            pacer.set_rate(rate.min(pacer.rate().get()));
        }
    }

    fn nodes(&self, alive: usize) {
        self.nodes.store(alive.max(1), Ordering::Relaxed);
    }
}

impl fmt::Debug for SharedPace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedPace").field("nodes", &self.nodes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{KeyHash, LimitId, time};

    const KEY: CapKey = CapKey { limit: LimitId(1), key: KeyHash(2) };
    const RATE: NonZeroU64 = NonZeroU64::new(1_000_000).unwrap();
    const TICK: Duration = Duration::from_millis(100);

    fn shared(nodes: usize) -> (Arc<SharedPace>, Arc<Pacer>, Instant) {
        let (all, now) = (Arc::new(SharedPace::default()), time::now());
        Paced::nodes(&*all, nodes);
        let pacer = all.pacer(KEY, RATE, now);
        (all, pacer, now)
    }

    fn sample(all: &SharedPace, now: Instant) -> Vec<Demand> {
        let mut out = Vec::new();
        all.sample(now, &mut out);
        out
    }

    #[test]
    fn what_moves_is_told_and_what_hardly_moves_is_not() {
        let (all, pacer, now) = shared(4);
        assert_eq!(pacer.pace(), 125_000);
        assert_eq!(sample(&all, now), []);
        pacer.charge(20_000, now);
        let told = sample(&all, now + TICK);
        let demand = Demand { key: KEY, rate: 1_000_000, moved: 200_000, hungry: true };
        assert_eq!(told, [demand]);
        all.share(now + TICK, KEY, 700_000);
        assert_eq!(pacer.pace(), 700_000);
        pacer.charge(20_000, now);
        assert!(!sample(&all, now + 2 * TICK)[0].hungry);
        pacer.charge(100, now);
        assert_eq!(sample(&all, now + 3 * TICK), []);
        assert_eq!(pacer.pace(), 125_000, "it begins anew");
    }

    #[test]
    fn without_an_answer_a_node_has_its_even_share() {
        let (all, pacer, began) = shared(4);
        let mut now = began;
        sample(&all, now);
        for _ in 0..12 {
            now += TICK;
            pacer.charge(50_000, now);
            sample(&all, now);
        }
        assert_eq!(pacer.pace(), 250_000);
        all.share(now, KEY, u64::MAX);
        assert_eq!(pacer.pace(), 1_000_000, "never more than the whole");
    }

    #[test]
    fn alone_a_node_has_the_whole_and_who_is_gone_is_forgotten() {
        let (all, pacer, now) = shared(1);
        assert_eq!(pacer.pace(), 1_000_000);
        sample(&all, now);
        pacer.charge(50_000, now);
        assert_eq!(sample(&all, now + TICK).len(), 1);
        drop(pacer);
        assert_eq!(sample(&all, now + 2 * TICK), []);
        assert!(all.sampled.lock().moving.is_empty());
    }

    #[test]
    fn a_pacer_that_rested_is_seen_again_when_it_moves() {
        let (all, pacer, now) = shared(2);
        sample(&all, now);
        pacer.charge(50_000, now);
        assert_eq!(sample(&all, now + TICK).len(), 1);
        assert_eq!(sample(&all, now + 2 * TICK), []);
        assert!(all.sampled.lock().moving.is_empty());
        pacer.charge(50_000, now);
        assert_eq!(sample(&all, now + 3 * TICK).len(), 1);
    }
}
