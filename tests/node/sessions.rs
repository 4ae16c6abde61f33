//! TLS sessions of a whole node: where they may be resumed, and that new certificates touch none.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::HandshakeKind;
use tidegate::node::Reload;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::support::backend::Backend;
use crate::support::tls::{Authority, Pair, TLS12, TLS13, alert, connect};
use crate::world::{World, host};

const NAME: &str = "web.example";

fn write(dir: &Path, pair: &Pair) {
    fs::copy(pair.cert_file(), dir.join("a.crt")).unwrap();
    fs::copy(pair.key_file(), dir.join("a.key")).unwrap();
}

/// A node with an open rule at port 8443 and one that demands certificates at 8444, both with the files
/// of `dir`.
async fn start(dir: &Path, authority: &Authority, backend: &Backend) -> World {
    let host = host();
    let (cert, key) = (dir.join("a.crt"), dir.join("a.key"));
    let files = format!("cert: \"{}\", key: \"{}\"", cert.display(), key.display());
    let rule = |name: &str, port: u16, more: &str| {
        format!(
            "  - {{ name: {name}, listen: \"{host}:{port}\", backends: [\"{}\"], \
             tls: {{ {files}{more} }} }}\n",
            backend.address
        )
    };
    let ca = format!(", client_ca: \"{}\"", authority.file().display());
    let rules = [rule("open", 8443, ""), rule("mutual", 8444, &ca)].concat();
    World::start(host, &format!("rules:\n{rules}")).await
}

async fn echoes(client: &mut TlsStream<TcpStream>) -> bool {
    client.write_all(b"x").await.is_ok() && matches!(client.read_u8().await, Ok(b'x'))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_an_open_rule_is_no_way_into_one_that_demands_certificates() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let backend = Backend::echo().await;
    write(dir.path(), &authority.pair(&[NAME]));
    let world = start(dir.path(), &authority, &backend).await;
    for versions in [TLS12, TLS13] {
        let config: Arc<ClientConfig> = Arc::new(authority.client(versions, None));
        for resumed in [false, true] {
            let mut client = connect(&config, world.at(8443), NAME).await.unwrap();
            assert!(echoes(&mut client).await);
            let kind = client.get_ref().1.handshake_kind();
            assert_eq!(kind == Some(HandshakeKind::Resumed), resumed);
        }
        let refused = match connect(&config, world.at(8444), NAME).await {
            Ok(mut client) => {
                assert_ne!(client.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
                let _ = client.write_all(b"x").await;
                client.read_u8().await.unwrap_err()
            }
            Err(refused) => refused,
        };
        assert!(alert(&refused).is_some(), "{refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn new_certificates_are_for_new_connections_and_touch_no_live_one() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let backend = Backend::echo().await;
    let (old, new) = (authority.pair(&[NAME]), authority.pair(&[NAME]));
    write(dir.path(), &old);
    let world = start(dir.path(), &authority, &backend).await;
    let config = || Arc::new(authority.client(TLS13, None));
    let shown = |client: &TlsStream<TcpStream>| {
        client.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
    };
    let first = config();
    let mut live = connect(&first, world.at(8443), NAME).await.unwrap();
    assert!(echoes(&mut live).await);
    assert_eq!(shown(&live), old.chain[0]);
    write(dir.path(), &new);
    assert_eq!(world.node.reload_certificates().await, Reload::Taken);
    assert!(echoes(&mut live).await);
    let mut fresh = connect(&config(), world.at(8443), NAME).await.unwrap();
    assert!(echoes(&mut fresh).await);
    assert_eq!(shown(&fresh), new.chain[0]);
    // A session goes on though its server's certificate has changed.
    let mut again = connect(&first, world.at(8443), NAME).await.unwrap();
    assert!(echoes(&mut again).await && echoes(&mut live).await);
    assert_eq!(again.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
}
