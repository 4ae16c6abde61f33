use std::time::Duration;

use crate::base::{BackendAddr, ClientAddr, ListenAddr, RuleName};
use crate::proxy::Outcome;

/// One session, told when it has ended.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// When it ended, milliseconds since 1970.
    pub(crate) ended_ms: u64,
    pub(crate) rule: RuleName,
    pub(crate) client: ClientAddr,
    pub(crate) listener: ListenAddr,
    /// The last one tried; `None` when none was.
    pub(crate) backend: Option<BackendAddr>,
    pub(crate) handshake: Duration,
    pub(crate) wait: Duration,
    pub(crate) connect: Duration,
    pub(crate) total: Duration,
    pub(crate) up: u64,
    pub(crate) down: u64,
    /// Backends tried.
    pub(crate) attempts: u32,
    pub(crate) outcome: Outcome,
    /// Where TLS was looked at, or something was wrong.
    pub(crate) secured: Option<Box<Secured>>,
}

/// What TLS has told of a session.
#[derive(Clone, Debug, Default)]
pub(crate) struct Secured {
    /// The version that was agreed on; `None`: nothing was, or not here.
    pub(crate) version: Option<&'static str>,
    /// The name that the client asked for.
    pub(crate) server_name: Option<Box<str>>,
    /// Who the client is, by its certificate.
    pub(crate) identity: Option<Box<str>>,
    /// The rule of `authorization` that left no backend for it, or `default`.
    pub(crate) denied_by: Option<Box<str>>,
    /// What was wrong with its PROXY header or its TLS, or with the connect to its backend.
    pub(crate) fault: Option<Box<str>>,
}
