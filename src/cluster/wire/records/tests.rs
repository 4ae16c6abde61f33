use foca::{Member, State};

use super::*;
use crate::base::{BootId, NodeId, hex};
use crate::cluster::wire::MAX_PAYLOAD;
use crate::cluster::wire::limits::{
    Counts, HotRow, LevelRow, MOST_HOT, MOST_LEVELS, MOST_REPORTS, ReportRow,
};

fn actor() -> Actor {
    Actor { node: NodeId(0x0102_0304_0506_0708), boot: BootId::new(0x0a0b_0c0d_0e0f) }
}

fn identity() -> Identity {
    let address = "10.0.0.1:9090".parse().unwrap();
    Identity { actor: actor(), address, generation: 1_800_000_000_000 }
}

fn meta() -> Meta {
    let (name, digest, version) = ("n1".to_owned(), "d".to_owned(), "0.1.0".to_owned());
    let sync = Some(([10, 0, 0, 1], 9091).into());
    Meta { actor: actor(), seq: 1, name, digest, version, keys: vec![2, 1], sync }
}

fn all() -> Vec<Record> {
    let key = [1, 2, 3, 4, 5, 6, 7, 8];
    let row = ReportRow { key, total: 300, tenure: 298, recent: 5, level: Some(-1.5) };
    let level = LevelRow { key, level: -0.5, acked: 300, remote: 20.0 };
    let window = Counts::Window { limit: 60, length: 60_000 };
    let address = "10.0.0.2:9090".parse().unwrap();
    vec![
        Record::Join(Join { identity: identity(), nonce: 9, meta: meta() }),
        Record::Challenge(Challenge {
            to: actor(),
            claimed: address,
            asked_from: address,
            name: "n1".to_owned(),
            nonce: 9,
            highest: 8,
        }),
        Record::Refused(Refused { to: actor(), holder: "n2".to_owned() }),
        Record::Meta(meta()),
        Record::AskMeta,
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
        Record::Load(LoadRows { seq: 1, interval: 3000, rows: vec![(5, 7)] }),
        Record::AskHealth,
        Record::Leaving(Leaving { actor: actor() }),
        Record::ViewBeat(ViewBeat { count: 3, hash: 4, answer: true }),
        Record::ViewPart(ViewPart { members: vec![Member::new(identity(), 1, State::Suspect)] }),
        Record::StateBeat(StateBeat {
            view: ViewBeat { count: 3, hash: 4, answer: false },
            metas: 5,
            acts: ActsBeat { count: 6, hash: 7 },
        }),
        Record::Reports(Reports {
            seq: 4,
            limit: 1,
            counts: Counts::Bucket { rate: 1000.0, burst: 200.0 },
            rows: vec![row],
        }),
        Record::Reports(Reports { seq: 0, limit: 1, counts: window, rows: Vec::new() }),
        Record::Levels(Levels { seq: 4, limit: 1, rows: vec![level] }),
        Record::Hot(Hot { limit: 1, rows: vec![HotRow { key, level: 1.5 }] }),
        Record::TokenAsk(TokenAsk { ticket: 8, limit: 1, counts: window, row }),
        Record::TokenAnswer(TokenAnswer { ticket: 8, granted: true, level: 0.5 }),
        Record::Hello(Hello { nonce: 9, of: actor().boot }),
        Record::Cloned(Cloned { one: actor(), other: actor() }),
        Record::TicketsBeat(TicketsBeat { epoch: 83_333, sums: [0, 7, u64::MAX], answer: true }),
        Record::Ticket(TicketRow { epoch: 83_333, secret: [0xab; 32] }),
    ]
}

