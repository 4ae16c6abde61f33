//! Checks shared out over a cluster, in virtual time: real gossip machines and the real decisions
//! (`health::Watch`); only the backends and the ways to them are scripted.
//!
//! `cargo test --release --test cluster -- --ignored --nocapture what_sharing_saves` prints the
//! table of `docs/cluster.md`.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use rand::RngExt;
use tidegate::base::{BackendKey, RuleName};
use tidegate::health::{ALL_BELOW, CHECKERS, CheckPlan, Opinion, Rota, Turn, Verdict, Watch};

use crate::fabric::{BAD, Fabric, LAN, Links};

const SECOND: Duration = Duration::from_secs(1);
/// As pools read the votes.
const HEARING: Duration = Duration::from_millis(250);
const STEP: Duration = Duration::from_millis(10);

/// A cluster and the backends that its nodes check.
struct Site {
    fabric: Fabric,
    plan: CheckPlan,
    all_below: usize,
    backends: Vec<BackendKey>,
    /// Backends that do not answer.
    dead: HashSet<usize>,
    /// (node, backend): no way between them.
    no_way: HashSet<(usize, usize)>,
    eyes: Vec<Vec<Eye>>,
    hear_at: Instant,
    /// Checks that arrived, by backend.
    checks: Vec<u64>,
    /// Verdicts that turned: (node, backend, to what), the first ones left out.
    turns: Vec<(usize, usize, Verdict)>,
}

/// One node's eye on one backend.
#[derive(Default)]
struct Eye {
    watch: Watch,
    /// `None`: at once.
    next: Option<Instant>,
}

impl Site {
    fn new(seed: u64, links: Links, nodes: usize, backends: u16, all_below: usize) -> Site {
        let fabric = Fabric::cluster(seed, links, nodes);
        let key = |number| BackendKey {
            rule: RuleName::from("web"),
            address: ([10, 9, 9, 9], number).into(),
        };
        let backends: Vec<BackendKey> = (1..=backends).map(key).collect();
        for host in &fabric.hosts {
            backends.iter().for_each(|backend| host.verdicts.enroll(backend));
        }
        let eye = |_: &BackendKey| Eye::default();
        let mut site = Site {
            hear_at: fabric.now,
            plan: CheckPlan::default(),
            all_below,
            dead: HashSet::new(),
            no_way: HashSet::new(),
            eyes: (0..nodes).map(|_| backends.iter().map(eye).collect()).collect(),
            checks: vec![0; backends.len()],
            turns: Vec::new(),
            backends,
            fabric,
        };
        // Everybody has checked once, and the verdicts of those that then left it to others ended.
        site.run(20 * SECOND);
        site.turns.clear();
        site
    }

    fn run(&mut self, time: Duration) {
        let until = self.fabric.now + time;
        while self.fabric.now < until {
            self.step();
        }
    }

    fn step(&mut self) {
        self.fabric.run(STEP);
        let now = self.fabric.now;
        let hear = now >= self.hear_at;
        if hear {
            self.hear_at = now + HEARING;
        }
        for node in self.fabric.living() {
            if hear {
                self.hear(node);
            }
            for backend in 0..self.backends.len() {
                let eye = &self.eyes[node][backend];
                if eye.next.is_none_or(|at| at <= now && !eye.watch.relieved()) {
                    self.check(node, backend);
                }
            }
        }
    }

    fn hear(&mut self, node: usize) {
        let now = self.fabric.now;
        let machine = self.fabric.machine(node);
        let mut votes = machine.votes();
        let nodes = machine.checking();
        let rota = Rota { own: nodes[0], nodes: nodes.into(), all_below: self.all_below };
        for (backend, key) in self.backends.iter().enumerate() {
            let eye = &mut self.eyes[node][backend];
            let said = votes.remove(&key.id()).unwrap_or_default();
            let heard = eye.watch.hear(key.id(), said, &rota, now);
            if heard.check_now {
                eye.next = None;
            }
            self.turns.extend(turn(node, backend, heard.turned));
        }
    }

    fn check(&mut self, node: usize, backend: usize) {
        let now = self.fabric.now;
        let good = !self.dead.contains(&backend) && !self.no_way.contains(&(node, backend));
        if !self.no_way.contains(&(node, backend)) {
            self.checks[backend] += 1;
        }
        let eye = &mut self.eyes[node][backend];
        let checked = eye.watch.checked(good, STEP / 10, &self.plan, now);
        if let Some(sighting) = checked.sighting {
            self.fabric.hosts[node].verdicts.note(&self.backends[backend], now, sighting);
        }
        let share = self.fabric.rng.random_range(0.9..=1.0);
        eye.next = Some(now + self.plan.interval.mul_f64(share));
        self.turns.extend(turn(node, backend, checked.turned));
    }

