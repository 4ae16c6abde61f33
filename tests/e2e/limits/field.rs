//! A cluster of real processes in a network namespace of its own: nodes at 127.0.0.1, .2, … whose
//! gossip can be lost or cut, one echo backend, and a rule for every limit that is tried.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tempfile::TempDir;
use tidegate::node::keys::generate;

use super::arrivals::Arrival;
use super::bars::Limit;
use super::offer::{Targets, Try, offer};
use crate::harness::backend::Backend;
use crate::harness::host::Host;
use crate::harness::node::Node;
use crate::harness::{Need, run, until};

/// What a field needs.
pub(crate) const NEEDS: [Need; 3] =
    [Need::Root, Need::Tool("ip", "iproute2"), Need::Tool("iptables", "iptables")];

/// Followed by the process's id, so that runs beside each other do not meet.
const SPACE: &str = "tglimits-";
const SOON: Duration = Duration::from_secs(20);
const BACKEND: u16 = 8081;
const GOSSIP: u16 = 9090;
/// Rules listen from here on, in their order.
const WEB: u16 = 8100;

/// A rule, its limit, and what else is written in its `rate_limit`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    pub(crate) name: &'static str,
    pub(crate) limit: Limit,
    pub(crate) extra: &'static str,
}

/// The namespace; goes on drop.
struct Space(String);

impl Space {
    fn new() -> Space {
        // What runs that were killed may have left.
        let listed = run(Command::new("ip").args(["netns", "list"]), SOON);
        for name in listed.lines().filter_map(|line| line.split_whitespace().next()) {
            let of = name.strip_prefix(SPACE);
            if of.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                let _ = Command::new("ip").args(["netns", "delete", name]).output();
            }
        }
        let space = Space(format!("{SPACE}{}", std::process::id()));
        ip(&["netns", "add", &space.0]);
        ip(&["-n", &space.0, "link", "set", "lo", "up"]);
        space
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.0]).output();
    }
}

#[track_caller]
fn ip(arguments: &[&str]) {
    run(Command::new("ip").args(arguments), SOON);
}

/// The cluster.
pub(crate) struct Field {
    // Dropped in this order: the namespace goes last.
    pub(crate) nodes: Vec<Node>,
    rules: Vec<(Rule, Arc<Targets>)>,
    host: Host,
    _backend: Backend,
    _keys: TempDir,
    _space: Space,
}

/// Something that is done to the field at a time of a run, in seconds.
pub(crate) type Act<'a> = (f64, Box<dyn FnOnce(&mut Field) + 'a>);

/// What a run gave.
pub(crate) struct Run {
    pub(crate) tries: Vec<Try>,
    /// Wall clock at the run's time 0.
    pub(crate) began: Duration,
}

impl Field {
    /// Starts everything, with sealed gossip, and waits until all see each other.
    pub(crate) fn start(nodes: usize, rules: &[Rule]) -> Field {
        let space = Space::new();
        let host = Host::netns(format!("/run/netns/{}", space.0));
        let backend = Backend::start(host.clone(), at(200, BACKEND), "b1", &["--greet"]);
        let keys = tempfile::tempdir().unwrap();
        let keys_file = keys.path().join("cluster.keys");
        generate(&keys_file).unwrap();
        let peers: Vec<String> = (1..=nodes).map(|i| format!("\"{}\"", at(i, GOSSIP))).collect();
        let mut field = Field {
            nodes: Vec::new(),
            rules: Vec::new(),
            host: host.clone(),
            _backend: backend,
            _keys: keys,
            _space: space,
        };
        for node in 1..=nodes {
            let mut body = "shutdown_timeout: 1s\nrules:\n".to_owned();
            for (port, rule) in (WEB..).zip(rules) {
                let Rule { name, limit: Limit { rate, burst }, extra } = rule;
                let limit = if extra.contains("fixed_window") {
                    (*extra).to_owned()
                } else {
                    format!("requests_per_second: {rate}, burst: {burst}{extra}")
                };
                body += &format!(
                    "  - {{ name: {name}, listen: \"{}\", backends: [\"{}\"], rate_limit: {{ {limit} }} }}\n",
                    at(node, port),
                    at(200, BACKEND),
                );
            }
            body += &format!(
                "cluster:\n  bind_addr: \"{}\"\n  peers: [{}]\n  node_name: n{node}\n  keys_file: \"{}\"\n",
                at(node, GOSSIP),
                peers.join(", "),
                keys_file.display()
            );
            field.nodes.push(Node::launch(host.clone(), &format!("n{node}"), &body));
        }
        for (port, rule) in (WEB..).zip(rules) {
            let addresses = (1..=nodes).map(|node| at(node, port)).collect();
            field.rules.push((*rule, Arc::new(Targets::new(addresses))));
        }
        field.wait_whole();
        field.nodes.iter().for_each(|node| {
            node.wait_ready();
        });
        field
    }

