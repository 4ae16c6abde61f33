//! Balancing: which backend is asked first, and which next when it cannot be reached. Pure: no
//! sockets, no clock.
//!
//! A [`Selector`] is built once for a set of members and read by all workers. For every connection
//! it hands out [`Candidates`], a lazy order: the first is the policy's choice, and a retry is
//! simply the next one. No member comes twice.
//!
//! ```text
//!             Tally (connections, own and the cluster's)
//!                              ↓
//! members + policy → Selector ── Turn (number, noise, client) → Candidates → 2, 0, 1
//! ```

mod draw;
mod rendezvous;
mod selector;
mod smooth;
mod tally;
mod tried;
mod turn;

pub use selector::{Candidates, Loads, Selector};
pub use smooth::MAX_SEQUENCE;
pub use tally::{Gauge, PARTS, Tallied, Tally};
pub use turn::Turn;

/// How a rule chooses among its backends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Smooth weighted round robin, exact per node.
    #[default]
    WeightedRoundRobin,
    /// Fewest connections per weight.
    LeastConnections,
    /// The less loaded of two drawn at random.
    PowerOfTwo,
    /// By the client's address, bounded in load.
    ConsistentHash,
    /// By weight, at random.
    Random,
}

/// One that can be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// The same on every node and over restarts, so that consistent hashing agrees.
    pub id: u64,
    /// Share of the traffic relative to the others; 0 takes none.
    pub weight: u32,
}
