//! Acts on the simulated fabric: everywhere within a second, whatever the links do; kept over
//! restarts; of contradictory ones, one.

use std::time::Duration;

use tidegate::base::RuleName;
use tidegate::cluster::acts::{MOST_PLACES, Order, Place, Subject};
use tidegate::cluster::machine::Input;
use tidegate::cluster::wire::Kind;

use crate::fabric::{BAD, Disk, EPOCH_MS, Fabric, LAN};

const SECOND: Duration = Duration::from_secs(1);
pub(crate) const BAN: Order = Order::Ban { cut: false };

pub(crate) fn client(at: u32) -> Subject {
    Subject::Client(std::net::IpAddr::from(at.to_be_bytes()).into())
}

/// `node` orders it.
pub(crate) fn act(
    fabric: &mut Fabric,
    node: usize,
    about: &Subject,
    order: Order,
    length: Option<Duration>,
) {
    let gone = (fabric.now - fabric.began).as_millis() as u64;
    let acts = fabric.hosts[node].acts.clone();
    acts.issue(fabric.now, EPOCH_MS + gone, &[(about.clone(), order)], length).unwrap();
    fabric.input(node, Input::Urgent);
}

/// Whether it holds at `node`.
pub(crate) fn holds(fabric: &Fabric, node: usize, about: &Subject) -> bool {
    fabric.hosts[node].acts.holding(fabric.now, about).is_some()
}

pub(crate) fn everywhere(fabric: &Fabric, about: &Subject) -> bool {
    fabric.living().iter().all(|node| holds(fabric, *node, about))
}

fn nowhere(fabric: &Fabric, about: &Subject) -> bool {
    fabric.living().iter().all(|node| !holds(fabric, *node, about))
}

pub(crate) fn one_mind(fabric: &Fabric) -> bool {
    let living = fabric.living();
    let first = fabric.hosts[living[0]].acts.digest();
    living.iter().all(|node| fabric.hosts[*node].acts.digest() == first)
}

#[test]
fn an_act_holds_everywhere_within_a_second() {
    for (links, name) in [(LAN, "no loss"), (BAD, "5 % loss")] {
        for nodes in [3, 10, 100] {
            let mut fabric = Fabric::cluster(30, links, nodes);
            let mut worst = Duration::ZERO;
            for round in 0..(if nodes == 100 { 4 } else { 50 }) {
                fabric.run(Duration::from_millis(700));
                let about = client(round);
                act(&mut fabric, round as usize % nodes, &about, BAN, None);
                let took = fabric.until("the ban is everywhere", SECOND, |f| everywhere(f, &about));
                let other = (round as usize + 1) % nodes;
                act(&mut fabric, other, &about, Order::Lifted, None);
                let back = fabric.until("it is lifted", SECOND, |f| nowhere(f, &about));
                worst = worst.max(took).max(back);
            }
            println!("{nodes} nodes, {name}: everywhere after {worst:?} at the latest");
        }
    }
}

#[test]
fn a_ban_ends_everywhere_by_itself() {
    let mut fabric = Fabric::cluster(31, BAD, 3);
    act(&mut fabric, 0, &client(1), BAN, Some(10 * SECOND));
    fabric.until("it is everywhere", SECOND, |f| everywhere(f, &client(1)));
    fabric.run(8 * SECOND);
    assert!(everywhere(&fabric, &client(1)));
    fabric.until("it is over", 3 * SECOND, |f| nowhere(f, &client(1)));
}

#[test]
fn who_was_cut_off_learns_what_was_done_meanwhile_and_tells_what_it_did() {
    for nodes in [3, 10, 100] {
        let mut fabric = Fabric::cluster(32, BAD, nodes);
        act(&mut fabric, 0, &client(1), BAN, None);
        fabric.until("it is everywhere", SECOND, |f| everywhere(f, &client(1)));
        let all: Vec<usize> = (0..nodes).collect();
        let (one, other) = all.split_at(nodes / 3);
        fabric.split(one, other);
        fabric.run(20 * SECOND);
        // Contradictory acts on both sides, the later on the side of the few.
        act(&mut fabric, nodes - 1, &client(1), BAN, Some(3600 * SECOND));
        act(&mut fabric, nodes - 1, &client(2), BAN, None);
        fabric.run(SECOND);
        act(&mut fabric, 0, &client(1), Order::Lifted, None);
        fabric.run(SECOND);
        assert!(holds(&fabric, nodes - 1, &client(1)) && !holds(&fabric, 0, &client(1)));
        fabric.heal();
        fabric.until("they see each other", 30 * SECOND, Fabric::one_view);
        let took = fabric.until("all hold the same", 2 * SECOND, |fabric| {
            one_mind(fabric) && nowhere(fabric, &client(1)) && everywhere(fabric, &client(2))
        });
        println!("{nodes} nodes: of one mind {took:?} after the heal was seen");
    }
}

