//! The steps of deploy/vm/README.md, with its own file and its own addresses, on hosts that are
//! network namespaces: each has one veth to a bridge that stands in a namespace of its own.
//! (In the machine's namespace docker's rules may keep a bridge from passing anything.)

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::backend::Backend;
use crate::harness::host::Host;
use crate::harness::load::Load;
use crate::harness::node::{Node, SOON};
use crate::harness::{Need, report, repository, run, turn, until};

const NEEDS: [Need; 3] =
    [Need::Root, Need::Tool("ip", "iproute2"), Need::Tool("iptables", "iptables")];

const BRIDGE: &str = "tge2e-lan";
/// A killed or cut-off node is shown as failed within this.
const DETECTED: Duration = Duration::from_secs(5);
/// Two halves that can hear each other again are one cluster within this: a node asks its seeds and
/// those it has lost again and again, with pauses.
const HEALED: Duration = Duration::from_secs(15);

/// Hosts on one network; all namespaces go on drop.
struct Lan {
    hosts: Vec<String>,
}

impl Lan {
    fn new() -> Lan {
        // What a run that was killed may have left.
        let lan = Lan { hosts: Vec::new() };
        lan.clear();
        ip(&["netns", "add", BRIDGE]);
        ip(&["-n", BRIDGE, "link", "add", "br0", "type", "bridge"]);
        ip(&["-n", BRIDGE, "link", "set", "br0", "up"]);
        lan
    }

    /// A new host 10.0.0.`last`, with loopback and one link.
    fn host(&mut self, last: u8) -> Host {
        let name = format!("tge2e-{last}");
        let (near, far) = (format!("tge2e{last}"), format!("port{last}"));
        ip(&["netns", "add", &name]);
        self.hosts.push(name.clone());
        ip(&["-n", &name, "link", "set", "lo", "up"]);
        // The far end is born in the bridge's namespace: the machine's own sees neither.
        ip(&[
            "link", "add", &near, "netns", &name, "type", "veth", "peer", "name", &far, "netns",
            BRIDGE,
        ]);
        ip(&["-n", &name, "link", "set", &near, "name", "eth0"]);
        ip(&["-n", &name, "address", "add", &format!("10.0.0.{last}/24"), "dev", "eth0"]);
        ip(&["-n", &name, "link", "set", "eth0", "up"]);
        ip(&["-n", BRIDGE, "link", "set", &far, "master", "br0", "up"]);
        Host::netns(format!("/run/netns/{name}"))
    }

    fn clear(&self) {
        let listed = run(Command::new("ip").args(["netns", "list"]), SOON);
        let names = listed.lines().filter_map(|line| line.split_whitespace().next());
        for name in names.filter(|name| name.starts_with("tge2e-")) {
            ip(&["netns", "delete", name]);
        }
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // A second panic here would hide the first.
            for name in self.hosts.iter().map(String::as_str).chain([BRIDGE]) {
                let _ = Command::new("ip").args(["netns", "delete", name]).status();
            }
        } else {
            self.clear();
        }
    }
}

#[track_caller]
fn ip(arguments: &[&str]) {
    run(Command::new("ip").args(arguments), SOON);
}

/// The page's file for one node: the three lines that differ are set.
fn configuration(name: &str, address: &str, peers: &str) -> String {
    let text = fs::read_to_string(repository().join("deploy/vm/lb.yaml")).unwrap();
    let lines = text.lines().map(|line| match line.split_once(':') {
        Some(("  advertise_addr", _)) => format!("  advertise_addr: \"{address}:9090\""),
        Some(("  node_name", _)) => format!("  node_name: {name}"),
        Some(("  peers", _)) => format!("  peers: {peers}"),
        // All hosts share one disk here: each node's state goes beside its file.
        _ if line.trim_start().starts_with("state_dir:") => "  state_dir: ./state".to_owned(),
        _ => line.to_owned(),
    });
    let body = lines.collect::<Vec<_>>().join("\n") + "\n";
    for set in [name, address, peers] {
        assert!(body.contains(set), "deploy/vm/lb.yaml has changed: no {set} in\n{body}");
    }
    body
}

/// The applications and three nodes; only the first is the others' seed.
struct Site {
    // Dropped in this order: the namespaces go last.
    nodes: Vec<Node>,
    _apps: Vec<Backend>,
    client: Host,
    lan: Lan,
}

