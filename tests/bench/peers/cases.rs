//! The cases: who is compared, by which work, and what is read from it.

use crate::Fault;
use crate::args::Args;
use crate::clients::{iperf, redis_benchmark};
use crate::crowd::Crowd;
use crate::machine::{descriptors, kernel_memory};
use crate::peers::{Peer, Proxy};
use crate::process::Cpus;
use crate::report::{Column, Measured};
use crate::servers::{Folder, Kind, Server};
use crate::tls::{Certificates, Client};
use rustls::{HandshakeKind, SupportedProtocolVersion, version};
use std::time::{Duration, Instant};

mod sealed;

/// What is done through the proxy in one round.
#[derive(Clone, Copy)]
enum Work {
    /// redis-benchmark with these arguments, for so many operations.
    Redis(&'static [&'static str], u64),
    /// redis-benchmark with one connection for each of the many, for so many operations.
    RedisCrowd(u64),
    /// iperf3 for so many seconds.
    Bulk(u64),
    /// Many connections at rest.
    Idle,
    /// So many connections, each with a TLS handshake of this version and kind.
    Handshakes(&'static SupportedProtocolVersion, HandshakeKind, u64),
    /// One TLS connection over which so many bytes come.
    Download(u64),
}

/// One figure of a case. The order is the order of a sample's values.
pub(crate) struct Metric {
    /// With its unit.
    pub name: &'static str,
    /// Digits after the point.
    pub digits: usize,
    /// What the project aims at, in words.
    pub bar: &'static str,
}

/// One case.
pub(crate) struct Case {
    /// For `--case`.
    pub name: &'static str,
    /// What the client does.
    pub title: &'static str,
    /// In this order they run.
    pub peers: Vec<Peer>,
    /// Ratios are to this one.
    pub base: Peer,
    /// What is read.
    pub metrics: Vec<Metric>,
    work: Work,
    kind: Kind,
    /// Where the proxy runs, and where all else does.
    cpus: (Cpus, Cpus),
}

impl Case {
    /// Programs it needs, with their packages.
    pub(crate) fn needs(&self) -> Vec<(&'static str, &'static str)> {
        let mut needs = match self.work {
            Work::Redis(..) | Work::RedisCrowd(_) => {
                vec![("redis-benchmark", "redis-tools"), ("redis-server", "redis-server")]
            }
            Work::Idle | Work::Handshakes(..) | Work::Download(_) => {
                vec![("redis-server", "redis-server")]
            }
            Work::Bulk(_) => vec![("iperf3", "iperf3")],
        };
        needs.extend(self.peers.iter().filter_map(|peer| peer.needs()));
        needs
    }
}

const fn metric(name: &'static str, digits: usize, bar: &'static str) -> Metric {
    Metric { name, digits, bar }
}

/// What is read of connections at rest.
fn at_rest(bar: &'static str) -> Vec<Metric> {
    vec![
        metric("KB user memory per connection", 2, bar),
        metric("KB kernel memory per connection, of the whole machine", 1, ""),
        metric("proxy's descriptors per connection", 2, ""),
        metric("ms CPU per second at rest", 1, ""),
        metric("connections", 0, ""),
    ]
}

