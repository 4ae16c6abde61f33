//! The record of connections in flight.

use serde::{Deserialize, Serialize};

/// Connections of the sender to some backends, each a register of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadRows {
    /// Grows with every round of them.
    pub seq: u64,
    /// Milliseconds to the next word at the latest, as long as there are connections.
    pub interval: u32,
    /// Backend's id and connections.
    pub rows: Vec<(u64, u32)>,
}
