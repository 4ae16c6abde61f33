//! Caps over the cluster in virtual time: real machines, real purses, connections that come and go.
//! In every run the permits that all nodes hold are counted each millisecond.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt;
use tidegate::base::{Actor, BootId, KeyHash, LimitId, NodeId};
use tidegate::cluster::MemberState;
use tidegate::cluster::asks::Ticket;
use tidegate::cluster::machine::{Input, Setup};
use tidegate::cluster::owners::Owners;
use tidegate::traffic::{Answer, CapKey, Holder, Holding};

use crate::fabric::{BAD, Fabric, LAN, Links};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);
/// What a connection may wait for its permit, and a millisecond of ours.
const BOUND: Duration = Duration::from_millis(22);

/// One key with its cap on every host, and those who connect.
struct Lab {
    fabric: Fabric,
    key: CapKey,
    cap: u32,
    holdings: Vec<Option<Arc<Holding>>>,
    live: Vec<u32>,
    waiting: Vec<Waiting>,
    next_ticket: u64,
    /// Nobody may hold more than the cap, all together.
    exact: bool,
    tally: Tally,
}

struct Waiting {
    host: usize,
    ticket: Ticket,
    since: Instant,
    asks: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    admitted: u32,
    refused: u32,
    unasked: u32,
    longest: Duration,
}

impl Lab {
    fn new(seed: u64, links: Links, nodes: usize, cap: u32) -> Lab {
        let fabric = Fabric::cluster(seed, links, nodes);
        let mut lab = Lab {
            fabric,
            key: CapKey { limit: LimitId(5), key: KeyHash(seed) },
            cap,
            holdings: Vec::new(),
            live: Vec::new(),
            waiting: Vec::new(),
            next_ticket: 0,
            exact: true,
            tally: Tally::default(),
        };
        (0..nodes).for_each(|host| lab.open(host));
        // Everybody has settled.
        lab.run(4 * SECOND);
        lab
    }

    /// `host` begins to serve.
    fn open(&mut self, host: usize) {
        self.holdings.resize(self.fabric.hosts.len(), None);
        self.live.resize(self.fabric.hosts.len(), 0);
        let holding = self.fabric.hosts[host].holdings.holding(self.key, self.cap);
        (self.holdings[host], self.live[host]) = (Some(holding), 0);
    }

    /// Everybody goes, and another key is looked at.
    fn rekey(&mut self, key: KeyHash) {
        for host in self.fabric.living() {
            while self.live[host] > 0 {
                self.disconnect(host);
            }
        }
        self.key.key = key;
        self.fabric.living().into_iter().for_each(|host| self.open(host));
    }

    fn kill(&mut self, host: usize) {
        self.fabric.kill(host);
        (self.holdings[host], self.live[host]) = (None, 0);
        self.waiting.retain(|waiting| waiting.host != host);
    }

    fn connect(&mut self, host: usize) {
        let taken = self.holdings[host].as_ref().expect("it serves").take();
        if taken {
            self.live[host] += 1;
            self.tally.admitted += 1;
            self.wake(host);
        } else {
            self.ask(host, self.fabric.now, 1);
        }
    }

    /// As the bell does.
    fn wake(&mut self, host: usize) {
        self.fabric.input(host, Input::Urgent);
    }

    fn ask(&mut self, host: usize, since: Instant, asks: u32) {
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        self.waiting.push(Waiting { host, ticket, since, asks });
        let ask = self.key.ask(self.cap);
        self.fabric.input(host, Input::Ask { ticket, ask });
    }

    fn disconnect(&mut self, host: usize) {
        self.live[host] -= 1;
        self.holdings[host].as_ref().expect("it serves").give();
        self.wake(host);
    }

    fn run(&mut self, time: Duration) {
        let until = self.fabric.now + time;
        while self.fabric.now < until {
            self.fabric.run(MS);
            self.answers();
            self.count();
        }
    }

