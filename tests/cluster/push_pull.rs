//! Push/pull: what it brings when gossip brings nothing, what it costs, and what callers try in vain.

use std::time::Duration;

use tidegate::base::{Actor, BackendKey, BootId, NodeId};
use tidegate::cluster::acts::ActsBeat;
use tidegate::cluster::figures::SyncFigures;
use tidegate::cluster::keyring::{Key, KeyId};
use tidegate::cluster::machine::{Input, StreamEvent};
use tidegate::cluster::sync::StreamId;
use tidegate::cluster::wire::Kind;
use tidegate::cluster::wire::records::{Record, StateBeat, ViewBeat};
use tidegate::cluster::wire::stream::{Greeting, HELLO, Lane, lanes};
use tidegate::health::Verdict;

use crate::acts::{BAN, act, client, everywhere, holds, one_mind};
use crate::fabric::{BAD, Fabric, LAN};
use crate::malformed;
use crate::support::{ring, sighting};

const SECOND: Duration = Duration::from_secs(1);
/// Gossip that brings what push/pull brings as well.
const GOSSIP: [Kind; 3] = [Kind::Acts, Kind::View, Kind::Health];

fn syncs(fabric: &Fabric, host: usize) -> SyncFigures {
    fabric.machine(host).figures().syncs
}

fn dropped(fabric: &Fabric, host: usize, reason: &str) -> u64 {
    malformed::dropped(&fabric.machine(host).figures(), reason)
}

fn actor(fabric: &Fabric, host: usize) -> Actor {
    fabric.machine(host).identity().actor
}

#[test]
fn a_newcomer_learns_everything_although_gossip_is_lost() {
    let mut fabric = Fabric::cluster(140, BAD, 3);
    let backend = BackendKey { rule: "web".into(), address: ([10, 9, 9, 9], 80).into() };
    for host in 0..3 {
        let verdicts = fabric.hosts[host].verdicts.clone();
        verdicts.note(&backend, fabric.now, sighting(Verdict::Down, fabric.now));
    }
    for number in 0..2000 {
        act(&mut fabric, number as usize % 3, &client(number), BAN, None);
    }
    fabric.until("all have all bans", 30 * SECOND, one_mind);
    fabric.mute = GOSSIP.to_vec();
    let newcomer = fabric.host();
    fabric.start(newcomer);
    let took = fabric.until("the newcomer has them", 3 * SECOND, |fabric| {
        (0..2000).all(|number| holds(fabric, newcomer, &client(number)))
    });
    println!("2000 bans after {took:?}");
    assert_eq!(syncs(&fabric, newcomer).called, 1);
    let votes = fabric.machine(newcomer).votes();
    assert!(!votes[&backend.id()].is_empty(), "what its peer thinks of a backend");
    assert!(fabric.machine(newcomer).answered(), "it is ready: it has what its peers have");
}

#[test]
fn who_was_alone_gives_and_takes_as_soon_as_it_has_a_peer() {
    let mut fabric = Fabric::cluster(141, LAN, 3);
    fabric.split(&[0], &[1, 2]);
    fabric.run(20 * SECOND);
    act(&mut fabric, 0, &client(1), BAN, None);
    act(&mut fabric, 1, &client(2), BAN, None);
    fabric.run(SECOND);
    fabric.mute = GOSSIP.to_vec();
    fabric.heal();
    fabric.until("both know both", 6 * SECOND, |fabric| {
        let knows = |host| holds(fabric, host, &client(1)) && holds(fabric, host, &client(2));
        knows(0) && (knows(1) || knows(2))
    });
    // And in the end everybody, without being alone.
    fabric.until("all know both", 150 * SECOND, one_mind);
}

#[test]
fn what_gossip_never_brings_comes_in_time() {
    let mut fabric = Fabric::cluster(142, LAN, 10);
    fabric.mute = GOSSIP.to_vec();
    act(&mut fabric, 3, &client(1), BAN, None);
    let took = fabric.until("it is everywhere", 600 * SECOND, |f| everywhere(f, &client(1)));
    println!("everywhere after {took:?}");
}

#[test]
fn a_dead_peer_is_not_waited_for() {
    let mut fabric = Fabric::cluster(143, LAN, 3);
    fabric.mute = GOSSIP.to_vec();
    act(&mut fabric, 2, &client(1), BAN, None);
    fabric.run(SECOND);
    let before = syncs(&fabric, 0);
    // It accepts, as its kernel does, and never answers.
    fabric.stall(1, 400 * SECOND);
    let newcomer = fabric.host();
    fabric.start(newcomer);
    fabric.run(200 * SECOND);
    let after = syncs(&fabric, 0);
    assert!(after.called > before.called, "{before:?} {after:?}");
    assert!(holds(&fabric, newcomer, &client(1)));
}

