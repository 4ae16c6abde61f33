//! Whatever comes in: it is counted, it changes nothing, and nothing panics.

use std::net::SocketAddr;
use std::time::Duration;

use foca::{Member, State};
use proptest::collection::vec;
use proptest::prelude::*;
use tidegate::base::{Actor, BootId, NodeId};
use tidegate::cluster::figures::Figures;
use tidegate::cluster::identity::Identity;
use tidegate::cluster::machine::Input;
use tidegate::cluster::wire::limits::{Counts, ReportRow, Reports};
use tidegate::cluster::wire::records::{HealthBeat, Record, ViewPart};
use tidegate::cluster::wire::{Envelope, Kind};

use crate::fabric::{Fabric, LAN};

const SECOND: Duration = Duration::from_secs(1);

pub(crate) fn dropped(figures: &Figures, reason: &str) -> u64 {
    figures.dropped.iter().find(|(label, _)| *label == reason).map_or(0, |(_, count)| *count)
}

pub(crate) fn heard(figures: &Figures) -> u64 {
    let received = figures.received.iter().map(|(_, datagrams, _)| datagrams);
    received.chain(figures.dropped.iter().map(|(_, count)| count)).sum()
}

fn feed(fabric: &mut Fabric, from: &str, bytes: &[u8]) {
    let from: SocketAddr = from.parse().unwrap();
    fabric.input(0, Input::Datagram { from, bytes });
}

fn stranger() -> Actor {
    Actor { node: NodeId(77), boot: BootId::new(7) }
}

fn member(fabric: &Fabric, index: usize) -> Actor {
    fabric.machine(index).identity().actor
}

pub(crate) fn rows() -> Vec<u8> {
    let total = 1_000_000;
    let row = ReportRow {
        key: [0, 0, 0, 0, 0, 0, 0, 1],
        total,
        tenure: total,
        recent: total,
        level: None,
    };
    let counts = Counts::Bucket { rate: 1.0, burst: 10.0 };
    Record::Reports(Reports { seq: 1, limit: 7, counts, rows: vec![row] }).bytes()
}

#[test]
fn every_reason_is_counted_and_nothing_changes() {
    let mut fabric = Fabric::plaintext(41, LAN, 3);
    let to = Some(member(&fabric, 0).node);
    let seal = |label: &str, sender: Actor, kind: Kind, payload: &[u8]| {
        Envelope::new(label, sender).seal(kind, to, payload)
    };
    let friend = member(&fabric, 1);
    let good = seal("sim", friend, Kind::Counters, &rows());
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let beat = Record::HealthBeat(HealthBeat { version: 1, interval: 1000 }).bytes();
    let mut elsewhere = Envelope::new("sim", friend);
    let cases: Vec<(&str, &str, Vec<u8>)> = vec![
        ("too_short", "10.0.0.2:9090", vec![1; 39]),
        ("too_long", "10.0.0.2:9090", vec![1; 1201]),
        ("bad_version", "10.0.0.2:9090", with(0, 9)),
        ("unknown_key", "10.0.0.2:9090", with(1, 9)),
        ("bad_checksum", "10.0.0.2:9090", with(30, 0xff)),
        ("bad_label", "10.0.0.2:9090", seal("other", friend, Kind::Counters, &rows())),
        ("bad_checksum", "10.0.0.2:9090", elsewhere.seal(Kind::Counters, Some(NodeId(3)), &rows())),
        ("undecodable", "10.0.0.2:9090", seal("sim", friend, Kind::Swim, b"not foca's")),
        ("undecodable", "10.0.0.2:9090", seal("sim", friend, Kind::Counters, b"\x06\x00")),
        ("own", "10.0.0.2:9090", seal("sim", member(&fabric, 0), Kind::Counters, &rows())),
        ("unknown_sender", "10.0.0.2:9090", seal("sim", stranger(), Kind::Counters, &rows())),
        ("unknown_sender", "10.0.0.2:9090", seal("sim", stranger(), Kind::Health, &beat)),
        ("public_address", "8.8.8.8:9090", good.clone()),
    ];
    for (reason, from, bytes) in cases {
        let before = fabric.machine(0).figures();
        feed(&mut fabric, from, &bytes);
        let after = fabric.machine(0).figures();
        assert_eq!(dropped(&after, reason), dropped(&before, reason) + 1, "{reason}");
        assert_eq!(heard(&after), heard(&before) + 1, "{reason} is counted once");
    }
    assert_eq!(fabric.machine(0).exchange().rows(), (0, 0));
    feed(&mut fabric, "10.0.0.2:9090", &good);
    assert_eq!(fabric.machine(0).exchange().rows(), (1, 1));
    fabric.run(5 * SECOND);
    assert!(fabric.one_view() && fabric.false_downs.is_empty());
}

