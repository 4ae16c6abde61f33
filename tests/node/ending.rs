//! The end of a node, in order.

use std::time::Duration;

use tidegate::admin::shapes::Status;
use tokio::time::timeout;

use crate::support::SOON;
use crate::support::backend::Backend;
use crate::world::{Caller, World, host, served, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_fails_readiness_first_then_closes_then_waits_for_connections() {
    let backend = Backend::echo().await;
    let host = host();
    let world = World::start(
        host,
        &format!(
            "drain_delay: 1s\nshutdown_timeout: 1m\nrules:\n  - {{ name: web, listen: \"{host}:8001\", backends: [\"{}\"] }}\n",
            backend.address
        ),
    )
    .await;
    let mut caller = Caller::connect(world.at(8001)).await.unwrap();
    assert!(caller.echoes().await && world.node.ready().is_ok());

    let node = world.node.clone();
    let draining = tokio::spawn(async move { node.drain().await });
    until("not ready", || async { world.node.ready().is_err() }).await;
    assert!(served(world.at(8001)).await, "connections are still accepted for drain_delay");
    let status: Status = world.view("/api/v1/status").await;
    assert_eq!((status.ready, status.not_ready), (false, vec!["draining".to_owned()]));

    until("listeners close", || async { !served(world.at(8001)).await }).await;
    assert!(caller.echoes().await, "a live connection was cut");
    assert!(!draining.is_finished());
    drop(caller);
    timeout(SOON, draining).await.expect("the drain ends with its last connection").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_outlives_its_time_is_cut() {
    let backend = Backend::echo().await;
    let host = host();
    let world = World::start(
        host,
        &format!(
            "shutdown_timeout: 200ms\nrules:\n  - {{ name: web, listen: \"{host}:8001\", backends: [\"{}\"] }}\n",
            backend.address
        ),
    )
    .await;
    let mut caller = Caller::connect(world.at(8001)).await.unwrap();
    assert!(caller.echoes().await);
    timeout(Duration::from_secs(5), world.node.drain()).await.expect("a drain has an end");
    caller.ended().await;
}
