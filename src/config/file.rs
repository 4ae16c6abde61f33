//! The file as written: one shape per section, and what each key is worth when it is left out.
//! The only module that knows serde_yaml besides the walk that feeds it clean values.
//!
//! Sections that are switched on by being there: a `rate_limit:`, `bandwidth_limit:` or `cluster:`
//! without `enabled` is enabled.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::written::{Size, Statuses, Written};
use crate::base::{Endpoint, Share};

/// A value that is written as text.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Text<T>(pub(super) T);

impl<'de, T: Written> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        T::read(&text).map(Text).map_err(|wrong| serde::de::Error::custom(wrong.what))
    }
}

impl<T: Written> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0.canonical())
    }
}

/// An item that was refused is a gap, so that the others keep their index.
pub(super) type Items<T> = Vec<Option<T>>;

/// The items that stand.
pub(super) fn values<T: Clone>(items: &Items<Text<T>>) -> Vec<T> {
    items.iter().flatten().map(|item| item.0.clone()).collect()
}

const fn seconds(seconds: u64) -> Text<Duration> {
    Text(Duration::from_secs(seconds))
}

/// The whole file.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct File {
    pub(super) workers: Option<u64>,
    pub(super) shutdown_timeout: Text<Duration>,
    pub(super) drain_delay: Text<Duration>,
    pub(super) log: Log,
    pub(super) access_log: Option<AccessLog>,
    pub(super) admin: Admin,
    pub(super) trusted_proxies: Items<Text<IpNet>>,
    pub(super) tcp: Tcp,
    pub(super) rules: Items<Rule>,
    pub(super) cluster: Option<Cluster>,
}

impl Default for File {
    fn default() -> Self {
        File {
            workers: None,
            shutdown_timeout: seconds(30),
            drain_delay: seconds(0),
            log: Log::default(),
            access_log: None,
            admin: Admin::default(),
            trusted_proxies: Vec::new(),
            tcp: Tcp::default(),
            rules: Vec::new(),
            cluster: None,
        }
    }
}

impl File {
    /// Takes the shape of a clean value. Everything the schema lets pass fits; the error is for
    /// the day on which schema and shapes differ.
    pub(super) fn take(clean: serde_yaml::Value) -> Result<File, String> {
        serde_yaml::from_value::<File>(clean).map(File::without_disabled).map_err(|e| e.to_string())
    }