    fn answers(&mut self) {
        for (host, ticket, answer) in std::mem::take(&mut self.fabric.answers) {
            let who = |waiting: &Waiting| (waiting.host, waiting.ticket) == (host, ticket);
            let Some(at) = self.waiting.iter().position(who) else { continue };
            let Waiting { since, asks, .. } = self.waiting.swap_remove(at);
            let holding = self.holdings[host].clone().expect("it serves");
            let taken = match answer {
                Answer::Granted { .. } => holding.take(),
                Answer::Refused { .. } => false,
                Answer::Nobody => {
                    let taken = self.fabric.hosts[host].holdings.take_holding_unasked(&holding);
                    self.tally.unasked += u32::from(taken);
                    taken
                }
            };
            let waited = self.fabric.now - since;
            self.tally.longest = self.tally.longest.max(waited);
            if taken {
                self.live[host] += 1;
                self.tally.admitted += 1;
                self.wake(host);
            } else if matches!(answer, Answer::Granted { .. }) && asks < 4 {
                self.ask(host, since, asks + 1);
            } else {
                self.tally.refused += 1;
            }
        }
    }

    fn held_by(&self, host: usize) -> u32 {
        self.fabric.hosts[host].holdings.look(self.key).map_or(0, |standing| standing.held)
    }

    fn held(&self) -> u32 {
        self.fabric.living().into_iter().map(|host| self.held_by(host)).sum()
    }

    fn in_use(&self) -> u32 {
        self.live.iter().sum()
    }

    fn count(&self) {
        let held = self.held();
        assert!(!self.exact || held <= self.cap, "{held} of {} held: {}", self.cap, self.state());
        for host in self.fabric.living().into_iter().filter(|host| *host < self.live.len()) {
            let used = self.holdings[host].as_ref().map_or(0, |holding| holding.used());
            assert_eq!(used, self.live[host]);
        }
    }

    fn state(&self) -> String {
        let held: Vec<u32> = self.fabric.living().iter().map(|host| self.held_by(*host)).collect();
        format!("held {held:?}, live {:?}, {:?}", self.live, self.tally)
    }

    /// What happened since this was last asked.
    fn tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    /// Connects one after another, until `wanted` are in on `hosts` in turn; how many are.
    fn fill(&mut self, hosts: &[usize], wanted: u32) -> u32 {
        for n in 0..wanted {
            self.connect(hosts[n as usize % hosts.len()]);
            self.run(25 * MS);
        }
        hosts.iter().map(|host| self.live[*host]).sum()
    }

    fn owner(&self) -> usize {
        self.by_rank(0)
    }

    /// The host that is primary (0) or backup (1) for the key.
    fn by_rank(&self, rank: usize) -> usize {
        let living = self.fabric.living();
        let actor = |host: &usize| self.fabric.machine(*host).identity().actor;
        let pair = Owners::new(living.iter().map(actor)).of(self.key.limit, self.key.key).unwrap();
        let wanted = if rank == 0 { pair.primary } else { pair.backup.unwrap() };
        living.into_iter().find(|host| actor(host) == wanted).unwrap()
    }
}

#[test]
fn the_nodes_never_hold_more_than_the_cap_whatever_the_links_do() {
    for (nodes, cap, links) in [
        (3, 1, LAN),
        (3, 5, BAD),
        (3, 40, BAD),
        (10, 2, BAD),
        (10, 5, LAN),
        (10, 30, Links { twice: 0.2, ..BAD }),
        (10, 500, BAD),
    ] {
        let mut lab = Lab::new(1, links, nodes, cap);
        lab.tally();
        for _ in 0..6_000 {
            let host = lab.fabric.rng.random_range(0..nodes);
            // Now too many come, now most of them go.
            let crowd = (lab.fabric.now - lab.fabric.began).as_secs() % 4 < 2;
            let comes = lab.fabric.rng.random_bool(if crowd { 0.7 } else { 0.3 });
            match comes {
                true if lab.waiting.len() < 50 => lab.connect(host),
                false if lab.live[host] > 0 => lab.disconnect(host),
                _ => {}
            }
            lab.run(2 * MS);
        }
        let tally = lab.tally();
        println!("{nodes} nodes, cap {cap}: {tally:?}");
        assert!(tally.admitted > 300 && tally.unasked == 0, "{tally:?}");
        // Asked again, four times in all, when somebody else was quicker.
        assert!(tally.longest <= BOUND * 4, "{tally:?}");
    }
}

