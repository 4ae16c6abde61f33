//! What the other nodes see, and how it joins with what this one sees.

use super::rota::Rota;
use super::verdicts::{Report, Verdict};
use crate::base::{BackendKey, NodeId, NodeName};

/// One node's opinion of a backend, as a peer reported it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vote {
    /// Who saw it.
    pub observer: NodeName,
    /// The same, as machines know it.
    pub node: NodeId,
    /// What it saw.
    pub report: Report,
}

/// The window on the other nodes: what they see of a backend. Only fresh opinions of alive peers
/// are shown; alone, nobody.
pub trait Peers: Send + Sync {
    /// Opinions of the others, own excluded.
    fn votes(&self, backend: &BackendKey) -> Vec<Vote>;

    /// How the checks are shared with them now.
    fn rota(&self) -> Rota {
        Rota::alone()
    }

    /// Whether there can never be a vote, so that nobody need ask again.
    fn alone(&self) -> bool {
        false
    }
}

/// The window of a node that is alone.
#[derive(Clone, Copy, Debug)]
pub struct NoPeers;

impl Peers for NoPeers {
    fn votes(&self, _: &BackendKey) -> Vec<Vote> {
        Vec::new()
    }

    fn alone(&self) -> bool {
        true
    }
}

/// Own verdict and peers' votes together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opinion {
    /// Take it.
    Good,
    /// We see it up, most peers do not: half its weight, and check at once.
    Doubted,
    /// Leave it.
    Bad,
    /// Nobody knows yet.
    Unknown,
}

/// What most of the peers say; `None` when as many say the one as the other.
pub fn majority(votes: &[Vote]) -> Option<Verdict> {
    let down = votes.iter().filter(|vote| vote.report.verdict == Verdict::Down).count();
    match down.cmp(&(votes.len() - down)) {
        std::cmp::Ordering::Greater => Some(Verdict::Down),
        std::cmp::Ordering::Less => Some(Verdict::Up),
        std::cmp::Ordering::Equal => None,
    }
}

/// Joins what this node found with what its peers say. Own *down* is final, for it is this node
/// that would have to connect; peers can only raise a doubt, and speak where it has no result of
/// its own.
pub fn join(own: Option<Verdict>, votes: &[Vote]) -> Opinion {
    let peers = majority(votes);
    match (own, peers) {
        (Some(Verdict::Down), _) => Opinion::Bad,
        // One peer alone may be the one whose network is broken.
        (Some(Verdict::Up), Some(Verdict::Down)) if votes.len() >= 2 => Opinion::Doubted,
        (Some(Verdict::Up), _) => Opinion::Good,
        (None, Some(Verdict::Down)) => Opinion::Bad,
        (None, Some(Verdict::Up)) => Opinion::Good,
        (None, None) => Opinion::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::Verdict::{Down, Up};
    use super::*;

    fn votes(verdicts: &[Verdict]) -> Vec<Vote> {
        let now = crate::base::time::now();
        let cast = |(node, &verdict): (u64, &Verdict)| Vote {
            observer: "n".into(),
            node: NodeId(node),
            report: Report::first(verdict, now),
        };
        (0..).zip(verdicts).map(cast).collect()
    }

    #[test]
    fn own_down_is_final() {
        assert_eq!(join(Some(Down), &votes(&[Up, Up, Up])), Opinion::Bad);
    }

    #[test]
    fn own_up_is_doubted_only_by_a_majority_of_two_or_more() {
        assert_eq!(join(Some(Up), &votes(&[])), Opinion::Good);
        assert_eq!(join(Some(Up), &votes(&[Down])), Opinion::Good);
        assert_eq!(join(Some(Up), &votes(&[Down, Up])), Opinion::Good);
        assert_eq!(join(Some(Up), &votes(&[Down, Down])), Opinion::Doubted);
        assert_eq!(join(Some(Up), &votes(&[Down, Down, Up])), Opinion::Doubted);
    }

    #[test]
    fn without_an_own_result_the_majority_speaks() {
        assert_eq!(join(None, &votes(&[])), Opinion::Unknown);
        assert_eq!(join(None, &votes(&[Down])), Opinion::Bad);
        assert_eq!(join(None, &votes(&[Up])), Opinion::Good);
        assert_eq!(join(None, &votes(&[Up, Down])), Opinion::Unknown);
        assert_eq!(join(None, &votes(&[Up, Down, Up])), Opinion::Good);
    }
}
