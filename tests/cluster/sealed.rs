//! Sealed gossip: what attackers try in vain, how keys change, and how a plaintext cluster becomes a
//! sealed one. The rest of this suite runs sealed as well.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate::base::{Actor, BootId, NodeId};
use tidegate::cluster::MemberState::Alive;
use tidegate::cluster::keyring::{Key, KeyId, Keyring};
use tidegate::cluster::machine::Input;
use tidegate::cluster::wire::records::{Hello, Record};
use tidegate::cluster::wire::{Cover, Envelope, Kind, Seal};

use crate::counters::known;
use crate::fabric::{BAD, Disk, EPOCH_MS, Fabric, LAN, Recorded};
use crate::malformed::{self, rows};
use crate::support::ring;

const SECOND: Duration = Duration::from_secs(1);

fn dropped(fabric: &Fabric, host: usize, reason: &str) -> u64 {
    malformed::dropped(&fabric.machine(host).figures(), reason)
}

fn heard(fabric: &Fabric, host: usize) -> u64 {
    malformed::heard(&fabric.machine(host).figures())
}

fn actor(fabric: &Fabric, host: usize) -> Actor {
    fabric.machine(host).identity().actor
}

fn feed(fabric: &mut Fabric, host: usize, from: SocketAddr, bytes: &[u8]) {
    fabric.input(host, Input::Datagram { from, bytes });
}

/// What all nodes hold for the truth of who is there, but for time.
fn views(fabric: &Fabric) -> Vec<Vec<(String, BootId)>> {
    let view = |host| {
        let members = fabric.machine(host).members().into_iter();
        members
            .map(|member| (format!("{} {:?}", member.name, member.state), member.boot_id))
            .collect()
    };
    fabric.living().into_iter().map(view).collect()
}

/// Datagrams that `host` let count: of kinds that strangers' never are.
fn counted(fabric: &Fabric, host: usize) -> u64 {
    let received = fabric.machine(host).figures().received;
    let of_known = received.iter().filter(|(kind, ..)| !["hello", "join"].contains(kind));
    of_known.map(|(_, datagrams, _)| datagrams).sum()
}

fn seal(ring: &Keyring, label: &str, sender: Actor) -> Seal {
    Seal::new(ring.first(), &ring.first().root(), label, sender)
}

/// A cluster whose nodes keep their ids, and everything that was sent while counters were shared.
fn recorded(seed: u64) -> (Fabric, Vec<Recorded>) {
    let mut fabric = Fabric::new(seed, LAN);
    for host in 0..3 {
        fabric.host();
        fabric.hosts[host].disk = Some(Disk { node: 100 + host as u64, ..Disk::default() });
    }
    fabric.recorded = Some(Vec::new());
    for host in 0..3 {
        fabric.start(host);
    }
    fabric.until("one view", 10 * SECOND, Fabric::one_view);
    for host in 0..3 {
        (1..=20).for_each(|key| fabric.hosts[host].book.spend(key, 10));
    }
    fabric.run(2 * SECOND);
    let recorded = fabric.recorded.take().unwrap();
    assert!(recorded.iter().any(|seen| seen.bytes[2] == Kind::Counters as u8));
    (fabric, recorded)
}

#[test]
fn datagrams_recorded_before_a_receivers_restart_are_dead_after_it() {
    let (mut fabric, recorded) = recorded(101);
    // Who spent is gone, so that whatever is heard of it was recorded.
    for host in [0, 1] {
        fabric.kill(host);
    }
    fabric.hosts[1].seeds = vec![fabric.hosts[2].source];
    fabric.start(1);
    let for_it = fabric.hosts[1].source;
    // At once, while it knows nobody, and again when it knows who is there.
    for _ in 0..2 {
        let before = counted(&fabric, 1);
        for seen in recorded.iter().filter(|seen| seen.to == for_it) {
            feed(&mut fabric, 1, seen.source, &seen.bytes);
        }
        assert_eq!(counted(&fabric, 1), before);
        fabric.run(8 * SECOND);
        assert!(fabric.one_view(), "{}", fabric.picture());
    }
    assert!(dropped(&fabric, 1, "unknown_boot") > 0 && dropped(&fabric, 1, "replay") > 0);
    assert!(fabric.false_downs.is_empty(), "{:?}", fabric.false_downs);
}

