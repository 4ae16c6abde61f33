//! docker-compose.cluster.yml as it is published, around an image of the static binary under test.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::host::Host;
use crate::harness::load::{self, Load};
use crate::harness::node::{self, SOON};
use crate::harness::{Need, binary, free_port, report, repository, run, try_run, turn, until};

const NEEDS: [Need; 4] =
    [Need::Root, Need::Docker, Need::StaticBinary, Need::Tool("iptables", "iptables")];

const PROJECT: &str = "tidegate-e2e";
const NODES: [&str; 3] = ["node1", "node2", "node3"];
/// Between killed or cut off and shown as failed.
const DETECTED: Duration = Duration::from_secs(5);
/// Between started again and a member for all: a container's start included.
const REJOINED: Duration = Duration::from_secs(5);
/// Between a healed network and one cluster.
const HEALED: Duration = Duration::from_secs(15);

/// The cluster; taken down on drop.
struct Cluster {
    file: PathBuf,
    /// Where the nodes are published on this machine, in order: free ports, as the file allows.
    published: Vec<SocketAddr>,
}

impl Cluster {
    fn up(file: &str) -> Cluster {
        image();
        let ip = [127, 0, 0, 1].into();
        let published = (0..3).map(|_| SocketAddr::new(ip, free_port(ip))).collect();
        let cluster = Cluster { file: repository().join(file), published };
        // What a run that was killed may have left.
        cluster.down();
        cluster.compose(&["up", "--detach", "--no-build"], 120);
        cluster
    }

    fn compose(&self, arguments: &[&str], limit: u64) -> String {
        run(self.command().args(arguments), Duration::from_secs(limit))
    }

    fn command(&self) -> Command {
        let old = try_run(Command::new("docker-compose").arg("version"), SOON);
        let mut command = match old {
            Some(output) if output.status.success() => Command::new("docker-compose"),
            _ => {
                let mut command = Command::new("docker");
                command.arg("compose");
                command
            }
        };
        command.args(["--project-name", PROJECT, "--file"]).arg(&self.file);
        let names = ["NODE1_PORT", "NODE2_PORT", "NODE3_PORT"];
        command.envs(names.into_iter().zip(self.published.iter().map(|at| at.port().to_string())));
        command.env("NODE_PORT", self.published[0].port().to_string());
        command
    }

    fn down(&self) {
        let mut down = self.command();
        down.args(["down", "--volumes", "--remove-orphans", "--timeout", "1"]);
        let _ = try_run(&mut down, Duration::from_secs(60));
    }

    /// Clients of these nodes, together well below the example's 300 a second.
    fn clients(&self, nodes: &[usize]) -> Load {
        let target = |node: &usize| (Host::here(), self.published[*node]);
        let targets: Vec<_> = nodes.iter().map(target).collect();
        Load::start(&targets, 2, Duration::from_millis(25))
    }

    fn container(&self, service: &str) -> Container {
        let id = self.compose(&["ps", "-q", service], 20).trim().to_owned();
        assert!(!id.is_empty(), "no container for {service}");
        Container { id, service: service.into() }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = try_run(self.command().args(["logs", "--tail", "20"]), SOON);
            println!("{}", String::from_utf8_lossy(&log.map(|o| o.stdout).unwrap_or_default()));
        }
        self.down();
    }
}

/// Around the static binary under test, as deploy/Dockerfile would make it.
fn image() {
    let context = tempfile::tempdir().unwrap();
    std::fs::copy(binary(), context.path().join("tidegate")).unwrap();
    let named = || run(Command::new("docker").args(["images", "-q", "tidegate:local"]), SOON);
    let before = named();
    run(
        Command::new("docker")
            .args(["build", "--tag", "tidegate:local", "--file"])
            .arg(repository().join("deploy/Dockerfile.local"))
            .arg(context.path()),
        Duration::from_secs(120),
    );
    // The one of a run before has no name any more.
    if !before.is_empty() && before != named() {
        let _ = try_run(Command::new("docker").args(["rmi", before.trim()]), SOON);
    }
}

/// One service's container.
struct Container {
    id: String,
    service: String,
}

impl Container {
    fn docker(&self, action: &str) {
        run(Command::new("docker").args([action, &self.id]), Duration::from_secs(60));
    }

    fn inspect(&self, format: &str) -> String {
        let arguments = ["inspect", "--format", format, &self.id];
        run(Command::new("docker").args(arguments), Duration::from_secs(20)).trim().to_owned()
    }

    /// Its network namespace, while it runs.
    fn host(&self) -> Host {
        Host::netns(format!("/proc/{}/ns/net", self.inspect("{{.State.Pid}}")))
    }

    fn address(&self) -> String {
        self.inspect("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}")
    }
}

/// A node's admin listener, asked from inside its own namespace, as nothing else reaches it.
struct Admin(Host);

impl Admin {
    fn of(container: &Container) -> Admin {
        Admin(container.host())
    }

    fn view(&self, name: &str) -> Value {
        node::view(&self.0, SocketAddr::from(([127, 0, 0, 1], 9900)), name)
    }

    fn sees(&self, name: &str) -> String {
        node::members(&self.view("members")).get(name).cloned().unwrap_or_default()
    }

    fn sees_alive(&self, names: &[&str]) -> bool {
        let members = node::members(&self.view("members"));
        members.values().filter(|state| *state == "alive").count() == names.len()
            && names.iter().all(|name| members.get(*name).is_some_and(|state| state == "alive"))
    }
}

#[track_caller]
fn wait_whole(containers: &[Container], limit: Duration) -> Duration {
    let admins: Vec<Admin> = containers.iter().map(Admin::of).collect();
    let whole = || admins.iter().all(|admin| admin.sees_alive(&NODES)).then_some(());
    until("all three see three alive", limit, whole).1
}

