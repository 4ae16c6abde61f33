//! Rules: names, backends, checks.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU32;
use std::sync::Arc;

use ipnet::IpNet;

use super::{Findings, authorization, limits, originate, tls};
use crate::balance::Policy;
use crate::base::RuleName;
use crate::config::fault::quote;
use crate::config::file::{
    self, BackendTls, Balance, CheckType, Items, LimitKey, Mode, SendProxy, values,
};
use crate::health::{CheckKind, CheckPlan, OutlierPlan};
use crate::net::tls::{OriginatePlan, TlsRoute};
use crate::net::{HeaderVersion, TcpOptions};
use crate::proxy::RulePlan;
use crate::traffic::AccessPlan;
use crate::upstream::{BackendPlan, PoolPlan, QueuePlan};

/// Each rule with its index in the file.
pub(super) fn plans(
    rules: &Items<file::Rule>,
    clustered: bool,
    tcp: TcpOptions,
    trusted: &[IpNet],
    found: &mut Findings<'_>,
) -> Vec<(usize, RulePlan)> {
    let mut named: HashMap<RuleName, usize> = HashMap::new();
    let mut plans = Vec::with_capacity(rules.len());
    let unnamed = |i: usize| rules[i].as_ref().is_some_and(|rule| rule.name.is_none());
    for (i, rule) in rules.iter().enumerate() {
        let Some(rule) = rule else { continue };
        let at = format!("rules[{i}]");
        let name = name(rule, i);
        match named.get(&name) {
            // Listening twice on one address is told by the listeners.
            Some(first) if rule.name.is_none() && unnamed(*first) => {}
            Some(first) => {
                let what = format!("{} is already the name of rules[{first}]", quote(&name.0));
                found.fault(&format!("{at}.name"), what, "give each rule a name of its own");
            }
            None => {
                named.insert(name.clone(), i);
            }
        }
        if clustered
            && rule.name.is_none()
            && (rule.rate_limit.is_some() || shares(rule))
            && rule.listen.iter().flatten().any(|listen| !listen.0.ip().is_unspecified())
        {
            let what = "the rule has a limit and no name: nodes know a limit by its rule's name, \
                        which is taken from the address";
            found.warn(&at, what, "give the rule the same `name:` on every node");
        }
        plans.push((i, plan(rule, name, &at, clustered, tcp, trusted, found)));
    }
    plans
}

/// Whether a cap or a rate is counted over the cluster.
fn shares(rule: &file::Rule) -> bool {
    let backends = rule.backend_connection_limit.as_ref().and_then(|limit| limit.scope);
    let bandwidth = rule.bandwidth_limit.as_ref().and_then(|limit| limit.scope);
    [rule.connection_limit.scope, backends, bandwidth].contains(&Some(file::Scope::Cluster))
}

/// As written, or the first listener.
fn name(rule: &file::Rule, i: usize) -> RuleName {
    let name = rule.name.clone();
    let name =
        name.or_else(|| rule.listen.iter().flatten().next().map(|listen| listen.0.to_string()));
    RuleName::from(name.unwrap_or_else(|| format!("rule-{i}")).as_str())
}

