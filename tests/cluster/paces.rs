//! Bandwidth over the cluster in virtual time: real machines, real pacers, readers that move as many
//! bytes as they may.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use tidegate::base::{KeyHash, LimitId};
use tidegate::cluster::machine::Input;
use tidegate::cluster::owners::Owners;
use tidegate::traffic::{CapKey, Pacer};

use crate::fabric::{BAD, Fabric, LAN, Links};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);
const RATE: u64 = 10_000_000;
const KEY: CapKey = CapKey { limit: LimitId(6), key: KeyHash(77) };

/// One key, a pacer of it on every host.
struct Lab {
    fabric: Fabric,
    pacers: Vec<Option<Arc<Pacer>>>,
    /// Bytes per second that each would move.
    wants: Vec<f64>,
    due: Vec<f64>,
    /// Bytes moved by each since this was last asked.
    moved: Vec<u64>,
}

impl Lab {
    fn new(seed: u64, links: Links, nodes: usize) -> Lab {
        let mut lab = Lab {
            fabric: Fabric::cluster(seed, links, nodes),
            pacers: Vec::new(),
            wants: vec![0.0; nodes],
            due: vec![0.0; nodes],
            moved: vec![0; nodes],
        };
        let rate = NonZeroU64::new(RATE).unwrap();
        let now = lab.fabric.now;
        let pacer = |host: &crate::fabric::Host| Some(host.pace.pacer(KEY, rate, now));
        lab.pacers = lab.fabric.hosts.iter().map(pacer).collect();
        lab.run(SECOND);
        lab
    }

    fn run(&mut self, time: Duration) {
        let until = self.fabric.now + time;
        while self.fabric.now < until {
            self.fabric.run(MS);
            for host in self.fabric.living() {
                let (Some(pacer), now) = (&self.pacers[host], self.fabric.now) else { continue };
                self.due[host] =
                    (self.due[host] + self.wants[host] / 1000.0).min(RATE as f64 / 50.0);
                while self.due[host] >= 1.0 && pacer.wait(now).is_zero() {
                    let bytes = pacer.quantum().min(self.due[host] as usize);
                    self.due[host] -= bytes as f64;
                    self.moved[host] += bytes as u64;
                    pacer.charge(bytes, now);
                }
            }
        }
    }

    /// What each moves in `time`, as a part of the rate.
    fn parts(&mut self, time: Duration) -> Vec<f64> {
        self.moved.fill(0);
        self.run(time);
        let whole = RATE as f64 * time.as_secs_f64();
        self.moved.iter().map(|moved| *moved as f64 / whole).collect()
    }

    fn owner(&self) -> usize {
        let living = self.fabric.living();
        let actor = |host: &usize| self.fabric.machine(*host).identity().actor;
        let pair = Owners::new(living.iter().map(actor)).of(KEY.limit, KEY.key).unwrap();
        living.into_iter().find(|host| actor(host) == pair.primary).unwrap()
    }
}

const ALL: f64 = 2.0 * RATE as f64;

#[test]
fn one_node_that_moves_has_nearly_the_whole_rate_within_a_second() {
    for nodes in [1, 3, 10] {
        let mut lab = Lab::new(80, LAN, nodes);
        // What readers have ready at any time is little beside the rate.
        lab.wants[nodes - 1] = ALL;
        let first = lab.parts(SECOND)[nodes - 1];
        let then = lab.parts(2 * SECOND)[nodes - 1];
        println!("{nodes} nodes: first second {first:.3}, then {then:.3}");
        assert!(first > 0.6 && then > 0.97 && then < 1.03, "{nodes}: {first}, {then}");
    }
}

