//! Certificates made for a test, and clients and backends that speak TLS by another hand than ours.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
    SignatureAlgorithm, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tempfile::TempDir;
use tidegate::net::tls::{
    Certificate, CertificateFiles, ClientsPlan, OriginatePlan, Revoked, Roots, ServedPlan,
    TerminatePlan, TlsMode, TlsPlan, TlsVersion, Trust,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::backend::Backend;

pub(crate) static TLS12: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];
pub(crate) static TLS13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

static AUTHORITIES: AtomicU8 = AtomicU8::new(1);

/// An authority, and the directory that its files lie in.
pub(crate) struct Authority {
    dir: TempDir,
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
    /// What links it to the root, where it is none itself.
    links: Vec<CertificateDer<'static>>,
    serial: AtomicU8,
}

/// A certificate with its key, and where both lie.
pub(crate) struct Pair {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
    pub(crate) serial: SerialNumber,
    files: CertificateFiles,
}

impl Authority {
    pub(crate) fn new() -> Authority {
        let dir = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        // Each has a name of its own, or one would be taken for another with a bad signature.
        let name = format!("authority {}", AUTHORITIES.fetch_add(1, Relaxed));
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let made = params.self_signed(&key).unwrap();
        std::fs::write(dir.path().join("ca.crt"), made.pem()).unwrap();
        let (root, links) = (made.der().clone(), Vec::new());
        Authority { dir, issuer: Issuer::new(params, key), root, links, serial: AtomicU8::new(1) }
    }

    /// One that this one vouches for, and the certificate that says so. What comes from it brings that
    /// along.
    pub(crate) fn under(&self) -> (Authority, Pair) {
        let name = format!("intermediate {}", AUTHORITIES.fetch_add(1, Relaxed));
        let mut made = CertificateParams::default();
        let pair = self.pair_of(&[], |params| {
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            made = params.clone();
        });
        let dir = tempfile::tempdir().unwrap();
        std::fs::copy(self.file(), dir.path().join("ca.crt")).unwrap();
        let key = KeyPair::try_from(&pair.key).unwrap();
        let issuer = Issuer::new(made, key);
        let (root, links) = (self.root.clone(), pair.chain.clone());
        (Authority { dir, issuer, root, links, serial: AtomicU8::new(1) }, pair)
    }

    /// A certificate with these DNS names, the first of which is its common name.
    pub(crate) fn pair(&self, names: &[&str]) -> Pair {
        self.pair_of(names, |_| {})
    }