#[test]
fn a_small_cap_is_used_to_the_last_permit_and_nobody_is_refused_for_idle_ones() {
    for (nodes, cap) in [(3, 1), (10, 1), (10, 2), (10, 5), (100, 1), (100, 5)] {
        let mut lab = Lab::new(62, LAN, nodes, cap);
        lab.tally();
        for _ in 0..200 {
            // A place is free somewhere, and somebody comes anywhere.
            if lab.in_use() == cap {
                let busy: Vec<usize> = (0..nodes).filter(|host| lab.live[*host] > 0).collect();
                let host = busy[lab.fabric.rng.random_range(0..busy.len())];
                lab.disconnect(host);
                let pause = lab.fabric.rng.random_range(0..5);
                lab.run(pause * MS);
            }
            let host = lab.fabric.rng.random_range(0..nodes);
            lab.connect(host);
            lab.run(30 * MS);
        }
        let tally = lab.tally();
        println!("{nodes} nodes, cap {cap}: {tally:?}");
        assert_eq!((tally.admitted, tally.refused), (200, 0), "cap {cap} on {nodes} nodes");
        assert!(tally.longest <= BOUND, "{tally:?}");
    }
}

#[test]
fn who_is_over_the_cap_is_refused_in_half_the_longest_wait() {
    let mut lab = Lab::new(63, LAN, 5, 10);
    assert_eq!(lab.fill(&[0, 1, 2, 3, 4], 10), 10);
    lab.run(SECOND);
    lab.tally();
    for n in 0..50 {
        lab.connect(n % 5);
        lab.run(30 * MS);
    }
    let tally = lab.tally();
    assert_eq!((tally.admitted, tally.refused), (0, 50));
    // Answers are looked at every millisecond.
    assert!(tally.longest <= 11 * MS, "{tally:?}");
}

#[test]
fn a_dead_nodes_permits_return_when_it_is_surely_gone_and_no_sooner() {
    let mut lab = Lab::new(64, LAN, 4, 8);
    let dead = (0..4).find(|host| ![lab.owner(), lab.by_rank(1)].contains(host)).unwrap();
    let others: Vec<usize> = (0..4).filter(|host| *host != dead).collect();
    assert_eq!(lab.fill(&[dead], 5), 5);
    assert_eq!(lab.fill(&others, 5), 3, "the cap is reached");
    lab.kill(dead);
    lab.fabric.until("it is failed", 5 * SECOND, |fabric| {
        fabric.state(others[0], dead) == Some(MemberState::Failed)
    });
    lab.run(4 * SECOND);
    assert_eq!(lab.fill(&others, 1), 3, "its connections may live on at the backends");
    lab.run(2 * SECOND);
    assert_eq!(lab.fill(&others, 6), 8);
}

#[test]
fn who_leaves_takes_no_permit_along() {
    let mut lab = Lab::new(65, LAN, 4, 8);
    let leaver = (0..4).find(|host| ![lab.owner(), lab.by_rank(1)].contains(host)).unwrap();
    let others: Vec<usize> = (0..4).filter(|host| *host != leaver).collect();
    lab.fill(&[leaver], 5);
    lab.fabric.input(leaver, Input::Leaving);
    lab.run(SECOND);
    assert_eq!(lab.fill(&others, 5), 3, "it drains, and counts");
    lab.fabric.input(leaver, Input::Leave);
    lab.run(SECOND / 10);
    lab.kill(leaver);
    lab.run(SECOND / 2);
    assert_eq!(lab.fill(&others, 8), 8);
}