fn all() -> Vec<Case> {
    let (proxy, others, both) = (Cpus::Proxy, Cpus::Others, Cpus::Both);
    let rivals = || vec![Peer::Nobody, Peer::Tidegate, Peer::Haproxy, Peer::Nginx];
    vec![
        Case {
            name: "request",
            title: "request/response: redis-benchmark -c 50 -t get",
            peers: rivals(),
            base: Peer::Haproxy,
            metrics: vec![metric("µs CPU per op", 2, "≤ 0.85 × haproxy"), metric("op/s", 0, "")],
            work: Work::Redis(&["-c", "50", "-t", "get"], 150_000),
            kind: Kind::Redis,
            cpus: (proxy, others),
        },
        Case {
            name: "pipeline",
            title: "pipelined 100 deep: redis-benchmark -c 50 -P 100 -t get",
            peers: rivals(),
            base: Peer::Haproxy,
            metrics: vec![
                metric("op/s", 0, "≥ 1.0 × haproxy, ≥ 500,000 where none has 1,000,000"),
                metric("µs CPU per op", 3, ""),
            ],
            work: Work::Redis(&["-c", "50", "-P", "100", "-t", "get"], 4_000_000),
            kind: Kind::Redis,
            cpus: (proxy, others),
        },
        Case {
            name: "bulk",
            title: "bulk: iperf3, one stream",
            peers: vec![
                Peer::Nobody,
                Peer::Tidegate,
                Peer::Haproxy,
                Peer::HaproxySplice,
                Peer::HaproxyPlain,
                Peer::Nginx,
            ],
            base: Peer::HaproxySplice,
            metrics: vec![
                metric("ms CPU per GB", 0, "≤ 0.75 × haproxy-splice"),
                metric("Gbit/s", 2, ""),
            ],
            work: Work::Bulk(3),
            kind: Kind::Iperf,
            cpus: (proxy, others),
        },
        Case {
            name: "message",
            title: "16 KiB messages: redis-benchmark -c 50 -d 16384 -t set",
            peers: rivals(),
            base: Peer::Haproxy,
            metrics: vec![metric("µs CPU per op", 2, ""), metric("op/s", 0, "")],
            work: Work::Redis(&["-c", "50", "-d", "16384", "-t", "set"], 60_000),
            kind: Kind::Redis,
            cpus: (proxy, others),
        },
        Case {
            name: "connect",
            title: "new connection per request: redis-benchmark -c 50 -k 0 -t get",
            peers: rivals(),
            base: Peer::Haproxy,
            metrics: vec![metric("µs CPU per op", 2, "≤ 1.0 × haproxy"), metric("op/s", 0, "")],
            work: Work::Redis(&["-c", "50", "-k", "0", "-t", "get"], 12_000),
            kind: Kind::Redis,
            cpus: (proxy, others),
        },
        Case {
            name: "idle",
            title: "connections at rest (each was answered once)",
            peers: rivals(),
            base: Peer::Haproxy,
            metrics: at_rest("≤ 3 KB, ≤ 0.8 × haproxy"),
            work: Work::Idle,
            kind: Kind::Redis,
            cpus: (proxy, others),
        },
        Case {
            name: "crowd",
            title: "request/response over many connections, all at once busy: redis-benchmark -c N -t get",
            peers: rivals(),
            base: Peer::Haproxy,
            metrics: vec![metric("µs CPU per op", 2, ""), metric("op/s", 0, "")],
            work: Work::RedisCrowd(150_000),
            kind: Kind::Redis,
            cpus: (proxy, others),
        },
        Case {
            name: "features",
            title: "limits, checks, gossip, metrics read every second, against none of them: redis-benchmark -c 50 -t get",
            peers: vec![Peer::Tidegate, Peer::TidegateFull, Peer::TidegatePaced],
            base: Peer::Tidegate,
            metrics: vec![
                metric("µs CPU per op", 2, "tidegate-full ≤ 1.05 × tidegate"),
                metric("op/s", 0, ""),
            ],
            work: Work::Redis(&["-c", "50", "-t", "get"], 150_000),
            kind: Kind::Redis,
            cpus: (proxy, others),
        },
        Case {
            name: "features-connect",
            title: "the same, new connection per request: redis-benchmark -c 50 -k 0 -t get",
            peers: vec![Peer::Tidegate, Peer::TidegateFull, Peer::TidegatePaced],
            base: Peer::Tidegate,
            metrics: vec![
                metric("µs CPU per op", 2, "tidegate-full ≤ 1.05 × tidegate"),
                metric("op/s", 0, ""),
            ],
            work: Work::Redis(&["-c", "50", "-k", "0", "-t", "get"], 12_000),
            kind: Kind::Redis,
            cpus: (proxy, others),
        },
        Case {
            name: "workers",
            title: "two workers against one, nothing pinned: redis-benchmark -c 400 -t get",
            peers: vec![Peer::Tidegate, Peer::TidegateTwo],
            base: Peer::Tidegate,
            metrics: vec![metric("µs CPU per op", 2, "≤ 1.05 × one worker"), metric("op/s", 0, "")],
            work: Work::Redis(&["-c", "400", "-t", "get"], 150_000),
            kind: Kind::Redis,
            cpus: (both, both),
        },
    ]
}

