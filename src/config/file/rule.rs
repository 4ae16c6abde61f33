//! A rule as written.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{Authorization, BackendTls, Items, ProxyProtocol, ServerName, Text, Tls, seconds};
use crate::base::{Endpoint, Share};
use crate::config::written::{Size, Statuses};
use crate::traffic;

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Rule {
    pub(in crate::config) name: Option<String>,
    pub(in crate::config) listen: Items<Text<SocketAddr>>,
    pub(in crate::config) protocol: Protocol,
    pub(in crate::config) balance: Balance,
    /// `None`: not written, or refused, and said.
    pub(in crate::config) backends: Option<Items<Backend>>,
    pub(in crate::config) health_check: HealthCheck,
    pub(in crate::config) outlier: Outlier,
    pub(in crate::config) panic_threshold: Text<Share>,
    pub(in crate::config) slow_start: Text<Duration>,
    pub(in crate::config) connect_timeout: Text<Duration>,
    pub(in crate::config) connect_attempts: u32,
    pub(in crate::config) idle_timeout: Text<Duration>,
    pub(in crate::config) backend_connection_limit: Option<BackendConnectionLimit>,
    pub(in crate::config) backend_queue: BackendQueue,
    pub(in crate::config) rate_limit: Option<RateLimit>,
    pub(in crate::config) connection_limit: ConnectionLimit,
    pub(in crate::config) bandwidth_limit: Option<BandwidthLimit>,
    pub(in crate::config) access: Access,
    pub(in crate::config) proxy_protocol: ProxyProtocol,
    pub(in crate::config) tls: Option<Tls>,
    pub(in crate::config) backend_tls: Option<BackendTls>,
    pub(in crate::config) authorization: Option<Authorization>,
}

