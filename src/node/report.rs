//! What admin shows, gathered from the rooms at the moment it is asked for.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Instant;

use super::acts::{Banned, written};
use super::boot::Node;
use super::overlay::Listed;
use crate::admin::orders::{Denied, Order};
use crate::admin::shapes;
use crate::admin::sources::{
    GossipMetrics, LeaseMetrics, Metrics, PhaseMetrics, RuleMetrics, Sources,
};
use crate::balance::Policy;
use crate::base::time;
use crate::cluster::Cluster;
use crate::cluster::acts;
use crate::health;
use crate::net::tls::Dated;
use crate::proxy::Rule;
use crate::traffic::{Algorithm, LimitScope};
use crate::upstream::{BackendState, BackendStatus};

/// How to mend unauthenticated gossip, as `status` says it.
const GOSSIP_ADVICE: &str = "anyone who reaches the gossip port can join; `tidegate keys generate --file \
     cluster.keys` makes the keys that seal it: copy the file to every node and name it in \
     `cluster.keys_file`";

/// A node as admin sees it. Weak: the admin listener must not keep its node alive.
pub(super) struct Report(pub(super) Weak<Node>);

impl Report {
    fn ask<T: Default>(&self, question: impl FnOnce(&Node) -> T) -> T {
        self.0.upgrade().map(|node| question(&node)).unwrap_or_default()
    }
}

impl Sources for Report {
    fn status(&self) -> shapes::Status {
        self.ask(status)
    }

    fn members(&self) -> shapes::Members {
        self.ask(members)
    }

    fn rules(&self) -> shapes::Rules {
        self.ask(|node| shapes::Rules {
            rules: node.snapshot.current().rules.iter().map(|rule| rule_shape(rule)).collect(),
        })
    }

    fn backends(&self) -> shapes::Backends {
        self.ask(|node| {
            let snapshot = node.snapshot.current();
            let of_rule = |rule: &Arc<Rule>| {
                let name = rule.plan.name.to_string();
                let backends = rule.pool.snapshot().backends.into_iter();
                backends.map(move |backend| backend_shape(node, &name, backend)).collect::<Vec<_>>()
            };
            shapes::Backends { backends: snapshot.rules.iter().flat_map(of_rule).collect() }
        })
    }

    fn limits(&self) -> shapes::Limits {
        self.ask(|node| shapes::Limits {
            limits: node
                .snapshot
                .current()
                .rules
                .iter()
                .filter_map(|rule| limit_shape(rule))
                .collect(),
        })
    }

    fn bans(&self) -> shapes::Bans {
        self.ask(|node| shapes::Bans { bans: node.bans().into_iter().map(ban_shape).collect() })
    }

    fn order(&self, order: Order) -> Result<String, Denied> {
        match self.0.upgrade() {
            Some(node) => node.order(order),
            None => Err(Denied::Conflict("this node has stopped".to_owned())),
        }
    }

    fn metrics(&self) -> Metrics {
        self.ask(metrics)
    }

    fn ready(&self) -> Result<(), Vec<String>> {
        match self.0.upgrade() {
            Some(node) => node.ready(),
            None => Err(vec!["stopped".to_owned()]),
        }
    }

    fn leave(&self) {
        self.ask(|node| node.asked_to_leave.notify_one());
    }
}

fn status(node: &Node) -> shapes::Status {
    let ready = node.ready();
    shapes::Status {
        node: node.name.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_s: (time::now() - node.started).as_secs_f64(),
        ready: ready.is_ok(),
        not_ready: ready.err().unwrap_or_default(),
        config: node.journal.status(),
        certificates_fault: node.certificates_fault.lock().clone(),
        certificates: certificates(node),
        connections: node.workers.live(),
        bans: node.ban_count(),
        overlay: node.overlay().into_iter().map(overlay_shape).collect(),
        workers: node.first.workers,
        pid: std::process::id(),
        tickets: tickets(node),
        gossip: node.cluster.as_ref().map(|cluster| gossip(node, cluster)),
    }
}

