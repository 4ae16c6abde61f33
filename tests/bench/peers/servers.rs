//! What stands behind the proxies, ports, and a folder for files.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use crate::Fault;
use crate::process::{Cpus, Running};
use crate::tls::{Certificates, Client};

/// How long a server or a proxy may take to answer after its start.
const START: Duration = Duration::from_secs(10);

/// A folder for configurations and logs; the unprivileged proxies may write there. Removed on drop.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    /// Makes it.
    pub(crate) fn new() -> Result<Folder, Fault> {
        let folder = tempfile::tempdir()?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777))?;
        Ok(Folder(folder))
    }

    /// A path in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file that everyone may read and gives its path.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<PathBuf, Fault> {
        let path = self.path(name);
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
        Ok(path)
    }
}

/// A loopback address whose port is free for TCP, below the range that outgoing connections use.
pub(crate) fn free_address() -> Result<SocketAddr, Fault> {
    static NEXT: AtomicU16 = AtomicU16::new(21_000);
    for _ in 0..5000 {
        let port = NEXT.fetch_add(1, Ordering::Relaxed);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    Err("no free port between 21000 and 26000".into())
}

/// redis-server listens on `127.0.0.1` to this last byte.
const REDIS_ADDRESSES: usize = 6;

/// Which server a case needs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// redis-server.
    Redis,
    /// `iperf3 -s`.
    Iperf,
    /// redis-server, with TLS that ends at the proxy.
    Ended,
    /// redis-server, with TLS that it ends itself.
    Passed,
}

impl Kind {
    /// Whether clients speak TLS.
    pub(crate) fn has_tls(self) -> bool {
        matches!(self, Kind::Ended | Kind::Passed)
    }
}

/// A server that runs.
pub(crate) struct Server {
    address: SocketAddr,
    kind: Kind,
    _running: Running,
}

impl Server {
    /// Where the peer number `nth` of a case reaches it. Each has an address to itself: connections of the peer before, in TIME_WAIT, would
    /// otherwise hold the ports that this one needs, and looking for a free one costs it CPU.
    pub(crate) fn address(&self, nth: usize) -> SocketAddr {
        match self.kind {
            Kind::Iperf => self.address,
            _ => {
                let last = u8::try_from(1 + nth % REDIS_ADDRESSES).unwrap_or(1);
                SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), self.address.port()))
            }
        }
    }

    /// Starts it on `cpus` and waits until it answers.
    pub(crate) fn start(kind: Kind, cpus: Cpus, folder: &Folder) -> Result<Server, Fault> {
        let address = free_address()?;
        let port = address.port().to_string();
        let certificates = Certificates::of(folder);
        let files = [certificates.certificate(), certificates.key(), certificates.authority()];
        let (program, mut args): (&str, Vec<&str>) = match kind {
            Kind::Iperf => ("iperf3", ["-s", "-B", "127.0.0.1", "-p", &port].to_vec()),
            _ => (
                "redis-server",
                [
                    "--bind",
                    "127.0.0.1",
                    "127.0.0.2",
                    "127.0.0.3",
                    "127.0.0.4",
                    "127.0.0.5",
                    "127.0.0.6",
                    "--save",
                    "",
                    "--appendonly",
                    "no",
                    "--maxclients",
                    "15000",
                    "--tcp-backlog",
                    "4096",
                    "--protected-mode",
                    "no",
                ]
                .to_vec(),
            ),
        };
        match kind {
            Kind::Iperf => {}
            Kind::Redis | Kind::Ended => args.extend(["--port", &port]),
            Kind::Passed => {
                let [certificate, key, authority] = &files;
                args.extend(["--port", "0", "--tls-port", &port, "--tls-auth-clients", "no"]);
                args.extend(["--tls-cert-file", certificate, "--tls-key-file", key]);
                args.extend(["--tls-ca-cert-file", authority]);
            }
        }
        let log = folder.path(&format!("{program}-{port}.log"));
        let mut running = Running::start(Path::new(program), &args, cpus, false, &log)?;
        match kind {
            Kind::Redis | Kind::Ended => until_pong(address, &mut running, &log)?,
            Kind::Passed => until_sealed_pong(address, folder, &mut running, &log)?,
            // A probe would be taken for a test that never begins, so its listening socket is looked up instead.
            Kind::Iperf => until(&mut running, &log, || listens(address.port()))?,
        }
        Ok(Server { address, kind, _running: running })
    }
}

/// Waits until a redis behind `address` answers, directly or through a proxy.
pub(crate) fn until_pong(
    address: SocketAddr,
    running: &mut Running,
    log: &Path,
) -> Result<(), Fault> {
    until(running, log, || ping(address).is_ok())
}

/// As [`until_pong`], over TLS.
pub(crate) fn until_sealed_pong(
    address: SocketAddr,
    folder: &Folder,
    running: &mut Running,
    log: &Path,
) -> Result<(), Fault> {
    let client = Client::new(&Certificates::of(folder), &rustls::version::TLS13, false)?;
    until(running, log, || client.open(address).is_ok())
}

/// Waits until something listens at `address`.
pub(crate) fn until_listening(
    address: SocketAddr,
    running: &mut Running,
    log: &Path,
) -> Result<(), Fault> {
    until(running, log, || listens(address.port()))
}

fn until(running: &mut Running, log: &Path, mut ready: impl FnMut() -> bool) -> Result<(), Fault> {
    let deadline = Instant::now() + START;
    while !ready() {
        if let Some(status) = running.ended() {
            return Err(format!("ended with {status}: {}", fs::read_to_string(log)?).into());
        }
        if Instant::now() > deadline {
            return Err(format!("no answer in {START:?}: {}", fs::read_to_string(log)?).into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn ping(address: SocketAddr) -> Result<(), Fault> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(b"PING\r\n")?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer)?;
    if &answer == b"+PONG\r\n" { Ok(()) } else { Err("not a redis".into()) }
}

/// Whether a socket of this machine listens on `port` (state `0A` in `/proc/net/tcp`).
fn listens(port: u16) -> bool {
    let suffix = format!(":{port:04X}");
    fs::read_to_string("/proc/net/tcp").unwrap_or_default().lines().any(|line| {
        let mut words = line.split_whitespace().skip(1);
        words.next().is_some_and(|local| local.ends_with(&suffix)) && words.nth(1) == Some("0A")
    })
}
