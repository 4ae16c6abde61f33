//! What a node remembers: its id, the generations it used and the peers it knew, in virtual time and
//! on a real disk.

use std::time::Duration;

use tidegate::base::Endpoint;
use tidegate::cluster::{Cluster, ClusterError, MemberState, Windows};

use crate::fabric::{Disk, EPOCH_MS, Fabric, LAN};
use crate::loopback::{eventually, no_dns, plan, start, states};

const SECOND: Duration = Duration::from_secs(1);
const DAY_MS: i64 = 24 * 3600 * 1000;

#[test]
fn a_clock_set_back_a_day_lowers_no_generation() {
    let mut fabric = Fabric::cluster(20, LAN, 2);
    let late = fabric.host();
    fabric.hosts[late].disk = Some(Disk::default());
    fabric.start(late);
    fabric.until("it is let in", 2 * SECOND, Fabric::one_view);
    let before = fabric.machine(late).identity();

    fabric.kill(late);
    fabric.hosts[late].clock_off_ms = -DAY_MS;
    fabric.start(late);
    // Not by one round trip after another: it begins above all that it used.
    let after = fabric.machine(late).identity();
    assert_eq!(after.generation, before.generation + 1);
    assert_eq!(after.actor.node, before.actor.node);
    assert_ne!(after.actor.boot, before.actor.boot);
    fabric.until("it is back", 2 * SECOND, Fabric::one_view);
    let kept = fabric.hosts[late].disk.as_ref().unwrap().state.generation;
    assert_eq!(kept, fabric.machine(late).identity().generation);
}

#[test]
fn a_clock_that_was_years_ahead_once_does_not_keep_a_node_out() {
    let mut fabric = Fabric::cluster(21, LAN, 2);
    let late = fabric.host();
    let mut disk = Disk { node: 7, ..Disk::default() };
    disk.state.generation = EPOCH_MS + 1000 * DAY_MS as u64;
    fabric.hosts[late].disk = Some(disk);
    fabric.start(late);
    fabric.until("it is let in", 2 * SECOND, Fabric::one_view);
}

#[test]
fn a_node_whose_seeds_are_gone_finds_its_last_known_peers() {
    let mut fabric = Fabric::cluster(22, LAN, 3);
    let late = fabric.host();
    fabric.hosts[late].disk = Some(Disk::default());
    fabric.start(late);
    fabric.until("it is let in", 2 * SECOND, Fabric::one_view);
    fabric.run(SECOND);
    let disk = fabric.hosts[late].disk.clone();
    fabric.kill(0);
    fabric.kill(late);
    fabric.run(10 * SECOND);
    // At another address, where nobody looks for it; its seed is gone for good.
    let (with, without) = (fabric.host(), fabric.host());
    fabric.hosts[with].disk = disk;
    fabric.start(with);
    fabric.until("it is home by its memory", 2 * SECOND, Fabric::one_view);
    fabric.start(without);
    fabric.run(10 * SECOND);
    assert_eq!(fabric.machine(without).members().len(), 1);
}

#[test]
fn a_peer_that_left_is_not_remembered_and_one_that_failed_is() {
    let mut fabric = Fabric::new(23, LAN);
    for _ in 0..3 {
        fabric.host();
    }
    fabric.hosts[0].disk = Some(Disk::default());
    (0..3).for_each(|node| fabric.start(node));
    fabric.until("one view", 5 * SECOND, Fabric::one_view);
    fabric.input(1, tidegate::cluster::machine::Input::Leave);
    fabric.run(SECOND);
    fabric.kill(1);
    fabric.kill(2);
    fabric.until("both are gone", 10 * SECOND, |fabric| {
        fabric.state(0, 1) == Some(MemberState::Left)
            && fabric.state(0, 2) == Some(MemberState::Failed)
    });
    fabric.run(SECOND);
    let known: Vec<_> =
        fabric.hosts[0].disk.as_ref().unwrap().state.peers.keys().copied().collect();
    assert_eq!(known, [fabric.hosts[2].source]);
}

#[test]
fn on_a_real_disk_a_node_keeps_its_id_and_comes_home_without_a_seed() {
    let home = tempfile::tempdir().unwrap();
    let peer = start(plan("n1", "127.0.0.1:0", &[]), no_dns());
    let seed = [Endpoint::from(peer.cluster.address().0)];
    let with_state = |peers: &[Endpoint]| {
        let mut plan = plan("n2", "127.0.0.1:0", peers);
        plan.state_dir = Some(home.path().join("state"));
        plan
    };
    let node = start(with_state(&seed), no_dns());
    eventually("both are there", Duration::from_secs(5), || states(&node).len() == 2);
    let before = node.cluster.members()[0].clone();

    // A second process on the same directory is refused.
    let windows = Windows::empty(tidegate::base::publish_and_view(String::new()).1, no_dns());
    let second = Cluster::start(with_state(&seed), windows).err();
    let said = second.as_ref().map(ToString::to_string).unwrap_or_default();
    assert!(matches!(second, Some(ClusterError::State(_))), "{said}");
    assert!(said.contains("give each node a directory of its own"), "{said}");

    drop(node);
    let node = start(with_state(&[]), no_dns());
    eventually("it is home", Duration::from_secs(5), || states(&node).len() == 2);
    let after = node.cluster.members()[0].clone();
    assert_eq!(after.node_id, before.node_id);
    assert_ne!(after.boot_id, before.boot_id);
    eventually("its state is written", Duration::from_secs(5), || {
        node.cluster.figures().state_writes.0 >= 1
    });
}
