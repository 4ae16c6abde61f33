//! Whose turn it is to check a backend. In a cluster of more than a few nodes each backend is
//! checked by [`CHECKERS`] of them, so that it is asked no more often than by a small cluster; the
//! others take their majority.
//!
//! Every node stands somewhere in a backend's order (rendezvous hashing, Thaler, Ravishankar 1998).
//! A node is relieved when [`CHECKERS`] peers before it in that order have a fresh opinion of the
//! backend. So the decision rests on who *speaks*, not on a list of who should:
//!
//! - a checker is only relieved when its successor has spoken, and followed when its opinion is
//!   gone: there is no moment without checkers, whatever nodes think of the membership;
//! - a node that does not have the backend, does not check it, or keeps its verdicts back because
//!   it doubts itself, never stands in anybody's place;
//! - nodes that disagree about who is there check too much for a moment, never too little.
//!
//! The list of nodes only says who is the nearest to a duty that somebody must take, so that not
//! all of them do.

use std::sync::Arc;

use super::peers::Vote;
use crate::base::{NodeId, stable_hash};

/// Nodes that check a backend. Three: the least of which one may be wrong or just dead without a
/// tie, and of which each has the two others that it takes to doubt its own verdict. It would take
/// five to bear two.
pub const CHECKERS: usize = 3;
/// Up to so many nodes all of them check, unless configured otherwise.
pub const ALL_BELOW: usize = 5;

/// How checks are shared, as this node sees it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rota {
    /// This node.
    pub own: NodeId,
    /// Nodes that share, this one included; itself alone when it should rely on nobody.
    pub nodes: Arc<[NodeId]>,
    /// Up to so many nodes all of them check.
    pub all_below: usize,
}

/// Whether to check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// It is this node's turn.
    On,
    /// Enough others do.
    Off,
    /// Too few do, but there are others whose turn it is first.
    Spare,
}

impl Rota {
    /// Of a node that checks everything itself.
    pub fn alone() -> Self {
        Rota { own: NodeId(0), nodes: Arc::new([]), all_below: ALL_BELOW }
    }

    /// Whether this node is to check `backend` (its [`crate::base::BackendKey::id`]), of which its
    /// peers have said `votes`.
    pub fn duty(&self, backend: u64, votes: &[Vote]) -> Duty {
        if self.nodes.len() <= self.all_below {
            return Duty::On;
        }
        let own = place(backend, self.own);
        let before = |node: NodeId| place(backend, node) < own;
        let speaking = votes.iter().filter(|vote| before(vote.node)).count();
        if speaking >= CHECKERS {
            return Duty::Off;
        }
        let silent = |node: &&NodeId| votes.iter().all(|vote| vote.node != **node);
        let nearer = self.nodes.iter().filter(|node| before(**node)).filter(silent);
        match speaking + nearer.count() < CHECKERS {
            true => Duty::On,
            false => Duty::Spare,
        }
    }
}

