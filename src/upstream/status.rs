//! How a pool stands, for people and metrics.

use crate::base::{BackendAddr, Endpoint};
use crate::health::{Report, Vote};

/// A pool now.
#[derive(Clone, Debug, Default)]
pub struct PoolStatus {
    /// In the order of the plan; a name has one line for each address, or one without an address
    /// while it has none.
    pub backends: Vec<BackendStatus>,
    /// Backends that health lets through.
    pub usable: usize,
    /// All backends.
    pub total: usize,
    /// Too few are healthy, so all are used.
    pub panic: bool,
    /// Connections waiting for a full backend.
    pub queued: u32,
}

/// A backend now.
#[derive(Clone, Debug)]
pub struct BackendStatus {
    /// As configured.
    pub name: Endpoint,
    /// Where it is; `None` for a name without an address.
    pub address: Option<BackendAddr>,
    /// In a word.
    pub state: BackendState,
    /// Configured weight.
    pub weight: u32,
    /// Used only when no other can be.
    pub backup: bool,
    /// Connections live or being made, on this node.
    pub active: u32,
    /// Connections of the other nodes, as they told last.
    pub elsewhere: u32,
    /// Connections made by this node since start.
    pub connections: u64,
    /// Connects of this node that failed since start.
    pub connect_failures: u64,
    /// Result of the last check in words; empty before the first.
    pub last_check: String,
    /// What this node's checks found.
    pub own: Option<Report>,
    /// What peers say.
    pub votes: Vec<Vote>,
    /// This node checks it, and does not leave that to others.
    pub checked_here: bool,
}

/// A backend's state in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendState {
    /// Takes connections.
    Up,
    /// Does not answer.
    Down,
    /// Refused connections, left alone for a while.
    Ejected,
    /// Takes no new connections, by an operator's word.
    Draining,
    /// No result yet.
    Unchecked,
}

impl BackendState {
    /// As the admin API says it.
    pub fn label(self) -> &'static str {
        match self {
            BackendState::Up => "up",
            BackendState::Down => "down",
            BackendState::Ejected => "ejected",
            BackendState::Draining => "drain",
            BackendState::Unchecked => "unchecked",
        }
    }
}
