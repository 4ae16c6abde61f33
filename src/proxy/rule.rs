//! A running rule, and the table of all of them.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::server::ProducesTickets;

use crate::base::{ListenAddr, View};
use crate::net::TcpOptions;
use crate::net::tls::{SetupError, Terminator, TlsMode, TlsPlan, TlsRoute};
use crate::traffic::{Access, Authorization, Bans, Caps, ClientPacers, Limiter};
use crate::upstream::Pool;

use super::access_log::AccessLog;
use super::plan::RulePlan;
use super::stats::RuleStats;

/// A rule and everything that stands behind it. A connection keeps the rule that it began with.
pub struct Rule {
    /// What was asked for.
    pub plan: RulePlan,
    /// Backends.
    pub pool: Arc<Pool>,
    /// By network.
    pub access: Access,
    /// Connections at once; `None`: no cap.
    pub caps: Option<Arc<Caps>>,
    /// Connections per second; `None`: no limit.
    pub limiter: Option<Arc<Limiter>>,
    /// Bytes per second and client; `None`: not paced.
    pub client_pacers: Option<Arc<ClientPacers>>,
    /// TLS with clients; `None`: none.
    pub tls: Option<Arc<RuleTls>>,
    /// By identity; `None`: everybody may use every backend.
    pub authorization: Option<Arc<Authorization>>,
    /// What it has done; carried over by reloads as long as the rule keeps its name.
    pub stats: Arc<RuleStats>,
}

/// A rule's TLS at work.
#[derive(Debug)]
pub struct RuleTls {
    /// `None`: it ends at the backend.
    pub terminator: Option<Terminator>,
    /// A hello, and the whole handshake, must be done within this.
    pub handshake_timeout: Duration,
    /// Which backends a name or a protocol leads to.
    pub routes: Vec<TlsRoute>,
}

impl RuleTls {
    /// As `plan` asks for; sessions are resumed by `tickets`.
    ///
    /// # Errors
    /// What rustls does not take of it.
    pub fn new(plan: &TlsPlan, tickets: Arc<dyn ProducesTickets>) -> Result<RuleTls, SetupError> {
        let terminator = match &plan.mode {
            TlsMode::Passthrough => None,
            TlsMode::Terminate(plan) => Some(Terminator::new(plan, tickets)?),
        };
        let (handshake_timeout, routes) = (plan.handshake_timeout, plan.routes.clone());
        Ok(RuleTls { terminator, handshake_timeout, routes })
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rule").field("plan", &self.plan).finish_non_exhaustive()
    }
}

/// All rules at one moment, published whole.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// In the order of the file.
    pub rules: Vec<Arc<Rule>>,
    /// The rule of each listener.
    pub by_listener: HashMap<ListenAddr, Arc<Rule>>,
    /// `tcp:`; [`TcpOptions::max_handshakes`] is what is read here.
    pub tcp: TcpOptions,
    /// Where sessions are told; `None`: nowhere.
    pub access_log: Option<Arc<AccessLog>>,
    /// Who may not connect, whatever the rule.
    pub bans: View<Bans>,
}

impl Snapshot {
    /// No rule at all.
    pub fn empty() -> Self {
        Snapshot::default()
    }

    /// `rules`, each at the addresses of its plan.
    pub fn new(rules: Vec<Arc<Rule>>, tcp: TcpOptions, access_log: Option<Arc<AccessLog>>) -> Self {
        let by_listener = rules
            .iter()
            .flat_map(|rule| {
                rule.plan.listen.iter().map(|addr| (ListenAddr(*addr), Arc::clone(rule)))
            })
            .collect();
        Snapshot { rules, by_listener, tcp, access_log, bans: View::default() }
    }

    /// The rule called `name`.
    pub fn rule(&self, name: &crate::base::RuleName) -> Option<&Arc<Rule>> {
        self.rules.iter().find(|rule| rule.plan.name == *name)
    }
}
