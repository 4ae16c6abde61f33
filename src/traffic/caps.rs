//! Caps on connections at once, per client and over all clients. On one node they are exact: a
//! permit is taken and given back under the client's lock, and the total is never above its cap, not
//! even for a moment. Over the cluster a connection needs a permit that this node holds, or has to
//! ask for one: see [`Holdings`].

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;

use super::ask::Answering;
use super::client_key::{client_hash, client_key};
use super::holdings::{CapKey, Holding, Holdings};
use super::plan::CapsPlan;
use crate::base::{KeyHash, LimitId};

const SHARDS: usize = 64;

/// The caps of one rule and who is in.
#[derive(Debug)]
pub struct Caps {
    plan: CapsPlan,
    ipv6_prefix: u8,
    inside: Arc<Inside>,
    shared: Option<Shared>,
}

/// Who is in.
#[derive(Debug)]
struct Inside {
    /// Connections per client; only clients with a connection have an entry. Empty when the caps are
    /// over the cluster.
    clients: Box<[Mutex<HashMap<IpAddr, u32>>]>,
    hash: RandomState,
    active: AtomicU32,
}

/// What caps over the cluster stand on.
#[derive(Clone, Debug)]
struct Shared {
    holdings: Arc<Holdings>,
    /// So that keys hash alike on every node.
    salt: u64,
    per_client: LimitId,
    total: Option<Arc<Holding>>,
}

/// The right to be connected; given back on drop.
#[derive(Debug)]
pub struct Permit {
    inside: Arc<Inside>,
    /// Whose count goes down; `None` when clients are not counted.
    client: Option<IpAddr>,
    _shared: Option<SharedPermit>,
}

#[derive(Debug)]
struct SharedPermit {
    client: Option<(Arc<Holdings>, CapKey)>,
    total: Option<Arc<Holding>>,
}

/// Which cap is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CapReached {
    /// The client has as many connections as one client may.
    PerClient,
    /// The rule has as many connections as all clients together may.
    Total,
}

/// No permit was at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denied {
    /// Under which cap.
    pub cap: CapReached,
    /// Which permits to ask for; `None` when the cap is reached and there is nobody to ask.
    pub ask: Option<CapKey>,
}

impl CapReached {
    /// For metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            CapReached::PerClient => "client_connection_limit",
            CapReached::Total => "connection_limit",
        }
    }
}

impl Caps {
    /// IPv6 clients count together by `ipv6_prefix` bits. Caps of this node alone, whatever the plan
    /// says.
    pub fn new(plan: CapsPlan, ipv6_prefix: u8) -> Self {
        let inside = Inside {
            clients: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hash: RandomState::new(),
            active: AtomicU32::new(0),
        };
        Caps { plan, ipv6_prefix, inside: Arc::new(inside), shared: None }
    }

    /// Other caps over the same connections: those that are in count on. Only clients of another
    /// prefix length begin anew, for they are others; and so do all when the caps become those of
    /// the cluster, or of this node.
    pub fn succeed(&self, plan: CapsPlan, ipv6_prefix: u8) -> Self {
        if ipv6_prefix != self.ipv6_prefix || plan.shared.is_some() != self.plan.shared.is_some() {
            return Caps::new(plan, ipv6_prefix);
        }
        Caps { plan, ipv6_prefix, inside: Arc::clone(&self.inside), shared: None }
    }

    /// With the permits of the cluster, when the plan wants it so; keys are hashed under `salt`.
    pub fn over(mut self, holdings: &Arc<Holdings>, salt: u64) -> Self {
        self.shared = self.plan.shared.map(|rule| {
            let key = CapKey { limit: rule.part("total"), key: KeyHash(0) };
            let total = self.plan.total.map(|most| holdings.holding(key, most.get()));
            let per_client = rule.part("per_client");
            Shared { holdings: Arc::clone(holdings), salt, per_client, total }
        });
        self
    }

