//! The contract as one table: every key, what its value looks like, and which keys and words come
//! only with a later release. What a key is worth when it is left out stands in `file.rs`.

mod texts;

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::fault::Wrong;
use super::written::{Moment, Statuses};
use crate::base::{Endpoint, Share};

/// One key of a section.
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) is: Is,
}

/// What is known about a key.
pub(super) enum Is {
    /// It may be written.
    Optional(Kind),
    /// It must be written, and a list must hold something.
    Required(Kind),
    /// A list that must be written and may be empty.
    Listed(Kind),
    /// It may be written as long as it asks for what this version does anyway; so nobody reads it.
    NoOp(Kind),
    /// It is refused by name.
    Later(Later),
}

/// What brings a key or a word.
#[derive(Clone, Copy)]
pub(super) enum Later {
    Http,
    Someday,
}

impl Later {
    /// Behind "not in this version".
    pub(super) fn why(self) -> &'static str {
        match self {
            Later::Http => " (it comes with HTTP)",
            Later::Someday => "",
        }
    }
}

/// What a value looks like.
pub(super) enum Kind {
    /// `true` or `false`.
    Bool,
    /// A whole number within these bounds.
    Int(u64, u64),
    /// A number above 0, fractions allowed.
    Rate,
    /// A text that this function understands.
    Text(fn(&str) -> Result<(), Wrong>),
    /// One of these words.
    Words(&'static [Word]),
    /// A list.
    List(&'static Kind),
    /// One, or a list of them.
    OneOrMore(&'static Kind),
    /// Keys and values.
    Section(&'static [Key]),
    /// Keys and values, or in short the value of the first key.
    Short(&'static [Key]),
    /// Keys and values, or a text that this function understands.
    TextOr(fn(&str) -> Result<(), Wrong>, &'static [Key]),
    /// A section of a later release that is only understood as far as `enabled: false`.
    Disabled(Later),
}

/// A word that may be written.
pub(super) enum Word {
    Now(&'static str),
    /// A name that ends in `:` stands for every word that begins with it.
    Later(&'static str, Later),
}

use Kind::{Bool, Disabled, Int, List, OneOrMore, Section, Short, Text, TextOr, Words};
use Later::{Http, Someday};
use Word::Now;
use texts::{
    any, application_protocol, bytes, host, interval, keepalive_time, line, log_level, name, path,
    reachable, request_path, short_permission, sni_pattern, tls_name, tls_version, wait,
};

const fn key(name: &'static str, kind: Kind) -> Key {
    Key { name, is: Is::Optional(kind) }
}

const fn must(name: &'static str, kind: Kind) -> Key {
    Key { name, is: Is::Required(kind) }
}

const fn no_op(name: &'static str, kind: Kind) -> Key {
    Key { name, is: Is::NoOp(kind) }
}

const fn later(name: &'static str, later: Later) -> Key {
    Key { name, is: Is::Later(later) }
}

const COUNT: Kind = Int(1, u32::MAX as u64);
const COUNT_OR_NONE: Kind = Int(0, u32::MAX as u64);
const PORT: Kind = Int(1, 65_535);
const SPAN: Kind = Text(any::<Duration>);
/// A wait that must be one: a time-out of zero would refuse everything.
const WAIT: Kind = Text(wait);
const SHARE: Kind = Text(any::<Share>);
const BYTES: Kind = Text(bytes);
const NAME: Kind = Text(name);
const PATH: Kind = Text(path);
const ANYTHING: Kind = Text(line);
const NETWORKS: Kind = List(&Text(any::<IpNet>));

pub(super) static FILE: &[Key] = &[
    key("workers", Int(1, 1024)),
    key("shutdown_timeout", SPAN),
    key("drain_delay", SPAN),
    key("log", Section(LOG)),
    key("access_log", Section(ACCESS_LOG)),
    key("admin", Section(ADMIN)),
    key("trusted_proxies", NETWORKS),
    key("tcp", Section(TCP)),
    must("rules", List(&Section(RULE))),
    key("cluster", Section(CLUSTER)),
    later("tracing", Http),
];

static LOG: &[Key] =
    &[key("level", Text(log_level)), key("format", Words(&[Now("text"), Now("json")]))];

static ACCESS_LOG: &[Key] =
    &[key("output", PATH), key("format", Words(&[Now("json"), Now("text"), Now("combined")]))];

static ADMIN: &[Key] = &[key("listen", Text(any::<SocketAddr>)), key("token_file", PATH)];

static TCP: &[Key] = &[
    key("nodelay", Bool),
    key("keepalive", Section(KEEPALIVE)),
    key("backlog", Int(1, 65_535)),
    key("max_handshakes", COUNT),
];

// The kernel counts in seconds and takes no more than 32767 of them, and 127 probes.
static KEEPALIVE: &[Key] = &[
    key("idle", Text(keepalive_time)),
    key("interval", Text(keepalive_time)),
    key("count", Int(1, 127)),
];

static RULE: &[Key] = &[
    key("name", NAME),
    must("listen", OneOrMore(&Text(any::<SocketAddr>))),
    key("protocol", Words(&[Now("tcp"), Word::Later("http", Http)])),
    key(
        "balance",
        Words(&[
            Now("weighted_round_robin"),
            Now("least_connections"),
            Now("power_of_two"),
            Now("consistent_hash"),
            Now("random"),
            Word::Later("peak_ewma", Http),
        ]),
    ),
    Key { name: "backends", is: Is::Listed(List(&Short(BACKEND))) },
    key("health_check", Section(HEALTH_CHECK)),
    key("outlier", Section(OUTLIER)),
    key("panic_threshold", SHARE),
    key("slow_start", SPAN),
    key("connect_timeout", WAIT),
    key("connect_attempts", Int(1, 100)),
    key("idle_timeout", SPAN),
    key("backend_connection_limit", Short(BACKEND_CONNECTION_LIMIT)),
    key("backend_queue", Section(BACKEND_QUEUE)),
    key("rate_limit", Section(RATE_LIMIT)),
    key("connection_limit", Section(CONNECTION_LIMIT)),
    key("bandwidth_limit", Section(BANDWIDTH_LIMIT)),
    key("access", Section(ACCESS)),
    key("proxy_protocol", Section(PROXY_PROTOCOL)),
    key("tls", Section(TLS)),
    key("backend_tls", Section(BACKEND_TLS)),
    key("authorization", Section(AUTHORIZATION)),
    later("routes", Http),
    later("http", Http),
    later("retries", Http),
    later("circuit_breaker", Http),
    later("sticky", Http),
    no_op("cache", Disabled(Http)),
    no_op("compression", Disabled(Http)),
];

static BACKEND: &[Key] = &[
    must("address", Text(any::<Endpoint>)),
    key("weight", Int(0, 65_535)),
    key("backup", Bool),
    key("max_connections", COUNT),
    key("server_name", Text(tls_name)),
    key("tls", Section(BACKEND_TLS)),
    later("zone", Someday),
];

static HEALTH_CHECK: &[Key] = &[
    key("type", Words(&[Now("tcp"), Now("http"), Now("none")])),
    key("interval", Text(interval)),
    key("timeout", WAIT),
    key("rise", Int(1, 1000)),
    key("fall", Int(1, 1000)),
    key("port", PORT),
    key("path", Text(request_path)),
    key("host", Text(host)),
    key("expect_status", OneOrMore(&Text(any::<Statuses>))),
    key("expect_body", ANYTHING),
];

static OUTLIER: &[Key] =
    &[key("failures", COUNT_OR_NONE), key("eject_for", WAIT), key("max_ejected", SHARE)];

static BACKEND_CONNECTION_LIMIT: &[Key] = &[must("limit", COUNT), key("scope", Words(SCOPES))];

static SCOPES: &[Word] = &[Now("node"), Now("cluster")];

static BACKEND_QUEUE: &[Key] = &[key("size", COUNT_OR_NONE), key("timeout", WAIT)];

static RATE_LIMIT: &[Key] = &[
    key("enabled", Bool),
    key("requests_per_second", Kind::Rate),
    key("burst", COUNT),
    key("type", Words(&[Now("token_bucket"), Now("fixed_window"), Now("none")])),
    key("limit", COUNT),
    key("window", WAIT),
    key("scope", Words(&[Now("cluster"), Now("node")])),
    key("key", Words(&[Now("client"), Now("rule"), Now("identity"), Word::Later("header:", Http)])),
    key("consistency", Words(&[Now("auto"), Now("optimistic"), Now("strict")])),
    key("on_partition", Words(&[Now("full"), Now("proportional")])),
    key("on_isolated", Words(&[Now("local_full"), Now("local_share"), Now("deny")])),
    key("action", Words(&[Now("reject"), Now("drop"), Now("delay")])),
    key("delay_queue", COUNT),
    key("delay_max", WAIT),
    key("ipv6_prefix", Int(1, 128)),
    key("exempt", NETWORKS),
    key("shadow", Bool),
    key("max_keys", Int(1, 1 << 26)),
];

static CONNECTION_LIMIT: &[Key] =
    &[key("per_client", COUNT), key("total", COUNT), key("scope", Words(SCOPES))];

static BANDWIDTH_LIMIT: &[Key] = &[
    key("enabled", Bool),
    key("client", Section(RATES)),
    key("backend", Section(RATES)),
    key("scope", Words(SCOPES)),
];

static RATES: &[Key] = &[key("upload_per_sec", BYTES), key("download_per_sec", BYTES)];

static ACCESS: &[Key] = &[key("allow", NETWORKS), key("deny", NETWORKS)];

static PROXY_PROTOCOL: &[Key] =
    &[key("accept", Bool), key("send", Words(&[Now("none"), Now("v1"), Now("v2")]))];

static TLS: &[Key] = &[
    key("enabled", Bool),
    key("mode", Words(&[Now("terminate"), Now("passthrough")])),
    key("cert", PATH),
    key("key", PATH),
    key("ocsp", PATH),
    key("certificates", List(&Section(CERTIFICATE))),
    key("client_ca", PATH),
    key("client_auth", Words(&[Now("required"), Now("optional")])),
    key("client_crl", PATH),
    key("min_version", Text(tls_version)),
    key("alpn", List(&Text(application_protocol))),
    key("handshake_timeout", WAIT),
    key("routes", List(&Section(TLS_ROUTE))),
];

static CERTIFICATE: &[Key] = &[
    key("server_name", Text(sni_pattern)),
    must("cert", PATH),
    must("key", PATH),
    key("ocsp", PATH),
];

static TLS_ROUTE: &[Key] = &[
    key("server_name", Text(sni_pattern)),
    key("alpn", List(&Text(application_protocol))),
    must("backends", List(&Text(any::<Endpoint>))),
];

static BACKEND_TLS: &[Key] = &[
    key("enabled", Bool),
    key("ca", PATH),
    key("pinned_cert", PATH),
    key("server_name", Text(tls_name)),
    key("cert", PATH),
    key("key", PATH),
    key("insecure_skip_verify", Bool),
];

static PERMISSIONS: &[Word] = &[Now("allow"), Now("deny")];

static AUTHORIZATION: &[Key] = &[
    key("default", Words(PERMISSIONS)),
    key("rules", List(&TextOr(short_permission, AUTHORIZATION_RULE))),
];

static AUTHORIZATION_RULE: &[Key] = &[
    must("identity", ANYTHING),
    must("action", Words(PERMISSIONS)),
    key("backend", Text(any::<Endpoint>)),
    key("route", Text(sni_pattern)),
];

static CLUSTER: &[Key] = &[
    key("enabled", Bool),
    key("bind_addr", Text(any::<SocketAddr>)),
    key("sync_addr", Text(any::<SocketAddr>)),
    key("peers", List(&Text(any::<Endpoint>))),
    key("node_name", NAME),
    key("advertise_addr", Text(reachable)),
    key("label", NAME),
    key("state_dir", PATH),
    key("probe_all_below", Int(1, 4096)),
    key("traffic_cap", BYTES),
    key("keys_file", PATH),
    key("insecure", Bool),
    key("profile", Words(&[Now("lan"), Now("wan")])),
    key("accept_plaintext_until", Text(any::<Moment>)),
];
