//! Membership in virtual time: who is seen, how fast a death is found, and that nobody healthy is
//! ever declared dead.

use std::time::Duration;

use tidegate::cluster::MemberState::{Alive, Failed, Left};
use tidegate::cluster::machine::Input;

use crate::fabric::{BAD, Fabric, LAN};

const SECOND: Duration = Duration::from_secs(1);

fn median(mut took: Vec<Duration>) -> Duration {
    took.sort();
    took[took.len() / 2]
}

#[test]
fn all_see_each_other_soon_after_they_started() {
    for (nodes, within) in [(3, 2), (10, 2), (100, 5)] {
        let fabric = Fabric::cluster(1, LAN, nodes);
        let took = fabric.now - fabric.began;
        println!("{nodes} nodes: one view after {took:?}");
        assert!(took <= within * SECOND, "{nodes} nodes took {took:?}");
        assert!(fabric.false_downs.is_empty(), "{:?}", fabric.false_downs);
    }
}

#[test]
fn all_see_each_other_although_every_twentieth_datagram_is_lost() {
    for (nodes, within) in [(3, 3), (10, 5), (100, 10)] {
        let fabric = Fabric::cluster(2, BAD, nodes);
        let took = fabric.now - fabric.began;
        println!("{nodes} nodes at 5 % loss: one view after {took:?}");
        assert!(took <= within * SECOND, "{nodes} nodes took {took:?}");
    }
}

#[test]
fn nobody_healthy_is_declared_dead_at_five_percent_loss() {
    for (nodes, minutes) in [(3, 20), (10, 10), (100, 1)] {
        let mut fabric = Fabric::cluster(3, BAD, nodes);
        let generations = |fabric: &Fabric| -> Vec<u64> {
            fabric.living().iter().map(|i| fabric.machine(*i).identity().generation).collect()
        };
        let before = generations(&fabric);
        fabric.run(minutes * 60 * SECOND);
        assert!(fabric.false_downs.is_empty(), "{nodes} nodes: {:?}", fabric.false_downs);
        // A healthy node that is told to be dead takes a new generation: none did.
        assert_eq!(generations(&fabric), before, "{nodes} nodes");
        // A suspicion may be under way at this very moment; it is refuted.
        fabric.until("one view", 5 * SECOND, Fabric::one_view);
        assert!(fabric.backlog < 40 * nodes + 100, "a backlog of {}", fabric.backlog);
    }
}

#[test]
fn a_killed_node_is_found_failed_within_three_seconds() {
    for (nodes, kills) in [(3, 9), (10, 7), (100, 5)] {
        let mut fabric = Fabric::cluster(5, LAN, nodes);
        let mut all = Vec::new();
        for kill in 0..kills {
            let dead = 1 + kill % (nodes - 1);
            fabric.run(Duration::from_millis(3000 + 137 * kill as u64));
            fabric.kill(dead);
            all.push(fabric.until("its death is known to all", 10 * SECOND, |fabric| {
                fabric.living().iter().all(|who| fabric.state(*who, dead) == Some(Failed))
            }));
            fabric.start(dead);
            let back = fabric.until("it is back", 2 * SECOND, Fabric::one_view);
            assert!(back <= 2 * SECOND);
        }
        println!("{nodes} nodes: deaths known after {all:?}");
        assert!(median(all.clone()) <= 3 * SECOND, "{nodes} nodes: {all:?}");
        assert!(fabric.false_downs.is_empty(), "{:?}", fabric.false_downs);
    }
}

#[test]
fn a_node_that_restarts_at_once_takes_its_place_within_two_seconds() {
    let mut fabric = Fabric::cluster(5, LAN, 3);
    for round in 0..10 {
        let node = 1 + round % 2;
        fabric.kill(node);
        fabric.run(Duration::from_millis(50));
        fabric.start(node);
        fabric.until("it is back", 2 * SECOND, Fabric::one_view);
        fabric.run(SECOND);
    }
    // The seed itself as well: it finds the others through their own announces.
    fabric.kill(0);
    fabric.run(Duration::from_millis(50));
    fabric.start(0);
    let took = fabric.until("the seed is back", 5 * SECOND, Fabric::one_view);
    println!("a restarted seed was back after {took:?}");
    assert!(fabric.false_downs.is_empty(), "{:?}", fabric.false_downs);
}

