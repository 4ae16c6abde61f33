//! A node that never was: the values that the tests of this room show.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::orders::{Denied, Order};
use super::shapes::{
    Backend, Backends, Ban, Bans, CertificateStatus, ConfigStatus, GossipStatus, Limit, Limits,
    Member, Members, Opinion, OverlayAct, Rule, Rules, Status, TicketStatus,
};
use super::sources::{GossipMetrics, LeaseMetrics, Metrics, PhaseMetrics, RuleMetrics, Sources};

/// Shows whatever its fields hold.
#[derive(Default)]
pub(crate) struct Fake {
    pub(crate) status: Status,
    pub(crate) members: Members,
    pub(crate) rules: Rules,
    pub(crate) backends: Backends,
    pub(crate) limits: Limits,
    pub(crate) metrics: Metrics,
    pub(crate) not_ready: Vec<String>,
    pub(crate) left: AtomicU64,
    pub(crate) bans: Bans,
    pub(crate) ordered: Mutex<Vec<Order>>,
    /// Why orders are denied, if they are.
    pub(crate) denies: Option<Denied>,
}

impl Fake {
    /// A node of three, one of them failed, with a rule, two backends and a limit.
    pub(crate) fn busy() -> Self {
        Fake {
            status: Status {
                node: "n1".into(),
                version: "0.1.0".into(),
                uptime_s: 3_725.0,
                ready: true,
                not_ready: vec![],
                config: ConfigStatus {
                    ok: true,
                    digest: "ab12cd34ef56ab12cd34ef56".into(),
                    loaded_at: "2026-01-02T03:04:05Z".into(),
                    error: None,
                },
                connections: 7,
                workers: 2,
                pid: 4711,
                gossip: Some(GossipStatus {
                    address: "10.0.0.1:9090".into(),
                    authenticated: false,
                    advice: "keep it on a private network".into(),
                    alive: 2,
                    fault: None,
                    ..GossipStatus::default()
                }),
                bans: 2,
                overlay: vec![OverlayAct {
                    rule: "web".into(),
                    backend: "10.0.0.8:8081".into(),
                    act: "drain".into(),
                    weight: None,
                    by: "n2".into(),
                    since: "2026-01-02T03:04:05Z".into(),
                    idle: None,
                }],
                tickets: TicketStatus { secrets: 2, sealing_s: Some(3_720.0), shared: true },
                certificates_fault: None,
                certificates: vec![CertificateStatus {
                    kind: "certificate".into(),
                    file: "/etc/tidegate/server.crt".into(),
                    name: "example.com".into(),
                    serial: "0a01".into(),
                    expires: "2027-01-01T00:00:00.000Z".into(),
                    expires_s: 1_798_761_600.0,
                    trouble: Some("expires on 2027-01-01, in 9 days".into()),
                }],
            },
            members: Members {
                own: "n1".into(),
                members: vec![
                    member("n1", "10.0.0.1:9090", "alive", "ab12cd34ef56", 3_720.0),
                    member("n2", "10.0.0.2:9090", "alive", "0099887766", 95.0),
                    member("n3", "10.0.0.3:9090", "failed", "ab12cd34ef56", 2.0),
                ],
            },
            rules: Rules {
                rules: vec![Rule {
                    name: "web".into(),
                    listen: vec!["0.0.0.0:8080".into(), "[::]:8080".into()],
                    balance: "weighted_round_robin".into(),
                    active: 7,
                    connections: 1_200,
                    outcomes: BTreeMap::from([("done".into(), 1_180), ("limited".into(), 13)]),
                    bytes_up: 10 << 20,
                    bytes_down: 3 << 30,
                    backends_up: 1,
                    backends_total: 2,
                    panic: false,
                }],
            },
            backends: Backends {
                backends: vec![backend("10.0.0.7", "up", 7, 0), backend("10.0.0.8", "down", 0, 4)],
            },
            limits: Limits {
                limits: vec![Limit {
                    rule: "web".into(),
                    scope: "cluster".into(),
                    algorithm: "token_bucket".into(),
                    rate: 300.0,
                    burst: 600.0,
                    admitted: 1_100,
                    refused: 100,
                    keys: 12,
                    max_keys: 131_072,
                    untracked: 0,
                    spent_elsewhere: 2_200,
                    levels_told: 90,
                    level_error: 30,
                    unsynced: 12,
                    shadow: false,
                }],
            },
            metrics: Metrics {
                rules: vec![RuleMetrics {
                    rule: "web".into(),
                    phases: vec![PhaseMetrics {
                        phase: "connect",
                        bounds: &[0.000_1, 0.001, 0.01],
                        counts: vec![1, 2, 2, 1],
                        sum: 0.5,
                    }],
                    queued: 1,
                    tracked_clients: 3,
                }],
                reloads: (2, 1),
                config_loaded_at: 1.7e9,
                accept_pauses: vec![("emfile", 3)],
                access_log_dropped: 5,
                acts: vec![("ban", 2), ("drain", 1), ("backend", 0)],
                acts_refused: 0,
                gossip: Some(GossipMetrics {
                    sent: vec![("swim", 40, 4_000), ("counters", 12, 9_000)],
                    received: vec![("swim", 39, 3_900)],
                    dropped: vec![("version", 2)],
                    authenticated: false,
                    rows: 12,
                    owned_keys: 6,
                    owner_untracked: 0,
                    owner_failovers: 1,
                    reports: 400,
                    reports_resent: 2,
                    owner_rtt_s: 0.0008,
                    drifted: 1,
                    health_score: 0,
                    throttled: 0,
                    restarts: 0,
                    silent_s: 0.1,
                    duplicates: 0,
                    state_writes: (3, 1),
                    syncs: vec![(["caller", "done"], 2), (["called", "failed"], 1)],
                    asks: vec![("granted", 4), ("refused", 2)],
                    leases: LeaseMetrics {
                        held: 9,
                        used: 7,
                        claimed: 3,
                        booked: 5,
                        split: 2,
                        events: vec![("lent", 11)],
                        unasked: 1,
                    },
                    sealing_key: 0,
                    boots: 0,
                    clones: 0,
                }),
            },
            not_ready: vec![],
            left: AtomicU64::new(0),
            bans: Bans {
                bans: vec![
                    Ban {
                        client: "203.0.113.7".into(),
                        left_s: Some(590.0),
                        cut: true,
                        by: "n2".into(),
                        since: "2026-01-02T03:04:05Z".into(),
                    },
                    Ban {
                        client: "2001:db8::/32".into(),
                        left_s: None,
                        cut: false,
                        by: "n1".into(),
                        since: "2026-01-02T03:04:05Z".into(),
                    },
                ],
            },
            ordered: Mutex::default(),
            denies: None,
        }
    }
}

