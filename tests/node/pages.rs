//! The pages say what a node shows.

use std::collections::BTreeSet;

use serde_json::Value;
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

    let page = include_str!("../../docs/operations.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let named: BTreeSet<String> =
        rows.flat_map(|names| names.split(['`', ',', ' '])).map(str::to_owned).collect();
    let status: Value = world.view("/api/v1/status").await;
    let mut shown = BTreeSet::new();
    fields("", &status, &mut shown);
    assert!(shown.len() > 20, "{shown:?}");
    let missing: Vec<_> = shown.difference(&named).collect();
    assert!(missing.is_empty(), "not on the page: {missing:?}");

    let page = include_str!("../../docs/metrics.md");
    for reason in Reason::ALL {
        let row = format!("| `{}` | {:?} |", reason.label(), reason.level()).to_lowercase();
        assert!(page.contains(&row), "the page lacks {row}");
    }
}

/// All fields of a view, by their paths.
fn fields(at: &str, view: &Value, out: &mut BTreeSet<String>) {
    match view {
        Value::Object(all) => {
            for (name, view) in all {
                let dot = if at.is_empty() { "" } else { "." };
                fields(&format!("{at}{dot}{name}"), view, out);
            }
        }
        Value::Array(all) if all.iter().any(Value::is_object) => {
            all.iter().for_each(|view| fields(&format!("{at}[]"), view, out));
        }
        // A part that is not there, or a list of nothing, has no fields to show.
        Value::Null if at == "gossip.state" => {}
        Value::Array(all) if at == "overlay" && all.is_empty() => {}
        _ => drop(out.insert(at.to_owned())),
    }
}
