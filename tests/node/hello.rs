//! What a client that begins TLS as nobody does is told.

use std::fs;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::SOON;
use crate::support::backend::Backend;
use crate::world::{World, host};

#[tokio::test(flavor = "multi_thread")]
async fn a_hello_larger_than_any_is_refused_by_an_alert() {
    let dir = tempfile::tempdir().unwrap();
    let backend = Backend::echo().await;
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let [cert, key] = ["crt", "key"].map(|ending| dir.path().join(format!("a.{ending}")));
    fs::write(&cert, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let host = host();
    let rules = format!(
        "rules:\n  - {{ name: web, listen: \"{host}:8443\", backends: [\"{}\"], \
         tls: {{ cert: \"{}\", key: \"{}\" }} }}\n",
        backend.address,
        cert.display(),
        key.display()
    );
    let world = World::start(host, &rules).await;
    let mut client = TcpStream::connect(world.at(8443)).await.unwrap();
    // One record that announces a message of 16 MiB.
    client.write_all(b"\x16\x03\x01\x00\x04\x01\xff\xff\xff").await.unwrap();
    let mut heard = Vec::new();
    timeout(SOON, client.read_to_end(&mut heard)).await.unwrap().unwrap();
    assert_eq!(heard, [21, 3, 1, 0, 2, 2, 50], "a fatal alert: decode error");
}
