//! From a plan and the previous snapshot to the next one. What did not change is carried over with
//! its state.

use std::io;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};

use crate::balance::Tally;
use crate::base::{RuleName, time};
use crate::config::Plan;
use crate::health::{Peers, Verdicts};
use crate::net::tls::TicketKeys;
use crate::net::tls::{SetupError, TerminatePlan, TlsMode, TlsPlan};
use crate::net::{Resolver, fetch_soon};
use crate::proxy::{AccessLog, AccessLogPlan, Rule, RulePlan, RuleTls, Snapshot};
use crate::traffic::{
    Access, Authorization, BandwidthPlan, Caps, CapsPlan, ClientPacers, Holdings, IPV6_PREFIX,
    Limiter, Limits, Origin, SharedPace,
};
use crate::upstream::{Pool, PoolWindows};

/// What the rules of one node are built from; lives as long as the node.
pub(super) struct Rooms {
    pub(super) resolver: Resolver,
    pub(super) verdicts: Arc<Verdicts>,
    pub(super) peers: Arc<dyn Peers>,
    pub(super) tally: Arc<Tally>,
    pub(super) limits: Arc<Limits>,
    pub(super) holdings: Arc<Holdings>,
    pub(super) pace: Arc<SharedPace>,
    /// The secrets of session tickets.
    pub(super) tickets: Arc<TicketKeys>,
    /// The same on every node of the cluster, so that keys hash alike.
    pub(super) salt: u64,
    /// This node's alone, so that nobody outside can aim at a slot of its tables.
    pub(super) secret: u64,
}

/// The snapshot that `plan` asks for. New pools begin their checks; the old ones go on until
/// [`close_replaced`], so that nothing has to be undone when the new snapshot is not published.
///
/// # Errors
/// The access log cannot be opened.
pub(super) fn snapshot(
    plan: &Plan,
    previous: &Snapshot,
    rooms: &Rooms,
) -> Result<Snapshot, BuildError> {
    // Before the pools, whose checks would begin.
    let tls = plan.rules.iter().map(|rule| rule_tls(rule, previous, rooms));
    let tls = tls.collect::<Result<Vec<_>, _>>()?;
    let access_log =
        access_log(plan.access_log.as_ref(), previous).map_err(BuildError::AccessLog)?;
    let rules = plan.rules.iter().zip(tls);
    let rules = rules.map(|(rule, tls)| build_rule(rule, tls, previous, rooms)).collect();
    Ok(Snapshot::new(rules, plan.tcp, access_log))
}

/// Why a plan cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The access log.
    #[error("cannot open the access log: {0}")]
    AccessLog(io::Error),
    /// A rule's TLS.
    #[error("rule {rule}: {error}")]
    Tls {
        /// Which.
        rule: RuleName,
        /// Why.
        error: SetupError,
    },
}

fn rule_tls(
    plan: &RulePlan,
    previous: &Snapshot,
    rooms: &Rooms,
) -> Result<Option<Arc<RuleTls>>, BuildError> {
    let Some(tls) = &plan.tls else { return Ok(None) };
    let old = previous.rule(&plan.name);
    let same =
        |old: &&Arc<Rule>| old.plan.tls == plan.tls && old.plan.authorization == plan.authorization;
    if let Some(old) = old.filter(same) {
        return Ok(old.tls.clone());
    }
    let tickets = rooms.tickets.ticketer(&ticket_context(plan, tls));
    let made = RuleTls::new(tls, tickets);
    let made = made.map_err(|error| BuildError::Tls { rule: plan.name.clone(), error })?;
    Ok(Some(Arc::new(made)))
}

/// Whatever decides whether a session may be resumed: tickets of one context are nothing in another.
fn ticket_context(plan: &RulePlan, tls: &TlsPlan) -> Vec<u8> {
    let mut context = format!("{}\n{:?}\n", plan.name, plan.authorization).into_bytes();
    if let TlsMode::Terminate(TerminatePlan { clients: Some(clients), .. }) = &tls.mode {
        context.extend_from_slice(format!("clients {}\n", clients.required).as_bytes());
        for certificate in clients.ca.der().chain(clients.crl.iter().flat_map(|crl| crl.der())) {
            context.extend_from_slice(digest(&SHA256, certificate).as_ref());
        }
    }
    digest(&SHA256, &context).as_ref().to_vec()
}

