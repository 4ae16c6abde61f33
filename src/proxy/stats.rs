//! What a rule has done since it began: counts and times, written by all workers.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::outcome::Reason;

/// Upper bounds of waits and connects, in seconds.
const SHORT: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];
/// Upper bounds of whole sessions, in seconds.
const LONG: &[f64] =
    &[0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0];
const BUCKETS: usize = 15;
const REASONS: usize = Reason::ALL.len();
/// Workers write to different shards, or the cache lines of a busy rule would travel between cores.
const SHARDS: usize = 16;

/// A part of a session's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Learning who the client is and whom it wants: a PROXY header, a hello, a TLS handshake. Only
    /// where the rule asks for one.
    Handshake,
    /// Queued for a token, a permit or a full backend.
    Wait,
    /// Connecting, failed attempts included.
    Connect,
    /// From accept to the end.
    Total,
}

impl Phase {
    const ALL: [Phase; 4] = [Phase::Handshake, Phase::Wait, Phase::Connect, Phase::Total];

    fn label(self) -> &'static str {
        match self {
            Phase::Handshake => "handshake",
            Phase::Wait => "wait",
            Phase::Connect => "connect",
            Phase::Total => "total",
        }
    }

    fn bounds(self) -> &'static [f64] {
        match self {
            Phase::Handshake | Phase::Wait | Phase::Connect => SHORT,
            Phase::Total => LONG,
        }
    }
}

/// Counts of one rule.
#[derive(Debug, Default)]
pub struct RuleStats {
    shards: [Shard; SHARDS],
    warned_s: AtomicU64,
    unsaid: AtomicU64,
}

/// One worker's part of them (workers above [`SHARDS`] share).
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Shard {
    connections: AtomicU64,
    ended: AtomicU64,
    bytes_up: AtomicU64,
    bytes_down: AtomicU64,
    outcomes: Outcomes,
    phases: [Histogram; Phase::ALL.len()],
}

/// By reason.
#[derive(Debug)]
struct Outcomes([AtomicU64; REASONS]);

impl Default for Outcomes {
    fn default() -> Self {
        Outcomes([const { AtomicU64::new(0) }; REASONS])
    }
}

#[derive(Debug, Default)]
struct Histogram {
    counts: [AtomicU64; BUCKETS],
    sum_us: AtomicU64,
}

/// The counts at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuleFigures {
    /// Accepted since start.
    pub connections: u64,
    /// Live now.
    pub active: u64,
    /// Ended sessions by reason; only reasons that occurred.
    pub outcomes: Vec<(&'static str, u64)>,
    /// Bytes delivered to backends.
    pub bytes_up: u64,
    /// Bytes delivered to clients.
    pub bytes_down: u64,
    /// `handshake`, `wait`, `connect` and `total`.
    pub phases: Vec<PhaseFigures>,
}

/// A histogram at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PhaseFigures {
    /// One of them.
    pub phase: &'static str,
    /// Upper bounds in seconds.
    pub bounds: &'static [f64],
    /// Counts per bucket, not cumulative; one more than `bounds`.
    pub counts: Vec<u64>,
    /// Sum in seconds.
    pub sum: f64,
}

impl RuleStats {
    /// The part that worker `worker` writes to.
    pub(crate) fn shard(&self, worker: usize) -> &Shard {
        &self.shards[worker % SHARDS]
    }

    /// Whether a fault may be logged now (once per second), and then how many were not since the
    /// last.
    pub(crate) fn may_warn(&self, unix_ms: u64) -> Option<u64> {
        let second = unix_ms / 1000;
        if self.warned_s.swap(second, Relaxed) == second {
            self.unsaid.fetch_add(1, Relaxed);
            return None;
        }
        Some(self.unsaid.swap(0, Relaxed))
    }