    /// A section that is switched off is as good as not written.
    fn without_disabled(mut self) -> File {
        self.cluster = self.cluster.filter(|cluster| cluster.enabled);
        for rule in self.rules.iter_mut().flatten() {
            rule.rate_limit = rule
                .rate_limit
                .take()
                .filter(|limit| limit.enabled && limit.kind != Some(LimitKind::None));
            rule.bandwidth_limit = rule.bandwidth_limit.take().filter(|limit| limit.enabled);
        }
        self
    }
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Log {
    pub(super) level: String,
    pub(super) format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Log { level: "info".to_owned(), format: LogFormat::Text }
    }
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct AccessLog {
    /// `stdout`, `off` or a path.
    pub(super) output: Option<String>,
    pub(super) format: AccessLogFormat,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum AccessLogFormat {
    #[default]
    Json,
    Text,
    Combined,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Admin {
    pub(super) listen: Text<SocketAddr>,
    pub(super) token_file: Option<PathBuf>,
}

impl Default for Admin {
    fn default() -> Self {
        Admin { listen: Text(SocketAddr::from(([127, 0, 0, 1], 9900))), token_file: None }
    }
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Tcp {
    pub(super) nodelay: bool,
    pub(super) keepalive: Keepalive,
    pub(super) backlog: u32,
    pub(super) max_handshakes: u32,
}

impl Default for Tcp {
    fn default() -> Self {
        Tcp { nodelay: true, keepalive: Keepalive::default(), backlog: 4096, max_handshakes: 1024 }
    }
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Keepalive {
    pub(super) idle: Text<Duration>,
    pub(super) interval: Text<Duration>,
    pub(super) count: u32,
}

impl Default for Keepalive {
    fn default() -> Self {
        Keepalive { idle: seconds(60), interval: seconds(10), count: 6 }
    }
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Rule {
    pub(super) name: Option<String>,
    pub(super) listen: Items<Text<SocketAddr>>,
    pub(super) protocol: Protocol,
    pub(super) balance: Balance,
    pub(super) backends: Items<Backend>,
    pub(super) health_check: HealthCheck,
    pub(super) outlier: Outlier,
    pub(super) panic_threshold: Text<Share>,
    pub(super) slow_start: Text<Duration>,
    pub(super) connect_timeout: Text<Duration>,
    pub(super) connect_attempts: u32,
    pub(super) idle_timeout: Text<Duration>,
    pub(super) backend_connection_limit: Option<BackendConnectionLimit>,
    pub(super) backend_queue: BackendQueue,
    pub(super) rate_limit: Option<RateLimit>,
    pub(super) connection_limit: ConnectionLimit,
    pub(super) bandwidth_limit: Option<BandwidthLimit>,
    pub(super) access: Access,
}

impl Default for Rule {
    fn default() -> Self {
        Rule {
            name: None,
            listen: Vec::new(),
            protocol: Protocol::Tcp,
            balance: Balance::WeightedRoundRobin,
            backends: Vec::new(),
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
        }
    }
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Protocol {
    Tcp,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Balance {
    WeightedRoundRobin,
    LeastConnections,
    PowerOfTwo,
    ConsistentHash,
    Random,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Backend {
    /// `None`: refused, and said.
    pub(super) address: Option<Text<Endpoint>>,
    pub(super) weight: u32,
    pub(super) backup: bool,
    pub(super) max_connections: Option<u32>,
    pub(super) server_name: Option<String>,
}

impl Default for Backend {
    fn default() -> Self {
        Backend {
            address: None,
            weight: 1,
            backup: false,
            max_connections: None,
            server_name: None,
        }
    }
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct HealthCheck {
    #[serde(rename = "type")]
    pub(super) kind: CheckType,
    pub(super) interval: Text<Duration>,
    pub(super) timeout: Text<Duration>,
    pub(super) rise: u32,
    pub(super) fall: u32,
    pub(super) port: Option<u16>,
    pub(super) path: Option<String>,
    pub(super) host: Option<String>,
    pub(super) expect_status: Option<Items<Text<Statuses>>>,
    pub(super) expect_body: Option<String>,
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
pub(super) enum CheckType {
    Tcp,
    Http,
    None,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Outlier {
    pub(super) failures: u32,
    pub(super) eject_for: Text<Duration>,
    pub(super) max_ejected: Text<Share>,
}

impl Default for Outlier {
    fn default() -> Self {
        Outlier { failures: 5, eject_for: seconds(10), max_ejected: Text(Share::percent(50.0)) }
    }
}

/// `100`, or `{ limit: 100 }`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BackendConnectionLimit {
    #[serde(default)]
    pub(super) limit: Option<u32>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct BackendQueue {
    pub(super) size: u32,
    pub(super) timeout: Text<Duration>,
}

impl Default for BackendQueue {
    fn default() -> Self {
        BackendQueue { size: 0, timeout: seconds(1) }
    }
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RateLimit {
    pub(super) enabled: bool,
    pub(super) requests_per_second: Option<f64>,
    pub(super) burst: Option<u32>,
    #[serde(rename = "type")]
    pub(super) kind: Option<LimitKind>,
    pub(super) limit: Option<u32>,
    pub(super) window: Option<Text<Duration>>,
    pub(super) scope: Option<Scope>,
    pub(super) key: LimitKey,
    pub(super) action: Action,
    pub(super) delay_queue: Option<u32>,
    pub(super) delay_max: Option<Text<Duration>>,
    pub(super) ipv6_prefix: u8,
    pub(super) exempt: Items<Text<IpNet>>,
    pub(super) shadow: bool,
    pub(super) max_keys: u32,
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
            ipv6_prefix: 64,
            exempt: Vec::new(),
            shadow: false,
            max_keys: 131_072,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum LimitKind {
    TokenBucket,
    FixedWindow,
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Scope {
    Cluster,
    Node,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum LimitKey {
    Client,
    Rule,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Action {
    Reject,
    Drop,
    Delay,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ConnectionLimit {
    pub(super) per_client: Option<u32>,
    pub(super) total: Option<u32>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct BandwidthLimit {
    pub(super) enabled: bool,
    pub(super) client: Rates,
    pub(super) backend: Rates,
}

impl Default for BandwidthLimit {
    fn default() -> Self {
        BandwidthLimit { enabled: true, client: Rates::default(), backend: Rates::default() }
    }
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Rates {
    pub(super) upload_per_sec: Option<Text<Size>>,
    pub(super) download_per_sec: Option<Text<Size>>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Access {
    pub(super) allow: Items<Text<IpNet>>,
    pub(super) deny: Items<Text<IpNet>>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Cluster {
    pub(super) enabled: bool,
    pub(super) bind_addr: Text<SocketAddr>,
    pub(super) peers: Items<Text<Endpoint>>,
    pub(super) node_name: Option<String>,
    pub(super) advertise_addr: Option<Text<SocketAddr>>,
    pub(super) label: String,
    pub(super) traffic_cap: Text<Size>,
    pub(super) insecure: bool,
}

impl Default for Cluster {
    fn default() -> Self {
        Cluster {
            enabled: true,
            bind_addr: Text(SocketAddr::from(([0, 0, 0, 0], 9090))),
            peers: Vec::new(),
            node_name: None,
            advertise_addr: None,
            label: "default".to_owned(),
            traffic_cap: Text(Size(3 << 20)),
            insecure: false,
        }
    }
}