fn plan(
    rule: &file::Rule,
    name: RuleName,
    at: &str,
    clustered: bool,
    tcp: TcpOptions,
    trusted: &[IpNet],
    found: &mut Findings<'_>,
) -> RulePlan {
    // Only TCP in this version: the schema refuses the rest.
    let file::Protocol::Tcp = rule.protocol;
    let shared_bandwidth = limits::shared(
        rule.bandwidth_limit.as_ref().and_then(|limit| limit.scope),
        &name,
        &format!("{at}.bandwidth_limit"),
        clustered,
        found,
    );
    let bandwidth = limits::bandwidth(rule.bandwidth_limit.as_ref(), shared_bandwidth);
    let tls = rule.tls.as_ref().map(|tls| tls::plan(tls, &format!("{at}.tls"), found));
    let originate = to_backends(rule, at, found);
    let mut backends = backends(rule, originate.as_ref(), at, found);
    add_routed(tls.iter().flat_map(|tls| &tls.routes), originate.as_ref(), &mut backends);
    let queue = QueuePlan { size: rule.backend_queue.size, timeout: rule.backend_queue.timeout.0 };
    let connection_limit = rule.backend_connection_limit.as_ref().and_then(|limit| limit.limit);
    let pool = PoolPlan {
        rule: name.clone(),
        backends,
        policy: match rule.balance {
            Balance::WeightedRoundRobin => Policy::WeightedRoundRobin,
            Balance::LeastConnections => Policy::LeastConnections,
            Balance::PowerOfTwo => Policy::PowerOfTwo,
            Balance::ConsistentHash => Policy::ConsistentHash,
            Balance::Random => Policy::Random,
        },
        check: check(&rule.health_check, &format!("{at}.health_check"), found),
        outlier: OutlierPlan {
            failures: rule.outlier.failures,
            eject_for: rule.outlier.eject_for.0,
            max_ejected: rule.outlier.max_ejected.0,
        },
        panic_threshold: rule.panic_threshold.0,
        slow_start: rule.slow_start.0,
        connect_timeout: rule.connect_timeout.0,
        connect_attempts: rule.connect_attempts,
        connection_limit: connection_limit.and_then(NonZeroU32::new),
        shared_caps: limits::shared(
            rule.backend_connection_limit.as_ref().and_then(|limit| limit.scope),
            &name,
            &format!("{at}.backend_connection_limit"),
            clustered,
            found,
        ),
        queue,
        bandwidth: bandwidth.backend,
        shared_bandwidth,
        tls: originate,
        send_proxy: match rule.proxy_protocol.send {
            SendProxy::None => None,
            SendProxy::V1 => Some(HeaderVersion::V1),
            SendProxy::V2 => Some(HeaderVersion::V2),
        },
        tcp,
    };
    let capped = pool.connection_limit.is_some()
        || pool.backends.iter().any(|backend| backend.max_connections.is_some());
    if queue.size > 0 && !capped {
        let what = "nobody will ever wait: no backend has a limit of connections";
        let remedy = "add `backend_connection_limit` or `max_connections`";
        found.warn(&format!("{at}.backend_queue"), what, remedy);
    }
    let shared_caps = limits::shared(
        rule.connection_limit.scope,
        &name,
        &format!("{at}.connection_limit"),
        clustered,
        found,
    );
    let limit_at = format!("{at}.rate_limit");
    if rule.rate_limit.as_ref().is_some_and(|limit| limit.key == LimitKey::Identity) {
        authorization::must_identify(rule, &format!("{limit_at}.key"), found);
    }
    let authorization = rule.authorization.as_ref().map(|authorization| {
        let here = format!("{at}.authorization");
        authorization::must_identify(rule, &here, found);
        authorization::watch_strangers(rule, at, found);
        let routes = tls.as_ref().map_or(&[][..], |tls| &tls.routes);
        authorization::plan(authorization, &pool.backends, routes, &here, found)
    });
    RulePlan {
        rate_limit: rule
            .rate_limit
            .as_ref()
            .and_then(|limit| limits::rate(limit, &name, &limit_at, clustered, found)),
        name,
        listen: values(&rule.listen),
        pool,
        idle_timeout: rule.idle_timeout.0,
        caps: limits::caps(&rule.connection_limit, shared_caps),
        bandwidth,
        access: AccessPlan { allow: values(&rule.access.allow), deny: values(&rule.access.deny) },
        proxy_from: proxy_from(rule, trusted, at, found),
        tls,
        authorization,
    }
}

/// Whose PROXY headers are read.
fn proxy_from(
    rule: &file::Rule,
    trusted: &[IpNet],
    at: &str,
    found: &mut Findings<'_>,
) -> Option<Vec<IpNet>> {
    if !rule.proxy_protocol.accept {
        return None;
    }
    // Where all that is written was refused, that has been said.
    if trusted.is_empty() && !found.places.has("trusted_proxies[0]") {
        let what = "nobody's header is believed, so nobody could connect";
        let remedy = "list the proxies in front in `trusted_proxies:`";
        found.fault(&format!("{at}.proxy_protocol.accept"), what, remedy);
    }
    Some(trusted.to_vec())
}

/// TLS towards the backends, as the rule has it.
fn to_backends(
    rule: &file::Rule,
    at: &str,
    found: &mut Findings<'_>,
) -> Option<Arc<OriginatePlan>> {
    let here = format!("{at}.backend_tls");
    let plan = originate::plan(rule.backend_tls.as_ref()?, &here, found);
    if rule.tls.as_ref().is_some_and(|tls| tls.mode == Mode::Passthrough) {
        let what = "backends get TLS within TLS: `mode: passthrough` leaves the client's as it is";
        found.warn(&here, what, "take it out, or write `mode: terminate`");
    }
    plan
}