#[test]
fn an_owner_that_leaves_is_followed_without_a_refusal() {
    let mut lab = Lab::new(66, LAN, 4, 20);
    let leaver = lab.owner();
    let others: Vec<usize> = (0..4).filter(|host| *host != leaver).collect();
    lab.fill(&others, 10);
    lab.tally();
    lab.fabric.input(leaver, Input::Leaving);
    for n in 0..9 {
        lab.connect(others[n % 3]);
        lab.run(30 * MS);
    }
    lab.fabric.input(leaver, Input::Leave);
    lab.run(SECOND);
    let tally = lab.tally();
    assert_eq!((tally.admitted, tally.refused, tally.unasked), (9, 0, 0));
}

#[test]
fn an_owner_that_dies_is_followed_within_a_second_and_nobody_is_cut() {
    let mut lab = Lab::new(67, LAN, 5, 20);
    let owner = lab.owner();
    let others: Vec<usize> = (0..5).filter(|host| *host != owner).collect();
    lab.fill(&others, 10);
    let held = lab.held();
    assert!((10..=20).contains(&held));
    lab.kill(owner);
    let died = lab.fabric.now;
    lab.tally();
    while lab.in_use() < 20 && lab.fabric.now < died + 3 * SECOND {
        let host = others[lab.fabric.rng.random_range(0..4)];
        lab.connect(host);
        lab.run(20 * MS);
    }
    let took = lab.fabric.now - died;
    println!("full again {took:?} after its owner died: {:?}", lab.tally());
    assert!(lab.in_use() == 20 && took < 2 * SECOND, "{took:?} {}", lab.state());
    // The members agree that it is gone, and the cap stands.
    lab.run(12 * SECOND);
    lab.fill(&others, 5);
    assert_eq!(lab.in_use(), 20);
}

#[test]
fn who_joins_takes_over_books_without_a_gap() {
    let mut lab = Lab::new(68, LAN, 3, 6);
    for round in 0..8u64 {
        let host = lab.fabric.host();
        let old = host;
        let actor = Actor { node: NodeId(round + 1), boot: BootId::new(round + 1) };
        // A key whose books the newcomer will keep.
        let living = lab.fabric.living();
        let mut all: Vec<Actor> =
            living.iter().map(|host| lab.fabric.machine(*host).identity().actor).collect();
        all.push(actor);
        let owners = Owners::new(all);
        let theirs = |key: &u64| {
            owners.of(lab.key.limit, KeyHash(*key)).is_some_and(|pair| pair.primary == actor)
        };
        let key = (0..1000).find(theirs).unwrap();
        lab.rekey(KeyHash(key));
        lab.fill(&living, 3);
        lab.tally();
        let name = lab.fabric.hosts[host].name.as_str().into();
        let at = lab.fabric.hosts[host].advertised;
        let setup = Setup {
            label: "sim".to_owned(),
            digest: "digest".to_owned(),
            seeds: true,
            unix_ms: crate::fabric::EPOCH_MS + 1_000_000,
            ..Setup::new(actor, name, at)
        };
        lab.fabric.start_as(host, setup);
        let began = lab.fabric.now;
        let mut tallies = [Tally::default(); 2];
        // Every other time far too many come while the books change hands.
        while round % 2 == 0 && lab.fabric.now < began + SECOND {
            for host in 0..old {
                lab.connect(host);
            }
            lab.run(MS);
            if lab.fabric.rng.random_bool(0.1) {
                let busy = (0..old).find(|host| lab.live[*host] > 0);
                busy.into_iter().for_each(|host| lab.disconnect(host));
            }
        }
        lab.run(50 * MS);
        lab.tally();
        while lab.fabric.now < began + 6 * SECOND {
            let early = lab.fabric.now < began + SECOND / 2;
            if lab.in_use() == 6 {
                let busy: Vec<usize> = (0..old).filter(|host| lab.live[*host] > 0).collect();
                let busy = busy[lab.fabric.rng.random_range(0..busy.len())];
                lab.disconnect(busy);
                lab.run(3 * MS);
            }
            let host = lab.fabric.rng.random_range(0..old);
            lab.connect(host);
            lab.run(30 * MS);
            let tally = lab.tally();
            tallies[usize::from(!early)].refused += tally.refused;
            tallies[usize::from(!early)].admitted += tally.admitted;
        }
        println!("joined: before and after all know of it: {tallies:?}");
        assert_eq!(lab.owner(), host, "the test is about another key");
        assert_eq!(tallies[1].refused, 0);
        assert!(tallies[0].refused <= 4, "{tallies:?}");
        lab.open(host);
    }
}

