//! Seeds by name: a small name server whose answer changes while nodes join.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::rr::{LowerName, Name, RData, Record, RecordType, RrKey};
use hickory_server::Server;
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, ZoneType};
use tidegate::base::Endpoint;
use tidegate::cluster::MemberState;
use tidegate::net::Resolver;
use tokio::runtime::Runtime;

use crate::loopback::{Node, eventually, plan, start, states};

/// A name server that knows `seed.test` as it is told.
struct NameServer {
    runtime: Runtime,
    zone: Arc<InMemoryZoneHandler>,
    address: SocketAddr,
    _server: Server<Catalog>,
}

impl NameServer {
    fn start() -> NameServer {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.unwrap();
        let origin = Name::from_ascii("test.").unwrap();
        let zone = InMemoryZoneHandler::empty(origin.clone(), ZoneType::Primary, AxfrPolicy::Deny);
        let zone = Arc::new(zone);
        let mut catalog = Catalog::new();
        catalog.upsert(LowerName::new(&origin), vec![zone.clone()]);
        let _entered = runtime.enter();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let address = socket.local_addr().unwrap();
        let mut server = Server::new(catalog);
        server.register_socket(tokio::net::UdpSocket::from_std(socket).unwrap());
        drop(_entered);
        NameServer { runtime, zone, address, _server: server }
    }

    /// From now on `seed.test` is at `addresses`.
    fn answer(&self, addresses: &[IpAddr]) {
        let name = Name::from_ascii("seed.test.").unwrap();
        self.runtime.block_on(async {
            let key = RrKey::new(LowerName::new(&name), RecordType::A);
            self.zone.records_mut().await.remove(&key);
            for ip in addresses {
                let record = Record::from_rdata(name.clone(), 0, RData::from(*ip));
                assert!(self.zone.upsert(record, 0).await);
            }
        });
    }
}

fn all_see(nodes: &[Node], names: &[&str]) -> bool {
    let wanted: Vec<_> =
        names.iter().map(|name| ((*name).to_owned(), MemberState::Alive)).collect();
    nodes.iter().all(|node| {
        let mut alive = states(node);
        alive.retain(|(_, state)| *state == MemberState::Alive);
        alive == wanted
    })
}

#[test]
fn nodes_join_by_a_name_whose_answer_changes_meanwhile() {
    let names = NameServer::start();
    // A name has addresses but one port: all nodes use the one that the first found free.
    let free = UdpSocket::bind("127.0.0.21:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let seed: Endpoint = format!("seed.test:{port}").parse().unwrap();
    let ip = |node: u8| IpAddr::from([127, 0, 0, 20 + node]);
    let join = |node: u8| {
        let bind = SocketAddr::new(ip(node), port).to_string();
        let resolver = Resolver::with_nameserver(names.address);
        start(plan(&format!("n{node}"), &bind, std::slice::from_ref(&seed)), resolver)
    };

    // Nothing resolves yet: nodes start all the same, each alone.
    let mut nodes = vec![join(1), join(2)];
    std::thread::sleep(Duration::from_millis(300));
    assert!(nodes.iter().all(|node| node.cluster.members().len() == 1));
    assert!(nodes.iter().all(|node| !node.cluster.answered()));

    // The name appears, and is the first node's.
    names.answer(&[ip(1)]);
    eventually("two by the first", Duration::from_secs(10), || all_see(&nodes, &["n1", "n2"]));

    // The name moves to the second, and to an address where nobody is.
    names.answer(&[ip(9), ip(2)]);
    nodes.push(join(3));
    eventually("three by the second", Duration::from_secs(10), || {
        all_see(&nodes, &["n1", "n2", "n3"])
    });

    // It names only dead addresses while the fourth starts, then the third.
    names.answer(&[ip(9)]);
    nodes.push(join(4));
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(nodes[3].cluster.members().len(), 1);
    names.answer(&[ip(3)]);
    eventually("four by the third", Duration::from_secs(10), || {
        all_see(&nodes, &["n1", "n2", "n3", "n4"])
    });
    eventually("each has heard what peers know", Duration::from_secs(3), || {
        nodes.iter().all(|node| node.cluster.answered())
    });
}
