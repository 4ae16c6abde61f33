//! What gossip costs real nodes: when nothing happens, and when somebody forges it by the thousand.

use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use tidegate::base::{Actor, BootId, NodeId};
use tidegate::cluster::identity::Identity;
use tidegate::cluster::keyring::{Key, KeyId};
use tidegate::cluster::wire::records::{Join, Leaving, Meta, Record, ViewBeat};
use tidegate::cluster::wire::{Cover, Envelope, Kind, Seal};

use crate::harness::node::Node;
use crate::harness::trio::{NAMES, Trio};
use crate::harness::{report, turn, until};

/// Promise: what an idle node sends, bytes a second.
const IDLE: f64 = 1000.0;
/// Forged datagrams a second, and what they may cost: a share of a core.
const FLOOD: u32 = 2000;
const COST: f64 = 0.05;
const SECONDS: u32 = 10;

#[test]
#[ignore = "starts processes and measures time: run with cargo test --test e2e -- --ignored"]
fn an_idle_real_node_sends_less_than_a_kilobyte_a_second() {
    let Some(_turn) = turn(&[]) else { return };
    let trio = Trio::start(&["rate_limit: { requests_per_second: 1000 }"]);
    // Names, first verdicts and first views are told by then.
    thread::sleep(Duration::from_secs(5));
    let sent = |node: &Node| {
        node.metric("tidegate_gossip_bytes_total", &["direction=\"sent\""]).unwrap_or_default()
    };
    let (start, before): (_, Vec<f64>) = (Instant::now(), trio.nodes.iter().map(sent).collect());
    // Longer than anything that is done periodically.
    thread::sleep(Duration::from_secs(35));
    let took = start.elapsed().as_secs_f64();
    let rates: Vec<f64> =
        trio.nodes.iter().zip(before).map(|(node, before)| (sent(node) - before) / took).collect();
    report(&format!("idle: {rates:.0?} bytes of gossip a second"));
    assert!(rates.iter().all(|rate| *rate > 50.0 && *rate < IDLE), "{rates:?}");
}

#[test]
#[ignore = "starts processes and measures time: run with cargo test --test e2e -- --ignored"]
fn a_flood_of_forged_datagrams_changes_nothing_and_costs_little() {
    let Some(_turn) = turn(&[]) else { return };
    let rule = ["rate_limit: { requests_per_second: 1000 }"];
    endures(&Trio::start(&rule), "sealed");
    endures(&Trio::plaintext(&rule), "plaintext");
}

fn endures(trio: &Trio, what: &str) {
    let node = &trio.nodes[0];
    let (target, _) = gossip(node, "n1");
    let (_, member) = gossip(node, "n2");
    // As its thread counts them: what has been heard when it is asked.
    let dropped = || node.metric("tidegate_gossip_dropped_total", &[]).unwrap_or_default();
    let state = || {
        let books = node.metric("tidegate_limit_books_rows", &[]);
        let alive: Vec<String> =
            node.members().into_iter().map(|(n, s)| format!("{n} {s}")).collect();
        (books, alive)
    };
    let before = (state(), dropped());

    thread::sleep(Duration::from_secs(2));
    let idle = share_of_a_core(node, || thread::sleep(Duration::from_secs(5)));
    let mut sent = 0;
    let flooded = share_of_a_core(node, || sent = flood(target, member));
    let cost = flooded - idle;
    report(&format!(
        "flood of {FLOOD}/s, {what}: {:.2} % of a core, idle {:.2} %",
        flooded * 100.0,
        idle * 100.0
    ));
    // Some may be lost in the kernel of a busy machine.
    let heard = dropped() - before.1;
    assert!(heard > 0.9 * f64::from(sent), "{heard} of {sent} were heard");
    assert_eq!(state(), before.0, "members or books changed");
    assert!(trio.nodes.iter().all(|node| node.sees_alive(&NAMES)));
    assert!(cost < COST, "{cost} of a core");
}

/// Two thousand a second from one socket: noise, another cluster's, well made ones of strangers that
/// want in, are leaving, count, and compare views, and ones that are sealed under a key that only has
/// the right name, as a stranger's and as a member's. How many were sent.
fn flood(target: SocketAddr, member: Actor) -> u32 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let start = Instant::now();
    let mut sent = 0;
    while sent < FLOOD * SECONDS {
        let due = start + Duration::from_secs(1) * sent / FLOOD;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        for _ in 0..20 {
            socket.send_to(&forged(sent, member), target).unwrap();
            sent += 1;
        }
    }
    sent
}

fn forged(number: u32, member: Actor) -> Vec<u8> {
    let actor = Actor { node: NodeId(u64::from(number) + 1), boot: BootId::new(7) };
    let address = SocketAddr::from(([127, 0, 0, 9], 1024 + (number % 60_000) as u16));
    let identity = Identity { actor, address, generation: 1_700_000_000_000 };
    let text = || "forged".to_owned();
    let (name, digest, version) = (text(), text(), text());
    let meta = Meta { actor, seq: 1, name, digest, version, keys: Vec::new(), sync: None };
    let leaving = |actor| Record::Leaving(Leaving { actor }).bytes();
    let mut ours = Envelope::new("default", actor);
    match number % 8 {
        0 => (0..200u32).map(|byte| (byte.wrapping_mul(number) >> 3) as u8).collect(),
        1 => Envelope::new("other", actor).seal(Kind::Meta, None, &Record::AskMeta.bytes()),
        2 => ours.seal(Kind::Join, None, &Record::Join(Join { identity, nonce: 5, meta }).bytes()),
        3 => ours.seal(Kind::Meta, None, &leaving(actor)),
        4 => ours.seal(Kind::Counters, None, &[6, 0, 2, 1, 0]),
        5 => {
            let beat = ViewBeat { count: 9, hash: number.into(), answer: false };
            ours.seal(Kind::View, None, &Record::ViewBeat(beat).bytes())
        }
        6 => sealed(actor, number, &leaving(actor)),
        _ => sealed(member, number, &leaving(member)),
    }
}

fn sealed(sender: Actor, number: u32, payload: &[u8]) -> Vec<u8> {
    let key = Key::new(KeyId::new(1).unwrap(), [9; 32]);
    let seal = Seal::new(&key, &key.root(), "default", sender);
    // Far ahead, as what was not heard yet is.
    let counter = u64::from(number) + (1 << 40);
    let cover = Cover { kind: Kind::Meta, to: Some(NodeId(1)), counter, answer: None };
    seal.datagram(cover, payload).unwrap()
}

/// Where a member gossips, and which start of it.
fn gossip(node: &Node, name: &str) -> (SocketAddr, Actor) {
    let (found, _) = until("a node knows its members", Duration::from_secs(5), || {
        let members = node.view("members");
        let member = members["members"].as_array()?.iter().find(|member| member["name"] == name)?;
        let hex = |key: &str| u64::from_str_radix(member[key].as_str()?, 16).ok();
        let actor = Actor { node: NodeId(hex("node_id")?), boot: BootId::new(hex("boot_id")?) };
        Some((member["address"].as_str()?.parse().ok()?, actor))
    });
    found
}

/// What a node uses of one processor while something is done.
fn share_of_a_core(node: &Node, what: impl FnOnce()) -> f64 {
    let (start, before) = (Instant::now(), node.cpu_time());
    what();
    (node.cpu_time() - before).as_secs_f64() / start.elapsed().as_secs_f64()
}