#[test]
fn a_restarted_node_has_all_acts_before_it_says_that_its_cluster_answered() {
    let mut fabric = Fabric::cluster(33, LAN, 3);
    for at in 0..500 {
        act(&mut fabric, 0, &client(at), BAN, None);
    }
    fabric.until("they are everywhere", SECOND, |f| everywhere(f, &client(499)) && one_mind(f));
    for node in [1, 2, 0] {
        fabric.kill(node);
        fabric.run(5 * SECOND);
        fabric.start(node);
        assert!(!holds(&fabric, node, &client(0)));
        let took = fabric
            .until("its cluster answered", 3 * SECOND, |fabric| fabric.machine(node).answered());
        println!("answered after {took:?}");
        assert!((0..500).all(|at| holds(&fabric, node, &client(at))));
    }
}

#[test]
fn all_nodes_restart_at_once_and_their_disks_keep_the_acts() {
    let mut fabric = Fabric::new(34, LAN);
    for node in 0..3 {
        fabric.host();
        // One of three has a disk: enough.
        fabric.hosts[node].disk = (node == 1).then(Disk::default);
    }
    (0..3).for_each(|node| fabric.start(node));
    fabric.until("one view", 5 * SECOND, Fabric::one_view);
    act(&mut fabric, 0, &client(1), BAN, None);
    act(&mut fabric, 2, &client(2), BAN, Some(3600 * SECOND));
    act(&mut fabric, 2, &client(3), BAN, None);
    fabric.run(SECOND);
    act(&mut fabric, 2, &client(3), Order::Lifted, None);
    fabric.run(SECOND);
    (0..3).for_each(|node| fabric.kill(node));
    fabric.run(10 * SECOND);
    (0..3).for_each(|node| fabric.start(node));
    fabric.until("one view again", 5 * SECOND, Fabric::one_view);
    fabric.until("the acts are back", 2 * SECOND, |fabric| {
        everywhere(fabric, &client(1)) && everywhere(fabric, &client(2))
    });
    assert!(nowhere(&fabric, &client(3)), "a lifted ban came back to life");
}

#[test]
fn a_full_table_of_bans_reaches_a_new_node_and_costs_no_more_than_it_may() {
    let mut fabric = Fabric::cluster(35, LAN, 2);
    const MANY: u32 = 20_000;
    let orders: Vec<_> = (0..MANY).map(|at| (client(at), BAN)).collect();
    let acts = fabric.hosts[0].acts.clone();
    acts.issue(fabric.now, EPOCH_MS, &orders, None).unwrap();
    fabric.input(0, Input::Urgent);
    let took = fabric.until("both have them", 30 * SECOND, one_mind);
    println!("{MANY} bans told to one peer in {took:?}");
    let late = fabric.host();
    fabric.start(late);
    let took = fabric.until("the new node has them", 30 * SECOND, |fabric| {
        fabric.machine(late).alive() == 3 && one_mind(fabric)
    });
    println!("and to a new node in {took:?}");
    assert_eq!(fabric.hosts[late].acts.digest().count, MANY);
    // Once of one mind there is nothing left to say but the digests.
    fabric.run(3 * SECOND);
    let before: u64 = sent(&fabric);
    fabric.run(10 * SECOND);
    let per_second = (sent(&fabric) - before) / 10 / 3;
    println!("{per_second} bytes a second and node about acts at rest");
    assert!(per_second < 60);
}

fn sent(fabric: &Fabric) -> u64 {
    let of = |node: &usize| fabric.machine(*node).traffic().sent_of(Kind::Acts).1;
    fabric.living().iter().map(of).sum()
}

/// A node that cannot take what another has (it is full, or of an older version) must not ask for it
/// for ever.
#[test]
fn nodes_that_cannot_come_to_one_mind_do_not_shout() {
    let mut fabric = Fabric::cluster(36, LAN, 2);
    fabric.split(&[0], &[1]);
    // Each side fills its table with its own.
    for node in [0, 1u8] {
        let drain = |at: usize| {
            let backend = format!("10.{node}.{}.{}:80", at / 256, at % 256).parse().unwrap();
            Subject::Drain(Place { rule: RuleName::from("web"), backend })
        };
        let orders: Vec<_> =
            (0..MOST_PLACES).map(|at| (drain(at), Order::Drain { mark: 1 })).collect();
        let acts = fabric.hosts[usize::from(node)].acts.clone();
        acts.issue(fabric.now, EPOCH_MS, &orders, None).unwrap();
    }
    fabric.run(20 * SECOND);
    fabric.heal();
    fabric.until("they see each other", 30 * SECOND, Fabric::one_view);
    fabric.run(180 * SECOND);
    assert!(!one_mind(&fabric));
    let before = sent(&fabric);
    fabric.run(600 * SECOND);
    let per_second = (sent(&fabric) - before) / 600 / 2;
    println!("{per_second} bytes a second and node");
    assert!(per_second < 300);
    // A ban, of which there is room for more, passes all the same.
    act(&mut fabric, 0, &client(1), BAN, None);
    fabric.until("the ban is everywhere", SECOND, |f| everywhere(f, &client(1)));
}