    /// As [`Authority::pair`], changed by `change` before it is signed.
    pub(crate) fn pair_of(
        &self,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Pair {
        self.pair_with(&rcgen::PKCS_ECDSA_P256_SHA256, names, change)
    }

    /// As [`Authority::pair_of`], with a key of a kind.
    pub(crate) fn pair_with(
        &self,
        kind: &'static SignatureAlgorithm,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Pair {
        let number = self.serial.fetch_add(1, Relaxed);
        let key = KeyPair::generate_for(kind).unwrap();
        let mut params = CertificateParams::default();
        for name in names {
            params.subject_alt_names.push(SanType::DnsName((*name).try_into().unwrap()));
        }
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(first) = names.first() {
            params.distinguished_name.push(DnType::CommonName, *first);
        }
        let serial = SerialNumber::from_slice(&[number]);
        params.serial_number = Some(serial.clone());
        change(&mut params);
        let made = params.signed_by(&key, &self.issuer).unwrap();
        let file = |end: &str| self.dir.path().join(format!("{number}.{end}"));
        let files = CertificateFiles { cert: file("crt"), key: file("key"), ocsp: None };
        std::fs::write(&files.cert, made.pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        let chain = [made.der().clone()].into_iter().chain(self.links.clone()).collect();
        Pair { chain, key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(), serial, files }
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.dir.path().join("ca.crt")
    }

    pub(crate) fn roots(&self) -> Arc<Roots> {
        Arc::new(Roots::read(self.file()).unwrap())
    }

    pub(crate) fn store(&self) -> Arc<RootCertStore> {
        let mut store = RootCertStore::empty();
        store.add(self.root.clone()).unwrap();
        Arc::new(store)
    }

    /// A revocation list with these on it.
    pub(crate) fn revoking(&self, pairs: &[&Pair]) -> Arc<Revoked> {
        self.revoked_in(2024, pairs)
    }

    /// A revocation list that was issued in `year`, with these on it.
    pub(crate) fn revoked_in(&self, year: i32, pairs: &[&Pair]) -> Arc<Revoked> {
        let revoked = |pair: &&Pair| RevokedCertParams {
            serial_number: pair.serial.clone(),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(year, 1, 1),
            next_update: date_time_ymd(4000, 1, 1),
            crl_number: 1.into(),
            issuing_distribution_point: None,
            revoked_certs: pairs.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let file = self.dir.path().join(format!("{}.crl", self.serial.fetch_add(1, Relaxed)));
        std::fs::write(&file, list.signed_by(&self.issuer).unwrap().pem().unwrap()).unwrap();
        Arc::new(Revoked::read(file).unwrap())
    }

    /// Several revocation lists in one file, as `client_crl` takes them.
    pub(crate) fn bundle(&self, lists: &[Arc<Revoked>]) -> Arc<Revoked> {
        let read = |list: &Arc<Revoked>| std::fs::read_to_string(&list.file).unwrap();
        let file = self.dir.path().join(format!("{}.crl", self.serial.fetch_add(1, Relaxed)));
        std::fs::write(&file, lists.iter().map(read).collect::<String>()).unwrap();
        Arc::new(Revoked::read(file).unwrap())
    }

    /// Clients whose certificates come from here.
    pub(crate) fn clients(&self, required: bool) -> ClientsPlan {
        ClientsPlan { ca: self.roots(), required, crl: None }
    }

    /// Trusts this authority, and shows `pair`.
    pub(crate) fn client(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        pair: Option<&Pair>,
    ) -> ClientConfig {
        let builder = ClientConfig::builder_with_protocol_versions(versions)
            .with_root_certificates(self.store());
        match pair {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                builder.with_client_auth_cert(pair.chain.clone(), pair.key.clone_key()).unwrap()
            }
        }
    }

    /// A server that shows `pair` and asks for no certificate.
    pub(crate) fn server(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        pair: &Pair,
    ) -> ServerConfig {
        ServerConfig::builder_with_protocol_versions(versions)
            .with_no_client_auth()
            .with_single_cert(pair.chain.clone(), pair.key.clone_key())
            .unwrap()
    }

    /// A server that shows `pair` and demands a certificate from here.
    pub(crate) fn strict_server(&self, pair: &Pair) -> ServerConfig {
        let verifier = WebPkiClientVerifier::builder(self.store()).build().unwrap();
        ServerConfig::builder()
            .with_client_cert_verifier(verifier)
            .with_single_cert(pair.chain.clone(), pair.key.clone_key())
            .unwrap()
    }
}

impl Pair {
    pub(crate) fn certificate(&self) -> Arc<Certificate> {
        Arc::new(Certificate::read(self.files.clone()).unwrap())
    }

    pub(crate) fn served(&self) -> ServedPlan {
        ServedPlan { server_name: None, certificate: self.certificate() }
    }

    pub(crate) fn cert_file(&self) -> &Path {
        &self.files.cert
    }

    pub(crate) fn key_file(&self) -> &Path {
        &self.files.key
    }

    /// Where the certificate alone lies.
    pub(crate) fn roots(&self) -> Arc<Roots> {
        Arc::new(Roots::read(self.files.cert.clone()).unwrap())
    }
}

/// TLS that ends here, with these certificates and nothing else said.
pub(crate) fn terminate(pairs: &[&Pair]) -> TerminatePlan {
    TerminatePlan {
        certificates: pairs.iter().map(|pair| pair.served()).collect(),
        clients: None,
        min_version: TlsVersion::Tls12,
        alpn: Vec::new(),
    }
}

pub(crate) fn terminated(plan: TerminatePlan) -> TlsPlan {
    tls(TlsMode::Terminate(plan))
}

pub(crate) fn tls(mode: TlsMode) -> TlsPlan {
    TlsPlan { mode, handshake_timeout: Duration::from_secs(10), routes: Vec::new() }
}

/// TLS towards backends that `trust` believes to be `name`.
pub(crate) fn originate(trust: Trust, name: &str) -> OriginatePlan {
    OriginatePlan { trust, server_name: Some(name.to_owned()), certificate: None }
}

/// A client through its handshake with `address`, which it calls `name`.
pub(crate) async fn connect(
    config: &Arc<ClientConfig>,
    address: SocketAddr,
    name: &str,
) -> io::Result<client::TlsStream<TcpStream>> {
    over(config, TcpStream::connect(address).await?, name).await
}

/// As [`connect`], over a connection that is there already.
pub(crate) async fn over(
    config: &Arc<ClientConfig>,
    stream: TcpStream,
    name: &str,
) -> io::Result<client::TlsStream<TcpStream>> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    TlsConnector::from(Arc::clone(config)).connect(name, stream).await
}

/// A backend that speaks TLS: each connection whose handshake succeeds meets `script`.
pub(crate) async fn backend<F>(
    config: ServerConfig,
    script: impl Fn(server::TlsStream<TcpStream>) -> F + Clone + Send + Sync + 'static,
) -> Backend
where
    F: Future<Output = ()> + Send + 'static,
{
    let acceptor = TlsAcceptor::from(Arc::new(config));
    Backend::start(move |stream| {
        let (acceptor, script) = (acceptor.clone(), script.clone());
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                script(stream).await;
            }
        }
    })
    .await
}

/// Sends back what comes, until the end, and then ends as TLS demands it.
pub(crate) async fn echo<S>(stream: S)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite,
{
    let (mut read, mut write) = tokio::io::split(stream);
    if tokio::io::copy(&mut read, &mut write).await.is_ok() {
        let _ = tokio::io::AsyncWriteExt::shutdown(&mut write).await;
    }
}

/// The alert within an error of rustls.
pub(crate) fn alert(error: &io::Error) -> Option<rustls::AlertDescription> {
    match error.get_ref()?.downcast_ref()? {
        rustls::Error::AlertReceived(alert) => Some(*alert),
        _ => None,
    }
}