fn certificates(node: &Node) -> Vec<shapes::CertificateStatus> {
    let shape = |dated: Dated| shapes::CertificateStatus {
        kind: dated.kind.label().to_owned(),
        expires: time::rfc3339(dated.until_ms),
        expires_s: dated.until_ms as f64 / 1000.0,
        trouble: dated.trouble(time::unix_ms()),
        file: dated.file.display().to_string(),
        name: dated.name,
        serial: dated.serial,
    };
    node.plan().dated().into_iter().map(shape).collect()
}

fn tickets(node: &Node) -> shapes::TicketStatus {
    let set = node.rooms.tickets.current();
    let sealing = |_| time::unix_ms().saturating_sub(set.since_ms) as f64 / 1000.0;
    shapes::TicketStatus {
        secrets: set.secrets.len(),
        sealing_s: set.sealing.map(sealing),
        shared: set.shared,
    }
}

fn gossip(node: &Node, cluster: &Cluster) -> shapes::GossipStatus {
    let figures = cluster.figures();
    let until = node.first.cluster.as_ref().and_then(|plan| plan.plaintext_until);
    let until = until.filter(|until| *until > time::unix_ms()).map(time::rfc3339);
    let advice = match (figures.keys.first(), &until) {
        (None, _) => GOSSIP_ADVICE.to_owned(),
        (Some(_), Some(until)) => format!(
            "nodes without keys are heard until {until}, and so is anyone else; take \
             `cluster.accept_plaintext_until` out and restart when all nodes have keys"
        ),
        (Some(first), None) => format!("key {first} seals"),
    };
    shapes::GossipStatus {
        address: cluster.address().to_string(),
        authenticated: figures.authenticated,
        advice,
        alive: figures.alive as usize,
        fault: cluster.fault(),
        state: state_dir(node).map(|dir| shapes::StateStatus { dir, error: cluster.state_fault() }),
        keys: figures.keys,
        plaintext_until: until,
        cloned: cluster.cloned(),
        keys_fault: node.keys_fault.lock().clone(),
    }
}

/// What runs is what was started with.
fn state_dir(node: &Node) -> Option<String> {
    let dir = node.first.cluster.as_ref()?.state_dir.as_ref()?;
    Some(dir.display().to_string())
}

fn ban_shape(ban: Banned) -> shapes::Ban {
    let left = |ends: Instant| ends.saturating_duration_since(time::now()).as_secs_f64();
    shapes::Ban {
        client: written(ban.client),
        left_s: ban.ends.map(left),
        cut: ban.cut,
        by: ban.by,
        since: time::rfc3339(ban.since_ms),
    }
}

fn overlay_shape(listed: Listed) -> shapes::OverlayAct {
    let (act, weight) = match listed.order {
        acts::Order::Drain { .. } => ("drain", None),
        acts::Order::Add { weight } => ("add", Some(weight)),
        acts::Order::Weight { weight, .. } => ("weight", Some(weight)),
        acts::Order::Remove { .. } | acts::Order::Lifted | acts::Order::Ban { .. } => {
            ("remove", None)
        }
    };
    shapes::OverlayAct {
        rule: listed.place.rule.to_string(),
        backend: listed.place.backend.to_string(),
        act: act.to_owned(),
        weight,
        by: listed.by,
        since: time::rfc3339(listed.since_ms),
        idle: listed.idle.map(str::to_owned),
    }
}

