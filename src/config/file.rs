//! The file as written: one shape per section, and what each key is worth when it is left out.
//! The only module that knows serde_yaml.
//!
//! Sections that are switched on by being there: a `rate_limit:`, `bandwidth_limit:`, `tls:`,
//! `backend_tls:` or `cluster:` without `enabled` is enabled.

mod rule;
mod tls;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::written::{Moment, Size, Written};
use crate::base::Endpoint;
use crate::health::ALL_BELOW;

pub(super) use rule::*;
/// What the walk along the schema hands over.
pub(super) use serde_yaml::{Mapping, Number, Value as Clean};
pub(super) use tls::*;

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
    pub(super) fn take(clean: Clean) -> Result<File, String> {
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
            rule.tls = rule.tls.take().filter(|tls| tls.enabled);
            rule.backend_tls = rule.backend_tls.take().filter(|tls| tls.enabled);
            let by_tls = rule.backend_tls.is_some();
            for backend in rule.backends.iter_mut().flatten().flatten() {
                // Switched off it still says something where the rule's own is on.
                backend.tls = match backend.tls.take() {
                    Some(tls) if tls.enabled => Some(tls),
                    Some(_) if by_tls => Some(BackendTls::off()),
                    _ => None,
                };
            }
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

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Profile {
    Lan,
    Wan,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Cluster {
    pub(super) enabled: bool,
    pub(super) bind_addr: Text<SocketAddr>,
    pub(super) sync_addr: Option<Text<SocketAddr>>,
    pub(super) peers: Items<Text<Endpoint>>,
    pub(super) node_name: Option<String>,
    pub(super) advertise_addr: Option<Text<SocketAddr>>,
    pub(super) label: String,
    pub(super) profile: Profile,
    pub(super) traffic_cap: Text<Size>,
    pub(super) keys_file: Option<PathBuf>,
    pub(super) insecure: bool,
    pub(super) state_dir: Option<PathBuf>,
    pub(super) probe_all_below: u64,
    pub(super) accept_plaintext_until: Option<Text<Moment>>,
}

impl Default for Cluster {
    fn default() -> Self {
        Cluster {
            enabled: true,
            bind_addr: Text(SocketAddr::from(([0, 0, 0, 0], 9090))),
            sync_addr: None,
            peers: Vec::new(),
            node_name: None,
            advertise_addr: None,
            label: "default".to_owned(),
            profile: Profile::Lan,
            traffic_cap: Text(Size(3 << 20)),
            keys_file: None,
            insecure: false,
            state_dir: None,
            probe_all_below: ALL_BELOW as u64,
            accept_plaintext_until: None,
        }
    }
}
