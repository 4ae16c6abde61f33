//! Listeners that go, rules that change, and the end of everything.

use std::time::Duration;

use tidegate::base::ListenAddr;
use tidegate::proxy::Snapshot;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::backend::Backend;
use crate::support::proxy::{Proxy, plan};
use crate::support::{SOON, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_keeps_live_connections_and_new_ones_get_the_new_rule() {
    let (old, new) = (Backend::greeting("old").await, Backend::greeting("new").await);
    let proxy = Proxy::before(&[old.address]).await;
    let mut before = proxy.connect().await;
    before.read_exact(&mut [0; 3]).await.unwrap();

    proxy.reload(plan(&[new.address])).await;
    let mut after = proxy.connect().await;
    let mut greeting = [0; 3];
    after.read_exact(&mut greeting).await.unwrap();
    assert_eq!(&greeting, b"new");
    before.write_all(b"still").await.unwrap();
    let mut answer = [0; 5];
    before.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"still");
    assert_eq!(old.connections(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_listener_closes_and_its_live_connections_stay() {
    let backend = Backend::greeting("!").await;
    let proxy = Proxy::before(&[backend.address]).await;
    let mut live = proxy.connect().await;
    live.read_u8().await.unwrap();
    proxy.snapshot.publish(Snapshot::empty());
    proxy.workers.unlisten(ListenAddr(proxy.address));
    proxy.workers.settled().await;
    assert!(TcpStream::connect(proxy.address).await.is_err(), "still listening");
    live.write_all(b"x").await.unwrap();
    assert_eq!(live.read_u8().await.unwrap(), b'x');
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_in_the_queue_of_a_removed_listener_is_served() {
    for round in 0..5 {
        let backend = Backend::greeting("!").await;
        let proxy = Proxy::before(&[backend.address]).await;
        // Known to the accept loop before the rule goes away.
        proxy.connect().await.read_u8().await.unwrap();
        proxy.connect().await.read_u8().await.unwrap();
        // Connected, as far as the clients know, but perhaps not yet accepted.
        let mut clients = Vec::new();
        for _ in 0..200 {
            clients.push(proxy.connect().await);
        }
        proxy.snapshot.publish(Snapshot::empty());
        proxy.workers.unlisten_all().await;
        for (n, client) in clients.iter_mut().enumerate() {
            let read = client.read_u8().await;
            assert!(read.is_ok(), "round {round}, client {n}: {read:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_are_idle_when_the_last_connection_has_ended() {
    let backend = Backend::greeting("!").await;
    let proxy = Proxy::before(&[backend.address]).await;
    let mut clients = Vec::new();
    for _ in 0..8 {
        let mut client = proxy.connect().await;
        client.read_u8().await.unwrap();
        clients.push(client);
    }
    assert_eq!(proxy.workers.live(), 8);
    let last = clients.pop();
    drop(clients);
    proxy.has_ended("ok", 7).await;
    let early = timeout(Duration::from_millis(100), proxy.workers.idle()).await;
    assert!(early.is_err(), "idle with a live connection");
    drop(last);
    timeout(SOON, proxy.workers.idle()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_time_is_over_live_connections_are_cut_and_told_so() {
    let backend = Backend::greeting("!").await;
    let proxy = Proxy::before(&[backend.address]).await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        let mut client = proxy.connect().await;
        client.read_u8().await.unwrap();
        clients.push(client);
    }
    proxy.over();
    for mut client in clients {
        let read = timeout(SOON, client.read(&mut [0; 8])).await.unwrap();
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    }
    proxy.has_ended("shutdown_cut", 5).await;
    timeout(SOON, proxy.workers.idle()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_the_workers_ends_their_threads_and_connections() {
    let backend = Backend::greeting("!").await;
    let proxy = Proxy::before(&[backend.address]).await;
    let mut client = proxy.connect().await;
    client.read_u8().await.unwrap();
    let stats = proxy.stats.clone();
    drop(proxy);
    let read = timeout(SOON, client.read(&mut [0; 8])).await.unwrap();
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    let figures = stats.figures();
    assert_eq!((figures.active, &figures.outcomes[..]), (0, &[("shutdown_cut", 1)][..]));
    until("the backend was let go", || backend.connections() == 1).await;
}