/// Backends that only routes name.
fn add_routed<'a>(
    routes: impl Iterator<Item = &'a TlsRoute>,
    tls: Option<&Arc<OriginatePlan>>,
    plans: &mut Vec<BackendPlan>,
) {
    let mut known: HashSet<_> = plans.iter().map(|plan| plan.address.clone()).collect();
    for backend in routes.flat_map(|route| &route.backends) {
        if known.insert(backend.clone()) {
            let new = BackendPlan::new(backend.clone());
            plans.push(BackendPlan { tls: tls.cloned(), routed: true, ..new });
        }
    }
}

fn backends(
    rule: &file::Rule,
    tls: Option<&Arc<OriginatePlan>>,
    at: &str,
    found: &mut Findings<'_>,
) -> Vec<BackendPlan> {
    let list = format!("{at}.backends");
    let Some(backends) = &rule.backends else { return Vec::new() };
    if backends.is_empty() && rule.tls.as_ref().is_none_or(|tls| tls.routes.is_empty()) {
        found.fault(&list, "the list is empty", "write at least one");
    }
    let mut first: HashMap<_, usize> = HashMap::new();
    let mut plans = Vec::with_capacity(backends.len());
    for (i, backend) in backends.iter().enumerate() {
        let Some((backend, address)) =
            backend.as_ref().and_then(|backend| Some((backend, &backend.address.as_ref()?.0)))
        else {
            continue;
        };
        let here = format!("{list}[{i}]");
        if let Some(first) = first.insert(address.clone(), i) {
            let what = format!("{address} is already backends[{first}]");
            found.fault(
                &format!("{here}.address"),
                what,
                "keep one, with a `weight` for its share",
            );
        }
        let tls = to_backend(backend, rule.backend_tls.is_some(), tls, &here, found);
        if let Some(tls) = &tls {
            originate::try_out(tls, address, &here, found);
        }
        plans.push(BackendPlan {
            address: address.clone(),
            weight: backend.weight,
            backup: backend.backup,
            max_connections: backend.max_connections.and_then(NonZeroU32::new),
            tls,
            routed: false,
        });
    }
    if !plans.is_empty() && plans.iter().all(|backend| backend.weight == 0) {
        found.warn(&list, "every weight is 0: no backend takes any traffic", "give one a weight");
    }
    plans
}

/// TLS towards one backend: its own, or the rule's, by its own name.
fn to_backend(
    backend: &file::Backend,
    rule_has: bool,
    rules: Option<&Arc<OriginatePlan>>,
    here: &str,
    found: &mut Findings<'_>,
) -> Option<Arc<OriginatePlan>> {
    let (has, plan) = match &backend.tls {
        Some(BackendTls { enabled: false, .. }) => (false, None),
        Some(own) => (true, originate::plan(own, &format!("{here}.tls"), found)),
        None => (rule_has, rules.cloned()),
    };
    let Some(name) = &backend.server_name else { return plan };
    let field = format!("{here}.server_name");
    if !has {
        let what = "has no use: this backend is not reached by TLS";
        found.warn(&field, what, "add `backend_tls:` to the rule, or take it out");
    }
    if backend.tls.as_ref().is_some_and(|tls| tls.server_name.is_some()) {
        let what = "`tls.server_name` of this backend says it already";
        found.fault(&field, what, "keep one of them");
    }
    let server_name = Some(name.0.clone());
    plan.map(|plan| Arc::new(OriginatePlan { server_name, ..(*plan).clone() }))
}

fn check(check: &file::HealthCheck, at: &str, found: &mut Findings<'_>) -> CheckPlan {
    if check.kind != CheckType::Http {
        for (key, written) in [
            ("path", check.path.is_some()),
            ("host", check.host.is_some()),
            ("expect_status", check.expect_status.is_some()),
            ("expect_body", check.expect_body.is_some()),
        ] {
            if written {
                let what = "is only looked at by an HTTP check";
                found.warn(&format!("{at}.{key}"), what, "write `type: http`, or take it out");
            }
        }
    }
    let kind = match check.kind {
        CheckType::None => None,
        CheckType::Tcp => Some(CheckKind::Tcp),
        CheckType::Http => Some(CheckKind::Http {
            path: check.path.clone().unwrap_or_else(|| "/".to_owned()),
            host: check.host.clone(),
            expect_status: match &check.expect_status {
                Some(ranges) => {
                    ranges.iter().flatten().flat_map(|range| range.0.0.clone()).collect()
                }
                None => vec![(200, 399)],
            },
            expect_body: check.expect_body.clone(),
        }),
    };
    CheckPlan {
        kind,
        interval: check.interval.0,
        timeout: check.timeout.0,
        rise: check.rise,
        fall: check.fall,
        port: check.port,
    }
}
