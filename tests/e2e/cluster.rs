//! Three nodes and their clients, while a node is killed, frozen, and a backend stopped.

use std::time::{Duration, Instant};

use crate::harness::node::{Node, SOON};
use crate::harness::trio::Trio;
use crate::harness::{report, turn, until};

/// Promise: a killed node is shown as failed by all others within this, in the median.
const DETECTED: Duration = Duration::from_secs(3);
/// Promise: a restarted node is a member again, in everybody's eyes, within this.
const REJOINED: Duration = Duration::from_secs(2);

#[test]
#[ignore = "starts processes and measures time: run with cargo test --test e2e -- --ignored"]
fn a_killed_node_is_noticed_and_rejoins_and_clients_of_the_others_see_nothing() {
    let Some(_turn) = turn(&[]) else { return };
    let mut trio = Trio::start(&[]);
    let start = Instant::now();
    let load = trio.load(&[0, 1]);
    let (mut detected, mut rejoined) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        trio.nodes[2].kill();
        let noticed = || trio.nodes[..2].iter().all(|node| node.sees("n3") == "failed");
        detected.push(until("n1 and n2 see n3 failed", SOON, || noticed().then_some(())).1);
        trio.nodes[2].relaunch();
        rejoined.push(trio.wait_whole(SOON));
        // Each round begins with a cluster at rest.
        trio.nodes[2].wait_ready();
    }
    let records = load.stop();
    detected.sort();
    rejoined.sort();
    report(&format!("kill -9: failed after {detected:.2?}, rejoined after {rejoined:.2?}"));
    report(&format!("kill -9: {} requests at the two others", records.len()));
    records.assert_flawless(start, 2);
    assert!(detected[2] <= DETECTED, "shown as failed after {detected:?}");
    assert!(rejoined[2] <= REJOINED, "a member again after {rejoined:?}");
}

#[test]
#[ignore = "starts processes and measures time: run with cargo test --test e2e -- --ignored"]
fn a_frozen_node_is_noticed_and_heals_when_it_thaws() {
    let Some(_turn) = turn(&[]) else { return };
    let trio = Trio::start(&[]);
    let start = Instant::now();
    let load = trio.load(&[0, 1]);
    trio.nodes[2].signal(libc::SIGSTOP);
    let noticed = || trio.nodes[..2].iter().all(|node| node.sees("n3") == "failed");
    let (_, froze) = until("n1 and n2 see n3 failed", SOON, || noticed().then_some(()));
    trio.nodes[2].signal(libc::SIGCONT);
    let healed = trio.wait_whole(SOON);
    trio.nodes[2].wait_ready();
    let records = load.stop();
    report(&format!("frozen: failed after {froze:.2?}, healed after {healed:.2?}"));
    records.assert_flawless(start, 2);
    assert_eq!(trio.nodes[2].view("status")["ready"], true);
}

#[test]
#[ignore = "starts processes and measures time: run with cargo test --test e2e -- --ignored"]
fn a_short_freeze_costs_nobody_membership() {
    let Some(_turn) = turn(&[]) else { return };
    let trio = Trio::start(&[]);
    trio.nodes[2].signal(libc::SIGSTOP);
    std::thread::sleep(Duration::from_millis(400));
    trio.nodes[2].signal(libc::SIGCONT);
    // Shorter than any suspicion lasts: for longer than that nobody may call it failed.
    let calm = Instant::now() + Duration::from_secs(3);
    while Instant::now() < calm {
        for node in &trio.nodes[..2] {
            assert_ne!(node.sees("n3"), "failed");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    trio.wait_whole(SOON);
}

#[test]
#[ignore = "starts processes and measures time: run with cargo test --test e2e -- --ignored"]
fn a_stopped_backend_gets_no_connection_after_its_check_time() {
    let Some(_turn) = turn(&[]) else { return };
    let mut trio = Trio::start(&[]);
    let gone = trio.backends[1].address().to_string();
    // Interval 500 ms, twice, and a timeout of 300 ms.
    let check_time = Duration::from_millis(1300);
    let slack = Duration::from_millis(300);

    let start = Instant::now();
    let load = trio.load(&[0, 1, 2]);
    until("the backend answers through every node", SOON, || {
        let used = |node: &Node| number(node, &gone, "connections") > 0;
        trio.nodes.iter().all(used).then_some(())
    });
    trio.backends[1].kill();
    let (_, took) = until("every node sees it down", check_time + slack, || {
        let down = |node: &Node| state(node, &gone) != "up";
        trio.nodes.iter().all(down).then_some(())
    });
    // Nobody sends to it any more: nobody counts a failed connect.
    let tries =
        || trio.nodes.iter().map(|node| number(node, &gone, "connect_failures")).sum::<u64>();
    let before = tries();
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(tries(), before, "a backend that is down is still sent to");

    trio.backends[1].restart();
    until("it is up again everywhere", check_time + slack, || {
        trio.nodes.iter().all(|node| state(node, &gone) == "up").then_some(())
    });
    let back = Instant::now();
    std::thread::sleep(Duration::from_secs(1));
    let records = load.stop();

    let failures = records.failures(start);
    report(&format!(
        "backend stopped: down everywhere after {took:.2?}; {} of {} requests failed",
        failures.len(),
        records.len()
    ));
    // A refused connect is tried elsewhere; only what it was answering when it died can be lost.
    let in_flight = 12;
    assert!(failures.len() <= in_flight, "{} failed:\n{}", failures.len(), failures.join("\n"));
    let again = records
        .between(back, Instant::now())
        .filter(|record| record.result.as_deref() == Ok(trio.backends[1].name()))
        .count();
    assert!(again > 10, "the backend is back and gets {again} requests");
}

#[test]
#[ignore = "starts processes and measures time: run with cargo test --test e2e -- --ignored"]
fn a_backend_that_says_it_is_unwell_is_left_alone_by_all() {
    let Some(_turn) = turn(&[]) else { return };
    let trio = Trio::start(&[]);
    let unwell = trio.backends[0].address().to_string();
    let start = Instant::now();
    let load = trio.load(&[0, 1, 2]);
    trio.backends[0].ask("/fail").unwrap();
    let limit = Duration::from_millis(1600);
    until("every node sees it down, with three votes", limit, || {
        let agreed = |node: &Node| {
            let backends = node.view("backends");
            let ours = backend(&backends, &unwell);
            ours["state"] == "down"
                && ["n1", "n2", "n3"].iter().all(|name| ours["votes"][name] == "down")
        };
        trio.nodes.iter().all(agreed).then_some(())
    });
    // Requests that were on their way when the last node turned away from it.
    std::thread::sleep(Duration::from_millis(100));
    let since = Instant::now();
    std::thread::sleep(Duration::from_secs(1));
    let records = load.stop();
    records.assert_flawless(start, 3);
    let sent = records
        .between(since, Instant::now())
        .filter(|record| record.result.as_deref() == Ok("b1"))
        .count();
    assert_eq!(sent, 0, "a backend that is down still gets requests");
}

fn backend<'a>(view: &'a serde_json::Value, address: &str) -> &'a serde_json::Value {
    let all = view["backends"].as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().find(|backend| backend["address"] == address).unwrap_or(&serde_json::Value::Null)
}

fn state(node: &Node, address: &str) -> String {
    backend(&node.view("backends"), address)["state"].as_str().unwrap_or_default().to_owned()
}

fn number(node: &Node, address: &str, field: &str) -> u64 {
    backend(&node.view("backends"), address)[field].as_u64().unwrap_or_default()
}
