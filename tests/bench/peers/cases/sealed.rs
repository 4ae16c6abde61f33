//! The cases with TLS: ended by the proxy, or passed through to a server that ends it.

use rustls::HandshakeKind;
use rustls::version::{TLS12, TLS13};

use super::{Case, Metric, Work, metric};
use crate::peers::Peer;
use crate::process::Cpus;
use crate::servers::Kind;

/// Against the rivals, one worker each.
fn ended(name: &'static str, title: &'static str, metrics: Vec<Metric>, work: Work) -> Case {
    Case {
        name,
        title,
        peers: vec![Peer::Tidegate, Peer::Haproxy, Peer::Nginx],
        base: Peer::Haproxy,
        metrics,
        work,
        kind: Kind::Ended,
        cpus: (Cpus::Proxy, Cpus::Others),
    }
}

/// Against a plain rule of ours, for which TLS is bytes as any other.
fn passed(name: &'static str, title: &'static str, metrics: Vec<Metric>, work: Work) -> Case {
    Case {
        peers: vec![Peer::Tidegate, Peer::TidegatePassthrough],
        base: Peer::Tidegate,
        kind: Kind::Passed,
        ..ended(name, title, metrics, work)
    }
}

pub(super) fn all() -> Vec<Case> {
    let bench = &["-c", "50", "-t", "get"];
    vec![
        ended(
            "tls-handshake",
            "full TLS 1.3 handshake, one request, end; ECDSA P-256, X25519",
            vec![
                metric("µs CPU per handshake", 0, "≤ 0.50 × haproxy"),
                metric("handshakes/s", 0, ""),
            ],
            Work::Handshakes(&TLS13, HandshakeKind::Full, 6000),
        ),
        ended(
            "tls-resume",
            "resumed TLS 1.2 handshake, one request, end",
            vec![
                metric("µs CPU per handshake", 0, "≤ 0.65 × haproxy"),
                metric("handshakes/s", 0, ""),
            ],
            Work::Handshakes(&TLS12, HandshakeKind::Resumed, 8000),
        ),
        ended(
            "tls-request",
            "request/response over TLS 1.3: redis-benchmark --tls -c 50 -t get",
            vec![metric("µs CPU per op", 2, ""), metric("op/s", 0, "")],
            Work::Redis(bench, 100_000),
        ),
        ended(
            "tls-bulk",
            "one download over TLS 1.3",
            vec![metric("ms CPU per GB", 0, "≤ 0.55 × haproxy"), metric("Gbit/s", 2, "")],
            Work::Download(2_000_000_000),
        ),
        ended(
            "tls-idle",
            "TLS 1.3 connections at rest (each was answered once)",
            super::at_rest("≤ 8 KB"),
            Work::Idle,
        ),
        passed(
            "tls-passthrough",
            "TLS passed through, against a plain rule: redis-benchmark --tls -c 50 -t get",
            vec![metric("µs CPU per op", 2, "1.00 ± 0.03 × plain"), metric("op/s", 0, "")],
            Work::Redis(bench, 100_000),
        ),
        passed(
            "tls-passthrough-bulk",
            "TLS passed through, against a plain rule: one download",
            vec![metric("ms CPU per GB", 1, "1.00 ± 0.03 × plain"), metric("Gbit/s", 2, "")],
            Work::Download(2_000_000_000),
        ),
    ]
}
