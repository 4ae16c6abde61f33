//! What a node kept on its disk: it is understood, or it is said what is wrong with it. Acts that were
//! kept are taken over without harm.

use tidegate::base::time;
use tidegate::cluster::acts::{Acts, MOST_BANS, MOST_PLACES};
use tidegate::cluster::state::{MOST_PEERS, Saved};

/// Takes a file.
pub fn take(file: &[u8]) {
    match Saved::of(file) {
        Ok(saved) => {
            assert!(saved.node.0 != 0 && saved.state.peers.len() <= MOST_PEERS);
            let acts = Acts::empty();
            acts.merge(time::now(), &saved.acts);
            assert!(acts.rows(time::now()).len() <= MOST_BANS + MOST_PLACES);
        }
        Err(why) => assert!(!why.is_empty()),
    }
}
