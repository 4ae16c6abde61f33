//! What the fuzzers begin with: one of everything that is said and written.

use std::fs;
use std::path::Path;

use foca::{Codec, Header, Member, Message, State};
use tidegate::base::time;
use tidegate::cluster::acts::{Acts, ActsBeat, Order, Place, Subject};
use tidegate::cluster::codec::SwimCodec;
use tidegate::cluster::state::{self, Dir, Saved};
use tidegate::cluster::wire::records::{Meta, Record, StateBeat, ViewBeat};
use tidegate::cluster::wire::{Envelope, Kind};

use tidegate::net::{
    HeaderVersion, TlsTold, Told, read_header, read_hello, write_header, write_local,
};

use crate::targets::datagram::{OWN, PEER, STRANGER, World, identity, step, who};
use crate::targets::stream::{self, how, piece};

/// Seeds of a target.
pub(crate) fn of(target: &str) -> Vec<Vec<u8>> {
    match target {
        "codec" => messages(),
        "config" => files(),
        "datagram" => conversations(),
        "hello" => hellos(),
        "proxy_header" => headers(),
        "records" => golden(),
        "state" => states(),
        "stream" => talks(),
        "words" => words(),
        other => panic!("no seeds for {other}"),
    }
}

/// The golden bytes that hold the wire format: one of every record. Read from the tests that hold
/// them, so that a new record is a seed as soon as it has any.
fn golden() -> Vec<Vec<u8>> {
    let mut sources = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cluster")];
    let mut all = Vec::new();
    while let Some(path) = sources.pop() {
        if path.is_dir() {
            sources.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        // A long string goes on in the next line.
        let text = fs::read_to_string(&path).unwrap_or_default().replace("\\\n", "");
        for literal in text.split('"') {
            let digits: String = literal.split_whitespace().collect();
            all.extend(unhex(&digits).filter(|bytes| one_record(bytes)));
        }
    }
    all.sort();
    assert!(all.len() > 10, "where are the golden bytes?");
    all
}

/// Type, length, and just as many bytes.
fn one_record(bytes: &[u8]) -> bool {
    let length = bytes.get(1..3).map(|length| u16::from_be_bytes([length[0], length[1]]));
    length.is_some_and(|length| bytes.len() == 3 + usize::from(length))
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    if !digits.is_ascii() || !digits.len().is_multiple_of(2) {
        return None;
    }
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).ok())
        .collect()
}

/// Payloads of good datagrams: not every record belongs into every kind, and the machine tells.
pub(crate) fn payloads(kind: Kind) -> Vec<Vec<u8>> {
    match kind {
        Kind::Swim => messages(),
        _ => golden(),
    }
}

fn meta() -> Meta {
    let (name, digest, version) = ("n2".to_owned(), "d".to_owned(), "0.1.0".to_owned());
    Meta { actor: PEER, seq: 2, name, digest, version, keys: vec![1], sync: None }
}

fn member(state: State) -> Member<tidegate::cluster::identity::Identity> {
    Member::new(identity(STRANGER), 1, state)
}

/// foca's messages, with members and with an item that is spread.
fn messages() -> Vec<Vec<u8>> {
    let mut codec = SwimCodec::new(identity(OWN));
    let (own, peer, other) = (identity(OWN), identity(PEER), identity(STRANGER));
    let probe_number = 1;
    let kinds = [
        Message::Ping(probe_number),
        Message::Ack(probe_number),
        Message::PingReq { target: other, probe_number },
        Message::IndirectPing { origin: other, probe_number },
        Message::IndirectAck { target: other, probe_number },
        Message::ForwardedAck { origin: other, probe_number },
        Message::Announce,
        Message::Feed,
        Message::Gossip,
        Message::Broadcast,
        Message::TurnUndead,
    ];
    let mut all = Vec::new();
    for message in kinds {
        let spreads = matches!(message, Message::Broadcast);
        let bare = matches!(message, Message::Announce | Message::TurnUndead);
        let header = Header { src: peer, src_incarnation: 1, dst: own, message };
        let mut bytes = Vec::new();
        codec.encode_header(&header, &mut bytes).unwrap();
        if spreads {
            let item = Record::Meta(meta()).bytes();
            bytes.extend_from_slice(&(item.len() as u16).to_be_bytes());
            bytes.extend_from_slice(&item);
        } else if !bare {
            let states = [State::Alive, State::Suspect, State::Down];
            bytes.extend_from_slice(&(states.len() as u16).to_be_bytes());
            for state in states {
                codec.encode_member(&member(state), &mut bytes).unwrap();
            }
        }
        all.push(bytes);
    }
    all
}

