//! When to ask whom to be let in. foca asks only while it is connected, so a node that was cut off
//! would stay alone for ever; this loop never ends.
//!
//! - alone: every second all seeds, resolved anew, and some of the peers that were there before;
//! - not alone: the seeds that are not among the members, after 1 s, 2 s, 4 s, … 60 s, then every
//!   60 s (another part of the cluster may be behind a seed);
//! - peers that were lost: one of them every 2 s, after an hour every 10 s.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::Rng;
use rand::seq::IteratorRandom;

const ALONE: Duration = Duration::from_secs(1);
const RAREST: Duration = Duration::from_secs(60);
const LOST: Duration = Duration::from_secs(2);
/// From a peer's loss to asking it.
const FIRST_LOST: Duration = Duration::from_millis(500);
const LONG_LOST: Duration = Duration::from_secs(10);
/// From here on a lost peer counts as long lost.
const LONG: Duration = Duration::from_secs(3600);
/// Lost peers remembered; the longest lost give way.
const MOST_LOST: usize = 256;
/// Lost peers asked at once while alone.
const AT_ONCE: usize = 8;

/// What is to be asked now.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// Resolve the seeds and ask all that answer to no member.
    pub seeds: bool,
    /// Ask these.
    pub lost: Vec<SocketAddr>,
}

/// The loop's state.
#[derive(Debug)]
pub struct Herald {
    alone: bool,
    wait: Duration,
    seeds_due: Instant,
    lost_due: Instant,
    lost: BTreeMap<SocketAddr, Instant>,
}

impl Herald {
    /// Alone, and due at once.
    pub fn new(now: Instant) -> Self {
        Herald {
            alone: true,
            wait: ALONE,
            seeds_due: now,
            lost_due: now + LOST,
            lost: BTreeMap::new(),
        }
    }

    /// When to call next.
    pub fn due(&self) -> Instant {
        if self.lost.is_empty() { self.seeds_due } else { self.seeds_due.min(self.lost_due) }
    }

    /// Whether this node has no peer. Being alone again makes a call due at once.
    pub fn alone(&mut self, now: Instant, alone: bool) {
        if alone == self.alone {
            return;
        }
        self.alone = alone;
        self.wait = ALONE;
        self.seeds_due = if alone { now } else { now + ALONE };
    }

    /// A peer does not answer: it may be behind a cut, or be restarting.
    pub fn lost(&mut self, now: Instant, address: SocketAddr) {
        self.lost.insert(address, now);
        if self.lost.len() > MOST_LOST {
            let longest = self.lost.iter().min_by_key(|(_, since)| **since).map(|(a, _)| *a);
            longest.map(|address| self.lost.remove(&address));
        }
        self.lost_due = self.lost_due.min(now + FIRST_LOST);
    }

    /// A peer is there, or has left for good.
    pub fn found(&mut self, address: SocketAddr) {
        self.lost.remove(&address);
    }

    /// The cluster took us for dead: the lost may be so mistaken as well, ask them now.
    pub fn hurry(&mut self, now: Instant) {
        self.lost_due = now;
    }

    /// What is due by `now`.
    pub fn call(&mut self, now: Instant, rng: &mut impl Rng) -> Call {
        let mut call = Call::default();
        if self.seeds_due <= now {
            call.seeds = true;
            self.seeds_due = now + self.wait;
            if self.alone {
                call.lost = self.some_lost(AT_ONCE, rng);
            } else {
                self.wait = (self.wait * 2).min(RAREST);
            }
        }
        if self.lost_due <= now {
            if call.lost.is_empty() {
                call.lost = self.some_lost(1, rng);
            }
            let fresh = self.lost.values().any(|since| now.duration_since(*since) < LONG);
            self.lost_due = now + if fresh { LOST } else { LONG_LOST };
        }
        call
    }

    fn some_lost(&self, number: usize, rng: &mut impl Rng) -> Vec<SocketAddr> {
        self.lost.keys().copied().sample(rng, number)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::base::time::now;

    fn calls(herald: &mut Herald, from: Instant, until: Instant) -> Vec<(u64, Call)> {
        let mut rng = StdRng::seed_from_u64(1);
        let mut made = Vec::new();
        let mut at = from;
        while at <= until {
            let call = herald.call(at, &mut rng);
            if call != Call::default() {
                made.push(((at - from).as_secs(), call));
            }
            at = herald.due().max(at + Duration::from_millis(1));
        }
        made
    }

    fn seconds(calls: &[(u64, Call)], wanted: impl Fn(&Call) -> bool) -> Vec<u64> {
        calls.iter().filter(|(_, call)| wanted(call)).map(|(second, _)| *second).collect()
    }

    #[test]
    fn a_lonely_node_asks_its_seeds_every_second_for_ever() {
        let (start, later) = (now(), now() + Duration::from_secs(10_000));
        let mut herald = Herald::new(start);
        let made = calls(&mut herald, later, later + Duration::from_secs(9));
        assert_eq!(seconds(&made, |call| call.seeds), Vec::from_iter(0..10));
    }

    #[test]
    fn a_node_with_peers_backs_off_to_a_minute_and_never_stops() {
        let start = now();
        let mut herald = Herald::new(start);
        herald.alone(start, false);
        let made = calls(&mut herald, start, start + Duration::from_secs(250));
        assert_eq!(seconds(&made, |call| call.seeds), [1, 2, 4, 8, 16, 32, 64, 124, 184, 244]);
    }

    #[test]
    fn being_alone_again_is_answered_at_once() {
        let start = now();
        let mut herald = Herald::new(start);
        herald.alone(start, false);
        calls(&mut herald, start, start + Duration::from_secs(250));
        let later = start + Duration::from_secs(250);
        herald.alone(later, true);
        assert_eq!(herald.due(), later);
    }

    #[test]
    fn lost_peers_are_asked_again_until_found() {
        let start = now();
        let address: SocketAddr = "10.0.0.1:9".parse().unwrap();
        let mut herald = Herald::new(start);
        herald.alone(start, false);
        herald.lost(start, address);
        let made = calls(&mut herald, start, start + Duration::from_secs(7));
        assert_eq!(seconds(&made, |call| call.lost == [address]), [0, 2, 4, 6]);
        let later = start + Duration::from_secs(4000);
        let made = calls(&mut herald, later, later + Duration::from_secs(25));
        assert_eq!(seconds(&made, |call| call.lost == [address]), [0, 10, 20]);
        herald.found(address);
        let later = start + Duration::from_secs(5000);
        let made = calls(&mut herald, later, later + Duration::from_secs(25));
        assert!(seconds(&made, |call| !call.lost.is_empty()).is_empty());
    }

    #[test]
    fn the_lost_are_bounded() {
        let start = now();
        let mut herald = Herald::new(start);
        for port in 1..=1000u16 {
            herald.lost(start + Duration::from_millis(port.into()), ([10, 0, 0, 1], port).into());
        }
        assert_eq!(herald.lost.len(), MOST_LOST);
        assert!(herald.lost.keys().all(|address| address.port() > 1000 - MOST_LOST as u16));
    }
}
