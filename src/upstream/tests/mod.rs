//! Pools against real sockets on loopback.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::*;
use crate::balance::Policy;
use crate::base::{BackendKey, ClientAddr, Endpoint, NodeId, NodeName, Share, time};
use crate::health::{
    CheckKind, CheckPlan, Condition, Duty, NoPeers, OutlierPlan, Peers, Report, Rota, Verdict, Vote,
};
use crate::net::tls::{OriginatePlan, Trust};
use crate::net::{HeaderVersion, Resolver};
use crate::traffic::Rates;

mod caps;
mod checks;
mod dialing;
mod draining;
mod ejecting;
mod names;
mod narrowing;
mod reloading;
mod sharing;
mod voting;

/// A backend that accepts and holds connections until it is stopped.
struct Server {
    address: SocketAddr,
    task: JoinHandle<()>,
    accepted: Arc<Mutex<Vec<TcpStream>>>,
}

impl Server {
    async fn start() -> Server {
        Server::at("127.0.0.1:0".parse().unwrap()).await
    }

    async fn at(address: SocketAddr) -> Server {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(Mutex::new(Vec::new()));
        let held = Arc::clone(&accepted);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                held.lock().push(stream);
            }
        });
        Server { address, task, accepted }
    }

    /// Closes the listener and all connections.
    async fn stop(self) {
        self.task.abort();
        let _ = self.task.await;
        self.accepted.lock().clear();
    }
}

/// Addresses where nothing listens: their sockets are bound and never listen, so that no other
/// test gets the port.
struct Dead(#[expect(dead_code, reason = "held for its port")] tokio::net::TcpSocket, SocketAddr);

fn dead() -> Dead {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    Dead(socket, address)
}

fn client() -> ClientAddr {
    ClientAddr("127.0.0.1:1".parse().unwrap())
}

fn backend(address: impl Into<Endpoint>) -> BackendPlan {
    BackendPlan::new(address)
}

/// Round robin without checks.
fn plan(addresses: &[SocketAddr]) -> PoolPlan {
    PoolPlan {
        backends: addresses.iter().map(|&address| backend(address)).collect(),
        check: CheckPlan { kind: None, ..CheckPlan::default() },
        outlier: OutlierPlan { failures: 0, ..OutlierPlan::default() },
        ..PoolPlan::new("web")
    }
}

/// TCP checks, quick ones.
fn checked(addresses: &[SocketAddr]) -> PoolPlan {
    PoolPlan { check: quick(CheckKind::Tcp), ..plan(addresses) }
}

fn quick(kind: CheckKind) -> CheckPlan {
    CheckPlan {
        kind: Some(kind),
        interval: Duration::from_millis(50),
        timeout: Duration::from_secs(1),
        rise: 2,
        fall: 3,
        port: None,
    }
}

fn windows() -> PoolWindows {
    PoolWindows {
        resolver: Resolver::with_nameserver("127.0.0.1:1".parse().unwrap()),
        verdicts: Arc::default(),
        peers: Arc::new(NoPeers),
        holdings: Arc::default(),
        pace: Arc::default(),
        tally: Arc::default(),
    }
}

fn start(plan: PoolPlan) -> Arc<Pool> {
    Pool::start(plan, windows(), None, 1)
}

/// Where `count` dials went, each connection closed at once.
async fn spread(pool: &Arc<Pool>, count: usize) -> HashMap<SocketAddr, usize> {
    let mut went = HashMap::new();
    for _ in 0..count {
        let dialed = pool.dial(client(), None).await.unwrap();
        *went.entry(dialed.lease.address().0).or_default() += 1;
    }
    went
}

fn of(pool: &Pool, address: SocketAddr) -> BackendStatus {
    let found = |b: &BackendStatus| b.address.is_some_and(|a| a.0 == address);
    pool.snapshot().backends.into_iter().find(found).expect("a backend of this pool")
}

fn state(pool: &Pool, address: SocketAddr) -> BackendState {
    of(pool, address).state
}

/// Polls until `done`, at most ten seconds.
async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let began = time::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(10), "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