    /// A connect of `node` to `backend` fails.
    fn connect_fails(&mut self, node: usize, backend: usize) {
        let eye = &mut self.eyes[node][backend];
        if eye.watch.connect_failed(&self.plan, self.fabric.now) {
            eye.next = None;
        }
    }

    fn used(&self, node: usize, backend: usize) -> bool {
        matches!(self.eyes[node][backend].watch.opinion(), Opinion::Good | Opinion::Doubted)
    }

    fn checkers(&self, backend: usize) -> Vec<usize> {
        let checks = |node: &usize| !self.eyes[*node][backend].watch.relieved();
        self.fabric.living().into_iter().filter(checks).collect()
    }

    /// Runs until `holds`; how long that took.
    fn until(
        &mut self,
        what: &str,
        within: Duration,
        mut holds: impl FnMut(&Site) -> bool,
    ) -> Duration {
        let from = self.fabric.now;
        while !holds(self) {
            assert!(self.fabric.now - from < within, "not within {within:?}: {what}");
            self.step();
        }
        self.fabric.now - from
    }

    /// Checks of one backend per interval, over some minutes.
    fn cost(&mut self) -> f64 {
        let before: u64 = self.checks.iter().sum();
        self.run(120 * SECOND);
        let checks = self.checks.iter().sum::<u64>() - before;
        checks as f64 / self.backends.len() as f64 / (120.0 / self.plan.interval.as_secs_f64())
    }

    /// A backend dies: when half of the nodes, and all, have taken it out.
    fn death(&mut self, backend: usize) -> (Duration, Duration) {
        self.dead.insert(backend);
        let out = |site: &Site| {
            let living = site.fabric.living();
            living.iter().filter(|node| !site.used(**node, backend)).count() * 2 > living.len()
        };
        let half = self.until("half of the nodes know", 30 * SECOND, out);
        let all = self.until("all know", 30 * SECOND, |site| {
            site.fabric.living().into_iter().all(|node| !site.used(node, backend))
        });
        self.dead.remove(&backend);
        self.until("it is back everywhere", 60 * SECOND, |site| {
            site.fabric.living().into_iter().all(|node| site.used(node, backend))
        });
        let pause = self.fabric.rng.random_range(10.0..14.0);
        self.run(SECOND.mul_f64(pause));
        (half, half + all)
    }
}

fn turn(node: usize, backend: usize, turned: Option<Turn>) -> Option<(usize, usize, Verdict)> {
    turned.filter(|turn| !turn.first).map(|turn| (node, backend, turn.verdict))
}

fn median(mut took: Vec<Duration>) -> Duration {
    took.sort();
    took[took.len() / 2]
}

/// Checks per interval, and the medians of when half of the nodes and all know of a death.
fn figures(nodes: usize, all_below: usize, deaths: usize) -> (f64, Duration, Duration) {
    let mut site = Site::new(61, LAN, nodes, 6, all_below);
    let cost = site.cost();
    let took: Vec<_> = (0..deaths).map(|death| site.death(death % 6)).collect();
    let halves = took.iter().map(|(half, _)| *half).collect();
    (cost, median(halves), median(took.into_iter().map(|(_, all)| all).collect()))
}

#[test]
#[ignore = "measures for a minute; run it by name, in release"]
fn what_sharing_saves() {
    println!(
        "| nodes | | checks of a backend per interval | half know of a death, median | all know, median |"
    );
    println!("| --- | --- | --- | --- | --- |");
    for nodes in [3, 10, 50] {
        for (word, all_below) in [("all check", 4096), ("shared", ALL_BELOW)] {
            let (cost, half, all) = figures(nodes, all_below, 40);
            println!("| {nodes} | {word} | {cost:.1} | {half:.1?} | {all:.1?} |");
        }
    }
}

#[test]
fn sharing_makes_the_cost_of_checks_independent_of_the_size_and_finds_deaths_as_soon() {
    let (dear, _, all_checking) = figures(10, 4096, 10);
    let (cheap, _, sharing) = figures(10, ALL_BELOW, 10);
    println!("10 nodes: {dear:.1} and {cheap:.1} checks, {all_checking:?} and {sharing:?}");
    assert!(dear > 10.0 && cheap < 1.15 * CHECKERS as f64);
    assert!(sharing < all_checking + SECOND);
    let cheap = Site::new(62, LAN, 30, 6, ALL_BELOW).cost();
    println!("30 nodes: {cheap:.1} checks");
    assert!(cheap < 1.15 * CHECKERS as f64);
    let (few, _, _) = figures(4, ALL_BELOW, 1);
    assert!(few > 4.0, "a small cluster does not share: {few}");
}

