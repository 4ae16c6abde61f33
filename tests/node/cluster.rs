//! Three nodes of one cluster in one process.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use std::time::{Duration, Instant};

use tidegate::admin::shapes::{Backends, Limits, Members};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::SOON;
use crate::support::backend::Backend;
use crate::world::{Caller, World, host, served, until};

async fn three(rule: &str) -> Vec<World> {
    cluster(3, rule).await
}

async fn cluster(nodes: usize, rule: &str) -> Vec<World> {
    let hosts: Vec<Ipv4Addr> = (0..nodes).map(|_| host()).collect();
    let peers: Vec<String> = hosts.iter().map(|host| format!("\"{host}:9090\"")).collect();
    let peers = peers.join(", ");
    let mut nodes = Vec::new();
    for (at, &host) in hosts.iter().enumerate() {
        let text = format!(
            "rules:\n  - {{ name: web, listen: \"{host}:8001\", {rule} }}\n\
             cluster: {{ enabled: true, node_name: n{}, bind_addr: \"{host}:9090\", peers: [{peers}] }}\n",
            at + 1
        );
        nodes.push(World::start(host, &text).await);
    }
    for node in &nodes {
        until("everybody is alive and agrees on the configuration", || async {
            let seen: Members = node.view("/api/v1/members").await;
            let digest = &seen.members[0].config_digest;
            seen.members.len() == hosts.len()
                && seen.members.iter().all(|m| m.state == "alive" && m.config_digest == *digest)
        })
        .await;
    }
    nodes
}

