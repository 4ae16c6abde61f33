//! What a rule asks of its backends, as meant.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use crate::balance::Policy;
use crate::base::{Endpoint, LimitId, RuleName, Share};
use crate::health::{CheckPlan, OutlierPlan};
use crate::net::HeaderVersion;
use crate::net::tls::OriginatePlan;
use crate::traffic::Rates;

/// A rule's backends and how they are used.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolPlan {
    /// The rule.
    pub rule: RuleName,
    /// As configured, in order; names resolve to any number of addresses.
    pub backends: Vec<BackendPlan>,
    /// Who is asked first.
    pub policy: Policy,
    /// Active checks.
    pub check: CheckPlan,
    /// Passive ejection.
    pub outlier: OutlierPlan,
    /// Below this healthy share all backends are used; 0 switches it off.
    pub panic_threshold: Share,
    /// A backend that comes up gets its weight over this long.
    pub slow_start: Duration,
    /// One connect attempt.
    pub connect_timeout: Duration,
    /// Backends tried for one connection.
    pub connect_attempts: u32,
    /// Connections per backend at once.
    pub connection_limit: Option<NonZeroU32>,
    /// The rule's id, when caps on backends are over all nodes together; `None`: each node has its
    /// own.
    pub shared_caps: Option<LimitId>,
    /// Waiting for a full backend.
    pub queue: QueuePlan,
    /// Bandwidth per backend.
    pub bandwidth: Rates,
    /// The rule's id, when all nodes share that bandwidth.
    pub shared_bandwidth: Option<LimitId>,
    /// TLS towards backends that come later by command; `None`: none.
    pub tls: Option<Arc<OriginatePlan>>,
    /// The PROXY header that connections begin with.
    pub send_proxy: Option<HeaderVersion>,
    /// `tcp:` options for the connections made.
    pub tcp: crate::net::TcpOptions,
}

impl PoolPlan {
    /// No backend yet; otherwise what a rule has that says nothing.
    pub fn new(rule: impl Into<RuleName>) -> Self {
        PoolPlan {
            rule: rule.into(),
            backends: Vec::new(),
            policy: Policy::WeightedRoundRobin,
            check: CheckPlan::default(),
            outlier: OutlierPlan::default(),
            panic_threshold: Share::percent(50.0),
            slow_start: Duration::ZERO,
            connect_timeout: Duration::from_secs(2),
            connect_attempts: 3,
            connection_limit: None,
            shared_caps: None,
            queue: QueuePlan::default(),
            bandwidth: Rates::default(),
            shared_bandwidth: None,
            tls: None,
            send_proxy: None,
            tcp: crate::net::TcpOptions::default(),
        }
    }
}

/// One configured backend.
#[derive(Clone, Debug, PartialEq)]
pub struct BackendPlan {
    /// Address or name.
    pub address: Endpoint,
    /// Share of the traffic, 0 takes none.
    pub weight: u32,
    /// Used only when no other backend can be.
    pub backup: bool,
    /// Own cap, wins over the pool's.
    pub max_connections: Option<NonZeroU32>,
    /// TLS towards it; `None`: none.
    pub tls: Option<Arc<OriginatePlan>>,
    /// Only reached by a route: not among the rule's own.
    pub routed: bool,
}

impl BackendPlan {
    /// Weight 1, uncapped, without TLS.
    pub fn new(address: impl Into<Endpoint>) -> Self {
        BackendPlan {
            address: address.into(),
            weight: 1,
            backup: false,
            max_connections: None,
            tls: None,
            routed: false,
        }
    }
}

impl From<Endpoint> for BackendPlan {
    fn from(address: Endpoint) -> Self {
        BackendPlan::new(address)
    }
}

impl From<SocketAddr> for BackendPlan {
    fn from(address: SocketAddr) -> Self {
        BackendPlan::new(address)
    }
}

/// A bounded wait for a place at a full backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueuePlan {
    /// Connections that may wait at once; 0: none.
    pub size: u32,
    /// Longest wait.
    pub timeout: Duration,
}