#[test]
fn equal_states_cost_little() {
    for (nodes, most) in [(3, 25.0), (10, 15.0)] {
        let mut fabric = Fabric::cluster(144, LAN, nodes);
        fabric.run(60 * SECOND);
        let sent = |fabric: &Fabric| -> u64 {
            let all = fabric.hosts.iter().filter_map(|host| host.machine.as_ref());
            all.map(|machine| machine.traffic().sent_of(Kind::Sync).1).sum()
        };
        let before = sent(&fabric);
        fabric.run(300 * SECOND);
        let rate = (sent(&fabric) - before) as f64 / 300.0 / nodes as f64;
        println!("{nodes} nodes: {rate:.1} bytes of push/pull a second and node");
        assert!(rate > 0.5 && rate < most, "{rate}");
    }
}

/// A caller that speaks as `caller` and knows the cluster's key `key`.
struct Caller {
    own: Greeting,
    key: Key,
}

impl Caller {
    fn new(caller: Actor, key: u8) -> Caller {
        let own = Greeting { key, actor: caller, nonce: [9; 16] };
        Caller { own, key: Key::new(KeyId::new(key).unwrap(), [key; 32]) }
    }

    /// Calls a host and is greeted, or not.
    fn call(&self, fabric: &mut Fabric, host: usize) -> Option<(StreamId, Lane)> {
        fabric.written = Some(Vec::new());
        let stream = fabric.call(host, &self.own.bytes());
        let written = fabric.written.take().unwrap();
        let (_, answer) = written.into_iter().find(|(from, _)| *from == host)?;
        assert_eq!(answer.len(), HELLO);
        let theirs = Greeting::read(&answer).unwrap().unwrap();
        let [out, _] = lanes(Some(&self.key.root()), "sim", &self.own, &theirs);
        Some((stream, out))
    }
}

fn say(fabric: &mut Fabric, host: usize, stream: StreamId, bytes: &[u8]) {
    fabric.input(host, Input::Stream { stream, event: StreamEvent::Bytes(bytes) });
}

fn opening() -> Vec<u8> {
    let view = ViewBeat { count: 1, hash: 1, answer: false };
    let acts = ActsBeat { count: 0, hash: 0 };
    Record::StateBeat(StateBeat { view, metas: 1, acts }).bytes()
}

fn frame(lane: &mut Lane, more: bool, records: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    lane.put(more, records, &mut bytes);
    bytes
}

#[test]
fn who_holds_no_key_is_told_nothing() {
    let mut fabric = Fabric::new(145, LAN);
    fabric.keys = Some(ring(&[1]));
    let mut fabric = fabric.grown(3);
    act(&mut fabric, 0, &client(1), BAN, None);
    fabric.run(2 * SECOND);
    let peer = actor(&fabric, 1);
    let stranger = Actor { node: NodeId(77), boot: BootId::new(7) };
    let try_it = |fabric: &mut Fabric, reason: &str, bytes: &[u8]| {
        let before = dropped(fabric, 0, reason);
        fabric.written = Some(Vec::new());
        fabric.call(0, bytes);
        assert_eq!(dropped(fabric, 0, reason), before + 1, "{reason}");
        assert!(fabric.written.take().unwrap().is_empty(), "it is answered: {reason}");
    };
    let greeting = |actor, key| Greeting { key, actor, nonce: [3; 16] }.bytes();
    try_it(&mut fabric, "bad_version", b"GET / HTTP/1.1\r\n");
    try_it(&mut fabric, "unknown_sender", &greeting(stranger, 1));
    try_it(&mut fabric, "unknown_key", &greeting(peer, 9));
    try_it(&mut fabric, "plaintext", &greeting(peer, 0));
    let own = actor(&fabric, 0);
    try_it(&mut fabric, "own", &greeting(own, 1));
    // Who knows a member's name is greeted, and not believed without the key.
    let mut forger = Caller::new(peer, 1);
    forger.key = Key::new(KeyId::new(1).unwrap(), [77; 32]);
    let (stream, mut lane) = forger.call(&mut fabric, 0).unwrap();
    let forged = frame(&mut lane, false, &opening());
    let before = dropped(&fabric, 0, "bad_seal");
    fabric.written = Some(Vec::new());
    say(&mut fabric, 0, stream, &forged);
    assert_eq!(dropped(&fabric, 0, "bad_seal"), before + 1);
    assert!(fabric.written.take().unwrap().is_empty());
    let endless = Caller::new(peer, 1).call(&mut fabric, 0).unwrap().0;
    let before = dropped(&fabric, 0, "too_long");
    say(&mut fabric, 0, endless, &[255; 100_000]);
    assert_eq!(dropped(&fabric, 0, "too_long"), before + 1);
    assert!(fabric.one_view() && one_mind(&fabric));
}

