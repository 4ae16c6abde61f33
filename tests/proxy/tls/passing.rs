//! TLS that is passed through: where its hello leads, and that nothing of it is touched.

use std::sync::Arc;
use std::time::Duration;

use tidegate::base::Endpoint;
use tidegate::net::tls::{TlsMode, TlsRoute};
use tidegate::proxy::RulePlan;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::hello;
use crate::support::backend::Backend;
use crate::support::proxy::{Proxy, plan};
use crate::support::tls::{self, Authority, TLS13, connect};
use crate::support::{SOON, bytes};

/// A rule that passes TLS through to `own`, and to others by name.
fn passing(own: &[&Backend], routes: &[(&str, &Backend)]) -> RulePlan {
    let ways = routes.iter().map(|(name, backend)| (Some(*name), &[][..], *backend));
    passing_by(own, &ways.collect::<Vec<_>>())
}

/// As [`passing`], by name and by protocol.
fn passing_by(own: &[&Backend], routes: &[(Option<&str>, &[&str], &Backend)]) -> RulePlan {
    let backends = own.iter().chain(routes.iter().map(|(.., backend)| backend));
    let mut plan = plan(&backends.map(|backend| backend.address).collect::<Vec<_>>());
    for backend in &mut plan.pool.backends[own.len()..] {
        backend.routed = true;
    }
    let mut tls = tls::tls(TlsMode::Passthrough);
    tls.routes = routes
        .iter()
        .map(|(name, alpn, backend)| TlsRoute {
            server_name: name.map(str::to_owned),
            alpn: protocols(alpn),
            backends: vec![Endpoint::from(backend.address)],
        })
        .collect();
    RulePlan { tls: Some(tls), ..plan }
}

fn protocols(names: &[&str]) -> Vec<Vec<u8>> {
    names.iter().map(|name| name.as_bytes().to_vec()).collect()
}

