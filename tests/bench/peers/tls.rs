//! TLS of the clients: certificates to measure with, connections, handshakes and downloads.

use std::fs;
use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned,
    SupportedProtocolVersion,
};

use crate::Fault;
use crate::args::Args;
use crate::servers::Folder;

/// How long a server may take to answer.
const ANSWER: Duration = Duration::from_secs(5);
/// Handshakes under way at once: enough that a proxy has always something to do.
const AT_ONCE: u64 = 4;
/// What one request of a download brings.
const PIECE: usize = 64 * 1024 * 1024;

/// Where the certificate (ECDSA P-256) and its key are, in files as everyone wants to have them.
pub(crate) struct Certificates(PathBuf);

impl Certificates {
    /// Those of `folder`, which [`Certificates::make`] has put there.
    pub(crate) fn of(folder: &Folder) -> Certificates {
        Certificates(folder.path("certs"))
    }

    /// Makes them by our own command. The proxies run as `nobody`, so everyone may read them.
    pub(crate) fn make(folder: &Folder, args: &Args) -> Result<(), Fault> {
        let certificates = Certificates::of(folder);
        let made =
            Command::new(&args.tidegate).args(["certs", "--dir"]).arg(&certificates.0).output()?;
        if !made.status.success() {
            let said = String::from_utf8_lossy(&made.stderr).into_owned();
            return Err(format!("tidegate certs: {said}").into());
        }
        let both = [fs::read(certificates.path("server.crt"))?, fs::read(certificates.key())?];
        fs::write(certificates.both(), both.concat())?;
        for file in [certificates.key(), certificates.both()] {
            fs::set_permissions(file, fs::Permissions::from_mode(0o644))?;
        }
        fs::set_permissions(&certificates.0, fs::Permissions::from_mode(0o755))?;
        Ok(())
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    /// Who signed it.
    pub(crate) fn authority(&self) -> String {
        self.path("ca.crt")
    }

    /// The server's certificate.
    pub(crate) fn certificate(&self) -> String {
        self.path("server.crt")
    }

    /// Its key.
    pub(crate) fn key(&self) -> String {
        self.path("server.key")
    }

    /// Both in one file, as HAProxy wants them.
    pub(crate) fn both(&self) -> String {
        self.path("server.pem")
    }
}

/// Opens TLS connections, all by the same version and the same preference of groups (X25519) and ciphers.
pub(crate) struct Client(Arc<ClientConfig>);

impl Client {
    /// One that speaks `version` and resumes sessions or begins a new one each time.
    pub(crate) fn new(
        certificates: &Certificates,
        version: &'static SupportedProtocolVersion,
        resumes: bool,
    ) -> Result<Client, Fault> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(certificates.authority())?)?;
        let mut provider = aws_lc_rs::default_provider();
        // What OpenSSL 3.0 has too: else ours alone would be asked for a post-quantum exchange. P-256 is
        // the certificate's, without which OpenSSL takes no TLS 1.2.
        provider.kx_groups = vec![aws_lc_rs::kx_group::X25519, aws_lc_rs::kx_group::SECP256R1];
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[version])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        if !resumes {
            config.resumption = Resumption::disabled();
        }
        Ok(Client(Arc::new(config)))
    }

    fn over<S: Read + Write>(&self, socket: S) -> Result<StreamOwned<ClientConnection, S>, Fault> {
        let name = ServerName::try_from("localhost")?;
        Ok(StreamOwned::new(ClientConnection::new(Arc::clone(&self.0), name)?, socket))
    }

    /// A connection that has asked a redis and was answered once; the handshake was of this kind.
    pub(crate) fn open(
        &self,
        at: SocketAddr,
    ) -> Result<(StreamOwned<ClientConnection, TcpStream>, Option<HandshakeKind>), Fault> {
        let socket = TcpStream::connect(at)?;
        socket.set_read_timeout(Some(ANSWER))?;
        socket.set_nodelay(true)?;
        let mut stream = self.over(socket)?;
        stream.write_all(b"PING\r\n")?;
        let mut answer = [0; 7];
        stream.read_exact(&mut answer)?;
        if &answer != b"+PONG\r\n" {
            return Err("not a redis".into());
        }
        let kind = stream.conn.handshake_kind();
        Ok((stream, kind))
    }

    /// Makes `count` connections, each with a handshake, one question and an orderly end; how many per second.
    pub(crate) fn handshakes(
        &self,
        at: SocketAddr,
        count: u64,
        kind: HandshakeKind,
    ) -> Result<f64, Fault> {
        // The session that all others resume, where they do.
        self.open(at)?;
        let start = Instant::now();
        let each = count / AT_ONCE;
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..AT_ONCE)
                .map(|_| {
                    scope.spawn(move || {
                        (0..each)
                            .try_for_each(|_| self.handshake(at, kind))
                            .map_err(|fault| fault.to_string())
                    })
                })
                .collect();
            workers.into_iter().try_for_each(|worker| {
                worker.join().map_err(|_| "a client panicked".to_owned()).flatten()
            })
        })?;
        Ok((each * AT_ONCE) as f64 / start.elapsed().as_secs_f64())
    }

    fn handshake(&self, at: SocketAddr, wanted: HandshakeKind) -> Result<(), Fault> {
        let (mut stream, kind) = self.open(at)?;
        if kind != Some(wanted) {
            return Err(format!("a handshake was {kind:?} instead of {wanted:?}").into());
        }
        stream.conn.send_close_notify();
        stream.flush()?;
        Ok(())
    }

    /// Downloads about `bytes` over one connection to a redis; how many they were and how many per second.
    pub(crate) fn download(&self, at: SocketAddr, bytes: u64) -> Result<(f64, f64), Fault> {
        let socket = TcpStream::connect(at)?;
        socket.set_read_timeout(Some(ANSWER))?;
        let mut stream = self.over(Buffered(BufReader::with_capacity(128 * 1024, socket)))?;
        let length = PIECE.to_string();
        write!(stream, "SETRANGE big {} x\r\n", PIECE - 1)?;
        let mut buffer = vec![0; 64 * 1024];
        let mut skip = |stream: &mut StreamOwned<_, _>, mut left: usize| -> io::Result<()> {
            while left > 0 {
                let most = left.min(buffer.len());
                left -= match stream.read(&mut buffer[..most])? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    read => read,
                };
            }
            Ok(())
        };
        // `:67108864` and an end of line.
        skip(&mut stream, 1 + length.len() + 2)?;
        let (start, pieces) = (Instant::now(), bytes.div_ceil(PIECE as u64));
        for _ in 0..pieces {
            stream.write_all(b"GET big\r\n")?;
            skip(&mut stream, 1 + length.len() + 2 + PIECE + 2)?;
        }
        let moved = pieces as f64 * PIECE as f64;
        Ok((moved, moved / start.elapsed().as_secs_f64()))
    }
}

/// A socket that is read in large pieces.
struct Buffered(BufReader<TcpStream>);

impl Read for Buffered {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl Write for Buffered {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.get_mut().write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