#[test]
fn a_forged_join_does_not_get_in() {
    let mut fabric = Fabric::plaintext(42, LAN, 3);
    let outside = fabric.host();
    fabric.start(outside);
    // What the newcomer sends first, replayed from elsewhere while it is cut off: the challenge
    // goes to the address that it claims, so nobody is let in.
    for host in 0..3 {
        fabric.cut(host, outside);
    }
    fabric.recorded = Some(Vec::new());
    fabric.run(3 * SECOND);
    let recorded = fabric.recorded.take().unwrap();
    let source = fabric.hosts[outside].source;
    let joins: Vec<_> = recorded.iter().filter(|seen| seen.source == source).collect();
    assert!(!joins.is_empty());
    for seen in &joins {
        feed(&mut fabric, "10.0.0.99:9090", &seen.bytes);
    }
    fabric.run(SECOND);
    assert!(
        fabric
            .machine(0)
            .figures()
            .received
            .iter()
            .any(|(kind, joins, _)| *kind == "join" && *joins > 0)
    );
    assert_eq!(fabric.machine(0).members().len(), 3);
    assert!(fabric.one_view() || fabric.machine(outside).members().len() == 1);
}

#[test]
fn a_member_that_shouts_is_cut_and_the_others_are_still_heard() {
    let mut fabric = Fabric::plaintext(43, LAN, 3);
    let to = Some(member(&fabric, 0).node);
    let mut loud = Envelope::new("sim", member(&fabric, 1));
    for _ in 0..10 {
        for _ in 0..3000 {
            let bytes = loud.seal(Kind::Counters, to, &rows());
            feed(&mut fabric, "10.0.0.2:9090", &bytes);
        }
        fabric.run(SECOND);
    }
    let figures = fabric.machine(0).figures();
    let cut = dropped(&figures, "rate_limited");
    assert!((9_000..=11_500).contains(&cut), "{cut} were cut");
    assert_eq!(fabric.state(0, 2), Some(tidegate::cluster::MemberState::Alive));
}

#[test]
fn a_flood_of_forged_strangers_changes_no_membership_and_no_counter() {
    let mut fabric = Fabric::plaintext(44, LAN, 3);
    for node in 0..20_000u64 {
        let actor = Actor { node: NodeId(node + 1000), boot: BootId::new(node) };
        let kind = Kind::ALL[node as usize % Kind::ALL.len()];
        let to = fabric.machine(0).identity().actor.node;
        let bytes = Envelope::new("sim", actor).seal(kind, Some(to), &rows());
        feed(&mut fabric, "10.0.0.2:9090", &bytes);
        if node % 200 == 0 {
            fabric.run(SECOND / 10);
        }
    }
    assert!(fabric.one_view() && fabric.false_downs.is_empty(), "{}", fabric.picture());
    let figures = fabric.machine(0).figures();
    assert_eq!(figures.rows, 0);
    assert!(dropped(&figures, "rate_limited") > 0);
}

#[test]
fn a_forged_generation_keeps_a_node_out_only_for_a_moment() {
    let mut fabric = Fabric::plaintext(46, LAN, 3);
    let victim = fabric.machine(1).identity();
    let forged = Identity { generation: victim.generation + 1_000_000, ..victim };
    let part = ViewPart { members: vec![Member::new(forged, 0, State::Alive)] };
    let to = Some(member(&fabric, 0).node);
    let mut forger = Envelope::new("sim", member(&fabric, 2));
    let bytes = forger.seal(Kind::View, to, &Record::ViewPart(part).bytes());
    feed(&mut fabric, "10.0.0.3:9090", &bytes);
    fabric.run(SECOND);
    fabric.until("the victim is itself again", 5 * SECOND, Fabric::one_view);
    assert!(fabric.machine(1).identity().generation > forged.generation);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_payloads_of_members_and_strangers_never_panic(
        datagrams in vec((any::<bool>(), 0..Kind::ALL.len(), vec(any::<u8>(), 0..200)), 1..40)
    ) {
        let mut fabric = Fabric::plaintext(45, LAN, 2);
        let to = Some(member(&fabric, 0).node);
        let before = heard(&fabric.machine(0).figures());
        for (friend, kind, payload) in &datagrams {
            let sender = if *friend { member(&fabric, 1) } else { stranger() };
            let bytes = Envelope::new("sim", sender).seal(Kind::ALL[*kind], to, payload);
            feed(&mut fabric, "10.0.0.2:9090", &bytes);
        }
        let after = heard(&fabric.machine(0).figures());
        prop_assert_eq!(after - before, datagrams.len() as u64);
        fabric.run(3 * SECOND);
        prop_assert!(fabric.one_view());
    }

    #[test]
    fn mutated_traffic_never_panics(seed in any::<u64>()) {
        let mut fabric = Fabric::new(seed, LAN);
        for _ in 0..3 {
            fabric.host();
        }
        fabric.mutate = 0.3;
        for host in 0..3 {
            fabric.start(host);
        }
        fabric.run(5 * SECOND);
        // Forgeries with a good checksum may leave false names behind, but no growing pile.
        prop_assert!(fabric.backlog < 2000, "a backlog of {}", fabric.backlog);
        for host in 0..3 {
            prop_assert!(fabric.machine(host).members().len() < 200);
        }
    }
}
