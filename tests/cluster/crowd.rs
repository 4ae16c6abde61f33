//! Many keys at once over a cluster in virtual time.

use std::net::IpAddr;
use std::time::Duration;

use rand::RngExt;
use tidegate::cluster::asks::Ticket;
use tidegate::cluster::machine::Input;
use tidegate::traffic::{Answer, Decision, LimitPlan};

use crate::fabric::{Fabric, LAN};
use crate::world::plan;

const SECOND: Duration = Duration::from_secs(1);
const STEP: Duration = Duration::from_millis(1);

fn client(n: u32) -> IpAddr {
    IpAddr::V4((0x0a00_0000 + n).into())
}

fn cluster(nodes: usize, plan: LimitPlan, cap: u64) -> Fabric {
    let mut fabric = Fabric::new(61, LAN);
    (fabric.limit, fabric.cap) = (Some(plan), cap);
    for _ in 0..nodes {
        fabric.host();
    }
    for host in 0..nodes {
        fabric.start(host);
    }
    fabric.until("the first full view", Duration::from_secs(30), Fabric::one_view);
    fabric.run(2 * SECOND);
    fabric
}

fn bytes(fabric: &Fabric) -> u64 {
    fabric.living().iter().map(|node| fabric.machine(*node).traffic().bytes_sent()).sum()
}

/// `asks` random clients of `keys` ask random nodes every millisecond for `seconds`.
fn run(fabric: &mut Fabric, keys: u32, asks: u32, seconds: u32) -> u64 {
    let mut admitted = 0;
    for _ in 0..seconds * 1000 {
        for _ in 0..asks {
            let node = fabric.rng.random_range(0..fabric.hosts.len());
            let client = client(fabric.rng.random_range(0..keys));
            let limiter = fabric.hosts[node].limiter.as_ref().expect("a limit");
            admitted += u64::from(limiter.admit(client, fabric.now) == Decision::Admit);
        }
        for node in 0..fabric.hosts.len() {
            fabric.ring(node);
        }
        fabric.run(STEP);
    }
    admitted
}

#[derive(Debug)]
pub(crate) struct Crowd {
    /// Sent by a node.
    pub(crate) bytes_per_second: f64,
    pub(crate) admitted: f64,
    /// What one bucket per key would have admitted.
    pub(crate) limit: f64,
}

/// `keys` keys at five times a limit of 20/s each.
pub(crate) fn saturated(keys: u32, nodes: usize, cap: u64) -> Crowd {
    let (rate, burst) = (20.0, 40.0);
    let mut fabric = cluster(nodes, plan(rate, burst), cap);
    let asks = (f64::from(keys) * rate * 5.0 / 1000.0) as u32;
    run(&mut fabric, keys, asks, 2);
    let before = bytes(&fabric);
    let seconds = 5;
    let admitted = run(&mut fabric, keys, asks, seconds) as f64;
    Crowd {
        bytes_per_second: (bytes(&fabric) - before) as f64 / f64::from(seconds) / nodes as f64,
        admitted,
        limit: f64::from(keys) * rate * f64::from(seconds),
    }
}

/// `keys` keys asked for once a second each, a hundredth of their limit: bytes that a node sends a
/// second.
pub(crate) fn quiet(keys: u32, nodes: usize) -> f64 {
    let plan = LimitPlan { max_keys: keys + keys / 4, ..plan(100.0, 100.0) };
    let mut fabric = cluster(nodes, plan, 3 << 20);
    run(&mut fabric, keys, keys / 1000, 1);
    let before = bytes(&fabric);
    let seconds = 3;
    run(&mut fabric, keys, keys / 1000, seconds);
    (bytes(&fabric) - before) as f64 / f64::from(seconds) / nodes as f64
}

/// New clients flood a strict limit: `per_second` over all nodes, each once. Bytes that the busiest
/// node sends a second.
pub(crate) fn strict_flood(per_second: u32, nodes: usize, cap: u64) -> f64 {
    let mut fabric = cluster(nodes, plan(5.0, 5.0), cap);
    let sent = |fabric: &Fabric| -> Vec<u64> {
        fabric.living().iter().map(|n| fabric.machine(*n).traffic().bytes_sent()).collect()
    };
    let before = sent(&fabric);
    let seconds = 3;
    let mut client_number = 0;
    for _ in 0..seconds * 1000 {
        for _ in 0..per_second / 1000 {
            client_number += 1;
            let node = fabric.rng.random_range(0..nodes);
            let limiter = fabric.hosts[node].limiter.clone().expect("a limit");
            if let Decision::Ask(ask) = limiter.admit(client(client_number), fabric.now) {
                let ticket = Ticket(client_number.into());
                fabric.input(node, Input::Ask { ticket, ask });
            }
        }
        fabric.run(STEP);
        for (node, _, answer) in std::mem::take(&mut fabric.answers) {
            assert!(!matches!(answer, Answer::Refused { .. }), "node {node} refused a newcomer");
        }
    }
    assert!(fabric.one_view() && fabric.false_downs.is_empty(), "{}", fabric.picture());
    let after = sent(&fabric);
    let most = before.iter().zip(after).map(|(before, after)| after - before).max();
    most.expect("nodes") as f64 / f64::from(seconds)
}