/// A backend with TLS of its own that says `word`.
async fn saying(authority: &Authority, word: u8) -> Backend {
    let pair = authority.pair(&["exact.example", "*.wild.example", "other.example"]);
    let mut config = authority.server(tls::TLS13, &pair);
    config.alpn_protocols = protocols(&["h2", "http/1.1"]);
    tls::backend(config, move |mut stream| async move {
        let _ = stream.write_all(&[word]).await;
        tls::echo(stream).await;
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_leads_to_its_backend_and_ends_there() {
    let authority = Authority::new();
    let (own, exact, wild) = (
        saying(&authority, b'o').await,
        saying(&authority, b'e').await,
        saying(&authority, b'w').await,
    );
    let routes = [("*.wild.example", &wild), ("exact.example", &exact)];
    let proxy = Proxy::of(passing(&[&own], &routes)).await;
    let config = Arc::new(authority.client(TLS13, None));
    for (name, word) in [
        ("exact.example", b'e'),
        ("EXACT.example", b'e'),
        ("a.wild.example", b'w'),
        ("other.example", b'o'),
    ] {
        let mut client = connect(&config, proxy.address, name).await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), word, "{name}");
    }
    let mut nameless = authority.client(TLS13, None);
    nameless.enable_sni = false;
    let mut client = connect(&Arc::new(nameless), proxy.address, "exact.example").await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), b'o');
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_leads_nowhere_is_told_so_by_an_alert() {
    let authority = Authority::new();
    let exact = saying(&authority, b'e').await;
    let proxy = Proxy::of(passing(&[], &[("exact.example", &exact)])).await;
    let config = Arc::new(authority.client(TLS13, None));
    for (name, times) in [("other.example", 1), ("b.exact.example", 2), ("example", 3)] {
        let mut client = proxy.connect().await;
        client.write_all(&hello(&config, name)).await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, [21, 3, 1, 0, 2, 2, 112]);
        proxy.has_ended("no_route", times).await;
    }
    assert_eq!(exact.connections(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_protocol_leads_to_its_backend_within_its_name_or_for_all_names() {
    let authority = Authority::new();
    let (own, second, first, any) = (
        saying(&authority, b'o').await,
        saying(&authority, b'2').await,
        saying(&authority, b'1').await,
        saying(&authority, b'a').await,
    );
    let routes: &[(Option<&str>, &[&str], &Backend)] = &[
        (None, &["h2"], &any),
        (Some("exact.example"), &["h2"], &second),
        (Some("exact.example"), &[], &first),
    ];
    let proxy = Proxy::of(passing_by(&[&own], routes)).await;
    for (name, offered, word) in [
        ("exact.example", &["http/1.1", "h2"][..], b'2'),
        ("exact.example", &["http/1.1"], b'1'),
        ("exact.example", &[], b'1'),
        ("other.example", &["h2"], b'a'),
        ("other.example", &["http/1.1"], b'o'),
    ] {
        let mut config = authority.client(TLS13, None);
        config.alpn_protocols = protocols(offered);
        let mut client = connect(&Arc::new(config), proxy.address, name).await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), word, "{name} {offered:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_protocol_that_leads_nowhere_is_told_so_where_its_name_leads_somewhere() {
    let authority = Authority::new();
    let exact = saying(&authority, b'e').await;
    let proxy = Proxy::of(passing_by(&[], &[(Some("exact.example"), &["h2"], &exact)])).await;
    let mut config = authority.client(TLS13, None);
    config.alpn_protocols = protocols(&["http/1.1"]);
    let config = Arc::new(config);
    for (name, alert, times) in [("exact.example", 120, 1), ("other.example", 112, 2)] {
        let mut client = proxy.connect().await;
        client.write_all(&hello(&config, name)).await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, [21, 3, 1, 0, 2, 2, alert], "{name}");
        proxy.has_ended("no_route", times).await;
    }
    assert_eq!(exact.connections(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hello_in_any_pieces_arrives_with_what_follows_in_order_and_unchanged() {
    const MUCH: usize = 8 * 1024 * 1024;
    let authority = Authority::new();
    // Sends back what comes: nobody here takes part in the handshake.
    let backend = Backend::echo().await;
    let proxy = Proxy::of(passing(&[&backend], &[])).await;
    let hello = hello(&Arc::new(authority.client(TLS13, None)), "exact.example");
    // The same message in records of 100 bytes.
    let records: Vec<u8> = hello[5..]
        .chunks(100)
        .flat_map(|part| [&[22, 3, 1, 0, part.len() as u8][..], part].concat())
        .collect();
    for (hello, piece, much) in [
        (&hello, usize::MAX, MUCH),
        (&hello, 1, 10),
        (&records, usize::MAX, MUCH),
        (&records, 7, 10),
    ] {
        let sent = [&hello[..], &bytes(much, 6)].concat();
        let client = proxy.connect().await;
        client.set_nodelay(true).unwrap();
        let (mut read, mut write) = client.into_split();
        let writing = tokio::spawn({
            let (sent, first) = (sent.clone(), hello.len());
            async move {
                let (first, rest) = sent.split_at(if piece == 1 { first } else { sent.len() });
                for part in first.chunks(piece) {
                    write.write_all(part).await.unwrap();
                    if piece < 10 {
                        tokio::time::sleep(Duration::from_micros(100)).await;
                    }
                }
                write.write_all(rest).await.unwrap();
                write.shutdown().await.unwrap();
            }
        });
        let mut got = Vec::with_capacity(sent.len());
        read.read_to_end(&mut got).await.unwrap();
        writing.await.unwrap();
        assert!(got == sent, "{} of {} bytes, in pieces of {piece}", got.len(), sent.len());
    }
    proxy.has_ended("ok", 4).await;
    let figures = proxy.figures();
    assert_eq!(figures.bytes_up, figures.bytes_down);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hello_that_is_none_reaches_no_backend() {
    let authority = Authority::new();
    let backend = Backend::echo().await;
    let mut plan = passing(&[&backend], &[]);
    plan.tls.as_mut().unwrap().handshake_timeout = Duration::from_millis(400);
    let proxy = Proxy::of(plan).await;
    let hello = hello(&Arc::new(authority.client(TLS13, None)), "exact.example");
    let mut oversized = [&[22, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xff][..], &[3; 20_000]].concat();
    oversized.truncate(16_500);
    let alert: &[u8] = &[21, 3, 1, 0, 2, 2, 50];
    for (said, answered, reason) in [
        (&b"SSH-2.0-OpenSSH_9.2\r\n"[..], &b""[..], "not_tls"),
        (&[22, 3, 1, 0, 6, 1, 0, 0, 2, 3, 3], alert, "tls_failed"),
        (&oversized, alert, "tls_failed"),
        // The rest never comes.
        (&hello[..hello.len() - 1], b"", "tls_timeout"),
    ] {
        let before = proxy.ended(reason);
        let mut client = proxy.connect().await;
        client.write_all(said).await.unwrap();
        let mut answer = Vec::new();
        timeout(SOON, client.read_to_end(&mut answer)).await.unwrap().unwrap();
        assert_eq!(answer, answered, "{reason}");
        proxy.has_ended(reason, before + 1).await;
    }
    let mut client = proxy.connect().await;
    client.write_all(&hello[..50]).await.unwrap();
    drop(client);
    proxy.has_ended("client_gone", 1).await;
    assert_eq!(backend.connections(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_gives_the_next_backend_the_whole_hello() {
    let authority = Authority::new();
    let good = saying(&authority, b'g').await;
    let mut plan = passing(&[&good], &[]);
    let refusing = crate::support::backend::nobody().await;
    plan.pool.backends.insert(0, tidegate::upstream::BackendPlan::new(refusing));
    let proxy = Proxy::of(plan).await;
    let config = Arc::new(authority.client(TLS13, None));
    for _ in 0..4 {
        let mut client = connect(&config, proxy.address, "exact.example").await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), b'g');
    }
}