fn build_rule(
    plan: &RulePlan,
    tls: Option<Arc<RuleTls>>,
    previous: &Snapshot,
    rooms: &Rooms,
) -> Arc<Rule> {
    let old = previous.rule(&plan.name);
    if let Some(old) = old.filter(|old| old.plan == *plan) {
        return Arc::clone(old);
    }
    // Each part is asked for by its own piece of the plan: where that is as before, so is the part.
    let same = |part: fn(&RulePlan, &RulePlan) -> bool| old.filter(|old| part(&old.plan, plan));
    let prefix = ipv6_prefix(plan);
    Arc::new(Rule {
        pool: match same(|old, new| old.pool == new.pool) {
            Some(old) => Arc::clone(&old.pool),
            None => start_pool(plan, old.map(|old| &*old.pool), rooms),
        },
        access: Access::new(&plan.access),
        caps: match same(|old, new| old.caps == new.caps && same_clients(old, new)) {
            Some(old) => old.caps.clone(),
            None => caps(plan.caps, prefix, old.and_then(|old| old.caps.as_deref()), rooms),
        },
        limiter: match same(|old, new| old.rate_limit == new.rate_limit) {
            Some(old) => old.limiter.clone(),
            None => plan
                .rate_limit
                .clone()
                .map(|limit| Limiter::new(limit, rooms.salt, rooms.secret, origin()))
                .map(|limiter| Arc::new(limiter.fetching(fetch_soon))),
        },
        client_pacers: match same(|old, new| {
            old.bandwidth.client == new.bandwidth.client
                && old.bandwidth.shared == new.bandwidth.shared
                && same_clients(old, new)
        }) {
            Some(old) => old.client_pacers.clone(),
            None => client_pacers(plan.bandwidth, prefix, rooms),
        },
        tls,
        authorization: plan.authorization.as_ref().map(|plan| Arc::new(Authorization::new(plan))),
        stats: old.map(|old| Arc::clone(&old.stats)).unwrap_or_default(),
        plan: plan.clone(),
    })
}

/// Now, by both clocks.
fn origin() -> Origin {
    Origin { at: time::now(), unix_ms: time::unix_ms() }
}

fn ipv6_prefix(plan: &RulePlan) -> u8 {
    plan.rate_limit.as_ref().map_or(IPV6_PREFIX, |limit| limit.ipv6_prefix)
}

/// Whether both take the same connections for one client's.
fn same_clients(old: &RulePlan, new: &RulePlan) -> bool {
    ipv6_prefix(old) == ipv6_prefix(new)
}

fn start_pool(plan: &RulePlan, previous: Option<&Pool>, rooms: &Rooms) -> Arc<Pool> {
    let windows = PoolWindows {
        resolver: rooms.resolver.clone(),
        verdicts: Arc::clone(&rooms.verdicts),
        peers: Arc::clone(&rooms.peers),
        holdings: Arc::clone(&rooms.holdings),
        pace: Arc::clone(&rooms.pace),
        tally: Arc::clone(&rooms.tally),
    };
    Pool::start(plan.pool.clone(), windows, previous, rand::random())
}

fn caps(
    plan: CapsPlan,
    ipv6_prefix: u8,
    previous: Option<&Caps>,
    rooms: &Rooms,
) -> Option<Arc<Caps>> {
    (plan.per_client.is_some() || plan.total.is_some()).then(|| {
        let caps = match previous {
            Some(previous) => previous.succeed(plan, ipv6_prefix),
            None => Caps::new(plan, ipv6_prefix),
        };
        Arc::new(caps.over(&rooms.holdings, rooms.salt))
    })
}

