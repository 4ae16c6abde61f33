use foca::{Member, State};

use super::*;
use crate::base::{BootId, NodeId};
use crate::cluster::wire::MAX_PAYLOAD;

fn actor() -> Actor {
    Actor { node: NodeId(0x0102_0304_0506_0708), boot: BootId::new(0x0a0b_0c0d_0e0f) }
}

fn identity() -> Identity {
    let address = "10.0.0.1:9090".parse().unwrap();
    Identity { actor: actor(), address, generation: 1_800_000_000_000 }
}

fn meta() -> Meta {
    let (name, digest, version) = ("n1".to_owned(), "d".to_owned(), "0.1.0".to_owned());
    Meta { actor: actor(), seq: 1, name, digest, version }
}

fn all() -> Vec<Record> {
    let row = SpentRow { key: 7, total: 300, since: 2, recent: 5 };
    let address = "10.0.0.2:9090".parse().unwrap();
    vec![
        Record::Join(Join { identity: identity(), nonce: 9, meta: meta() }),
        Record::Challenge(Challenge {
            to: actor(),
            asked_from: address,
            name: "n1".to_owned(),
            nonce: 9,
            highest: 8,
        }),
        Record::Refused(Refused { to: actor(), holder: "n2".to_owned() }),
        Record::Meta(meta()),
        Record::AskMeta,
        Record::Spent(SpentRows { limit: 1, rows: vec![row] }),
        Record::HealthBeat(HealthBeat { version: 3, interval: 3000 }),
        Record::HealthPart(HealthPart {
            version: 3,
            part: 0,
            parts: 1,
            rows: vec![HealthRow {
                backend: 5,
                down: true,
                seq: 2,
                age: 60,
                streak: 20,
                latency: 700,
            }],
        }),
        Record::AskHealth,
        Record::Leaving(Leaving { actor: actor() }),
        Record::ViewBeat(ViewBeat { count: 3, hash: 4, answer: true }),
        Record::ViewPart(ViewPart { members: vec![Member::new(identity(), 1, State::Suspect)] }),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Change these only together with the wire version.
#[test]
fn records_keep_their_bytes() {
    let golden: [&str; 12] = [
        "010042fd0807060504030201fd0f0e0d0c0b0a0000000a000001fb8223fd00505c18a3010000\
         09fd0807060504030201fd0f0e0d0c0b0a000001026e31016405302e312e30",
        "02001ffd0807060504030201fd0f0e0d0c0b0a0000000a000002fb8223026e310908",
        "030015fd0807060504030201fd0f0e0d0c0b0a0000026e32",
        "04001efd0807060504030201fd0f0e0d0c0b0a000001026e31016405302e312e30",
        "050000",
        "060008010107fb2c010205",
        "07000403fbb80b",
        "32000c030001010501023c14fbbc02",
        "090000",
        "0a0012fd0807060504030201fd0f0e0d0c0b0a0000",
        "0b0003030401",
        "0c002601fd0807060504030201fd0f0e0d0c0b0a0000000a000001fb8223fd00505c18a30100000101",
    ];
    let bytes: Vec<String> = all().iter().map(|record| hex(&record.bytes())).collect();
    assert_eq!(bytes, golden);
}

#[test]
fn records_are_read_as_they_were_put() {
    let mut payload = Vec::new();
    all().iter().for_each(|record| record.put(&mut payload));
    assert_eq!(records(&payload), Ok(all()));
}

#[test]
fn unknown_types_and_longer_tails_are_skipped() {
    let mut payload = vec![200, 0, 3, 1, 2, 3];
    let beat = Record::ViewBeat(ViewBeat { count: 3, hash: 4, answer: true });
    let mut longer = beat.bytes();
    longer.extend_from_slice(b"of a later version");
    longer[2] += 18;
    payload.extend_from_slice(&longer);
    Record::AskMeta.put(&mut payload);
    assert_eq!(records(&payload), Ok(vec![beat, Record::AskMeta]));
}

#[test]
fn cut_records_are_refused() {
    for record in all() {
        let bytes = record.bytes();
        for length in 1..bytes.len() {
            assert_eq!(records(&bytes[..length]), Err(Undecodable), "{record:?} cut at {length}");
        }
    }
}

#[test]
fn full_datagrams_are_within_the_decode_limit() {
    let row = SpentRow { key: 1, total: 1, since: 0, recent: 1 };
    let spent = Record::Spent(SpentRows { limit: 1, rows: vec![row; MAX_PAYLOAD / 5] });
    let member = Member::new(identity(), 1, State::Alive);
    let view = Record::ViewPart(ViewPart { members: vec![member; MAX_PAYLOAD / 36] });
    for record in [spent, view] {
        assert_eq!(records(&record.bytes()), Ok(vec![record]));
    }
}

#[test]
fn a_join_for_somebody_else_is_refused() {
    let mut join = Join { identity: identity(), nonce: 9, meta: meta() };
    join.meta.actor.node = NodeId(5);
    assert_eq!(records(&Record::Join(join).bytes()), Err(Undecodable));
}

#[test]
fn a_peers_name_cannot_forge_lines_of_a_log_or_move_a_cursor() {
    let actor = Actor { node: NodeId(1), boot: BootId::new(2) };
    for (name, good) in [("n1", true), ("knoten ä", true), ("n\n1", false), ("\x1b[2J", false)] {
        let name = name.to_owned();
        let (digest, version) = (String::new(), String::new());
        let asked_from = ([10, 0, 0, 1], 9090).into();
        let said = [
            Record::Meta(Meta { actor, seq: 1, name: name.clone(), digest, version }),
            Record::Refused(Refused { to: actor, holder: name.clone() }),
            Record::Challenge(Challenge { to: actor, asked_from, name, nonce: 1, highest: 0 }),
        ];
        for record in said {
            assert_eq!(records(&record.bytes()).is_ok(), good, "{record:?}");
        }
    }
}
