//! Balancing: which backend is asked first, and which next when it cannot be reached. Pure: no
//! sockets, no clock.

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
