//! TLS towards backends: whom it believes, what it shows, and what happens with those it cannot use.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use rustls::HandshakeKind;
use tidegate::net::HeaderVersion;
use tidegate::net::tls::{OriginatePlan, Trust};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{NAME, towards};
use crate::support::backend::Backend;
use crate::support::proxy::{Proxy, plan};
use crate::support::tls::{self, Authority, Pair, TLS12, TLS13, originate};
use crate::support::{SOON, until};

/// A backend with `pair` that says `!` and then echoes.
async fn greeting(authority: &Authority, pair: &Pair) -> Backend {
    tls::backend(authority.server(TLS13, pair), |mut stream| async move {
        let _ = stream.write_all(b"!").await;
        tls::echo(stream).await;
    })
    .await
}

/// What a plain client reads first of `proxy`; `None`: an end.
async fn word(proxy: &Proxy) -> Option<u8> {
    let mut word = [0];
    let read = proxy.connect().await.read(&mut word).await.unwrap();
    (read == 1).then_some(word[0])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_is_believed_by_its_authority_by_a_pin_or_unseen_and_not_otherwise() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (pair, other) = (authority.pair(&[NAME]), authority.pair(&[NAME]));
    let backend = greeting(&authority, &pair).await;
    let cases = [
        (Trust::Roots(authority.roots()), NAME, true),
        (Trust::Roots(authority.roots()), "wrong.example", false),
        (Trust::Roots(stranger.roots()), NAME, false),
        (Trust::Pinned(pair.roots()), "wrong.example", true),
        (Trust::Pinned(other.roots()), NAME, false),
        // Its issuer is not itself.
        (Trust::Pinned(authority.roots()), NAME, false),
        (Trust::Anybody, "wrong.example", true),
        (Trust::System, NAME, false),
    ];
    for (trust, name, good) in cases {
        let mut plan = plan(&[backend.address]);
        let shown = format!("{trust:?} {name}");
        towards(originate(trust, name), &mut plan);
        let proxy = Proxy::of(plan).await;
        assert_eq!(word(&proxy).await, good.then_some(b'!'), "{shown}");
        proxy.has_ended(if good { "ok" } else { "backend_tls_failed" }, 1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_name_the_backends_address_must_stand_in_its_certificate() {
    let authority = Authority::new();
    let with_address = authority.pair_of(&[NAME], |params| {
        params.subject_alt_names.push(rcgen::SanType::IpAddress([127, 0, 0, 1].into()));
    });
    for (pair, good) in [(with_address, true), (authority.pair(&[NAME]), false)] {
        let backend = greeting(&authority, &pair).await;
        let mut plan = plan(&[backend.address]);
        let trust = Trust::Roots(authority.roots());
        towards(OriginatePlan { server_name: None, ..originate(trust, NAME) }, &mut plan);
        let proxy = Proxy::of(plan).await;
        assert_eq!(word(&proxy).await, good.then_some(b'!'));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_backend_is_tried_when_a_handshake_fails_in_any_way() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let good = greeting(&authority, &authority.pair(&[NAME])).await;
    let wrong = greeting(&stranger, &stranger.pair(&[NAME])).await;
    let plain = Backend::greeting("220 plain.example\r\n").await;
    let closing = Backend::start(|mut stream| async move {
        let _ = stream.read(&mut [0; 4096]).await;
    })
    .await;
    let silent = Backend::sink().await;
    for (bad, reason) in [
        (&wrong, "backend_tls_failed"),
        (&plain, "backend_tls_failed"),
        (&closing, "backend_tls_failed"),
        (&silent, "backend_tls_failed"),
    ] {
        let mut both = plan(&[bad.address, good.address]);
        both.pool.connect_timeout = Duration::from_millis(500);
        towards(originate(Trust::Roots(authority.roots()), NAME), &mut both);
        let proxy = Proxy::of(both.clone()).await;
        for _ in 0..4 {
            assert_eq!(word(&proxy).await, Some(b'!'));
        }
        assert!(bad.connections() >= 1, "nobody tried it");
        both.pool.backends.truncate(1);
        let proxy = Proxy::of(both).await;
        assert_eq!(word(&proxy).await, None);
        proxy.has_ended(reason, 1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_asks_for_a_certificate_is_shown_ours() {
    let authority = Authority::new();
    let own = authority.pair(&["gate.example"]);
    let backend = tls::backend(authority.strict_server(&authority.pair(&[NAME])), tls::echo).await;
    for (certificate, good) in [(Some(own.certificate()), true), (None, false)] {
        let mut plan = plan(&[backend.address]);
        let trust = Trust::Roots(authority.roots());
        towards(OriginatePlan { certificate, ..originate(trust, NAME) }, &mut plan);
        let proxy = Proxy::of(plan).await;
        let mut client = proxy.connect().await;
        client.write_all(b"x").await.unwrap();
        assert_eq!(matches!(client.read_u8().await, Ok(b'x')), good);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_with_a_backend_are_resumed() {
    let authority = Authority::new();
    let pair = authority.pair(&[NAME]);
    for versions in [TLS12, TLS13] {
        let resumed = Arc::new(AtomicUsize::new(0));
        let mut config = authority.server(versions, &pair);
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().unwrap();
        let backend = tls::backend(config, {
            let resumed = Arc::clone(&resumed);
            move |stream| {
                let kind = stream.get_ref().1.handshake_kind();
                resumed.fetch_add(usize::from(kind == Some(HandshakeKind::Resumed)), Relaxed);
                tls::echo(stream)
            }
        })
        .await;
        let mut plan = plan(&[backend.address]);
        towards(originate(Trust::Roots(authority.roots()), NAME), &mut plan);
        let proxy = Proxy::of(plan).await;
        for _ in 0..5 {
            let mut client = proxy.connect().await;
            // Tickets of TLS 1.3 come with the first bytes at the latest.
            client.write_all(b"x").await.unwrap();
            client.read_u8().await.unwrap();
        }
        until("four of five were resumed", || resumed.load(Relaxed) == 4).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_behind_a_proxy_header_reaches_a_backend_with_tls_sealed() {
    let authority = Authority::new();
    let pair = authority.pair(&[NAME]);
    for send in [None, Some(HeaderVersion::V1), Some(HeaderVersion::V2)] {
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(authority.server(TLS13, &pair)));
        let backend = Backend::start(move |mut stream| {
            let acceptor = acceptor.clone();
            async move {
                if send.is_some() {
                    super::read_header(&mut stream).await;
                }
                if let Ok(stream) = acceptor.accept(stream).await {
                    tls::echo(stream).await;
                }
            }
        })
        .await;
        let mut plan = plan(&[backend.address]);
        plan.proxy_from = Some(vec!["127.0.0.0/8".parse().unwrap()]);
        plan.pool.send_proxy = send;
        towards(originate(Trust::Roots(authority.roots()), NAME), &mut plan);
        let proxy = Proxy::of(plan).await;
        let mut client = proxy.connect().await;
        // All in one segment, so that bytes for the backend are read with the header.
        let said = b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 443\r\nmy secret";
        client.write_all(said).await.unwrap();
        let mut answer = [0; 9];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"my secret");
        drop(client);
        proxy.has_ended("ok", 1).await;
        assert_eq!((proxy.figures().bytes_up, proxy.figures().bytes_down), (9, 9));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_are_resumed_no_longer_than_the_backends_certificate_is_good() {
    let authority = Authority::new();
    for versions in [TLS12, TLS13] {
        let end = SystemTime::now() + Duration::from_secs(2);
        let pair = authority.pair_of(&[NAME], |params| params.not_after = end.into());
        let resumed = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&resumed);
        let mut config = authority.server(versions, &pair);
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().unwrap();
        let backend = tls::backend(config, move |mut stream| {
            let kind = stream.get_ref().1.handshake_kind();
            count.fetch_add(usize::from(kind == Some(HandshakeKind::Resumed)), Relaxed);
            async move {
                let _ = stream.write_all(b"!").await;
                tls::echo(stream).await;
            }
        })
        .await;
        let mut plan = plan(&[backend.address]);
        towards(originate(Trust::Roots(authority.roots()), NAME), &mut plan);
        let proxy = Proxy::of(plan).await;
        // Its end is a moment and no state: sessions go on until then, and not beyond.
        let deadline = end + SOON;
        while word(&proxy).await.is_some() {
            assert!(SystemTime::now() < deadline, "sessions hide that the certificate is expired");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        proxy.has_ended("backend_tls_failed", 1).await;
        assert!(resumed.load(Relaxed) > 0, "none was resumed at all");
    }
}
