//! Three real cluster members in one process, over UDP on 127.0.0.1.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tidegate::balance::Tally;
use tidegate::base::{BackendKey, Endpoint, Publisher, RuleName, publish_and_view};
use tidegate::cluster::{Cluster, ClusterError, ClusterPlan, MemberState, Windows};
use tidegate::health::{Verdict, Verdicts};
use tidegate::net::Resolver;
use tidegate::net::tls::TicketKeys;

use crate::support::{Book, sighting};

pub(crate) struct Node {
    pub(crate) cluster: Cluster,
    pub(crate) book: Arc<Book>,
    pub(crate) verdicts: Arc<Verdicts>,
    pub(crate) tally: Arc<Tally>,
    pub(crate) digest: Publisher<String>,
    pub(crate) tickets: Arc<TicketKeys>,
}

pub(crate) fn plan(name: &str, bind: &str, peers: &[Endpoint]) -> ClusterPlan {
    ClusterPlan {
        peers: peers.to_vec(),
        label: "test".to_owned(),
        ..ClusterPlan::new(bind.parse().unwrap(), name.into())
    }
}

/// A name server that nobody runs: only addresses and /etc/hosts resolve.
pub(crate) fn no_dns() -> Resolver {
    Resolver::with_nameserver("127.0.0.1:1".parse().unwrap())
}

pub(crate) fn start(plan: ClusterPlan, resolver: Resolver) -> Node {
    let (book, verdicts) = (Arc::new(Book::default()), Arc::new(Verdicts::default()));
    let tally = Arc::new(Tally::default());
    let tickets = TicketKeys::new();
    let (digest, config_digest) = publish_and_view("d1".to_owned());
    let windows = Windows {
        ledger: book.clone(),
        levels: book.clone(),
        verdicts: verdicts.clone(),
        tally: tally.clone(),
        tickets: tickets.clone(),
        ..Windows::empty(config_digest, resolver)
    };
    let cluster = Cluster::start(plan, windows).unwrap();
    Node { cluster, book, verdicts, tally, digest, tickets }
}

pub(crate) fn eventually(
    what: &str,
    within: Duration,
    mut holds: impl FnMut() -> bool,
) -> Duration {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < within, "not within {within:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
    began.elapsed()
}

pub(crate) fn states(node: &Node) -> Vec<(String, MemberState)> {
    let members = node.cluster.members();
    let mut states: Vec<_> =
        members.iter().map(|member| (member.name.to_string(), member.state)).collect();
    states.sort();
    states
}

fn alive(names: &[&str]) -> Vec<(String, MemberState)> {
    names.iter().map(|name| ((*name).to_owned(), MemberState::Alive)).collect()
}

fn three() -> Vec<Node> {
    let first = start(plan("n1", "127.0.0.1:0", &[]), no_dns());
    let seed = [Endpoint::from(first.cluster.address().0)];
    let mut nodes = vec![first];
    for name in ["n2", "n3"] {
        nodes.push(start(plan(name, "127.0.0.1:0", &seed), no_dns()));
    }
    let took = eventually("three see each other", Duration::from_secs(10), || {
        nodes.iter().all(|node| states(node) == alive(&["n1", "n2", "n3"]))
    });
    println!("three nodes saw each other after {took:?}");
    nodes
}