#[test]
fn a_recorded_past_replayed_to_everybody_changes_nothing() {
    let (mut fabric, recorded) = recorded(102);
    let before = views(&fabric);
    let count =
        |fabric: &Fabric| -> Vec<u64> { (0..3).map(|host| counted(fabric, host)).collect() };
    let before_all = count(&fabric);
    let heard_before: u64 = (0..3).map(|host| heard(&fabric, host)).sum();
    for seen in &recorded {
        for host in 0..3 {
            feed(&mut fabric, host, seen.source, &seen.bytes);
        }
    }
    assert_eq!(count(&fabric), before_all);
    // Nothing is lost without a reason.
    let heard_after: u64 = (0..3).map(|host| heard(&fabric, host)).sum();
    assert!(heard_after - heard_before >= 3 * recorded.len() as u64);
    fabric.run(5 * SECOND);
    assert_eq!(views(&fabric), before);
    for host in 0..3 {
        assert!(dropped(&fabric, host, "replay") > 0);
    }
}

#[test]
fn a_datagram_for_one_node_does_not_open_at_another() {
    let (mut fabric, recorded) = recorded(103);
    let (from_a, for_b, c) = (fabric.hosts[0].source, fabric.hosts[1].source, 2);
    let counters = Kind::Counters as u8;
    let (mut tried, before) = (0, counted(&fabric, c));
    for seen in recorded {
        if seen.to == for_b && seen.source == from_a && seen.bytes[2] == counters {
            // C knows A, and has never heard this number of it: only the recipient is wrong.
            feed(&mut fabric, c, seen.source, &seen.bytes);
            tried += 1;
        }
    }
    assert!(tried > 0);
    assert_eq!(dropped(&fabric, c, "bad_seal"), tried);
    assert_eq!(counted(&fabric, c), before);
}

#[test]
fn a_clock_set_back_a_day_neither_mutes_a_restarted_node_nor_revives_its_past() {
    let (mut fabric, recorded) = recorded(104);
    fabric.kill(2);
    fabric.hosts[2].clock_off_ms = -24 * 3600 * 1000;
    fabric.start(2);
    fabric.until("it is back", 5 * SECOND, Fabric::one_view);
    let source = fabric.hosts[2].source;
    let before = views(&fabric);
    for seen in recorded.iter().filter(|seen| seen.source == source) {
        let to = fabric.hosts.iter().position(|host| host.source == seen.to).unwrap();
        let count = counted(&fabric, to);
        feed(&mut fabric, to, seen.source, &seen.bytes);
        assert_eq!(counted(&fabric, to), count);
    }
    fabric.run(5 * SECOND);
    assert_eq!(views(&fabric), before);
    // What it says now counts.
    let digest = "of the new boot".to_owned();
    fabric.input(2, Input::Digest(digest.clone()));
    fabric.run(2 * SECOND);
    let seen = fabric.machine(0).members();
    assert!(seen.iter().any(|member| member.config_digest == digest));
}

#[test]
fn two_living_boots_of_one_node_are_told_so_and_a_restart_is_none() {
    for links in [LAN, BAD] {
        let mut fabric = Fabric::new(105, links);
        for host in 0..4 {
            fabric.host();
            fabric.hosts[host].disk = Some(Disk { node: 100 + host as u64, ..Disk::default() });
            fabric.start(host);
        }
        fabric.until("one view", 20 * SECOND, Fabric::one_view);
        for _ in 0..3 {
            fabric.kill(3);
            fabric.run(SECOND / 2);
            fabric.start(3);
            fabric.until("it is back", 10 * SECOND, Fabric::one_view);
            fabric.run(5 * SECOND);
        }
        let clones = |fabric: &Fabric| -> Vec<u64> {
            let living = fabric.living().into_iter();
            living.map(|host| fabric.machine(host).figures().clones).collect()
        };
        assert_eq!(clones(&fabric), [0; 4], "a restart is no clone");

        let copy = fabric.host();
        fabric.hosts[copy].disk = fabric.hosts[3].disk.clone();
        fabric.start(copy);
        fabric.until("both are told", 10 * SECOND, |fabric| {
            [3, copy].iter().all(|host| fabric.machine(*host).cloned().is_some())
        });
        let told = fabric.machine(copy).cloned().unwrap();
        assert!(told.contains("`cluster.state_dir` is a copy"), "{told}");
        fabric
            .until("somebody else sees it", 20 * SECOND, |fabric| clones(fabric)[..3].contains(&1));
        fabric.kill(copy);
        fabric.until("it is over", 60 * SECOND, |fabric| clones(fabric) == [0; 4]);
    }
}

