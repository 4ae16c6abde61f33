//! What a node remembers over restarts, in `cluster.state_dir`: its node id, the highest generation
//! it used, the peers it knew, the cluster's acts.
//!
//! ```text
//!   machine ── Output::Persist ──▶ shell ── newest state ──▶ Keeper ── temp file, fsync, rename ──▶ disk
//! ```
//!
//! The disk is asked twice a life on the way of something else: when the cluster starts, and for a
//! moment when it ends. Everything between is the keeper's own thread. A disk that fails stops
//! nothing: it is logged, counted and tried again.

mod dir;
mod keeper;

use std::collections::BTreeMap;
use std::net::SocketAddr;

pub use dir::{Dir, DirError, Saved};
pub use keeper::{Keeper, News};

/// Peers remembered; of more, the longest unseen are forgotten.
pub const MOST_PEERS: usize = 256;
/// A peer that was not seen for so many milliseconds is no longer asked.
pub const FORGOTTEN_MS: u64 = 30 * 24 * 3600 * 1000;

/// What the machine begins with and wants kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Highest generation used; 0: none.
    pub generation: u64,
    /// When each peer was last seen, milliseconds since 1970.
    pub peers: BTreeMap<SocketAddr, u64>,
}

impl State {
    /// Forgets whom nobody saw for long, and of too many the longest unseen.
    pub fn prune(&mut self, unix_ms: u64) {
        self.peers.retain(|_, seen| unix_ms.saturating_sub(*seen) < FORGOTTEN_MS);
        while self.peers.len() > MOST_PEERS {
            let longest = self.peers.iter().min_by_key(|(_, seen)| **seen).map(|(peer, _)| *peer);
            longest.map(|peer| self.peers.remove(&peer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_that_nobody_saw_for_long_are_forgotten_and_of_many_the_longest_unseen() {
        let address = |n: u16| SocketAddr::from(([10, 0, 0, 1], n));
        let now = FORGOTTEN_MS * 2;
        let mut state = State::default();
        state.peers.insert(address(1), now - FORGOTTEN_MS);
        for n in 0..=MOST_PEERS as u16 {
            state.peers.insert(address(100 + n), now - u64::from(n));
        }
        state.prune(now);
        assert_eq!(state.peers.len(), MOST_PEERS);
        assert!(!state.peers.contains_key(&address(1)));
        assert!(!state.peers.contains_key(&address(100 + MOST_PEERS as u16)));
    }
}