impl Site {
    fn start() -> Site {
        let mut lan = Lan::new();
        let app = |lan: &mut Lan, last: u8, name: &str| {
            let listen = SocketAddr::from(([10, 0, 0, last], 8080));
            Backend::start(lan.host(last), listen, name, &["--http"])
        };
        let apps = vec![app(&mut lan, 11, "app1"), app(&mut lan, 12, "app2")];
        let client = lan.host(200);
        let mut site = Site { nodes: Vec::new(), _apps: apps, client, lan };
        site.add(1, "lb1", "10.0.0.1", "[]");
        site.add(2, "lb2", "10.0.0.2", r#"["10.0.0.1:9090"]"#);
        site.add(3, "lb3", "10.0.0.3", r#"["10.0.0.1:9090"]"#);
        site.wait_alive(&["lb1", "lb2", "lb3"], SOON);
        site
    }

    /// A node on a new host.
    fn add(&mut self, last: u8, name: &str, address: &str, peers: &str) {
        let host = self.lan.host(last);
        self.nodes.push(Node::start(host, name, &configuration(name, address, peers)));
    }

    /// Waits until every running node sees exactly these alive.
    #[track_caller]
    fn wait_alive(&self, names: &[&str], limit: Duration) -> Duration {
        let agreed = || self.nodes.iter().all(|node| node.sees_alive(names)).then_some(());
        until(&format!("all see {names:?} alive"), limit, agreed).1
    }

    /// Clients of these nodes, on a host of their own, well below the example's limit.
    fn load(&self, lasts: &[u8]) -> Load {
        let target = |last: &u8| (self.client.clone(), SocketAddr::from(([10, 0, 0, *last], 80)));
        let targets: Vec<_> = lasts.iter().map(target).collect();
        Load::start(&targets, 2, Duration::from_millis(20))
    }
}

fn address_of(node: &Node, name: &str) -> String {
    let view = node.view("members");
    let members = view["members"].as_array().cloned().unwrap_or_default();
    let ours = members.iter().find(|m| m["name"] == name && m["state"] == "alive");
    ours.and_then(|member| member["address"].as_str()).unwrap_or_default().to_owned()
}

#[test]
#[ignore = "needs root, iproute2 and iptables: run with cargo test --test e2e -- --ignored"]
fn the_only_seed_dies_and_comes_back_with_the_same_address() {
    let Some(_turn) = turn(&NEEDS) else { return };
    let mut site = Site::start();
    let start = Instant::now();
    let load = site.load(&[2, 3]);

    site.nodes[0].kill();
    let others = ["lb2", "lb3"];
    let (_, noticed) = until("lb2 and lb3 see lb1 failed", DETECTED, || {
        site.nodes[1..]
            .iter()
            .all(|n| n.sees("lb1") == "failed" && n.sees_alive(&others))
            .then_some(())
    });
    // It names no peer: the others find it again, for they never stop trying their seed.
    site.nodes[0].relaunch();
    let rejoined = site.wait_alive(&["lb1", "lb2", "lb3"], SOON);
    site.nodes[0].wait_ready();
    let records = load.stop();
    report(&format!(
        "seed killed: failed after {noticed:.2?}, back at its address after {rejoined:.2?}"
    ));
    records.assert_flawless(start, 2);
}

#[test]
#[ignore = "needs root, iproute2 and iptables: run with cargo test --test e2e -- --ignored"]
fn the_only_seed_comes_back_with_another_address_and_a_fourth_joins_by_any_member() {
    let Some(_turn) = turn(&NEEDS) else { return };
    let mut site = Site::start();
    let start = Instant::now();
    let load = site.load(&[2, 3]);

    let mut dead = site.nodes.remove(0);
    dead.kill();
    drop(dead);
    until("lb2 and lb3 see lb1 failed", DETECTED, || {
        site.nodes.iter().all(|node| node.sees("lb1") == "failed").then_some(())
    });
    // A new machine under the old name: it knows one living member.
    let launched = Instant::now();
    site.add(5, "lb1", "10.0.0.5", r#"["10.0.0.2:9090"]"#);
    site.wait_alive(&["lb1", "lb2", "lb3"], SOON);
    let moved = launched.elapsed();
    until("lb1 is shown where it is now", SOON, || {
        site.nodes.iter().all(|node| address_of(node, "lb1") == "10.0.0.5:9090").then_some(())
    });
    // A fourth, late, by a member that was never anybody's seed.
    let launched = Instant::now();
    site.add(4, "lb4", "10.0.0.4", r#"["10.0.0.3:9090"]"#);
    site.wait_alive(&["lb1", "lb2", "lb3", "lb4"], SOON);
    let joined = launched.elapsed();
    // Everybody votes on every backend.
    until("four votes on each backend", SOON, || {
        let agreed = |node: &Node| {
            let view = node.view("backends");
            let backends = view["backends"].as_array().cloned().unwrap_or_default();
            backends.len() == 2
                && backends.iter().all(|backend| {
                    ["lb1", "lb2", "lb3", "lb4"].iter().all(|name| backend["votes"][name] == "up")
                })
        };
        site.nodes.iter().all(agreed).then_some(())
    });
    let new = site.load(&[5, 4]);
    std::thread::sleep(Duration::from_secs(1));
    new.stop().assert_flawless(start, 2);
    let records = load.stop();
    report(&format!("seed moved: rejoined after {moved:.2?}; a fourth joined after {joined:.2?}"));
    records.assert_flawless(start, 2);
}

#[test]
#[ignore = "needs root, iproute2 and iptables: run with cargo test --test e2e -- --ignored"]
fn a_cluster_cut_in_two_halves_carries_traffic_in_both_and_heals() {
    let Some(_turn) = turn(&NEEDS) else { return };
    let mut site = Site::start();
    site.add(4, "lb4", "10.0.0.4", r#"["10.0.0.3:9090"]"#);
    site.wait_alive(&["lb1", "lb2", "lb3", "lb4"], SOON);
    let start = Instant::now();
    let load = site.load(&[1, 2, 3, 4]);

    let halves: [[usize; 2]; 2] = [[0, 1], [2, 3]];
    let cut = |action: &str| {
        for (ours, theirs) in [(halves[0], halves[1]), (halves[1], halves[0])] {
            for (node, other) in ours.iter().flat_map(|n| theirs.map(|t| (*n, t + 1))) {
                let rule = format!("-w 5 {action} INPUT -s 10.0.0.{other} -j DROP");
                site.nodes[node].host.inside(|| {
                    run(Command::new("iptables").args(rule.split(' ')), SOON);
                });
            }
        }
    };
    cut("-A");
    let (_, split) = until("each half sees itself alone", DETECTED, || {
        let apart = |half: [usize; 2], ours: [&str; 2], theirs: [&str; 2]| {
            half.iter().map(|index| &site.nodes[*index]).all(|node| {
                node.sees_alive(&ours) && theirs.iter().all(|name| node.sees(name) == "failed")
            })
        };
        let (left, right) = (["lb1", "lb2"], ["lb3", "lb4"]);
        (apart(halves[0], left, right) && apart(halves[1], right, left)).then_some(())
    });
    // Long enough that nothing of the other half is still on its way.
    std::thread::sleep(Duration::from_secs(2));
    let healing = Instant::now();
    cut("-D");
    site.wait_alive(&["lb1", "lb2", "lb3", "lb4"], HEALED);
    let healed = healing.elapsed();
    let records = load.stop();
    report(&format!(
        "cut in halves: noticed after {split:.2?}, one cluster again after {healed:.2?}"
    ));
    records.assert_flawless(start, 4);
}

#[test]
#[ignore = "needs root, iproute2 and iptables: run with cargo test --test e2e -- --ignored"]
fn a_rolling_restart_by_the_page_loses_no_request_behind_a_balancer_that_asks_readyz() {
    let Some(_turn) = turn(&NEEDS) else { return };
    let mut site = Site::start();
    for index in 0..3 {
        // Who is behind the balancer in front: all but the one that restarts.
        let others: Vec<u8> =
            (0..3u8).filter(|i| usize::from(*i) != index).map(|i| i + 1).collect();
        let start = Instant::now();
        let load = site.load(&others);
        site.nodes[index].signal(libc::SIGTERM);
        // drain_delay of the example and what leaving takes; no connection holds it.
        let (status, _) = site.nodes[index].wait_exit(Duration::from_secs(10));
        assert_eq!(status.code(), Some(0));
        site.nodes[index].relaunch();
        site.nodes[index].wait_ready();
        site.wait_alive(&["lb1", "lb2", "lb3"], SOON);
        load.stop().assert_flawless(start, 2);
    }
}