#[test]
fn thousands_of_forged_joins_let_nobody_in() {
    let (mut fabric, recorded) = recorded(106);
    let before = views(&fabric);
    let boots = fabric.machine(0).figures().boots;
    let own_join = recorded.iter().find(|seen| seen.bytes[2] == Kind::Join as u8).unwrap().clone();
    let guessed = Keyring::new([7; 16], Key::new(KeyId::MIN, [0xbb; 32]));
    let from: SocketAddr = "10.0.0.77:9090".parse().unwrap();
    for i in 0..5_000u64 {
        let stranger = Actor { node: NodeId(1000 + i), boot: BootId::new(i) };
        let cover = Cover { kind: Kind::Join, to: None, counter: 1, answer: None };
        let sealed = seal(&guessed, "sim", stranger).datagram(cover, b"let me in").unwrap();
        let plain = Envelope::new("sim", stranger).seal(Kind::Join, None, b"let me in");
        for bytes in [&sealed, &plain, &own_join.bytes] {
            feed(&mut fabric, 0, from, bytes);
        }
        if i % 20 == 0 {
            fabric.run(SECOND / 100);
        }
    }
    fabric.run(5 * SECOND);
    assert_eq!(views(&fabric), before);
    assert_eq!(fabric.machine(0).figures().boots, boots);
    assert!(dropped(&fabric, 0, "plaintext") == 5_000 && dropped(&fabric, 0, "bad_seal") > 0);
    assert!(fabric.false_downs.is_empty() && fabric.backlog < 1000);
    // And a true newcomer gets in while the flood goes on.
    let newcomer = fabric.host();
    fabric.start(newcomer);
    let began = fabric.now;
    for i in 10_000.. {
        let stranger = Actor { node: NodeId(i), boot: BootId::new(i) };
        let cover = Cover { kind: Kind::Join, to: None, counter: 1, answer: None };
        let sealed = seal(&guessed, "sim", stranger).datagram(cover, b"let me in").unwrap();
        feed(&mut fabric, 0, from, &sealed);
        fabric.run(SECOND / 2000);
        if fabric.now - began > SECOND / 10 && fabric.one_view() {
            break;
        }
        assert!(fabric.now - began < 5 * SECOND, "the newcomer is kept out\n{}", fabric.picture());
    }
}

#[test]
fn a_flood_of_two_thousand_forgeries_a_second_keeps_no_newcomer_out() {
    let mut fabric = Fabric::cluster(107, LAN, 3);
    let newcomer = fabric.host();
    let guessed = Keyring::new([7; 16], Key::new(KeyId::MIN, [0xbb; 32]));
    let friend = seal(&guessed, "sim", actor(&fabric, 1));
    let from: SocketAddr = "10.0.0.2:9090".parse().unwrap();
    let to = Some(actor(&fabric, 0).node);
    let rows = rows();
    for i in 0..6_000u64 {
        if i == 3_000 {
            fabric.start(newcomer);
        }
        // Half in the name of a member, half in those of strangers.
        let counter = 1_000_000 + i;
        let cover = Cover { kind: Kind::Counters, to, counter, answer: None };
        let stranger = Actor { node: NodeId(1000 + i), boot: BootId::new(i) };
        let bytes = match i % 2 {
            0 => friend.datagram(cover, &rows),
            _ => seal(&guessed, "sim", stranger).datagram(cover, &rows),
        };
        feed(&mut fabric, 0, from, &bytes.unwrap());
        fabric.run(SECOND / 2000);
    }
    assert!(fabric.one_view() && fabric.false_downs.is_empty(), "{}", fabric.picture());
    assert_eq!(fabric.machine(0).figures().rows, 0);
    let refused = dropped(&fabric, 0, "bad_seal") + dropped(&fabric, 0, "rate_limited");
    assert_eq!(refused, 6_000);
}

#[test]
fn a_peer_that_speaks_more_than_its_share_is_cut_and_the_others_are_heard() {
    let mut fabric = Fabric::cluster(108, LAN, 3);
    let keys = fabric.keys.clone().unwrap();
    let loud = seal(&keys, "sim", actor(&fabric, 1));
    let to = Some(actor(&fabric, 0).node);
    let from: SocketAddr = "10.0.0.2:9090".parse().unwrap();
    let mut counter = 1_000_000;
    for _ in 0..5 {
        for _ in 0..3000 {
            counter += 1;
            let cover = Cover { kind: Kind::Counters, to, counter, answer: None };
            feed(&mut fabric, 0, from, &loud.datagram(cover, &rows()).unwrap());
        }
        fabric.run(SECOND);
    }
    let cut = dropped(&fabric, 0, "rate_limited");
    assert!((4_500..=6_000).contains(&cut), "{cut} were cut");
    assert_eq!(fabric.state(0, 2), Some(Alive));
}

