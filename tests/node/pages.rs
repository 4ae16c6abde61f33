//! The pages say what a node shows.

use std::collections::BTreeSet;

use tidegate::proxy::Reason;

use crate::support::backend::Backend;
use crate::world::{World, host, served, until};

#[tokio::test(flavor = "multi_thread")]
async fn the_page_of_metrics_lists_what_a_node_shows() {
    let backend = Backend::echo().await;
    let host = host();
    let limit = "rate_limit: { requests_per_second: 5 }";
    // Whose certificate ends is shown where there is one.
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    std::fs::write(at("a.crt"), made.cert.pem()).unwrap();
    std::fs::write(at("a.key"), made.signing_key.serialize_pem()).unwrap();
    let rule = format!(
        "rules:\n  - {{ name: web, listen: \"{host}:8001\", backends: [\"{to}\"], {limit} }}\n  \
         - {{ name: tls, listen: \"{host}:8002\", backends: [\"{to}\"], tls: {{ cert: \"{}\", key: \"{}\" }} }}\n\
         cluster: {{ enabled: true, bind_addr: \"{host}:9090\" }}\n",
        at("a.crt"),
        at("a.key"),
        to = backend.address
    );
    let world = World::start(host, &rule).await;
    // A reason is shown once a session has ended by it.
    assert!(served(world.at(8001)).await);
    until("the session has ended", || async { world.metrics().await.contains("reason=\"ok\"") })
        .await;
    let page = include_str!("../../docs/metrics.md");

    let shown: BTreeSet<String> = world
        .metrics()
        .await
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .map(|line| line.replacen(' ', "` | ", 1))
        .collect();
    let told: BTreeSet<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter(|line| line.starts_with("tidegate_") || line.starts_with("process_"))
        .map(|line| line.split(" | ").take(2).collect::<Vec<_>>().join(" | "))
        .collect();
    let differ: Vec<_> = told.symmetric_difference(&shown).collect();
    assert!(differ.is_empty(), "only on the page, or only shown: {differ:?}");

    for reason in Reason::ALL {
        let row = format!("| `{}` | {:?} |", reason.label(), reason.level()).to_lowercase();
        assert!(page.contains(&row), "the page lacks {row}");
    }
}
