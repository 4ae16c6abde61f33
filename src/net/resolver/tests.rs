use std::net::UdpSocket;

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::{RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinEncodable};

use super::*;

fn hosts(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hosts");
    fs::write(&path, text).unwrap();
    (dir, path)
}

fn name(text: &str) -> Host {
    Host::Name(text.into())
}

/// A name server that knows `both.test` (A twice, AAAA) with a TTL of `ttl`, and nothing else.
fn name_server(ttl: u32) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buf = [0; 1500];
        while let Ok((n, from)) = socket.recv_from(&mut buf) {
            let asked = Message::from_bytes(&buf[..n]).unwrap();
            let question = asked.queries[0].clone();
            let mut answer = Message::new(asked.metadata.id, MessageType::Response, OpCode::Query);
            answer.metadata.recursion_available = true;
            let data: Vec<RData> = match question.query_type() {
                _ if question.name().to_ascii() != "both.test." => {
                    answer.metadata.response_code = ResponseCode::NXDomain;
                    vec![]
                }
                RecordType::A => ["10.0.0.9", "10.0.0.1"]
                    .map(|ip| RData::from(ip.parse::<IpAddr>().unwrap()))
                    .to_vec(),
                RecordType::AAAA => vec![RData::from("fd00::1".parse::<IpAddr>().unwrap())],
                _ => vec![],
            };
            for data in data {
                answer.add_answer(Record::from_rdata(question.name().clone(), ttl, data));
            }
            answer.add_query(question);
            socket.send_to(&answer.to_bytes().unwrap(), from).unwrap();
        }
    });
    addr
}

#[tokio::test]
async fn an_address_is_its_own_answer() {
    let resolver = Resolver::from_files(Ok(Vec::new()), PathBuf::new()).unwrap();
    let ip: IpAddr = "10.1.2.3".parse().unwrap();
    assert_eq!(resolver.resolve(&Host::Ip(ip)).await.unwrap().addresses, [ip]);
}

#[tokio::test]
async fn without_a_name_server_the_hosts_file_still_answers() {
    let (_dir, path) =
        hosts("127.0.0.1 localhost\n10.0.0.2 App.internal app # b.internal\n::1 app\n");
    for resolv_conf in [Err(io::ErrorKind::NotFound.into()), Ok(b"search lan\n".to_vec())] {
        let resolver = Resolver::from_files(resolv_conf, path.clone()).unwrap();
        let found = resolver.resolve(&name("APP")).await.unwrap();
        assert_eq!(found.addresses, ["10.0.0.2", "::1"].map(|ip| ip.parse::<IpAddr>().unwrap()));
        let commented = resolver.resolve(&name("b.internal")).await;
        assert!(matches!(commented, Err(ResolveError::NoServer(_))), "{commented:?}");
    }
}

#[tokio::test]
async fn a_changed_hosts_file_is_seen() {
    let (_dir, path) = hosts("10.0.0.2 app\n");
    let resolver = Resolver::from_files(Ok(Vec::new()), path.clone()).unwrap();
    resolver.resolve(&name("app")).await.unwrap();
    fs::write(&path, "10.0.0.3 app\n").unwrap();
    let found = resolver.resolve(&name("app")).await.unwrap();
    assert_eq!(found.addresses, ["10.0.0.3".parse::<IpAddr>().unwrap()]);
}

#[tokio::test]
async fn both_families_are_asked_for_and_come_sorted_with_their_ttl() {
    let resolver = Resolver::with_nameserver(name_server(120));
    let found = resolver.resolve(&name("both.test")).await.unwrap();
    let wanted = ["10.0.0.1", "10.0.0.9", "fd00::1"].map(|ip| ip.parse::<IpAddr>().unwrap());
    assert_eq!(found.addresses, wanted);
    assert!(found.valid_for > Duration::from_secs(100), "{found:?}");
    assert!(found.valid_for <= Duration::from_secs(120), "{found:?}");
}

#[tokio::test]
async fn a_ttl_of_zero_makes_nobody_spin() {
    let resolver = Resolver::with_nameserver(name_server(0));
    let found = resolver.resolve(&name("both.test")).await.unwrap();
    assert_eq!(found.valid_for, LEAST_VALID);
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_told_from_a_server_that_does_not_answer() {
    let resolver = Resolver::with_nameserver(name_server(1));
    let unknown = resolver.resolve(&name("none.test")).await;
    assert!(matches!(unknown, Err(ResolveError::NoAddress(_))), "{unknown:?}");

    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let resolver = Resolver::with_nameserver(silent.local_addr().unwrap());
    let unanswered = resolver.resolve(&name("both.test")).await;
    assert!(matches!(unanswered, Err(ResolveError::Failed { .. })), "{unanswered:?}");
}
