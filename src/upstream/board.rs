//! What a pool knows of its backends: the state behind the picture. Plain data and judgement; the
//! lock around it, the tasks and the publishing are `core`'s.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::plan::PoolPlan;
use super::seat::Seat;
use super::slot::Slot;
use super::status::{BackendState, BackendStatus, PoolStatus};
use crate::base::{BackendAddr, Endpoint};
use crate::health::{Condition, Ejection, Opinion, SlowStart, Standing, Verdict, Watch, may_eject};

/// All backends of a pool.
#[derive(Debug, Default)]
pub(super) struct Board {
    /// One for each backend of the plan, in its order.
    pub(super) origins: Vec<Origin>,
    /// What the published picture was made from.
    pub(super) standings: Vec<Standing>,
    /// Those that take no new connections: configured names or single addresses.
    pub(super) drained: HashSet<Endpoint>,
    /// Replaced or dropped: nothing is changed any more.
    pub(super) closed: bool,
}

/// A configured backend: an address, or a name with any number of them.
#[derive(Debug, Default)]
pub(super) struct Origin {
    pub(super) backends: Vec<Backend>,
    /// A name that was never resolved, nor failed to.
    pub(super) pending: bool,
    /// Why the name was not resolved the last time.
    pub(super) trouble: Option<String>,
    /// Keeps the name resolved.
    pub(super) _task: Option<Task>,
}

/// One address.
#[derive(Debug)]
pub(super) struct Backend {
    pub(super) slot: Arc<Slot>,
    pub(super) seat: Arc<Seat>,
    pub(super) health: Health,
    /// Makes the checker check at once.
    pub(super) poke: Arc<Notify>,
    pub(super) _checker: Option<Task>,
}

/// What is known of an address; goes over to the next pool on a reload.
#[derive(Clone, Debug, Default)]
pub(super) struct Health {
    pub(super) watch: Watch,
    pub(super) ejection: Ejection,
    pub(super) slow_start: SlowStart,
    /// Came when the pool was running already: its first *up* is a slow start too.
    pub(super) late: bool,
    pub(super) last_check: String,
}

