//! What acts make of a configuration: which backends a rule really has, and which of them take no
//! new connections. A pure function of the file's plan and the acts, so that it comes out the same
//! after a reload, after a restart, and on every node with the same file.
//!
//! An act on a backend holds where the file says of that backend what it said when the act was made;
//! a reload that changes this very backend so ends it there.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use crate::base::{Endpoint, RuleName, stable_hash};
use crate::cluster::acts::{Act, Order, Place, Store, Subject};
use crate::config::Plan;
use crate::net::tls::OriginatePlan;
use crate::proxy::RulePlan;
use crate::upstream::BackendPlan;

/// An act on a backend, as people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) place: Place,
    pub(super) order: Order,
    pub(super) by: String,
    /// About when it was ordered, milliseconds since 1970.
    pub(super) since_ms: u64,
    /// Why it does not hold here.
    pub(super) idle: Option<&'static str>,
}

/// How a backend is configured, in a number; 0: it is not.
pub(super) fn mark(configured: Option<&BackendPlan>) -> u64 {
    configured.map_or(0, |backend| {
        let BackendPlan { address, weight, backup, max_connections, .. } = backend;
        let text = format!("{address} {weight} {backup} {max_connections:?}");
        stable_hash(1, text.as_bytes()).max(1)
    })
}

/// What `rule`'s file says of `backend`.
pub(super) fn configured<'a>(rule: &'a RulePlan, backend: &Endpoint) -> Option<&'a BackendPlan> {
    rule.pool.backends.iter().find(|known| known.address == *backend)
}

fn holds(order: Order, configured: Option<&BackendPlan>) -> bool {
    match order {
        Order::Drain { mark: then } => mark(configured) == then,
        Order::Add { .. } => configured.is_none(),
        Order::Remove { mark: then } | Order::Weight { mark: then, .. } => {
            configured.is_some() && mark(configured) == then
        }
        Order::Lifted | Order::Ban { .. } => false,
    }
}

/// Acts on places that say something now.
fn standing(store: &Store, now: Instant) -> impl Iterator<Item = (&Place, u64, &Act, bool)> {
    store.places().filter(move |(_, known)| known.value.holds(now)).filter_map(
        |(subject, known)| match subject {
            Subject::Client(_) => None,
            Subject::Drain(place) => Some((place, known.version, &known.value, true)),
            Subject::Backend(place) => Some((place, known.version, &known.value, false)),
        },
    )
}

/// `plan` with the acts laid over it: backends added, removed and weighed anew.
pub(super) fn laid(plan: &Plan, store: &Store, now: Instant) -> Plan {
    let mut plan = plan.clone();
    for rule in &mut plan.rules {
        let mut added = Vec::new();
        let file = rule.clone();
        for (place, _, act, drain) in standing(store, now) {
            let known = configured(&file, &place.backend);
            if place.rule != rule.name || drain || !holds(act.order, known) {
                continue;
            }
            let backends = &mut rule.pool.backends;
            match act.order {
                Order::Add { weight } => {
                    added.push(new(&place.backend, weight, rule.pool.tls.as_ref()));
                }
                Order::Remove { .. } => backends.retain(|known| known.address != place.backend),
                Order::Weight { weight, .. } => {
                    let changed = backends.iter_mut().find(|known| known.address == place.backend);
                    changed.into_iter().for_each(|backend| backend.weight = weight);
                }
                _ => {}
            }
        }
        // In one order everywhere, whatever order the acts came in.
        added.sort_by(|a: &BackendPlan, b| a.address.cmp(&b.address));
        rule.pool.backends.extend(added);
    }
    plan
}

fn new(backend: &Endpoint, weight: u32, tls: Option<&Arc<OriginatePlan>>) -> BackendPlan {
    BackendPlan { weight, tls: tls.cloned(), ..BackendPlan::new(backend.clone()) }
}

/// Which backends of the rule `file` take no new connections.
pub(super) fn drained(file: &RulePlan, store: &Store, now: Instant) -> HashSet<Endpoint> {
    standing(store, now)
        .filter(|(place, _, act, drain)| {
            let known = configured(file, &place.backend);
            *drain && place.rule == file.name && holds(act.order, known)
        })
        .map(|(place, ..)| place.backend.clone())
        .collect()
}

