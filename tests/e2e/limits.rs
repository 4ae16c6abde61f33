//! A limit of the whole cluster, offered three times what it admits.

use std::time::{Duration, Instant};

use crate::harness::host::Host;
use crate::harness::load::Load;
use crate::harness::trio::Trio;
use crate::harness::{report, turn, until};

const RATE: f64 = 300.0;
const BURST: f64 = 30.0;

#[test]
#[ignore = "starts processes and measures time: run with cargo test --test e2e -- --ignored"]
fn three_nodes_admit_together_what_the_limit_says() {
    let Some(_turn) = turn(&[]) else { return };
    let limit = format!("rate_limit: {{ requests_per_second: {RATE}, burst: {BURST} }}");
    let trio = Trio::start(&[&limit]);
    let targets: Vec<_> = trio.web.iter().map(|web| (Host::here(), *web)).collect();

    // 3 nodes × 6 clients × 50 a second: three times the limit.
    let start = Instant::now();
    let load = Load::start(&targets, 6, Duration::from_millis(20));
    std::thread::sleep(Duration::from_secs(10));
    let records = load.stop();
    let took = start.elapsed().as_secs_f64();

    let admitted = records.answered() as f64;
    let expected = RATE * took + BURST;
    let shares: Vec<usize> = (0..3).map(|target| records.answered_by(target)).collect();
    report(&format!(
        "limit {RATE}/s: offered {} in {took:.1} s, admitted {admitted} ({:+.1} % of {expected:.0}), by node {shares:?}",
        records.len(),
        (admitted / expected - 1.0) * 100.0
    ));
    assert!(records.len() as f64 > 2.5 * expected, "offered only {}", records.len());
    assert!((admitted / expected - 1.0).abs() <= 0.10, "admitted {admitted}, not {expected:.0}");
    // What was refused was closed in order: no reset, nothing half answered.
    let odd: Vec<String> = records
        .failures(start)
        .into_iter()
        .filter(|failure| !failure.ends_with("closed without an answer"))
        .collect();
    assert!(odd.is_empty(), "{} refused otherwise: {:?}", odd.len(), odd.first());

    // The nodes' own count is the clients'.
    let (counts, _) = until("the nodes have counted all", Duration::from_secs(2), || {
        let count = |field: &str| -> u64 {
            let of = |view: serde_json::Value| view["limits"][0][field].as_u64().unwrap_or(0);
            trio.nodes.iter().map(|node| of(node.view("limits"))).sum()
        };
        let counts = (count("admitted"), count("refused"));
        ((counts.0 + counts.1) as usize == records.len()).then_some(counts)
    });
    assert_eq!(counts.0 as f64, admitted);
    assert_eq!(trio.nodes[0].view("limits")["limits"][0]["scope"], "cluster");
}

#[test]
#[ignore = "starts processes and measures time: run with cargo test --test e2e -- --ignored"]
fn a_limit_of_the_node_is_each_nodes_own() {
    let Some(_turn) = turn(&[]) else { return };
    let trio = Trio::start(&["rate_limit: { requests_per_second: 50, burst: 10, scope: node }"]);
    let targets: Vec<_> = trio.web.iter().map(|web| (Host::here(), *web)).collect();
    let start = Instant::now();
    let load = Load::start(&targets, 4, Duration::from_millis(20));
    std::thread::sleep(Duration::from_secs(4));
    let records = load.stop();
    let expected = 50.0 * start.elapsed().as_secs_f64() + 10.0;
    for target in 0..3 {
        let admitted = records.answered_by(target) as f64;
        assert!((admitted / expected - 1.0).abs() <= 0.10, "{admitted}, not {expected:.0}");
    }
}
