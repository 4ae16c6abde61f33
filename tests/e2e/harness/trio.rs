//! Three nodes on 127.0.0.1, .2 and .3 with one rule `web`, and three HTTP backends.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tempfile::TempDir;
use tidegate::node::keys;

use super::backend::Backend;
use super::host::Host;
use super::load::Load;
use super::node::{Node, SOON};
use super::{free_port, until};

/// The nodes' names, in order.
pub(crate) const NAMES: [&str; 3] = ["n1", "n2", "n3"];

/// A whole small cluster.
pub(crate) struct Trio {
    pub(crate) nodes: Vec<Node>,
    pub(crate) backends: Vec<Backend>,
    /// Where each node's rule `web` listens.
    pub(crate) web: Vec<SocketAddr>,
    /// Holds the keys of gossip, unless it is plaintext.
    _keys: Option<TempDir>,
}

impl Trio {
    /// Starts all and waits until every node sees three members alive. `extra` are more keys of the
    /// rule, one a line. Gossip is sealed.
    pub(crate) fn start(extra: &[&str]) -> Trio {
        let keys = tempfile::tempdir().unwrap();
        keys::generate(&keys.path().join("cluster.keys")).unwrap();
        Trio::keyed(extra, Some(keys))
    }

    /// The same with plaintext gossip.
    pub(crate) fn plaintext(extra: &[&str]) -> Trio {
        Trio::keyed(extra, None)
    }

    fn keyed(extra: &[&str], keys: Option<TempDir>) -> Trio {
        let keyed = keys.as_ref().map(|keys| {
            format!("  keys_file: \"{}\"\n", keys.path().join("cluster.keys").display())
        });
        let keyed = keyed.unwrap_or_default();
        let backends: Vec<Backend> = ["b1", "b2", "b3"].map(Backend::http).into();
        let ip = |index: u8| IpAddr::V4(Ipv4Addr::new(127, 0, 0, index));
        let web: Vec<SocketAddr> =
            (1..=3).map(|i| SocketAddr::new(ip(i), free_port(ip(i)))).collect();
        let gossip: Vec<SocketAddr> =
            (1..=3).map(|i| SocketAddr::new(ip(i), free_port(ip(i)))).collect();
        let list = |of: &mut dyn Iterator<Item = SocketAddr>| {
            of.map(|address| format!("\"{address}\"")).collect::<Vec<_>>().join(", ")
        };
        let servers = list(&mut backends.iter().map(Backend::address));
        let peers = list(&mut gossip.iter().copied());
        let extra: String = extra.iter().map(|line| format!("    {line}\n")).collect();
        let body = |index: usize| {
            format!(
                "shutdown_timeout: 3s\n\
                 rules:\n\
                 \x20 - name: web\n\
                 \x20   listen: \"{}\"\n\
                 \x20   backends: [{servers}]\n\
                 \x20   health_check: {{ type: http, path: /healthz, interval: 500ms, timeout: 300ms, rise: 1, fall: 2 }}\n\
                 {extra}\
                 cluster:\n\
                 \x20 enabled: true\n\
                 \x20 bind_addr: \"{}\"\n\
                 \x20 peers: [{peers}]\n\
                 \x20 node_name: {}\n{keyed}",
                web[index], gossip[index], NAMES[index]
            )
        };
        let nodes = (0..3).map(|i| Node::launch(Host::here(), NAMES[i], &body(i))).collect();
        let trio = Trio { nodes, backends, web, _keys: keys };
        trio.wait_whole(SOON);
        for node in &trio.nodes {
            node.wait_ready();
        }
        trio
    }

    /// Waits until every node sees all three alive.
    #[track_caller]
    pub(crate) fn wait_whole(&self, limit: Duration) -> Duration {
        let whole = || self.nodes.iter().all(|node| node.sees_alive(&NAMES)).then_some(());
        until("all three see three alive", limit, whole).1
    }

    /// Four clients on each of these nodes' rule `web`, each asking fifty times a second.
    pub(crate) fn load(&self, nodes: &[usize]) -> Load {
        let targets: Vec<_> = nodes.iter().map(|i| (Host::here(), self.web[*i])).collect();
        Load::start(&targets, 4, Duration::from_millis(20))
    }
}