#[test]
fn every_reason_is_counted_and_nothing_else_happens() {
    let mut fabric = Fabric::cluster(109, LAN, 3);
    let keys = fabric.keys.clone().unwrap();
    let (own, friend) = (actor(&fabric, 0), actor(&fabric, 1));
    let stranger = Actor { node: NodeId(77), boot: BootId::new(7) };
    let from: SocketAddr = "10.0.0.2:9090".parse().unwrap();
    let mut counter = 1_000;
    let mut sealed = |ring: &Keyring, label: &str, sender, kind, to, answer, content: &[u8]| {
        counter += 1;
        let cover = Cover { kind, to, counter, answer };
        seal(ring, label, sender).datagram(cover, content).unwrap()
    };
    let to = Some(own.node);
    let guessed = Keyring::new([7; 16], Key::new(KeyId::MIN, [0xbb; 32]));
    let other_boot = Record::Hello(Hello { nonce: 3, of: BootId::new(3) }).bytes();
    let good = sealed(&keys, "sim", friend, Kind::Meta, to, None, b"");
    feed(&mut fabric, 0, from, &good);
    let mut unknown_type = sealed(&keys, "sim", friend, Kind::Meta, to, None, b"");
    unknown_type[2] = 200;
    let cases = [
        ("replay", good),
        ("bad_seal", unknown_type),
        ("unknown_key", sealed(&ring(&[9]), "sim", friend, Kind::Counters, to, None, &rows())),
        ("bad_seal", sealed(&guessed, "sim", friend, Kind::Counters, to, None, &rows())),
        ("bad_seal", sealed(&keys, "other", friend, Kind::Counters, to, None, &rows())),
        ("bad_seal", sealed(&keys, "sim", friend, Kind::Counters, Some(NodeId(3)), None, &rows())),
        ("unknown_boot", sealed(&keys, "sim", stranger, Kind::Counters, to, None, &rows())),
        ("unknown_boot", sealed(&keys, "sim", stranger, Kind::Hello, to, None, &other_boot)),
        ("bad_nonce", sealed(&keys, "sim", stranger, Kind::Counters, to, Some(5), &rows())),
        ("unaddressed", sealed(&keys, "sim", friend, Kind::Counters, None, None, &rows())),
        ("unaddressed", sealed(&keys, "sim", stranger, Kind::Hello, None, None, &other_boot)),
        ("undecodable", sealed(&keys, "sim", friend, Kind::Counters, to, None, b"\x06\x00")),
        ("undecodable", sealed(&keys, "sim", friend, Kind::Swim, to, None, b"not foca's")),
        ("plaintext", Envelope::new("sim", friend).seal(Kind::Counters, to, &rows())),
        ("own", sealed(&keys, "sim", own, Kind::Counters, to, None, &rows())),
    ];
    let before = views(&fabric);
    for (reason, bytes) in cases {
        let (count, all) = (dropped(&fabric, 0, reason), heard(&fabric, 0));
        feed(&mut fabric, 0, from, &bytes);
        assert_eq!(dropped(&fabric, 0, reason), count + 1, "{reason}");
        assert_eq!(heard(&fabric, 0), all + 1, "{reason} is counted once");
    }
    assert_eq!(fabric.machine(0).figures().rows, 0);
    assert_eq!(views(&fabric), before);
}

#[test]
fn keys_rotate_on_a_living_cluster_without_a_lost_datagram() {
    let mut fabric = Fabric::cluster(110, LAN, 5);
    for step in [ring(&[1, 2]), ring(&[2, 1]), ring(&[2])] {
        for host in 0..5 {
            fabric.input(host, Input::Keys(Arc::clone(&step)));
            for _ in 0..10 {
                fabric.hosts[host].book.spend(1, 1);
                fabric.run(SECOND / 20);
            }
        }
        fabric.run(SECOND);
        for host in 0..5 {
            let members = fabric.machine(host).members();
            assert!(members.iter().all(|member| member.keys == step.ids()), "{members:#?}");
        }
    }
    for host in 0..5 {
        let lost: u64 = ["unknown_key", "bad_seal", "replay", "unknown_boot", "bad_nonce"]
            .iter()
            .map(|reason| dropped(&fabric, host, reason))
            .sum();
        assert_eq!(lost, 0, "{:?}", fabric.machine(host).figures().dropped);
    }
    assert_eq!(known(&fabric, 1), Some(150), "what all spent meanwhile");
    assert!(fabric.false_downs.is_empty() && fabric.one_view());
}

