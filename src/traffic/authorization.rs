//! Who may use which backend, by the identity that TLS has shown.

mod short;

use std::net::SocketAddr;

pub use short::{ShortFault, parse_short};

use super::glob::Glob;
use crate::base::{Endpoint, Identity};

/// A rule's `authorization:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizationPlan {
    /// What holds where no rule says otherwise.
    pub default: Permission,
    /// The first that matches decides.
    pub rules: Vec<AuthorizationRule>,
}

/// One line of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizationRule {
    /// As it was written, or in the short form: for logs.
    pub text: String,
    /// A name; `*` stands for any characters.
    pub identity: String,
    /// What is decided.
    pub action: Permission,
    /// About which backend, as configured or by address; `None`: all.
    pub backend: Option<Endpoint>,
    /// About clients that this route leads there, by its server name as configured; `None`: all.
    pub route: Option<String>,
}

/// Yes or no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Come in.
    Allow,
    /// Stay out.
    Deny,
}

/// Judges who may use which backend.
#[derive(Clone, Debug)]
pub struct Authorization {
    default: Permission,
    rules: Vec<Judge>,
}

/// A rule made ready.
#[derive(Clone, Debug)]
struct Judge {
    rule: AuthorizationRule,
    identity: Glob,
    /// In lower case, for DNS names.
    dns: Glob,
}

/// Where a client would go.
#[derive(Clone, Copy, Debug)]
pub struct Way<'a> {
    /// The backend as configured.
    pub name: &'a Endpoint,
    /// Its address.
    pub address: SocketAddr,
    /// The route that leads the client there; `None`: it is one of the rule's own backends.
    pub route: Option<&'a str>,
}

/// What is decided, and by what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement<'a> {
    /// The decision.
    pub permission: Permission,
    /// The rule that decided; `None`: the default did.
    pub rule: Option<&'a AuthorizationRule>,
}

impl Authorization {
    /// Made once per plan.
    pub fn new(plan: &AuthorizationPlan) -> Self {
        let judge = |rule: &AuthorizationRule| Judge {
            identity: Glob::new(&rule.identity),
            dns: Glob::new(&rule.identity.to_ascii_lowercase()),
            rule: rule.clone(),
        };
        Authorization { default: plan.default, rules: plan.rules.iter().map(judge).collect() }
    }

    /// May `identity` go this way? Who has shown no certificate has no name, so that no rule speaks
    /// of them, not even one for `*`.
    pub fn judge(&self, identity: Option<&Identity>, way: Way<'_>) -> Judgement<'_> {
        let speaks =
            |judge: &&Judge| judge.is_about(way) && identity.is_some_and(|who| judge.is_of(who));
        let rule = self.rules.iter().find(speaks).map(|judge| &judge.rule);
        Judgement { permission: rule.map_or(self.default, |rule| rule.action), rule }
    }
}

impl Judge {
    fn is_of(&self, who: &Identity) -> bool {
        let exactly = |name: &String| self.identity.matches(name);
        who.common_name.iter().chain(&who.uris).any(exactly)
            || who.dns.iter().any(|name| self.dns.matches(&name.to_ascii_lowercase()))
    }

    fn is_about(&self, way: Way<'_>) -> bool {
        let AuthorizationRule { backend, route, .. } = &self.rule;
        let there =
            |backend: &Endpoint| backend == way.name || backend.literal() == Some(way.address);
        backend.as_ref().is_none_or(there)
            && route.as_ref().is_none_or(|route| way.route == Some(route))
    }
}

#[cfg(test)]
mod tests;
