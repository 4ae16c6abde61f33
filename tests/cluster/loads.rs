//! The load view, in virtual time: the real selectors choose by the real gauges, which the real
//! machines tell each other; only clients and backends are made up.
//!
//! `cargo test --test cluster -- --ignored --nocapture what_the_load_view_gains` prints the table of
//! `docs/cluster.md`.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tidegate::balance::{Gauge, Loads, Member, PARTS, Policy, Selector, Turn};
use tidegate::base::{BackendKey, RuleName};
use tidegate::cluster::wire::Kind;

use crate::fabric::{BAD, Fabric, LAN, Links};

const SECOND: Duration = Duration::from_secs(1);
const STEP: Duration = Duration::from_millis(1);

/// What choices look at.
#[derive(Clone, Copy, Debug, PartialEq)]
enum See {
    /// This node's connections alone.
    Node,
    /// The cluster's, as the product does.
    Cluster,
    /// Own and the peers' last word added, to show what herding does.
    Naive,
    /// What all have in truth, at once: no cluster can do better.
    Truth,
}

/// Gauges as one node sees them.
struct Seen<'a> {
    all: &'a [Vec<Arc<Gauge>>],
    node: usize,
    see: See,
}

impl Loads for Seen<'_> {
    fn load(&self, index: usize) -> u32 {
        let gauge = &self.all[self.node][index];
        match self.see {
            See::Node => gauge.own(),
            See::Cluster | See::Naive => gauge.load(),
            See::Truth => self.all.iter().map(|own| own[index].own()).sum(),
        }
    }

    fn burden(&self, index: usize) -> u64 {
        match self.see {
            See::Cluster => self.all[self.node][index].burden(),
            _ => u64::from(self.load(index)) * PARTS,
        }
    }
}

/// How clients come and backends work.
#[derive(Clone, Copy, Debug)]
struct Traffic {
    policy: Policy,
    /// Connections a second, of all nodes together.
    rate: f64,
    /// Share of them that comes to one node; the others have the same share each.
    most: f64,
    /// After this another node is the one.
    moves: Option<Duration>,
    /// Mean seconds that a connection to the fastest backend lives; the slowest takes four times
    /// that.
    life: f64,
    backends: usize,
}

struct World {
    fabric: Fabric,
    traffic: Traffic,
    see: See,
    rng: StdRng,
    selector: Selector,
    gauges: Vec<Vec<Arc<Gauge>>>,
    turns: Vec<u64>,
    next: Instant,
    /// The node to which most of the clients come, and until when.
    busy: usize,
    busy_until: Option<Instant>,
    /// When connections end: (when, node, backend).
    ends: BinaryHeap<Reverse<(Instant, usize, usize)>>,
}

impl World {
    fn new(seed: u64, links: Links, nodes: usize, traffic: Traffic, see: See) -> World {
        let fabric = Fabric::cluster(seed, links, nodes);
        let key = |number: usize| BackendKey {
            rule: RuleName::from("web"),
            address: ([10, 9, 9, 9], number as u16 + 1).into(),
        };
        let gauges = fabric.hosts.iter().map(|host| {
            (0..traffic.backends).map(|backend| host.tally.gauge(&key(backend))).collect()
        });
        let members: Vec<Member> =
            (0..traffic.backends).map(|id| Member { id: id as u64, weight: 1 }).collect();
        World {
            gauges: gauges.collect(),
            selector: Selector::new(traffic.policy, &members),
            turns: vec![0; nodes],
            next: fabric.now,
            busy: 0,
            busy_until: traffic.moves.map(|moves| fabric.now + moves),
            ends: BinaryHeap::new(),
            rng: StdRng::seed_from_u64(seed),
            fabric,
            traffic,
            see,
        }
    }

    fn run(&mut self, time: Duration, mut look: impl FnMut(&World)) {
        let until = self.fabric.now + time;
        while self.fabric.now < until {
            self.fabric.run(STEP);
            while let Some(&Reverse((at, node, backend))) = self.ends.peek()
                && at <= self.fabric.now
            {
                self.ends.pop();
                self.gauges[node][backend].own.fetch_sub(1, Relaxed);
            }
            while self.next <= self.fabric.now {
                self.arrive();
            }
            look(self);
        }
    }

