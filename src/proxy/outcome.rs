//! How sessions end. Every fault of the rooms below meets here and gets a reason with a stable
//! label, a side that caused it and a level.

use std::io;

use crate::net;
use crate::traffic::CapReached;
use crate::upstream::DialError;

/// Who caused the end of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client, by ending or by what it asked for.
    Client,
    /// This node.
    Proxy,
    /// The backend, or the lack of one.
    Upstream,
}

impl Side {
    /// As logs and metrics say it.
    pub fn label(self) -> &'static str {
        match self {
            Side::Client => "client",
            Side::Proxy => "proxy",
            Side::Upstream => "upstream",
        }
    }
}

impl From<net::Side> for Side {
    fn from(side: net::Side) -> Self {
        match side {
            net::Side::Client => Side::Client,
            net::Side::Upstream => Side::Upstream,
        }
    }
}

/// How much an operator should care.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Fine,
    /// Refused or cut as configured.
    Notice,
    /// Something does not work.
    Fault,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $label:literal, $level:ident;)*) => {
        /// Why a session ended.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Reason {
            $($(#[$doc])* $name,)*
        }

        impl Reason {
            /// All of them.
            pub const ALL: &[Reason] = &[$(Reason::$name,)*];

            /// As logs and metrics say it; never changes.
            pub fn label(self) -> &'static str {
                match self {
                    $(Reason::$name => $label,)*
                }
            }

            /// How much it matters.
            pub fn level(self) -> Level {
                match self {
                    $(Reason::$name => Level::$level,)*
                }
            }
        }
    };
}

reasons! {
    /// Both sides sent all they had and ended.
    Ok = "ok", Fine;
    /// The client had ended its half and was gone when the backend still sent.
    ClientClosed = "client_closed", Fine;
    /// The client reset its connection.
    ClientReset = "client_reset", Fine;
    /// The connection to the client failed otherwise (unreachable, keepalive unanswered).
    ClientLost = "client_lost", Fine;
    /// What the client sent within its session was no TLS, or it ended the session by an alert.
    ClientTls = "client_tls_broken", Notice;
    /// Nothing moved for the idle timeout.
    IdleTimeout = "idle_timeout", Fine;
    /// The client was banned.
    Banned = "banned", Notice;
    /// Cut because its client was banned with `--cut`.
    BanCut = "ban_cut", Notice;
    /// The client's network may not connect.
    AccessDenied = "access_denied", Notice;
    /// The client's identity may use none of the backends.
    NotAuthorized = "not_authorized", Notice;
    /// Over the rule's rate.
    RateLimited = "rate_limited", Notice;
    /// The client has as many connections as one client may.
    ClientCap = "client_cap", Notice;
    /// The rule has as many connections as it may.
    RuleCap = "rule_cap", Notice;
    /// Its network is none of those that begin with a PROXY header.
    ProxyUntrusted = "proxy_untrusted", Notice;
    /// No PROXY header where there must be one, or a malformed one.
    ProxyHeader = "proxy_header", Notice;
    /// No whole PROXY header in time.
    ProxyTimeout = "proxy_timeout", Notice;
    /// The client went before it had said what it wants.
    ClientGone = "client_gone", Notice;
    /// The client said nothing, and others came who wanted its place.
    CrowdedOut = "crowded_out", Notice;
    /// The client does not speak TLS.
    NotTls = "not_tls", Notice;
    /// The handshake was not done in time.
    TlsTimeout = "tls_timeout", Notice;
    /// The handshake came to nothing for another reason than those below.
    TlsFailed = "tls_failed", Notice;
    /// The client speaks no version, cipher suite or protocol that is spoken here.
    TlsIncompatible = "tls_incompatible", Notice;
    /// The client broke the handshake off, by an alert.
    TlsRefused = "tls_refused", Notice;
    /// The client must show a certificate and did not.
    TlsNoCertificate = "tls_no_certificate", Notice;
    /// The client's certificate comes from nobody who is trusted, there is no revocation list of its
    /// issuer, or it names nobody.
    TlsUntrusted = "tls_untrusted_certificate", Notice;
    /// The client's certificate is no longer good, or not yet.
    TlsExpired = "tls_expired_certificate", Notice;
    /// The client's certificate is revoked.
    TlsRevoked = "tls_revoked_certificate", Notice;
    /// The server name leads to no backend.
    NoRoute = "no_route", Notice;
    /// No backend could be reached by TLS; the last one failed in its handshake.
    BackendTls = "backend_tls_failed", Fault;
    /// No backend can be used.
    NoBackend = "no_backend", Fault;
    /// All backends are full and there is no queue.
    BackendFull = "backend_full", Fault;
    /// All backends are full and so is the queue.
    QueueFull = "queue_full", Fault;
    /// No backend had room in time.
    QueueTimeout = "queue_timeout", Fault;
    /// No backend accepted; the last one refused or could not be reached.
    ConnectFailed = "connect_failed", Fault;
    /// No backend accepted; the last one did not answer in time.
    ConnectTimeout = "connect_timeout", Fault;
    /// The backend had ended its half and was gone when the client still sent.
    UpstreamClosed = "upstream_closed", Fine;
    /// The backend reset its connection.
    UpstreamReset = "upstream_reset", Fault;
    /// The connection to the backend failed otherwise.
    UpstreamLost = "upstream_lost", Fault;
    /// What the backend sent within its session was no TLS, or it ended the session by an alert: by
    /// TLS 1.3 it refuses a certificate so.
    UpstreamTls = "upstream_tls_broken", Fault;
    /// Cut because this node ends.
    ShutdownCut = "shutdown_cut", Notice;
    /// A defect of ours ended the session.
    Panic = "panic", Fault;
}

