//! Much, both ways at once, through TLS on one side or on both.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate::net::tls::Trust;
use tidegate::proxy::RulePlan;
use tidegate::traffic::{BandwidthPlan, Rates};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{NAME, before, both, connected, ending, towards};
use crate::support::backend::Backend;
use crate::support::proxy::{Proxy, plan};
use crate::support::tls::{self, Authority, TLS12, TLS13, originate, terminate};
use crate::support::{SOON, bytes, read_slowly};

const MUCH: usize = 24 * 1024 * 1024;

/// Sends [`MUCH`] while as much of it comes back, and ends.
async fn there_and_back(client: impl AsyncRead + AsyncWrite + Send + 'static) {
    let sent = bytes(MUCH, 3);
    let (mut read, mut write) = tokio::io::split(client);
    let writing = tokio::spawn({
        let sent = sent.clone();
        async move {
            write.write_all(&sent).await.unwrap();
            write.shutdown().await.unwrap();
        }
    });
    let mut got = Vec::with_capacity(MUCH);
    read.read_to_end(&mut got).await.unwrap();
    writing.await.unwrap();
    assert!(got == sent, "{} bytes of {MUCH} came back, or were changed", got.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn much_comes_back_byte_for_byte_through_a_termination() {
    let (authority, backend) = (Authority::new(), Backend::echo().await);
    let (proxy, clients) = before(&backend, &authority).await;
    for config in &clients {
        there_and_back(connected(config, &proxy).await).await;
    }
    proxy.has_ended("ok", 2).await;
    assert_eq!(proxy.figures().bytes_up, 2 * MUCH as u64);
    assert_eq!(proxy.figures().bytes_down, 2 * MUCH as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn much_comes_back_byte_for_byte_through_a_re_encryption() {
    let authority = Authority::new();
    let server = authority.pair(&[NAME]);
    let clients = both(&authority);
    for (config, versions) in clients.iter().zip([TLS13, TLS12]) {
        let backend = tls::backend(authority.server(versions, &server), tls::echo).await;
        let mut plan = ending(terminate(&[&server]), &[&backend]);
        towards(originate(Trust::Roots(authority.roots()), NAME), &mut plan);
        let proxy = Proxy::of(plan).await;
        there_and_back(connected(config, &proxy).await).await;
        proxy.has_ended("ok", 1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn much_comes_back_to_a_plain_client_from_backends_with_tls() {
    let authority = Authority::new();
    let backend = tls::backend(authority.server(TLS13, &authority.pair(&[NAME])), tls::echo).await;
    let mut plan = plan(&[backend.address]);
    towards(originate(Trust::Roots(authority.roots()), NAME), &mut plan);
    let proxy = Proxy::of(plan).await;
    there_and_back(proxy.connect().await).await;
    proxy.has_ended("ok", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_gets_everything_and_the_backend_has_to_wait_for_it() {
    let authority = Authority::new();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let backend = Backend::start(move |mut stream| {
        let tell = tell.clone();
        async move {
            for piece in bytes(MUCH, 9).chunks(64 * 1024) {
                stream.write_all(piece).await.unwrap();
                let _ = tell.send(piece.len());
            }
        }
    })
    .await;
    let (proxy, clients) = before(&backend, &authority).await;
    let mut client = connected(&clients[1], &proxy).await;
    // As much as lies in the kernel's buffers, and no more, is taken from the backend.
    let mut taken = 0;
    while let Ok(piece) = tokio::time::timeout(Duration::from_millis(500), told.recv()).await {
        taken += piece.unwrap();
    }
    assert!(taken < MUCH, "all of it was taken with nobody reading");
    let got = read_slowly(&mut client, Duration::from_micros(200)).await;
    assert!(got == bytes(MUCH, 9), "{} bytes of {MUCH} came, or were changed", got.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bandwidth_is_limited_over_tls_as_well() {
    let (authority, backend) = (Authority::new(), Backend::echo().await);
    let limit = NonZeroU64::new(400_000);
    let rates = Rates { upload: limit, download: None };
    let tls = terminate(&[&authority.pair(&[NAME])]);
    let plan = RulePlan {
        bandwidth: BandwidthPlan { client: rates, ..BandwidthPlan::default() },
        ..ending(tls, &[&backend])
    };
    let proxy = Proxy::of(plan).await;
    let mut client = connected(&both(&authority)[1], &proxy).await;
    let sent = bytes(600_000, 2);
    let begun = Instant::now();
    let (mut read, mut write) = tokio::io::split(&mut client);
    let mut got = vec![0; sent.len()];
    let (written, got) = tokio::join!(
        async {
            write.write_all(&sent).await?;
            write.flush().await
        },
        async { read.read_exact(&mut got).await.map(|_| got.as_slice()) }
    );
    written.unwrap();
    assert!(got.unwrap() == sent);
    // A pacer's burst is part of a second's worth.
    assert!(begun.elapsed() >= Duration::from_millis(400), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_connection_with_tls_ends_by_the_idle_timeout() {
    let (authority, backend) = (Authority::new(), Backend::echo().await);
    let tls = terminate(&[&authority.pair(&[NAME])]);
    let plan = RulePlan { idle_timeout: Duration::from_millis(300), ..ending(tls, &[&backend]) };
    let proxy = Proxy::of(plan).await;
    let mut client = connected(&both(&authority)[1], &proxy).await;
    client.write_all(b"x").await.unwrap();
    client.read_u8().await.unwrap();
    let read = tokio::time::timeout(SOON, client.read(&mut [0; 8])).await.unwrap();
    // It is cut, which nobody may take for an end.
    assert_eq!(read.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
    proxy.has_ended("idle_timeout", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_renewed_in_the_middle() {
    let (authority, backend) = (Authority::new(), Backend::echo().await);
    let (proxy, clients) = before(&backend, &authority).await;
    let mut client = connected(&Arc::clone(&clients[1]), &proxy).await;
    for round in 0..20 {
        let sent = bytes(100_000, round);
        client.write_all(&sent).await.unwrap();
        client.flush().await.unwrap();
        client.get_mut().1.refresh_traffic_keys().unwrap();
        let mut got = vec![0; sent.len()];
        client.read_exact(&mut got).await.unwrap();
        assert!(got == sent, "round {round}");
    }
    client.shutdown().await.unwrap();
    assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
    proxy.has_ended("ok", 1).await;
}
