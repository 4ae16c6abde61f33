//! A TLS client in this very process, for load and for time.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::certs::Certs;

const PATIENCE: Duration = Duration::from_secs(10);

/// Trusts one authority, calls everybody `localhost`, and never resumes.
#[derive(Clone)]
pub(crate) struct TlsClient(Arc<ClientConfig>);

/// A connection to an HTTP backend, kept open while things happen.
pub(crate) struct TlsLine(StreamOwned<ClientConnection, TcpStream>);

impl TlsClient {
    pub(crate) fn new(certs: &Certs) -> TlsClient {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(certs.path("ca.crt")).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        TlsClient(Arc::new(config))
    }

    /// Connects, shakes hands and asks once; and how long it took until the answer was there.
    pub(crate) fn open(&self, address: SocketAddr) -> Result<(TlsLine, Duration), String> {
        let start = Instant::now();
        let stream = TcpStream::connect_timeout(&address, PATIENCE)
            .map_err(|error| format!("connect: {error}"))?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let name = ServerName::try_from("localhost").map_err(|error| error.to_string())?;
        let conn =
            ClientConnection::new(Arc::clone(&self.0), name).map_err(|error| error.to_string())?;
        let mut line = TlsLine(StreamOwned::new(conn, stream));
        line.lives()?;
        Ok((line, start.elapsed()))
    }

    /// What `work` gives, while `clients` of these open connections one after the other. How many they
    /// opened; all that went wrong.
    pub(crate) fn load<T>(
        &self,
        address: SocketAddr,
        clients: usize,
        work: impl FnOnce() -> T,
    ) -> (T, u64, Vec<String>) {
        let (over, count) = (AtomicBool::new(false), AtomicU64::new(0));
        thread::scope(|scope| {
            let client = || {
                let mut faults = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    match self.open(address) {
                        Ok(_) => drop(count.fetch_add(1, Ordering::Relaxed)),
                        Err(fault) => faults.push(fault),
                    }
                }
                faults
            };
            let _ended = Ended(&over);
            let running: Vec<_> = (0..clients).map(|_| scope.spawn(client)).collect();
            let done = work();
            over.store(true, Ordering::Relaxed);
            let faults = running.into_iter().flat_map(|client| client.join().unwrap()).collect();
            (done, count.load(Ordering::Relaxed), faults)
        })
    }
}

/// Ends the load also when the work panics, or the scope would wait for ever.
struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl TlsLine {
    /// Whether the backend still answers.
    pub(crate) fn lives(&mut self) -> Result<(), String> {
        self.0
            .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .map_err(|error| format!("write: {error}"))?;
        let mut heard = Vec::new();
        while !heard.ends_with(b"\r\n\r\nok\n") {
            let mut piece = [0; 1024];
            match self.0.read(&mut piece) {
                Ok(0) => return Err("closed".into()),
                Ok(n) => heard.extend_from_slice(&piece[..n]),
                Err(error) => return Err(format!("read: {error}")),
            }
        }
        Ok(())
    }
}
