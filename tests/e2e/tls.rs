//! TLS and PROXY headers with programs that others wrote at the other end: as clients, as backends, as
//! balancers in front, and as scanners.

mod backends;
mod clients;
mod examples;
mod half_open;
mod identity;
mod proxy_headers;
mod refused;
mod renewal;
mod resumption;
mod scanners;

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use crate::harness::certs::Certs;
use crate::harness::host::Host;
use crate::harness::node::{Node, SOON};
use crate::harness::server::loopback;
use crate::harness::{Need, run, try_run, until};

const OPENSSL: Need = Need::Tool("openssl", "openssl");
const CURL: Need = Need::Tool("curl", "curl");

/// A node with one rule `web` that has these keys, one a line, and where it listens.
fn node(backends: &[SocketAddr], keys: &[&str]) -> (Node, SocketAddr) {
    let web = loopback();
    (Node::start(Host::here(), "n", &format!("rules:\n{}", rule("web", web, backends, keys))), web)
}

/// A rule, an item of `rules`.
fn rule(name: &str, listen: SocketAddr, backends: &[SocketAddr], keys: &[&str]) -> String {
    let backends: Vec<String> = backends.iter().map(|backend| format!("\"{backend}\"")).collect();
    let keys: String = keys.iter().map(|key| format!("    {key}\n")).collect();
    format!(
        "  - name: {name}\n    listen: \"{listen}\"\n    backends: [{}]\n{keys}",
        backends.join(", ")
    )
}

/// How many sessions ended for this reason.
fn ended(node: &Node, reason: &str) -> u64 {
    let label = format!("reason=\"{reason}\"");
    node.metric("tidegate_sessions_total", &[&label]).unwrap_or(0.0) as u64
}

/// Waits until so many sessions have ended for this reason.
#[track_caller]
fn wait_ended(node: &Node, reason: &str, count: u64) {
    let what = format!("{count} sessions end with {reason}");
    until(&what, SOON, || (ended(node, reason) == count).then_some(()));
}

fn curl_command(arguments: &[&str]) -> Command {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail", "--max-time", "10"]).args(arguments);
    curl
}

/// What curl gets, if it gets anything.
fn try_curl(arguments: &[&str]) -> Option<String> {
    let output = try_run(&mut curl_command(arguments), Duration::from_secs(20))?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What curl gets.
#[track_caller]
fn curl(arguments: &[&str]) -> String {
    run(&mut curl_command(arguments), Duration::from_secs(20)).trim_end().to_owned()
}

/// That curl gets nothing, and what it says about it.
#[track_caller]
fn curl_fails(arguments: &[&str]) -> String {
    let output = try_run(&mut curl_command(arguments), Duration::from_secs(20)).expect("curl ends");
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// `tls: { … }` with the server's certificate and more.
fn terminate(certs: &Certs, more: &str) -> String {
    format!("tls: {{ {}{more} }}", certs.pair("server"))
}

/// The key of a rule by which clients must show a certificate, and none that is revoked.
fn mutual(certs: &Certs) -> String {
    let (ca, revoked) = (certs.path("ca.crt"), certs.path("ca.crl"));
    terminate(certs, &format!(", client_ca: \"{ca}\", client_crl: \"{revoked}\""))
}