/// All acts on backends, by rule and backend.
pub(super) fn listed(plan: &Plan, store: &Store, now: Instant) -> Vec<Listed> {
    let rule = |name: &RuleName| plan.rules.iter().find(|rule| rule.name == *name);
    let mut all: Vec<Listed> = standing(store, now)
        .map(|(place, since_ms, act, _)| {
            let idle = match rule(&place.rule) {
                None => Some("no rule of this name here"),
                Some(rule) if !holds(act.order, configured(rule, &place.backend)) => {
                    Some("the file says something else of this backend than it did then")
                }
                Some(_) => None,
            };
            let (place, by) = (place.clone(), act.by.to_string());
            Listed { place, order: act.order, by, since_ms, idle }
        })
        .collect();
    all.sort_by(|a, b| {
        let key = |listed: &Listed| (listed.place.rule.clone(), listed.place.backend.clone());
        key(a).cmp(&key(b)).then(a.since_ms.cmp(&b.since_ms))
    });
    all
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::base::{Actor, BootId, NodeId, NodeName, time};
    use crate::config;

    fn plan(backends: &str) -> Plan {
        let text =
            format!("rules: [{{ name: web, listen: \"127.0.0.1:1\", backends: [{backends}] }}]");
        config::parse(&text, "lb.yaml", Path::new("")).unwrap().plan
    }

    fn store(orders: &[(&str, Order)]) -> Store {
        let writer = Actor { node: NodeId(1), boot: BootId::new(0) };
        let mut store = Store::new(writer, &NodeName::from("n1"));
        for (backend, order) in orders {
            let place = Place { rule: "web".into(), backend: backend.parse().unwrap() };
            let subject = match order {
                Order::Drain { .. } => Subject::Drain(place),
                _ => Subject::Backend(place),
            };
            store.issue(time::now(), 0, &subject, *order, None).unwrap();
        }
        store
    }

    fn backends(plan: &Plan) -> Vec<String> {
        let shown = |b: &BackendPlan| format!("{} {}", b.address, b.weight);
        plan.rules[0].pool.backends.iter().map(shown).collect()
    }

    #[test]
    fn acts_add_remove_and_weigh_until_the_file_says_something_else_of_that_backend() {
        let now = time::now();
        let file = plan("\"10.0.0.1:80\", \"10.0.0.2:80\"");
        let mark_of = |plan: &Plan, backend: &str| {
            mark(configured(&plan.rules[0], &backend.parse().unwrap()))
        };
        let store = store(&[
            ("10.0.0.1:80", Order::Remove { mark: mark_of(&file, "10.0.0.1:80") }),
            ("10.0.0.2:80", Order::Weight { weight: 5, mark: mark_of(&file, "10.0.0.2:80") }),
            ("10.0.0.9:80", Order::Add { weight: 2 }),
            ("10.0.0.8:80", Order::Add { weight: 3 }),
            ("10.0.0.2:80", Order::Drain { mark: mark_of(&file, "10.0.0.2:80") }),
        ]);
        let now_is = |plan: &Plan| backends(&laid(plan, &store, now));
        assert_eq!(now_is(&file), ["10.0.0.2:80 5", "10.0.0.8:80 3", "10.0.0.9:80 2"]);
        assert_eq!(drained(&file.rules[0], &store, now), ["10.0.0.2:80".parse().unwrap()].into());

        // Another backend comes: these are not touched.
        let more = plan("\"10.0.0.1:80\", \"10.0.0.2:80\", \"10.0.0.3:80\"");
        assert_eq!(now_is(&more).len(), 4);
        // One of them changes, another is in the file now.
        let other =
            plan("\"10.0.0.1:80\", { address: \"10.0.0.2:80\", weight: 7 }, \"10.0.0.9:80\"");
        assert_eq!(now_is(&other), ["10.0.0.2:80 7", "10.0.0.9:80 1", "10.0.0.8:80 3"]);
        assert!(drained(&other.rules[0], &store, now).is_empty());
        let idle = listed(&other, &store, now).iter().filter(|act| act.idle.is_some()).count();
        assert_eq!(idle, 3);
        // What the file no longer has cannot be removed or weighed.
        let less = plan("\"10.0.0.3:80\"");
        assert_eq!(now_is(&less), ["10.0.0.3:80 1", "10.0.0.8:80 3", "10.0.0.9:80 2"]);
    }

    #[test]
    fn two_nodes_that_remove_the_two_backends_leave_an_empty_rule_and_no_panic() {
        let file = plan("\"10.0.0.1:80\", \"10.0.0.2:80\"");
        let mark = |at: usize| mark(Some(&file.rules[0].pool.backends[at]));
        let store = store(&[
            ("10.0.0.1:80", Order::Remove { mark: mark(0) }),
            ("10.0.0.2:80", Order::Remove { mark: mark(1) }),
        ]);
        assert!(backends(&laid(&file, &store, time::now())).is_empty());
    }
}
