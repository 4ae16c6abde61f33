//! A rule as meant: what listens, who may come, where it goes; and where sessions are told.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::base::RuleName;
use crate::net::tls::TlsPlan;
use crate::traffic::{AccessPlan, AuthorizationPlan, BandwidthPlan, CapsPlan, LimitPlan};
use crate::upstream::PoolPlan;

/// One rule.
#[derive(Clone, Debug, PartialEq)]
pub struct RulePlan {
    /// Unique.
    pub name: RuleName,
    /// Listeners, at least one.
    pub listen: Vec<SocketAddr>,
    /// Backends.
    pub pool: PoolPlan,
    /// Ends a connection that carried nothing for this long, both directions; zero: never.
    pub idle_timeout: Duration,
    /// Connections per second.
    pub rate_limit: Option<LimitPlan>,
    /// Connections at once.
    pub caps: CapsPlan,
    /// Bytes per second.
    pub bandwidth: BandwidthPlan,
    /// By network.
    pub access: AccessPlan,
    /// Peers that begin with a PROXY header, and no others may connect; `None`: nobody does.
    pub proxy_from: Option<Vec<IpNet>>,
    /// TLS with clients; `None`: none.
    pub tls: Option<TlsPlan>,
    /// By identity; `None`: everybody may use every backend.
    pub authorization: Option<AuthorizationPlan>,
}

/// `access_log:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLogPlan {
    /// Where to.
    pub output: AccessLogOutput,
    /// How a line looks.
    pub format: AccessLogFormat,
}

/// Where the access log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLogOutput {
    /// Standard output.
    Stdout,
    /// A file, reopened on SIGHUP.
    File(PathBuf),
}

/// How an access log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLogFormat {
    /// One JSON object per line.
    Json,
    /// `key=value`.
    Text,
    /// As near to the combined log format as a TCP session comes.
    Combined,
}
