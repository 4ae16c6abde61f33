//! Two living boots of one node: somebody copied its state directory, or started it twice.
//!
//! When a boot gets to be known and another one of its node is known already, the other is
//! challenged again. After a restart it is dead and does not answer, and is forgotten; when it does
//! answer, both live, and all who see it say so, the clones loudest.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Machine;
use crate::base::{Actor, NodeId};
use crate::cluster::budget::Priority;
use crate::cluster::wire::Kind;
use crate::cluster::wire::records::{Cloned, Record};

/// Between two challenges of a boot that may be dead.
const ASK_AGAIN: Duration = Duration::from_millis(400);
/// Challenges before it is taken for dead.
const ASKS: u32 = 8;
/// Clones are challenged again this often, so that one that was stopped is no longer told of.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// How long clones stand that nobody confirms.
const STANDS: Duration = Duration::from_secs(30);
/// Clones are complained of this often.
const COMPLAIN: Duration = Duration::from_secs(60);
/// Nodes with clones that are remembered.
const MOST: usize = 64;

/// Nodes of which two boots live.
#[derive(Debug, Default)]
pub(super) struct Clones {
    doubts: Vec<Doubt>,
    standing: BTreeMap<NodeId, Standing>,
}

/// A boot that may be dead, for `other` of the same node lives.
#[derive(Debug)]
struct Doubt {
    boot: Actor,
    other: Actor,
    asks: u32,
    next: Instant,
}

#[derive(Debug)]
struct Standing {
    pair: Cloned,
    confirmed: Instant,
    look: Instant,
}

impl Clones {
    /// Nodes of which two boots are known to live.
    pub(super) fn len(&self) -> usize {
        self.standing.len()
    }
}

impl Machine {
    /// In words and with the remedy, while another process runs with our node id.
    pub fn cloned(&self) -> Option<String> {
        let own = self.setup.actor;
        let Cloned { one, other } = self.clones.standing.get(&own.node)?.pair;
        let other = if one == own { other } else { one };
        let address = self.boots.as_ref().and_then(|boots| boots.address(other));
        let at = address.map(|address: SocketAddr| format!(" at {address}")).unwrap_or_default();
        Some(format!(
            "another process{at} (boot {}) runs with the id of this node, {}: its `cluster.state_dir` is a copy of \
             ours, or the same; stop one of the two and start it with an empty one",
            other.boot, own.node
        ))
    }

    /// A boot passed its first challenge: those of its node that were known before are doubted.
    pub(super) fn look_for_clones(&mut self, now: Instant, new: Actor) {
        let own = self.setup.actor;
        if new.node == own.node {
            self.found_clones(now, Cloned { one: own, other: new });
        }
        let Some(boots) = &self.boots else { return };
        let known = boots.of_node(new.node).into_iter().map(|(boot, _)| boot);
        let others: Vec<Actor> = known.filter(|boot| *boot != new).collect();
        for boot in others {
            self.doubt(now, boot, new);
        }
    }

    fn doubt(&mut self, now: Instant, boot: Actor, other: Actor) {
        let doubts = &mut self.clones.doubts;
        if doubts.len() < MOST && !doubts.iter().any(|doubt| doubt.boot == boot) {
            doubts.push(Doubt { boot, other, asks: 0, next: now });
        }
    }

    /// A known boot passed another challenge.
    pub(super) fn proved(&mut self, now: Instant, boot: Actor) {
        let doubts = &mut self.clones.doubts;
        let Some(at) = doubts.iter().position(|doubt| doubt.boot == boot) else { return };
        // Challenged only after the other one had passed: so both live.
        let Doubt { boot, other, .. } = doubts.swap_remove(at);
        if other == self.setup.actor || self.boots.as_ref().is_some_and(|boots| boots.knows(other))
        {
            self.found_clones(now, Cloned { one: other, other: boot });
        }
    }

    /// A peer saw two boots of our node.
    pub(super) fn hear_cloned(&mut self, now: Instant, pair: Cloned) {
        let own = self.setup.actor;
        let ours = pair.one.node == own.node && pair.other.node == own.node;
        if ours && pair.one != pair.other && (pair.one == own || pair.other == own) {
            self.note_clones(now, pair);
        }
    }

    fn found_clones(&mut self, now: Instant, pair: Cloned) {
        self.note_clones(now, pair);
        let told = Record::Cloned(pair).bytes();
        for boot in [pair.one, pair.other] {
            let address = self.boots.as_ref().and_then(|boots| boots.address(boot));
            if let Some(address) = address {
                self.send_to(now, Kind::Hello, Some(boot), address, &told, Priority::Membership);
            }
        }
    }

    fn note_clones(&mut self, now: Instant, pair: Cloned) {
        let node = pair.one.node;
        if self.clones.len() >= MOST && !self.clones.standing.contains_key(&node) {
            return;
        }
        let look = now + LOOK_AGAIN;
        self.clones.standing.insert(node, Standing { pair, confirmed: now, look });
        if node == self.setup.actor.node {
            if self.may_say(now, "cloned", COMPLAIN) {
                tracing::error!("{}", self.cloned().unwrap_or_default());
            }
        } else if self.may_say(now, "clones", COMPLAIN) {
            let (one, other) = (pair.one.boot, pair.other.boot);
            tracing::error!(%node, %one, %other, "two processes run with one node id: a `cluster.state_dir` was copied; stop one of them and start it with an empty one");
        }
    }

    /// Challenges who is in doubt, and those who stand as clones once more.
    pub(super) fn watch_clones(&mut self, now: Instant) {
        let mut due = Vec::new();
        let mut dead = Vec::new();
        self.clones.doubts.retain_mut(|doubt| {
            if doubt.next > now {
                return true;
            }
            if doubt.asks == ASKS {
                dead.push(doubt.boot);
                return false;
            }
            doubt.asks += 1;
            doubt.next = now + ASK_AGAIN;
            due.push(doubt.boot);
            true
        });
        for boot in due {
            let address = self.boots.as_ref().and_then(|boots| boots.address(boot));
            if let Some(address) = address {
                self.challenge_boot(now, boot, address);
            }
        }
        for boot in dead {
            self.boots.iter_mut().for_each(|boots| boots.forget(boot));
        }
        let mut again = Vec::new();
        self.clones.standing.retain(|_, standing| {
            if standing.look <= now {
                standing.look = now + LOOK_AGAIN;
                again.push(standing.pair);
            }
            now.saturating_duration_since(standing.confirmed) < STANDS
        });
        for Cloned { one, other } in again {
            for (boot, other) in [(one, other), (other, one)] {
                if self.boots.as_ref().is_some_and(|boots| boots.knows(boot)) {
                    self.doubt(now, boot, other);
                }
            }
        }
    }
}