    /// Waits until every node sees all alive, and then until every bucket is full again.
    pub(crate) fn wait_whole(&self) {
        let names: Vec<String> = (1..=self.nodes.len()).map(|node| format!("n{node}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let whole = || self.nodes.iter().all(|node| node.sees_alive(&names)).then_some(());
        until("all nodes see all alive", SOON, whole);
        thread::sleep(Duration::from_millis(2500));
    }

    /// Clients of a rule come as drawn, and the acts are done meanwhile.
    pub(crate) fn run(&mut self, rule: &str, arrivals: &[Arrival], acts: Vec<Act<'_>>) -> Run {
        let found = self.rules.iter().find(|(known, _)| known.name == rule);
        let targets = Arc::clone(&found.expect("a rule of the field").1);
        let host = self.host.clone();
        // Everybody is there before the first comes.
        let began = Instant::now() + Duration::from_millis(100);
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        let tries = thread::scope(|scope| {
            let clients = scope.spawn(|| offer(&host, &targets, arrivals, began));
            for (at, act) in acts {
                let due = began + Duration::from_secs_f64(at);
                thread::sleep(due.saturating_duration_since(Instant::now()));
                act(self);
            }
            clients.join().expect("the clients do not panic")
        });
        Run { tries, began: unix + Duration::from_millis(100) }
    }

    /// As `kill -9`; clients are sent elsewhere from then on.
    pub(crate) fn kill(&mut self, node: usize) {
        self.rules.iter().for_each(|(_, targets)| targets.set_used(node, false));
        self.nodes[node].kill();
    }

    /// Starts it again; clients come as soon as it listens.
    pub(crate) fn restart(&mut self, node: usize) {
        self.nodes[node].relaunch();
        self.nodes[node].wait_ready();
        self.rules.iter().for_each(|(_, targets)| targets.set_used(node, true));
    }

    /// The nodes that keep books on the only key that is in use: its owner and the owner's backup.
    pub(crate) fn owners(&self) -> Vec<usize> {
        let keeps = |node: &usize| {
            let books = self.nodes[*node].metric("tidegate_limit_books_keys", &[]);
            books.is_some_and(|keys| keys > 0.0)
        };
        (0..self.nodes.len()).filter(keeps).collect()
    }

    /// This share of all gossip is lost, at random.
    pub(crate) fn lose(&self, share: f64) {
        self.iptables(&format!(
            "-A INPUT -p udp -m statistic --mode random --probability {share} -j DROP"
        ));
    }

    /// Even and odd nodes do not hear each other any more.
    pub(crate) fn cut(&self) {
        self.between_halves("-I");
    }

    /// Undoes [`Field::cut`].
    pub(crate) fn heal(&self) {
        self.between_halves("-D");
    }

    /// Inserts or deletes what keeps the gossip of even and odd nodes apart.
    fn between_halves(&self, change: &str) {
        for one in 0..self.nodes.len() {
            for other in (0..self.nodes.len()).filter(|other| (one + other) % 2 == 1) {
                let (from, to) = (at(one + 1, 0).ip(), at(other + 1, 0).ip());
                for what in ["-p udp".to_owned(), format!("-p tcp --dport {GOSSIP}")] {
                    self.iptables(&format!("{change} INPUT {what} -s {from} -d {to} -j DROP"));
                }
            }
        }
    }

    fn iptables(&self, rule: &str) {
        self.host.inside(|| {
            let command = format!("-w 5 {rule}");
            run(Command::new("iptables").args(command.split(' ')), SOON);
        });
    }
}

/// A node's address, counted from 1; port 0 when only the address matters.
fn at(node: usize, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, node as u8)), port)
}
