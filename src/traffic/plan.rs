//! What a rule asks of its traffic, as meant (the configuration as written is `config`'s).

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use ipnet::IpNet;

use crate::base::LimitId;

/// IPv6 clients count together by this many bits, unless something else is asked for.
pub const IPV6_PREFIX: u8 = 64;
/// Keys that a limit tracks, about 7 MB, unless something else is asked for.
pub const MAX_KEYS: u32 = 131_072;

/// A rate limit of one rule.
#[derive(Clone, Debug, PartialEq)]
pub struct LimitPlan {
    /// The same on every node.
    pub id: LimitId,
    /// How tokens come and go.
    pub algorithm: Algorithm,
    /// Whose tokens count together.
    pub scope: LimitScope,
    /// What shares one bucket.
    pub key: LimitKey,
    /// What happens to a refused connection.
    pub action: Action,
    /// IPv6 clients are grouped by this many bits.
    pub ipv6_prefix: u8,
    /// Clients that are never limited nor tracked.
    pub exempt: Vec<IpNet>,
    /// Count and report, refuse nobody.
    pub shadow: bool,
    /// Bound of the table.
    pub max_keys: u32,
    /// How the nodes of a cluster share it.
    pub sharing: Sharing,
}

/// How a limit of cluster scope is shared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sharing {
    /// Whether a decision waits for the key's owner.
    pub consistency: Consistency,
    /// What holds while members are lost.
    pub on_partition: OnPartition,
    /// What holds while no peer is alive.
    pub on_isolated: OnIsolated,
}

/// Whether a decision waits for the key's owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Consistency {
    /// Strict for limits so small that a report per request costs no more: a burst below four
    /// tokens per node and at most 100 per second.
    #[default]
    Auto,
    /// Never waits.
    Optimistic,
    /// Always asks.
    Strict,
}

/// What a limit is worth while members are lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnPartition {
    /// The whole rate, on each side.
    #[default]
    Full,
    /// The alive members' share of the rate.
    Proportional,
}

/// What a limit is worth to a node that has peers and sees none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnIsolated {
    /// The whole rate.
    #[default]
    LocalFull,
    /// This node's even share of the rate.
    LocalShare,
    /// Nothing.
    Deny,
}

/// How a limit counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Algorithm {
    /// Refilled steadily up to a burst.
    TokenBucket(Quota),
    /// So many per window, windows aligned to the node's start.
    FixedWindow {
        /// Admissions per window.
        limit: NonZeroU32,
        /// Length of a window.
        window: Duration,
    },
}

/// A token bucket's rate and size; neither can be zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quota {
    /// Tokens per second, finite and above 0.
    pub rate: f64,
    /// Most tokens that can be saved, at least 1.
    pub burst: f64,
}

impl Quota {
    /// `None` unless the rate is finite and above 0 and the burst finite and at least 1.
    pub fn new(rate: f64, burst: f64) -> Option<Self> {
        let sound = rate.is_finite() && rate > 0.0 && burst.is_finite() && burst >= 1.0;
        sound.then_some(Quota { rate, burst })
    }
}

/// Whose admissions a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitScope {
    /// All nodes' together.
    Cluster,
    /// This node's alone.
    Node,
}

/// What shares one bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitKey {
    /// Each client address (or IPv6 prefix).
    Client,
    /// One bucket for the whole rule.
    Rule,
    /// Each client identity; clients without one by their address.
    Identity,
}

/// What happens to a connection over the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Orderly close.
    Reject,
    /// Reset.
    Drop,
    /// Waits for a token, then is rejected.
    Delay {
        /// Connections that may wait at once, per limit.
        queue: u32,
        /// Longest wait.
        max: Duration,
    },
}

/// Caps on connections at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapsPlan {
    /// Per client address.
    pub per_client: Option<NonZeroU32>,
    /// Over all clients of the rule.
    pub total: Option<NonZeroU32>,
    /// The rule's id, when the caps are over all nodes together; `None`: each node has its own.
    pub shared: Option<LimitId>,
}

/// Bandwidth of a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BandwidthPlan {
    /// Shared by all connections of one client address.
    pub client: Rates,
    /// Shared by all connections to one backend.
    pub backend: Rates,
    /// The rule's id, when all nodes share the rates; `None`: each node has its own.
    pub shared: Option<LimitId>,
}

/// Bytes per second; `None` is unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Client to backend.
    pub upload: Option<NonZeroU64>,
    /// Backend to client.
    pub download: Option<NonZeroU64>,
}

/// Networks that may, and may not, connect: the more specific network wins; with an `allow` list,
/// nobody else may.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessPlan {
    /// Who may.
    pub allow: Vec<IpNet>,
    /// Who may not.
    pub deny: Vec<IpNet>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_can_be_neither_zero_nor_boundless() {
        assert!(Quota::new(0.1, 1.0).is_some());
        for (rate, burst) in [
            (0.0, 1.0),
            (-1.0, 1.0),
            (f64::NAN, 1.0),
            (f64::INFINITY, 1.0),
            (1.0, 0.5),
            (1.0, f64::INFINITY),
        ] {
            assert!(Quota::new(rate, burst).is_none(), "{rate} {burst}");
        }
    }
}
