//! Sites apart: 50 ms one way, 2 % of datagrams lost, and the profile for it.

use std::time::Duration;

use tidegate::cluster::MemberState::Failed;
use tidegate::cluster::Profile;

use crate::fabric::{FAR, Fabric};

const SECOND: Duration = Duration::from_secs(1);

fn cluster(seed: u64, nodes: usize) -> Fabric {
    Fabric::cluster_of(Profile::Wan, seed, FAR, nodes)
}

fn generations(fabric: &Fabric) -> Vec<u64> {
    fabric.living().iter().map(|i| fabric.machine(*i).identity().generation).collect()
}

/// Nobody is declared dead, nor had to refute its death.
fn calm_for(nodes: usize, time: Duration) {
    let mut fabric = cluster(61, nodes);
    let before = generations(&fabric);
    fabric.run(time);
    assert!(fabric.false_downs.is_empty(), "{nodes} nodes: {:?}", fabric.false_downs);
    assert_eq!(generations(&fabric), before, "{nodes} nodes");
    assert!(fabric.one_view(), "{}", fabric.picture());
    assert!(fabric.backlog < 40 * nodes + 100, "a backlog of {}", fabric.backlog);
}

#[test]
fn all_see_each_other_soon_after_they_started_far_apart() {
    for (nodes, within) in [(3, 3), (10, 5), (50, 8)] {
        let fabric = cluster(62, nodes);
        let took = fabric.now - fabric.began;
        println!("{nodes} nodes far apart: one view after {took:?}");
        assert!(took <= within * SECOND, "{nodes} nodes took {took:?}");
    }
}

#[test]
fn nobody_healthy_is_declared_dead_far_apart() {
    for (nodes, minutes) in [(3, 30), (10, 10), (30, 2)] {
        calm_for(nodes, minutes * 60 * SECOND);
    }
}

#[test]
#[ignore = "hours of virtual time: run it by name"]
fn nobody_healthy_is_declared_dead_far_apart_in_hours() {
    for (nodes, hours) in [(3, 24), (10, 12), (100, 1)] {
        calm_for(nodes, hours * 3600 * SECOND);
        println!("{nodes} nodes: {hours} hours without a false death");
    }
}

#[test]
fn a_death_far_away_is_known_within_twelve_seconds() {
    for nodes in [3, 10] {
        let mut fabric = cluster(71, nodes);
        let mut took = Vec::new();
        for kill in 0..7 {
            let dead = 1 + kill % (nodes - 1);
            fabric.run(Duration::from_millis(5000 + 337 * kill as u64));
            fabric.kill(dead);
            took.push(fabric.until("its death is known to all", 40 * SECOND, |fabric| {
                fabric.living().iter().all(|who| fabric.state(*who, dead) == Some(Failed))
            }));
            fabric.start(dead);
            fabric.until("it is back", 5 * SECOND, Fabric::one_view);
        }
        took.sort();
        println!("{nodes} nodes far apart: deaths known after {took:?}");
        assert!(took[took.len() / 2] <= 12 * SECOND, "{nodes} nodes: {took:?}");
        assert!(fabric.false_downs.is_empty(), "{:?}", fabric.false_downs);
    }
}

#[test]
fn a_route_that_fails_for_five_seconds_costs_nobody_membership() {
    let mut fabric = cluster(64, 3);
    let before = generations(&fabric);
    for round in 0..20 {
        fabric.run(Duration::from_millis(20_000 + 613 * round));
        fabric.split(&[0, 1], &[2]);
        fabric.run(5 * SECOND);
        // Not `heal`, which would excuse what is seen afterwards.
        fabric.mend();
        for who in 0..3 {
            assert_ne!(fabric.state(who, (who + 1) % 3), Some(Failed), "{}", fabric.picture());
        }
    }
    fabric.run(30 * SECOND);
    assert!(fabric.false_downs.is_empty(), "{:?}", fabric.false_downs);
    assert_eq!(generations(&fabric), before);
}

#[test]
fn two_halves_far_apart_are_one_again_soon_after_the_cut_heals() {
    let mut fabric = cluster(65, 10);
    let (one, other) = ([0, 1, 2, 3, 4], [5, 6, 7, 8, 9]);
    fabric.split(&one, &other);
    fabric.run(120 * SECOND);
    assert_eq!(fabric.state(0, 5), Some(Failed));
    fabric.heal();
    let took = fabric.until("one view", 20 * SECOND, Fabric::one_view);
    println!("far apart, healed after {took:?}");
    assert!(took <= 5 * SECOND, "{took:?}");
}

#[test]
fn nodes_of_both_profiles_live_together_on_a_quiet_network() {
    let mut fabric = Fabric::cluster(66, crate::fabric::LAN, 2);
    fabric.profile = Profile::Wan;
    for _ in 0..2 {
        let late = fabric.host();
        fabric.start(late);
    }
    fabric.until("one view", 5 * SECOND, Fabric::one_view);
    fabric.run(600 * SECOND);
    assert!(fabric.false_downs.is_empty() && fabric.one_view(), "{}", fabric.picture());
    // The quick ones accuse sooner, and their word goes for all.
    fabric.kill(3);
    let took = fabric.until("its death is known to all", 30 * SECOND, |fabric| {
        fabric.living().iter().all(|who| fabric.state(*who, 3) == Some(Failed))
    });
    println!("mixed profiles: death known after {took:?}");
    assert!(took <= 12 * SECOND, "{took:?}");
}
