//! The JSON that others rely on: names here are a contract, fields may only be added.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `GET /api/v1/members`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Members {
    /// This node's name; empty when it is alone.
    #[serde(rename = "self")]
    pub own: String,
    /// Everybody known, this node included.
    pub members: Vec<Member>,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// Node name.
    pub name: String,
    /// Gossip address.
    pub address: String,
    /// `alive`, `suspect`, `failed` or `left`.
    pub state: String,
    /// Whether it is this node.
    #[serde(rename = "self")]
    pub own: bool,
    /// Digest of its configuration; empty until heard.
    pub config_digest: String,
    /// Node id, hex.
    pub node_id: String,
    /// Boot id, hex.
    pub boot_id: String,
    /// Its version; empty until heard.
    pub version: String,
    /// The names of its gossip keys, the one that seals first; none in plaintext.
    #[serde(default)]
    pub keys: Vec<u8>,
    /// Seconds since its state last changed.
    pub since_s: f64,
}

/// `GET /api/v1/rules`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rules {
    /// In the order of the file.
    pub rules: Vec<Rule>,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Name.
    pub name: String,
    /// Listeners.
    pub listen: Vec<String>,
    /// Balancing policy, as in the configuration.
    pub balance: String,
    /// Live connections.
    pub active: u64,
    /// Connections accepted since start.
    pub connections: u64,
    /// Ended sessions by reason.
    pub outcomes: BTreeMap<String, u64>,
    /// Bytes from clients.
    pub bytes_up: u64,
    /// Bytes to clients.
    pub bytes_down: u64,
    /// Backends that can be used, of `backends_total`.
    pub backends_up: usize,
    /// All backends.
    pub backends_total: usize,
    /// Whether too few are healthy and all are used.
    pub panic: bool,
}

/// `GET /api/v1/backends`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Backends {
    /// By rule, then in the order of the file.
    pub backends: Vec<Backend>,
}

/// One backend of one rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Backend {
    /// Rule.
    pub rule: String,
    /// Resolved address.
    pub address: String,
    /// As configured.
    pub name: String,
    /// `up`, `down`, `drain` or `ejected`; `down` before the first result.
    pub state: String,
    /// Configured weight.
    pub weight: u32,
    /// Used only when no other can be.
    pub backup: bool,
    /// Live connections of this node.
    pub active: u64,
    /// Live connections of all nodes, the others' as they told last.
    #[serde(default)]
    pub cluster_active: u64,
    /// Connections of this node since start.
    pub connections: u64,
    /// Connects that failed.
    pub connect_failures: u64,
    /// Last check's result in words; empty before the first.
    pub last_check: String,
    /// Verdicts by node name, of every node that checks it: `up` or `down`.
    pub votes: BTreeMap<String, String>,
    /// The same with what is behind them.
    #[serde(default)]
    pub opinions: BTreeMap<String, Opinion>,
    /// Whether this node checks it; else it takes the majority of those that do.
    #[serde(default)]
    pub checked_here: bool,
}

/// What one node found of a backend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Opinion {
    /// `up` or `down`.
    pub verdict: String,
    /// Seconds that it has been so.
    pub since_s: f64,
    /// Results in a row that said so; of a peer, when it was told.
    pub streak: u32,
    /// What a good check takes, milliseconds; of a peer, when it was told. Nothing before the
    /// first.
    pub latency_ms: Option<f64>,
    /// How often that node's verdict has changed.
    pub seq: u64,
}

/// `GET /api/v1/bans`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bans {
    /// In the order of addresses.
    pub bans: Vec<Ban>,
}

/// One ban.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ban {
    /// An address or a network.
    pub client: String,
    /// Seconds until it ends; `None`: when it is lifted.
    pub left_s: Option<f64>,
    /// Whether live connections were cut.
    pub cut: bool,
    /// The node where it was ordered.
    pub by: String,
    /// About when it was ordered, RFC 3339 UTC.
    pub since: String,
}

/// One act on a backend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OverlayAct {
    /// Rule.
    pub rule: String,
    /// Backend.
    pub backend: String,
    /// `drain`, `add`, `remove` or `weight`.
    pub act: String,
    /// Of `add` and `weight`.
    pub weight: Option<u32>,
    /// The node where it was ordered.
    pub by: String,
    /// About when it was ordered, RFC 3339 UTC.
    pub since: String,
    /// Why it does not hold on this node; `None`: it does.
    pub idle: Option<String>,
}

/// `GET /api/v1/limits`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Rate limits, by rule.
    pub limits: Vec<Limit>,
}