fn members(node: &Node) -> shapes::Members {
    let own = node.name.to_string();
    let Some(cluster) = &node.cluster else { return shapes::Members { own, members: Vec::new() } };
    let now = time::now();
    let members = cluster.members();
    let shape = |member: &crate::cluster::MemberView| shapes::Member {
        name: member.name.to_string(),
        address: member.address.to_string(),
        state: member.state.label().to_owned(),
        own: member.own,
        config_digest: if member.own {
            node.plan().digest.clone()
        } else {
            member.config_digest.clone()
        },
        node_id: member.node_id.to_string(),
        boot_id: member.boot_id.to_string(),
        version: member.version.clone(),
        keys: member.keys.clone(),
        since_s: now.saturating_duration_since(member.since).as_secs_f64(),
    };
    shapes::Members { own, members: members.iter().map(shape).collect() }
}

fn rule_shape(rule: &Rule) -> shapes::Rule {
    let pool = rule.pool.snapshot();
    let figures = rule.stats.figures();
    shapes::Rule {
        name: rule.plan.name.to_string(),
        listen: rule.plan.listen.iter().map(ToString::to_string).collect(),
        balance: policy_word(rule.plan.pool.policy).to_owned(),
        active: figures.active,
        connections: figures.connections,
        outcomes: figures.outcomes.iter().map(|(label, n)| ((*label).to_owned(), *n)).collect(),
        bytes_up: figures.bytes_up,
        bytes_down: figures.bytes_down,
        backends_up: pool.usable,
        backends_total: pool.total,
        panic: pool.panic,
    }
}

/// As the configuration writes it.
fn policy_word(policy: Policy) -> &'static str {
    match policy {
        Policy::WeightedRoundRobin => "weighted_round_robin",
        Policy::LeastConnections => "least_connections",
        Policy::PowerOfTwo => "power_of_two",
        Policy::ConsistentHash => "consistent_hash",
        Policy::Random => "random",
    }
}

fn backend_shape(node: &Node, rule: &str, backend: BackendStatus) -> shapes::Backend {
    let now = time::now();
    let mut opinions: BTreeMap<String, shapes::Opinion> = backend
        .votes
        .iter()
        .map(|vote| (vote.observer.to_string(), opinion_shape(&vote.report, now)))
        .collect();
    let checkers: Vec<&str> = opinions.keys().map(String::as_str).collect();
    let last_check = match backend.checked_here || checkers.is_empty() {
        true => backend.last_check,
        false => format!("by {}", checkers.join(", ")),
    };
    if let Some(own) = backend.own {
        opinions.insert(node.name.to_string(), opinion_shape(&own, now));
    }
    let verdicts = opinions.iter().map(|(name, opinion)| (name.clone(), opinion.verdict.clone()));
    let votes = verdicts.collect();
    let name = backend.name.to_string();
    shapes::Backend {
        rule: rule.to_owned(),
        address: backend.address.map_or_else(|| name.clone(), |address| address.to_string()),
        name,
        state: state_word(backend.state).to_owned(),
        weight: backend.weight,
        backup: backend.backup,
        active: backend.active.into(),
        cluster_active: u64::from(backend.active) + u64::from(backend.elsewhere),
        connections: backend.connections,
        connect_failures: backend.connect_failures,
        last_check,
        votes,
        opinions,
        checked_here: backend.checked_here,
    }
}

fn opinion_shape(report: &health::Report, now: std::time::Instant) -> shapes::Opinion {
    shapes::Opinion {
        verdict: report.verdict.label().to_owned(),
        since_s: now.saturating_duration_since(report.since).as_secs_f64(),
        streak: report.streak,
        latency_ms: report.latency.map(|latency| latency.as_secs_f64() * 1000.0),
        seq: report.seq,
    }
}

/// The four words of the API. Who has no result yet is not known to be up.
fn state_word(state: BackendState) -> &'static str {
    match state {
        BackendState::Unchecked => BackendState::Down.label(),
        known => known.label(),
    }
}