    /// A permit for one more connection of `client`, or the cap that says no (the client's own
    /// first).
    pub fn enter(self: &Arc<Self>, client: IpAddr) -> Result<Permit, Denied> {
        let client = client_key(client, self.ipv6_prefix);
        let denied = |cap| Denied { cap, ask: None };
        let Some(shared) = &self.shared else { return self.enter_here(client).map_err(denied) };
        shared.enter(&self.plan, client, Holdings::take, |_, total| total.take()).map(|permit| {
            self.inside.active.fetch_add(1, Ordering::Relaxed);
            Permit { inside: Arc::clone(&self.inside), client: None, _shared: Some(permit) }
        })
    }

    /// As [`Caps::enter`], when nobody answers who could lend a permit: as long as this node's even
    /// share of the caps is not used up.
    pub fn enter_unasked(self: &Arc<Self>, client: IpAddr) -> Result<Permit, CapReached> {
        let client = client_key(client, self.ipv6_prefix);
        let Some(shared) = &self.shared else { return self.enter_here(client) };
        let (take, total) = (Holdings::take_unasked, Holdings::take_holding_unasked);
        let entered = shared.enter(&self.plan, client, take, total);
        entered.map_err(|denied| denied.cap).map(|permit| {
            self.inside.active.fetch_add(1, Ordering::Relaxed);
            Permit { inside: Arc::clone(&self.inside), client: None, _shared: Some(permit) }
        })
    }

    /// Asks for what was denied; then enter again. `None`: there is nobody to ask.
    pub fn ask(&self, denied: Denied) -> Option<Answering<'_>> {
        let (shared, key) = (self.shared.as_ref()?, denied.ask?);
        let cap = match denied.cap {
            CapReached::PerClient => self.plan.per_client,
            CapReached::Total => self.plan.total,
        };
        Some(shared.holdings.ask(key, cap?.get()))
    }

    fn enter_here(self: &Arc<Self>, client: IpAddr) -> Result<Permit, CapReached> {
        let permit = |client| Permit { inside: Arc::clone(&self.inside), client, _shared: None };
        let Some(most) = self.plan.per_client else {
            self.enter_total()?;
            return Ok(permit(None));
        };
        let mut clients = self.inside.shard(client).lock();
        let connections = clients.get(&client).copied().unwrap_or(0);
        if connections >= most.get() {
            return Err(CapReached::PerClient);
        }
        self.enter_total()?;
        clients.insert(client, connections + 1);
        Ok(permit(Some(client)))
    }

    /// Connections with a permit now, on this node.
    pub fn active(&self) -> u32 {
        self.inside.active.load(Ordering::Relaxed)
    }

    /// The caps.
    pub fn plan(&self) -> &CapsPlan {
        &self.plan
    }

    fn enter_total(&self) -> Result<(), CapReached> {
        let most = self.plan.total.map_or(u32::MAX, NonZeroU32::get);
        self.inside
            .active
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |active| {
                (active < most).then_some(active + 1)
            })
            .map(|_| ())
            .map_err(|_| CapReached::Total)
    }
}

impl Shared {
    fn enter(
        &self,
        plan: &CapsPlan,
        client: IpAddr,
        take_client: impl Fn(&Holdings, CapKey, u32) -> bool,
        take_total: impl Fn(&Holdings, &Holding) -> bool,
    ) -> Result<SharedPermit, Denied> {
        let mut permit = SharedPermit { client: None, total: None };
        if let Some(most) = plan.per_client {
            let key = CapKey { limit: self.per_client, key: client_hash(client, self.salt) };
            if !take_client(&self.holdings, key, most.get()) {
                return Err(Denied { cap: CapReached::PerClient, ask: Some(key) });
            }
            permit.client = Some((Arc::clone(&self.holdings), key));
        }
        if let Some(total) = &self.total {
            if !take_total(&self.holdings, total) {
                return Err(Denied { cap: CapReached::Total, ask: Some(total.key()) });
            }
            permit.total = Some(Arc::clone(total));
        }
        Ok(permit)
    }
}

impl Inside {
    fn shard(&self, client: IpAddr) -> &Mutex<HashMap<IpAddr, u32>> {
        &self.clients[self.hash.hash_one(client) as usize % SHARDS]
    }
}

