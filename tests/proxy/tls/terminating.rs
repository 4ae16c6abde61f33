//! Which certificate, version and protocol a client gets, and in how many pieces it may say hello.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{AlertDescription, ClientConnection, ProtocolVersion};
use tidegate::net::tls::{ServedPlan, TlsVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{NAME, before, both, connected, ending, take};
use crate::support::backend::Backend;
use crate::support::proxy::Proxy;
use crate::support::tls::{Authority, TLS12, TLS13, alert, connect, terminate};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_versions_speak_with_every_kind_of_key() {
    let (authority, backend) = (Authority::new(), Backend::echo().await);
    for kind in [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_ED25519,
        &rcgen::PKCS_RSA_SHA256,
    ] {
        let pair = authority.pair_with(kind, &[NAME], |_| {});
        let proxy = Proxy::of(ending(terminate(&[&pair]), &[&backend])).await;
        for (config, version) in
            both(&authority).iter().zip([ProtocolVersion::TLSv1_2, ProtocolVersion::TLSv1_3])
        {
            let mut client = connected(config, &proxy).await;
            assert_eq!(client.get_ref().1.protocol_version(), Some(version));
            client.write_all(b"hello").await.unwrap();
            let mut answer = [0; 5];
            client.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"hello");
            client.shutdown().await.unwrap();
            assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
        }
        proxy.has_ended("ok", 2).await;
        assert_eq!((proxy.figures().bytes_up, proxy.figures().bytes_down), (10, 10));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_is_shown_the_certificate_of_the_name_it_asks_for() {
    let (authority, backend) = (Authority::new(), Backend::echo().await);
    // Each also holds all other names, so that the clients take whatever they are shown; the first is
    // for all of its names.
    let names = ["exact.example", "*.wild.example", "first.example", "other.example"];
    let pair = || authority.pair(&names);
    let (first, exact, wild) = (pair(), pair(), pair());
    let mut tls = terminate(&[]);
    tls.certificates =
        [(&first, None), (&exact, Some("exact.example")), (&wild, Some("*.wild.example"))]
            .map(|(pair, name)| ServedPlan {
                server_name: name.map(str::to_owned),
                ..pair.served()
            })
            .into();
    let proxy = Proxy::of(ending(tls, &[&backend])).await;
    let shown = |name: &'static str| {
        let (config, address) = (both(&authority)[1].clone(), proxy.address);
        async move {
            let client = connect(&config, address, name).await.unwrap();
            client.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
        }
    };
    assert_eq!(shown("exact.example").await, exact.chain[0]);
    assert_eq!(shown("EXACT.example").await, exact.chain[0]);
    assert_eq!(shown("a.wild.example").await, wild.chain[0]);
    assert_eq!(shown("other.example").await, first.chain[0]);
    assert_eq!(shown("first.example").await, first.chain[0]);
    // Without a name.
    let mut config = authority.client(TLS13, None);
    config.enable_sni = false;
    let client = connect(&Arc::new(config), proxy.address, "exact.example").await.unwrap();
    let certificate: &CertificateDer<'_> = &client.get_ref().1.peer_certificates().unwrap()[0];
    assert_eq!(*certificate, first.chain[0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_common_protocol_is_agreed_on_and_none_in_common_is_told_by_an_alert() {
    let (authority, backend) = (Authority::new(), Backend::echo().await);
    let mut tls = terminate(&[&authority.pair(&[NAME])]);
    tls.alpn = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let proxy = Proxy::of(ending(tls, &[&backend])).await;
    for versions in [TLS12, TLS13] {
        let asking = |protocols: &[&str]| {
            let mut config = authority.client(versions, None);
            config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
            Arc::new(config)
        };
        let client = connected(&asking(&["http/1.1", "h2"]), &proxy).await;
        assert_eq!(client.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let client = connected(&asking(&[]), &proxy).await;
        assert_eq!(client.get_ref().1.alpn_protocol(), None);
        let refused = connect(&asking(&["spdy"]), proxy.address, NAME).await.unwrap_err();
        assert_eq!(alert(&refused), Some(AlertDescription::NoApplicationProtocol));
    }
    proxy.has_ended("tls_incompatible", 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_of_tls_1_3_refuses_1_2_by_an_alert() {
    let (authority, backend) = (Authority::new(), Backend::echo().await);
    let mut tls = terminate(&[&authority.pair(&[NAME])]);
    tls.min_version = TlsVersion::Tls13;
    let proxy = Proxy::of(ending(tls, &[&backend])).await;
    let [old, new] = both(&authority);
    let refused = connect(&old, proxy.address, NAME).await.unwrap_err();
    assert_eq!(alert(&refused), Some(AlertDescription::ProtocolVersion));
    proxy.has_ended("tls_incompatible", 1).await;
    connected(&new, &proxy).await;
    assert!(backend.connections() <= 1);
}

/// Goes through a handshake with `stream`, each of its flights in pieces of `piece` bytes; `first` goes
/// out with the last one.
async fn in_pieces(
    conn: &mut ClientConnection,
    stream: &mut TcpStream,
    piece: usize,
    first: &[u8],
) {
    stream.set_nodelay(true).unwrap();
    let mut said = false;
    while !said || conn.wants_write() {
        let mut flight = Vec::new();
        if !conn.is_handshaking() && !said {
            use std::io::Write as _;
            conn.writer().write_all(first).unwrap();
            said = true;
        }
        while conn.wants_write() {
            conn.write_tls(&mut flight).unwrap();
        }
        for piece in flight.chunks(piece) {
            stream.write_all(piece).await.unwrap();
            // A moment, so that it is a segment of its own; nothing depends on it.
            tokio::time::sleep(Duration::from_micros(100)).await;
        }
        if conn.is_handshaking() {
            let mut came = vec![0; 8192];
            let n = stream.read(&mut came).await.unwrap();
            assert!(n > 0, "closed in the handshake");
            take(conn, &came[..n]);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_may_come_byte_by_byte_and_with_bytes_for_the_backend_behind_it() {
    use std::io::Read as _;

    let (authority, backend) = (Authority::new(), Backend::echo().await);
    let (proxy, clients) = before(&backend, &authority).await;
    for config in clients {
        for piece in [1, 7, usize::MAX] {
            let mut stream = proxy.connect().await;
            let name = ServerName::try_from(NAME).unwrap();
            let mut conn = ClientConnection::new(Arc::clone(&config), name).unwrap();
            in_pieces(&mut conn, &mut stream, piece, b"early bird").await;
            let mut answer = Vec::new();
            while answer.len() < 10 {
                let mut came = vec![0; 8192];
                let n = stream.read(&mut came).await.unwrap();
                assert!(n > 0, "closed after {} bytes", answer.len());
                take(&mut conn, &came[..n]);
                let mut plain = [0; 64];
                if let Ok(n) = conn.reader().read(&mut plain) {
                    answer.extend_from_slice(&plain[..n]);
                }
            }
            assert_eq!(answer, b"early bird");
        }
    }
}