fn limit_shape(rule: &Rule) -> Option<shapes::Limit> {
    let limiter = rule.limiter.as_ref()?;
    let (plan, counts) = (limiter.plan(), limiter.counts());
    let (algorithm, rate, burst) = match plan.algorithm {
        Algorithm::TokenBucket(quota) => ("token_bucket", quota.rate, quota.burst),
        Algorithm::FixedWindow { limit, window } => {
            let limit = f64::from(limit.get());
            ("fixed_window", limit / window.as_secs_f64(), limit)
        }
    };
    let scope = match plan.scope {
        LimitScope::Cluster => "cluster",
        LimitScope::Node => "node",
    };
    Some(shapes::Limit {
        rule: rule.plan.name.to_string(),
        scope: scope.to_owned(),
        algorithm: algorithm.to_owned(),
        rate,
        burst,
        admitted: counts.admitted,
        refused: counts.refused,
        keys: counts.keys,
        max_keys: plan.max_keys.into(),
        untracked: counts.untracked,
        spent_elsewhere: counts.spent_elsewhere,
        levels_told: counts.told,
        level_error: counts.level_error,
        unsynced: counts.unsynced,
        shadow: plan.shadow,
    })
}

fn metrics(node: &Node) -> Metrics {
    let snapshot = node.snapshot.current();
    Metrics {
        rules: snapshot.rules.iter().map(|rule| rule_metrics(rule)).collect(),
        reloads: node.journal.reloads(),
        config_loaded_at: node.journal.loaded_at(),
        accept_pauses: node.workers.accept_pauses(),
        acts: node.act_counts(),
        acts_refused: node.acts.look(|store| store.refused()),
        access_log_dropped: snapshot.access_log.as_ref().map_or(0, |log| log.dropped()),
        gossip: node.cluster.as_ref().map(|cluster| {
            let figures = cluster.figures();
            let (held, used) = node.rooms.holdings.sums();
            let (asks, leases) = (figures.asks, figures.leases);
            GossipMetrics {
                asks: vec![
                    ("granted", asks.granted),
                    ("refused", asks.refused),
                    ("unanswered", asks.unanswered),
                    ("crowded", figures.asks_crowded),
                    ("stuck", figures.asks_stuck),
                ],
                leases: LeaseMetrics {
                    held,
                    used,
                    claimed: leases.claimed,
                    booked: leases.booked,
                    split: leases.split,
                    events: vec![
                        ("lent", leases.lent),
                        ("recalled", leases.recalled),
                        ("full", leases.full),
                        ("crowded", leases.crowded),
                    ],
                    unasked: node.rooms.holdings.unasked(),
                },
                sent: figures.sent,
                received: figures.received,
                dropped: figures.dropped,
                authenticated: figures.authenticated,
                rows: figures.rows,
                owned_keys: figures.owned_keys,
                owner_untracked: figures.owner_untracked,
                owner_failovers: figures.owner_failovers,
                reports: figures.reports,
                reports_resent: figures.reports_resent,
                owner_rtt_s: figures.owner_rtt.as_secs_f64(),
                drifted: figures.drifted,
                health_score: figures.health_score,
                throttled: figures.throttled,
                restarts: figures.restarts,
                silent_s: figures.silent_ms as f64 / 1000.0,
                duplicates: figures.duplicates,
                state_writes: figures.state_writes,
                syncs: figures.syncs.labelled(),
                sealing_key: figures.keys.first().copied().unwrap_or(0),
                boots: figures.boots,
                clones: figures.clones,
            }
        }),
    }
}

fn rule_metrics(rule: &Rule) -> RuleMetrics {
    let phases = rule.stats.figures().phases.into_iter().map(|phase| PhaseMetrics {
        phase: phase.phase,
        bounds: phase.bounds,
        counts: phase.counts,
        sum: phase.sum,
    });
    RuleMetrics {
        rule: rule.plan.name.to_string(),
        phases: phases.collect(),
        queued: rule.pool.snapshot().queued.into(),
        tracked_clients: rule.client_pacers.as_ref().map_or(0, |pacers| pacers.clients() as u64),
    }
}