impl Drop for SharedPermit {
    fn drop(&mut self) {
        if let Some((holdings, key)) = &self.client {
            holdings.give(*key);
        }
        if let Some(total) = &self.total {
            total.give();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some(client) = self.client else {
            self.inside.active.fetch_sub(1, Ordering::Relaxed);
            return;
        };
        let mut clients = self.inside.shard(client).lock();
        self.inside.active.fetch_sub(1, Ordering::Relaxed);
        if let Some(connections) = clients.get_mut(&client) {
            *connections -= 1;
            if *connections == 0 {
                clients.remove(&client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn caps(per_client: u32, total: u32) -> Arc<Caps> {
        let plan = CapsPlan {
            per_client: NonZeroU32::new(per_client),
            total: NonZeroU32::new(total),
            shared: None,
        };
        Arc::new(Caps::new(plan, 64))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_permit_is_given_back_on_drop() {
        let caps = caps(1, 0);
        let permit = caps.enter(ip("192.0.2.1")).unwrap();
        assert_eq!(caps.enter(ip("192.0.2.1")).unwrap_err().cap, CapReached::PerClient);
        assert!(caps.enter(ip("192.0.2.2")).is_ok());
        drop(permit);
        assert!(caps.enter(ip("192.0.2.1")).is_ok());
    }

    #[test]
    fn a_refused_client_takes_nothing_from_the_total() {
        let caps = caps(1, 2);
        let _first = caps.enter(ip("192.0.2.1")).unwrap();
        for _ in 0..5 {
            assert_eq!(caps.enter(ip("192.0.2.1")).unwrap_err().cap, CapReached::PerClient);
        }
        let _second = caps.enter(ip("192.0.2.2")).unwrap();
        assert_eq!(caps.enter(ip("192.0.2.3")).unwrap_err().cap, CapReached::Total);
        assert_eq!(caps.active(), 2);
    }

    #[test]
    fn connections_count_on_when_the_caps_change() {
        let before = caps(2, 3);
        let permit = before.enter(ip("192.0.2.1")).unwrap();
        let after =
            CapsPlan { per_client: NonZeroU32::new(1), total: NonZeroU32::new(2), shared: None };
        let after = Arc::new(before.succeed(after, 64));
        assert_eq!(after.enter(ip("192.0.2.1")).unwrap_err().cap, CapReached::PerClient);
        let _other = after.enter(ip("192.0.2.2")).unwrap();
        assert_eq!(after.enter(ip("192.0.2.3")).unwrap_err().cap, CapReached::Total);
        drop(permit);
        assert!(after.enter(ip("192.0.2.1")).is_ok());
    }

    #[test]
    fn an_ipv6_prefix_is_one_client() {
        let caps = caps(1, 0);
        let _permit = caps.enter(ip("2001:db8::1")).unwrap();
        assert!(caps.enter(ip("2001:db8::2")).is_err());
        assert!(caps.enter(ip("2001:db8:0:1::1")).is_ok());
    }

    #[test]
    fn nothing_is_remembered_of_clients_that_are_gone() {
        let caps = caps(5, 0);
        for n in 0..10_000u32 {
            caps.enter(IpAddr::V4(n.into())).unwrap();
        }
        assert_eq!(caps.inside.clients.iter().map(|shard| shard.lock().len()).sum::<usize>(), 0);
        assert_eq!(caps.active(), 0);
    }

    #[test]
    fn caps_are_exact_while_threads_come_and_go() {
        let caps = caps(3, 10);
        let inside = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for thread in 0..8u32 {
                let (caps, inside) = (&caps, &inside);
                scope.spawn(move || {
                    for n in 0..5_000u32 {
                        let Ok(permit) = caps.enter(IpAddr::V4(((n + thread) % 5).into())) else {
                            continue;
                        };
                        assert!(inside.fetch_add(1, Ordering::SeqCst) < 10);
                        if n % 3 == 0 {
                            std::thread::yield_now();
                        }
                        inside.fetch_sub(1, Ordering::SeqCst);
                        drop(permit);
                    }
                });
            }
        });
        assert_eq!(caps.active(), 0);
        let held: Vec<_> = (0..3).map(|_| caps.enter(ip("192.0.2.1")).unwrap()).collect();
        assert_eq!(caps.enter(ip("192.0.2.1")).unwrap_err().cap, CapReached::PerClient);
        drop(held);
    }
}
