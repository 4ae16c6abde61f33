//! Handshakes that take too long, and very many of them.

use std::sync::Arc;
use std::time::Duration;

use tidegate::net::TcpOptions;
use tidegate::proxy::RulePlan;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::{NAME, before, both, connected, ending};
use crate::support::backend::Backend;
use crate::support::proxy::Proxy;
use crate::support::tls::{Authority, connect, terminate};
use crate::support::{SOON, until};

/// The beginning of a hello that never ends.
const BEGINNING: [u8; 9] = [22, 3, 1, 1, 0, 1, 0, 0, 0xfc];

/// A whole one.
fn hello(config: Arc<rustls::ClientConfig>) -> Vec<u8> {
    let name = rustls::pki_types::ServerName::try_from(NAME).unwrap();
    let mut conn = rustls::ClientConnection::new(config, name).unwrap();
    let mut hello = Vec::new();
    conn.write_tls(&mut hello).unwrap();
    hello
}

/// A rule whose handshakes must be done in `longest`.
fn within(longest: Duration, authority: &Authority, backend: &Backend) -> RulePlan {
    let mut plan = ending(terminate(&[&authority.pair(&[NAME])]), &[backend]);
    plan.tls.as_mut().unwrap().handshake_timeout = longest;
    plan
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_ends_by_its_deadline_however_often_a_byte_comes() {
    let (authority, backend) = (Authority::new(), Backend::echo().await);
    let proxy = Proxy::of(within(Duration::from_millis(400), &authority, &backend)).await;
    let silent = proxy.connect().await;
    let mut slow = proxy.connect().await;
    let speaking = async {
        for byte in BEGINNING.into_iter().chain(std::iter::repeat(3)) {
            if slow.write_all(&[byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, speaking).await.expect("its connection was never closed");
    proxy.has_ended("tls_timeout", 2).await;
    drop(silent);
    assert_eq!(backend.connections(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_stays_silent_after_the_servers_flight_ends_by_the_deadline() {
    let (authority, backend) = (Authority::new(), Backend::echo().await);
    let proxy = Proxy::of(within(Duration::from_millis(400), &authority, &backend)).await;
    for (config, times) in both(&authority).into_iter().zip(1..) {
        let mut client = proxy.connect().await;
        client.write_all(&hello(config)).await.unwrap();
        let mut flight = Vec::new();
        timeout(SOON, client.read_to_end(&mut flight)).await.unwrap().unwrap();
        assert!(flight.len() > 500, "the server said its part");
        proxy.has_ended("tls_timeout", times).await;
    }
    assert_eq!(backend.connections(), 0, "half a handshake reaches nobody");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_half_open_handshakes_stop_no_good_client() {
    let (authority, backend) = (Authority::new(), Backend::greeting("!").await);
    let (proxy, clients) = before(&backend, &authority).await;
    let mut half_open = Vec::new();
    for _ in 0..200 {
        let mut client = proxy.connect().await;
        client.write_all(&BEGINNING).await.unwrap();
        half_open.push(client);
    }
    until("all are there", || proxy.figures().active >= 200).await;
    for config in &clients {
        let word = timeout(SOON, async { connected(config, &proxy).await.read_u8().await });
        assert_eq!(word.await.unwrap().unwrap(), b'!');
    }
    drop(half_open);
    proxy.has_ended("client_gone", 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_the_most_handshakes_who_comes_waits_and_is_served_when_others_are_done() {
    let (authority, backend) = (Authority::new(), Backend::greeting("!").await);
    let plan = within(SOON, &authority, &backend);
    let tcp = TcpOptions { max_handshakes: 2, ..TcpOptions::default() };
    let proxy = Proxy::with(plan, tcp, None).await;
    // Each of the two workers takes its two, wherever the kernel sends them.
    let mut half_open = Vec::new();
    let config = Arc::clone(&both(&authority)[1]);
    while proxy.figures().active < 4 {
        let mut client = proxy.connect().await;
        client.write_all(&hello(Arc::clone(&config))).await.unwrap();
        // Whoever has heard the answer has said what it wants, and keeps its place.
        let heard = timeout(Duration::from_millis(100), client.read_u8());
        let _ = heard.await;
        half_open.push(client);
    }
    let address = proxy.address;
    let good = tokio::spawn(async move {
        let mut client = connect(&config, address, NAME).await.unwrap();
        client.read_u8().await.unwrap()
    });
    until("it pauses", || {
        proxy.workers.accept_pauses().iter().any(|(cause, n)| *cause == "max_handshakes" && *n > 0)
    })
    .await;
    assert_eq!((proxy.figures().active, good.is_finished()), (4, false));
    drop(half_open);
    assert_eq!(timeout(SOON, good).await.unwrap().unwrap(), b'!');
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_says_nothing_gives_way_to_who_speaks() {
    let (authority, backend) = (Authority::new(), Backend::greeting("!").await);
    let plan = within(Duration::from_secs(3_600), &authority, &backend);
    let tcp = TcpOptions { max_handshakes: 2, ..TcpOptions::default() };
    let proxy = Proxy::with(plan, tcp, None).await;
    let mut silent = Vec::new();
    for beginning in (0..8).map(|at| if at % 2 == 0 { &BEGINNING[..] } else { &[] }) {
        let mut client = proxy.connect().await;
        client.write_all(beginning).await.unwrap();
        silent.push(client);
    }
    for config in &both(&authority) {
        let word = timeout(SOON, async { connected(config, &proxy).await.read_u8().await });
        assert_eq!(word.await.expect("it waits behind them").unwrap(), b'!');
    }
    assert!(proxy.ended("crowded_out") > 0);
}
