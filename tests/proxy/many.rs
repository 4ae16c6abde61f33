//! Many connections at once.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::backend::Backend;
use crate::support::bytes;
use crate::support::proxy::Proxy;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_connections_at_once_all_get_their_own_bytes_back() {
    // Each connection takes four descriptors of this process.
    assert!(tidegate::net::raise_descriptor_limit().unwrap() > 4200);
    let backend = Backend::echo().await;
    let proxy = Proxy::before(&[backend.address]).await;
    let mut clients = Vec::new();
    for _ in 0..1000 {
        clients.push(proxy.connect().await);
    }
    let clients: Vec<_> = clients
        .into_iter()
        .enumerate()
        .map(|(n, mut client)| {
            tokio::spawn(async move {
                for round in 0..3 {
                    let sent = bytes(1 + n % 3000, (n * 7 + round) as u64);
                    client.write_all(&sent).await.unwrap();
                    let mut got = vec![0; sent.len()];
                    client.read_exact(&mut got).await.unwrap();
                    assert!(got == sent, "client {n} got other bytes than it sent");
                }
                client
            })
        })
        .collect();
    let mut live = Vec::new();
    for client in clients {
        live.push(client.await.unwrap());
    }
    assert_eq!(proxy.workers.live(), 1000);
    assert_eq!(proxy.figures().active, 1000);
    drop(live);
    proxy.has_ended("ok", 1000).await;
}