#[test]
fn when_all_checkers_die_with_their_backend_it_is_found_and_no_live_one_is_dropped() {
    let mut site = Site::new(63, LAN, 12, 4, ALL_BELOW);
    let checkers = site.checkers(0);
    assert_eq!(checkers.len(), CHECKERS);
    for node in checkers {
        site.fabric.kill(node);
    }
    site.dead.insert(0);
    // The nodes' death is known after 2 to 4 s, then it takes three checks.
    let took = site.until("all know", 15 * SECOND, |site| {
        site.fabric.living().into_iter().all(|node| !site.used(node, 0))
    });
    println!("the backend was out everywhere after {took:?}");
    site.run(60 * SECOND);
    let wrong: Vec<_> = site.turns.iter().filter(|(_, backend, _)| *backend != 0).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    for backend in 0..4 {
        assert_eq!(site.checkers(backend).len(), CHECKERS);
    }
}

#[test]
fn nodes_that_come_and_go_under_loss_turn_no_verdict_and_leave_no_backend_unchecked() {
    let mut site = Site::new(64, BAD, 10, 6, ALL_BELOW);
    for round in 0..12 {
        let node = site.fabric.rng.random_range(1..10);
        site.fabric.kill(node);
        for _ in 0..200 {
            site.step();
            for backend in 0..6 {
                // Those who are known to check, by everybody's own view, are never fewer than
                // those that are not dead yet by that view.
                assert!(site.checkers(backend).len() >= CHECKERS - 1, "round {round}");
            }
        }
        site.run(3 * SECOND);
        site.fabric.start(node);
        for eye in &mut site.eyes[node] {
            *eye = Eye::default();
        }
        site.run(5 * SECOND);
    }
    assert_eq!(site.turns, [], "all backends were well all the time");
    site.run(30 * SECOND);
    let checkers: Vec<usize> = (0..6).map(|backend| site.checkers(backend).len()).collect();
    assert_eq!(checkers, [CHECKERS; 6]);
}

#[test]
fn a_node_that_is_cut_off_checks_for_itself() {
    let mut site = Site::new(65, LAN, 10, 6, ALL_BELOW);
    let others: Vec<usize> = (1..10).collect();
    site.fabric.split(&[0], &others);
    site.dead.insert(3);
    let took = site.until("it knows by itself", 25 * SECOND, |site| !site.used(0, 3));
    println!("a node that was cut off knew after {took:?}");
    site.run(10 * SECOND);
    assert!((0..6).all(|backend| site.checkers(backend).contains(&0)));
    site.fabric.heal();
    site.run(60 * SECOND);
    assert!(site.turns.iter().all(|(_, backend, _)| *backend == 3), "{:?}", site.turns);
    assert!((0..6).all(|backend| site.checkers(backend).len() == CHECKERS));
}

#[test]
fn a_node_without_a_way_to_its_backends_finds_out_although_it_checks_only_some() {
    let mut site = Site::new(66, LAN, 10, 8, ALL_BELOW);
    let ill = (0..10).find(|node| (0..8).any(|backend| site.checkers(backend).contains(node)));
    let ill = ill.unwrap();
    site.no_way.extend((0..8).map(|backend| (ill, backend)));
    let took = site
        .until("it knows that it is ill", 60 * SECOND, |site| site.fabric.machine(ill).impaired());
    println!("it took itself for ill after {took:?}");
    assert!((0..8).all(|backend| !site.used(ill, backend)));
    for node in site.fabric.living().into_iter().filter(|node| *node != ill) {
        assert!(!site.fabric.machine(node).impaired());
        assert!((0..8).all(|backend| site.used(node, backend)));
    }
    site.no_way.clear();
    site.until("it is well again", 60 * SECOND, |site| {
        !site.fabric.machine(ill).impaired() && (0..8).all(|backend| site.used(ill, backend))
    });
    site.run(30 * SECOND);
    assert!((0..8).all(|backend| site.checkers(backend).len() == CHECKERS));
}

#[test]
fn one_bad_path_makes_no_node_ill() {
    let mut site = Site::new(67, LAN, 10, 8, ALL_BELOW);
    let near = site.checkers(0)[0];
    let far = (0..10).find(|node| !site.checkers(0).contains(node)).unwrap();
    site.no_way.extend([(near, 0), (far, 0)]);
    site.connect_fails(far, 0);
    site.until("both have lost the backend", 20 * SECOND, |site| {
        !site.used(near, 0) && !site.used(far, 0)
    });
    for _ in 0..60 {
        site.run(SECOND);
        assert!(site.fabric.living().iter().all(|node| !site.fabric.machine(*node).impaired()));
        assert!(!site.used(near, 0), "its own eyes are final");
        assert!(!site.used(far, 0), "its own eyes are final");
    }
    let wrong = |turn: &&(usize, usize, Verdict)| turn.1 != 0 || ![near, far].contains(&turn.0);
    assert_eq!(site.turns.iter().find(wrong), None);
}