    fn arrive(&mut self) {
        let pause = -self.rng.random::<f64>().max(1e-12).ln() / self.traffic.rate;
        self.next += SECOND.mul_f64(pause);
        let nodes = self.gauges.len();
        if let (Some(until), Some(moves)) = (self.busy_until, self.traffic.moves)
            && until <= self.fabric.now
        {
            self.busy = (self.busy + 1) % nodes;
            self.busy_until = Some(until + moves);
        }
        let others = match self.rng.random_bool(self.traffic.most) {
            true => 0,
            false => self.rng.random_range(1..nodes),
        };
        let node = (self.busy + others) % nodes;
        let turn = Turn::new(node as u64 * 77, self.turns[node], self.rng.random());
        self.turns[node] += 1;
        let seen = Seen { all: &self.gauges, node, see: self.see };
        let backend = self.selector.candidates(turn, &seen).next().unwrap();
        self.gauges[node][backend].own.fetch_add(1, Relaxed);
        // From once to four times the fastest one's.
        let slowness = 1.0 + 3.0 * backend as f64 / (self.traffic.backends - 1) as f64;
        let life = -self.rng.random::<f64>().max(1e-12).ln() * self.traffic.life * slowness;
        self.ends.push(Reverse((self.fabric.now + SECOND.mul_f64(life), node, backend)));
    }

    /// Connections that each backend has in truth.
    fn truth(&self) -> Vec<f64> {
        let of = |backend: usize| -> u32 { self.gauges.iter().map(|own| own[backend].own()).sum() };
        (0..self.traffic.backends).map(|backend| f64::from(of(backend))).collect()
    }

    /// Standard deviation of the backends' connections over their mean, averaged over `time`.
    fn spread(&mut self, time: Duration) -> f64 {
        let (mut sum, mut looks) = (0.0, 0.0);
        self.run(time, |world| {
            let truth = world.truth();
            let mean = truth.iter().sum::<f64>() / truth.len() as f64;
            let square = |load: &f64| (load - mean).powi(2);
            let deviation = (truth.iter().map(square).sum::<f64>() / truth.len() as f64).sqrt();
            sum += deviation / mean.max(1.0);
            looks += 1.0;
        });
        sum / looks
    }
}

fn spread(nodes: usize, links: Links, traffic: Traffic, see: See) -> f64 {
    let mut world = World::new(71, links, nodes, traffic, see);
    world.run(10 * SECOND, |_| {});
    // Every node is the busy one at least twice.
    world.spread(60 * SECOND)
}

/// Nine tenths of the clients come to one node, every three seconds to another; backends of different
/// speed.
const SKEWED: Traffic = Traffic {
    policy: Policy::LeastConnections,
    rate: 100.0,
    most: 0.9,
    moves: Some(Duration::from_secs(3)),
    life: 1.0,
    backends: 8,
};

#[test]
#[ignore = "measures for minutes; run it by name"]
fn what_the_load_view_gains() {
    println!(
        "| nodes | clients | policy | own counts | cluster view | gain | all counts in full | the truth |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for nodes in [3, 10] {
        let even = 1.0 / nodes as f64;
        for (word, most, moves, rate) in [
            ("90/10, moving", 0.9, SKEWED.moves, 100.0),
            ("90/10, moving", 0.9, SKEWED.moves, 1000.0),
            ("90/10, staying", 0.9, None, 100.0),
            ("even", even, None, 100.0),
            ("even", even, None, 1000.0),
            ("even, few", even, None, 20.0),
        ] {
            for policy in [Policy::LeastConnections, Policy::PowerOfTwo] {
                let traffic = Traffic { policy, most, moves, rate, ..SKEWED };
                let [own, cluster, naive, truth] =
                    [See::Node, See::Cluster, See::Naive, See::Truth]
                        .map(|see| spread(nodes, LAN, traffic, see) * 100.0);
                let gain = own / cluster;
                println!(
                    "| {nodes} | {word}, {rate}/s | {policy:?} | {own:.1} % | {cluster:.1} % | {gain:.1} | {naive:.1} % | {truth:.1} % |"
                );
            }
        }
    }
}