/// One rate limit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limit {
    /// Rule.
    pub rule: String,
    /// `cluster` or `node`.
    pub scope: String,
    /// `token_bucket` or `fixed_window`.
    pub algorithm: String,
    /// Admissions per second.
    pub rate: f64,
    /// Burst.
    pub burst: f64,
    /// Admitted by this node since start.
    pub admitted: u64,
    /// Refused by this node since start.
    pub refused: u64,
    /// Keys tracked.
    pub keys: u64,
    /// Most keys tracked.
    pub max_keys: u64,
    /// Served without being tracked because the table was full.
    pub untracked: u64,
    /// Tokens debited because peers spent them.
    pub spent_elsewhere: u64,
    /// Refuses nobody.
    pub shadow: bool,
    /// Levels that owners of keys told this node.
    pub levels_told: u64,
    /// Sum over them of how far this node's own view was off, in tokens.
    pub level_error: u64,
    /// Sum over them of the tokens that were not in the told level yet.
    pub unsynced: u64,
}

/// `GET /api/v1/status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Node name.
    pub node: String,
    /// Version of the program.
    pub version: String,
    /// Seconds since start.
    pub uptime_s: f64,
    /// What `/readyz` says.
    pub ready: bool,
    /// Why not ready, empty when it is.
    pub not_ready: Vec<String>,
    /// The configuration that runs, and whether the last one read was good.
    pub config: ConfigStatus,
    /// Live connections.
    pub connections: u64,
    /// Worker threads.
    pub workers: usize,
    /// Process id.
    pub pid: u32,
    /// Gossip, when this node is in a cluster.
    pub gossip: Option<GossipStatus>,
    /// Bans that hold.
    #[serde(default)]
    pub bans: usize,
    /// What acts changed about backends.
    #[serde(default)]
    pub overlay: Vec<OverlayAct>,
    /// Why certificates as they are in their files are not used, while that stands; a line each.
    #[serde(default)]
    pub certificates_fault: Option<String>,
    /// Certificates in use, authorities among them.
    #[serde(default)]
    pub certificates: Vec<CertificateStatus>,
    /// Session tickets.
    #[serde(default)]
    pub tickets: TicketStatus,
}

/// A certificate in use, or something else of TLS that holds for a time alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CertificateStatus {
    /// `certificate`, `authority`, `revocation_list` or `ocsp_response`.
    #[serde(default)]
    pub kind: String,
    /// Where it was read.
    pub file: String,
    /// Its first name; of a revocation list its issuer's.
    pub name: String,
    /// The serial number of the certificate, hex; of a revocation list empty.
    pub serial: String,
    /// When it ends to be good, RFC 3339 UTC.
    pub expires: String,
    /// The same, seconds since 1970.
    pub expires_s: f64,
    /// What is to be said of its dates, from two weeks before they end.
    pub trouble: Option<String>,
}

/// How session tickets stand. No secret is ever shown.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TicketStatus {
    /// Secrets that are known.
    pub secrets: usize,
    /// Seconds that the one that seals has done so here; `None`: none does.
    pub sealing_s: Option<f64>,
    /// Whether other nodes have them, so that sessions resume there.
    pub shared: bool,
}

/// The configuration that runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ConfigStatus {
    /// Whether the last file read was good.
    pub ok: bool,
    /// Digest of what runs.
    pub digest: String,
    /// When it was loaded, RFC 3339 UTC.
    pub loaded_at: String,
    /// All faults of the last file, when it was not good.
    pub error: Option<String>,
}

/// How gossip stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GossipStatus {
    /// Where peers find us.
    pub address: String,
    /// Whether datagrams are authenticated.
    pub authenticated: bool,
    /// What to do when they are not.
    pub advice: String,
    /// Alive members, this node included.
    pub alive: usize,
    /// Why the cluster does not let this node in, with the remedy, while that stands.
    #[serde(default)]
    pub fault: Option<String>,
    /// The state directory; `None`: none is configured.
    #[serde(default)]
    pub state: Option<StateStatus>,
    /// The names of this node's keys, the one that seals first; none in plaintext.
    #[serde(default)]
    pub keys: Vec<u8>,
    /// With keys: until when nodes without are heard as well, RFC 3339 UTC.
    #[serde(default)]
    pub plaintext_until: Option<String>,
    /// That another process runs with this node's id, with the remedy, while that stands.
    #[serde(default)]
    pub cloned: Option<String>,
    /// Why the keys in the file are not used, while that stands.
    #[serde(default)]
    pub keys_fault: Option<String>,
}

/// How keeping the node's state goes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StateStatus {
    /// `cluster.state_dir`.
    pub dir: String,
    /// Why the last write failed, while it does.
    pub error: Option<String>,
}
