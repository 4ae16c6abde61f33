//! Bandwidth of a key, split over the nodes that use it by what they move: max-min fair (Bertsekas,
//! Gallager, *Data Networks*, 6.5.2). Who moves little gets it and some to grow; who would move more
//! shares the rest evenly.
//!
//! Nobody is given what another one was told to be its own: that one is told less first, when it
//! reports next. So what all were told is never more than the rate, but for the small part that
//! everybody gets to begin with.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::base::Actor;
use crate::traffic::{CapKey, Demand};

/// Nodes report this often.
pub const EVERY: Duration = Duration::from_millis(100);
/// A node that does not report has no part any more after this.
const GONE: Duration = Duration::from_millis(500);
/// So long after the first report a new owner gives even shares only: others have not reported yet.
const BEGIN: Duration = Duration::from_millis(250);
/// A node that is not hungry gets what it moves, and this much more.
const GROWTH: f64 = 1.3;
/// The least part, as a part of the even share.
const LEAST: u64 = 8;
/// Keys that are split at once; beyond, nodes keep their even shares.
const MOST: usize = 1 << 17;

/// All keys that this node splits.
#[derive(Debug, Default)]
pub struct Splits(HashMap<CapKey, Split>);

#[derive(Debug)]
struct Split {
    began: Instant,
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    holder: Actor,
    moved: u64,
    hungry: bool,
    told: u64,
    heard: Instant,
}

impl Splits {
    /// `holder` reports what it moves; its part of the rate, in bytes per second. `nodes` share.
    pub fn report(
        &mut self,
        now: Instant,
        holder: Actor,
        demand: &Demand,
        nodes: usize,
    ) -> Option<u64> {
        if self.0.len() >= MOST && !self.0.contains_key(&demand.key) {
            return None;
        }
        let nodes = nodes.max(1) as u64;
        let even = demand.rate.div_ceil(nodes);
        let fresh = || Split { began: now, parts: Vec::new() };
        let split = self.0.entry(demand.key).or_insert_with(fresh);
        split.parts.retain(|part| now.saturating_duration_since(part.heard) < GONE);
        if split.parts.is_empty() {
            split.began = now;
        }
        let at = match split.parts.iter().position(|part| part.holder == holder) {
            Some(at) => at,
            None => {
                let (moved, hungry, told) = (0, false, 0);
                split.parts.push(Part { holder, moved, hungry, told, heard: now });
                split.parts.len() - 1
            }
        };
        let part = &mut split.parts[at];
        (part.moved, part.hungry, part.heard) = (demand.moved, demand.hungry, now);
        let fair = split.fair(at, demand.rate);
        let others = split.parts.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, p)| p.told);
        // Peers may say anything of the rate.
        let others = others.fold(0, u64::saturating_add);
        let begins = nodes > 1 && now.saturating_duration_since(split.began) < BEGIN;
        let most = if begins { even } else { demand.rate };
        let share = fair.min(demand.rate.saturating_sub(others)).min(most);
        let share = share.max(even / LEAST).max(1);
        split.parts[at].told = share;
        Some(share)
    }

    /// Lets go of keys that nobody reports.
    pub fn expire(&mut self, now: Instant) {
        self.0.retain(|_, split| {
            split.parts.retain(|part| now.saturating_duration_since(part.heard) < GONE);
            !split.parts.is_empty()
        });
    }

    /// Keys.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Split {
    /// The part of `wanted`: water is poured until each has what it wants or all is spent; what is
    /// left when nobody is hungry goes to all alike.
    fn fair(&self, wanted: usize, rate: u64) -> u64 {
        let want = |part: &Part| match part.hungry {
            true => f64::INFINITY,
            false => part.moved as f64 * GROWTH,
        };
        let mut wants: Vec<f64> = self.parts.iter().map(want).collect();
        let own = wants[wanted];
        wants.sort_by(f64::total_cmp);
        let (mut left, mut many) = (rate as f64, wants.len() as f64);
        for want in wants {
            let even = left / many;
            if want > even {
                return own.min(even) as u64;
            }
            left -= want;
            many -= 1.0;
        }
        (own + left / self.parts.len() as f64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{BootId, KeyHash, LimitId, NodeId, time};

    const KEY: CapKey = CapKey { limit: LimitId(1), key: KeyHash(2) };
    const RATE: u64 = 1_000_000;

    fn node(id: u64) -> Actor {
        Actor { node: NodeId(id), boot: BootId::new(1) }
    }

    /// Rounds of reports, each of (moved, hungry) by node; the last parts.
    fn rounds(rounds: u32, demands: &[(u64, bool)]) -> Vec<u64> {
        let (mut splits, began) = (Splits::default(), time::now());
        let mut parts = vec![0; demands.len()];
        for round in 0..rounds {
            for (id, &(moved, hungry)) in demands.iter().enumerate() {
                let demand = Demand { key: KEY, rate: RATE, moved, hungry };
                let now = began + EVERY * round;
                parts[id] = splits.report(now, node(id as u64), &demand, 4).unwrap();
            }
            let least = RATE / 4 / LEAST * demands.len() as u64;
            assert!(parts.iter().sum::<u64>() <= RATE + least, "{parts:?}");
        }
        parts
    }

    #[test]
    fn one_node_that_wants_all_gets_all() {
        assert_eq!(rounds(4, &[(5, true)]), [RATE]);
    }

    #[test]
    fn who_wants_little_gets_it_and_the_hungry_share_the_rest_evenly() {
        let parts = rounds(10, &[(100_000, false), (300_000, true), (1, true)]);
        assert_eq!(parts, [130_000, 435_000, 435_000]);
        let parts = rounds(10, &[(100_000, false), (200_000, false)]);
        assert_eq!(parts, [435_000, 565_000]);
    }

    #[test]
    fn a_newcomer_takes_nobodys_part_before_that_one_was_told() {
        let (mut splits, began) = (Splits::default(), time::now());
        let demand = Demand { key: KEY, rate: RATE, moved: RATE, hungry: true };
        let mut told = |id, ms| {
            splits.report(began + Duration::from_millis(ms), node(id), &demand, 4).unwrap()
        };
        (0..5).for_each(|round| assert!(told(1, round * 100) <= RATE));
        assert_eq!(told(1, 500), RATE);
        assert_eq!(told(2, 510), RATE / 4 / LEAST);
        assert_eq!(told(1, 600), RATE / 2);
        assert_eq!(told(2, 610), RATE / 2);
        // Who reports no more leaves its part.
        (7..12).for_each(|round| assert!(told(2, round * 100) <= RATE));
        assert_eq!(told(2, 1200), RATE);
    }

    #[test]
    fn keys_that_nobody_reports_are_forgotten_and_a_flood_of_keys_is_bounded() {
        let (mut splits, now) = (Splits::default(), time::now());
        for key in 0..MOST as u64 + 10 {
            let key = CapKey { key: KeyHash(key), ..KEY };
            let demand = Demand { key, rate: RATE, moved: 1, hungry: true };
            splits.report(now, node(1), &demand, 2);
        }
        assert_eq!(splits.len(), MOST);
        splits.expire(now + GONE);
        assert!(splits.is_empty());
    }
}
