//! PROXY headers: from whom they are believed, what they change, and what backends are told.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tidegate::net::HeaderVersion;
use tidegate::net::tls::{TerminatePlan, TlsMode, Trust};
use tidegate::proxy::RulePlan;
use tidegate::traffic::{AccessPlan, CapsPlan};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use super::{NAME, ending, hello, read_header, take, towards};
use crate::support::backend::Backend;
use crate::support::proxy::{Proxy, plan};
use crate::support::tls::{self, Authority, TLS13, originate, over, terminate};

const V1: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.9 1000 443\r\n";

/// The same in version 2.
fn v2() -> Vec<u8> {
    let head = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c";
    [&head[..], &[192, 0, 2, 1, 192, 0, 2, 9, 3, 0xe8, 1, 0xbb]].concat()
}

/// Believes whoever connects from here.
fn believing(plan: RulePlan) -> RulePlan {
    RulePlan { proxy_from: Some(vec!["127.0.0.0/8".parse().unwrap()]), ..plan }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_is_taken_off_wherever_it_is_cut() {
    let authority = Authority::new();
    let backend = Backend::echo().await;
    let plain = Proxy::of(believing(plan(&[backend.address]))).await;
    let tls = terminate(&[&authority.pair(&[NAME])]);
    let sealed = Proxy::of(believing(ending(tls, &[&backend]))).await;
    let config = Arc::new(authority.client(TLS13, None));
    for header in [V1.to_vec(), v2()] {
        for cut in (0..=header.len()).step_by(if header.len() > 30 { 4 } else { 1 }) {
            let mut client = plain.connect().await;
            client.set_nodelay(true).unwrap();
            client.write_all(&header[..cut]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
            client.write_all(&[&header[cut..], b"behind it"].concat()).await.unwrap();
            let mut answer = [0; 9];
            client.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"behind it", "cut at {cut}");

            let mut stream = sealed.connect().await;
            stream.set_nodelay(true).unwrap();
            stream.write_all(&header[..cut]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
            stream.write_all(&header[cut..]).await.unwrap();
            let mut client = over(&config, stream, NAME).await.unwrap();
            client.write_all(b"x").await.unwrap();
            assert_eq!(client.read_u8().await.unwrap(), b'x', "cut at {cut}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_and_a_hello_in_one_segment_are_told_apart() {
    use rustls::pki_types::ServerName;

    let authority = Authority::new();
    let (tell, mut told) = mpsc::channel(1);
    let backend = Backend::start(move |mut stream| {
        let tell = tell.clone();
        async move {
            let mut hello = vec![0; 5];
            stream.read_exact(&mut hello).await.unwrap();
            tell.send(hello).await.unwrap();
        }
    })
    .await;
    let passing =
        RulePlan { tls: Some(tls::tls(TlsMode::Passthrough)), ..plan(&[backend.address]) };
    let passing = Proxy::of(believing(passing)).await;
    let tls = terminate(&[&authority.pair(&[NAME])]);
    let sealed = Proxy::of(believing(ending(tls, &[&backend]))).await;
    let config = Arc::new(authority.client(TLS13, None));
    let said = hello(&config, NAME);
    for header in [V1.to_vec(), v2()] {
        let mut client = passing.connect().await;
        client.write_all(&[&header[..], &said].concat()).await.unwrap();
        assert_eq!(told.recv().await.unwrap(), said[..5]);

        let name = ServerName::try_from(NAME).unwrap();
        let mut conn = rustls::ClientConnection::new(Arc::clone(&config), name).unwrap();
        let mut first = header.clone();
        conn.write_tls(&mut first).unwrap();
        let mut client = sealed.connect().await;
        client.write_all(&first).await.unwrap();
        while conn.is_handshaking() {
            let mut came = vec![0; 8192];
            let n = client.read(&mut came).await.unwrap();
            assert!(n > 0, "closed in the handshake");
            take(&mut conn, &came[..n]);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_that_cannot_be_believed_are_refused_and_counted() {
    let backend = Backend::greeting("!").await;
    let proxy = Proxy::of(believing(plan(&[backend.address]))).await;
    let cases: [&[u8]; 6] = [
        b"GET / HTTP/1.0\r\n\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.9 1000\r\n",
        b"PROXY TCP4 192.0.2.1 2001:db8::1 1000 443\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x11\x11\0\x0c............",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x04....",
        &[22, 3, 1, 0, 5],
    ];
    for (said, times) in cases.iter().zip(1..) {
        let mut client = proxy.connect().await;
        client.write_all(said).await.unwrap();
        assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
        proxy.has_ended("proxy_header", times).await;
    }
    let mut client = proxy.connect().await;
    client.write_all(&V1[..20]).await.unwrap();
    drop(client);
    proxy.has_ended("client_gone", 1).await;

    let stranger = RulePlan {
        proxy_from: Some(vec!["10.0.0.0/8".parse().unwrap()]),
        ..plan(&[backend.address])
    };
    let proxy = Proxy::of(stranger).await;
    let mut client = proxy.connect().await;
    let _ = client.write_all(V1).await;
    assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
    proxy.has_ended("proxy_untrusted", 1).await;
    assert_eq!(backend.connections(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_that_takes_too_long_ends_by_the_deadline() {
    let authority = Authority::new();
    let backend = Backend::echo().await;
    let mut plan = believing(ending(terminate(&[&authority.pair(&[NAME])]), &[&backend]));
    plan.tls.as_mut().unwrap().handshake_timeout = Duration::from_millis(300);
    let proxy = Proxy::of(plan).await;
    let mut client = proxy.connect().await;
    client.write_all(&V1[..20]).await.unwrap();
    assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
    proxy.has_ended("proxy_timeout", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn access_and_limits_are_for_the_client_that_the_header_names() {
    let backend = Backend::greeting("!").await;
    let mut limited = believing(plan(&[backend.address]));
    limited.caps = CapsPlan { per_client: NonZeroU32::new(1), ..CapsPlan::default() };
    limited.access =
        AccessPlan { allow: Vec::new(), deny: vec!["198.51.100.0/24".parse().unwrap()] };
    let proxy = Proxy::of(limited).await;
    let named = async |ip: &str| {
        let mut client = proxy.connect().await;
        let header = format!("PROXY TCP4 {ip} 192.0.2.9 1000 443\r\n");
        client.write_all(header.as_bytes()).await.unwrap();
        let mut word = [0];
        (client.read(&mut word).await.unwrap(), client)
    };
    let first = named("192.0.2.1").await;
    let second = named("192.0.2.2").await;
    assert_eq!((first.0, second.0), (1, 1));
    assert_eq!(named("192.0.2.1").await.0, 0);
    proxy.has_ended("client_cap", 1).await;
    assert_eq!(named("198.51.100.7").await.0, 0);
    proxy.has_ended("access_denied", 1).await;
    drop(first);
    proxy.has_ended("ok", 1).await;
    assert_eq!(named("192.0.2.1").await.0, 1);
}

/// A backend that hands on the header that each connection begins with, and then echoes.
async fn hearing() -> (Backend, mpsc::UnboundedReceiver<Vec<u8>>) {
    let (tell, told) = mpsc::unbounded_channel();
    let backend = Backend::start(move |mut stream| {
        let tell = tell.clone();
        async move {
            let _ = tell.send(read_header(&mut stream).await);
            tls::echo(stream).await;
        }
    })
    .await;
    (backend, told)
}

/// Whether `header` holds this value as a TLV of this kind.
fn holds(header: &[u8], kind: u8, value: &[u8]) -> bool {
    let tlv = [&[kind, 0, value.len() as u8][..], value].concat();
    header.windows(tlv.len()).any(|part| part == tlv)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_backend_is_told_of_the_client_its_name_its_protocol_and_its_certificate() {
    let authority = Authority::new();
    let (backend, mut told) = hearing().await;
    for version in [HeaderVersion::V1, HeaderVersion::V2] {
        let clients = Some(authority.clients(false));
        let mut terminated = TerminatePlan { clients, ..terminate(&[&authority.pair(&[NAME])]) };
        terminated.alpn = vec![b"h2".to_vec()];
        let mut plan = ending(terminated, &[&backend]);
        plan.pool.send_proxy = Some(version);
        let proxy = Proxy::of(plan).await;
        let pair = authority.pair(&["client.a"]);
        for shown in [Some(&pair), None] {
            let mut config = authority.client(TLS13, shown);
            config.alpn_protocols = vec![b"h2".to_vec()];
            let stream = proxy.connect().await;
            let source = stream.local_addr().unwrap();
            let mut client = over(&Arc::new(config), stream, NAME).await.unwrap();
            client.write_all(b"x").await.unwrap();
            assert_eq!(client.read_u8().await.unwrap(), b'x');
            let header = told.recv().await.unwrap();
            match version {
                HeaderVersion::V1 => {
                    let (from, to) = (source.port(), proxy.address.port());
                    let line = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {from} {to}\r\n");
                    assert_eq!(header, line.as_bytes());
                }
                HeaderVersion::V2 => {
                    assert_eq!(header[12..14], [0x21, 0x11]);
                    assert_eq!(header[24..26], source.port().to_be_bytes());
                    assert!(holds(&header, 1, b"h2") && holds(&header, 2, NAME.as_bytes()));
                    assert!(holds(&header, 0x21, b"TLSv1.3"));
                    assert_eq!(holds(&header, 0x22, b"client.a"), shown.is_some());
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_goes_before_tls_to_a_backend_and_before_a_hello_that_is_passed_through() {
    let authority = Authority::new();
    let config = Arc::new(authority.server(TLS13, &authority.pair(&[NAME])));
    let (tell, mut told) = mpsc::unbounded_channel();
    let acceptor = tokio_rustls::TlsAcceptor::from(config);
    let backend = Backend::start(move |mut stream| {
        let (tell, acceptor) = (tell.clone(), acceptor.clone());
        async move {
            let _ = tell.send(read_header(&mut stream).await);
            tls::echo(acceptor.accept(stream).await.unwrap()).await;
        }
    })
    .await;
    for version in [HeaderVersion::V1, HeaderVersion::V2] {
        let mut towards_tls = ending(terminate(&[&authority.pair(&[NAME])]), &[&backend]);
        towards(originate(Trust::Roots(authority.roots()), NAME), &mut towards_tls);
        let passing = plan(&[backend.address]);
        let passing = RulePlan { tls: Some(tls::tls(TlsMode::Passthrough)), ..passing };
        for mut plan in [towards_tls, passing] {
            plan.pool.send_proxy = Some(version);
            let proxy = Proxy::of(believing(plan)).await;
            let mut stream = proxy.connect().await;
            stream.write_all(V1).await.unwrap();
            let mut config = authority.client(TLS13, None);
            config.alpn_protocols = vec![b"h2".to_vec()];
            let mut client = over(&Arc::new(config), stream, NAME).await.unwrap();
            client.write_all(b"x").await.unwrap();
            assert_eq!(client.read_u8().await.unwrap(), b'x');
            let header = told.recv().await.unwrap();
            assert!(!holds(&header, 1, b"h2"), "it was offered, and agreed on by nobody");
            // Whom the header that came had named, and where that client had connected to.
            match version {
                HeaderVersion::V1 => assert_eq!(header, V1),
                HeaderVersion::V2 => {
                    assert_eq!(header[16..28], v2()[16..]);
                    assert!(holds(&header, 2, NAME.as_bytes()));
                }
            }
        }
    }
}