fn member(name: &str, address: &str, state: &str, digest: &str, since_s: f64) -> Member {
    Member {
        name: name.into(),
        address: address.into(),
        state: state.into(),
        own: name == "n1",
        config_digest: digest.into(),
        node_id: "00000000000000aa".into(),
        boot_id: "0000000000bb".into(),
        version: "0.1.0".into(),
        keys: vec![],
        since_s,
    }
}

fn backend(ip: &str, state: &str, active: u64, connect_failures: u64) -> Backend {
    Backend {
        rule: "web".into(),
        address: format!("{ip}:8081"),
        name: format!("{ip}:8081"),
        state: state.into(),
        weight: 1,
        backup: false,
        active,
        cluster_active: active * 3,
        connections: 600,
        connect_failures,
        last_check: if state == "up" { "connected".into() } else { "connection refused".into() },
        votes: BTreeMap::from([("n1".into(), state.into()), ("n2".into(), "up".into())]),
        opinions: BTreeMap::from([
            ("n1".into(), opinion(state, 125.0)),
            ("n2".into(), opinion("up", 61.0)),
        ]),
        checked_here: true,
    }
}

fn opinion(verdict: &str, since_s: f64) -> Opinion {
    Opinion { verdict: verdict.into(), since_s, streak: 9, latency_ms: Some(0.7), seq: 1 }
}

impl Sources for Fake {
    fn status(&self) -> Status {
        self.status.clone()
    }

    fn members(&self) -> Members {
        self.members.clone()
    }

    fn rules(&self) -> Rules {
        self.rules.clone()
    }

    fn backends(&self) -> Backends {
        self.backends.clone()
    }

    fn limits(&self) -> Limits {
        self.limits.clone()
    }

    fn bans(&self) -> Bans {
        self.bans.clone()
    }

    fn order(&self, order: Order) -> Result<String, Denied> {
        match &self.denies {
            Some(denied) => Err(denied.clone()),
            None => {
                self.ordered.lock().push(order);
                Ok("done".to_owned())
            }
        }
    }

    fn metrics(&self) -> Metrics {
        self.metrics.clone()
    }

    fn ready(&self) -> Result<(), Vec<String>> {
        if self.not_ready.is_empty() { Ok(()) } else { Err(self.not_ready.clone()) }
    }

    fn leave(&self) {
        self.left.fetch_add(1, Ordering::Relaxed);
    }
}
