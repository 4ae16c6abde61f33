//! The balancer as a library behind mutual TLS: the certificate says who the client is.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tidegate::Balancer;
use tidegate::net::Leg;
use tidegate::net::tls::{
    Certificate, CertificateFiles, ClientsPlan, Roots, ServedPlan, TerminatePlan, Terminator,
    TicketKeys, TlsVersion,
};
use tidegate::node::certs::{Wanted, make};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::backend::Backend;

fn terminator(certs: &Path) -> Terminator {
    let files = CertificateFiles {
        cert: certs.join("server.crt"),
        key: certs.join("server.key"),
        ocsp: None,
    };
    let certificate = Arc::new(Certificate::read(files).unwrap());
    let ca = Arc::new(Roots::read(certs.join("ca.crt")).unwrap());
    let plan = TerminatePlan {
        certificates: vec![ServedPlan { server_name: None, certificate }],
        clients: Some(ClientsPlan { ca, required: true, crl: None }),
        min_version: TlsVersion::Tls12,
        alpn: Vec::new(),
    };
    Terminator::new(&plan, TicketKeys::new().ticketer(b"test")).unwrap()
}

async fn connect(certs: &Path, id: &str, stream: TcpStream) -> TlsStream<TcpStream> {
    let read = |file: String| CertificateDer::from_pem_file(certs.join(file)).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(read("ca.crt".to_owned())).unwrap();
    let key = PrivateKeyDer::from_pem_file(certs.join(format!("{id}.key"))).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![read(format!("{id}.crt"))], key)
        .unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_goes_where_its_certificate_may_and_its_backend_hears_plaintext() {
    let dir = tempfile::tempdir().unwrap();
    let certs = dir.path().to_owned();
    let wanted = Wanted {
        dir: certs.clone(),
        clients: 2,
        server_names: vec!["localhost".to_owned()],
        days: 2,
        wrong_ca: false,
        force: false,
    };
    make(&wanted).unwrap();
    let (for_a, for_b) = (Backend::echo().await, Backend::echo().await);
    let (a, b) = (for_a.address, for_b.address);
    let balancer = Arc::new(Balancer::new([a, b]).unwrap());
    let terminator = Arc::new(terminator(&certs));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    for (id, backend) in [("client.a", a), ("client.b", b)] {
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut accepted, _) = listener.accept().await.unwrap();
        let (balancer, terminator) = (Arc::clone(&balancer), Arc::clone(&terminator));
        let serving = tokio::spawn(async move {
            let accepting = terminator.accept(&mut accepted, Vec::new());
            let (session, identity) = accepting.await.unwrap();
            let identity = identity.unwrap();
            let allowed = if identity.name() == "client.a" { [a] } else { [b] };
            let client = Leg::sealed(accepted, session);
            balancer.balance(client, identity.name(), &allowed).await
        });
        let mut client = connect(&certs, id, stream).await;
        client.write_all(id.as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, id);
        let served = serving.await.unwrap().unwrap();
        assert_eq!((served.backend, served.bytes_up), (backend, id.len() as u64));
    }
}
