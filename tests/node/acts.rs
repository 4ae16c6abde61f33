//! Acts on whole nodes: ordered on one, effective on the traffic of all.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate::admin::orders::Kind;
use tidegate::admin::shapes::{Backends, Bans, Members, Rules, Status};
use tidegate::admin::{Client, Target};
use tidegate::node::Reload;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::time::timeout;

use crate::support::SOON;
use crate::support::backend::Backend;
use crate::world::{Caller, World, host, served, until};

const SECOND: Duration = Duration::from_secs(1);

async fn order(world: &World, kind: Kind, body: Value) -> Result<String, String> {
    let target: Target = format!("http://{}:9900", world.host).parse().unwrap();
    Client::new(target, None).order(kind, &body).await.map_err(|error| error.to_string())
}

/// The text of a node's file behind its admin section; `more` goes into its cluster section.
fn text(at: usize, hosts: &[std::net::Ipv4Addr], rule: &str, more: &str) -> String {
    let peers: Vec<String> = hosts.iter().map(|host| format!("\"{host}:9090\"")).collect();
    let host = hosts[at];
    format!(
        "rules:\n  - {{ name: web, listen: \"{host}:8001\", {rule} }}\n\
         cluster: {{ node_name: n{}, bind_addr: \"{host}:9090\", peers: [{}]{more} }}\n",
        at + 1,
        peers.join(", "),
    )
}

async fn cluster(rule: &str) -> Vec<World> {
    let hosts = [host(), host(), host()];
    let mut nodes = Vec::new();
    for (at, host) in hosts.iter().enumerate() {
        nodes.push(World::start(*host, &text(at, &hosts, rule, "")).await);
    }
    all_see(&nodes).await;
    nodes
}

async fn all_see(nodes: &[World]) {
    for node in nodes {
        until("everybody is alive", || async {
            let seen: Members = node.view("/api/v1/members").await;
            seen.members.iter().filter(|member| member.state == "alive").count() == nodes.len()
        })
        .await;
    }
}

/// Whether a client at `from` is served.
async fn served_from(from: &str, to: SocketAddr) -> bool {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(from.parse().unwrap(), 0)).unwrap();
    let Ok(mut stream) = socket.connect(to).await else { return false };
    let mut back = [0; 4];
    stream.write_all(b"ping").await.is_ok()
        && timeout(SOON, stream.read_exact(&mut back)).await.unwrap().is_ok()
        && back == *b"ping"
}

async fn outcomes(node: &World, reason: &str) -> u64 {
    let rules: Rules = node.view("/api/v1/rules").await;
    rules.rules[0].outcomes.get(reason).copied().unwrap_or(0)
}

fn backends_of(backends: &[&Backend]) -> String {
    let all: Vec<String> = backends.iter().map(|b| format!("\"{}\"", b.address)).collect();
    format!("backends: [{}]", all.join(", "))
}

