//! Bandwidth that all nodes share, inside the machine: what moves here is told to the keys' owners,
//! and what they give is told to the pacers.

use std::collections::BTreeMap;
use std::time::Instant;

use super::Machine;
use crate::base::Actor;
use crate::cluster::leases::split::{EVERY, Splits};
use crate::cluster::wire::lease::{PaceShares, PaceTold, cap_key};
use crate::cluster::wire::records::Record;
use crate::traffic::{CapKey, Demand};

/// Keys told in one round; the others keep what they have, and then their even share.
const AT_ONCE: usize = 4096;

/// All that a machine knows of shared bandwidth.
pub(super) struct Paces {
    splits: Splits,
    next: Instant,
    expire_at: Instant,
    /// Where the next round begins, when not all could be told.
    turn: usize,
}

impl Paces {
    pub(super) fn new(now: Instant) -> Self {
        Paces { splits: Splits::default(), next: now, expire_at: now, turn: 0 }
    }

    pub(super) fn due(&self) -> Instant {
        self.next
    }

    /// Keys that this node splits.
    pub(super) fn keys(&self) -> usize {
        self.splits.len()
    }
}

impl Machine {
    /// Tells what moves, when it is time.
    pub(super) fn tell_paces(&mut self, now: Instant) {
        if now < self.paces.next {
            return;
        }
        self.paces.next = now + EVERY;
        if now >= self.paces.expire_at {
            self.paces.expire_at = now + EVERY * 10;
            self.paces.splits.expire(now);
        }
        let mut demands = Vec::new();
        self.rooms.paced.sample(now, &mut demands);
        if demands.len() > AT_ONCE {
            self.paces.turn = (self.paces.turn + AT_ONCE) % demands.len();
            demands.rotate_left(self.paces.turn);
            demands.truncate(AT_ONCE);
        }
        let own = self.setup.actor;
        for demand in demands {
            let Some(pair) = self.leases.pair(demand.key) else { continue };
            if pair.primary == own {
                let nodes = self.leases.owners.members().len();
                if let Some(share) = self.paces.splits.report(now, own, &demand, nodes) {
                    self.rooms.paced.share(now, demand.key, share);
                }
            } else {
                self.leases.tell_pace(pair.primary, demand);
            }
        }
    }

    /// A node tells what it moves of some keys.
    pub(super) fn hear_paces(&mut self, now: Instant, from: Actor, told: &PaceTold) {
        let nodes = self.leases.owners.members().len();
        let mut shares: BTreeMap<u64, Vec<(u64, u64)>> = BTreeMap::new();
        for &(key, rate, moved, hungry) in &told.rows {
            let key = cap_key(told.limit, key);
            let ours = |own| self.leases.pair(key).is_some_and(|pair| pair.primary == own);
            if rate == 0 || !ours(self.setup.actor) {
                continue;
            }
            let demand = Demand { key, rate, moved, hungry };
            if let Some(share) = self.paces.splits.report(now, from, &demand, nodes) {
                shares.entry(told.limit).or_default().push((key.key.0, share));
            }
        }
        for (limit, rows) in shares {
            self.leases.write(from, Record::PaceShares(PaceShares { limit, rows }));
        }
    }

    /// An owner gives us our parts.
    pub(super) fn hear_shares(&mut self, now: Instant, from: Actor, shares: &PaceShares) {
        for &(key, share) in &shares.rows {
            let key: CapKey = cap_key(shares.limit, key);
            if self.leases.pair(key).is_some_and(|pair| pair.primary == from) {
                self.rooms.paced.share(now, key, share);
            }
        }
    }
}
