//! How a node ends.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::harness::backend::Backend;
use crate::harness::host::Host;
use crate::harness::line::Line;
use crate::harness::node::Node;
use crate::harness::trio::Trio;
use crate::harness::{free_port, turn, until};

/// A node with `drain_delay: 1s` and the given `shutdown_timeout`, and where its rule listens.
fn node(backend: &Backend, shutdown_timeout: &str) -> (Node, SocketAddr) {
    let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let web = SocketAddr::new(ip, free_port(ip));
    let body = format!(
        "drain_delay: 1s\nshutdown_timeout: {shutdown_timeout}\nrules:\n  - {{ name: web, listen: \"{web}\", backends: [\"{}\"] }}\n",
        backend.address()
    );
    (Node::start(Host::here(), "n", &body), web)
}

#[test]
#[ignore = "starts processes and measures time: run with cargo test --test e2e -- --ignored"]
fn sigterm_fails_readiness_first_then_listeners_close_and_live_connections_finish() {
    let Some(_turn) = turn(&[]) else { return };
    let backend = Backend::echo("b");
    let (mut node, web) = node(&backend, "20s");
    let mut line = Line::open(web).unwrap();

    node.signal(libc::SIGTERM);
    let (_, failing) = until("/readyz fails", Duration::from_millis(500), || {
        (node.get("/readyz")?.0 == 503).then_some(())
    });
    assert_eq!(node.get("/livez").map(|(status, _)| status), Some(200));
    // Balancers in front have not noticed yet: they still send, and are still served.
    let mut late = Line::open(web).expect("accepted during drain_delay");
    assert_eq!(late.lives(), Ok(()));

    let (_, closed) = until("the listener closes", Duration::from_secs(2), || {
        Line::open(web).is_err().then_some(())
    });
    assert!(failing + closed >= Duration::from_millis(900), "closed after {:?}", failing + closed);
    assert_eq!(line.lives(), Ok(()));
    assert_eq!(late.lives(), Ok(()));

    drop((line, late));
    let (status, took) = node.wait_exit(Duration::from_secs(4));
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(4), "it waits for nothing when nobody is left");
}

#[test]
#[ignore = "starts processes and measures time: run with cargo test --test e2e -- --ignored"]
fn live_connections_get_shutdown_timeout_and_no_more() {
    let Some(_turn) = turn(&[]) else { return };
    let backend = Backend::echo("b");
    let (mut node, web) = node(&backend, "2s");
    let mut line = Line::open(web).unwrap();
    node.signal(libc::SIGTERM);
    let (status, took) = node.wait_exit(Duration::from_secs(6));
    assert_eq!(status.code(), Some(0));
    assert!(took >= Duration::from_millis(2900), "gone after {took:?}");
    assert!(line.lives().is_err());
}

#[test]
#[ignore = "starts processes and measures time: run with cargo test --test e2e -- --ignored"]
fn a_second_signal_stops_at_once() {
    let Some(_turn) = turn(&[]) else { return };
    let backend = Backend::echo("b");
    for second in [libc::SIGTERM, libc::SIGINT] {
        let (mut node, web) = node(&backend, "30s");
        let _line = Line::open(web).unwrap();
        node.signal(libc::SIGTERM);
        until("it drains", Duration::from_secs(1), || {
            (node.get("/readyz")?.0 == 503).then_some(())
        });
        node.signal(second);
        node.wait_exit(Duration::from_millis(1500));
    }
}

#[test]
#[ignore = "starts processes and measures time: run with cargo test --test e2e -- --ignored"]
fn a_drained_node_has_left_and_is_never_called_failed() {
    let Some(_turn) = turn(&[]) else { return };
    let mut trio = Trio::start(&[]);
    trio.nodes[2].signal(libc::SIGTERM);
    let others = [0, 1];
    until("the others see that it left", Duration::from_secs(5), || {
        for index in others {
            assert_ne!(trio.nodes[index].sees("n3"), "failed");
        }
        others.iter().all(|index| trio.nodes[*index].sees("n3") == "left").then_some(())
    });
    let (status, _) = trio.nodes[2].wait_exit(Duration::from_secs(6));
    assert_eq!(status.code(), Some(0));
    // It stays that way: nobody probes it into failure.
    std::thread::sleep(Duration::from_secs(3));
    for index in others {
        assert_eq!(trio.nodes[index].sees("n3"), "left");
    }
    trio.nodes[2].relaunch();
    trio.wait_whole(Duration::from_secs(4));
}
