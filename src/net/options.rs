//! Options of the sockets we open and accept.

use std::time::Duration;

/// The `tcp:` section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpOptions {
    /// TCP_NODELAY on both sides.
    pub nodelay: bool,
    /// Kernel keepalive.
    pub keepalive: Keepalive,
    /// Accept queue of each listener.
    pub backlog: u32,
    /// Handshakes (connections that are not yet relayed) under way per worker.
    pub max_handshakes: u32,
}

/// Kernel keepalive of both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the first probe.
    pub idle: Duration,
    /// Between probes.
    pub interval: Duration,
    /// Unanswered probes that end the connection.
    pub count: u32,
}

impl Default for TcpOptions {
    fn default() -> Self {
        TcpOptions {
            nodelay: true,
            keepalive: Keepalive {
                idle: Duration::from_secs(60),
                interval: Duration::from_secs(10),
                count: 6,
            },
            backlog: 4096,
            max_handshakes: 1024,
        }
    }
}