impl Default for Rule {
    fn default() -> Self {
        Rule {
            name: None,
            listen: Vec::new(),
            protocol: Protocol::Tcp,
            balance: Balance::WeightedRoundRobin,
            backends: None,
            health_check: HealthCheck::default(),
            outlier: Outlier::default(),
            panic_threshold: Text(Share::percent(50.0)),
            slow_start: seconds(0),
            connect_timeout: seconds(2),
            connect_attempts: 3,
            idle_timeout: seconds(600),
            backend_connection_limit: None,
            backend_queue: BackendQueue::default(),
            rate_limit: None,
            connection_limit: ConnectionLimit::default(),
            bandwidth_limit: None,
            access: Access::default(),
            proxy_protocol: ProxyProtocol::default(),
            tls: None,
            backend_tls: None,
            authorization: None,
        }
    }
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum Protocol {
    Tcp,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Balance {
    WeightedRoundRobin,
    LeastConnections,
    PowerOfTwo,
    ConsistentHash,
    Random,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Backend {
    /// `None`: refused, and said.
    pub(in crate::config) address: Option<Text<Endpoint>>,
    pub(in crate::config) weight: u32,
    pub(in crate::config) backup: bool,
    pub(in crate::config) max_connections: Option<u32>,
    pub(in crate::config) server_name: Option<ServerName>,
    pub(in crate::config) tls: Option<BackendTls>,
}

impl Default for Backend {
    fn default() -> Self {
        Backend {
            address: None,
            weight: 1,
            backup: false,
            max_connections: None,
            server_name: None,
            tls: None,
        }
    }
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct HealthCheck {
    #[serde(rename = "type")]
    pub(in crate::config) kind: CheckType,
    pub(in crate::config) interval: Text<Duration>,
    pub(in crate::config) timeout: Text<Duration>,
    pub(in crate::config) rise: u32,
    pub(in crate::config) fall: u32,
    pub(in crate::config) port: Option<u16>,
    pub(in crate::config) path: Option<String>,
    pub(in crate::config) host: Option<String>,
    pub(in crate::config) expect_status: Option<Items<Text<Statuses>>>,
    pub(in crate::config) expect_body: Option<String>,
}

impl Default for HealthCheck {
    fn default() -> Self {
        HealthCheck {
            kind: CheckType::Tcp,
            interval: seconds(3),
            timeout: seconds(1),
            rise: 2,
            fall: 3,
            port: None,
            path: None,
            host: None,
            expect_status: None,
            expect_body: None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum CheckType {
    Tcp,
    Http,
    None,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Outlier {
    pub(in crate::config) failures: u32,
    pub(in crate::config) eject_for: Text<Duration>,
    pub(in crate::config) max_ejected: Text<Share>,
}

impl Default for Outlier {
    fn default() -> Self {
        Outlier { failures: 5, eject_for: seconds(10), max_ejected: Text(Share::percent(50.0)) }
    }
}

/// `100`, or `{ limit: 100 }`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct BackendConnectionLimit {
    #[serde(default)]
    pub(in crate::config) limit: Option<u32>,
    #[serde(default)]
    pub(in crate::config) scope: Option<Scope>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct BackendQueue {
    pub(in crate::config) size: u32,
    pub(in crate::config) timeout: Text<Duration>,
}

impl Default for BackendQueue {
    fn default() -> Self {
        BackendQueue { size: 0, timeout: seconds(1) }
    }
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct RateLimit {
    pub(in crate::config) enabled: bool,
    pub(in crate::config) requests_per_second: Option<f64>,
    pub(in crate::config) burst: Option<u32>,
    #[serde(rename = "type")]
    pub(in crate::config) kind: Option<LimitKind>,
    pub(in crate::config) limit: Option<u32>,
    pub(in crate::config) window: Option<Text<Duration>>,
    pub(in crate::config) scope: Option<Scope>,
    pub(in crate::config) key: LimitKey,
    pub(in crate::config) action: Action,
    pub(in crate::config) delay_queue: Option<u32>,
    pub(in crate::config) delay_max: Option<Text<Duration>>,
    pub(in crate::config) ipv6_prefix: u8,
    pub(in crate::config) exempt: Items<Text<IpNet>>,
    pub(in crate::config) shadow: bool,
    pub(in crate::config) max_keys: u32,
    pub(in crate::config) consistency: Consistency,
    pub(in crate::config) on_partition: OnPartition,
    pub(in crate::config) on_isolated: OnIsolated,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Consistency {
    #[default]
    Auto,
    Optimistic,
    Strict,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum OnPartition {
    #[default]
    Full,
    Proportional,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum OnIsolated {
    #[default]
    LocalFull,
    LocalShare,
    Deny,
}

impl Default for RateLimit {
    fn default() -> Self {
        RateLimit {
            enabled: true,
            requests_per_second: None,
            burst: None,
            kind: None,
            limit: None,
            window: None,
            scope: None,
            key: LimitKey::Client,
            action: Action::Reject,
            delay_queue: None,
            delay_max: None,
            ipv6_prefix: traffic::IPV6_PREFIX,
            exempt: Vec::new(),
            shadow: false,
            max_keys: traffic::MAX_KEYS,
            consistency: Consistency::default(),
            on_partition: OnPartition::default(),
            on_isolated: OnIsolated::default(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum LimitKind {
    TokenBucket,
    FixedWindow,
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum Scope {
    Cluster,
    Node,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum LimitKey {
    Client,
    Rule,
    Identity,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum Action {
    Reject,
    Drop,
    Delay,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct ConnectionLimit {
    pub(in crate::config) per_client: Option<u32>,
    pub(in crate::config) total: Option<u32>,
    pub(in crate::config) scope: Option<Scope>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct BandwidthLimit {
    pub(in crate::config) enabled: bool,
    pub(in crate::config) client: Rates,
    pub(in crate::config) backend: Rates,
    pub(in crate::config) scope: Option<Scope>,
}

impl Default for BandwidthLimit {
    fn default() -> Self {
        BandwidthLimit {
            enabled: true,
            client: Rates::default(),
            backend: Rates::default(),
            scope: None,
        }
    }
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Rates {
    pub(in crate::config) upload_per_sec: Option<Text<Size>>,
    pub(in crate::config) download_per_sec: Option<Text<Size>>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Access {
    pub(in crate::config) allow: Items<Text<IpNet>>,
    pub(in crate::config) deny: Items<Text<IpNet>>,
}