/// The cases and peers that the command line asks for.
pub(crate) fn chosen(args: &Args) -> Result<Vec<Case>, Fault> {
    let mut cases = all();
    cases.extend(sealed::all());
    let names: Vec<&str> = cases.iter().map(|case| case.name).collect();
    if let Some(unknown) = args.cases.iter().find(|name| !names.contains(&name.as_str())) {
        return Err(format!("no case {unknown}; there are: {}", names.join(", ")).into());
    }
    if !args.cases.is_empty() {
        cases.retain(|case| args.cases.iter().any(|name| name == case.name));
    }
    if !args.peers.is_empty() {
        for case in &mut cases {
            case.peers.retain(|peer| args.peers.iter().any(|name| name == peer.name()));
        }
        cases.retain(|case| !case.peers.is_empty());
    }
    if cases.is_empty() { Err("no case has these peers".into()) } else { Ok(cases) }
}

/// Runs a case: all peers in turn, round after round.
pub(crate) fn measure(case: &Case, args: &Args) -> Result<Measured, Fault> {
    eprintln!("{}: {}", case.name, case.title);
    let folder = Folder::new()?;
    if case.kind.has_tls() {
        Certificates::make(&folder, args)?;
    }
    let server = Server::start(case.kind, case.cpus.1, &folder)?;
    let start = |nth: usize| {
        let (peer, server) = (case.peers[nth], server.address(nth));
        Proxy::start(peer, server, case.kind, case.cpus.0, &folder, args)
    };

    // Memory is read from a fresh process each round: an allocator does not give back what it has had.
    let fresh = matches!(case.work, Work::Idle);
    let mut standing = Vec::new();
    if !fresh {
        for nth in 0..case.peers.len() {
            standing.push(start(nth)?);
        }
    }
    let mut columns: Vec<Column> = case.peers.iter().map(|peer| Column::new(peer.name())).collect();
    for round in 0..=args.rounds() {
        for (at, column) in columns.iter_mut().enumerate() {
            let values = if fresh {
                work(case, &start(at)?, &folder, args)
            } else {
                work(case, &standing[at], &folder, args)
            }
            .map_err(|error| format!("{}, {}: {error}", case.name, case.peers[at].name()))?;
            let warm_up = round == 0;
            eprintln!(
                "  round {round}{} {:<14} {}",
                if warm_up { "*" } else { " " },
                column.peer,
                shown(case, &values)
            );
            if !warm_up {
                column.rounds.push(values);
            }
        }
    }
    Ok(Measured {
        name: case.name,
        title: case.title,
        base: case.base.name(),
        bars: case.metrics.iter().map(|metric| (metric.name, metric.digits, metric.bar)).collect(),
        columns,
    })
}

fn shown(case: &Case, values: &[Option<f64>]) -> String {
    let shown: Vec<String> = case
        .metrics
        .iter()
        .zip(values)
        .filter_map(|(metric, value)| {
            Some(format!("{:.*} {}", metric.digits, (*value)?, metric.name))
        })
        .collect();
    shown.join(" · ")
}

