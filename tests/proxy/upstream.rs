//! Which backend a connection gets, and what happens when there is none.

use std::num::NonZeroU32;
use std::time::Duration;

use tidegate::upstream::QueuePlan;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::backend::{Backend, nobody};
use crate::support::proxy::{Proxy, plan};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backends_take_turns_over_all_workers() {
    let (one, two) = (Backend::greeting("1").await, Backend::greeting("2").await);
    let proxy = Proxy::before(&[one.address, two.address]).await;
    for _ in 0..20 {
        proxy.connect().await.read_u8().await.unwrap();
    }
    assert_eq!((one.connections(), two.connections()), (10, 10));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_connect_tries_the_next_backend_and_the_client_does_not_notice() {
    let backend = Backend::greeting("here").await;
    let proxy = Proxy::before(&[nobody().await, nobody().await, backend.address]).await;
    for _ in 0..6 {
        let mut answer = [0; 4];
        proxy.connect().await.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"here");
    }
    proxy.has_ended("ok", 6).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_no_backend_accepts_the_client_gets_an_orderly_end() {
    let proxy = Proxy::before(&[nobody().await]).await;
    let mut client = proxy.connect().await;
    let _ = client.write_all(b"said without knowing").await;
    assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
    proxy.has_ended("connect_failed", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_backend_refuses_or_lets_wait_as_configured() {
    let backend = Backend::greeting("!").await;
    let mut full = plan(&[backend.address]);
    full.pool.connection_limit = NonZeroU32::new(1);

    let proxy = Proxy::of(full.clone()).await;
    let mut first = proxy.connect().await;
    first.read_u8().await.unwrap();
    assert_eq!(proxy.connect().await.read(&mut [0; 8]).await.unwrap(), 0);
    proxy.has_ended("backend_full", 1).await;

    full.pool.queue = QueuePlan { size: 8, timeout: Duration::from_secs(10) };
    let proxy = Proxy::of(full).await;
    let mut first = proxy.connect().await;
    first.read_u8().await.unwrap();
    let mut second = proxy.connect().await;
    let waited = tokio::time::timeout(Duration::from_millis(200), second.read_u8()).await;
    assert!(waited.is_err(), "got through a full backend");
    drop(first);
    second.read_u8().await.unwrap();
}
