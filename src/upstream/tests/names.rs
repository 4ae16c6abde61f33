use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::{RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinEncodable};

use super::*;

/// A name server for one name, whose addresses the test changes; without any the name does not
/// exist. TTL zero.
#[derive(Clone, Default)]
struct Names(Arc<Mutex<Vec<Ipv4Addr>>>);

impl Names {
    fn set(&self, addresses: &[&str]) {
        *self.0.lock() = addresses.iter().map(|text| text.parse().unwrap()).collect();
    }

    fn serve(&self) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let names = self.clone();
        std::thread::spawn(move || {
            let mut buf = [0; 1500];
            while let Ok((n, from)) = socket.recv_from(&mut buf) {
                let asked = Message::from_bytes(&buf[..n]).unwrap();
                let question = asked.queries[0].clone();
                let mut answer =
                    Message::new(asked.metadata.id, MessageType::Response, OpCode::Query);
                answer.metadata.recursion_available = true;
                let known = names.0.lock().clone();
                if known.is_empty() {
                    answer.metadata.response_code = ResponseCode::NXDomain;
                }
                for ip in known.iter().filter(|_| question.query_type() == RecordType::A) {
                    let data = RData::from(IpAddr::from(*ip));
                    answer.add_answer(Record::from_rdata(question.name().clone(), 0, data));
                }
                answer.add_query(question);
                socket.send_to(&answer.to_bytes().unwrap(), from).unwrap();
            }
        });
        address
    }
}

/// Servers on two addresses and one port.
async fn two_on_one_port() -> (Server, Server) {
    loop {
        let one = Server::start().await;
        let other = SocketAddr::from(([127, 0, 0, 2], one.address.port()));
        if let Ok(probe) = TcpListener::bind(other).await {
            drop(probe);
            return (one, Server::at(other).await);
        }
    }
}

fn named(port: u16) -> PoolPlan {
    let name: Endpoint = format!("app.test:{port}").parse().unwrap();
    PoolPlan { backends: vec![backend(name)], ..checked(&[]) }
}

fn addresses(pool: &Pool) -> Vec<SocketAddr> {
    pool.snapshot().backends.iter().filter_map(|b| b.address).map(|a| a.0).collect()
}

#[tokio::test]
async fn a_name_is_resolved_and_its_changes_are_followed() {
    let (one, two) = two_on_one_port().await;
    let names = Names::default();
    names.set(&["127.0.0.1"]);
    let windows = PoolWindows { resolver: Resolver::with_nameserver(names.serve()), ..windows() };
    let verdicts = Arc::clone(&windows.verdicts);
    let pool = Pool::start(named(one.address.port()), windows, None, 1);
    pool.first_checks().await;
    let kept = pool.dial(client(), None).await.unwrap();
    assert_eq!(kept.lease.address().0, one.address);

    names.set(&["127.0.0.1", "127.0.0.2"]);
    until("the second address is used", || state_of(&pool, two.address)).await;
    assert_eq!(spread(&pool, 4).await, HashMap::from([(one.address, 2), (two.address, 2)]));

    names.set(&["127.0.0.2"]);
    until("the first address is gone", || addresses(&pool) == [two.address]).await;
    assert_eq!(spread(&pool, 4).await, HashMap::from([(two.address, 4)]));
    assert_eq!(verdicts.of(&"web".into(), one.address), None, "its verdict is forgotten");
    // It drains: the connection lives, and counts when the address comes back.
    names.set(&["127.0.0.1", "127.0.0.2"]);
    until("the first address is back", || addresses(&pool).len() == 2).await;
    assert_eq!(of(&pool, one.address).active, 1);
    drop(kept);
    assert_eq!(of(&pool, one.address).active, 0);
}

fn state_of(pool: &Pool, address: SocketAddr) -> bool {
    addresses(pool).contains(&address) && state(pool, address) == BackendState::Up
}

#[tokio::test]
async fn a_name_that_cannot_be_resolved_any_more_keeps_its_addresses() {
    let one = Server::start().await;
    let names = Names::default();
    names.set(&["127.0.0.1"]);
    let windows = PoolWindows { resolver: Resolver::with_nameserver(names.serve()), ..windows() };
    let pool = Pool::start(named(one.address.port()), windows, None, 1);
    pool.first_checks().await;
    names.set(&[]);
    let failed = || pool.core().board.lock().origins[0].trouble.is_some();
    until("the resolution failed", failed).await;
    assert_eq!(spread(&pool, 2).await, HashMap::from([(one.address, 2)]));
}

#[tokio::test]
async fn a_name_that_never_resolves_does_not_hold_up_the_rest_and_is_used_once_it_does() {
    let one = Server::start().await;
    let names = Names::default();
    let windows = PoolWindows { resolver: Resolver::with_nameserver(names.serve()), ..windows() };
    let pool = Pool::start(named(one.address.port()), windows, None, 1);
    pool.first_checks().await;
    assert!(matches!(pool.dial(client(), None).await, Err(DialError::NoBackend)));
    until("its failure is shown", || pool.snapshot().backends[0].state == BackendState::Down).await;
    let status = pool.snapshot().backends.remove(0);
    assert_eq!((status.address, status.active), (None, 0));
    assert!(status.last_check.contains("app.test"), "{}", status.last_check);
    names.set(&["127.0.0.1"]);
    until("it is used", || addresses(&pool) == [one.address]).await;
    pool.dial(client(), None).await.unwrap();
}

#[tokio::test]
async fn an_address_that_is_written_and_named_counts_once() {
    let one = Server::start().await;
    let names = Names::default();
    names.set(&["127.0.0.1"]);
    let windows = PoolWindows { resolver: Resolver::with_nameserver(names.serve()), ..windows() };
    let mut plan = named(one.address.port());
    plan.backends.push(backend(one.address));
    let pool = Pool::start(plan, windows, None, 1);
    pool.first_checks().await;
    assert_eq!(addresses(&pool), [one.address]);
}

/// A name server that never answers.
fn silent() -> (UdpSocket, Resolver) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let resolver = Resolver::with_nameserver(socket.local_addr().unwrap());
    (socket, resolver)
}

#[tokio::test]
async fn waiting_for_pools_in_turn_takes_no_longer_than_for_one() {
    let (_held, resolver) = silent();
    let windows = PoolWindows { resolver, ..windows() };
    let mut plan = named(80);
    plan.check.timeout = Duration::from_millis(200);
    let began = time::now();
    let pools = [1, 2, 3, 4].map(|seed| Pool::start(plan.clone(), windows.clone(), None, seed));
    for pool in &pools {
        pool.first_checks().await;
    }
    assert!(began.elapsed() < Duration::from_millis(900), "waited {:?}", began.elapsed());
}

#[tokio::test]
async fn a_name_that_fails_after_its_pool_has_ended_hurts_nobody() {
    let (_held, resolver) = silent();
    let pool = Pool::start(named(80), PoolWindows { resolver, ..windows() }, None, 1);
    pool.close();
    pool.core().unresolved(0, "too late".to_owned(), time::now());
    assert_eq!(pool.snapshot().total, 0);
}