#[test]
fn three_nodes_find_each_other_and_share_counters_verdicts_and_digests() {
    let nodes = three();
    eventually("each has heard what peers know", Duration::from_secs(3), || {
        nodes.iter().all(|node| node.cluster.answered() && !node.cluster.impaired())
    });
    eventually("push/pull went over TCP", Duration::from_secs(5), || {
        let syncs = nodes.iter().map(|node| node.cluster.figures().syncs);
        syncs.clone().map(|syncs| syncs.called).sum::<u64>() >= 2
            && syncs.map(|syncs| syncs.answered).sum::<u64>() >= 2
    });
    eventually("everybody knows how many share", Duration::from_secs(5), || {
        nodes.iter().all(|node| node.book.nodes() == 3)
    });

    nodes[0].book.spend(1, 1000);
    nodes[1].book.spend(1, 500);
    eventually("counters are shared", Duration::from_secs(5), || {
        // Each hears of the whole when it reports, and of the rest as it comes in.
        nodes[..2].iter().all(|node| node.book.spent(1) == 1500)
    });

    let backend =
        BackendKey { rule: RuleName::from("web"), address: "10.0.0.9:80".parse().unwrap() };
    let now = Instant::now();
    nodes[0].verdicts.note(&backend, now, sighting(Verdict::Down, now));
    nodes[2].verdicts.note(&backend, now, sighting(Verdict::Up, now));
    eventually("verdicts are shared", Duration::from_secs(5), || {
        let votes = nodes[1].cluster.peers().votes(&backend);
        let mut votes: Vec<_> =
            votes.iter().map(|vote| (vote.observer.to_string(), vote.report.verdict)).collect();
        votes.sort_by(|a, b| a.0.cmp(&b.0));
        votes == [("n1".to_owned(), Verdict::Down), ("n3".to_owned(), Verdict::Up)]
    });

    let gauges: Vec<_> = nodes.iter().map(|node| node.tally.gauge(&backend)).collect();
    for (gauge, connections) in gauges.iter().zip([5, 2, 0]) {
        gauge.own.store(connections, Ordering::Relaxed);
    }
    eventually("connections are shared", Duration::from_secs(5), || {
        gauges.iter().map(|gauge| gauge.load()).eq([7, 7, 7])
    });

    nodes[1].digest.publish("d2".to_owned());
    eventually("a new digest is seen", Duration::from_secs(5), || {
        let members = nodes[0].cluster.members();
        members.iter().any(|member| member.config_digest == "d2" && &*member.name.0 == "n2")
    });
    eventually("drift is counted", Duration::from_secs(5), || {
        nodes.iter().map(|node| node.cluster.figures().drifted).eq([1, 2, 1])
    });
    let figures = nodes[0].cluster.figures();
    for wanted in ["swim", "join", "meta", "counters", "health", "view"] {
        let sent = figures.sent.iter().find(|(kind, ..)| *kind == wanted);
        assert!(
            sent.is_some_and(|(_, datagrams, bytes)| *datagrams > 0 && *bytes > 0),
            "{figures:?}"
        );
    }
    assert!(figures.silent_ms < 1000 && !figures.authenticated);
}

#[test]
fn a_node_that_leaves_is_left_and_a_node_that_vanishes_has_failed() {
    let mut nodes = three();
    let leaver = nodes.pop().unwrap();
    leaver.cluster.leaving();
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(leaver.cluster.leave());
    let state = |node: &Node, name: &str| {
        states(node).into_iter().find(|(known, _)| known == name).map(|(_, state)| state)
    };
    eventually("n3 has left", Duration::from_secs(2), || {
        nodes.iter().all(|node| state(node, "n3") == Some(MemberState::Left))
    });
    drop(leaver);
    drop(nodes.pop());
    let took = eventually("n2 has failed", Duration::from_secs(6), || {
        state(&nodes[0], "n2") == Some(MemberState::Failed)
    });
    println!("a vanished node was found failed after {took:?}");
    eventually("one node shares", Duration::from_secs(1), || nodes[0].book.nodes() == 1);
}

#[test]
fn a_restarted_node_takes_its_place_again_within_two_seconds() {
    let mut nodes = three();
    let gone = nodes.pop().unwrap();
    let (address, boot) = (gone.cluster.address().0, gone.cluster.members()[0].boot_id);
    drop(gone);
    let seed = [Endpoint::from(nodes[0].cluster.address().0)];
    nodes.push(start(plan("n3", &address.to_string(), &seed), no_dns()));
    let took = eventually("n3 is back, once", Duration::from_secs(2), || {
        nodes.iter().all(|node| {
            let members = node.cluster.members();
            states(node) == alive(&["n1", "n2", "n3"])
                && members.iter().all(|member| member.boot_id != boot)
        })
    });
    println!("a restarted node was back everywhere after {took:?}");
}