    /// Everything now.
    pub fn figures(&self) -> RuleFigures {
        let sum = |pick: fn(&Shard) -> &AtomicU64| -> u64 {
            self.shards.iter().map(|shard| pick(shard).load(Relaxed)).sum()
        };
        // Ends first: read the other way round, more might have ended than had begun.
        let ended = sum(|shard| &shard.ended);
        let connections = sum(|shard| &shard.connections);
        let outcomes = Reason::ALL
            .iter()
            .map(|&reason| {
                let of = |shard: &Shard| shard.outcomes.0[reason as usize].load(Relaxed);
                (reason.label(), self.shards.iter().map(of).sum::<u64>())
            })
            .filter(|(_, count)| *count > 0)
            .collect();
        RuleFigures {
            connections,
            active: connections.saturating_sub(ended),
            outcomes,
            bytes_up: sum(|shard| &shard.bytes_up),
            bytes_down: sum(|shard| &shard.bytes_down),
            phases: Phase::ALL.map(|phase| self.phase(phase)).into(),
        }
    }

    fn phase(&self, phase: Phase) -> PhaseFigures {
        let mut counts = vec![0; BUCKETS];
        let mut sum_us = 0;
        for shard in &self.shards {
            let histogram = &shard.phases[phase as usize];
            sum_us += histogram.sum_us.load(Relaxed);
            for (sum, count) in counts.iter_mut().zip(&histogram.counts) {
                *sum += count.load(Relaxed);
            }
        }
        let (phase, bounds) = (phase.label(), phase.bounds());
        PhaseFigures { phase, bounds, counts, sum: sum_us as f64 / 1e6 }
    }
}

impl Shard {
    pub(crate) fn begun(&self) {
        self.connections.fetch_add(1, Relaxed);
    }

    pub(crate) fn ended(&self, reason: Reason) {
        self.outcomes.0[reason as usize].fetch_add(1, Relaxed);
        self.ended.fetch_add(1, Relaxed);
    }

    pub(crate) fn moved(&self, up: u64, down: u64) {
        self.bytes_up.fetch_add(up, Relaxed);
        self.bytes_down.fetch_add(down, Relaxed);
    }

    pub(crate) fn took(&self, phase: Phase, time: Duration) {
        let seconds = time.as_secs_f64();
        let bucket = phase.bounds().partition_point(|bound| *bound < seconds);
        let histogram = &self.phases[phase as usize];
        histogram.counts[bucket].fetch_add(1, Relaxed);
        histogram.sum_us.fetch_add(time.as_micros() as u64, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_all_workers_add_up() {
        let stats = RuleStats::default();
        for worker in [0, 1, 17] {
            stats.shard(worker).begun();
            stats.shard(worker).moved(10, 1);
        }
        stats.shard(1).ended(Reason::Ok);
        stats.shard(17).ended(Reason::IdleTimeout);
        let figures = stats.figures();
        assert_eq!((figures.connections, figures.active), (3, 1));
        assert_eq!((figures.bytes_up, figures.bytes_down), (30, 3));
        assert_eq!(figures.outcomes, [("ok", 1), ("idle_timeout", 1)]);
    }

    #[test]
    fn faults_are_said_once_per_second_with_the_number_of_those_unsaid() {
        let stats = RuleStats::default();
        let said: Vec<_> = [5_000, 5_001, 5_999, 6_000].map(|ms| stats.may_warn(ms)).into();
        assert_eq!(said, [Some(0), None, None, Some(2)]);
    }

    #[test]
    fn a_time_on_a_bound_belongs_below_it_and_the_longest_beyond_all() {
        let stats = RuleStats::default();
        let shard = stats.shard(0);
        shard.took(Phase::Wait, Duration::from_secs(5));
        shard.took(Phase::Wait, Duration::from_secs(6));
        let wait = &stats.figures().phases[Phase::Wait as usize];
        assert_eq!(wait.counts.len(), wait.bounds.len() + 1);
        assert_eq!((wait.counts[13], wait.counts[14]), (1, 1));
        assert_eq!((wait.phase, wait.sum), ("wait", 11.0));
        for phase in Phase::ALL {
            assert_eq!(phase.bounds().len() + 1, BUCKETS);
            assert!(phase.bounds().is_sorted());
        }
    }
}
