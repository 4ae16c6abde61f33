//! Who may use which backend: the long form, the short form, and what they mean together.

use super::Findings;
use crate::base::{Endpoint, Host};
use crate::config::fault::quote;
use crate::config::file::{self, ClientAuth, Mode};
use crate::config::written::Written as _;
use crate::traffic::{AuthorizationPlan, AuthorizationRule, Permission};
use crate::upstream::BackendPlan;

pub(super) fn plan(
    authorization: &file::Authorization,
    backends: &[BackendPlan],
    at: &str,
    found: &mut Findings<'_>,
) -> AuthorizationPlan {
    let mut rules = Vec::with_capacity(authorization.rules.len());
    for (i, rule) in authorization.rules.iter().enumerate() {
        let Some(file::AuthorizationRule {
            identity: Some(identity),
            action: Some(action),
            backend,
        }) = rule
        else {
            continue;
        };
        let backend = backend.as_ref().map(|backend| backend.0.clone());
        if let Some(backend) = backend.as_ref().filter(|backend| !may_be_of(backend, backends)) {
            let what = format!("the rule has no backend {backend}");
            found.warn(&format!("{at}.rules[{i}]"), what, "name one of its backends");
        }
        let action = permission(*action);
        let text = short(identity, action, backend.as_ref());
        rules.push(AuthorizationRule { text, identity: identity.clone(), action, backend });
    }
    AuthorizationPlan { default: permission(authorization.default), rules }
}

/// What `field` asks for needs clients with an identity.
pub(super) fn must_identify(rule: &file::Rule, field: &str, found: &mut Findings<'_>) {
    if rule.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some()) {
        return;
    }
    let what = match &rule.tls {
        Some(tls) if tls.mode == Mode::Passthrough => {
            "nobody has an identity here: `mode: passthrough` sees no client's certificate"
        }
        _ => "nobody has an identity here: clients are not asked for certificates",
    };
    let remedy = "add `client_ca:` to the rule's `tls:`, or take this out";
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

/// For logs.
fn short(identity: &str, action: Permission, backend: Option<&Endpoint>) -> String {
    let action = match action {
        Permission::Allow => "allow",
        Permission::Deny => "deny",
    };
    match backend {
        Some(backend) => format!("{identity}-{action}-{backend}"),
        None => format!("{identity}-{action}-*"),
    }
}

/// Why a text is no permission in short.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub(in crate::config) struct ShortFault {
    pub(in crate::config) what: String,
    pub(in crate::config) remedy: String,
}

/// `client.a-deny-127.0.0.1:8000`.
pub(in crate::config) fn parse_short(text: &str) -> Result<AuthorizationRule, ShortFault> {
    [("-allow-", Permission::Allow), ("-deny-", Permission::Deny)]
        .into_iter()
        .flat_map(|(word, action)| text.match_indices(word).map(move |(at, _)| (at, word, action)))
        .filter(|(at, ..)| *at > 0)
        .filter_map(|(at, word, action)| {
            let backend = Endpoint::read(&text[at + word.len()..]).ok()?;
            Some((at, action, backend))
        })
        .max_by_key(|(at, ..)| *at)
        .map(|(at, action, backend)| AuthorizationRule {
            text: text.to_owned(),
            identity: text[..at].to_owned(),
            action,
            backend: Some(backend),
        })
        .ok_or_else(|| ShortFault {
            what: format!("{} is no permission", quote(text)),
            remedy: "write `IDENTITY-allow-HOST:PORT` or `IDENTITY-deny-HOST:PORT`, or keys: \
                     `{ identity: client.a, action: deny }`"
                .to_owned(),
        })
}
