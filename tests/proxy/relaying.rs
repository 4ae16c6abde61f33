//! Bytes go through unchanged, and ends where they belong.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::backend::Backend;
use crate::support::proxy::{Proxy, plan};
use crate::support::{SOON, bytes, read_slowly};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_sends_comes_back_from_an_echo() {
    let backend = Backend::echo().await;
    let proxy = Proxy::before(&[backend.address]).await;
    let mut client = proxy.connect().await;
    for message in [&b"hello"[..], b"again"] {
        client.write_all(message).await.unwrap();
        let mut answer = vec![0; message.len()];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, message);
    }
    drop(client);
    proxy.has_ended("ok", 1).await;
    let figures = proxy.figures();
    assert_eq!((figures.connections, figures.active), (1, 0));
    assert_eq!((figures.bytes_up, figures.bytes_down), (10, 10));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_ended_its_half_still_gets_its_answer() {
    let backend = Backend::start(|mut stream| async move {
        let mut question = Vec::new();
        stream.read_to_end(&mut question).await.unwrap();
        stream.write_all(&question).await.unwrap();
    })
    .await;
    let proxy = Proxy::before(&[backend.address]).await;
    let mut client = proxy.connect().await;
    client.write_all(b"all of it").await.unwrap();
    client.shutdown().await.unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"all of it");
    proxy.has_ended("ok", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_ended_its_half_still_hears_the_client() {
    let (tell, mut told) = tokio::sync::mpsc::channel(1);
    let backend = Backend::start(move |mut stream| {
        let tell = tell.clone();
        async move {
            stream.write_all(b"all I say").await.unwrap();
            stream.shutdown().await.unwrap();
            let mut heard = Vec::new();
            stream.read_to_end(&mut heard).await.unwrap();
            tell.send(heard).await.unwrap();
        }
    })
    .await;
    let proxy = Proxy::before(&[backend.address]).await;
    let mut client = proxy.connect().await;
    let mut said = Vec::new();
    client.read_to_end(&mut said).await.unwrap();
    assert_eq!(said, b"all I say");
    client.write_all(b"late words").await.unwrap();
    drop(client);
    assert_eq!(told.recv().await.unwrap(), b"late words");
    proxy.has_ended("ok", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_megabytes_arrive_byte_for_byte_both_ways() {
    const MUCH: usize = 100 * 1024 * 1024;
    let backend = Backend::echo().await;
    let proxy = Proxy::before(&[backend.address]).await;
    let sent = bytes(MUCH, 11);
    let (mut read, mut write) = proxy.connect().await.into_split();
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
    drop(read);
    proxy.has_ended("ok", 1).await;
    assert_eq!(proxy.figures().bytes_up, MUCH as u64);
    assert_eq!(proxy.figures().bytes_down, MUCH as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_gets_everything() {
    const MUCH: usize = 24 * 1024 * 1024;
    let backend = Backend::start(|mut stream| async move {
        stream.write_all(&bytes(MUCH, 5)).await.unwrap();
    })
    .await;
    let proxy = Proxy::before(&[backend.address]).await;
    let mut client = proxy.connect().await;
    let got = read_slowly(&mut client, Duration::from_millis(1)).await;
    assert!(got == bytes(MUCH, 5), "{} bytes of {MUCH} came, or were changed", got.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_of_one_connection_never_reach_another() {
    // Clients that go while bytes for them lie in a pipe leave it behind full.
    const MUCH: usize = 8 * 1024 * 1024;
    let backend = Backend::start(|mut stream| async move {
        let seed = stream.read_u8().await.unwrap();
        let _ = stream.write_all(&bytes(MUCH, seed.into())).await;
    })
    .await;
    let proxy = Proxy::before(&[backend.address]).await;
    for seed in 1..=20_u8 {
        let mut client = proxy.connect().await;
        client.write_u8(seed).await.unwrap();
        let much = if seed % 2 == 0 { MUCH } else { MUCH / 4 };
        let mut got = vec![0; much];
        client.read_exact(&mut got).await.unwrap();
        assert!(got == bytes(much, seed.into()), "client {seed} got another's bytes");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_connection_ends_by_the_idle_timeout() {
    let backend = Backend::echo().await;
    let mut plan = plan(&[backend.address]);
    plan.idle_timeout = Duration::from_millis(300);
    let proxy = Proxy::of(plan).await;
    let mut client = proxy.connect().await;
    client.write_all(b"x").await.unwrap();
    client.read_u8().await.unwrap();
    let silent = Instant::now();
    let read = tokio::time::timeout(SOON, client.read(&mut [0; 8])).await.unwrap();
    assert_eq!(read.unwrap(), 0);
    assert!(silent.elapsed() >= Duration::from_millis(250), "{:?}", silent.elapsed());
    proxy.has_ended("idle_timeout", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_of_the_client_is_told_as_such_and_not_as_a_fault() {
    let backend = Backend::echo().await;
    let proxy = Proxy::before(&[backend.address]).await;
    let mut client = proxy.connect().await;
    client.write_all(b"x").await.unwrap();
    client.read_u8().await.unwrap();
    socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    proxy.has_ended("client_reset", 1).await;
}
