//! Listeners: one address has one owner, and no rule sends its connections to itself.

use std::net::SocketAddr;

use super::Findings;
use crate::base::{Endpoint, ListenAddr};
use crate::proxy::RulePlan;

/// `rules` with their index in the file; `ours` are the node's own listeners and the keys that say
/// so. Port 0 is the system's choice and meets nothing but its own like: a listener is known by the
/// address that was written.
pub(super) fn check(
    rules: &[(usize, RulePlan)],
    ours: &[(&'static str, SocketAddr)],
    found: &mut Findings<'_>,
) {
    if let [(one, address), (other, same), ..] = ours
        && overlap(*address, *same)
    {
        let what = format!("{same} is also where `{one}` ({address}) listens");
        found.fault(other, what, "give one of them another port");
    }
    let mut owners: Vec<(SocketAddr, String, &RulePlan)> = Vec::new();
    for (i, rule) in rules {
        for (l, listen) in rule.listen.iter().enumerate() {
            let at = format!("rules[{i}].listen[{l}]");
            meet(*listen, rule, &at, &owners, found);
            if listen.port() != 0 {
                for (key, own) in ours.iter().filter(|(_, own)| overlap(*own, *listen)) {
                    let what = format!(
                        "{listen} of rule `{}` is also where `{key}` ({own}) listens",
                        rule.name
                    );
                    found.fault(&at, what, "give one of them another port");
                }
                reach_itself(*listen, rule, *i, found);
            }
            owners.push((*listen, at, rule));
        }
    }
}

fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() != 0 && ListenAddr(one).overlaps(ListenAddr(other))
}

fn meet(
    listen: SocketAddr,
    rule: &RulePlan,
    at: &str,
    owners: &[(SocketAddr, String, &RulePlan)],
    found: &mut Findings<'_>,
) {
    for (other, other_at, owner) in owners {
        if *other == listen {
            let what = if std::ptr::eq(*owner, rule) {
                format!("{listen} is written twice in rule `{}`", rule.name)
            } else {
                format!(
                    "{listen} of rule `{}` is already listened on by rule `{}` ({other_at})",
                    rule.name, owner.name
                )
            };
            found.fault(at, what, "give one of them another address or port");
            return;
        }
        // One rule may name both families: `0.0.0.0` and `[::]`.
        let families = std::ptr::eq(*owner, rule) && other.is_ipv4() != listen.is_ipv4();
        if ListenAddr(*other).overlaps(ListenAddr(listen)) && !families {
            let what = format!(
                "{listen} of rule `{}` and {other} of rule `{}` ({other_at}) cannot both be bound: \
                 one covers the other",
                rule.name, owner.name
            );
            found.fault(at, what, "give one of them another port");
            return;
        }
    }
}

/// A connection to such a backend would come back to the rule, again and again.
fn reach_itself(listen: SocketAddr, rule: &RulePlan, i: usize, found: &mut Findings<'_>) {
    for (b, backend) in rule.pool.backends.iter().enumerate() {
        let Some(address) = backend.address.literal() else { continue };
        let here = address.ip().is_loopback() && ListenAddr(listen).hears(address.ip());
        if address == listen || (here && address.port() == listen.port()) {
            let what = format!("{address} is the rule's own listener {listen}: a loop");
            let at = match backend.routed {
                true => route_to(&backend.address, rule, &format!("rules[{i}].tls.routes"), found),
                false => format!("rules[{i}].backends[{b}].address"),
            };
            found.fault(&at, what, "write the address of the server behind");
        }
    }
}

/// Where the first of `routes` that leads to `backend` names it.
fn route_to(backend: &Endpoint, rule: &RulePlan, routes: &str, found: &Findings<'_>) -> String {
    let all = rule.tls.as_ref().map_or(&[][..], |tls| &tls.routes);
    let named = all.iter().enumerate().find_map(|(r, route)| {
        let b = route.backends.iter().position(|one| one == backend)?;
        Some((r, b, route.backends.len()))
    });
    // Of those that were written some were refused, and the others moved up.
    let moved = |list: &str, len: usize| found.places.has(&format!("{list}[{len}]"));
    match named {
        Some((r, b, len)) if !moved(routes, all.len()) => match format!("{routes}[{r}].backends") {
            list if moved(&list, len) => list,
            list => format!("{list}[{b}]"),
        },
        _ => routes.to_owned(),
    }
}