#[test]
fn a_partition_leaves_each_side_its_permits_then_the_cap_and_heals_by_draining() {
    let mut lab = Lab::new(69, LAN, 6, 12);
    let (one, other) = ([0, 1, 2], [3, 4, 5]);
    assert_eq!(lab.fill(&one, 4) + lab.fill(&other, 4), 8);
    lab.fabric.split(&one, &other);
    lab.exact = false;
    // What nobody held may be lent on either side, once each.
    for _ in 0..40 {
        lab.connect(0);
        lab.connect(3);
        lab.run(100 * MS);
    }
    assert!((8..=16).contains(&lab.in_use()), "{}", lab.state());
    lab.run(10 * SECOND);
    assert_eq!((lab.fill(&one, 15), lab.fill(&other, 15)), (12, 12));
    lab.fabric.heal();
    lab.fabric.until("one view", 20 * SECOND, Fabric::one_view);
    lab.run(2 * SECOND);
    assert_eq!(lab.in_use(), 24, "nobody is cut");
    // Until enough have gone, nobody comes.
    lab.tally();
    for n in 0..24 {
        if lab.live[n % 6] > 0 {
            lab.disconnect(n % 6);
        }
        lab.run(10 * MS);
        if lab.in_use() >= 12 {
            lab.connect((n + 1) % 6);
            lab.run(30 * MS);
        }
    }
    lab.run(SECOND);
    assert!(lab.held() <= 12, "{}", lab.state());
    lab.exact = true;
    let all = [0, 1, 2, 3, 4, 5];
    lab.fill(&all, 14);
    assert_eq!(lab.in_use(), 12);
}

#[test]
fn alone_a_node_has_the_whole_cap() {
    let mut lab = Lab::new(70, LAN, 1, 7);
    assert_eq!(lab.fill(&[0], 9), 7);
    assert_eq!(lab.tally().refused, 2);
}

#[test]
fn an_owner_that_stands_still_cuts_nobody_and_the_cap_holds_again_after_it() {
    let mut lab = Lab::new(71, LAN, 4, 12);
    let owner = lab.owner();
    let others: Vec<usize> = (0..4).filter(|host| *host != owner).collect();
    lab.fill(&others, 6);
    lab.fabric.stall(owner, Duration::from_millis(1200));
    // The owner's own word from before may be heard late: a fault, after which the sum drains.
    lab.exact = false;
    lab.run(SECOND);
    lab.fill(&others, 4);
    assert!(lab.in_use() >= 6);
    lab.run(3 * SECOND);
    while lab.in_use() > 0 {
        let busy = (0..4).find(|host| lab.live[*host] > 0).unwrap();
        lab.disconnect(busy);
        lab.run(5 * MS);
    }
    lab.run(3 * SECOND);
    lab.exact = true;
    assert_eq!(lab.fill(&others, 14), 12);
}

