//! The data wing on real loopback sockets: workers, listeners, rules and backends, without a node.

#[path = "../support/mod.rs"]
mod support;

mod ending;
mod library;
mod library_tls;
mod limits;
mod log;
mod many;
mod relaying;
mod starving;
mod tls;
mod upstream;
