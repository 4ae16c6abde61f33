//! Who may use which backend, by the identity that TLS has shown.

use crate::base::Endpoint;

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
}

/// Yes or no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Come in.
    Allow,
    /// Stay out.
    Deny,
}
