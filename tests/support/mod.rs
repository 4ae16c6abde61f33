//! What the tests of the data wing play with: a proxy without a node, scripted backends, clients.

#![allow(dead_code, reason = "every test binary uses its own part")]

pub(crate) mod backend;
pub(crate) mod proxy;
pub(crate) mod tls;

use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// How long anything that should come may take.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// Waits until `reached` says so, and fails with `what` when it does not within [`SOON`].
pub(crate) async fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !reached() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Reads to the end in large pieces, with a pause after each.
pub(crate) async fn read_slowly(from: &mut (impl AsyncRead + Unpin), pause: Duration) -> Vec<u8> {
    let (mut got, mut buf) = (Vec::new(), vec![0; 512 * 1024]);
    loop {
        match from.read(&mut buf).await.unwrap() {
            0 => return got,
            n => got.extend_from_slice(&buf[..n]),
        }
        tokio::time::sleep(pause).await;
    }
}

/// Bytes that differ at every place, so that a lost, doubled or swapped piece shows.
pub(crate) fn bytes(n: usize, seed: u64) -> Vec<u8> {
    let mut x = seed | 1;
    let mut bytes = Vec::with_capacity(n + 8);
    while bytes.len() < n {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        bytes.extend_from_slice(&x.to_le_bytes());
    }
    bytes.truncate(n);
    bytes
}