#[test]
fn a_clock_set_back_does_not_keep_a_restarted_node_out() {
    let mut fabric = Fabric::cluster(6, LAN, 3);
    fabric.kill(2);
    fabric.hosts[2].clock_off_ms = -20 * 3600 * 1000;
    fabric.start(2);
    fabric.until("it is back", 2 * SECOND, Fabric::one_view);
}

#[test]
fn a_node_from_the_far_future_is_not_let_in() {
    let mut fabric = Fabric::cluster(7, LAN, 3);
    let late = fabric.host();
    fabric.hosts[late].clock_off_ms = 25 * 3600 * 1000;
    fabric.start(late);
    fabric.run(5 * SECOND);
    assert_eq!(fabric.machine(0).members().len(), 3);
    let dropped = fabric.machine(0).figures().dropped;
    assert!(dropped.iter().any(|(reason, n)| *reason == "future_generation" && *n > 0));
}

#[test]
fn two_nodes_that_were_cut_off_find_each_other_again_at_once() {
    let mut fabric = Fabric::cluster(8, LAN, 2);
    fabric.split(&[0], &[1]);
    fabric.run(60 * SECOND);
    assert_eq!(fabric.state(0, 1), Some(Failed));
    assert_eq!(fabric.state(1, 0), Some(Failed));
    fabric.heal();
    let took = fabric.until("they see each other", 2 * SECOND, Fabric::one_view);
    println!("two nodes healed after {took:?}");
}

/// A node that is cut off for a moment suspects the others, is itself declared dead, and takes a new
/// generation when it hears of it: foca then forgets when its suspects' time is over. One stayed
/// suspected for ever when nobody told it to refute.
#[test]
fn a_cut_of_any_length_leaves_no_lasting_suspicion() {
    for step in 0..60 {
        let mut fabric = Fabric::cluster(100 + step, LAN, 3);
        fabric.run(Duration::from_millis(37 * step));
        fabric.split(&[0], &[1, 2]);
        fabric.run(Duration::from_millis(500 + 100 * step));
        fabric.heal();
        let took = fabric.until("one view after the heal", 20 * SECOND, Fabric::one_view);
        assert!(took <= 5 * SECOND, "cut {step}: {took:?}");
    }
}

#[test]
fn halves_become_one_again_after_a_cut() {
    for (nodes, seconds, within) in [(3, 20, 5), (10, 60, 5), (10, 700, 5), (100, 20, 10)] {
        let mut fabric = Fabric::cluster(9, LAN, nodes);
        let all: Vec<usize> = (0..nodes).collect();
        let (one, other) = all.split_at(nodes / 2);
        fabric.split(one, other);
        fabric.run(seconds * SECOND);
        fabric.heal();
        let took = fabric.until("one view after the heal", 60 * SECOND, Fabric::one_view);
        println!("{nodes} nodes, cut for {seconds} s: one view after {took:?}");
        assert!(took <= within * SECOND, "{nodes} nodes took {took:?}");
        assert!(fabric.false_downs.is_empty(), "{:?}", fabric.false_downs);
    }
}

#[test]
fn a_seed_that_appears_late_is_still_asked() {
    let mut fabric = Fabric::new(10, LAN);
    for _ in 0..3 {
        fabric.host();
    }
    fabric.start(1);
    fabric.start(2);
    fabric.run(1000 * SECOND);
    assert_eq!(fabric.machine(1).members().len(), 1);
    assert!(!fabric.machine(1).answered());
    fabric.start(0);
    fabric.until("all see each other", 2 * SECOND, Fabric::one_view);
    assert!(fabric.living().iter().all(|node| fabric.machine(*node).answered()));
}

#[test]
fn a_node_that_stood_still_comes_back_and_accuses_nobody() {
    for nodes in [3, 10] {
        let mut fabric = Fabric::cluster(11, LAN, nodes);
        for (stall, seen_dead) in [(800, false), (10_000, true), (60_000, true)] {
            fabric.run(3 * SECOND);
            let stall = Duration::from_millis(stall);
            fabric.stall(1, stall);
            fabric.run(stall - Duration::from_millis(1));
            assert_eq!(fabric.state(0, 1) == Some(Failed), seen_dead, "{}", fabric.picture());
            let back = fabric.until("it is back", 2 * SECOND, Fabric::one_view);
            println!("{nodes} nodes: stalled for {stall:?}, back after {back:?}");
            for other in (0..nodes).filter(|other| *other != 1) {
                assert_eq!(fabric.state(1, other), Some(Alive));
            }
        }
        assert!(fabric.false_downs.is_empty(), "{:?}", fabric.false_downs);
    }
}

