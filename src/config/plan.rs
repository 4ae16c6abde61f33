//! The whole configuration as meant, in the rooms' own types.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::cluster::ClusterPlan;
use crate::net::TcpOptions;
use crate::proxy::{AccessLogPlan, RulePlan};

/// A valid configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Worker threads, at least 1.
    pub workers: usize,
    /// What live connections get after the listeners closed.
    pub shutdown_timeout: Duration,
    /// How long connections are still accepted after SIGTERM.
    pub drain_delay: Duration,
    /// The log.
    pub log: LogPlan,
    /// The access log; `None`: off.
    pub access_log: Option<AccessLogPlan>,
    /// The admin listener.
    pub admin: AdminPlan,
    /// Whose word about a client's address is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Socket options.
    pub tcp: TcpOptions,
    /// In the order of the file.
    pub rules: Vec<RulePlan>,
    /// `None`: this node is alone.
    pub cluster: Option<ClusterPlan>,
    /// SHA-256, hex, of everything that should be the same on every node (not names, bind and
    /// advertise addresses, admin, state_dir, workers, logs).
    pub digest: String,
}

/// `log:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPlan {
    /// A `tracing` filter: a level, or `tidegate::cluster=debug,info`.
    pub level: String,
    /// How a line looks.
    pub format: LogFormat,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// `admin:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminPlan {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The token, read from `token_file`; demanded off loopback.
    pub token: Option<String>,
}
