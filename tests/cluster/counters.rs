//! Counters in virtual time: after a quiet second the owner of a key knows what everybody spent, exactly
//! once, whatever the links and processes did.

use std::time::Duration;

use rand::RngExt;

use tidegate::base::KeyHash;
use tidegate::traffic::meter::Meter;

use crate::fabric::{BAD, Fabric, LAN, Links};
use crate::support::{ALGORITHM, BURST, LIMIT};

const SECOND: Duration = Duration::from_secs(1);
const KEYS: u64 = 20;

/// Spends at random for `seconds`; what each host spent by key.
fn spend(fabric: &mut Fabric, seconds: u32) -> Vec<Vec<u64>> {
    let mut spent = vec![vec![0; KEYS as usize + 1]; fabric.hosts.len()];
    for _ in 0..seconds * 100 {
        for host in fabric.living() {
            let (key, tokens) = (fabric.rng.random_range(1..=KEYS), fabric.rng.random_range(1..5));
            fabric.hosts[host].book.spend(key, tokens);
            spent[host][key as usize] += tokens;
        }
        fabric.run(SECOND / 100);
    }
    spent
}

/// Every key's owner knows what all nodes together spent of it.
fn sums_are_true(fabric: &Fabric, spent: &[Vec<u64>]) {
    for key in 1..=KEYS {
        let truth: u64 = spent.iter().map(|spent| spent[key as usize]).sum();
        assert_eq!(known(fabric, key), Some(truth), "key {key}");
    }
}

/// What the owner of `key` knows to have been spent.
pub(crate) fn known(fabric: &Fabric, key: u64) -> Option<u64> {
    let owners = fabric.machine(0).exchange().owners();
    let owner = owners.of(LIMIT, KeyHash(key)).expect("there are members").primary;
    let is_owner = |host: &usize| fabric.machine(*host).identity().actor == owner;
    let owner = fabric.living().into_iter().find(is_owner).expect("it lives");
    let meter = Meter::new(ALGORITHM, 0);
    let exchange = fabric.machine(owner).exchange();
    let level = exchange.level(fabric.now, LIMIT, KeyHash(key), &meter)?;
    Some((BURST as f64 - level).round() as u64)
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
fn sums_equal_the_truth_after_loss() {
    let mut fabric = Fabric::cluster(22, BAD, 5);
    let spent = spend(&mut fabric, 20);
    fabric.run(SECOND);
    sums_are_true(&fabric, &spent);
}

#[test]
fn a_restart_forgets_next_to_nothing_and_counts_twice_no_more_than_what_is_recent() {
    let mut fabric = Fabric::cluster(23, LAN, 3);
    let mut spent = spend(&mut fabric, 3);
    fabric.run(SECOND);
    fabric.kill(2);
    fabric.until("its death is known", 10 * SECOND, Fabric::one_view);
    fabric.start(2);
    fabric.until("it is back", 2 * SECOND, Fabric::one_view);
    for (before, after) in spent.iter_mut().zip(spend(&mut fabric, 3)) {
        before.iter_mut().zip(after).for_each(|(before, after)| *before += after);
    }
    fabric.run(SECOND);
    for key in 1..=KEYS {
        // New books learn the level from those who hold it: to within a two-hundredth of the burst.
        let truth: u64 = spent.iter().map(|spent| spent[key as usize]).sum();
        // Who reports only after that is new to them, and counted by what is recent of its use: to
        // these books, from which nothing leaks, all of it.
        let late = spent.iter().map(|spent| spent[key as usize]).max().unwrap_or(0);
        let known = known(&fabric, key).expect("a level");
        let bounds = truth.saturating_sub(BURST / 200)..=truth + late;
        assert!(bounds.contains(&known), "{known} {truth}");
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
            fabric.hosts[0].book.spend(key % 5000 + 1, 1);
        }
        fabric.run(SECOND / 100);
    }
    let rate = (sent(&fabric) - before) / 10;
    assert!(rate <= 44_000, "{rate} B/s");
    assert!(fabric.machine(0).figures().throttled > 0);
    assert!(fabric.false_downs.is_empty() && fabric.one_view());
    fabric.run(120 * SECOND);
    let known: u64 = (1..=5000).filter_map(|key| known(&fabric, key)).sum();
    assert_eq!(known, 50_000);
}