/// Each payload that is taken, from the member and from a stranger with time after it, each as a whole
/// datagram, and all of them as one long conversation.
fn conversations() -> Vec<Vec<u8>> {
    let pause = step(who::NOBODY, 0, &[0; 40]);
    let mut all = Vec::new();
    let mut talk = Vec::new();
    for (at, kind) in Kind::ALL.into_iter().enumerate() {
        for payload in payloads(kind) {
            if World::new().step(who::PEER, at as u8, &payload) == 0 {
                continue;
            }
            let said = step(who::PEER, at as u8, &payload);
            talk.extend_from_slice(&said);
            let sealed = Envelope::new("default", PEER).seal(kind, Some(OWN.node), &payload);
            let stranger = step(who::STRANGER, at as u8, &payload);
            all.push([said, stranger, step(who::ANYBODY, 0, &sealed), pause.clone()].concat());
        }
    }
    talk.extend_from_slice(&step(who::NOBODY, 0, &[0; 400]));
    all.push(talk);
    all
}

/// The examples of the documentation and the shipped configurations.
fn files() -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/configuration.md")).unwrap();
    let blocks = page.split("```yaml").skip(1).filter_map(|rest| rest.split("\n```").next());
    let blocks = blocks.filter_map(|block| block.split_once('\n')).map(|(_, text)| text.into());
    let shipped = fs::read_dir(root.join("cluster-configs")).unwrap().map(|file| file.unwrap());
    let mut shipped: Vec<_> = shipped.map(|file| file.path()).collect();
    shipped.sort();
    blocks.chain(shipped.iter().filter_map(|path| fs::read(path).ok())).collect()
}

/// What a node keeps: nothing yet; peers and acts.
fn states() -> Vec<Vec<u8>> {
    // So far ahead that nothing of it is forgotten, whenever it is read.
    let (now, unix_ms) = (time::now(), 4_000_000_000_000);
    let peers = (1..=3u8).map(|last| (([10, 0, 0, last], 9090).into(), unix_ms)).collect();
    let place = || Place { rule: "web".into(), backend: "10.0.0.1:80".parse().unwrap() };
    let orders = [
        (Subject::Client("203.0.113.0/24".parse().unwrap()), Order::Ban { cut: true }),
        (Subject::Drain(place()), Order::Drain { mark: 7 }),
        (Subject::Backend(place()), Order::Weight { weight: 3, mark: 7 }),
    ];
    let acts = Acts::new(PEER, &"n1".into());
    acts.issue(now, unix_ms, &orders, None).expect("there is room");
    let all = [
        Saved { node: PEER.node, state: state::State::default(), acts: Vec::new() },
        Saved {
            node: PEER.node,
            state: state::State { generation: 5, peers },
            acts: acts.rows(now),
        },
    ];
    let written = all.iter().map(|saved| {
        let path = tempfile::tempdir().unwrap();
        Dir::open(path.path()).unwrap().write(saved).unwrap();
        let files = fs::read_dir(path.path()).unwrap().map(|file| file.unwrap().path());
        let file = files.max_by_key(|file| fs::metadata(file).unwrap().len()).unwrap();
        let text = fs::read_to_string(file).unwrap();
        let written_at = text.split("\"saved_ms\": ").nth(1).unwrap().split(',').next().unwrap();
        text.replace(written_at, &unix_ms.to_string()).into_bytes()
    });
    written.collect()
}