#[tokio::test(flavor = "multi_thread")]
async fn one_limit_is_shared_by_all_nodes() {
    let backend = Backend::echo().await;
    let limit = "rate_limit: { type: fixed_window, limit: 30, window: \"1h\" }";
    let nodes = three(&format!("backends: [\"{}\"], {limit}", backend.address)).await;

    // Spent at the first node alone, the others hear of it and refuse as well.
    let mut admitted = 0;
    for _ in 0..40 {
        admitted += usize::from(served(nodes[0].at(8001)).await);
    }
    assert_eq!(admitted, 30);
    for node in &nodes[1..] {
        until("the others heard of what was spent", || async {
            let limits: Limits = node.view("/api/v1/limits").await;
            limits.limits[0].spent_elsewhere == 30
        })
        .await;
        assert!(!served(node.at(8001)).await, "the limit holds on this node alone");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strict_limit_is_one_bucket_whichever_node_is_asked() {
    let backend = Backend::echo().await;
    // By itself strict, as five are fewer than four for each node; none comes back in time.
    let limit = "rate_limit: { type: token_bucket, limit: 5, window: \"1h\" }";
    let nodes = three(&format!("backends: [\"{}\"], {limit}", backend.address)).await;
    let mut admitted = 0;
    for turn in 0..30 {
        admitted += usize::from(served(nodes[turn % 3].at(8001)).await);
    }
    assert_eq!(admitted, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_node_shows_every_nodes_vote() {
    let backend = Backend::echo().await;
    let check = "health_check: { interval: 100ms, timeout: 100ms, rise: 1, fall: 1 }";
    let nodes = three(&format!("backends: [\"{}\"], {check}", backend.address)).await;
    for node in &nodes {
        until("three say up", || all_say(node, "up")).await;
    }
    drop(backend);
    for node in &nodes {
        until("three say down", || all_say(node, "down")).await;
        // That a backend dies, seen by one node a moment before the others, makes no node ill.
        assert_eq!(node.node.ready(), Ok(()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn six_nodes_share_the_checks_and_all_know_what_three_of_them_find() {
    let (backend, other) = (Backend::echo().await, Backend::echo().await);
    let (address, survivor) = (backend.address.to_string(), other.address);
    let check = "health_check: { interval: 300ms, timeout: 100ms }";
    let rule = format!("backends: [\"{address}\", \"{survivor}\"], {check}");
    let nodes = cluster(6, &rule).await;
    until("three check, and everybody says who", || async {
        let mut checkers = BTreeSet::new();
        for (at, node) in nodes.iter().enumerate() {
            let backend = backend_at(node, &address).await;
            let own = format!("n{}", at + 1);
            if backend.checked_here != backend.votes.contains_key(&own) || backend.state != "up" {
                return false;
            }
            checkers.insert(backend.votes.into_keys().collect::<Vec<_>>());
        }
        checkers.len() == 1 && checkers.iter().all(|checkers| checkers.len() == 3)
    })
    .await;
    for node in &nodes {
        let backend = backend_at(node, &address).await;
        let opinions = backend.opinions.values();
        assert!(opinions.clone().all(|o| o.verdict == "up" && o.seq == 1 && o.streak > 0));
        assert!(opinions.clone().all(|o| o.latency_ms.is_some_and(|ms| ms > 0.0)));
        assert_eq!(backend.last_check.starts_with("by n"), !backend.checked_here);
    }
    drop(backend);
    for node in &nodes {
        until("all know that it is down", || async {
            backend_at(node, &address).await.state == "down"
        })
        .await;
        assert_eq!(backend_at(node, &survivor.to_string()).await.state, "up");
        assert!(served(node.at(8001)).await);
        assert_eq!(node.node.ready(), Ok(()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_least_loaded_backend_is_the_least_loaded_of_all_nodes() {
    let (a, b) = (Backend::echo().await, Backend::echo().await);
    let (a, b) = (a.address.to_string(), b.address.to_string());
    let rule = format!("balance: least_connections, backends: [\"{a}\", \"{b}\"]");
    let nodes = three(&rule).await;
    let mut held = Vec::new();
    // One after the other at another node: alone, each would begin with the same backend.
    for count in 1..=6_u64 {
        let node = &nodes[count as usize % 3];
        let mut caller = Caller::connect(node.at(8001)).await.unwrap();
        assert!(caller.echoes().await);
        held.push(caller);
        let shared = [count.div_ceil(2), count / 2];
        for node in &nodes {
            until("the connection is known everywhere", || async {
                let one = backend_at(node, &a).await.cluster_active;
                let mut both = [one, backend_at(node, &b).await.cluster_active];
                both.sort_by(|a, b| b.cmp(a));
                both == shared
            })
            .await;
        }
    }
    for node in &nodes {
        let own = backend_at(node, &a).await.active + backend_at(node, &b).await.active;
        assert_eq!(own, 2, "`active` is the node's own");
    }
    drop(held);
    for node in &nodes {
        until("they are gone everywhere", || async {
            backend_at(node, &a).await.cluster_active + backend_at(node, &b).await.cluster_active
                == 0
        })
        .await;
    }
}

async fn backend_at(node: &World, address: &str) -> tidegate::admin::shapes::Backend {
    let backends: Backends = node.view("/api/v1/backends").await;
    backends.backends.into_iter().find(|backend| backend.address == address).unwrap()
}

async fn all_say(node: &World, verdict: &str) -> bool {
    let backends: Backends = node.view("/api/v1/backends").await;
    let votes = &backends.backends[0].votes;
    votes.len() == 3 && votes.values().all(|vote| vote == verdict)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_leaves_is_shown_as_left() {
    let backend = Backend::echo().await;
    let nodes = three(&format!("backends: [\"{}\"]", backend.address)).await;
    nodes[2].node.drain().await;
    for node in &nodes[..2] {
        until("n3 has left", || async {
            let seen: Members = node.view("/api/v1/members").await;
            seen.members.iter().any(|member| member.name == "n3" && member.state == "left")
        })
        .await;
    }
}

/// Callers that are served, over all nodes in turn, until `tries` have come.
async fn callers(nodes: &[World], tries: usize) -> Vec<Caller> {
    let mut served = Vec::new();
    for n in 0..tries {
        if let Ok(mut caller) = Caller::connect(nodes[n % nodes.len()].at(8001)).await
            && caller.echoes().await
        {
            served.push(caller);
        }
    }
    served
}

#[tokio::test(flavor = "multi_thread")]
async fn caps_are_shared_by_all_nodes_and_a_place_that_comes_free_is_free_everywhere() {
    let backend = Backend::echo().await;
    for cap in [
        "connection_limit: { per_client: 4, scope: cluster }",
        "connection_limit: { total: 4, scope: cluster }",
        "backend_connection_limit: { limit: 4, scope: cluster }",
    ] {
        let nodes = three(&format!("backends: [\"{}\"], {cap}", backend.address)).await;
        let mut served = callers(&nodes, 12).await;
        assert_eq!(served.len(), 4, "{cap}");
        for n in 0..9 {
            drop(served.remove(0));
            let node = &nodes[n % 3];
            // The proxy sees the end a moment after the client has gone.
            let next = tokio::time::timeout(SOON, async {
                loop {
                    if let Some(caller) = callers(std::slice::from_ref(node), 1).await.pop() {
                        return caller;
                    }
                }
            });
            served.push(next.await.expect("the place is free again"));
            assert_eq!(callers(&nodes, 3).await.len(), 0, "{cap}: more than the cap");
        }
        let text = nodes[0].metrics().await;
        assert!(text.contains("\ntidegate_permits_unasked_total 0\n"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_full_backend_gets_the_place_that_another_node_frees() {
    let backend = Backend::echo().await;
    let cap = "backend_connection_limit: { limit: 1, scope: cluster }, \
               backend_queue: { size: 5, timeout: 8s }";
    let nodes = three(&format!("backends: [\"{}\"], {cap}", backend.address)).await;
    let held = callers(&nodes[..1], 1).await;
    assert_eq!(held.len(), 1);
    let mut waiting = Caller::connect(nodes[1].at(8001)).await.unwrap();
    let (echoes, ()) = tokio::join!(waiting.echoes(), async {
        until("it waits", || async {
            let text = nodes[1].metrics().await;
            text.contains("tidegate_queued_connections{rule=\"web\"} 1")
        })
        .await;
        drop(held);
    });
    assert!(echoes);
}

/// Bytes that come back from an echoing rule in `time`, sent as fast as they may.
async fn pumped(address: std::net::SocketAddr, warm: Duration, time: Duration) -> u64 {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut back, mut forth) = stream.into_split();
    let pump = tokio::spawn(async move {
        let block = vec![7; 64 * 1024];
        while forth.write_all(&block).await.is_ok() {}
    });
    let (began, mut buffer, mut bytes) = (Instant::now(), vec![0; 64 * 1024], 0);
    while began.elapsed() < warm + time {
        let read = tokio::time::timeout(SOON, back.read(&mut buffer)).await.unwrap().unwrap();
        if began.elapsed() > warm {
            bytes += read as u64;
        }
    }
    pump.abort();
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn bandwidth_is_shared_by_all_nodes_and_one_alone_gets_all_of_it() {
    let backend = Backend::echo().await;
    let limit = "bandwidth_limit: { scope: cluster, client: { upload_per_sec: 4MiB } }";
    let nodes = three(&format!("backends: [\"{}\"], {limit}", backend.address)).await;
    let (warm, time) = (Duration::from_millis(1500), Duration::from_secs(2));
    let whole = (4 << 20) as f64 * time.as_secs_f64();
    let (one, two, three) = tokio::join!(
        pumped(nodes[0].at(8001), warm, time),
        pumped(nodes[1].at(8001), warm, time),
        pumped(nodes[2].at(8001), warm, time)
    );
    let all = [one, two, three].map(|bytes| bytes as f64 / whole);
    let sum: f64 = all.iter().sum();
    println!("{all:.3?}, together {sum:.3}");
    assert!((0.85..1.1).contains(&sum) && all.iter().all(|part| *part > 0.2), "{all:?}");
    let alone = pumped(nodes[1].at(8001), warm, time).await as f64 / whole;
    println!("alone {alone:.3}");
    assert!((0.9..1.1).contains(&alone), "{alone}");
}
