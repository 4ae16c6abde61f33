//! Backends that take no new connections by an operator's word.

use std::collections::HashSet;

use super::*;

fn only(address: SocketAddr) -> HashSet<Endpoint> {
    HashSet::from([Endpoint::from(address)])
}

#[tokio::test]
async fn a_drained_backend_gets_no_dial_and_keeps_its_leases_and_its_checks() {
    let (a, b) = (Server::start().await, Server::start().await);
    let pool = start(checked(&[a.address, b.address]));
    pool.first_checks().await;
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(pool.dial(client(), None).await.unwrap());
    }
    pool.drain(only(a.address));
    assert_eq!(state(&pool, a.address), BackendState::Draining);
    assert_eq!(of(&pool, a.address).active, 1);
    assert_eq!(spread(&pool, 4).await, HashMap::from([(b.address, 4)]));
    assert_eq!((pool.snapshot().usable, pool.snapshot().total), (1, 2));

    let address = a.address;
    a.stop().await;
    let noticed = || of(&pool, address).own.is_some_and(|own| own.verdict == Verdict::Down);
    until("its checks go on", noticed).await;
    assert_eq!(state(&pool, address), BackendState::Draining);
    pool.drain(HashSet::new());
    assert_eq!(state(&pool, address), BackendState::Down);
}

#[tokio::test]
async fn a_drain_is_no_illness_and_a_panic_does_not_use_it() {
    let (a, b) = (Server::start().await, Server::start().await);
    let pool = start(checked(&[a.address, b.address]));
    pool.first_checks().await;
    pool.drain(only(a.address));
    assert!(!pool.snapshot().panic, "half of the backends are drained, none is ill");
    let address = b.address;
    b.stop().await;
    until("the other is down", || state(&pool, address) == BackendState::Down).await;
    // The panic tries the one that is down, and not the one that is drained.
    assert!(pool.snapshot().panic);
    assert!(pool.dial(client(), None).await.is_err());
    assert_eq!(of(&pool, a.address).connections, 0);

    pool.drain(HashSet::from([Endpoint::from(a.address), Endpoint::from(address)]));
    assert!(matches!(pool.dial(client(), None).await, Err(DialError::NoBackend)));
}

/// Of two backends one is drained: the other is all there is, and half of that may not be ejected.
#[tokio::test]
async fn a_drained_backend_does_not_count_among_those_of_whom_some_may_be_ejected() {
    let live = Server::start().await;
    let dead = dead();
    let outlier =
        OutlierPlan { failures: 1, max_ejected: Share::percent(50.0), ..OutlierPlan::default() };
    let pool = start(PoolPlan { outlier, ..plan(&[live.address, dead.1]) });
    pool.drain(only(live.address));
    assert!(pool.dial(client(), None).await.is_err());
    assert_ne!(state(&pool, dead.1), BackendState::Ejected);
}
