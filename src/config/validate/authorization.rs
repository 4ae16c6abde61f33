//! Who may use which backend: the long form, the short form, and what they mean together.

use super::Findings;
use crate::base::{Endpoint, Host};
use crate::config::file::{self, ClientAuth, Mode};
use crate::net::tls::TlsRoute;
use crate::traffic::{AuthorizationPlan, AuthorizationRule, Permission};
use crate::upstream::BackendPlan;

pub(super) fn plan(
    authorization: &file::Authorization,
    backends: &[BackendPlan],
    routes: &[TlsRoute],
    at: &str,
    found: &mut Findings<'_>,
) -> AuthorizationPlan {
    let mut rules = Vec::with_capacity(authorization.rules.len());
    for (i, rule) in authorization.rules.iter().enumerate() {
        let Some(file::AuthorizationRule {
            identity: Some(identity),
            action: Some(action),
            backend,
            route,
        }) = rule
        else {
            continue;
        };
        let backend = backend.as_ref().map(|backend| backend.0.clone());
        if let Some(backend) = backend.as_ref().filter(|backend| !may_be_of(backend, backends)) {
            let what = format!("the rule has no backend {backend}");
            found.warn(&format!("{at}.rules[{i}]"), what, "name one of its backends");
        }
        let route = route.as_ref().map(|route| route.0.clone());
        if let Some(route) = &route
            && !routes.iter().any(|one| one.server_name.as_ref() == Some(route))
        {
            let what = format!("the rule has no route for {route}");
            let remedy = "name the `server_name` of one of its `tls.routes`";
            found.fault(&format!("{at}.rules[{i}].route"), what, remedy);
        }
        let action = permission(*action);
        let text = text(identity, action, backend.as_ref(), route.as_deref());
        let identity = identity.clone();
        rules.push(AuthorizationRule { text, identity, action, backend, route });
    }
    AuthorizationPlan { default: permission(authorization.default), rules }
}

/// What `field` asks for needs clients with an identity.
pub(super) fn must_identify(rule: &file::Rule, field: &str, found: &mut Findings<'_>) {
    if rule.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some()) {
        return;
    }
    let (what, remedy) = match &rule.tls {
        Some(tls) if tls.mode == Mode::Passthrough => (
            "nobody has an identity here: `mode: passthrough` sees no client's certificate",
            "write `mode: terminate` with a certificate and `client_ca:`, or take this out",
        ),
        _ => (
            "nobody has an identity here: clients are not asked for certificates",
            "add `client_ca:` to the rule's `tls:`, or take this out",
        ),
    };
    found.fault(field, what, remedy);
}

/// Whoever shows no certificate slips past rules that deny.
pub(super) fn watch_strangers(rule: &file::Rule, at: &str, found: &mut Findings<'_>) {
    let (Some(tls), Some(authorization)) = (&rule.tls, &rule.authorization) else { return };
    let denies = |rule: &file::AuthorizationRule| rule.action == Some(file::Permission::Deny);
    if tls.client_auth == Some(ClientAuth::Optional)
        && authorization.default == file::Permission::Allow
        && authorization.rules.iter().flatten().any(denies)
    {
        let what = "who shows no certificate is judged by `default` alone, which allows everything";
        let remedy = "write `default: deny` with rules that allow, or `client_auth: required`";
        found.warn(&format!("{at}.authorization"), what, remedy);
    }
}

/// An address may also be one that a backend's name resolves to.
fn may_be_of(named: &Endpoint, backends: &[BackendPlan]) -> bool {
    backends.iter().any(|backend| {
        let own = &backend.address;
        let resolved = matches!((&named.host, &own.host), (Host::Ip(_), Host::Name(_)));
        *own == *named || (resolved && own.port == named.port)
    })
}

fn permission(permission: file::Permission) -> Permission {
    match permission {
        file::Permission::Allow => Permission::Allow,
        file::Permission::Deny => Permission::Deny,
    }
}

/// For logs: the short form, and what it has no room for.
fn text(
    identity: &str,
    action: Permission,
    backend: Option<&Endpoint>,
    route: Option<&str>,
) -> String {
    let action = match action {
        Permission::Allow => "allow",
        Permission::Deny => "deny",
    };
    let backend = backend.map_or("*".to_owned(), ToString::to_string);
    let by = route.map(|route| format!(" by {route}")).unwrap_or_default();
    format!("{identity}-{action}-{backend}{by}")
}