#[test]
fn the_load_view_halves_the_spread_of_backends_load_under_skew() {
    for nodes in [3, 10] {
        let own = spread(nodes, LAN, SKEWED, See::Node);
        let cluster = spread(nodes, LAN, SKEWED, See::Cluster);
        let lossy = spread(nodes, BAD, SKEWED, See::Cluster);
        println!("{nodes} nodes: {own:.3} alone, {cluster:.3} together, {lossy:.3} under loss");
        assert!(cluster * 2.0 < own, "{nodes} nodes: {own:.3} to {cluster:.3}");
        assert!(lossy * 2.0 < own, "{nodes} nodes: {own:.3} to {lossy:.3}");
    }
}

#[test]
fn two_random_choices_gain_as_well() {
    let traffic = Traffic { policy: Policy::PowerOfTwo, ..SKEWED };
    let own = spread(10, LAN, traffic, See::Node);
    let cluster = spread(10, LAN, traffic, See::Cluster);
    println!("{own:.3} alone, {cluster:.3} together");
    assert!(cluster * 2.0 < own, "{own:.3} to {cluster:.3}");
}

#[test]
fn many_equal_nodes_do_not_herd() {
    // So much comes between two words that whoever is idle in all eyes would be flooded.
    let traffic = Traffic { most: 0.1, moves: None, rate: 1000.0, ..SKEWED };
    let own = spread(10, LAN, traffic, See::Node);
    let cluster = spread(10, LAN, traffic, See::Cluster);
    let naive = spread(10, LAN, traffic, See::Naive);
    println!("{own:.4} alone, {cluster:.4} together, {naive:.4} if all counted in full");
    assert!(cluster < own * 1.15 && naive > own * 1.5);
}

fn load_bytes(world: &World) -> u64 {
    let hosts = world.fabric.living();
    hosts.iter().map(|node| world.fabric.machine(*node).traffic().sent_of(Kind::Load).1).sum()
}

#[test]
fn loads_cost_nothing_when_nothing_moves_and_little_when_much_does() {
    for nodes in [3, 10, 30] {
        let traffic = Traffic { rate: 1000.0, ..SKEWED };
        let mut world = World::new(72, LAN, nodes, traffic, See::Cluster);
        world.fabric.run(10 * SECOND);
        assert_eq!(load_bytes(&world), 0, "idle");
        // Nobody comes any more, and nobody goes: a thousand connections at rest.
        world.next = world.fabric.now;
        world.run(SECOND, |_| {});
        world.next = world.fabric.now + 3600 * SECOND;
        world.ends.clear();
        world.run(5 * SECOND, |_| {});
        let before = load_bytes(&world);
        world.run(60 * SECOND, |_| {});
        let rest = (load_bytes(&world) - before) / 60 / nodes as u64;
        world.next = world.fabric.now;
        let before = load_bytes(&world);
        world.run(20 * SECOND, |_| {});
        let busy = (load_bytes(&world) - before) / 20 / nodes as u64;
        println!("{nodes} nodes: {rest} B/s each at rest, {busy} B/s each at 1000 connections/s");
        assert!(rest < 150 && busy < 10_000);
    }
}

#[test]
fn the_view_follows_the_truth_and_forgets_the_dead() {
    let traffic = Traffic { rate: 1000.0, ..SKEWED };
    let mut world = World::new(73, LAN, 5, traffic, See::Cluster);
    world.run(5 * SECOND, |_| {});
    world.next = world.fabric.now + 3600 * SECOND;
    world.ends.clear();
    world.run(3 * SECOND, |_| {});
    let truth = world.truth();
    let seen = |world: &World, node: usize| -> Vec<f64> {
        world.gauges[node].iter().map(|gauge| f64::from(gauge.load())).collect()
    };
    for node in 0..5 {
        assert_eq!(seen(&world, node), truth, "node {node} after a quiet moment");
    }
    world.fabric.kill(4);
    world.run(8 * SECOND, |_| {});
    let left: Vec<f64> =
        truth.iter().zip(&world.gauges[4]).map(|(all, dead)| all - f64::from(dead.own())).collect();
    for node in 0..4 {
        assert_eq!(seen(&world, node), left, "node {node}");
    }
    // Cut off, what the others have is not known any more; the own count stays.
    world.fabric.split(&[0], &[1, 2, 3]);
    world.run(30 * SECOND, |_| {});
    assert!(world.gauges[0].iter().all(|gauge| gauge.load() == gauge.own()));
    world.fabric.heal();
    world.run(10 * SECOND, |_| {});
    assert_eq!(seen(&world, 0), left);
}
