//! Verdicts, and the register in which this node's own ones stand.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use parking_lot::RwLock;

use crate::base::{BackendKey, RuleName};

/// What a node thinks of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Verdict {
    /// Answers.
    Up,
    /// Does not.
    Down,
}

impl Verdict {
    /// As shown to people.
    pub fn label(self) -> &'static str {
        match self {
            Verdict::Up => "up",
            Verdict::Down => "down",
        }
    }
}

/// What one node found of one backend: a register of a single writer, the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// The verdict.
    pub verdict: Verdict,
    /// When it became that.
    pub since: Instant,
    /// Results in a row that said so, up to the last one.
    pub streak: u32,
    /// What a good check takes, smoothed; `None` before the first.
    pub latency: Option<Duration>,
    /// Grows by one with every change of the verdict; never falls, even when the backend is
    /// forgotten and comes back.
    pub seq: u64,
}

impl Report {
    /// The first word on a backend.
    pub fn first(verdict: Verdict, now: Instant) -> Self {
        Report { verdict, since: now, streak: 1, latency: None, seq: 1 }
    }
}

/// What a node's checks found just now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sighting {
    /// The verdict, old or new.
    pub verdict: Verdict,
    /// Results in a row that say so.
    pub streak: u32,
    /// What a good check takes.
    pub latency: Option<Duration>,
    /// By then, peers that check alike have come to the same verdict: who still disagrees sees
    /// something else.
    pub settled: Instant,
    /// Without another result it is worth nothing from then on.
    pub until: Instant,
}

/// What this node found itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OwnVerdict {
    /// As peers are told.
    pub report: Report,
    /// See [`Sighting::settled`]; of the result that brought the verdict.
    pub settled: Instant,
    /// See [`Sighting::until`]; of the last result.
    pub until: Instant,
}

/// Own verdicts by backend: written by the checker, read by the exchange with peers.
#[derive(Debug, Default)]
pub struct Verdicts(RwLock<Register>);

#[derive(Debug, Default)]
struct Register {
    /// Every backend that is checked by somebody; `None`: not by this node so far.
    all: BTreeMap<BackendKey, Option<OwnVerdict>>,
    /// Highest `seq` of a forgotten backend: one that comes back begins above it, for peers drop
    /// what is not newer than what they heard.
    forgotten_seq: u64,
}

impl Verdicts {
    /// A backend that is used and checked, by this node or by its peers.
    pub fn enroll(&self, backend: &BackendKey) {
        self.0.write().all.entry(backend.clone()).or_default();
    }

    /// Notes what was seen of a backend.
    pub fn note(&self, backend: &BackendKey, now: Instant, seen: Sighting) {
        let Sighting { verdict, streak, latency, settled, until } = seen;
        let mut register = self.0.write();
        let first = register.forgotten_seq + 1;
        let entry = register.all.entry(backend.clone()).or_default();
        match entry {
            Some(own) if own.report.verdict == verdict => {
                own.report = Report { streak, latency, ..own.report };
                own.until = until;
            }
            entry => {
                let seq = entry.map_or(first, |own| own.report.seq + 1);
                let report = Report { verdict, since: now, streak, latency, seq };
                *entry = Some(OwnVerdict { report, settled, until });
            }
        }
    }

    /// Forgets a backend that is no longer used.
    pub fn forget(&self, backend: &BackendKey) {
        let mut register = self.0.write();
        if let Some(Some(own)) = register.all.remove(backend) {
            register.forgotten_seq = register.forgotten_seq.max(own.report.seq);
        }
    }

    /// How many backends are used and checked, by whomever.
    pub fn used(&self) -> usize {
        self.0.read().all.len()
    }

    /// Own verdicts that still count, in order of backend.
    pub fn fresh(&self, now: Instant) -> Vec<(BackendKey, OwnVerdict)> {
        let register = self.0.read();
        let known = register.all.iter().filter_map(|(key, own)| Some((key, (*own)?)));
        known.filter(|(_, own)| own.until > now).map(|(key, own)| (key.clone(), own)).collect()
    }

    /// This node's last word on one backend.
    pub fn of(&self, rule: &RuleName, address: SocketAddr) -> Option<OwnVerdict> {
        let key = BackendKey { rule: rule.clone(), address };
        self.0.read().all.get(&key).copied().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(port: u16) -> BackendKey {
        BackendKey { rule: "web".into(), address: SocketAddr::from(([127, 0, 0, 1], port)) }
    }

    /// A time of the test's own.
    fn now() -> Instant {
        crate::base::time::now()
    }

    const SECOND: Duration = Duration::from_secs(1);

    fn seen(verdict: Verdict, streak: u32, now: Instant) -> Sighting {
        let latency = Some(SECOND * streak);
        Sighting { verdict, streak, latency, settled: now + SECOND, until: now + 9 * SECOND }
    }

    #[test]
    fn only_a_change_raises_the_sequence_and_moves_since_and_the_settling() {
        let (verdicts, now) = (Verdicts::default(), now());
        let later = now + SECOND;
        verdicts.note(&key(1), now, seen(Verdict::Up, 1, now));
        verdicts.note(&key(1), later, seen(Verdict::Up, 2, later));
        let own = verdicts.of(&"web".into(), key(1).address).unwrap();
        assert_eq!((own.report.seq, own.report.since, own.settled), (1, now, now + SECOND));
        assert_eq!((own.report.streak, own.report.latency), (2, Some(2 * SECOND)));
        assert_eq!(own.until, later + 9 * SECOND);
        verdicts.note(&key(1), later, seen(Verdict::Down, 3, later));
        let own = verdicts.of(&"web".into(), key(1).address).unwrap();
        assert_eq!((own.report.seq, own.report.since, own.settled), (2, later, later + SECOND));
    }

    #[test]
    fn a_backend_that_comes_back_is_newer_than_what_peers_heard() {
        let (verdicts, now) = (Verdicts::default(), now());
        for verdict in [Verdict::Up, Verdict::Down, Verdict::Up] {
            verdicts.note(&key(1), now, seen(verdict, 1, now));
        }
        verdicts.forget(&key(1));
        assert_eq!(verdicts.of(&"web".into(), key(1).address), None);
        verdicts.note(&key(1), now, seen(Verdict::Down, 1, now));
        assert_eq!(verdicts.of(&"web".into(), key(1).address).unwrap().report.seq, 4);
    }

    #[test]
    fn a_verdict_that_nobody_renews_ends_and_its_backend_is_still_used() {
        let (verdicts, now) = (Verdicts::default(), now());
        verdicts.enroll(&key(1));
        verdicts.enroll(&key(2));
        verdicts.note(&key(1), now, seen(Verdict::Up, 1, now));
        assert_eq!(verdicts.fresh(now + 8 * SECOND).len(), 1);
        assert_eq!(verdicts.fresh(now + 9 * SECOND), []);
        assert_eq!(verdicts.used(), 2);
        verdicts.enroll(&key(1));
        assert_eq!(verdicts.fresh(now).len(), 1, "enrolling again forgets nothing");
    }
}
