//! The figures that `docs/` quotes: `cargo test --test cluster -- --ignored --nocapture
//! the_figures`.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tidegate::base::{BackendKey, RuleName};
use tidegate::cluster::MemberState::Failed;
use tidegate::cluster::Profile;
use tidegate::cluster::machine::Input;
use tidegate::health::Verdict;

use crate::fabric::{BAD, FAR, Fabric, LAN, Links};
use crate::support::sighting;

/// Sites apart, without loss.
const QUIET: Links = Links { loss: 0.0, twice: 0.0, ..FAR };

const SECOND: Duration = Duration::from_secs(1);

fn at(took: &mut [Duration], share: f64) -> Duration {
    took.sort();
    took[((took.len() - 1) as f64 * share).round() as usize]
}

fn deaths(profile: Profile, nodes: usize, links: Links, kills: usize) -> Vec<Duration> {
    let mut fabric = Fabric::cluster_of(profile, 51, links, nodes);
    let mut took = Vec::new();
    for kill in 0..kills {
        let dead = 1 + kill % (nodes - 1);
        fabric.run(Duration::from_millis(3000 + 137 * kill as u64 % 1000));
        fabric.kill(dead);
        took.push(fabric.until("its death is known to all", 90 * SECOND, |fabric| {
            fabric.living().iter().all(|who| fabric.state(*who, dead) == Some(Failed))
        }));
        fabric.start(dead);
        fabric.until("it is back", 20 * SECOND, Fabric::one_view);
    }
    took
}

/// Bytes a second and node, with three backends checked, to each of which every node holds
/// connections at rest.
fn idle(profile: Profile, nodes: usize, links: Links) -> f64 {
    let mut fabric = Fabric::cluster_of(profile, 52, links, nodes);
    let mut gauges = Vec::new();
    for host in &fabric.hosts {
        for port in [80, 81, 82] {
            let rule = RuleName::from("web");
            let backend = BackendKey { rule, address: ([10, 9, 9, 9], port).into() };
            let gauge = host.tally.gauge(&backend);
            gauge.own.store(5, Ordering::Relaxed);
            gauges.push(gauge);
            host.verdicts.note(&backend, fabric.now, sighting(Verdict::Up, fabric.now));
        }
    }
    fabric.run(60 * SECOND);
    let sent = |fabric: &Fabric| -> u64 {
        fabric.living().iter().map(|node| fabric.machine(*node).traffic().bytes_sent()).sum()
    };
    let before = sent(&fabric);
    fabric.run(120 * SECOND);
    (sent(&fabric) - before) as f64 / 120.0 / nodes as f64
}

/// From an event at one node until 99 % of the nodes know it.
fn spread(profile: Profile, nodes: usize, links: Links, events: usize) -> Vec<Duration> {
    let mut fabric = Fabric::cluster_of(profile, 53, links, nodes);
    let enough = (nodes as f64 * 0.99).ceil() as usize;
    let mut took = Vec::new();
    for event in 0..events {
        fabric.run(Duration::from_millis(2000 + 71 * event as u64 % 300));
        let digest = format!("digest {event}");
        fabric.input(event % nodes, Input::Digest(digest.clone()));
        took.push(fabric.until("the event is known", 20 * SECOND, |fabric| {
            let knows = |who: &usize| {
                let members = fabric.machine(*who).members();
                members.iter().any(|member| member.config_digest == digest)
            };
            fabric.living().iter().filter(|who| knows(who)).count() >= enough
        }));
    }
    took
}

#[test]
#[ignore = "measures for minutes; run it by name"]
fn the_figures() {
    println!(
        "| profile | nodes | death known to all, median | p95 | at loss, median | p95 | event to 99 %, median | p95 | idle, B/s/node |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    let mut table = Vec::new();
    for (profile, good, bad) in [(Profile::Lan, LAN, BAD), (Profile::Wan, QUIET, FAR)] {
        for (nodes, kills) in [(3, 40), (10, 40), (100, 20)] {
            let mut in_peace = deaths(profile, nodes, good, kills);
            let mut in_loss = deaths(profile, nodes, bad, kills);
            let mut event = spread(profile, nodes, good, kills);
            table.push(format!(
                "| {} | {nodes} | {:.2?} | {:.2?} | {:.2?} | {:.2?} | {:.0?} | {:.0?} | {:.0} |",
                profile.label(),
                at(&mut in_peace, 0.5),
                at(&mut in_peace, 0.95),
                at(&mut in_loss, 0.5),
                at(&mut in_loss, 0.95),
                at(&mut event, 0.5),
                at(&mut event, 0.95),
                idle(profile, nodes, good),
            ));
        }
    }
    println!("{}", table.join("\n"));
}

#[test]
fn an_idle_node_sends_less_than_a_kilobyte_a_second() {
    for nodes in [3, 10, 30] {
        let rate = idle(Profile::Lan, nodes, LAN);
        println!("{nodes} nodes: {rate:.0} B/s each");
        assert!(rate < 1000.0, "{nodes} nodes: {rate:.0} B/s each");
    }
}

#[test]
fn an_event_reaches_ten_nodes_within_three_hundred_milliseconds() {
    let mut took = spread(Profile::Lan, 10, LAN, 40);
    let p99 = at(&mut took, 0.99);
    assert!(p99 <= Duration::from_millis(310), "{p99:?}");
}
