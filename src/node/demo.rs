//! `tidegate demo`: three whole nodes and three backends on loopback in one process, and what to
//! try with them. No file, no Docker, nothing else installed.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use super::backend_server::{Backend, Mode};
use super::boot::Node;
use super::logging;
use super::run::{control_runtime, refuse};
use crate::base::{Drain, drain_signal};
use crate::config::{self, LogFormat, LogPlan};
use crate::net::raise_descriptor_limit;

const NODES: usize = 3;
const BACKENDS: usize = 3;
/// Connections per second that the limited rule admits over all nodes.
const LIMIT: u32 = 5;

/// Ports that every demo node uses, each on a loopback address of its own: as three hosts would,
/// so that their configurations are alike.
struct Ports {
    /// Balanced, not limited.
    web: u16,
    /// Balanced and limited.
    limited: u16,
    admin: u16,
    gossip: u16,
}

/// Node `at`'s address: 127.0.0.1, 127.0.0.2, …
fn host(at: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, at as u8 + 1)
}

/// Runs until Ctrl-C. Exit codes: 0, or 1 when something could not be started.
pub fn demo() -> ExitCode {
    let _log = logging::init(&LogPlan { level: "warn".into(), format: LogFormat::Text });
    // The demo shares its descriptors with its backends; what it gets is enough to try it.
    let _ = raise_descriptor_limit();
    match control_runtime() {
        Ok(runtime) => runtime.block_on(play()),
        Err(error) => refuse(&format_args!("cannot start the control runtime: {error}")),
    }
}

async fn play() -> ExitCode {
    let (end, drain) = drain_signal();
    let started = async {
        let backends = start_backends(&drain).await?;
        let ports = pick_ports()?;
        let mut nodes: Vec<Arc<Node>> = Vec::new();
        for at in 0..NODES {
            let text = configuration(at, &ports, &backends);
            let plan = config::parse(&text, "demo.yaml", Path::new(""))?.plan;
            let node = Node::start(plan).await?;
            tokio::spawn(leave_when_asked(Arc::clone(&node)));
            nodes.push(node);
        }
        Ok::<_, Box<dyn std::error::Error>>((nodes, ports))
    };
    let (nodes, ports) = match started.await {
        Ok(started) => started,
        Err(error) => return refuse(&error),
    };
    // Nobody reads when stdout is closed; the demo runs all the same.
    let _ = std::io::stdout().write_all(guide(&ports).as_bytes());

    if let Err(error) = tokio::signal::ctrl_c().await {
        return refuse(&format_args!("cannot listen for Ctrl-C: {error}"));
    }
    drop(nodes);
    drop(end);
    ExitCode::SUCCESS
}

/// Each node may be told to leave on its own (`tidegate leave`).
async fn leave_when_asked(node: Arc<Node>) {
    node.asked_to_leave().await;
    node.drain().await;
}

async fn start_backends(drain: &Drain) -> std::io::Result<Vec<SocketAddr>> {
    let mut addresses = Vec::new();
    for at in 1..=BACKENDS {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        addresses.push(listener.local_addr()?);
        let backend = Backend::quiet(format!("backend{at}"), Mode::Http);
        tokio::spawn(backend.serve(listener, drain.clone()));
    }
    Ok(addresses)
}

/// The ports a reader would guess, or others where something listens already.
fn pick_ports() -> std::io::Result<Ports> {
    Ok(Ports {
        web: pick(8080, |address| TcpListener::bind(address)?.local_addr())?,
        limited: pick(8081, |address| TcpListener::bind(address)?.local_addr())?,
        admin: pick(9900, |address| TcpListener::bind(address)?.local_addr())?,
        gossip: pick(9090, |address| UdpSocket::bind(address)?.local_addr())?,
    })
}

/// A port that is free on every node's address: `preferred`, or whatever the system offers.
fn pick(
    preferred: u16,
    bind: impl Fn(SocketAddr) -> std::io::Result<SocketAddr>,
) -> std::io::Result<u16> {
    let on = |at: usize, port: u16| SocketAddr::from((host(at), port));
    let free = |port: u16| (0..NODES).try_for_each(|at| bind(on(at, port)).map(drop));
    if free(preferred).is_ok() {
        return Ok(preferred);
    }
    let mut last = bind(on(0, 0))?.port();
    for _ in 0..16 {
        if free(last).is_ok() {
            break;
        }
        last = bind(on(0, 0))?.port();
    }
    Ok(last)
}

/// The file that node `at` would have been started with.
fn configuration(at: usize, ports: &Ports, backends: &[SocketAddr]) -> String {
    let quoted = |all: Vec<String>| all.join(", ");
    let backends = quoted(backends.iter().map(|address| format!("\"{address}\"")).collect());
    let peers = quoted(
        (0..NODES)
            .filter(|other| *other != at)
            .map(|other| format!("\"{}:{}\"", host(other), ports.gossip))
            .collect(),
    );
    format!(
        r#"workers: 1
admin: {{ listen: "{host}:{admin}" }}
rules:
  - name: web
    listen: "{host}:{web}"
    backends: [{backends}]
    health_check: {{ type: http, path: /healthz, interval: 1s }}
  - name: limited
    listen: "{host}:{limited}"
    backends: [{backends}]
    rate_limit: {{ requests_per_second: {LIMIT}, burst: {LIMIT} }}
cluster:
  enabled: true
  node_name: n{name}
  bind_addr: "{host}:{gossip}"
  peers: [{peers}]
"#,
        host = host(at),
        admin = ports.admin,
        web = ports.web,
        limited = ports.limited,
        gossip = ports.gossip,
        name = at + 1,
    )
}

fn guide(ports: &Ports) -> String {
    let Ports { web, limited, admin, gossip } = ports;
    let program = std::env::args().next().unwrap_or_else(|| "tidegate".into());
    let mut text = String::from(
        "tidegate demo: three nodes and three backends, in this one process. Ctrl-C ends it.\n\n",
    );
    for at in 0..NODES {
        let (name, host) = (at + 1, host(at));
        let _ = writeln!(
            text,
            "  n{name}: web {host}:{web}   limited {host}:{limited}   admin http://{host}:{admin}   \
             gossip {host}:{gossip}"
        );
    }
    let everywhere: Vec<String> = (0..NODES).map(|at| format!("{}:{limited}", host(at))).collect();
    let everywhere = everywhere.join(" ");
    let (first, second, last) = (host(0), host(1), host(NODES - 1));
    let _ = write!(
        text,
        "
Try, in another terminal:

  any node answers, from any backend
    curl http://{first}:{web} http://{second}:{web} http://{last}:{web}

  {LIMIT} connections a second over all three nodes together: the others are refused
    for i in 1 2 3 4 5 6; do for a in {everywhere}; do curl -s http://$a || echo refused by $a; done; done

  who is in the cluster, as n1 sees it
    {program} members --admin http://{first}:{admin}

  backends with every node's vote; limits; the node itself
    {program} backends --admin http://{second}:{admin}
    {program} limits --admin http://{first}:{admin}
    {program} status --admin http://{first}:{admin}

  one node leaves; the others say so within a second, and serve on
    {program} leave --admin http://{last}:{admin}

  a page that shows the cluster, and metrics for Prometheus
    http://{first}:{admin}/
    curl http://{first}:{admin}/metrics
",
    );
    text
}
