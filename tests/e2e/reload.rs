//! A new configuration while connections live.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::harness::backend::Backend;
use crate::harness::host::Host;
use crate::harness::line::Line;
use crate::harness::node::{Node, SOON};
use crate::harness::{free_port, turn, until};

/// A changed file is seen within this without any signal.
const NOTICED: Duration = Duration::from_secs(5);

fn loopback() -> SocketAddr {
    let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    SocketAddr::new(ip, free_port(ip))
}

fn rules(rules: &[(&str, SocketAddr, &Backend)]) -> String {
    let rule = |(name, listen, backend): &(&str, SocketAddr, &Backend)| {
        format!(
            "  - {{ name: {name}, listen: \"{listen}\", backends: [\"{}\"] }}\n",
            backend.address()
        )
    };
    format!("rules:\n{}", rules.iter().map(rule).collect::<String>())
}

fn digest(node: &Node) -> String {
    node.view("status")["config"]["digest"].as_str().unwrap_or_default().to_owned()
}

#[track_caller]
fn goes_to(address: SocketAddr, backend: &str) {
    let what = format!("{address} leads to {backend}");
    until(&what, SOON, || (Line::open(address).ok()?.backend == backend).then_some(()));
}

#[test]
#[ignore = "starts processes: run with cargo test --test e2e -- --ignored"]
fn a_reload_by_signal_changes_adds_and_removes_rules_and_drops_no_connection() {
    let Some(_turn) = turn(&[]) else { return };
    let (old, new) = (Backend::echo("old"), Backend::echo("new"));
    let [kept, changed, removed, added] = [(); 4].map(|()| loopback());
    let before =
        rules(&[("kept", kept, &old), ("changed", changed, &old), ("removed", removed, &old)]);
    let mut node = Node::start(Host::here(), "n", &before);
    let mut lines = [kept, changed, removed].map(|address| Line::open(address).unwrap());

    node.rewrite(&rules(&[
        ("kept", kept, &old),
        ("changed", changed, &new),
        ("added", added, &new),
    ]));
    node.signal(libc::SIGHUP);
    goes_to(changed, "new");
    goes_to(added, "new");
    goes_to(kept, "old");
    until("the removed rule accepts no more", SOON, || Line::open(removed).is_err().then_some(()));
    for line in &mut lines {
        assert_eq!(line.lives(), Ok(()), "a live connection to {}", line.backend);
    }
    assert_eq!(node.view("status")["config"]["ok"], true);
    until("only the three live connections are left", SOON, || {
        (node.view("status")["connections"] == 3).then_some(())
    });
}

#[test]
#[ignore = "starts processes: run with cargo test --test e2e -- --ignored"]
fn a_file_that_is_replaced_by_rename_is_loaded_by_itself() {
    let Some(_turn) = turn(&[]) else { return };
    let (old, new) = (Backend::echo("old"), Backend::echo("new"));
    let web = loopback();
    let mut node = Node::start(Host::here(), "n", &rules(&[("web", web, &old)]));
    let mut line = Line::open(web).unwrap();
    for backend in [&new, &old, &new] {
        node.replace(&rules(&[("web", web, backend)]));
        let what = format!("the file that names {} is loaded", backend.name());
        until(&what, NOTICED, || (Line::open(web).ok()?.backend == backend.name()).then_some(()));
    }
    assert_eq!(line.lives(), Ok(()));
}

#[test]
#[ignore = "starts processes: run with cargo test --test e2e -- --ignored"]
fn a_mounted_file_that_is_swapped_by_a_link_is_loaded_by_itself() {
    let Some(_turn) = turn(&[]) else { return };
    let (old, new) = (Backend::echo("old"), Backend::echo("new"));
    let web = loopback();
    let node = Node::start(Host::here(), "n", &rules(&[("web", web, &old)]));
    // As a ConfigMap is mounted: the file is a link into a directory that is itself a link.
    let directory = node.config().parent().unwrap().to_owned();
    let text = fs::read_to_string(node.config()).unwrap();
    for (version, backend) in [("v1", &old), ("v2", &new)] {
        let text = text.replace(&old.address().to_string(), &backend.address().to_string());
        fs::create_dir(directory.join(version)).unwrap();
        fs::write(directory.join(version).join("lb.yaml"), text).unwrap();
        std::os::unix::fs::symlink(version, directory.join("data.new")).unwrap();
        fs::rename(directory.join("data.new"), directory.join("data")).unwrap();
        if version == "v1" {
            std::os::unix::fs::symlink("data/lb.yaml", directory.join("lb.new")).unwrap();
            fs::rename(directory.join("lb.new"), node.config()).unwrap();
        }
        goes_to(web, backend.name());
    }
}

#[test]
#[ignore = "starts processes: run with cargo test --test e2e -- --ignored"]
fn a_bad_file_changes_nothing_and_is_shown_until_it_is_mended() {
    let Some(_turn) = turn(&[]) else { return };
    let (old, new) = (Backend::echo("old"), Backend::echo("new"));
    let web = loopback();
    let mut node = Node::start(Host::here(), "n", &rules(&[("web", web, &old)]));
    let good = node.body().to_owned();
    let runs = digest(&node);
    let mut line = Line::open(web).unwrap();

    // Two faults, and both are told.
    node.rewrite(&good.replace("name: web", "name: web, balance: luck, connect_timeout: fast"));
    node.signal(libc::SIGHUP);
    let (error, _) = until("status shows the faults", SOON, || {
        let status = node.view("status");
        (status["config"]["ok"] == false).then(|| status["config"]["error"].to_string())
    });
    for told in ["balance", "luck", "connect_timeout", "fast"] {
        assert!(error.contains(told), "{told} is not in {error}");
    }
    assert_eq!(node.metric("tidegate_config_ok", &[]), Some(0.0));
    assert_eq!(digest(&node), runs, "what runs is what ran");
    assert_eq!(
        node.view("status")["ready"],
        true,
        "a bad file does not take a node out of service"
    );
    goes_to(web, "old");
    assert!(node.log().contains("luck"), "the log tells the faults");

    // A file that is sound and cannot run: the new listener's port is taken.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let extra = taken.local_addr().unwrap();
    node.replace(&rules(&[("web", web, &new), ("extra", extra, &new)]));
    until("status shows the port", SOON, || {
        let error = node.view("status")["config"]["error"].to_string();
        error.contains(&extra.port().to_string()).then_some(())
    });
    goes_to(web, "old");

    node.replace(&rules(&[("web", web, &new)]));
    goes_to(web, "new");
    until("the fault is gone", SOON, || {
        let status = node.view("status");
        (status["config"]["ok"] == true && status["config"]["error"].is_null()).then_some(())
    });
    assert_eq!(node.metric("tidegate_config_ok", &[]), Some(1.0));
    assert_eq!(line.lives(), Ok(()));
}