/// Whole push/pulls, called and calling, with every record that is told in one.
fn talks() -> Vec<Vec<u8>> {
    let view = ViewBeat { count: 1, hash: 1, answer: false };
    let acts = ActsBeat { count: 1, hash: 1 };
    let beat = Record::StateBeat(StateBeat { view, metas: 1, acts }).bytes();
    let told = golden().into_iter().filter(|record| {
        // A record that is not told ends the talk.
        stream::talk(&called(&[&beat[..], record].concat()))
    });
    let told: Vec<_> = told.collect();
    assert!(told.len() >= 5, "{}", told.len());
    let everything = [&beat[..], &told.concat()].concat();
    let calling = [vec![1], piece(how::LAST, &everything)].concat();
    assert!(stream::talk(&calling));
    let raw = [vec![0], piece(how::RAW, &[0, 40]), piece(how::RAW, &[7; 40])].concat();
    let each = told.iter().map(|record| called(&[&beat[..], record].concat()));
    each.chain([called(&everything), calling, raw]).collect()
}

/// The member calls: a turn of these records and an empty one.
fn called(records: &[u8]) -> Vec<u8> {
    [vec![0], piece(how::LAST, records), piece(how::LAST, &[])].concat()
}

fn words() -> Vec<Vec<u8>> {
    let words = "127.0.0.1:80 [::1]:8080 [fe80::1%2]:1 app.internal:8082 a_b.example.:65535 \
                 http://127.0.0.1:9900 HTTP://[::1]:9900/ http://localhost n1:0";
    let orders = [
        r#"{"client":"203.0.113.0/24","for":"1h 30m","cut":true,"wide":false}"#,
        r#"{"backend":"app.internal:80","rule":"web","weight":3}"#,
    ];
    words.split(' ').chain(orders).map(|word| word.as_bytes().to_vec()).collect()
}

/// A real hello out of the tests that read it, whole and in two records; and one that is all there is
/// to it.
fn hellos() -> Vec<Vec<u8>> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/net/hello/tests.rs");
    let text = fs::read_to_string(source).unwrap().replace("\\\n", "");
    let digits = |literal: &str| literal.split_whitespace().collect::<String>();
    let known = |bytes: &Vec<u8>| matches!(read_hello(bytes), Ok(Some(_)));
    let real = text.split('"').find_map(|text| unhex(&digits(text)).filter(known)).unwrap();
    let (one, two) = real[5..].split_at(70);
    let record = |part: &[u8]| [&[0x16, 3, 1, 0, part.len() as u8], part].concat();
    let cut = [record(one), record(two)].concat();
    let body = [&[3, 1][..], &[7; 32], &[0, 0, 2, 0, 0x2f, 1, 0]].concat();
    let bare = record(&[&[1, 0, 0, body.len() as u8], &body[..]].concat());
    assert!(known(&cut) && known(&bare));
    vec![real, cut, bare, b"GET / HTTP/1.1\r\n".to_vec()]
}

fn headers() -> Vec<Vec<u8>> {
    let pairs = [("192.0.2.1:5", "198.51.100.1:443"), ("[2001:db8::1]:5", "192.0.2.1:443")];
    let (cipher, common_name) = (Some("TLS13_AES_128_GCM_SHA256"), Some("client.a"));
    let tls = TlsTold { version: "TLSv1.3", cipher, common_name, verified: true, resumed: false };
    let versions = [HeaderVersion::V1, HeaderVersion::V2];
    let written = versions.into_iter().flat_map(|version| {
        let header = move |(source, destination): (&str, &str)| {
            let [source, destination] = [source, destination].map(|text| text.parse().unwrap());
            let (server_name, alpn) = (Some("a.b"), Some(&b"h2"[..]));
            let told = Told { source, destination, server_name, alpn, tls: Some(tls) };
            write_header(version, &told)
        };
        pairs.into_iter().map(header).chain([write_local(version)])
    });
    // One with its checksum, and one of a socket that is a file.
    let fixed = |family, length| [&b"\r\n\r\n\0\r\nQUIT\n\x21"[..], &[family, 0, length]].concat();
    let summed = [fixed(0, 7), vec![3, 0, 4, 0x3e, 0xc9, 0x89, 0x4e]].concat();
    let unix = [fixed(0x31, 216), vec![b'/'; 216]].concat();
    assert!(matches!(read_header(&summed), Ok(Some(_))));
    written.chain([summed, unix]).collect()
}