#[test]
fn a_deaf_node_takes_its_time_to_accuse_the_others() {
    let mut fabric = Fabric::cluster(12, LAN, 10);
    for other in 1..10 {
        fabric.cut(other, 0);
    }
    fabric.run(4 * SECOND);
    let accused = (1..10).filter(|other| fabric.state(0, *other) == Some(Failed)).count();
    assert_eq!(accused, 0, "{}", fabric.picture());
    assert!(fabric.machine(0).figures().health_score >= 4);
    fabric.heal();
    fabric.until("all is well", 10 * SECOND, Fabric::one_view);
    fabric.run(30 * SECOND);
    assert!(fabric.false_downs.is_empty(), "{:?}", fabric.false_downs);
    assert_eq!(fabric.machine(0).figures().health_score, 0);
}

#[test]
fn who_leaves_is_left_and_never_failed() {
    for links in [LAN, BAD] {
        let mut fabric = Fabric::cluster(13, links, 10);
        fabric.input(3, Input::Leaving);
        fabric.run(SECOND);
        assert!((0..10).all(|who| fabric.state(who, 3) == Some(Alive)));
        // Its share is no longer counted on, although it still serves.
        assert!([0, 1, 2, 4].iter().all(|who| fabric.hosts[*who].book.nodes() == 9));
        fabric.input(3, Input::Leave);
        fabric.run(SECOND);
        fabric.kill(3);
        fabric.run(5 * SECOND);
        for who in fabric.living() {
            assert_eq!(fabric.state(who, 3), Some(Left), "{}", fabric.picture());
        }
        fabric.start(3);
        fabric.until("it is back", 2 * SECOND, Fabric::one_view);
    }
}

#[test]
fn who_is_gone_is_forgotten_after_ten_minutes() {
    let mut fabric = Fabric::cluster(14, LAN, 3);
    fabric.kill(2);
    fabric.run(590 * SECOND);
    assert_eq!(fabric.state(0, 2), Some(Failed));
    fabric.run(20 * SECOND);
    assert_eq!(fabric.state(0, 2), None);
}

#[test]
fn a_second_node_at_one_address_is_refused_and_the_first_stays() {
    let mut fabric = Fabric::cluster(15, LAN, 3);
    let rival = fabric.host();
    fabric.hosts[rival].advertised = fabric.hosts[1].advertised;
    fabric.start(rival);
    fabric.run(10 * SECOND);
    let fault = fabric.machine(rival).fault().unwrap_or_default().to_owned();
    assert!(fault.contains("held by the node `n1`"), "{fault}");
    assert_eq!(fabric.machine(rival).members().len(), 1);
    fabric.kill(rival);
    assert!(fabric.one_view(), "{}", fabric.picture());
    assert!(fabric.false_downs.is_empty(), "{:?}", fabric.false_downs);
}

#[test]
fn two_nodes_of_one_name_are_both_shown_and_counted() {
    let mut fabric = Fabric::cluster(16, LAN, 3);
    let namesake = fabric.host();
    fabric.hosts[namesake].name = "n1".to_owned();
    fabric.start(namesake);
    fabric.run(20 * SECOND);
    for who in 0..4 {
        assert_eq!(fabric.machine(who).members().len(), 4);
        assert_eq!(fabric.machine(who).figures().duplicates, 1);
    }
}

#[test]
fn a_node_that_moved_has_one_row() {
    let mut fabric = Fabric::cluster(17, LAN, 5);
    fabric.kill(4);
    let moved = fabric.host();
    fabric.hosts[moved].name = "n4".to_owned();
    fabric.start(moved);
    fabric.until("it is seen where it is", 2 * SECOND, |fabric| {
        (0..4).all(|who| {
            let members = fabric.machine(who).members();
            let rows: Vec<_> = members.iter().filter(|member| &*member.name.0 == "n4").collect();
            rows.len() == 1 && rows[0].address.0 == fabric.hosts[moved].advertised
        })
    });
    for _ in 0..100 {
        fabric.run(Duration::from_millis(100));
        for who in 0..4 {
            assert_eq!(fabric.state(who, moved), Some(Alive));
            assert_eq!(fabric.machine(who).members().len(), 5);
        }
    }
    assert!(fabric.one_view());
}