/// The end of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Why.
    pub reason: Reason,
    /// By whom.
    pub side: Side,
}

impl Outcome {
    /// `reason`, caused by `side`.
    pub fn new(reason: Reason, side: Side) -> Self {
        Outcome { reason, side }
    }
}

impl From<CapReached> for Outcome {
    fn from(cap: CapReached) -> Self {
        match cap {
            CapReached::PerClient => Outcome::new(Reason::ClientCap, Side::Client),
            CapReached::Total => Outcome::new(Reason::RuleCap, Side::Proxy),
        }
    }
}

impl From<&DialError> for Outcome {
    fn from(error: &DialError) -> Self {
        let reason = match error {
            DialError::NoBackend => Reason::NoBackend,
            DialError::NotAllowed => return Outcome::new(Reason::NotAuthorized, Side::Client),
            DialError::Full => Reason::BackendFull,
            DialError::QueueFull => Reason::QueueFull,
            DialError::QueueTimeout => Reason::QueueTimeout,
            DialError::Connect { error, .. } if is_ours(error) => {
                return Outcome::new(Reason::ConnectFailed, Side::Proxy);
            }
            DialError::Connect { error, .. } if error.kind() == io::ErrorKind::InvalidData => {
                Reason::BackendTls
            }
            DialError::Connect { .. } => Reason::ConnectFailed,
            DialError::Timeout { .. } | DialError::Deadline => Reason::ConnectTimeout,
        };
        Outcome::new(reason, Side::Upstream)
    }
}

impl From<&net::End> for Outcome {
    fn from(end: &net::End) -> Self {
        match end {
            net::End::Done { first } => Outcome::new(Reason::Ok, (*first).into()),
            net::End::Idle => Outcome::new(Reason::IdleTimeout, Side::Proxy),
            net::End::Failed { side, after_its_end, error } => {
                let gone = matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionReset
                        | io::ErrorKind::ConnectionAborted
                        | io::ErrorKind::BrokenPipe
                );
                let reason = match (side, after_its_end, gone) {
                    (net::Side::Client, ..) if end.broken_tls().is_some() => Reason::ClientTls,
                    (net::Side::Upstream, ..) if end.broken_tls().is_some() => Reason::UpstreamTls,
                    (net::Side::Client, true, true) => Reason::ClientClosed,
                    (net::Side::Client, false, true) => Reason::ClientReset,
                    (net::Side::Client, _, false) => Reason::ClientLost,
                    (net::Side::Upstream, true, true) => Reason::UpstreamClosed,
                    (net::Side::Upstream, false, true) => Reason::UpstreamReset,
                    (net::Side::Upstream, _, false) => Reason::UpstreamLost,
                };
                Outcome::new(reason, (*side).into())
            }
        }
    }
}

/// Whether a failed connect is this node's own lack rather than the backend's.
fn is_ours(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::EADDRNOTAVAIL)
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn labels_are_distinct() {
        let labels: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.label()).collect();
        assert_eq!(labels.len(), Reason::ALL.len());
        assert!(Reason::ALL.iter().enumerate().all(|(n, reason)| n == *reason as usize));
    }

    #[test]
    fn a_reset_by_the_client_is_no_fault_and_one_by_the_backend_is() {
        let reset = |side, after_its_end| {
            let error = io::ErrorKind::ConnectionReset.into();
            Outcome::from(&net::End::Failed { side, after_its_end, error })
        };
        let by_client = reset(net::Side::Client, false);
        assert_eq!(by_client, Outcome::new(Reason::ClientReset, Side::Client));
        assert_eq!(by_client.reason.level(), Level::Fine);
        let by_backend = reset(net::Side::Upstream, false);
        assert_eq!(by_backend, Outcome::new(Reason::UpstreamReset, Side::Upstream));
        assert_eq!(by_backend.reason.level(), Level::Fault);
        assert_eq!(reset(net::Side::Upstream, true).reason, Reason::UpstreamClosed);
    }

    #[test]
    fn a_lack_of_descriptors_is_blamed_on_this_node_and_not_on_the_backend() {
        let failed = |code| {
            let address = crate::base::BackendAddr("127.0.0.1:1".parse().unwrap());
            let error = io::Error::from_raw_os_error(code);
            Outcome::from(&DialError::Connect { address, error, attempts: 1, took_us: 0 })
        };
        assert_eq!(failed(libc::EMFILE).side, Side::Proxy);
        assert_eq!(failed(libc::ECONNREFUSED).side, Side::Upstream);
    }
}