/// A task that ends with its owner.
#[derive(Debug)]
pub(super) struct Task(pub(super) JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Backend {
    pub(super) fn address(&self) -> SocketAddr {
        self.slot.account.address
    }

    pub(super) fn opinion(&self, plan: &PoolPlan) -> Opinion {
        match plan.check.kind {
            // Without checks there is nothing to disagree about.
            None => Opinion::Good,
            Some(_) => self.health.watch.opinion(),
        }
    }

    fn condition(&self, plan: &PoolPlan, now: Instant) -> Condition {
        if self.health.ejection.until().is_some() {
            return Condition::Out;
        }
        let percent = self.health.slow_start.percent(plan.slow_start, now);
        match self.opinion(plan) {
            Opinion::Good => Condition::Usable { percent },
            Opinion::Doubted => Condition::Usable { percent: percent / 2 },
            Opinion::Bad => Condition::Out,
            Opinion::Unknown => Condition::Unknown,
        }
    }

    fn state(&self, plan: &PoolPlan) -> BackendState {
        if self.health.ejection.until().is_some() {
            return BackendState::Ejected;
        }
        match self.opinion(plan) {
            Opinion::Good | Opinion::Doubted => BackendState::Up,
            Opinion::Bad => BackendState::Down,
            Opinion::Unknown => BackendState::Unchecked,
        }
    }

    fn status(&self, plan: &PoolPlan) -> BackendStatus {
        let (account, watch) = (&self.slot.account, &self.health.watch);
        let count = |counter: &std::sync::atomic::AtomicU64| {
            counter.load(std::sync::atomic::Ordering::Relaxed)
        };
        BackendStatus {
            name: self.slot.name.clone(),
            address: Some(BackendAddr(account.address)),
            state: self.state(plan),
            weight: self.slot.weight,
            backup: self.slot.backup,
            active: account.active(),
            elsewhere: account.gauge.elsewhere(),
            connections: count(&account.connections),
            connect_failures: count(&account.failures),
            last_check: self.health.last_check.clone(),
            own: plan.check.kind.as_ref().and(watch.own()).and_then(|_| self.seat.report()),
            votes: watch.votes().to_vec(),
            checked_here: plan.check.kind.is_some() && !watch.relieved(),
        }
    }
}

impl Board {
    /// All backends, in the plan's order.
    pub(super) fn backends(&self) -> impl Iterator<Item = &Backend> {
        self.origins.iter().flat_map(|origin| &origin.backends)
    }

    /// All backends, to change.
    pub(super) fn backends_mut(&mut self) -> impl Iterator<Item = &mut Backend> {
        self.origins.iter_mut().flat_map(|origin| &mut origin.backends)
    }

    /// The backend at `address`.
    pub(super) fn find(&mut self, address: SocketAddr) -> Option<&mut Backend> {
        self.backends_mut().find(|backend| backend.address() == address)
    }

    /// Whether a backend takes no new connections.
    fn drains(&self, backend: &Backend) -> bool {
        !self.drained.is_empty()
            && (self.drained.contains(&backend.slot.name)
                || self.drained.contains(&Endpoint::from(backend.address())))
    }

    /// How each backend stands now.
    pub(super) fn standings(&self, plan: &PoolPlan, now: Instant) -> Vec<Standing> {
        let standing = |backend: &Backend| Standing {
            // Without weight it is used by nobody, in a panic neither, and counts for no share.
            weight: if self.drains(backend) { 0 } else { backend.slot.weight },
            backup: backend.slot.backup,
            condition: backend.condition(plan, now),
        };
        self.backends().map(standing).collect()
    }

    /// Whether everything had its first result.
    pub(super) fn is_ready(&self, plan: &PoolPlan) -> bool {
        let checked =
            |backend: &Backend| plan.check.kind.is_none() || backend.health.watch.checked_once();
        self.origins.iter().all(|origin| !origin.pending) && self.backends().all(checked)
    }

    /// Sends the backend at `address` out, when it may be; for how long.
    pub(super) fn eject(
        &mut self,
        address: SocketAddr,
        plan: &PoolPlan,
        now: Instant,
    ) -> Option<Duration> {
        let out = |backend: &&Backend| backend.health.ejection.until().is_some();
        let total = self.backends().filter(|backend| !self.drains(backend)).count();
        let ejected = self.backends().filter(out).count();
        let backend = self.find(address)?;
        let in_use = backend.health.ejection.until().is_none()
            && matches!(backend.opinion(plan), Opinion::Good | Opinion::Doubted);
        let may = in_use && may_eject(&plan.outlier, ejected, total);
        may.then(|| backend.health.ejection.eject(&plan.outlier, now))
    }

    /// When something will change by time alone.
    pub(super) fn next_change(&self, plan: &PoolPlan, now: Instant) -> Option<Instant> {
        let step = |health: &Health| health.slow_start.next_step(plan.slow_start, now);
        self.backends().filter_map(|b| b.health.ejection.until().or_else(|| step(&b.health))).min()
    }

    /// For people and metrics; the queue's length is the caller's.
    pub(super) fn status(&self, plan: &PoolPlan, now: Instant) -> PoolStatus {
        let mut backends = Vec::new();
        for (origin, configured) in self.origins.iter().zip(&plan.backends) {
            backends.extend(origin.backends.iter().map(|backend| {
                let status = backend.status(plan);
                let state =
                    if self.drains(backend) { BackendState::Draining } else { status.state };
                BackendStatus { state, ..status }
            }));
            if origin.backends.is_empty() {
                backends.push(BackendStatus {
                    name: configured.address.clone(),
                    address: None,
                    state: match origin.trouble {
                        Some(_) => BackendState::Down,
                        None => BackendState::Unchecked,
                    },
                    weight: configured.weight,
                    backup: configured.backup,
                    active: 0,
                    elsewhere: 0,
                    connections: 0,
                    connect_failures: 0,
                    last_check: origin.trouble.clone().unwrap_or_default(),
                    own: None,
                    votes: Vec::new(),
                    checked_here: false,
                });
            }
        }
        let standings = self.standings(plan, now);
        let usable = |(s, backend): &(&Standing, &Backend)| {
            matches!(s.condition, Condition::Usable { .. }) && !self.drains(backend)
        };
        let usable = standings.iter().zip(self.backends()).filter(usable).count();
        let total = backends.len();
        PoolStatus { backends, usable, total, panic: false, queued: 0 }
    }
}

/// What a pool hands to the one that replaces it.
#[derive(Debug, Default)]
pub(super) struct Legacy {
    pub(super) by_address: HashMap<SocketAddr, Heirloom>,
    /// Addresses of resolved names, by the origin's endpoint.
    pub(super) names: HashMap<crate::base::Endpoint, Vec<SocketAddr>>,
}

/// One address of it.
#[derive(Debug)]
pub(super) struct Heirloom {
    pub(super) slot: Arc<Slot>,
    pub(super) seat: Arc<Seat>,
    pub(super) health: Health,
}

impl Board {
    /// What the next pool takes over. With `asks_anew`, checks ask something else than before, so
    /// that their first result counts at once.
    pub(super) fn legacy(&self, plan: &PoolPlan, asks_anew: bool) -> Legacy {
        let mut legacy = Legacy::default();
        for (origin, configured) in self.origins.iter().zip(&plan.backends) {
            if configured.address.literal().is_none() && !origin.backends.is_empty() {
                let addresses = origin.backends.iter().map(Backend::address).collect();
                legacy.names.insert(configured.address.clone(), addresses);
            }
            for backend in &origin.backends {
                let mut health = backend.health.clone();
                if asks_anew {
                    health.watch.begin_afresh();
                }
                let heirloom = Heirloom {
                    slot: Arc::clone(&backend.slot),
                    seat: Arc::clone(&backend.seat),
                    health,
                };
                legacy.by_address.insert(backend.address(), heirloom);
            }
        }
        legacy
    }
}

/// A verdict in a log line.
pub(super) fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Up => "up",
        Verdict::Down => "down",
    }
}
