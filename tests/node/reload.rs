//! Reload: everything at once, or nothing; and no live connection ends.

use tidegate::admin::shapes::{Backends, Members, Rules, Status};
use tidegate::node::Reload;

use crate::support::backend::Backend;
use crate::world::{Caller, World, host, served};

fn rule(name: &str, listen: &str, backend: &Backend, more: &str) -> String {
    format!(
        "  - {{ name: {name}, listen: \"{listen}\", backends: [\"{}\"]{more} }}\n",
        backend.address
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_adds_changes_and_removes_rules_and_no_live_connection_ends() {
    let (one, other) = (Backend::echo().await, Backend::greeting("").await);
    let host = host();
    let listen = |port: u16| format!("{host}:{port}");
    let before = format!(
        "rules:\n{}{}{}",
        rule("stays", &listen(8001), &one, ""),
        rule("changes", &listen(8002), &one, ""),
        rule("goes", &listen(8003), &one, "")
    );
    let world = World::start(host, &before).await;
    let mut callers = Vec::new();
    for port in [8001, 8002, 8003] {
        let mut caller = Caller::connect(world.at(port)).await.unwrap();
        assert!(caller.echoes().await);
        callers.push(caller);
    }

    let after = format!(
        "rules:\n{}{}{}",
        rule("stays", &listen(8001), &one, ""),
        rule("changes", &listen(8002), &other, ", balance: least_connections"),
        rule("comes", &listen(8004), &other, "")
    );
    assert_eq!(world.reload(&after).await, Reload::Taken);

    for caller in &mut callers {
        assert!(caller.echoes().await, "a live connection was hurt");
    }
    assert!(served(world.at(8001)).await);
    let moved = other.connections();
    assert!(served(world.at(8002)).await && served(world.at(8004)).await);
    assert!(other.connections() >= moved + 2, "the changed rule has not moved to its new backend");
    assert!(!served(world.at(8003)).await, "the removed rule still listens");

    let rules: Rules = world.view("/api/v1/rules").await;
    let names: Vec<&str> = rules.rules.iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(names, ["stays", "changes", "comes"]);
    assert_eq!(rules.rules[1].balance, "least_connections");
    assert_eq!(rules.rules[0].connections, 2, "counts outlive the reload");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_file_changes_nothing_and_shows_its_faults() {
    let backend = Backend::echo().await;
    let host = host();
    let good = format!("rules:\n{}", rule("web", &format!("{host}:8001"), &backend, ""));
    let world = World::start(host, &good).await;
    let mut caller = Caller::connect(world.at(8001)).await.unwrap();
    let before: Status = world.view("/api/v1/status").await;

    let bad = good.replace("name: web", "nmae: web, weight: 3");
    assert_eq!(world.reload(&bad).await, Reload::Refused);

    let status: Status = world.view("/api/v1/status").await;
    let error = status.config.error.unwrap();
    assert!(!status.config.ok && status.config.digest == before.config.digest);
    assert!(error.contains("lb.yaml:4:") && error.contains("name"), "{error}");
    assert!(error.contains("weight"), "the second fault is missing: {error}");
    assert!(world.metrics().await.contains("\ntidegate_config_ok 0\n"));
    assert!(caller.echoes().await && served(world.at(8001)).await);

    assert_eq!(world.reload(&good).await, Reload::Unchanged);
    let status: Status = world.view("/api/v1/status").await;
    assert!(status.config.ok && status.config.error.is_none());
    assert!(world.metrics().await.contains("\ntidegate_config_ok 1\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_cannot_be_bound_refuses_the_whole_reload() {
    let backend = Backend::echo().await;
    let host = host();
    let taken = tokio::net::TcpListener::bind((host, 8009)).await.unwrap();
    let first = rule("web", &format!("{host}:8001"), &backend, "");
    let world = World::start(host, &format!("rules:\n{first}")).await;

    let more = format!(
        "rules:\n{}{}",
        rule("comes", &format!("{host}:8002"), &backend, ""),
        rule("cannot", &format!("{host}:8009"), &backend, "")
    );
    assert_eq!(world.reload(&more).await, Reload::Refused);

    let status: Status = world.view("/api/v1/status").await;
    let error = status.config.error.unwrap();
    assert!(error.contains("8009") && error.contains("another program listens"), "{error}");
    assert!(served(world.at(8001)).await, "the old rule is gone");
    assert!(!served(world.at(8002)).await, "half of the reload was taken");

    drop(taken);
    assert_eq!(world.reload(&more).await, Reload::Taken);
    assert!(served(world.at(8009)).await && served(world.at(8002)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_reload_does_not_touch_keeps_its_state() {
    let backend = Backend::echo().await;
    let host = host();
    let limited = |burst: u32, idle: &str| {
        let more = format!(
            ", idle_timeout: {idle}, rate_limit: {{ type: fixed_window, limit: {burst}, window: \"1h\" }}"
        );
        format!("rules:\n{}", rule("web", &format!("{host}:8001"), &backend, &more))
    };
    let world = World::start(host, &limited(2, "1m")).await;
    assert!(served(world.at(8001)).await && served(world.at(8001)).await);
    assert!(!served(world.at(8001)).await, "the limit does not hold");

    assert_eq!(world.reload(&limited(2, "2m")).await, Reload::Taken);
    assert!(!served(world.at(8001)).await, "a reload filled the bucket");
    let backends: Backends = world.view("/api/v1/backends").await;
    assert_eq!((backends.backends[0].state.as_str(), backends.backends[0].connections), ("up", 2));

    assert_eq!(world.reload(&limited(3, "2m")).await, Reload::Taken);
    assert!(served(world.at(8001)).await, "a new limit begins anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_may_become_narrower_and_wider_again() {
    let backend = Backend::echo().await;
    let host = host();
    // Any address hears it, so the port must be nobody else's.
    let free = std::net::TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
    let (wide, narrow) = (format!("0.0.0.0:{free}"), format!("{host}:{free}"));
    let listening = |listen: &str| format!("rules:\n{}", rule("web", listen, &backend, ""));
    let world = World::start(host, &listening(&wide)).await;
    let mut caller = Caller::connect(world.at(free)).await.unwrap();
    assert!(caller.echoes().await);

    assert_eq!(world.reload(&listening(&narrow)).await, Reload::Taken);
    assert!(caller.echoes().await && served(world.at(free)).await);
    assert!(!served(([127, 0, 0, 1], free).into()).await, "the wide listener is still there");
    assert_eq!(world.reload(&listening(&wide)).await, Reload::Taken);
    assert!(caller.echoes().await && served(([127, 0, 0, 1], free).into()).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_a_cluster_says_its_own_name() {
    let backend = Backend::echo().await;
    let host = host();
    let rules = format!("rules:\n{}", rule("web", &format!("{host}:8001"), &backend, ""));
    let world = World::start(host, &rules).await;
    let members: Members = world.view("/api/v1/members").await;
    let status: Status = world.view("/api/v1/status").await;
    assert_eq!(members.own, status.node);
}
