//! What a good configuration comes to, in a few lines for people.

use std::fmt::Write as _;

use super::Loaded;
use crate::net::HeaderVersion;
use crate::net::tls::{TlsMode, TlsPlan, Trust};
use crate::proxy::RulePlan;
use crate::traffic::{AuthorizationPlan, Permission};

/// What `check` says about a configuration without faults: its warnings (`file` stands before
/// them), then a line per rule and one for the whole. Ends without a newline.
pub fn summary(loaded: &Loaded, file: &str) -> String {
    let Loaded { plan, warnings, .. } = loaded;
    let mut out = String::new();
    for warning in warnings {
        let _ = writeln!(out, "warning: {}", warning.in_file(file));
    }
    for rule in &plan.rules {
        let listen: Vec<_> = rule.listen.iter().map(ToString::to_string).collect();
        let backends = rule.pool.backends.len();
        let name = &rule.name;
        let _ = write!(out, "rule {name}: {} → {}", listen.join(", "), many(backends, "backend"));
        for aspect in aspects(rule) {
            let _ = write!(out, "; {aspect}");
        }
        out.push('\n');
    }
    let listeners = plan.rules.iter().map(|rule| rule.listen.len()).sum();
    let cluster = match &plan.cluster {
        Some(cluster) => {
            format!("cluster `{}`, {}", cluster.label, many(cluster.peers.len(), "seed"))
        }
        None => "no cluster".to_owned(),
    };
    let _ = write!(
        out,
        "{file} is good: {}, {}, {cluster}, {} ({})",
        many(plan.rules.len(), "rule"),
        many(listeners, "listener"),
        many(warnings.len(), "warning"),
        &plan.digest[..plan.digest.len().min(12)],
    );
    out
}

/// What is to be known of a rule beyond where its connections go.
fn aspects(rule: &RulePlan) -> Vec<String> {
    let mut aspects = Vec::new();
    if rule.proxy_from.is_some() {
        aspects.push("PROXY headers are read".to_owned());
    }
    aspects.extend(rule.tls.as_ref().map(with_clients));
    aspects.extend(rule.authorization.as_ref().map(rights));
    aspects.extend(to_backends(rule));
    aspects.extend(rule.pool.send_proxy.map(|version| match version {
        HeaderVersion::V1 => "PROXY headers are sent (v1)".to_owned(),
        HeaderVersion::V2 => "PROXY headers are sent (v2)".to_owned(),
    }));
    aspects
}

fn with_clients(tls: &TlsPlan) -> String {
    let (what, mut with) = match &tls.mode {
        TlsMode::Passthrough => ("TLS passes through", Vec::new()),
        TlsMode::Terminate(plan) => {
            let mut with = vec![many(plan.certificates.len(), "certificate")];
            with.extend(plan.clients.as_ref().map(|clients| match clients.required {
                true => "clients must show theirs".to_owned(),
                false => "clients may show theirs".to_owned(),
            }));
            ("TLS ends here", with)
        }
    };
    if !tls.routes.is_empty() {
        with.push(many(tls.routes.len(), "route"));
    }
    if with.is_empty() { what.to_owned() } else { format!("{what} ({})", with.join(", ")) }
}

fn rights(authorization: &AuthorizationPlan) -> String {
    let rest = match authorization.default {
        Permission::Allow => "allowed",
        Permission::Deny => "denied",
    };
    format!("{} of authorization, the rest is {rest}", many(authorization.rules.len(), "rule"))
}

fn to_backends(rule: &RulePlan) -> Option<String> {
    let backends = &rule.pool.backends;
    let by_tls: Vec<_> = backends.iter().filter_map(|backend| backend.tls.as_ref()).collect();
    let unchecked = by_tls.iter().filter(|tls| tls.trust == Trust::Anybody).count();
    let whom = match (by_tls.len(), backends.len()) {
        (0, _) => return None,
        (some, all) if some == all => "TLS to the backends".to_owned(),
        (some, all) => format!("TLS to {some} of {all} backends"),
    };
    Some(match unchecked {
        0 => whom,
        some if some == by_tls.len() => format!("{whom}, NOT CHECKED"),
        some => format!("{whom}, {some} NOT CHECKED"),
    })
}

fn many(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