/// Change these only together with the wire version.
#[test]
fn records_keep_their_bytes() {
    let golden = [
        "01004efd0807060504030201fd0f0e0d0c0b0a0000000a000001fb8223fd00505c18a3010000\
         09fd0807060504030201fd0f0e0d0c0b0a000001026e31016405302e312e3002020101000a000001fb8323",
        "020027fd0807060504030201fd0f0e0d0c0b0a0000000a000002fb8223000a000002fb8223026e310908",
        "030015fd0807060504030201fd0f0e0d0c0b0a0000026e32",
        "04002afd0807060504030201fd0f0e0d0c0b0a000001026e31016405302e312e3002020101000a000001fb8323",
        "050000",
        "07000403fbb80b",
        "32000c030001010501023c14fbbc02",
        "33000701fbb80b010507",
        "090000",
        "0a0012fd0807060504030201fd0f0e0d0c0b0a0000",
        "0b0003030401",
        "0c002601fd0807060504030201fd0f0e0d0c0b0a0000000a000001fb8223fd00505c18a30100000101",
        "0d0006030400050607",
        "1400280401000000000000408f400000000000006940\
         010102030405060708fb2c01fb2a0105010000c0bf",
        "1400080001013cfb60ea00",
        "1500160401010102030405060708000000bffb2c010000a041",
        "16000e010101020304050607080000c03f",
        "17001b0801013cfb60ea0102030405060708fb2c01fb2a0105010000c0bf",
        "18000a0801000000000000e03f",
        "1e000a09fd0f0e0d0c0b0a0000",
        "1f0024fd0807060504030201fd0f0e0d0c0b0a0000fd0807060504030201fd0f0e0d0c0b0a0000",
        "460011fc854501000007fdffffffffffffffff01",
        "470025fc85450100\
         abababababababababababababababababababababababababababababababab",
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
    let (key, most) = ([255; 8], u32::MAX);
    let row = ReportRow { key, total: most, tenure: most, recent: most, level: Some(1.0) };
    let (seq, limit, counts) = (most, u64::MAX, Counts::Window { limit: most, length: u64::MAX });
    let rows = vec![row; MOST_REPORTS];
    let reports = Record::Reports(Reports { seq, limit, counts, rows });
    let level = LevelRow { key, level: 1.0, acked: most, remote: 1.0 };
    let levels = Record::Levels(Levels { seq, limit, rows: vec![level; MOST_LEVELS] });
    let hot = Record::Hot(Hot { limit, rows: vec![HotRow { key, level: 1.0 }; MOST_HOT] });
    let member = Member::new(identity(), 1, State::Alive);
    let view = Record::ViewPart(ViewPart { members: vec![member; MAX_PAYLOAD / 36] });
    for full in [&reports, &levels, &hot] {
        assert!(full.bytes().len() <= MAX_PAYLOAD, "{}", full.bytes().len());
    }
    for record in [reports, levels, hot, view] {
        assert_eq!(records(&record.bytes()), Ok(vec![record]));
    }
}

#[test]
fn no_ticket_secret_is_ever_shown() {
    let record = Record::Ticket(TicketRow { epoch: 83_333, secret: [171; 32] });
    assert_eq!(format!("{record:?}"), "Ticket(TicketRow(epoch 83333))");
}

#[test]
fn a_beat_speaks_of_three_epochs() {
    let beat = TicketsBeat { epoch: 9, sums: [8, 9, 10], answer: false };
    for epoch in [0, 7, 11, u64::MAX] {
        assert_eq!(beat.sum(epoch), None);
    }
    assert!((8..=10).all(|epoch| beat.sum(epoch) == Some(epoch)));
    assert_eq!(TicketsBeat { epoch: u64::MAX, ..beat }.sum(u64::MAX), None);
    assert_eq!(TicketsBeat { epoch: 0, ..beat }.sum(0), Some(9));
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
            Record::Meta(Meta {
                actor,
                seq: 1,
                name: name.clone(),
                digest,
                version,
                keys: vec![],
                sync: None,
            }),
            Record::Refused(Refused { to: actor, holder: name.clone() }),
            Record::Challenge(Challenge {
                to: actor,
                claimed: asked_from,
                asked_from,
                name,
                nonce: 1,
                highest: 0,
            }),
        ];
        for record in said {
            assert_eq!(records(&record.bytes()).is_ok(), good, "{record:?}");
        }
    }
}
