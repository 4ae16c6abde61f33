//! A proxy without a node around it: rules, workers and listeners on port 0.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tidegate::base::drain::DrainSignal;
use tidegate::base::{Draining, ListenAddr, Publisher, RuleName, drain_signal, publish_and_view};
use tidegate::health::{CheckPlan, NoPeers, OutlierPlan, Verdicts};
use tidegate::net::tls::{TicketKeys, TicketSecret, TicketSet};
use tidegate::net::{Resolver, TcpOptions, bind_listeners};
use tidegate::proxy::{
    AccessLog, Rule, RuleFigures, RulePlan, RuleStats, RuleTls, Snapshot, Workers,
};
use tidegate::traffic::{Access, Authorization, Caps, ClientPacers, Limiter};
use tidegate::upstream::{BackendPlan, Pool, PoolPlan, PoolWindows};
use tokio::net::TcpStream;

const WORKERS: usize = 2;

/// A running proxy with one rule called `web`.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    pub(crate) workers: Workers,
    pub(crate) snapshot: Publisher<Snapshot>,
    pub(crate) stats: Arc<RuleStats>,
    tickets: Arc<TicketKeys>,
    drain: DrainSignal,
}

/// What a rule looks like unless a test says otherwise: no checks, no limits.
pub(crate) fn plan(backends: &[SocketAddr]) -> RulePlan {
    let name: RuleName = "web".into();
    RulePlan {
        name: name.clone(),
        listen: Vec::new(),
        pool: PoolPlan {
            backends: backends.iter().map(|address| BackendPlan::new(*address)).collect(),
            check: CheckPlan { kind: None, ..CheckPlan::default() },
            outlier: OutlierPlan { failures: 0, ..OutlierPlan::default() },
            ..PoolPlan::new(name)
        },
        idle_timeout: Duration::from_secs(600),
        rate_limit: None,
        caps: Default::default(),
        bandwidth: Default::default(),
        access: Default::default(),
        proxy_from: None,
        tls: None,
        authorization: None,
    }
}

/// Secrets of session tickets as a node without a cluster has them.
fn tickets() -> Arc<TicketKeys> {
    let secret = TicketSecret::new(0, [7; 32]);
    let keys = TicketKeys::new();
    let sealing = Some(secret.id);
    keys.publish(TicketSet { secrets: vec![secret], sealing, since_ms: 0, shared: false });
    keys
}

/// A rule that runs `plan`.
fn rule(plan: RulePlan, stats: Arc<RuleStats>, tickets: &Arc<TicketKeys>) -> Arc<Rule> {
    let now = std::time::Instant::now();
    let windows = PoolWindows {
        resolver: Resolver::from_system().unwrap(),
        verdicts: Arc::new(Verdicts::default()),
        tally: Arc::default(),
        peers: Arc::new(NoPeers),
        holdings: Arc::default(),
        pace: Arc::default(),
    };
    let client = plan.bandwidth.client;
    let caps = plan.caps;
    Arc::new(Rule {
        pool: Pool::start(plan.pool.clone(), windows, None, 1),
        access: Access::new(&plan.access),
        caps: (caps.per_client.is_some() || caps.total.is_some())
            .then(|| Arc::new(Caps::new(caps, 64))),
        limiter: plan.rate_limit.clone().map(|plan| Arc::new(Limiter::new(plan, 1, 2, now))),
        client_pacers: (client.upload.is_some() || client.download.is_some())
            .then(|| Arc::new(ClientPacers::new(client, 64))),
        tls: plan.tls.as_ref().map(|tls| {
            // All rules of a test share one context: what a session may not do here, it is not kept
            // from by its ticket.
            Arc::new(RuleTls::new(tls, tickets.ticketer(b"web")).unwrap())
        }),
        authorization: plan.authorization.as_ref().map(|plan| Arc::new(Authorization::new(plan))),
        stats,
        plan,
    })
}

impl Proxy {
    /// Before `backends`, otherwise plain.
    pub(crate) async fn before(backends: &[SocketAddr]) -> Proxy {
        Proxy::of(plan(backends)).await
    }

    pub(crate) async fn of(plan: RulePlan) -> Proxy {
        Proxy::with(plan, TcpOptions::default(), None).await
    }

    pub(crate) async fn with(
        mut plan: RulePlan,
        tcp: TcpOptions,
        access_log: Option<Arc<AccessLog>>,
    ) -> Proxy {
        let sockets = bind_listeners("127.0.0.1:0".parse().unwrap(), WORKERS, &tcp).unwrap();
        let address = sockets[0].local_addr().unwrap();
        plan.listen = vec![address];
        let stats = Arc::new(RuleStats::default());
        let tickets = tickets();
        let rule = rule(plan, Arc::clone(&stats), &tickets);
        rule.pool.first_checks().await;
        let (snapshot, view) = publish_and_view(Snapshot::new(vec![rule], tcp, access_log));
        let (drain, hear) = drain_signal();
        let workers = Workers::start(WORKERS, view, hear).unwrap();
        workers.listen(ListenAddr(address), sockets);
        Proxy { address, workers, snapshot, stats, tickets, drain }
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    pub(crate) fn figures(&self) -> RuleFigures {
        self.stats.figures()
    }

    /// Sessions that ended for `reason`.
    pub(crate) fn ended(&self, reason: &str) -> u64 {
        let figures = self.figures();
        figures.outcomes.iter().find(|(label, _)| *label == reason).map_or(0, |(_, count)| *count)
    }

    /// Waits until `count` sessions ended for `reason`.
    pub(crate) async fn has_ended(&self, reason: &str, count: u64) {
        let reached = tokio::time::timeout(super::SOON, async {
            while self.ended(reason) != count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        let outcomes = || self.figures().outcomes;
        assert!(reached.await.is_ok(), "waited for {count} × {reason}: {:?}", outcomes());
    }

    /// The time of live connections is over.
    pub(crate) fn over(&self) {
        self.drain.say(Draining::Over);
    }

    /// Puts a rule with `plan` in the place of the one that runs, at the same address.
    pub(crate) async fn reload(&self, mut plan: RulePlan) {
        plan.listen = vec![self.address];
        let rule = rule(plan, Arc::clone(&self.stats), &self.tickets);
        rule.pool.first_checks().await;
        let before = self.snapshot.current();
        self.snapshot.publish(Snapshot::new(vec![rule], before.tcp, before.access_log.clone()));
    }
}
