//! What the other nodes see, and how it joins with what this one sees.

use super::verdicts::Verdict;
use crate::base::{BackendKey, NodeName};

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

/// Joins what this node found with what its peers say. Own *down* is final, for it is this node
/// that would have to connect; peers can only raise a doubt, and speak where it has no result yet.
pub fn join(own: Option<Verdict>, votes: &[Vote]) -> Opinion {
    let down = votes.iter().filter(|vote| vote.verdict == Verdict::Down).count();
    let up = votes.len() - down;
    match own {
        Some(Verdict::Down) => Opinion::Bad,
        // One peer alone may be the one whose network is broken.
        Some(Verdict::Up) if votes.len() >= 2 && down > up => Opinion::Doubted,
        Some(Verdict::Up) => Opinion::Good,
        None if down > up => Opinion::Bad,
        None if up > down => Opinion::Good,
        None => Opinion::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::Verdict::{Down, Up};
    use super::*;

    fn votes(verdicts: &[Verdict]) -> Vec<Vote> {
        let cast = |&verdict| Vote { observer: "n".into(), verdict };
        verdicts.iter().map(cast).collect()
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
