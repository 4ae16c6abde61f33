//! How a library balancer is described and started.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use tokio::runtime::Handle;

use super::Balancer;
use crate::balance::Policy;
use crate::base::{Endpoint, LimitId, RuleName, Share, time};
use crate::health::{CheckPlan, NoPeers, OutlierPlan, Verdicts};
use crate::net::{Resolver, resolver::ResolveError};
use crate::traffic::{
    Action, Algorithm, ClientPacers, IPV6_PREFIX, LimitKey, LimitPlan, LimitScope, Limiter,
    MAX_KEYS, Quota, Rates, Sharing,
};
use crate::upstream::{BackendPlan, Pool, PoolPlan, PoolWindows, QueuePlan};

/// Describes a [`Balancer`].
#[derive(Clone, Debug)]
pub struct BalancerBuilder {
    pool: PoolPlan,
    /// Tokens per second, and how many can be saved.
    rate: Option<(f64, f64)>,
    client_bandwidth: Rates,
    idle_timeout: Duration,
}

/// Why a balancer cannot be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Its checks need one.
    #[error("a balancer is started on a tokio runtime, and there is none here")]
    NoRuntime,
    /// Nobody to send to.
    #[error("a balancer needs a backend")]
    NoBackend,
    /// The same backend again.
    #[error("the backend `{0}` is given twice")]
    Twice(Endpoint),
    /// Nobody can connect there.
    #[error("the backend `{0}` has port 0")]
    NoPort(Endpoint),
    /// No token bucket.
    #[error(
        "a rate of {rate} with a burst of {burst} is no limit: a rate is above 0, a burst is 1 or \
         more"
    )]
    NoQuota {
        /// As given.
        rate: f64,
        /// As given.
        burst: f64,
    },
    /// Names of backends cannot be resolved.
    #[error(transparent)]
    Resolver(#[from] ResolveError),
}

impl Default for BalancerBuilder {
    /// Least connections; TCP checks every 3 s; three attempts of 2 s; ten minutes of silence end a
    /// connection; no limits.
    fn default() -> Self {
        BalancerBuilder {
            pool: PoolPlan { policy: Policy::LeastConnections, ..PoolPlan::new("balancer") },
            rate: None,
            client_bandwidth: Rates::default(),
            idle_timeout: Duration::from_secs(600),
        }
    }
}

impl BalancerBuilder {
    /// What it is called in logs.
    pub fn name(mut self, name: &str) -> Self {
        self.pool.rule = RuleName::from(name);
        self
    }

    /// One more backend: an address, an [`Endpoint`] (whose name is resolved, and re-resolved), or a
    /// [`BackendPlan`] with a weight, a cap or TLS of its own.
    pub fn backend(mut self, backend: impl Into<BackendPlan>) -> Self {
        self.pool.backends.push(backend.into());
        self
    }

    /// More backends.
    pub fn backends<B: Into<BackendPlan>>(mut self, backends: impl IntoIterator<Item = B>) -> Self {
        self.pool.backends.extend(backends.into_iter().map(Into::into));
        self
    }

    /// Who is asked first. Consistent hashing goes by the client's address.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.pool.policy = policy;
        self
    }

    /// How backends are checked; a `kind` of `None` switches checks off.
    pub fn health_check(mut self, check: CheckPlan) -> Self {
        self.pool.check = check;
        self
    }

    /// How backends are left alone after failed connects; 0 failures switch that off.
    pub fn outlier(mut self, outlier: OutlierPlan) -> Self {
        self.pool.outlier = outlier;
        self
    }

    /// Below this healthy share all backends are used; 0 switches that off.
    pub fn panic_threshold(mut self, share: Share) -> Self {
        self.pool.panic_threshold = share;
        self
    }

    /// How long one connect to a backend may take.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.pool.connect_timeout = timeout;
        self
    }

    /// How many backends are tried for one connection.
    pub fn connect_attempts(mut self, attempts: NonZeroU32) -> Self {
        self.pool.connect_attempts = attempts.get();
        self
    }

    /// Connections per backend at once.
    pub fn backend_connection_limit(mut self, most: NonZeroU32) -> Self {
        self.pool.connection_limit = Some(most);
        self
    }

    /// Lets clients wait for a full backend.
    pub fn queue(mut self, queue: QueuePlan) -> Self {
        self.pool.queue = queue;
        self
    }

    /// Connections per second and client id, by a token bucket: so many come back every second, at
    /// most `burst` are saved. Clients beyond are refused.
    pub fn rate_limit(mut self, per_second: f64, burst: f64) -> Self {
        self.rate = Some((per_second, burst));
        self
    }

    /// Bytes per second of all connections of one client id.
    pub fn client_bandwidth(mut self, rates: Rates) -> Self {
        self.client_bandwidth = rates;
        self
    }

    /// Bytes per second of all connections to one backend.
    pub fn backend_bandwidth(mut self, rates: Rates) -> Self {
        self.pool.bandwidth = rates;
        self
    }

    /// Ends a connection that carried nothing either way for this long; zero: never.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = timeout;
        self
    }

    /// Starts it, with its checks, on the current tokio runtime.
    ///
    /// # Errors
    /// [`StartError`]: what was described cannot be, or there is no runtime.
    pub fn start(self) -> Result<Balancer, StartError> {
        Handle::try_current().map_err(|_| StartError::NoRuntime)?;
        self.judge_backends()?;
        let limiter = self.limiter()?.map(Arc::new);
        let BalancerBuilder { pool, client_bandwidth: rates, idle_timeout, .. } = self;
        let windows = PoolWindows {
            resolver: Resolver::from_system()?,
            verdicts: Arc::new(Verdicts::default()),
            peers: Arc::new(NoPeers),
            holdings: Arc::default(),
            pace: Arc::default(),
            tally: Arc::default(),
        };
        let paced = rates.upload.is_some() || rates.download.is_some();
        Ok(Balancer {
            pool: Pool::start(pool, windows, None, rand::random()),
            limiter,
            pacers: paced.then(|| Arc::new(ClientPacers::new(rates, IPV6_PREFIX))),
            idle_timeout,
            lingering: AtomicU32::new(0),
        })
    }

    fn judge_backends(&self) -> Result<(), StartError> {
        let mut addresses: Vec<_> = self.pool.backends.iter().map(|one| &one.address).collect();
        if addresses.is_empty() {
            return Err(StartError::NoBackend);
        }
        if let Some(nowhere) = addresses.iter().find(|address| address.port == 0) {
            return Err(StartError::NoPort((*nowhere).clone()));
        }
        addresses.sort();
        match addresses.windows(2).find(|two| two[0] == two[1]) {
            Some(two) => Err(StartError::Twice(two[0].clone())),
            None => Ok(()),
        }
    }

    fn limiter(&self) -> Result<Option<Limiter>, StartError> {
        let Some((rate, burst)) = self.rate else { return Ok(None) };
        let quota = Quota::new(rate, burst).ok_or(StartError::NoQuota { rate, burst })?;
        let plan = LimitPlan {
            id: LimitId::of_rule(&self.pool.rule),
            algorithm: Algorithm::TokenBucket(quota),
            scope: LimitScope::Node,
            key: LimitKey::Identity,
            action: Action::Reject,
            ipv6_prefix: IPV6_PREFIX,
            exempt: Vec::new(),
            shadow: false,
            max_keys: MAX_KEYS,
            sharing: Sharing::default(),
        };
        Ok(Some(Limiter::new(plan, rand::random(), rand::random(), time::now())))
    }
}