/// One round of one peer: a value per metric, nothing where it has none.
fn work(
    case: &Case,
    proxy: &Proxy,
    folder: &Folder,
    args: &Args,
) -> Result<Vec<Option<f64>>, Fault> {
    let cpu = || proxy.running.as_ref().map(|running| running.cpu());
    let certificates = Certificates::of(folder);
    let client = |version, resumes| Client::new(&certificates, version, resumes);
    let before = cpu();
    let spent = || Some(cpu()?.saturating_sub(before?).as_secs_f64());
    match case.work {
        Work::Redis(arguments, ops) => {
            let ops = args.work(ops);
            let authority = certificates.authority();
            let mut arguments = arguments.to_vec();
            if case.kind.has_tls() {
                arguments.extend(["--tls", "--cacert", &authority]);
            }
            let rate = redis_benchmark(proxy.address, &arguments, ops, case.cpus.1)?;
            let each = spent().map(|cpu| cpu * 1e6 / ops as f64);
            Ok(if case.name == "pipeline" {
                vec![Some(rate), each]
            } else {
                vec![each, Some(rate)]
            })
        }
        Work::RedisCrowd(ops) => {
            let (ops, clients) = (args.work(ops), args.connections().to_string());
            let rate =
                redis_benchmark(proxy.address, &["-c", &clients, "-t", "get"], ops, case.cpus.1)?;
            Ok(vec![spent().map(|cpu| cpu * 1e6 / ops as f64), Some(rate)])
        }
        Work::Bulk(seconds) => {
            let bulk = iperf(proxy.address, seconds.min(args.work(seconds) + 1), case.cpus.1)?;
            let per_gb = spent().map(|cpu| cpu * 1e3 / (bulk.bytes / 1e9));
            Ok(vec![per_gb, Some(bulk.bits_per_second / 1e9)])
        }
        Work::Idle => {
            let client = case.kind.has_tls().then(|| client(&version::TLS13, false)).transpose()?;
            idle(proxy, client.as_ref(), args)
        }
        Work::Handshakes(version, kind, count) => {
            let client = client(version, kind == HandshakeKind::Resumed)?;
            let count = args.work(count);
            let rate = client.handshakes(proxy.address, count, kind)?;
            Ok(vec![spent().map(|cpu| cpu * 1e6 / count as f64), Some(rate)])
        }
        Work::Download(bytes) => {
            let client = client(&version::TLS13, false)?;
            let (moved, rate) = client.download(proxy.address, args.work(bytes))?;
            Ok(vec![spent().map(|cpu| cpu * 1e3 / (moved / 1e9)), Some(rate * 8.0 / 1e9)])
        }
    }
}

fn idle(proxy: &Proxy, client: Option<&Client>, args: &Args) -> Result<Vec<Option<f64>>, Fault> {
    const REST: Duration = Duration::from_secs(1);
    const SETTLE: Duration = Duration::from_secs(5);
    // What is made once, by the first connections, does not belong to each of them.
    drop(Crowd::open(proxy.address, client, 50)?);
    std::thread::sleep(REST);
    let count = args.connections().min((descriptors().saturating_sub(200)) / 2);
    let private = || proxy.running.as_ref().map(|running| running.private_memory() as f64);
    let opened = || proxy.running.as_ref().map(|running| running.descriptors() as f64);
    let (user, files, kernel) = (private(), opened(), kernel_memory() as f64);
    let crowd = Crowd::open(proxy.address, client, count)?;
    std::thread::sleep(REST);
    let per = |after: f64, before: f64| (after - before) / crowd.len() as f64;
    let user = private().zip(user).map(|(after, before)| per(after, before) / 1000.0);
    let files = opened().zip(files).map(|(after, before)| per(after, before));
    let kernel = per(kernel_memory() as f64, kernel) / 1000.0;
    // Rest begins when a proxy has done what it does for new connections: ours sets keepalive on them
    // after five seconds.
    std::thread::sleep(SETTLE);
    let at_rest = proxy.running.as_ref().map(|running| {
        let (start, cpu) = (Instant::now(), running.cpu());
        std::thread::sleep(2 * REST);
        running.cpu().saturating_sub(cpu).as_secs_f64() * 1000.0 / start.elapsed().as_secs_f64()
    });
    Ok(vec![user, Some(kernel), files, at_rest, Some(crowd.len() as f64)])
}
