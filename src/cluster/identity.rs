//! Who a node is to foca: its actor, its address and a generation that decides between two claims
//! on one address.
//!
//! The actor is constant for the process; only the generation grows when the cluster has declared
//! us down and we come back. So rows that we wrote stay ours over any rejoin.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::{Actor, BootId, GossipAddr, NodeId};

/// A generation further ahead than this is nobody's honest clock.
pub const FURTHEST_AHEAD: Duration = Duration::from_secs(24 * 3600);

/// A node as foca knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Identity {
    /// The node and its boot.
    pub actor: Actor,
    /// Where its gossip is heard.
    pub address: SocketAddr,
    /// Unix milliseconds at start, or more: the greater one holds the address.
    pub generation: u64,
}

impl Identity {
    /// Whoever is at `address`, when nothing else is known.
    pub fn unknown(address: SocketAddr) -> Self {
        let actor = Actor { node: NodeId(0), boot: BootId::new(0) };
        Identity { actor, address, generation: 0 }
    }

    /// The node id, unless unknown.
    pub fn node(&self) -> Option<NodeId> {
        Some(self.actor.node).filter(|node| node.0 != 0)
    }

    /// The address by its role.
    pub fn gossip(&self) -> GossipAddr {
        GossipAddr(self.address)
    }

    /// Whether this can be a node at all: ids that fit the header, an address to send to.
    pub fn plausible(&self) -> bool {
        self.actor.boot == BootId::new(self.actor.boot.bits())
            && self.address.port() != 0
            && !self.address.ip().is_unspecified()
            && !self.address.ip().is_multicast()
    }
}

/// The generation to start with: the clock's, unless a later one was seen at our address (the
/// clock may have been set back since).
pub fn generation(unix_ms: u64, highest_seen: u64) -> u64 {
    unix_ms.max(highest_seen.saturating_add(1))
}

impl foca::Identity for Identity {
    type Addr = SocketAddr;

    fn renew(&self) -> Option<Self> {
        Some(Identity { generation: self.generation.saturating_add(1), ..*self })
    }

    fn addr(&self) -> SocketAddr {
        self.address
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        (self.generation, self.actor) > (adversary.generation, adversary.actor)
    }
}

#[cfg(test)]
mod tests {
    use foca::Identity as _;

    use super::*;

    fn identity(boot: u64, generation: u64) -> Identity {
        let actor = Actor { node: NodeId(1), boot: BootId::new(boot) };
        Identity { actor, address: "127.0.0.1:9".parse().unwrap(), generation }
    }

    #[test]
    fn a_renewed_identity_is_the_same_actor_and_wins() {
        let old = identity(1, 5);
        let new = old.renew().unwrap();
        assert_eq!(new.actor, old.actor);
        assert!(new.win_addr_conflict(&old) && !old.win_addr_conflict(&new));
    }

    #[test]
    fn two_boots_of_one_generation_agree_who_wins() {
        let (a, b) = (identity(1, 5), identity(2, 5));
        assert_ne!(a.win_addr_conflict(&b), b.win_addr_conflict(&a));
    }

    #[test]
    fn a_clock_set_back_does_not_lower_the_generation() {
        assert_eq!(generation(1_000, 5_000), 5_001);
        assert_eq!(generation(9_000, 5_000), 9_000);
    }
}