#[test]
fn all_together_move_no_more_than_the_rate_and_the_hungry_alike() {
    for (nodes, links) in [(3, LAN), (3, BAD), (10, LAN), (10, BAD)] {
        let mut lab = Lab::new(81, links, nodes);
        lab.wants.fill(ALL);
        lab.run(SECOND);
        let mut worst = 0.0f64;
        for _ in 0..5 {
            let parts = lab.parts(SECOND);
            let sum: f64 = parts.iter().sum();
            worst = worst.max(sum);
            let even = 1.0 / nodes as f64;
            assert!(parts.iter().all(|part| (part / even - 1.0).abs() < 0.25), "{parts:?}");
            assert!((0.9..1.05).contains(&sum), "{nodes} nodes: {sum}");
        }
        println!("{nodes} nodes: worst second {worst:.3}");
    }
}

#[test]
fn a_crowd_that_begins_at_once_and_a_shift_pass_the_rate_only_a_little() {
    let mut lab = Lab::new(82, LAN, 10);
    lab.wants[0] = ALL;
    lab.run(3 * SECOND);
    lab.wants.fill(ALL);
    let crowd: f64 = lab.parts(SECOND).iter().sum();
    lab.run(2 * SECOND);
    lab.wants.fill(0.0);
    lab.wants[5] = ALL;
    let shift = lab.parts(SECOND);
    let shift: f64 = shift.iter().sum();
    println!("crowd {crowd:.3}, shift {shift:.3}");
    assert!(crowd < 1.15 && shift < 1.1, "{crowd} {shift}");
    assert!(lab.parts(SECOND)[5] > 0.95);
}

#[test]
fn who_moves_little_gets_it_and_the_others_share_the_rest() {
    let mut lab = Lab::new(83, LAN, 3);
    lab.wants = vec![0.1 * RATE as f64, ALL, ALL];
    lab.run(2 * SECOND);
    let parts = lab.parts(2 * SECOND);
    println!("{parts:.3?}");
    assert!((0.09..0.11).contains(&parts[0]), "{parts:?}");
    assert!(parts[1] > 0.4 && parts[2] > 0.4 && parts.iter().sum::<f64>() < 1.04, "{parts:?}");
}

#[test]
fn a_dead_nodes_part_returns_and_a_silent_owner_means_even_shares() {
    let mut lab = Lab::new(84, LAN, 4);
    let owner = lab.owner();
    let others: Vec<usize> = (0..4).filter(|host| *host != owner).collect();
    others.iter().for_each(|host| lab.wants[*host] = ALL);
    lab.run(2 * SECOND);
    lab.fabric.kill(others[2]);
    lab.pacers[others[2]] = None;
    lab.run(SECOND);
    let parts = lab.parts(SECOND);
    assert!(parts[others[0]] > 0.45 && parts[others[1]] > 0.45, "{parts:?}");
    lab.fabric.kill(owner);
    lab.run(1300 * MS);
    let parts = lab.parts(SECOND / 2);
    println!("without an owner: {parts:.3?}");
    assert!(others[..2].iter().all(|host| (0.2..0.36).contains(&parts[*host])), "{parts:?}");
    // Another one keeps the books once it is found failed.
    lab.run(4 * SECOND);
    let parts = lab.parts(SECOND);
    assert!(others[..2].iter().all(|host| parts[*host] > 0.45), "{parts:?}");
}

#[test]
fn a_cut_leaves_each_side_the_rate_and_heals() {
    let mut lab = Lab::new(85, LAN, 4);
    lab.wants.fill(ALL);
    lab.run(2 * SECOND);
    lab.fabric.split(&[0, 1], &[2, 3]);
    lab.run(8 * SECOND);
    let parts = lab.parts(SECOND);
    assert!((0.9..1.05).contains(&(parts[0] + parts[1])), "{parts:?}");
    assert!((0.9..1.05).contains(&(parts[2] + parts[3])), "{parts:?}");
    lab.fabric.heal();
    lab.fabric.until("one view", 20 * SECOND, Fabric::one_view);
    lab.run(2 * SECOND);
    let sum: f64 = lab.parts(SECOND).iter().sum();
    assert!((0.9..1.05).contains(&sum), "{sum}");
    lab.fabric.input(0, Input::Leave);
}
