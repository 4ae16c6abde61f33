//! A rule as meant: what listens, who may come, where it goes.

use std::net::SocketAddr;
use std::time::Duration;

use crate::base::RuleName;
use crate::traffic::{AccessPlan, BandwidthPlan, CapsPlan, LimitPlan};
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
}
