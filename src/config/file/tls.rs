//! TLS, authorization and PROXY headers as written.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Items, Text, seconds};
use crate::base::Endpoint;
use crate::traffic::{self, ShortFault, parse_short};

/// A server's name: upper and lower case are one.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(from = "String", into = "String")]
pub(in crate::config) struct ServerName(pub(in crate::config) String);

impl From<String> for ServerName {
    fn from(name: String) -> Self {
        ServerName(name.to_ascii_lowercase())
    }
}

impl From<ServerName> for String {
    fn from(name: ServerName) -> Self {
        name.0
    }
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Tls {
    pub(in crate::config) enabled: bool,
    pub(in crate::config) mode: Mode,
    pub(in crate::config) cert: Option<PathBuf>,
    pub(in crate::config) key: Option<PathBuf>,
    pub(in crate::config) ocsp: Option<PathBuf>,
    pub(in crate::config) certificates: Items<Certificate>,
    pub(in crate::config) client_ca: Option<PathBuf>,
    pub(in crate::config) client_auth: Option<ClientAuth>,
    pub(in crate::config) client_crl: Option<PathBuf>,
    pub(in crate::config) min_version: Option<MinVersion>,
    pub(in crate::config) alpn: Items<String>,
    pub(in crate::config) handshake_timeout: Text<Duration>,
    pub(in crate::config) routes: Items<TlsRoute>,
}

impl Default for Tls {
    fn default() -> Self {
        Tls {
            enabled: true,
            mode: Mode::Terminate,
            cert: None,
            key: None,
            ocsp: None,
            certificates: Vec::new(),
            client_ca: None,
            client_auth: None,
            client_crl: None,
            min_version: None,
            alpn: Vec::new(),
            handshake_timeout: seconds(5),
            routes: Vec::new(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum Mode {
    Terminate,
    Passthrough,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum ClientAuth {
    Required,
    Optional,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(in crate::config) enum MinVersion {
    #[serde(rename = "1.2")]
    Tls12,
    #[serde(rename = "1.3")]
    Tls13,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Certificate {
    pub(in crate::config) server_name: Option<ServerName>,
    /// `None`: refused, and said; so is `key`.
    pub(in crate::config) cert: Option<PathBuf>,
    pub(in crate::config) key: Option<PathBuf>,
    pub(in crate::config) ocsp: Option<PathBuf>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct TlsRoute {
    pub(in crate::config) server_name: Option<ServerName>,
    pub(in crate::config) alpn: Items<String>,
    pub(in crate::config) backends: Items<Text<Endpoint>>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct BackendTls {
    pub(in crate::config) enabled: bool,
    pub(in crate::config) ca: Option<PathBuf>,
    pub(in crate::config) pinned_cert: Option<PathBuf>,
    pub(in crate::config) server_name: Option<ServerName>,
    pub(in crate::config) cert: Option<PathBuf>,
    pub(in crate::config) key: Option<PathBuf>,
    pub(in crate::config) insecure_skip_verify: bool,
}

impl Default for BackendTls {
    fn default() -> Self {
        BackendTls {
            enabled: true,
            ca: None,
            pinned_cert: None,
            server_name: None,
            cert: None,
            key: None,
            insecure_skip_verify: false,
        }
    }
}

impl BackendTls {
    /// Only that it is off: what stands beside it asks for nothing.
    pub(in crate::config) fn off() -> Self {
        BackendTls { enabled: false, ..BackendTls::default() }
    }
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Authorization {
    pub(in crate::config) default: Permission,
    pub(in crate::config) rules: Items<AuthorizationRule>,
}

impl Default for Authorization {
    fn default() -> Self {
        Authorization { default: Permission::Allow, rules: Vec::new() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum Permission {
    Allow,
    Deny,
}

/// One shape for both ways to write it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(try_from = "WrittenRule")]
pub(in crate::config) struct AuthorizationRule {
    /// `None`: refused, and said; so is `action`.
    pub(in crate::config) identity: Option<String>,
    pub(in crate::config) action: Option<Permission>,
    pub(in crate::config) backend: Option<Text<Endpoint>>,
    pub(in crate::config) route: Option<ServerName>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum WrittenRule {
    Short(String),
    Long {
        identity: Option<String>,
        action: Option<Permission>,
        backend: Option<Text<Endpoint>>,
        route: Option<ServerName>,
    },
}

impl TryFrom<WrittenRule> for AuthorizationRule {
    type Error = ShortFault;

    fn try_from(written: WrittenRule) -> Result<Self, ShortFault> {
        match written {
            WrittenRule::Short(text) => parse_short(&text).map(|rule| AuthorizationRule {
                identity: Some(rule.identity),
                action: Some(match rule.action {
                    traffic::Permission::Allow => Permission::Allow,
                    traffic::Permission::Deny => Permission::Deny,
                }),
                backend: rule.backend.map(Text),
                route: None,
            }),
            WrittenRule::Long { identity, action, backend, route } => {
                Ok(AuthorizationRule { identity, action, backend, route })
            }
        }
    }
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct ProxyProtocol {
    pub(in crate::config) accept: bool,
    pub(in crate::config) send: SendProxy,
}

impl Default for ProxyProtocol {
    fn default() -> Self {
        ProxyProtocol { accept: false, send: SendProxy::None }
    }
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum SendProxy {
    None,
    V1,
    V2,
}