#[test]
#[ignore = "needs docker, docker-compose, root and a static binary: run with cargo test --test e2e -- --ignored"]
fn the_compose_cluster_survives_whatever_happens_to_one_node() {
    let Some(_turn) = turn(&NEEDS) else { return };
    let cluster = Cluster::up("docker-compose.cluster.yml");
    let nodes = NODES.map(|name| cluster.container(name));
    let up = wait_whole(&nodes, Duration::from_secs(20));
    for address in &cluster.published {
        until("it answers on its published port", SOON, || load::ask(*address, "/").ok());
    }
    // As the file's head tells people to ask.
    let table = cluster.compose(&["exec", "-T", "node1", "/tidegate", "members"], 20);
    for name in NODES {
        assert!(table.contains(name), "{table}");
    }
    report(&format!("compose: three alive {up:.2?} after up"));

    // Killed, and started again.
    let start = Instant::now();
    let load = cluster.clients(&[0, 1]);
    let admins = [Admin::of(&nodes[0]), Admin::of(&nodes[1])];
    nodes[2].docker("kill");
    let failed = || admins.iter().all(|admin| admin.sees("node3") == "failed").then_some(());
    let (_, killed) = until("the others see node3 failed", DETECTED, failed);
    nodes[2].docker("start");
    let rejoined = wait_whole(&nodes, REJOINED);

    // Paused: it freezes with all its sockets open.
    nodes[2].docker("pause");
    let (_, paused) = until("the others see node3 failed", DETECTED, failed);
    nodes[2].docker("unpause");
    let thawed = wait_whole(&nodes, SOON);
    let records = load.stop();
    report(&format!(
        "compose: docker kill noticed after {killed:.2?}, rejoined after {rejoined:.2?}; pause noticed after {paused:.2?}, healed after {thawed:.2?}; {} requests",
        records.len()
    ));
    records.assert_flawless(start, 2);
}

#[test]
#[ignore = "needs docker, docker-compose, root and a static binary: run with cargo test --test e2e -- --ignored"]
fn the_compose_cluster_heals_after_a_cut_and_turns_from_a_stopped_backend() {
    let Some(_turn) = turn(&NEEDS) else { return };
    let cluster = Cluster::up("docker-compose.cluster.yml");
    let nodes = NODES.map(|name| cluster.container(name));
    wait_whole(&nodes, Duration::from_secs(20));
    let start = Instant::now();
    let load = cluster.clients(&[0, 1, 2]);

    // node1 on one side, node2 and node3 on the other; every one of them still reaches the backends.
    let lonely = nodes[0].address();
    let cut = |action: &str| {
        let rule = format!("-w 5 {action} INPUT -s {lonely} -j DROP");
        for node in &nodes[1..] {
            node.host().inside(|| run(Command::new("iptables").args(rule.split(' ')), SOON));
        }
    };
    let admins: Vec<Admin> = nodes.iter().map(Admin::of).collect();
    cut("-A");
    let (_, split) = until("each side sees itself alone", DETECTED, || {
        // One that hears nobody doubts itself first, and takes its time to call others failed.
        let doubts = admins[0].sees_alive(&["node1"]);
        (doubts && admins[1..].iter().all(|admin| admin.sees("node1") == "failed")).then_some(())
    });
    cut("-D");
    let healed = wait_whole(&nodes, HEALED);
    report(&format!("compose: cut noticed after {split:.2?}, healed after {healed:.2?}"));

    // A backend is gone: its check says so after 2 × 1 s + 0.5 s.
    let gone = cluster.container("backend2");
    gone.docker("kill");
    let all_see = |up: usize| {
        let sees = |admin: &Admin| {
            let view = admin.view("backends");
            let backends = view["backends"].as_array().map(Vec::as_slice).unwrap_or_default();
            backends.iter().filter(|backend| backend["state"] == "up").count() == up
        };
        admins.iter().all(sees).then_some(())
    };
    let (_, turned) = until("every node sees it down", Duration::from_secs(4), || all_see(2));
    gone.docker("start");
    until("every node sees it up", Duration::from_secs(15), || all_see(3));
    let back = Instant::now();
    std::thread::sleep(Duration::from_secs(1));
    let records = load.stop();
    let failures = records.failures(start);
    report(&format!(
        "compose: {} down everywhere after {turned:.2?}; {} of {} requests failed",
        gone.service,
        failures.len(),
        records.len()
    ));
    // What it was answering when it died.
    assert!(failures.len() <= 6, "{} failed:\n{}", failures.len(), failures.join("\n"));
    for target in 0..3 {
        let again = records
            .between(back, Instant::now())
            .filter(|record| record.target == target && record.result.as_deref() == Ok("backend2"));
        assert!(again.count() > 5, "node{} does not use it again", target + 1);
    }
}

#[test]
#[ignore = "needs docker, docker-compose, root and a static binary: run with cargo test --test e2e -- --ignored"]
fn the_single_node_composition_serves() {
    let Some(_turn) = turn(&NEEDS) else { return };
    let cluster = Cluster::up("deploy/docker-compose.single.yml");
    let address = cluster.published[0];
    let mut seen = std::collections::BTreeSet::new();
    until("all three backends answer", SOON, || {
        seen.extend(load::ask(address, "/"));
        (seen.len() == 3).then_some(())
    });
    let node = cluster.container("tidegate");
    until("docker calls it healthy", Duration::from_secs(20), || {
        (node.inspect("{{.State.Health.Status}}") == "healthy").then_some(())
    });
}
