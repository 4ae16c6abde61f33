//! Counters in virtual time: after a quiet second everybody knows what everybody spent, exactly
//! once, whatever the links and processes did.

use std::time::Duration;

use rand::RngExt;

use crate::fabric::{BAD, Fabric, LAN, Links};

const SECOND: Duration = Duration::from_secs(1);
const KEYS: u64 = 20;

/// Spends at random for `seconds`; what each host spent by key.
fn spend(fabric: &mut Fabric, seconds: u32) -> Vec<Vec<u64>> {
    let mut spent = vec![vec![0; KEYS as usize]; fabric.hosts.len()];
    for _ in 0..seconds * 100 {
        for host in fabric.living() {
            let (key, tokens) = (fabric.rng.random_range(0..KEYS), fabric.rng.random_range(1..5));
            fabric.hosts[host].book.spend(key, tokens);
            spent[host][key as usize] += tokens;
        }
        fabric.run(SECOND / 100);
    }
    spent
}

fn sums_are_true(fabric: &Fabric, spent: &[Vec<u64>]) {
    for host in fabric.living() {
        for key in 0..KEYS {
            let others = spent.iter().enumerate().filter(|(other, _)| *other != host);
            let truth: u64 = others.map(|(_, spent)| spent[key as usize]).sum();
            assert_eq!(fabric.hosts[host].book.elsewhere(key), truth, "host {host}, key {key}");
        }
    }
}

#[test]
fn sums_equal_the_truth_after_a_quiet_second() {
    for (nodes, links) in [(3, LAN), (10, LAN), (3, Links { twice: 0.2, ..LAN })] {
        let mut fabric = Fabric::cluster(21, links, nodes);
        let spent = spend(&mut fabric, 5);
        fabric.run(SECOND);
        sums_are_true(&fabric, &spent);
    }
}

#[test]
fn sums_equal_the_truth_after_loss_once_the_keys_are_used_again() {
    let mut fabric = Fabric::cluster(22, BAD, 5);
    let mut spent = spend(&mut fabric, 20);
    // Every row is told twice; one in four hundred is lost both times, and made good by the next.
    for _ in 0..3 {
        for (host, spent) in spent.iter_mut().enumerate() {
            for key in 0..KEYS {
                fabric.hosts[host].book.spend(key, 1);
                spent[key as usize] += 1;
            }
        }
        fabric.run(SECOND / 2);
    }
    fabric.run(SECOND);
    sums_are_true(&fabric, &spent);
}

#[test]
fn a_restart_counts_nothing_twice() {
    let mut fabric = Fabric::cluster(23, LAN, 3);
    let before = spend(&mut fabric, 3);
    fabric.run(SECOND);
    fabric.kill(2);
    fabric.run(SECOND / 10);
    fabric.start(2);
    fabric.until("it is back", 2 * SECOND, Fabric::one_view);
    let after = spend(&mut fabric, 3);
    fabric.run(SECOND);
    for key in 0..KEYS {
        let at = key as usize;
        let truth = before[1][at] + after[1][at] + before[2][at] + after[2][at];
        assert_eq!(fabric.hosts[0].book.elsewhere(key), truth);
    }
}

#[test]
fn the_traffic_cap_holds_back_counters_and_nothing_else() {
    let mut fabric = Fabric::new(24, LAN);
    for _ in 0..5 {
        fabric.host();
    }
    fabric.cap = 40_000;
    for host in 0..5 {
        fabric.start(host);
    }
    fabric.until("one view", 5 * SECOND, Fabric::one_view);
    let sent = |fabric: &Fabric| fabric.machine(0).traffic().bytes_sent();
    let before = sent(&fabric);
    let mut key = 0;
    for _ in 0..1000 {
        for _ in 0..50 {
            key += 1;
            fabric.hosts[0].book.spend(key % 5000, 1);
        }
        fabric.run(SECOND / 100);
    }
    let rate = (sent(&fabric) - before) / 10;
    assert!(rate <= 44_000, "{rate} B/s");
    assert!(fabric.machine(0).figures().throttled > 0);
    assert!(fabric.false_downs.is_empty() && fabric.one_view());
    fabric.run(120 * SECOND);
    let known: u64 = (0..5000).map(|key| fabric.hosts[1].book.elsewhere(key)).sum();
    assert_eq!(known, 50_000);
}