#[test]
fn a_node_that_returns_elsewhere_replaces_its_old_entry() {
    let mut nodes = three();
    drop(nodes.pop());
    let seed = [Endpoint::from(nodes[1].cluster.address().0)];
    nodes.push(start(plan("n3", "127.0.0.1:0", &seed), no_dns()));
    eventually("n3 is there, once", Duration::from_secs(3), || {
        nodes.iter().all(|node| states(node) == alive(&["n1", "n2", "n3"]))
    });
    // And it stays so when the old address is found dead.
    let until = Instant::now() + Duration::from_secs(5);
    while Instant::now() < until {
        for node in &nodes {
            assert_eq!(states(node), alive(&["n1", "n2", "n3"]));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn public_addresses_need_to_be_asked_for_in_words() {
    let refused = |change: fn(&mut ClusterPlan)| {
        let mut plan = plan("n1", "127.0.0.1:0", &[]);
        change(&mut plan);
        let windows = Windows::empty(publish_and_view(String::new()).1, no_dns());
        Cluster::start(plan, windows).err()
    };
    let field = |error| match error {
        Some(ClusterError::Public { field, .. }) => field,
        _ => "",
    };
    assert_eq!(field(refused(|plan| plan.bind = "203.0.113.1:9090".parse().unwrap())), "bind_addr");
    assert_eq!(
        field(refused(|plan| plan.advertise = Some("203.0.113.1:9090".parse().unwrap()))),
        "advertise_addr"
    );
    assert_eq!(
        field(refused(|plan| plan.peers = vec!["203.0.113.1:9090".parse().unwrap()])),
        "peers"
    );
    assert!(
        refused(|plan| {
            plan.insecure = true;
            plan.peers = vec!["203.0.113.1:9090".parse().unwrap()];
        })
        .is_none()
    );
}

#[test]
fn an_address_of_push_pull_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut plan = plan("n1", "127.0.0.1:0", &[]);
    plan.sync = taken.local_addr().unwrap();
    let windows = Windows::empty(publish_and_view(String::new()).1, no_dns());
    let error = Cluster::start(plan, windows).err().unwrap().to_string();
    assert!(error.contains("cluster.sync_addr") && error.contains("(TCP)"), "{error}");
}

#[test]
fn callers_that_are_silent_or_mad_keep_no_peer_from_push_pull() {
    let mut first = plan("n1", "127.0.0.1:0", &[]);
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    first.sync = free.local_addr().unwrap();
    drop(free);
    let at = first.sync;
    let first = start(first, no_dns());
    let dropped = |reason: &str| {
        let dropped = first.cluster.figures().dropped;
        dropped.iter().find(|(label, _)| *label == reason).map_or(0, |(_, count)| *count)
    };
    let mut mad = TcpStream::connect(at).unwrap();
    let _ = mad.write_all(&[7; 1 << 20]);
    let mut byte = [0];
    mad.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert!(matches!(mad.read(&mut byte), Ok(0) | Err(_)), "it is hung up on");
    eventually("it is counted", Duration::from_secs(5), || dropped("bad_version") >= 1);

    // They say nothing and never close, and there are more of them all the time.
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut silent = Vec::new();
            while !ended.load(Ordering::Relaxed) && silent.len() < 4000 {
                silent.extend(TcpStream::connect_timeout(&at, Duration::from_secs(1)));
                std::thread::sleep(Duration::from_millis(4));
            }
        });
        eventually("they push each other out", Duration::from_secs(20), || {
            dropped("rate_limited") > 50
        });
        let seed = [Endpoint::from(first.cluster.address().0)];
        let second = start(plan("n2", "127.0.0.1:0", &seed), no_dns());
        let took = eventually("a peer is heard all the same", Duration::from_secs(10), || {
            second.cluster.figures().syncs.called >= 1
        });
        println!("heard after {took:?}");
        ended.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_node_bound_to_all_addresses_is_found_at_the_one_towards_its_first_peer() {
    let seed = start(plan("n1", "127.0.0.1:0", &[]), no_dns());
    let peers = [Endpoint::from(seed.cluster.address().0)];
    for bind in ["0.0.0.0:0", "[::]:0"] {
        let node = start(plan("n2", bind, &peers), no_dns());
        assert_eq!(node.cluster.address().ip(), seed.cluster.address().ip(), "{bind}");
        eventually("both see each other", Duration::from_secs(5), || {
            [&seed, &node].into_iter().all(|node| states(node) == alive(&["n1", "n2"]))
        });
    }
}

#[test]
fn a_second_node_at_one_address_says_why_it_is_not_let_in() {
    let nodes = three();
    let mut rival = plan("rival", "127.0.0.1:0", &[Endpoint::from(nodes[0].cluster.address().0)]);
    rival.advertise = Some(nodes[1].cluster.address().0);
    let rival = start(rival, no_dns());
    eventually("the rival knows its fault", Duration::from_secs(5), || {
        rival.cluster.fault().is_some_and(|fault| fault.contains("`n2`"))
    });
    assert_eq!(rival.cluster.members().len(), 1);
    assert!(nodes.iter().all(|node| states(node) == alive(&["n1", "n2", "n3"])));
}
