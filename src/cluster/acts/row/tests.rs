use super::*;
use crate::base::{BootId, NodeId, hex};
use crate::cluster::wire::MAX_PAYLOAD;
use crate::cluster::wire::records::records;

fn stamp() -> Stamp {
    let writer = Actor { node: NodeId(0x0102_0304_0506_0708), boot: BootId::new(0) };
    let (version, by) = (1_800_000_000_000, "n1".to_owned());
    Stamp { version, writer, by, left_ms: Some(600_000), keep_ms: None }
}

fn backend(change: Change) -> Record {
    let (rule, backend) = ("web".to_owned(), "10.0.0.9:80".to_owned());
    Record::Backend(BackendRow { rule, backend, change, stamp: stamp() })
}

fn all() -> Vec<Record> {
    let client = "203.0.113.0/24".to_owned();
    let (rule, name) = ("web".to_owned(), "app.internal:80".to_owned());
    vec![
        Record::ActsBeat(ActsBeat { count: 3, hash: 4 }),
        Record::AskActs(AskActs { sums: vec![1, 2, 3, 4] }),
        Record::Ban(BanRow { client, cut: Some(true), stamp: stamp() }),
        Record::Drain(DrainRow { rule, backend: name, mark: Some(7), stamp: stamp() }),
        backend(Change::Lifted),
        backend(Change::Add { weight: 2 }),
        backend(Change::Remove { mark: 7 }),
        backend(Change::Weight { weight: 2, mark: 7 }),
    ]
}

/// Change these only together with the wire version.
#[test]
fn acts_keep_their_bytes() {
    let stamp = "fd00505c18a3010000fd080706050403020100026e3101fcc0270900".to_owned() + "00";
    let web = "03776562";
    let at = "0b31302e302e302e393a3830";
    let golden = [
        "2800020304".to_owned(),
        "2900050401020304".to_owned(),
        format!("2a002e0e3230332e302e3131332e302f323401 01{stamp}").replace(' ', ""),
        format!("2b0033{web}0f6170702e696e7465726e616c3a3830 0107{stamp}").replace(' ', ""),
        format!("2c002e{web}{at}00{stamp}"),
        format!("2c002f{web}{at}0102{stamp}"),
        format!("2c002f{web}{at}0207{stamp}"),
        format!("2c0030{web}{at}030207{stamp}"),
    ];
    let bytes: Vec<String> = all().iter().map(|record| hex(&record.bytes())).collect();
    assert_eq!(bytes, golden);
}

#[test]
fn acts_are_read_as_they_were_put_and_refused_when_cut() {
    let mut payload = Vec::new();
    all().iter().for_each(|record| record.put(&mut payload));
    assert_eq!(records(&payload), Ok(all()));
    for record in all() {
        let bytes = record.bytes();
        for length in 1..bytes.len() {
            assert_eq!(records(&bytes[..length]), Err(Undecodable), "{record:?} cut at {length}");
        }
    }
}

#[test]
fn the_largest_act_and_the_sums_fit_a_datagram() {
    let long = "r".repeat(MOST_TEXT);
    let name = format!("{}:80", ["a".repeat(63), "b".repeat(63), "c".repeat(63)].join("."));
    let mut stamp = stamp();
    stamp.by = "n".repeat(MOST_BY);
    let act = Record::Drain(DrainRow { rule: long, backend: name, mark: Some(u64::MAX), stamp });
    let ask = Record::AskActs(AskActs { sums: vec![255; 4 * super::super::store::PARTS] });
    for record in [act, ask] {
        let bytes = record.bytes();
        assert!(bytes.len() <= MAX_PAYLOAD, "{} bytes", bytes.len());
        assert_eq!(records(&bytes), Ok(vec![record]));
    }
}

#[test]
fn what_could_not_be_an_act_does_not_decode() {
    let ban = |client: &str, change: fn(&mut Stamp)| {
        let mut stamp = stamp();
        change(&mut stamp);
        Record::Ban(BanRow { client: client.to_owned(), cut: None, stamp }).bytes()
    };
    assert!(records(&ban("10.0.0.1/32", |_| {})).is_ok());
    for bytes in [
        ban("10.0.0.1", |_| {}),
        ban("10.0.0.1/33", |_| {}),
        ban("", |_| {}),
        ban("10.0.0.1/32", |stamp| stamp.version = u64::MAX),
        ban("10.0.0.1/32", |stamp| stamp.by = "a\nb".to_owned()),
        ban("10.0.0.1/32", |stamp| stamp.left_ms = Some(u64::MAX)),
    ] {
        assert_eq!(records(&bytes), Err(Undecodable));
    }
}

#[test]
fn a_long_node_name_is_cut_at_a_character() {
    assert_eq!(&*by(&NodeName::from("ü".repeat(40).as_str())).0, "ü".repeat(16));
}
