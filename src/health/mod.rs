//! Health: from results of checks and connects to a verdict. Pure: takes `now`, knows no socket.

use std::net::SocketAddr;
use std::time::Duration;

use crate::base::{BackendKey, NodeName, Share};

/// What a node thinks of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Verdict {
    /// Answers.
    Up,
    /// Does not.
    Down,
}

/// Active checks of a rule's backends.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckPlan {
    /// What is done to a backend; `None` switches checks off.
    pub kind: Option<CheckKind>,
    /// From the start of one check to the next.
    pub interval: Duration,
    /// What one check may take.
    pub timeout: Duration,
    /// Successes in a row that bring a backend up.
    pub rise: u32,
    /// Failures in a row that take it down.
    pub fall: u32,
    /// Port to check, when it is not the backend's own.
    pub port: Option<u16>,
}

/// How a backend is checked.
#[derive(Clone, Debug, PartialEq)]
pub enum CheckKind {
    /// A connection is accepted.
    Tcp,
    /// A GET is answered as expected.
    Http {
        /// Request path.
        path: String,
        /// `Host` field; the backend's address when `None`.
        host: Option<String>,
        /// Inclusive ranges of good status codes.
        expect_status: Vec<(u16, u16)>,
        /// Text that the first 64 KiB of the body must contain.
        expect_body: Option<String>,
    },
}

impl Default for CheckPlan {
    fn default() -> Self {
        CheckPlan {
            kind: Some(CheckKind::Tcp),
            interval: Duration::from_secs(3),
            timeout: Duration::from_secs(1),
            rise: 2,
            fall: 3,
            port: None,
        }
    }
}

/// Passive ejection after connect failures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OutlierPlan {
    /// Consecutive connect failures that eject; 0 switches ejection off.
    pub failures: u32,
    /// First ejection; doubles per flap.
    pub eject_for: Duration,
    /// At most this share of a rule's backends is ejected at once.
    pub max_ejected: Share,
}

impl Default for OutlierPlan {
    fn default() -> Self {
        OutlierPlan {
            failures: 5,
            eject_for: Duration::from_secs(10),
            max_ejected: Share::percent(50.0),
        }
    }
}

/// One node's opinion of a backend, as a peer reported it.
#[derive(Clone, Debug, PartialEq)]
pub struct Vote {
    /// Who saw it.
    pub observer: NodeName,
    /// What it saw.
    pub verdict: Verdict,
}

/// The window on the other nodes: what they see of a backend. Only fresh opinions of alive peers
/// are shown; alone, nobody.
pub trait Peers: Send + Sync {
    /// Opinions of the others, own excluded.
    fn votes(&self, backend: &BackendKey) -> Vec<Vote>;
}

/// The window of a node that is alone.
#[derive(Clone, Copy, Debug)]
pub struct NoPeers;

impl Peers for NoPeers {
    fn votes(&self, _: &BackendKey) -> Vec<Vote> {
        Vec::new()
    }
}

/// Own verdicts by backend: written by the checker, read by the exchange with peers.
#[derive(Debug, Default)]
pub struct Verdicts(parking_lot::RwLock<std::collections::BTreeMap<BackendKey, OwnVerdict>>);

/// What this node found itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OwnVerdict {
    /// The verdict.
    pub verdict: Verdict,
    /// Grows by one with every change of this backend's verdict.
    pub seq: u64,
}

impl Verdicts {
    /// Notes a verdict; only a change of it counts.
    pub fn note(&self, backend: &BackendKey, verdict: Verdict) {
        let mut all = self.0.write();
        match all.get_mut(backend) {
            Some(own) if own.verdict == verdict => {}
            Some(own) => *own = OwnVerdict { verdict, seq: own.seq + 1 },
            None => {
                all.insert(backend.clone(), OwnVerdict { verdict, seq: 1 });
            }
        }
    }

    /// Forgets a backend that is no longer used.
    pub fn forget(&self, backend: &BackendKey) {
        self.0.write().remove(backend);
    }

    /// All own verdicts, in order of backend.
    pub fn all(&self) -> Vec<(BackendKey, OwnVerdict)> {
        self.0.read().iter().map(|(key, own)| (key.clone(), *own)).collect()
    }

    /// The verdict on one backend.
    pub fn of(&self, rule: &crate::base::RuleName, address: SocketAddr) -> Option<Verdict> {
        let key = BackendKey { rule: rule.clone(), address };
        self.0.read().get(&key).map(|own| own.verdict)
    }
}