#[test]
fn a_recorded_push_pull_is_dead() {
    let mut fabric = Fabric::new(146, LAN);
    fabric.keys = Some(ring(&[1]));
    fabric.host();
    fabric.host();
    fabric.start(0);
    act(&mut fabric, 0, &client(1), BAN, None);
    fabric.written = Some(Vec::new());
    fabric.start(1);
    fabric.until("one called the other", 5 * SECOND, |f| syncs(f, 0).answered > 0);
    let written = fabric.written.take().unwrap();
    let recorded: Vec<Vec<u8>> =
        written.into_iter().filter(|(from, _)| *from == 1).map(|(_, bytes)| bytes).collect();
    assert!(recorded.len() >= 3, "a hello and two turns");
    fabric.run(5 * SECOND);
    let (answered, bad) = (syncs(&fabric, 0).answered, dropped(&fabric, 0, "bad_seal"));
    fabric.call(0, &recorded.concat());
    assert_eq!(dropped(&fabric, 0, "bad_seal"), bad + 1);
    assert_eq!(syncs(&fabric, 0).answered, answered);
}

#[test]
fn a_peer_that_calls_too_often_or_breaks_off_is_cut_short() {
    let mut fabric = Fabric::new(147, LAN);
    fabric.keys = Some(ring(&[1]));
    let mut fabric = fabric.grown(3);
    fabric.run(2 * SECOND);
    let caller = Caller::new(actor(&fabric, 1), 1);
    let (stream, mut lane) = caller.call(&mut fabric, 0).unwrap();
    let first = frame(&mut lane, false, &opening());
    say(&mut fabric, 0, stream, &first);
    let again = caller.call(&mut fabric, 0).unwrap();
    let (stream, mut lane) = again;
    let before = dropped(&fabric, 0, "rate_limited");
    let first = frame(&mut lane, false, &opening());
    say(&mut fabric, 0, stream, &first);
    assert_eq!(dropped(&fabric, 0, "rate_limited"), before + 1);
    // A turn that says nothing of its state, and a record that has no place here.
    for bad in [Record::AskMeta.bytes(), Vec::new()] {
        fabric.run(2 * SECOND);
        let (stream, mut lane) = caller.call(&mut fabric, 0).unwrap();
        let before = dropped(&fabric, 0, "undecodable");
        let turn = frame(&mut lane, false, &bad);
        say(&mut fabric, 0, stream, &turn);
        assert_eq!(dropped(&fabric, 0, "undecodable"), before + 1);
    }
    // What is said and never ended is ended for it.
    let before = syncs(&fabric, 0).unanswered;
    let (stream, mut lane) = caller.call(&mut fabric, 0).unwrap();
    let begun = frame(&mut lane, true, &opening());
    say(&mut fabric, 0, stream, &begun);
    fabric.run(11 * SECOND);
    assert!(syncs(&fabric, 0).unanswered > before);
    assert!(fabric.one_view());
}

#[test]
fn a_crowd_of_silent_callers_keeps_nobody_out() {
    let mut fabric = Fabric::new(148, LAN);
    fabric.keys = Some(ring(&[1]));
    let mut fabric = fabric.grown(2);
    act(&mut fabric, 0, &client(1), BAN, None);
    for _ in 0..2000 {
        fabric.call(0, b"");
    }
    let newcomer = fabric.host();
    fabric.hosts[newcomer].seeds = vec![fabric.hosts[0].source];
    fabric.mute = GOSSIP.to_vec();
    fabric.kill(1);
    fabric.start(newcomer);
    fabric.until("it knows", 5 * SECOND, |fabric| holds(fabric, newcomer, &client(1)));
    fabric.run(15 * SECOND);
    assert!(syncs(&fabric, 0).unanswered >= 2000);
}

#[test]
fn without_keys_it_is_plaintext_and_another_cluster_is_not_heard() {
    let mut fabric = Fabric::plaintext(149, LAN, 2);
    act(&mut fabric, 0, &client(1), BAN, None);
    fabric.run(SECOND);
    fabric.mute = GOSSIP.to_vec();
    let newcomer = fabric.host();
    fabric.start(newcomer);
    fabric.until("it knows", 5 * SECOND, |fabric| holds(fabric, newcomer, &client(1)));
    let caller = Greeting { key: 0, actor: actor(&fabric, 1), nonce: [9; 16] };
    fabric.run(2 * SECOND);
    fabric.written = Some(Vec::new());
    let stream = fabric.call(0, &caller.bytes());
    let (_, answer) = fabric.written.take().unwrap().remove(0);
    let theirs = Greeting::read(&answer).unwrap().unwrap();
    let [mut lane, _] = lanes(None, "other", &caller, &theirs);
    let before = dropped(&fabric, 0, "bad_label");
    let turn = frame(&mut lane, false, &opening());
    say(&mut fabric, 0, stream, &turn);
    assert_eq!(dropped(&fabric, 0, "bad_label"), before + 1);
}
