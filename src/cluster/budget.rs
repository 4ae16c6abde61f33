//! What may be sent and heard per second.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::base::Actor;

/// Datagrams a second that one member may send us.
const PER_PEER: u32 = 2000;
/// Datagrams a second that a node may send.
const MOST_DATAGRAMS: f64 = 10_000.0;
/// Datagrams a second of all that are not members together.
const STRANGERS: u32 = 500;
/// Datagrams a second that may cost the derivation of a key (3 µs), because their sender is not
/// known: most forgeries end there. Far more than newcomers need, so that a flood that stays below
/// keeps nobody out, and about a percent of a core.
const TRIALS: f64 = 4000.0;

/// What gives way when the allowance is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// Never held back: without it the cluster falls apart.
    Membership,
    /// Held back when nothing is left.
    Views,
    /// Part of a round that [`Allowance::counters`] or [`Allowance::loads`] allowed: sent to all
    /// peers or to none.
    Counters,
}

/// The bytes that this node may send: a bucket of a tenth of a second's worth.
#[derive(Debug)]
pub struct Allowance {
    per_second: f64,
    size: f64,
    left: f64,
    filled: Instant,
    /// How often something was held back.
    pub throttled: u64,
}

impl Allowance {
    /// `per_second` bytes, full.
    pub fn new(per_second: u64, now: Instant) -> Self {
        let per_second = per_second as f64;
        // At least a few datagrams, or nothing would ever pass a small cap.
        let size = (per_second / 10.0).max(8.0 * 1200.0);
        Allowance { per_second, size, left: size, filled: now, throttled: 0 }
    }

    /// How many bytes of counters may be sent now; none is counted. It takes nothing: what was begun
    /// is sent.
    pub fn counters(&mut self, now: Instant) -> usize {
        self.fill(now);
        if self.left < self.size / 4.0 {
            self.throttled += 1;
            return 0;
        }
        self.left as usize
    }

    /// Whether loads may be told now, else that is counted: they give way before everything else,
    /// for they are told as they stand when there is room again.
    pub fn loads(&mut self, now: Instant) -> bool {
        self.fill(now);
        let may = self.left >= self.size / 2.0;
        if !may {
            self.throttled += 1;
        }
        may
    }

    fn fill(&mut self, now: Instant) {
        let gone = now.saturating_duration_since(self.filled).as_secs_f64();
        self.filled = self.filled.max(now);
        self.left = (self.left + gone * self.per_second).min(self.size);
    }

    /// Whether `bytes` may be sent; they are taken when so. Counters are held back first: rows are
    /// cumulative and wait without loss.
    pub fn take(&mut self, now: Instant, bytes: usize, priority: Priority) -> bool {
        self.fill(now);
        // A datagram costs its receiver something however short it is.
        let bytes = (bytes as f64).max(self.per_second / MOST_DATAGRAMS);
        match priority {
            Priority::Views if self.left < bytes => {
                self.throttled += 1;
                return false;
            }
            // Membership may overdraw, but not so far that the rest never recovers.
            Priority::Membership => {
                self.left = (self.left - bytes).max(self.left.min(-self.size));
            }
            Priority::Views | Priority::Counters => self.left -= bytes,
        }
        true
    }
}

/// Counts what each peer sends within a second.
#[derive(Debug)]
pub struct Intake {
    began: Instant,
    peers: HashMap<Actor, u32>,
    strangers: u32,
    trials: f64,
    filled: Instant,
}

impl Intake {
    /// Nothing heard yet.
    pub fn new(now: Instant) -> Self {
        let (peers, trials) = (HashMap::new(), TRIALS / 10.0);
        Intake { began: now, peers, strangers: 0, trials, filled: now }
    }

    /// Whether a datagram may be tried that costs the derivation of a key. The budget flows evenly:
    /// a flood cannot use up all of a second at its begin.
    pub fn try_out(&mut self, now: Instant) -> bool {
        let gone = now.saturating_duration_since(self.filled).as_secs_f64();
        self.filled = self.filled.max(now);
        self.trials = (self.trials + gone * TRIALS).min(TRIALS / 10.0);
        let may = self.trials >= 1.0;
        if may {
            self.trials -= 1.0;
        }
        may
    }

    /// Whether one more datagram may be heard; `member` says whether its sender is one, all others
    /// share a small budget.
    pub fn admit(&mut self, now: Instant, sender: Actor, member: bool) -> bool {
        if now.saturating_duration_since(self.began) >= Duration::from_secs(1) {
            self.began = now;
            self.strangers = 0;
            self.peers.clear();
        }
        let (heard, most) = if member {
            (self.peers.entry(sender).or_default(), PER_PEER)
        } else {
            (&mut self.strangers, STRANGERS)
        };
        *heard = heard.saturating_add(1);
        *heard <= most
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::now;
    use crate::base::{BootId, NodeId};

    #[test]
    fn counters_give_way_first_and_membership_never() {
        let start = now();
        let mut allowance = Allowance::new(100_000, start);
        let rounds = (0..1000).take_while(|_| {
            allowance.counters(start) > 0 && allowance.take(start, 1000, Priority::Counters)
        });
        assert_eq!(rounds.count(), 8);
        let mut sent =
            |priority| (0..1000).take_while(|_| allowance.take(start, 1000, priority)).count();
        assert_eq!(sent(Priority::Views), 2);
        assert_eq!(sent(Priority::Membership), 1000);
        assert_eq!(allowance.throttled, 2);
        assert!(allowance.counters(start + Duration::from_secs(1)) > 0);
    }

    #[test]
    fn over_ten_seconds_the_cap_is_kept() {
        let start = now();
        let mut allowance = Allowance::new(100_000, start);
        let sent = (0..10_000u64)
            .filter(|ms| {
                let now = start + Duration::from_millis(*ms);
                allowance.counters(now) > 0 && allowance.take(now, 1000, Priority::Counters)
            })
            .count();
        assert!((950..=1012).contains(&sent), "{sent}");
    }

    #[test]
    fn short_datagrams_are_counted_as_well() {
        let start = now();
        let mut allowance = Allowance::new(3 << 20, start);
        let sent = (0..100_000u64)
            .filter(|n| {
                let now = start + Duration::from_micros(*n * 50);
                allowance.counters(now) > 0 && allowance.take(now, 40, Priority::Counters)
            })
            .count();
        assert!((45_000..=51_500).contains(&sent), "{sent} in five seconds");
    }

    #[test]
    fn a_peer_that_shouts_is_cut_and_strangers_share_a_small_budget() {
        let start = now();
        let actor = |node| Actor { node: NodeId(node), boot: BootId::new(1) };
        let mut intake = Intake::new(start);
        let heard = (0..5000).filter(|_| intake.admit(start, actor(1), true)).count();
        assert_eq!(heard, PER_PEER as usize);
        assert!(intake.admit(start, actor(2), true));
        let heard = (0..5000).filter(|node| intake.admit(start, actor(*node), false)).count();
        assert_eq!(heard, STRANGERS as usize);
        assert!(intake.admit(start + Duration::from_secs(1), actor(1), true));
    }

    #[test]
    fn trials_flow_evenly_and_a_flood_leaves_some_for_others() {
        let start = now();
        let mut intake = Intake::new(start);
        let at = |ms: u64| start + Duration::from_micros(100 * ms);
        let tried = (0..100_000).filter(|i| intake.try_out(at(*i))).count();
        assert!((39_000..=41_000).contains(&tried), "{tried} of 10 000 a second for 10 s");
        assert!((100_000..100_010).any(|i| intake.try_out(at(i))));
    }
}
