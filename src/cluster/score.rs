//! How far a node may trust its own senses. A node that hears nobody would declare everybody down;
//! so while its probes of *several* peers fail, while it is suspected itself, or while its own event
//! loop stalls, it waits longer before it declares anyone down and keeps its verdicts to itself.
//! (After Lifeguard, Dadgar et al. 2017; one dead peer is no sign of deafness and costs no time.)

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::base::Actor;

/// The worst score.
pub const WORST: u32 = 8;
/// From this score on own verdicts are not told.
const MUTED: u32 = 4;
/// 0 is good.
#[derive(Debug)]
pub struct Score {
    /// Failed probes older than this say nothing any more.
    memory: Duration,
    points: u32,
    failed: VecDeque<(Instant, Actor)>,
}

impl Score {
    /// A good one.
    pub fn new(memory: Duration) -> Self {
        Score { memory, points: 0, failed: VecDeque::new() }
    }

    /// A probe of `peer` was not answered, nor by detours.
    pub fn probe_failed(&mut self, now: Instant, peer: Actor) {
        while self.failed.front().is_some_and(|(at, _)| now.duration_since(*at) > self.memory) {
            self.failed.pop_front();
        }
        self.failed.push_back((now, peer));
        if self.failed.len() > 32 {
            self.failed.pop_front();
        }
        if self.failed.iter().any(|(_, other)| *other != peer) {
            self.worse(1);
        }
    }

    /// Probes were answered: what failed before was not our deafness. (Otherwise one dead peer and
    /// a single lost datagram would keep a small cluster in doubt.)
    pub fn probes_answered(&mut self, number: u32) {
        if number > 0 {
            self.failed.clear();
        }
        self.points = self.points.saturating_sub(number);
    }

    /// Others suspect us, or have declared us down.
    pub fn suspected(&mut self) {
        self.worse(1);
    }

    /// Our event loop could not run for `lag`.
    pub fn stalled(&mut self, lag: Duration) {
        self.worse(if lag >= Duration::from_secs(1) { 3 } else { 1 });
    }

    /// 0 is good, [`WORST`] is worst.
    pub fn points(&self) -> u32 {
        self.points
    }

    /// Whether own verdicts should be kept back.
    pub fn muted(&self) -> bool {
        self.points >= MUTED
    }

    fn worse(&mut self, by: u32) {
        self.points = (self.points + by).min(WORST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::now;
    use crate::base::{BootId, NodeId};

    fn peer(node: u64) -> Actor {
        Actor { node: NodeId(node), boot: BootId::new(1) }
    }

    #[test]
    fn one_dead_peer_is_no_sign_of_deafness() {
        let (start, mut score) = (now(), Score::new(Duration::from_secs(5)));
        for second in 0..20 {
            score.probe_failed(start + Duration::from_secs(second), peer(1));
        }
        assert_eq!(score.points(), 0);
    }

    #[test]
    fn a_node_that_hears_nobody_mutes_itself_and_recovers_by_answers() {
        let (start, mut score) = (now(), Score::new(Duration::from_secs(5)));
        for n in 0..20 {
            score.probe_failed(start, peer(n));
        }
        assert_eq!(score.points(), WORST);
        assert!(score.muted());
        score.probes_answered(5);
        assert!(!score.muted());
    }

    #[test]
    fn one_dead_peer_and_a_lost_datagram_now_and_then_are_no_deafness() {
        let (start, mut score) = (now(), Score::new(Duration::from_secs(5)));
        for round in 0..20 {
            score.probe_failed(start + Duration::from_secs(round), peer(1));
            if round % 4 == 0 {
                score.probe_failed(start + Duration::from_secs(round), peer(2));
            }
            score.probes_answered(1);
            assert_eq!(score.points(), 0);
        }
    }

    #[test]
    fn failures_far_apart_do_not_add_up() {
        let (start, mut score) = (now(), Score::new(Duration::from_secs(5)));
        for n in 0..20 {
            score.probe_failed(start + Duration::from_secs(10 * n), peer(n));
        }
        assert_eq!(score.points(), 0);
    }
}