#[test]
fn a_plaintext_cluster_becomes_a_sealed_one_without_a_split() {
    let mut fabric = Fabric::plaintext(111, LAN, 4);
    fabric.keys = Some(ring(&[1]));
    fabric.plaintext_until = EPOCH_MS + 600_000;
    for host in 0..4 {
        fabric.kill(host);
        fabric.run(SECOND / 2);
        fabric.start(host);
        fabric.until("it is back", 10 * SECOND, Fabric::one_view);
        (0..4).for_each(|host| fabric.hosts[host].book.spend(1, 10));
        fabric.run(3 * SECOND);
        assert!(fabric.one_view(), "{}", fabric.picture());
        assert!(known(&fabric, 1) >= Some(40), "all tell the owner what they spent");
        assert!(!fabric.machine(host).figures().authenticated);
    }
    // All have keys: nothing is sent in the clear any more but what asks strangers.
    fabric.run(5 * SECOND);
    fabric.recorded = Some(Vec::new());
    fabric.run(10 * SECOND);
    let recorded = fabric.recorded.take().unwrap();
    assert!(recorded.iter().all(|seen| seen.bytes[1] != 0 || seen.bytes[2] == Kind::Join as u8));
    fabric.run(600 * SECOND);
    assert!(fabric.one_view() && fabric.false_downs.is_empty(), "{:?}", fabric.false_downs);
    for host in 0..4 {
        assert!(fabric.machine(host).figures().authenticated);
    }
}

#[test]
fn nodes_with_and_without_keys_do_not_hear_each_other() {
    let mut fabric = Fabric::cluster(112, LAN, 2);
    fabric.keys = None;
    let without = fabric.host();
    fabric.start(without);
    fabric.keys = Some(ring(&[2]));
    let with_another = fabric.host();
    fabric.start(with_another);
    fabric.run(20 * SECOND);
    assert_eq!(fabric.machine(0).members().len(), 2);
    assert_eq!(fabric.machine(without).members().len(), 1);
    assert_eq!(fabric.machine(with_another).members().len(), 1);
    assert!(dropped(&fabric, 0, "plaintext") > 0 && dropped(&fabric, 0, "unknown_key") > 0);
}

/// `cargo test --release --test cluster -- --ignored --nocapture forgeries_cost`
#[test]
#[ignore = "measures time; run it by name, in release, on a quiet machine"]
fn forgeries_cost_less_than_a_twentieth_of_a_core() {
    let mut fabric = Fabric::cluster(113, LAN, 3);
    let guessed = Keyring::new([7; 16], Key::new(KeyId::MIN, [0xbb; 32]));
    let from: SocketAddr = "10.0.0.2:9090".parse().unwrap();
    let to = Some(actor(&fabric, 0).node);
    let content = vec![7; 1100];
    for (what, known) in [("a member's", true), ("strangers'", false)] {
        let forged: Vec<Vec<u8>> = (0..2000u64)
            .map(|i| {
                let stranger = Actor { node: NodeId(1000 + i), boot: BootId::new(i) };
                let sender = if known { actor(&fabric, 1) } else { stranger };
                let cover =
                    Cover { kind: Kind::Counters, to, counter: 1_000_000 + i, answer: None };
                seal(&guessed, "sim", sender).datagram(cover, &content).unwrap()
            })
            .collect();
        let mut best = Duration::MAX;
        for _ in 0..20 {
            fabric.run(SECOND);
            let began = Instant::now();
            for bytes in &forged {
                // As in a second of real time, so that all of them are within the budget.
                fabric.now += Duration::from_micros(500);
                feed(&mut fabric, 0, from, bytes);
            }
            best = best.min(began.elapsed());
        }
        let share = best.as_secs_f64() * 100.0;
        println!("2000 forgeries a second in {what} names: {share:.2} % of a core");
        assert!(share < 5.0, "{share:.2} % of a core");
    }
}
