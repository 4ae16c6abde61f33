//! A host address per test, a configuration file, and clients.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use serde::de::DeserializeOwned;
use tidegate::admin::{Client, Target};
use tidegate::config;
use tidegate::node::Node;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::SOON;

/// A loopback address that no other test uses, so that ports may be what they like.
pub(crate) fn host() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let at = NEXT.fetch_add(1, Relaxed);
    let process = std::process::id();
    Ipv4Addr::new(127, 1 + (process % 250) as u8, (process / 250 % 250) as u8, 1 + at as u8)
}

/// A node and the file that it was started with.
pub(crate) struct World {
    pub(crate) host: Ipv4Addr,
    pub(crate) node: Arc<Node>,
    pub(crate) file: PathBuf,
    _dir: tempfile::TempDir,
}

impl World {
    /// Starts a node with `rules` (and more) on `host`; its admin listens on port 9900.
    pub(crate) async fn start(host: Ipv4Addr, rest: &str) -> World {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("lb.yaml");
        std::fs::write(&file, Self::text(host, rest)).unwrap();
        let plan = config::load(&file).unwrap_or_else(|faults| panic!("{faults}")).plan;
        let node = Node::start(plan).await.unwrap();
        World { host, node, file, _dir: dir }
    }

    fn text(host: Ipv4Addr, rest: &str) -> String {
        format!("workers: 2\nadmin: {{ listen: \"{host}:9900\" }}\n{rest}")
    }

    /// Writes another configuration and reloads it.
    pub(crate) async fn reload(&self, rest: &str) -> tidegate::node::Reload {
        std::fs::write(&self.file, Self::text(self.host, rest)).unwrap();
        self.node.reload(&self.file).await
    }

    pub(crate) fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::from((self.host, port))
    }

    /// What the admin listener answers at `path`.
    pub(crate) async fn view<T: DeserializeOwned>(&self, path: &str) -> T {
        let target: Target = format!("http://{}:9900", self.host).parse().unwrap();
        Client::new(target, None).view::<T>(path).await.unwrap().1
    }

    /// The whole of `/metrics`.
    pub(crate) async fn metrics(&self) -> String {
        let mut admin = TcpStream::connect(self.at(9900)).await.unwrap();
        let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        admin.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(SOON, admin.read_to_string(&mut answer)).await.unwrap().unwrap();
        answer
    }
}

/// A client of an echoing rule.
pub(crate) struct Caller(TcpStream);

impl Caller {
    pub(crate) async fn connect(address: SocketAddr) -> std::io::Result<Caller> {
        let stream = timeout(SOON, TcpStream::connect(address)).await.unwrap()?;
        Ok(Caller(stream))
    }

    /// Whether what is said comes back.
    pub(crate) async fn echoes(&mut self) -> bool {
        let mut back = [0; 4];
        self.0.write_all(b"ping").await.is_ok()
            && timeout(SOON, self.0.read_exact(&mut back)).await.unwrap().is_ok()
            && back == *b"ping"
    }

    /// Waits for the end of the connection.
    pub(crate) async fn ended(&mut self) {
        let mut rest = [0; 64];
        while let Ok(1..) = timeout(SOON, self.0.read(&mut rest)).await.unwrap() {}
    }
}

/// Whether one new connection to `address` is served.
pub(crate) async fn served(address: SocketAddr) -> bool {
    match Caller::connect(address).await {
        Ok(mut client) => client.echoes().await,
        Err(_) => false,
    }
}

/// Waits until `holds` does, asking every few milliseconds.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let poll = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(timeout(SOON, poll).await.is_ok(), "waited in vain: {what}");
}