async fn state_of(node: &World, backend: &Backend) -> String {
    let backends: Backends = node.view("/api/v1/backends").await;
    let address = backend.address.to_string();
    let found = backends.backends.into_iter().find(|b| b.address == address);
    found.map_or_else(|| "gone".to_owned(), |found| found.state)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ban_on_one_node_holds_on_all_within_a_second_and_cuts_whom_it_is_told_to() {
    let backend = Backend::echo().await;
    let nodes = cluster(&backends_of(&[&backend])).await;
    let mut live = Vec::new();
    for node in &nodes {
        let mut caller = Caller::connect(node.at(8001)).await.unwrap();
        assert!(caller.echoes().await);
        live.push(caller);
    }

    let done = order(&nodes[0], Kind::Ban, json!({ "client": "127.0.0.1", "for": "1h" })).await;
    assert_eq!(done.unwrap(), "127.0.0.1 is banned for 1h");
    let began = Instant::now();
    for node in &nodes {
        until("the client is refused", || async { !served(node.at(8001)).await }).await;
    }
    let took = began.elapsed();
    println!("refused everywhere after {took:?}");
    assert!(took < SECOND, "{took:?}");
    for (node, caller) in nodes.iter().zip(&mut live) {
        assert!(caller.echoes().await, "a ban without --cut ended a live connection");
        assert!(served_from("127.0.0.9", node.at(8001)).await, "somebody else was banned");
        let bans: Bans = node.view("/api/v1/bans").await;
        assert_eq!((bans.bans.len(), bans.bans[0].client.as_str()), (1, "127.0.0.1"));
        assert_eq!((bans.bans[0].by.as_str(), bans.bans[0].cut), ("n1", false));
        assert!(bans.bans[0].left_s.is_some_and(|left| (3500.0..=3600.0).contains(&left)));
        assert!(outcomes(node, "banned").await >= 1);
        let status: Status = node.view("/api/v1/status").await;
        assert_eq!(status.bans, 1);
    }

    let mut other = Caller::connect(nodes[2].at(8001)).await;
    if let Ok(other) = &mut other {
        assert!(!other.echoes().await);
    }
    order(&nodes[1], Kind::Ban, json!({ "client": "127.0.0.0/30", "cut": true })).await.unwrap();
    let began = Instant::now();
    for caller in &mut live {
        caller.ended().await;
    }
    assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
    for node in &nodes {
        until("the cut is told", || async { outcomes(node, "ban_cut").await == 1 }).await;
    }

    order(&nodes[2], Kind::Unban, json!({ "client": "127.0.0.0/30" })).await.unwrap();
    let still = order(&nodes[2], Kind::Unban, json!({ "client": "127.0.0.2" })).await.unwrap_err();
    assert!(still.contains("127.0.0.2 is not banned"), "{still}");
    order(&nodes[2], Kind::Unban, json!({ "client": "127.0.0.1" })).await.unwrap();
    for node in &nodes {
        until("the client is served again", || async { served(node.at(8001)).await }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_backend_gets_no_new_connection_on_any_node_and_keeps_its_live_ones() {
    let (stays, goes) = (Backend::echo().await, Backend::echo().await);
    // Checks would count as connections of the backend.
    let rule = format!("{}, health_check: {{ type: none }}", backends_of(&[&stays, &goes]));
    let nodes = cluster(&rule).await;
    let mut live = Vec::new();
    for node in &nodes {
        for _ in 0..2 {
            let mut caller = Caller::connect(node.at(8001)).await.unwrap();
            assert!(caller.echoes().await);
            live.push(caller);
        }
    }
    let backend = goes.address.to_string();
    let done = order(&nodes[1], Kind::Drain, json!({ "backend": backend })).await.unwrap();
    assert_eq!(done, format!("{backend} takes no new connections in web"));
    for node in &nodes {
        until("it is shown as drained", || async { state_of(node, &goes).await == "drain" }).await;
    }
    let before = goes.connections();
    for node in &nodes {
        for _ in 0..10 {
            assert!(served(node.at(8001)).await);
        }
        let status: Status = node.view("/api/v1/status").await;
        let act = &status.overlay[0];
        assert_eq!(
            (act.act.as_str(), act.backend.as_str(), act.by.as_str()),
            ("drain", &*backend, "n2")
        );
    }
    assert_eq!(goes.connections(), before, "a drained backend got a connection");
    for caller in &mut live {
        assert!(caller.echoes().await, "a drain ended a live connection");
    }
    order(&nodes[2], Kind::Undrain, json!({ "backend": backend })).await.unwrap();
    for node in &nodes {
        until("it is up again", || async { state_of(node, &goes).await == "up" }).await;
    }
    for _ in 0..2 {
        assert!(served(nodes[0].at(8001)).await);
    }
    assert!(goes.connections() > before);
}

/// All drained is nobody left, and not a panic that uses everybody.
#[tokio::test(flavor = "multi_thread")]
async fn a_drained_backend_is_not_used_in_a_panic_either() {
    let backend = Backend::echo().await;
    let host = host();
    let rule = format!(
        "rules:\n  - {{ name: web, listen: \"{host}:8001\", {} }}\n",
        backends_of(&[&backend])
    );
    let world = World::start(host, &rule).await;
    let about = json!({ "backend": backend.address.to_string() });
    order(&world, Kind::Drain, about.clone()).await.unwrap();
    until("nobody serves", || async { !served(world.at(8001)).await }).await;
    assert_eq!(outcomes(&world, "no_backend").await, 1);
    order(&world, Kind::Undrain, about).await.unwrap();
    until("it serves again", || async { served(world.at(8001)).await }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn backends_are_added_weighed_and_removed_on_all_nodes_and_a_reload_of_that_very_one_ends_it()
{
    let (first, second) = (Backend::echo().await, Backend::echo().await);
    let nothing = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let check = ", health_check: { interval: 50ms, timeout: 100ms, rise: 1, fall: 1 }";
    let hosts = [host(), host()];
    let file =
        |at: usize, list: String, more: &str| text(at, &hosts, &format!("{list}{check}{more}"), "");
    let one = backends_of(&[&first]);
    let mut nodes = Vec::new();
    for (at, host) in hosts.iter().enumerate() {
        nodes.push(World::start(*host, &file(at, one.clone(), "")).await);
    }
    all_see(&nodes).await;
    let mut live = Caller::connect(nodes[0].at(8001)).await.unwrap();
    assert!(live.echoes().await);

    // One that answers, and one that does not: only the first is used.
    let address = second.address.to_string();
    order(&nodes[0], Kind::Add, json!({ "backend": address })).await.unwrap();
    order(&nodes[1], Kind::Add, json!({ "backend": nothing.to_string(), "rule": "web" }))
        .await
        .unwrap();
    for node in &nodes {
        until("the added one is up", || async { state_of(node, &second).await == "up" }).await;
        let shown: Backends = node.view("/api/v1/backends").await;
        until("the dead one is there", || async {
            let shown: Backends = node.view("/api/v1/backends").await;
            shown.backends.len() == 3
        })
        .await;
        assert!(shown.backends.iter().any(|b| b.address == first.address.to_string()));
        for _ in 0..6 {
            assert!(served(node.at(8001)).await);
        }
    }
    let again = order(&nodes[1], Kind::Add, json!({ "backend": address })).await.unwrap_err();
    assert!(again.contains("has") && again.contains("already"), "{again}");

    let weight = json!({ "backend": address, "weight": 7 });
    order(&nodes[1], Kind::Weigh, weight).await.unwrap();
    order(&nodes[0], Kind::Remove, json!({ "backend": nothing.to_string() })).await.unwrap();
    for node in &nodes {
        until("weight and removal are shown", || async {
            let shown: Backends = node.view("/api/v1/backends").await;
            shown.backends.len() == 2 && shown.backends[1].weight == 7
        })
        .await;
    }
    // Removing what the file has: its live connections go on.
    order(&nodes[1], Kind::Remove, json!({ "backend": first.address.to_string() })).await.unwrap();
    for node in &nodes {
        until("it is gone", || async { state_of(node, &first).await == "gone" }).await;
        assert!(served(node.at(8001)).await);
    }
    assert!(live.echoes().await, "a removal ended a live connection");
    let last = order(&nodes[0], Kind::Remove, json!({ "backend": address })).await.unwrap_err();
    assert!(last.contains("the last backend of web"), "{last}");

    // A reload of something else leaves the overlay; one of that very backend ends it, there.
    assert_eq!(nodes[0].reload(&file(0, one.clone(), ", idle_timeout: 5m")).await, Reload::Taken);
    assert_eq!(state_of(&nodes[0], &first).await, "gone");
    let changed = format!("backends: [{{ address: \"{}\", weight: 2 }}]", first.address);
    assert_eq!(nodes[0].reload(&file(0, changed, "")).await, Reload::Taken);
    assert_eq!(state_of(&nodes[0], &first).await, "up");
    assert_eq!(state_of(&nodes[1], &first).await, "gone");
    let status: Status = nodes[0].view("/api/v1/status").await;
    let idle = status.overlay.iter().find(|act| act.act == "remove").unwrap();
    assert!(idle.idle.is_some(), "{idle:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn acts_outlive_the_restart_of_one_node_and_of_all() {
    let backend = Backend::echo().await;
    let rule = backends_of(&[&backend]);
    let hosts = [host(), host()];
    let home = tempfile::tempdir().unwrap();
    let start = async |at: usize| {
        let state = format!(", state_dir: \"{}/n{at}\"", home.path().display());
        World::start(hosts[at], &text(at, &hosts, &rule, &state)).await
    };
    let (first, second) = (start(0).await, start(1).await);
    let nodes = [first, second];
    all_see(&nodes).await;
    let [first, second] = nodes;
    order(&first, Kind::Ban, json!({ "client": "127.0.0.9" })).await.unwrap();
    order(&second, Kind::Ban, json!({ "client": "127.0.0.8", "for": "1h" })).await.unwrap();
    for node in [&first, &second] {
        until("both are banned", || async {
            let bans: Bans = node.view("/api/v1/bans").await;
            bans.bans.len() == 2
        })
        .await;
    }
    // One comes back while the other is there.
    drop(second);
    let second = start(1).await;
    assert!(!served_from("127.0.0.9", second.at(8001)).await, "its first connection was let in");
    assert!(served_from("127.0.0.7", second.at(8001)).await);

    // All are gone at once; the first to come back is alone.
    drop(first);
    drop(second);
    let first = start(0).await;
    assert!(!served_from("127.0.0.9", first.at(8001)).await);
    assert!(!served_from("127.0.0.8", first.at(8001)).await);
    let bans: Bans = first.view("/api/v1/bans").await;
    let left: Vec<bool> = bans.bans.iter().map(|ban| ban.left_s.is_some()).collect();
    assert_eq!(left, [true, false], "{bans:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_a_cluster_takes_the_same_orders_and_says_what_is_wrong_with_others() {
    let (one, other) = (Backend::echo().await, Backend::echo().await);
    let host = host();
    let rules = format!(
        "rules:\n  - {{ name: web, listen: \"{host}:8001\", {} }}\n  - {{ name: api, listen: \"{host}:8002\", {} }}\n",
        backends_of(&[&one]),
        backends_of(&[&one, &other]),
    );
    let world = World::start(host, &rules).await;
    order(&world, Kind::Ban, json!({ "client": "127.0.0.1", "for": "2s" })).await.unwrap();
    until("refused", || async { !served(world.at(8001)).await }).await;
    until("and served when its time is over", || async { served(world.at(8001)).await }).await;

    let (address, both) = (other.address.to_string(), one.address.to_string());
    for (kind, body, told) in [
        (Kind::Ban, json!({ "client": "0.0.0.0/0" }), "--wide"),
        (Kind::Ban, json!({ "client": "here" }), "neither an address nor a network"),
        (Kind::Unban, json!({ "client": "10.0.0.1" }), "is not banned"),
        (Kind::Drain, json!({ "backend": "10.0.0.1:80" }), &*format!("{both} (web)")),
        (Kind::Drain, json!({ "backend": &address, "rule": "wbe" }), "there are: web, api"),
        (Kind::Undrain, json!({ "backend": &address }), "is not drained"),
        (Kind::Add, json!({ "backend": "10.0.0.1:80" }), "name the rule with `--rule`"),
        (Kind::Add, json!({ "backend": format!("{host}:8001"), "rule": "web" }), "a loop"),
        (Kind::Weigh, json!({ "backend": &both, "weight": 1 }), "several rules"),
        (Kind::Remove, json!({ "backend": &both, "rule": "web" }), "the last backend"),
    ] {
        let denied = order(&world, kind, body.clone()).await.unwrap_err();
        assert!(denied.contains(told), "{body}: {denied}");
    }
    // Of several rules, each that has it.
    let done = order(&world, Kind::Drain, json!({ "backend": &both })).await.unwrap();
    assert!(done.ends_with("in web, api"), "{done}");
    until("only the other serves", || async { !served(world.at(8001)).await }).await;
    assert!(served(world.at(8002)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn bans_and_drains_do_not_wait_for_a_reload_that_waits_for_its_checks() {
    let (one, other) = (Backend::echo().await, Backend::echo().await);
    // It takes the check's connection and never answers.
    let dumb = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = host();
    let web = format!(
        "rules:\n  - {{ name: web, listen: \"{host}:8001\", {} }}\n",
        backends_of(&[&one, &other])
    );
    let world = World::start(host, &web).await;
    let hangs = format!(
        "{web}  - {{ name: hangs, listen: \"{host}:8002\", backends: [\"{}\"], health_check: {{ type: http, timeout: 1h }} }}\n",
        dumb.local_addr().unwrap()
    );
    let acts = async {
        let asked = tokio::task::spawn_blocking(move || dumb.accept().unwrap());
        let _asked = timeout(SOON, asked).await.unwrap().unwrap();
        // The first of them waits for the reload, the others do not wait for it.
        order(&world, Kind::Weigh, json!({ "backend": one.address.to_string(), "weight": 7 }))
            .await
            .unwrap();
        order(&world, Kind::Drain, json!({ "backend": one.address.to_string() })).await.unwrap();
        until("it is drained", || async { state_of(&world, &one).await == "drain" }).await;
        order(&world, Kind::Ban, json!({ "client": "127.0.0.1" })).await.unwrap();
        until("the client is refused", || async { !served(world.at(8001)).await }).await;
    };
    tokio::select! {
        _ = world.reload(&hangs) => panic!("the reload did not wait"),
        () = acts => {}
    }
    // The reload is given up; what waited for it is done.
    until("the weight is changed", || async {
        let shown: Backends = world.view("/api/v1/backends").await;
        shown.backends.iter().any(|backend| backend.weight == 7)
    })
    .await;
    assert_eq!(state_of(&world, &one).await, "drain");
}
