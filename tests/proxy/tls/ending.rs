//! Ends are passed on as ends, and what was cut off is not.

use std::io::ErrorKind;
use std::time::Duration;

use tidegate::net::tls::Trust;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use super::{NAME, before, both, connected, ending, towards};
use crate::support::backend::Backend;
use crate::support::bytes;
use crate::support::proxy::Proxy;
use crate::support::tls::{self, Authority, TLS12, TLS13, originate, terminate};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_has_said_its_end_still_gets_its_answer() {
    let authority = Authority::new();
    let backend = Backend::start(|mut stream| async move {
        let mut question = Vec::new();
        stream.read_to_end(&mut question).await.unwrap();
        stream.write_all(&question).await.unwrap();
    })
    .await;
    let (proxy, clients) = before(&backend, &authority).await;
    for config in &clients {
        let mut client = connected(config, &proxy).await;
        client.write_all(b"all of it").await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // An end without close_notify would be an error here.
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"all of it");
    }
    proxy.has_ended("ok", 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_ends_first_still_hears_the_client_over_tls_on_both_sides() {
    let authority = Authority::new();
    let server = authority.pair(&[NAME]);
    for versions in [TLS12, TLS13] {
        let (tell, mut told) = mpsc::channel(1);
        let backend = tls::backend(authority.server(versions, &server), move |mut stream| {
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
        let mut plan = ending(terminate(&[&server]), &[&backend]);
        towards(originate(Trust::Roots(authority.roots()), NAME), &mut plan);
        let proxy = Proxy::of(plan).await;
        for config in both(&authority) {
            let mut client = connected(&config, &proxy).await;
            let mut said = Vec::new();
            client.read_to_end(&mut said).await.unwrap();
            assert_eq!(said, b"all I say");
            let late = bytes(1024 * 1024, 4);
            client.write_all(&late).await.unwrap();
            client.shutdown().await.unwrap();
            assert!(told.recv().await.unwrap() == late);
        }
        proxy.has_ended("ok", 2).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_cut_off_is_not_told_to_a_backend_as_whole() {
    let authority = Authority::new();
    let server = authority.pair(&[NAME]);
    let (tell, mut told) = mpsc::channel(1);
    let backend = tls::backend(authority.server(TLS13, &server), move |mut stream| {
        let tell = tell.clone();
        async move {
            let mut heard = Vec::new();
            let ended = stream.read_to_end(&mut heard).await.map_err(|error| error.kind());
            // Many take it ill, and reset.
            stream.get_ref().0.set_zero_linger().unwrap();
            tell.send((heard, ended)).await.unwrap();
        }
    })
    .await;
    let mut plan = ending(terminate(&[&server]), &[&backend]);
    towards(originate(Trust::Roots(authority.roots()), NAME), &mut plan);
    let proxy = Proxy::of(plan).await;
    for (config, times) in both(&authority).into_iter().zip(1..) {
        let mut client = connected(&config, &proxy).await;
        client.write_all(b"pay 10000").await.unwrap();
        // The socket alone is ended, as somebody on the way could do it.
        client.get_mut().0.shutdown().await.unwrap();
        let (heard, ended) = told.recv().await.unwrap();
        assert_eq!((&heard[..], ended), (&b"pay 10000"[..], Err(ErrorKind::UnexpectedEof)));
        // Which is nobody's fault but the client's.
        proxy.has_ended("client_closed", times).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_backend_cut_off_is_not_told_to_a_client_as_whole() {
    let authority = Authority::new();
    let server = authority.pair(&[NAME]);
    let backend = tls::backend(authority.server(TLS13, &server), |mut stream| async move {
        stream.write_all(b"half of").await.unwrap();
        stream.flush().await.unwrap();
        stream.get_mut().0.shutdown().await.unwrap();
        let _ = stream.read(&mut [0; 8]).await;
    })
    .await;
    let mut plan = ending(terminate(&[&server]), &[&backend]);
    towards(originate(Trust::Roots(authority.roots()), NAME), &mut plan);
    let proxy = Proxy::of(plan).await;
    for config in both(&authority) {
        let mut client = connected(&config, &proxy).await;
        let mut said = Vec::new();
        let ended = client.read_to_end(&mut said).await.unwrap_err();
        assert_eq!((&said[..], ended.kind()), (&b"half of"[..], ErrorKind::UnexpectedEof));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_is_passed_on_through_tls_both_ways() {
    let authority = Authority::new();
    let (tell, mut told) = mpsc::channel(1);
    let backend = Backend::start(move |mut stream| {
        let tell = tell.clone();
        async move {
            let word = stream.read_u8().await.unwrap();
            if word == b'r' {
                let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            } else {
                stream.write_u8(word).await.unwrap();
                tell.send(stream.read(&mut [0; 8]).await.map_err(|error| error.kind()))
                    .await
                    .unwrap();
            }
        }
    })
    .await;
    let (proxy, clients) = before(&backend, &authority).await;
    for (config, times) in clients.iter().zip(1..) {
        let mut client = connected(config, &proxy).await;
        client.write_all(b"x").await.unwrap();
        client.read_u8().await.unwrap();
        socket2::SockRef::from(client.get_ref().0).set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        assert_eq!(told.recv().await.unwrap(), Err(ErrorKind::ConnectionReset));
        proxy.has_ended("client_reset", times).await;
        let mut client = connected(config, &proxy).await;
        client.write_all(b"r").await.unwrap();
        let reset = client.read_u8().await.unwrap_err();
        assert_eq!(reset.kind(), ErrorKind::ConnectionReset);
        proxy.has_ended("upstream_reset", times).await;
    }
}
