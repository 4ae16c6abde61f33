//! The short form of an authorization rule: `client.a-deny-127.0.0.1:8000`.

use super::{AuthorizationRule, Permission};
use crate::base::{Endpoint, EndpointError};

/// Why a text is no rule; the message says what is wrong, [`ShortFault::remedy`] how to mend it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShortFault {
    /// No action in it.
    #[error("`{0}` says neither `-allow-` nor `-deny-`")]
    NoAction(String),
    /// Nothing before the action.
    #[error("`{0}` names nobody before its action")]
    NoIdentity(String),
    /// No backend behind the action.
    #[error("`{text}` names no backend behind its action: {why}")]
    NoBackend {
        /// The rule.
        text: String,
        /// What is wrong with the backend.
        why: EndpointError,
    },
    /// A backend that nobody can connect to.
    #[error("`{0}` names a backend with port 0")]
    NoPort(String),
    /// Two readings, and no telling which was meant.
    #[error("`{text}` can be read as a rule for `{one}` and as one for `{other}`")]
    Ambiguous {
        /// The rule.
        text: String,
        /// An identity.
        one: String,
        /// A longer one.
        other: String,
    },
}

impl ShortFault {
    /// What to write instead, in the imperative.
    pub fn remedy(&self) -> &'static str {
        match self {
            ShortFault::NoAction(_) | ShortFault::NoIdentity(_) => {
                "write IDENTITY-allow-BACKEND or IDENTITY-deny-BACKEND, for example \
                 client.a-deny-127.0.0.1:8000; `*` stands for any characters of an identity"
            }
            ShortFault::NoBackend { .. } | ShortFault::NoPort(_) => {
                "write the backend as it stands in the rule, for example 127.0.0.1:8000 or \
                 app.internal:8082; for all backends write { identity, action } without a backend"
            }
            ShortFault::Ambiguous { .. } => {
                "write it as { identity, action, backend }, where each has its own place"
            }
        }
    }
}

const ACTIONS: [(&str, Permission); 2] =
    [("-allow-", Permission::Allow), ("-deny-", Permission::Deny)];

/// Reads the short form. An identity may itself have hyphens and the word of an action in it: what
/// counts is that a backend stands behind the action.
///
/// # Errors
/// It cannot be read, or in more than one way.
pub fn parse_short(text: &str) -> Result<AuthorizationRule, ShortFault> {
    let mut readings = Vec::new();
    let mut fault = None;
    for (at, word, action) in actions(text) {
        match read(text, at, word, action) {
            Ok(rule) => readings.push(rule),
            // The last one's: whoever mistyped a backend mistyped its end.
            Err(why) => fault = Some(why),
        }
    }
    match (readings.pop(), readings.pop()) {
        (Some(rule), None) => Ok(rule),
        (Some(other), Some(one)) => Err(ShortFault::Ambiguous {
            text: text.to_owned(),
            one: one.identity,
            other: other.identity,
        }),
        (None, _) => Err(fault.unwrap_or_else(|| ShortFault::NoAction(text.to_owned()))),
    }
}

/// Every place where an action may stand, from left to right.
fn actions(text: &str) -> impl Iterator<Item = (usize, &'static str, Permission)> {
    text.match_indices('-').filter_map(|(at, _)| {
        let found = ACTIONS.iter().find(|(word, _)| text[at..].starts_with(word));
        found.map(|&(word, action)| (at, word, action))
    })
}

fn read(
    text: &str,
    at: usize,
    word: &str,
    action: Permission,
) -> Result<AuthorizationRule, ShortFault> {
    let (identity, backend) = (&text[..at], &text[at + word.len()..]);
    let backend: Endpoint =
        backend.parse().map_err(|why| ShortFault::NoBackend { text: text.to_owned(), why })?;
    if backend.port == 0 {
        return Err(ShortFault::NoPort(text.to_owned()));
    }
    if identity.is_empty() {
        return Err(ShortFault::NoIdentity(text.to_owned()));
    }
    let (text, identity) = (text.to_owned(), identity.to_owned());
    Ok(AuthorizationRule { text, identity, action, backend: Some(backend), route: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn reads(text: &str, identity: &str, action: Permission, backend: &str) {
        let backend = Some(backend.parse().unwrap());
        let (text, identity) = (text.to_owned(), identity.to_owned());
        assert_eq!(
            parse_short(&text),
            Ok(AuthorizationRule { text: text.clone(), identity, action, backend, route: None })
        );
    }

    #[test]
    fn a_short_rule_is_an_identity_an_action_and_a_backend() {
        reads("client.a-deny-127.0.0.1:8000", "client.a", Permission::Deny, "127.0.0.1:8000");
        reads("*-allow-[::1]:80", "*", Permission::Allow, "[::1]:80");
        let spiffe = "spiffe://x/*/web-1";
        reads(
            &format!("{spiffe}-allow-app-1.internal:8082"),
            spiffe,
            Permission::Allow,
            "app-1.internal:8082",
        );
    }

    #[test]
    fn an_identity_may_have_an_action_in_it() {
        let who = "spiffe://x/may-deny-a/b";
        reads(&format!("{who}-allow-10.0.0.1:80"), who, Permission::Allow, "10.0.0.1:80");
        reads("a-deny-_!-allow-b:80", "a-deny-_!", Permission::Allow, "b:80");
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_not_guessed() {
        for text in ["a-deny-b-allow-c:80", "a-deny-allow-b:80", "a-allow-b-allow-c-allow-d:1"] {
            let fault = parse_short(text).unwrap_err();
            assert!(matches!(fault, ShortFault::Ambiguous { .. }), "{fault}");
            assert!(fault.remedy().contains("{ identity, action, backend }"));
        }
        let said = parse_short("a-deny-b-allow-c:80").unwrap_err().to_string();
        assert!(said.contains("`a`") && said.contains("`a-deny-b`"), "{said}");
    }

    #[test]
    fn what_is_no_rule_says_what_is_missing() {
        type Is = fn(&ShortFault) -> bool;
        let cases: [(&str, Is); 7] = [
            ("client.a", |fault| matches!(fault, ShortFault::NoAction(_))),
            ("", |fault| matches!(fault, ShortFault::NoAction(_))),
            ("client.a-Deny-1.1.1.1:1", |fault| matches!(fault, ShortFault::NoAction(_))),
            ("-deny-1.1.1.1:1", |fault| matches!(fault, ShortFault::NoIdentity(_))),
            ("a-deny-1.1.1.1", |fault| matches!(fault, ShortFault::NoBackend { .. })),
            ("a-deny-", |fault| matches!(fault, ShortFault::NoBackend { .. })),
            ("a-deny-1.1.1.1:0", |fault| matches!(fault, ShortFault::NoPort(_))),
        ];
        for (text, is) in cases {
            let fault = parse_short(text).unwrap_err();
            assert!(is(&fault), "{text}: {fault}");
            assert!(!fault.remedy().is_empty());
        }
    }
}
