//! What a node says of the secrets of session tickets.

use tidegate::admin::shapes::Status;

use crate::support::backend::Backend;
use crate::world::{World, host};

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_a_cluster_has_secrets_of_its_own_from_the_start() {
    let backend = Backend::echo().await;
    let host = host();
    let rule = format!("backends: [\"{}\"]", backend.address);
    let rules = format!("rules:\n  - {{ name: web, listen: \"{host}:8001\", {rule} }}\n");
    let world = World::start(host, &rules).await;
    let status: Status = world.view("/api/v1/status").await;
    // One, and in the second half of an epoch the next one.
    assert!((1..=2).contains(&status.tickets.secrets), "{:?}", status.tickets);
    assert!(status.tickets.sealing_s.is_some() && !status.tickets.shared);
    let metrics = world.metrics().await;
    assert!(metrics.contains("\ntidegate_tickets_shared 0\n"), "{metrics}");
}
