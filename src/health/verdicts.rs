//! Verdicts, and the register in which this node's own ones stand.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

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

/// Own verdicts by backend: written by the checker, read by the exchange with peers.
#[derive(Debug, Default)]
pub struct Verdicts(RwLock<Register>);

#[derive(Debug, Default)]
struct Register {
    all: BTreeMap<BackendKey, OwnVerdict>,
    /// Highest `seq` of a forgotten backend: one that comes back begins above it, for peers drop
    /// what is not newer than what they heard.
    forgotten_seq: u64,
}

/// What this node found itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OwnVerdict {
    /// The verdict.
    pub verdict: Verdict,
    /// Grows by one with every change of this backend's verdict; never falls, even when the
    /// backend is forgotten and comes back.
    pub seq: u64,
    /// By then, peers that check alike have come to the same verdict: who still disagrees sees
    /// something else.
    pub settled: Instant,
}

impl Verdicts {
    /// Notes a verdict, on which peers that check alike should agree by `settled`; only a change
    /// of the verdict counts.
    pub fn note(&self, backend: &BackendKey, verdict: Verdict, settled: Instant) {
        let mut register = self.0.write();
        let first = register.forgotten_seq + 1;
        match register.all.get_mut(backend) {
            Some(own) if own.verdict == verdict => {}
            Some(own) => *own = OwnVerdict { verdict, seq: own.seq + 1, settled },
            None => {
                register.all.insert(backend.clone(), OwnVerdict { verdict, seq: first, settled });
            }
        }
    }

    /// Forgets a backend that is no longer used.
    pub fn forget(&self, backend: &BackendKey) {
        let mut register = self.0.write();
        if let Some(own) = register.all.remove(backend) {
            register.forgotten_seq = register.forgotten_seq.max(own.seq);
        }
    }

    /// All own verdicts, in order of backend.
    pub fn all(&self) -> Vec<(BackendKey, OwnVerdict)> {
        self.0.read().all.iter().map(|(key, own)| (key.clone(), *own)).collect()
    }

    /// The verdict on one backend.
    pub fn of(&self, rule: &RuleName, address: SocketAddr) -> Option<Verdict> {
        let key = BackendKey { rule: rule.clone(), address };
        self.0.read().all.get(&key).map(|own| own.verdict)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn key(port: u16) -> BackendKey {
        BackendKey { rule: "web".into(), address: SocketAddr::from(([127, 0, 0, 1], port)) }
    }

    /// A time of the test's own.
    fn now() -> Instant {
        crate::base::time::now()
    }

    #[test]
    fn only_a_change_raises_the_sequence_and_moves_the_settling() {
        let (verdicts, now) = (Verdicts::default(), now());
        let later = now + Duration::from_secs(1);
        verdicts.note(&key(1), Verdict::Up, now);
        verdicts.note(&key(1), Verdict::Up, later);
        assert_eq!(verdicts.all()[0].1, OwnVerdict { verdict: Verdict::Up, seq: 1, settled: now });
        verdicts.note(&key(1), Verdict::Down, later);
        let down = OwnVerdict { verdict: Verdict::Down, seq: 2, settled: later };
        assert_eq!(verdicts.all()[0].1, down);
    }

    #[test]
    fn a_backend_that_comes_back_is_newer_than_what_peers_heard() {
        let verdicts = Verdicts::default();
        for verdict in [Verdict::Up, Verdict::Down, Verdict::Up] {
            verdicts.note(&key(1), verdict, now());
        }
        verdicts.forget(&key(1));
        assert_eq!(verdicts.of(&"web".into(), key(1).address), None);
        verdicts.note(&key(1), Verdict::Down, now());
        assert_eq!(verdicts.all()[0].1.seq, 4);
    }
}
