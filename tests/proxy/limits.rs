//! Who is refused, and what a refused client sees.

use std::io::ErrorKind;
use std::num::{NonZeroU32, NonZeroU64};
use std::time::{Duration, Instant};

use tidegate::base::LimitId;
use tidegate::proxy::RulePlan;
use tidegate::traffic::{
    AccessPlan, Action, Algorithm, BandwidthPlan, CapsPlan, LimitKey, LimitPlan, LimitScope, Quota,
    Rates, Sharing,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::backend::Backend;
use crate::support::proxy::{Proxy, plan};
use crate::support::{bytes, until};

/// `burst` connections at once, then `rate` per second.
pub(crate) fn limited(plan: &mut RulePlan, rate: f64, burst: f64, action: Action) {
    plan.rate_limit = Some(LimitPlan {
        id: LimitId::of_rule(&plan.name),
        algorithm: Algorithm::TokenBucket(Quota { rate, burst }),
        scope: LimitScope::Node,
        key: LimitKey::Client,
        action,
        ipv6_prefix: 64,
        exempt: Vec::new(),
        shadow: false,
        max_keys: 1024,
        sharing: Sharing::default(),
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_the_rate_reject_ends_the_connection_in_order() {
    let backend = Backend::greeting("!").await;
    let mut plan = plan(&[backend.address]);
    limited(&mut plan, 0.001, 2.0, Action::Reject);
    let proxy = Proxy::of(plan).await;
    for _ in 0..2 {
        proxy.connect().await.read_u8().await.unwrap();
    }
    for _ in 0..3 {
        let mut refused = proxy.connect().await;
        // A client that talks first must read an end, not a reset, though nobody read its words.
        refused.write_all(&bytes(4096, 1)).await.unwrap();
        assert_eq!(refused.read(&mut [0; 8]).await.unwrap(), 0);
    }
    proxy.has_ended("rate_limited", 3).await;
    assert_eq!(backend.connections(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_the_rate_drop_resets_the_connection() {
    let backend = Backend::greeting("!").await;
    let mut plan = plan(&[backend.address]);
    limited(&mut plan, 0.001, 1.0, Action::Drop);
    let proxy = Proxy::of(plan).await;
    proxy.connect().await.read_u8().await.unwrap();
    // Quick as it is, the reset may come before the client has seen that it was connected.
    let refused = async { TcpStream::connect(proxy.address).await?.read(&mut [0; 8]).await };
    assert_eq!(refused.await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    proxy.has_ended("rate_limited", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_the_rate_delay_lets_some_wait_for_a_token_and_rejects_the_rest() {
    let backend = Backend::greeting("!").await;
    let mut plan = plan(&[backend.address]);
    let delay = Action::Delay { queue: 2, max: Duration::from_secs(5) };
    limited(&mut plan, 5.0, 1.0, delay);
    let proxy = Proxy::of(plan).await;
    let begun = Instant::now();
    let mut clients = Vec::new();
    for _ in 0..5 {
        let mut client = proxy.connect().await;
        clients.push(tokio::spawn(async move { client.read(&mut [0; 1]).await.unwrap() }));
        // One after the other, so that it is known who waits.
        until("it was accepted", || proxy.figures().connections == clients.len() as u64).await;
    }
    let mut served = 0;
    for client in clients {
        served += client.await.unwrap();
    }
    assert_eq!(served, 3, "one by the burst, two by waiting");
    assert!(begun.elapsed() >= Duration::from_millis(350), "{:?}", begun.elapsed());
    proxy.has_ended("rate_limited", 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_for_a_token_ends_when_none_can_come_in_time() {
    let backend = Backend::greeting("!").await;
    let mut plan = plan(&[backend.address]);
    let delay = Action::Delay { queue: 8, max: Duration::from_millis(200) };
    limited(&mut plan, 0.01, 1.0, delay);
    let proxy = Proxy::of(plan).await;
    proxy.connect().await.read_u8().await.unwrap();
    assert_eq!(proxy.connect().await.read(&mut [0; 8]).await.unwrap(), 0);
    proxy.has_ended("rate_limited", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caps_hold_and_places_come_back() {
    for (caps, reason) in [
        (CapsPlan { per_client: NonZeroU32::new(2), ..CapsPlan::default() }, "client_cap"),
        (CapsPlan { total: NonZeroU32::new(2), ..CapsPlan::default() }, "rule_cap"),
    ] {
        let backend = Backend::greeting("!").await;
        let mut plan = plan(&[backend.address]);
        plan.caps = caps;
        let proxy = Proxy::of(plan).await;
        let mut first = proxy.connect().await;
        let mut second = proxy.connect().await;
        first.read_u8().await.unwrap();
        second.read_u8().await.unwrap();
        assert_eq!(proxy.connect().await.read(&mut [0; 8]).await.unwrap(), 0);
        proxy.has_ended(reason, 1).await;
        drop(first);
        proxy.has_ended("ok", 1).await;
        proxy.connect().await.read_u8().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_may_not_connect_reaches_no_backend() {
    let backend = Backend::greeting("!").await;
    let mut plan = plan(&[backend.address]);
    plan.access = AccessPlan { allow: Vec::new(), deny: vec!["127.0.0.0/8".parse().unwrap()] };
    let proxy = Proxy::of(plan).await;
    assert_eq!(proxy.connect().await.read(&mut [0; 8]).await.unwrap(), 0);
    proxy.has_ended("access_denied", 1).await;
    assert_eq!(backend.connections(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handshakes_beyond_their_bound_wait_and_are_served_later() {
    // A backend that is full lets a connection wait: it stays a handshake.
    let backend = Backend::greeting("!").await;
    let mut plan = plan(&[backend.address]);
    plan.pool.connection_limit = NonZeroU32::new(1);
    plan.pool.queue = tidegate::upstream::QueuePlan { size: 100, timeout: Duration::from_secs(30) };
    let tcp = tidegate::net::TcpOptions { max_handshakes: 2, ..Default::default() };
    let proxy = Proxy::with(plan, tcp, None).await;
    let clients: Vec<_> = (0..12)
        .map(|_| {
            let address = proxy.address;
            tokio::spawn(async move {
                let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
                client.read_u8().await.unwrap();
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    proxy.has_ended("ok", 12).await;
    let pauses = proxy.workers.accept_pauses();
    let handshakes = pauses.iter().find(|(cause, _)| *cause == "max_handshakes").unwrap();
    assert!(handshakes.1 > 0, "{pauses:?}");
}

/// Bytes per second that come through in each direction within about three seconds.
async fn measured(plan: RulePlan, upload: bool) -> f64 {
    let proxy = Proxy::of(plan).await;
    let (mut read, mut write) = proxy.connect().await.into_split();
    let moving = tokio::spawn(async move {
        if upload {
            let piece = bytes(64 * 1024, 1);
            while write.write_all(&piece).await.is_ok() {}
        } else {
            let mut buf = vec![0; 64 * 1024];
            while let Ok(1..) = read.read(&mut buf).await {}
        }
    });
    let count = || {
        let figures = proxy.figures();
        if upload { figures.bytes_up } else { figures.bytes_down }
    };
    // The meter is told about once a second: measure between two tellings.
    until("bytes move", || count() > 0).await;
    let (first, begun) = (count(), Instant::now());
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    let before = count();
    until("bytes still move", || count() > before).await;
    let rate = (count() - first) as f64 / begun.elapsed().as_secs_f64();
    moving.abort();
    rate
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bandwidth_is_within_five_percent_of_its_limit_slow_or_fast_up_or_down() {
    const KIB: u64 = 1024;
    let source = Backend::start(|mut stream| async move {
        let piece = bytes(256 * 1024, 1);
        while stream.write_all(&piece).await.is_ok() {}
    })
    .await;
    let sink = Backend::sink().await;
    let mut wrong = Vec::new();
    for rate in [64 * KIB, 100 * KIB * KIB] {
        let some = NonZeroU64::new(rate);
        for upload in [true, false] {
            let rates = if upload {
                Rates { upload: some, download: None }
            } else {
                Rates { upload: None, download: some }
            };
            let mut plan = plan(&[if upload { sink.address } else { source.address }]);
            if upload {
                plan.bandwidth = BandwidthPlan { client: rates, ..BandwidthPlan::default() };
            } else {
                plan.pool.bandwidth = rates;
            }
            let share = measured(plan, upload).await / rate as f64;
            println!("{rate} B/s, upload {upload}: {share:.3}");
            if !(0.95..=1.05).contains(&share) {
                wrong.push((rate, upload, share));
            }
        }
    }
    assert!(wrong.is_empty(), "(rate, upload, measured share): {wrong:?}");
}
