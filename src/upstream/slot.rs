//! One backend as connections meet it: its count of live ones, its cap, its pace; and the lease
//! that gives a place back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use super::queue::Queue;
use crate::balance::Gauge;
use crate::base::{BackendAddr, Endpoint};
use crate::net::tls::Originator;
use crate::traffic::{Holding, Holdings, Pacer};

/// What is counted of an address. Outlives pools: a reload carries it over, and so does a name
/// that leaves an address and comes back to it while connections to it live.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) address: SocketAddr,
    /// Connections live or being made, and those of the other nodes. Counted before the connect,
    /// so that a hundred dials at once cannot pass a cap together.
    pub(super) gauge: Arc<Gauge>,
    /// Connections made since start.
    pub(super) connections: AtomicU64,
    /// Connects that failed since start.
    pub(super) failures: AtomicU64,
    /// Connects that failed since the last that did not.
    pub(super) failures_in_a_row: AtomicU32,
    /// Other nodes check it: a connect that fails is news.
    pub(super) relieved: AtomicBool,
    queue: Arc<Queue>,
}

impl Account {
    pub(super) fn new(address: SocketAddr, gauge: Arc<Gauge>, queue: Arc<Queue>) -> Self {
        Account {
            address,
            gauge,
            connections: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            failures_in_a_row: AtomicU32::new(0),
            relieved: AtomicBool::new(false),
            queue,
        }
    }

    pub(super) fn active(&self) -> u32 {
        self.gauge.own()
    }

    /// A connect succeeded.
    pub(super) fn connected(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        // Read first: the line stays shared between workers as long as nothing fails.
        if self.failures_in_a_row.load(Ordering::Relaxed) != 0 {
            self.failures_in_a_row.store(0, Ordering::Relaxed);
        }
    }

    /// A connect failed; how many have in a row.
    pub(super) fn failed(&self) -> u32 {
        self.failures.fetch_add(1, Ordering::Relaxed);
        self.failures_in_a_row.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }
}

/// A backend in one pool: the account and what this pool's plan says of it.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) account: Arc<Account>,
    /// As configured.
    pub(super) name: Endpoint,
    /// The same on every node.
    pub(super) id: u64,
    pub(super) weight: u32,
    pub(super) backup: bool,
    /// Most connections at once.
    pub(super) cap: Option<u32>,
    /// Permits, when that is over the cluster.
    pub(super) holding: Option<Arc<Holding>>,
    /// TLS towards it.
    pub(super) tls: Option<Originator>,
    pub(super) upload: Option<Arc<Pacer>>,
    pub(super) download: Option<Arc<Pacer>>,
}

impl Slot {
    /// Takes a place, or `None` when it is full.
    pub(super) fn take_place(self: &Arc<Self>) -> Option<Lease> {
        let active = &self.account.gauge.own;
        // SeqCst here and where a place goes back: see `Queue`.
        let taken = match (&self.holding, self.cap) {
            (Some(holding), _) => {
                let taken = holding.take();
                active.fetch_add(u32::from(taken), Ordering::SeqCst);
                taken
            }
            (None, None) => {
                active.fetch_add(1, Ordering::SeqCst);
                true
            }
            (None, Some(cap)) => active
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |now| {
                    (now < cap).then_some(now + 1)
                })
                .is_ok(),
        };
        taken.then(|| Lease(Arc::clone(self)))
    }

    /// As [`Slot::take_place`], when nobody answers who could lend a permit.
    pub(super) fn take_place_unasked(self: &Arc<Self>, all: &Holdings) -> Option<Lease> {
        let holding = self.holding.as_ref()?;
        all.take_holding_unasked(holding).then(|| {
            self.account.gauge.own.fetch_add(1, Ordering::SeqCst);
            Lease(Arc::clone(self))
        })
    }
}

/// A place at a backend, given back on drop. One pointer: it is held as long as the connection.
#[derive(Debug)]
#[must_use = "the place is given back when the lease is dropped"]
pub struct Lease(Arc<Slot>);

impl Lease {
    /// Which backend.
    pub fn address(&self) -> BackendAddr {
        BackendAddr(self.0.account.address)
    }

    /// The backend's pace from clients, shared by all its connections; `None` is unlimited.
    pub fn upload(&self) -> Option<&Pacer> {
        self.0.upload.as_deref()
    }

    /// The backend's pace to clients, shared by all its connections; `None` is unlimited.
    pub fn download(&self) -> Option<&Pacer> {
        self.0.download.as_deref()
    }

    /// How to begin TLS with the backend; `None`: it is reached without.
    pub(super) fn tls(&self) -> Option<&Originator> {
        self.0.tls.as_ref()
    }

    pub(super) fn account(&self) -> &Account {
        &self.0.account
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let account = &self.0.account;
        account.gauge.own.fetch_sub(1, Ordering::SeqCst);
        if let Some(holding) = &self.0.holding {
            holding.give();
        }
        account.queue.place_freed();
    }
}
