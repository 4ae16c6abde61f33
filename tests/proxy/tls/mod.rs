//! TLS on real sockets: ended here, begun towards backends, passed through.

mod backends;
mod bulk;
mod ending;
mod forged;
mod handshakes;
mod header;
mod malformed;
mod mutual;
mod passing;
mod resuming;
mod terminating;

use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use tidegate::net::tls::{OriginatePlan, TerminatePlan};
use tidegate::proxy::RulePlan;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::support::backend::Backend;
use crate::support::proxy::{Proxy, plan};
use crate::support::tls::{Authority, TLS12, TLS13, connect, terminate, terminated};

/// What every server here is called.
const NAME: &str = "web.example";

/// A rule that ends TLS as `tls` says, before plain `backends`.
fn ending(tls: TerminatePlan, backends: &[&Backend]) -> RulePlan {
    let backends: Vec<_> = backends.iter().map(|backend| backend.address).collect();
    RulePlan { tls: Some(terminated(tls)), ..plan(&backends) }
}

/// TLS as `originate` says towards all backends of `plan`.
fn towards(originate: OriginatePlan, plan: &mut RulePlan) {
    let originate = Arc::new(originate);
    for backend in &mut plan.pool.backends {
        backend.tls = Some(Arc::clone(&originate));
    }
}

/// A proxy that ends TLS as [`NAME`] before `backend`, and a client of either version.
async fn before(backend: &Backend, authority: &Authority) -> (Proxy, [Arc<ClientConfig>; 2]) {
    let proxy = Proxy::of(ending(terminate(&[&authority.pair(&[NAME])]), &[backend])).await;
    (proxy, both(authority))
}

/// Clients of TLS 1.2 and of TLS 1.3.
fn both(authority: &Authority) -> [Arc<ClientConfig>; 2] {
    [TLS12, TLS13].map(|versions| Arc::new(authority.client(versions, None)))
}

/// A client through its handshake with `proxy`.
async fn connected(config: &Arc<ClientConfig>, proxy: &Proxy) -> TlsStream<TcpStream> {
    connect(config, proxy.address, NAME).await.unwrap()
}

/// Reads a PROXY header of either version, and not a byte more.
async fn read_header(stream: &mut TcpStream) -> Vec<u8> {
    let mut header = vec![0; 16];
    stream.read_exact(&mut header).await.unwrap();
    if header.starts_with(b"PROXY") {
        while !header.ends_with(b"\r\n") {
            header.push(stream.read_u8().await.unwrap());
        }
    } else {
        let length = usize::from(u16::from_be_bytes([header[14], header[15]]));
        header.resize(16 + length, 0);
        stream.read_exact(&mut header[16..]).await.unwrap();
    }
    header
}

/// What a client of `config` says first when it calls the server `name`.
fn hello(config: &Arc<ClientConfig>, name: &str) -> Vec<u8> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut conn = ClientConnection::new(Arc::clone(config), name).unwrap();
    let mut hello = Vec::new();
    conn.write_tls(&mut hello).unwrap();
    hello
}

/// Gives `conn` all that `came`.
fn take(conn: &mut ClientConnection, mut came: &[u8]) {
    while !came.is_empty() {
        conn.read_tls(&mut came).unwrap();
        conn.process_new_packets().unwrap();
    }
}
