//! TLS as meant: what is shown to clients, whom backends are believed to be.

use std::sync::Arc;
use std::time::Duration;

use super::material::Certificate;
use super::revoked::Revoked;
use super::roots::Roots;
use super::route::TlsRoute;

/// What a rule does with TLS.
#[derive(Clone, Debug, PartialEq)]
pub struct TlsPlan {
    /// Terminated here, or only looked at.
    pub mode: TlsMode,
    /// A hello, and the whole handshake, must be done within this.
    pub handshake_timeout: Duration,
    /// Which backends a name or a protocol leads to; who takes none of them goes to the rule's own.
    pub routes: Vec<TlsRoute>,
}

/// Where TLS ends.
#[derive(Clone, Debug, PartialEq)]
pub enum TlsMode {
    /// Here.
    Terminate(TerminatePlan),
    /// At the backend.
    Passthrough,
}

/// How TLS is terminated.
#[derive(Clone, Debug, PartialEq)]
pub struct TerminatePlan {
    /// The first is shown to whoever asks for none of the names.
    pub certificates: Vec<ServedPlan>,
    /// Whether clients show certificates.
    pub clients: Option<ClientsPlan>,
    /// Lowest version spoken.
    pub min_version: TlsVersion,
    /// Protocols by preference; empty: none is spoken of.
    pub alpn: Vec<Vec<u8>>,
}

/// A certificate and for whom it is.
#[derive(Clone, Debug, PartialEq)]
pub struct ServedPlan {
    /// Lower case, exact or `*.example.com`; `None`: the names in the certificate.
    pub server_name: Option<String>,
    /// What is shown.
    pub certificate: Arc<Certificate>,
}

/// Which client certificates are taken.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientsPlan {
    /// Who may have signed them.
    pub ca: Arc<Roots>,
    /// Whether one must be shown.
    pub required: bool,
    /// Which are no longer good.
    pub crl: Option<Arc<Revoked>>,
}

/// Versions of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

/// TLS towards one backend.
#[derive(Clone, Debug, PartialEq)]
pub struct OriginatePlan {
    /// Whose word counts about the backend's certificate.
    pub trust: Trust,
    /// The name that is asked for and checked; `None`: the backend's host.
    pub server_name: Option<String>,
    /// Shown to the backend when it asks.
    pub certificate: Option<Arc<Certificate>>,
}

/// Whom a backend's certificate must come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Trust {
    /// The machine's certificate authorities.
    System,
    /// These.
    Roots(Arc<Roots>),
    /// It must be one of these certificates itself, whatever its name and dates.
    Pinned(Arc<Roots>),
    /// Nobody: any certificate is taken.
    Anybody,
}
