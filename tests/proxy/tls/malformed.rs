//! Peers that break the rules, before, in and after the handshake.

use std::io::ErrorKind;
use std::time::Duration;

use rustls::AlertDescription as Alert;
use tidegate::net::tls::Trust;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use super::{NAME, before, connected, towards};
use crate::support::backend::Backend;
use crate::support::bytes;
use crate::support::proxy::{Proxy, plan};
use crate::support::tls::{Authority, alert, backend, originate};

/// A fatal alert in plain, and what it says.
fn told(answer: &[u8]) -> Option<u8> {
    match answer {
        [21, 3, _, 0, 2, 2, alert] => Some(*alert),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_hello_is_refused_and_counted_by_its_kind() {
    let (authority, backend) = (Authority::new(), Backend::echo().await);
    let (proxy, _) = before(&backend, &authority).await;
    let oversized = [&[22, 3, 1, 0xff, 0xff][..], &[0; 70_000]].concat();
    let endless = [&[22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff][..], &[0; 70_000]].concat();
    let empty = [22, 3, 1, 0, 0].repeat(1000);
    let alerts = [21, 3, 1, 0, 2, 1, 0].repeat(1000);
    let cases: [(&[u8], &str, bool); 9] = [
        (b"GET / HTTP/1.0\r\n\r\n", "not_tls", false),
        (b"\0", "not_tls", false),
        (&[23, 3, 3, 0, 1, 0], "not_tls", false),
        (&alerts, "not_tls", false),
        // A hello that ends within itself.
        (&[22, 3, 1, 0, 6, 1, 0, 0, 2, 3, 3], "tls_failed", true),
        // Another message in its place.
        (&[22, 3, 1, 0, 4, 2, 0, 0, 0], "tls_failed", true),
        (&oversized, "tls_failed", true),
        // rustls would say nothing about a message that cannot end.
        (&endless, "tls_failed", true),
        (&empty, "tls_failed", true),
    ];
    let mut times = std::collections::BTreeMap::new();
    for (said, reason, alerted) in cases {
        let mut client = proxy.connect().await;
        let _ = client.write_all(said).await;
        let mut answer = Vec::new();
        // What came after the refusal may have made it a reset.
        let _ = client.read_to_end(&mut answer).await;
        let begins = &said[..said.len().min(9)];
        assert_eq!(told(&answer).is_some(), alerted, "{begins:?}: {answer:?}");
        let count = times.entry(reason).or_insert(0);
        *count += 1;
        proxy.has_ended(reason, *count).await;
    }
    assert_eq!(backend.connections(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_goes_in_its_handshake_is_gone_and_nothing_else() {
    let (authority, backend) = (Authority::new(), Backend::echo().await);
    let (proxy, _) = before(&backend, &authority).await;
    for (linger, times) in [(None, 1), (Some(Duration::ZERO), 2)] {
        let mut client = proxy.connect().await;
        client.write_all(&[22, 3, 1, 1, 0, 1, 0]).await.unwrap();
        socket2::SockRef::from(&client).set_linger(linger).unwrap();
        drop(client);
        proxy.has_ended("client_gone", times).await;
    }
    drop(proxy.connect().await);
    proxy.has_ended("client_gone", 3).await;
    assert_eq!(backend.connections(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_record_after_the_handshake_is_told_by_an_alert_and_tears_the_connection() {
    let authority = Authority::new();
    let (tell, mut heard) = mpsc::channel(1);
    let backend = Backend::start(move |mut stream| {
        let tell = tell.clone();
        async move {
            stream.write_u8(b'!').await.unwrap();
            let mut got = Vec::new();
            let ended = stream.read_to_end(&mut got).await.map_err(|error| error.kind());
            tell.send((got, ended)).await.unwrap();
        }
    })
    .await;
    let (proxy, clients) = before(&backend, &authority).await;
    let forged = [&[23, 3, 3, 0, 64][..], &bytes(64, 1)].concat();
    let oversized = [&[23, 3, 3, 0xff, 0xff][..], &bytes(1000, 1)].concat();
    let text = b"GET / HTTP/1.0\r\n\r\n".to_vec();
    let mut times = 0;
    for config in &clients {
        for (bad, said) in [
            (&forged, Alert::BadRecordMac),
            (&oversized, Alert::DecodeError),
            (&text, Alert::DecodeError),
        ] {
            let mut client = connected(config, &proxy).await;
            // The handshake is over for the other side as well.
            client.read_u8().await.unwrap();
            client.write_all(b"good").await.unwrap();
            client.flush().await.unwrap();
            client.get_mut().0.write_all(bad).await.unwrap();
            let told = client.read_u8().await.unwrap_err();
            assert_eq!(alert(&told), Some(said));
            let (got, ended) = heard.recv().await.unwrap();
            assert!(got.is_empty() || got == b"good", "{got:?}");
            assert_eq!(ended, Err(ErrorKind::ConnectionReset));
            times += 1;
            proxy.has_ended("client_tls_broken", times).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_sends_no_records_after_the_handshake_tears_the_connection() {
    let authority = Authority::new();
    let config = authority.server(crate::support::tls::TLS13, &authority.pair(&[NAME]));
    let backend = backend(config, |mut stream| async move {
        stream.read_u8().await.unwrap();
        stream.get_mut().0.write_all(b"HTTP/1.0 200 OK\r\n\r\n").await.unwrap();
        let _ = stream.read(&mut [0; 8]).await;
    })
    .await;
    let mut plan = plan(&[backend.address]);
    towards(originate(Trust::Roots(authority.roots()), NAME), &mut plan);
    let proxy = Proxy::of(plan).await;
    let mut client = proxy.connect().await;
    client.write_all(b"x").await.unwrap();
    let torn = client.read_u8().await.unwrap_err();
    assert_eq!(torn.kind(), ErrorKind::ConnectionReset);
    proxy.has_ended("upstream_tls_broken", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tiny_records_arrive_as_they_were_sent() {
    const RECORDS: usize = 20_000;
    let (authority, backend) = (Authority::new(), Backend::echo().await);
    let (proxy, clients) = before(&backend, &authority).await;
    for config in &clients {
        let sent = bytes(RECORDS, 8);
        let (mut read, mut write) = tokio::io::split(connected(config, &proxy).await);
        let writing = tokio::spawn({
            let sent = sent.clone();
            async move {
                for byte in sent {
                    // Each call makes a record of its own.
                    write.write_all(&[byte]).await.unwrap();
                }
                write.shutdown().await.unwrap();
            }
        });
        let mut got = Vec::new();
        read.read_to_end(&mut got).await.unwrap();
        writing.await.unwrap();
        assert!(got == sent);
    }
    proxy.has_ended("ok", 2).await;
}
