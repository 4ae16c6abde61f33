//! Verdicts on backends in virtual time.

use std::time::Duration;

use tidegate::base::{BackendKey, RuleName};
use tidegate::health::Verdict::{self, Down, Up};

use crate::fabric::{BAD, Fabric, LAN};
use crate::support::sighting;

const SECOND: Duration = Duration::from_secs(1);

fn backend(number: u16) -> BackendKey {
    BackendKey { rule: RuleName::from("web"), address: ([10, 9, 9, 9], number).into() }
}

fn note(fabric: &Fabric, host: usize, number: u16, verdict: Verdict) {
    let verdicts = &fabric.hosts[host].verdicts;
    verdicts.note(&backend(number), fabric.now, sighting(verdict, fabric.now));
}

fn votes(fabric: &Fabric, who: usize, backend: &BackendKey) -> Vec<(String, Verdict)> {
    let votes = fabric.machine(who).votes();
    let votes = votes.get(&backend.id()).cloned().unwrap_or_default();
    let mut votes: Vec<_> =
        votes.into_iter().map(|vote| (vote.observer.to_string(), vote.report.verdict)).collect();
    votes.sort_by(|a, b| a.0.cmp(&b.0));
    votes
}

fn named(votes: &[(&str, Verdict)]) -> Vec<(String, Verdict)> {
    votes.iter().map(|(name, verdict)| ((*name).to_owned(), *verdict)).collect()
}

#[test]
fn a_verdict_is_known_at_once_and_ends_with_its_observer() {
    let mut fabric = Fabric::cluster(31, LAN, 3);
    note(&fabric, 0, 80, Up);
    note(&fabric, 1, 80, Up);
    fabric.run(SECOND / 2);
    assert_eq!(votes(&fabric, 2, &backend(80)), named(&[("n0", Up), ("n1", Up)]));
    note(&fabric, 0, 80, Down);
    fabric.run(SECOND / 4);
    assert_eq!(votes(&fabric, 2, &backend(80)), named(&[("n0", Down), ("n1", Up)]));
    // Unchanged opinions live on by their beats.
    fabric.run(60 * SECOND);
    assert_eq!(votes(&fabric, 2, &backend(80)), named(&[("n0", Down), ("n1", Up)]));
    fabric.hosts[1].verdicts.forget(&backend(80));
    fabric.run(SECOND / 4);
    assert_eq!(votes(&fabric, 2, &backend(80)), named(&[("n0", Down)]));
    fabric.kill(0);
    fabric.run(5 * SECOND);
    assert_eq!(votes(&fabric, 2, &backend(80)), []);
}

#[test]
fn hundreds_of_verdicts_arrive_complete_although_datagrams_are_lost() {
    let mut fabric = Fabric::cluster(32, BAD, 3);
    for number in 1..=500 {
        note(&fabric, 0, number, if number % 7 == 0 { Down } else { Up });
    }
    fabric.run(5 * SECOND);
    for number in 1..=500 {
        let verdict = if number % 7 == 0 { Down } else { Up };
        assert_eq!(votes(&fabric, 2, &backend(number)), named(&[("n0", verdict)]), "{number}");
    }
    // Who joins later is told as well.
    let late = fabric.host();
    fabric.start(late);
    fabric.run(10 * SECOND);
    assert_eq!(votes(&fabric, late, &backend(7)), named(&[("n0", Down)]));
}

#[test]
fn a_node_that_alone_sees_its_backends_down_is_impaired_and_silent() {
    let mut fabric = Fabric::cluster(33, LAN, 4);
    for number in [80, 81, 82] {
        for host in 0..4 {
            note(&fabric, host, number, Up);
        }
    }
    fabric.run(SECOND);
    for number in [80, 81] {
        note(&fabric, 0, number, Down);
    }
    fabric.run(SECOND);
    // It may be the first to know.
    assert!(!fabric.machine(0).impaired());
    assert_eq!(votes(&fabric, 1, &backend(80))[0], ("n0".to_owned(), Down));
    fabric.run(3 * SECOND);
    assert!(fabric.machine(0).impaired());
    assert!((1..4).all(|other| !fabric.machine(other).impaired()));
    assert!(votes(&fabric, 1, &backend(80)).iter().all(|(_, verdict)| *verdict == Up));
    for host in 1..4 {
        for number in [80, 81] {
            note(&fabric, host, number, Down);
        }
    }
    fabric.run(2 * SECOND);
    assert!(!fabric.machine(0).impaired());
    let seen = votes(&fabric, 1, &backend(80));
    assert_eq!(seen, named(&[("n0", Down), ("n2", Down), ("n3", Down)]));
}

#[test]
fn a_death_that_all_see_at_once_makes_nobody_think_itself_ill() {
    let mut fabric = Fabric::cluster(34, LAN, 4);
    for verdict in [Up, Down] {
        for host in 0..4 {
            note(&fabric, host, 80, verdict);
        }
        fabric.run(SECOND);
    }
    for _ in 0..100 {
        fabric.run(SECOND / 10);
        assert!((0..4).all(|host| !fabric.machine(host).impaired()));
    }
    let seen = votes(&fabric, 1, &backend(80));
    assert_eq!(seen, named(&[("n0", Down), ("n2", Down), ("n3", Down)]));
}