/// `keys` clients come once each, `per_ms` a millisecond, over three nodes, stay 50 ms and go.
fn flood(keys: u64, per_ms: u64) {
    let mut fabric = Fabric::cluster(72, LAN, 3);
    fabric.run(4 * SECOND);
    let key =
        |n: u64| CapKey { limit: LimitId(9), key: KeyHash(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)) };
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    };
    let (before, sent_before) = (resident(), fabric.machine(0).traffic().bytes_sent());
    let (mut served, mut refused, mut unasked) = (0u64, 0u64, 0u64);
    let (mut most_claimed, mut most_booked, mut most_resident) = (0, 0, 0);
    let mut leaving = std::collections::VecDeque::new();
    let began = fabric.now;
    let mut next = 0;
    while next < keys || !leaving.is_empty() {
        for _ in 0..per_ms.min(keys - next) {
            let host = (next % 3) as usize;
            let ask = key(next).ask(4);
            fabric.input(host, Input::Ask { ticket: Ticket(next), ask });
            next += 1;
        }
        fabric.run(MS);
        for (host, ticket, answer) in std::mem::take(&mut fabric.answers) {
            let holdings = &fabric.hosts[host].holdings;
            let taken = match answer {
                Answer::Granted { .. } => holdings.take(key(ticket.0), 4),
                Answer::Refused { .. } => false,
                Answer::Nobody => {
                    unasked += 1;
                    holdings.take_unasked(key(ticket.0), 4)
                }
            };
            served += u64::from(taken);
            refused += u64::from(!taken);
            if taken {
                leaving.push_back((fabric.now + 50 * MS, host, ticket.0));
            }
        }
        while leaving.front().is_some_and(|(at, ..)| *at <= fabric.now) {
            let Some((_, host, n)) = leaving.pop_front() else { break };
            fabric.hosts[host].holdings.give(key(n));
        }
        (0..3).for_each(|host| fabric.input(host, Input::Urgent));
        if next.is_multiple_of(per_ms * 100) {
            let leases = fabric.machine(0).figures().leases;
            most_claimed = most_claimed.max(leases.claimed);
            most_booked = most_booked.max(leases.booked);
            most_resident = most_resident.max(resident());
        }
    }
    let seconds = (fabric.now - began).as_secs_f64();
    let sent = (fabric.machine(0).traffic().bytes_sent() - sent_before) as f64 / seconds;
    fabric.run(20 * SECOND);
    let leases = fabric.machine(0).figures().leases;
    println!(
        "{keys} clients in {seconds:.1} s: served {served}, refused {refused}, unasked {unasked}; \
         a node sends {:.0} kB/s, claims {most_claimed} and books {most_booked} keys at most; \
         resident {before} → {most_resident} → {} MiB; at the end {leases:?}",
        sent / 1000.0,
        resident()
    );
    assert_eq!((leases.claimed, leases.booked), (0, 0), "{leases:?}");
    assert!(fabric.hosts.iter().all(|host| host.holdings.clients() == 0));
    assert!(fabric.false_downs.is_empty() && fabric.one_view());
    assert!(sent <= (3 << 20) as f64 * 1.1);
    assert!(served > keys * 95 / 100, "{served} of {keys}");
}

#[test]
fn a_flood_of_clients_that_come_once_leaves_nothing_behind() {
    flood(20_000, 10);
}

/// What `docs/limits.md` quotes.
#[test]
#[ignore = "a measurement"]
fn a_million_clients_that_come_once() {
    flood(1_000_000, 20);
}

#[test]
fn datagrams_that_were_changed_on_their_way_break_nothing_for_long() {
    let mut lab = Lab::new(73, LAN, 4, 10);
    // What is changed may be believed, by one that trusts its peers; so nothing is counted here.
    lab.exact = false;
    lab.fabric.mutate = 0.3;
    for _ in 0..3000 {
        let host = lab.fabric.rng.random_range(0..4);
        match lab.fabric.rng.random_bool(0.5) {
            true if lab.waiting.len() < 50 => lab.connect(host),
            false if lab.live[host] > 0 => lab.disconnect(host),
            _ => {}
        }
        lab.run(MS);
    }
    lab.fabric.mutate = 0.0;
    for host in 0..4 {
        while lab.live[host] > 0 {
            lab.disconnect(host);
        }
    }
    // Everybody has told everything once more.
    lab.fabric.run(40 * SECOND);
    lab.run(SECOND);
    lab.exact = true;
    assert_eq!(lab.fill(&[0, 1, 2, 3], 13), 10);
}