fn client_pacers(plan: BandwidthPlan, ipv6_prefix: u8, rooms: &Rooms) -> Option<Arc<ClientPacers>> {
    let rates = plan.client;
    (rates.upload.is_some() || rates.download.is_some()).then(|| {
        let pacers = ClientPacers::new(rates, ipv6_prefix);
        Arc::new(match plan.shared {
            Some(rule) => pacers.over(&rooms.pace, rule, rooms.salt),
            None => pacers,
        })
    })
}

fn access_log(
    plan: Option<&AccessLogPlan>,
    previous: &Snapshot,
) -> io::Result<Option<Arc<AccessLog>>> {
    match (plan, &previous.access_log) {
        (None, _) => Ok(None),
        (Some(plan), Some(open)) if open.plan() == plan => Ok(Some(Arc::clone(open))),
        (Some(plan), _) => AccessLog::open(plan).map(Some),
    }
}

/// Waits until every backend that `next` brings had its first check: no longer than one may take.
pub(super) async fn first_checks(next: &Snapshot, previous: &Snapshot) {
    // They began together when the pools were started, so waiting in turn is waiting for all.
    for pool in pools_only_in(next, previous) {
        pool.first_checks().await;
    }
}

/// Ends the checks of pools that `next` no longer uses.
pub(super) fn close_replaced(next: &Snapshot, previous: &Snapshot) {
    for pool in pools_only_in(previous, next) {
        pool.close();
    }
}

fn pools_only_in<'a>(
    these: &'a Snapshot,
    others: &'a Snapshot,
) -> impl Iterator<Item = &'a Arc<Pool>> {
    these
        .rules
        .iter()
        .map(|rule| &rule.pool)
        .filter(move |pool| others.rules.iter().all(|other| !Arc::ptr_eq(&other.pool, pool)))
}

/// All limiters of `snapshot`, for the registry that the cluster looks at.
pub(super) fn limiters(snapshot: &Snapshot) -> Vec<Arc<Limiter>> {
    snapshot.rules.iter().filter_map(|rule| rule.limiter.clone()).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;
    use crate::health::NoPeers;

    fn plan(prefix: u8) -> Plan {
        let text = format!(
            "rules:
  - listen: \"127.0.0.1:8001\"
    backends: [\"127.0.0.1:8002\"]
    connection_limit: {{ per_client: 1 }}
    bandwidth_limit: {{ client: {{ upload_per_sec: 1KiB }} }}
    rate_limit: {{ requests_per_second: 1, ipv6_prefix: {prefix} }}
"
        );
        config::parse(&text, "lb.yaml", Path::new("")).unwrap().plan
    }

    #[tokio::test]
    async fn counts_of_clients_begin_anew_only_when_clients_are_told_apart_otherwise() {
        let rooms = Rooms {
            resolver: Resolver::with_nameserver(([127, 0, 0, 1], 1).into()),
            verdicts: Arc::default(),
            peers: Arc::new(NoPeers),
            tally: Arc::default(),
            limits: Arc::default(),
            holdings: Arc::default(),
            pace: Arc::default(),
            tickets: Arc::default(),
            salt: 0,
            secret: 0,
        };
        let first = snapshot(&plan(64), &Snapshot::empty(), &rooms).unwrap();
        let kept = |next: &Snapshot| {
            let (old, new) = (&first.rules[0], &next.rules[0]);
            let caps = old.caps.as_ref().zip(new.caps.as_ref()).unwrap();
            let pacers = old.client_pacers.as_ref().zip(new.client_pacers.as_ref()).unwrap();
            (Arc::ptr_eq(caps.0, caps.1), Arc::ptr_eq(pacers.0, pacers.1))
        };
        let mut other = plan(64);
        other.rules[0].idle_timeout *= 2;
        assert_eq!(kept(&snapshot(&other, &first, &rooms).unwrap()), (true, true));
        assert_eq!(kept(&snapshot(&plan(48), &first, &rooms).unwrap()), (false, false));
    }
}