/// Where a node stands in a backend's order: the lowest first. By node, not by boot: a node that
/// restarts with its id gets its place back.
fn place(backend: u64, node: NodeId) -> (u64, NodeId) {
    (stable_hash(backend, &node.0.to_le_bytes()), node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::{Report, Verdict};

    fn vote(node: u64) -> Vote {
        let report = Report::first(Verdict::Up, crate::base::time::now());
        Vote { observer: "n".into(), node: NodeId(node), report }
    }

    /// Who has which duty when `speakers` have spoken and nodes 1 to `nodes` share.
    fn with_duty(wanted: Duty, backend: u64, nodes: u64, speakers: &[u64]) -> Vec<u64> {
        let shared: Arc<[NodeId]> = (1..=nodes).map(NodeId).collect();
        let has = |own: &u64| {
            let nodes = Arc::clone(&shared);
            let rota = Rota { own: NodeId(*own), nodes, all_below: ALL_BELOW };
            let votes: Vec<Vote> =
                speakers.iter().copied().filter(|node| node != own).map(vote).collect();
            rota.duty(backend, &votes) == wanted
        };
        (1..=nodes).filter(has).collect()
    }

    fn on_duty(backend: u64, nodes: u64, speakers: &[u64]) -> Vec<u64> {
        with_duty(Duty::On, backend, nodes, speakers)
    }

    #[test]
    fn up_to_the_threshold_everybody_checks() {
        for nodes in 1..=5 {
            assert_eq!(on_duty(7, nodes, &[1, 2, 3, 4, 5]).len() as u64, nodes);
        }
        assert_eq!(on_duty(7, 6, &[]).len(), CHECKERS);
        let nodes = (1..=40).map(NodeId).collect();
        let rota = Rota { own: NodeId(9), nodes, all_below: 50 };
        assert_eq!(rota.duty(7, &[vote(1), vote(2), vote(3), vote(4)]), Duty::On);
        assert_eq!(Rota::alone().duty(7, &[vote(1), vote(2), vote(3)]), Duty::On);
    }

    #[test]
    fn while_nobody_speaks_the_nearest_check_and_the_others_stand_by() {
        for backend in 0..50 {
            let on = on_duty(backend, 30, &[]);
            assert_eq!(on.len(), CHECKERS);
            assert_eq!(with_duty(Duty::Spare, backend, 30, &[]).len(), 27);
            assert_eq!(on_duty(backend, 30, &on), on);
            assert_eq!(with_duty(Duty::Off, backend, 30, &on).len(), 27);
        }
    }

    #[test]
    fn duties_are_spread_evenly_over_the_nodes() {
        let mut duties = [0_u32; 11];
        for backend in 0..2000 {
            on_duty(backend, 10, &[]).into_iter().for_each(|node| duties[node as usize] += 1);
        }
        // 2000 × 3 over 10.
        assert!(duties[1..].iter().all(|duties| (500..700).contains(duties)), "{duties:?}");
    }

    #[test]
    fn who_falls_silent_is_followed_by_one_and_nobody_else_moves() {
        for backend in 0..200 {
            let before = on_duty(backend, 20, &[]);
            // It has died: it neither speaks nor stands in the list of node `gone`'s peers.
            let gone = before[1];
            let speakers = [before[0], before[2]];
            let nodes: Arc<[NodeId]> = (1..=20).filter(|node| *node != gone).map(NodeId).collect();
            let votes = speakers.map(vote);
            let duty = |own: &NodeId| {
                let rota = Rota { own: *own, nodes: Arc::clone(&nodes), all_below: ALL_BELOW };
                let heard = votes.iter().filter(|vote| vote.node != *own).cloned();
                rota.duty(backend, &heard.collect::<Vec<_>>())
            };
            let on: Vec<u64> =
                nodes.iter().filter(|node| duty(node) == Duty::On).map(|node| node.0).collect();
            assert_eq!(on.len(), CHECKERS);
            assert!(speakers.iter().all(|node| on.contains(node)));
        }
    }

    #[test]
    fn a_member_that_never_speaks_stands_in_nobodys_place() {
        for backend in 0..50 {
            // The three nearest have another configuration.
            let silent = on_duty(backend, 20, &[]);
            assert_eq!(with_duty(Duty::Spare, backend, 20, &[]).len(), 17, "they stand by");
            let others: Vec<u64> = (1..=20).filter(|node| !silent.contains(node)).collect();
            let on = on_duty(backend, 20, &others);
            let spare = with_duty(Duty::Spare, backend, 20, &others);
            // Three of those that stood by are still needed, the others are relieved.
            let needed = others.iter().filter(|node| on.contains(node) || spare.contains(node));
            assert_eq!(needed.count(), CHECKERS, "{on:?} {spare:?}");
        }
    }

    #[test]
    fn a_checker_is_relieved_only_when_its_successor_has_spoken() {
        let mut relieved = 0;
        for backend in 0..200 {
            // Node 21 joins.
            let before = on_duty(backend, 20, &[]);
            let off = with_duty(Duty::Off, backend, 21, &before);
            assert!(before.iter().all(|node| !off.contains(node)), "nobody stops for a newcomer");
            let joined = on_duty(backend, 21, &before);
            let newcomer = joined.into_iter().filter(|node| *node == 21);
            let speaking: Vec<u64> = before.iter().copied().chain(newcomer).collect();
            let after = on_duty(backend, 21, &speaking);
            assert_eq!(after.len(), CHECKERS);
            relieved += usize::from(after != before);
        }
        // 3 places of 21 are the newcomer's.
        assert!((10..50).contains(&relieved), "{relieved}");
    }
}
