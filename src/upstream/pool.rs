//! A rule's backends: the outside of a pool.

use std::collections::HashSet;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::board::{Legacy, Origin, Task};
use super::core::Core;
use super::dial::DialError;
use super::narrow::{Allowed, Basis};
use super::picture::Picture;
use super::plan::PoolPlan;
use super::queue::{Queue, SharedQueue};
use super::slot::Account;
use super::status::PoolStatus;
use super::tasks;
use crate::balance::{Tally, Turn};
use crate::base::{Endpoint, View, publish_and_view, spawn_supervised, time};
use crate::health::{Peers, Verdicts};
use crate::net::Resolver;
use crate::traffic::{Holdings, SharedPace};

/// A check that runs into its timeout has its result a moment later.
const GRACE: Duration = Duration::from_millis(100);

/// What a pool sees of the world.
#[derive(Clone)]
pub struct PoolWindows {
    /// Resolves backends that are names.
    pub resolver: Resolver,
    /// Where own verdicts go.
    pub verdicts: Arc<Verdicts>,
    /// What the other nodes see.
    pub peers: Arc<dyn Peers>,
    /// Permits of caps over the cluster.
    pub holdings: Arc<Holdings>,
    /// Bandwidth that all nodes share.
    pub pace: Arc<SharedPace>,
    /// Where connections are counted, own and the other nodes'.
    pub tally: Arc<Tally>,
}

/// A rule's backends, shared by all workers. Its tasks run on the runtime it was started on, until
/// it is closed or dropped.
pub struct Pool {
    core: Arc<Core>,
    view: View<Picture>,
    /// Counts dials; the balancer's only shared position.
    turns: AtomicU64,
    /// Counts those that are narrowed, for what is random in them.
    narrowed: AtomicU64,
    serial: u64,
    began: Instant,
    keeper: Mutex<Option<Task>>,
}

impl Pool {
    /// Starts a pool on the current tokio runtime. From `previous`, backends that stay keep their
    /// health, counts, pacers and place in the queue; that one goes on until it is closed, so that
    /// a reload that fails has nothing to undo. What is random follows from `seed`.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(
        plan: PoolPlan,
        windows: PoolWindows,
        previous: Option<&Pool>,
        seed: u64,
    ) -> Arc<Pool> {
        let now = time::now();
        let (cell, view) = publish_and_view(Picture::new(Basis {
            policy: plan.policy,
            threshold: plan.panic_threshold,
            slots: Vec::new(),
            standings: Vec::new(),
        }));
        let mut legacy = previous.map_or_else(Legacy::default, |old| old.legacy(&plan));
        let names = std::mem::take(&mut legacy.names);
        let core = Arc::new(Core {
            plan,
            windows,
            queue: previous.map_or_else(SharedQueue::default, |old| Arc::clone(&old.core.queue)),
            accounts: previous.map(|old| Arc::clone(&old.core.accounts)).unwrap_or_default(),
            board: Mutex::default(),
            cell,
            ready: watch::Sender::new(false),
            stir: Notify::new(),
            seed,
            replaces: previous.is_some(),
        });
        {
            let mut board = core.board.lock();
            board.origins.resize_with(core.plan.backends.len(), Origin::default);
            for (index, configured) in core.plan.backends.iter().enumerate() {
                let known = match configured.address.literal() {
                    Some(address) => vec![address],
                    None => names.get(&configured.address).cloned().unwrap_or_default(),
                };
                board.origins[index].pending = known.is_empty();
                core.settle(&mut board, index, &known, &mut legacy, core.replaces, now);
                if configured.address.literal().is_none() {
                    let work = tasks::resolve_for_ever(Arc::clone(&core), index);
                    let task = Task(spawn_supervised("backend name keeper", work));
                    board.origins[index]._task = Some(task);
                }
            }
            core.refresh(&mut board, now, true);
        }
        let keeper = Task(spawn_supervised("pool keeper", tasks::keep_for_ever(Arc::clone(&core))));
        Arc::new(Pool {
            core,
            view,
            turns: AtomicU64::new(previous.map_or(0, |old| old.turns.load(Ordering::Relaxed))),
            narrowed: AtomicU64::new(0),
            serial: previous.map_or(0, |old| old.serial + 1),
            began: now,
            keeper: Mutex::new(Some(keeper)),
        })
    }

    /// What it was asked to be.
    pub fn plan(&self) -> &PoolPlan {
        &self.core.plan
    }

    /// Waits until every backend had its first check and every name was resolved or failed to be;
    /// no longer after the start than one check may take, so that waiting for pools in turn takes no
    /// longer than for one.
    pub async fn first_checks(&self) {
        let mut ready = self.core.ready.subscribe();
        let latest = self.began + self.plan().check.timeout + GRACE;
        // Both an end of the wait: late is late, and the sender lives as long as we do.
        let _ = tokio::time::timeout_at(latest.into(), ready.wait_for(|ready| *ready)).await;
    }

    /// Has exactly `drained` (names as configured, or single addresses) take no new connections, from
    /// now on; live ones go on, and so do checks.
    pub fn drain(&self, drained: HashSet<Endpoint>) {
        let mut board = self.core.board.lock();
        if board.drained != drained {
            board.drained = drained;
            self.core.refresh(&mut board, time::now(), false);
        }
    }

    /// Every backend by its name and address; one whose name has no address is there without one.
    pub fn members(&self) -> Vec<(Endpoint, SocketAddr)> {
        let picture = self.view().look();
        let slots = &picture.basis().slots;
        let named = slots.iter().map(|slot| (slot.name.clone(), slot.account.address));
        let lost = self.plan().backends.iter().map(|backend| &backend.address).filter(|name| {
            name.literal().is_none() && slots.iter().all(|slot| slot.name != **name)
        });
        let nowhere = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        named.chain(lost.map(|name| (name.clone(), nowhere(name.port)))).collect()
    }

    /// How it stands now.
    pub fn snapshot(&self) -> PoolStatus {
        let mut status = self.core.board.lock().status(&self.core.plan, time::now());
        status.panic = self.view.look().panic();
        status.queued = self.core.queue.waiting();
        status
    }

    /// Ends checks, name resolution and votes: another pool has taken over (and was started with
    /// this one as its `previous` before), though connections begun with this one may hold it for
    /// days. Dials under way go on by the last picture; there is nothing more to hand over.
    pub fn close(&self) {
        self.core.close();
        self.keeper.lock().take();
    }

    fn legacy(&self, next: &PoolPlan) -> Legacy {
        let (old, new) = (&self.plan().check, &next.check);
        let asks_anew = old.kind != new.kind || old.port != new.port;
        self.core.board.lock().legacy(self.plan(), asks_anew)
    }

    #[cfg(test)]
    pub(super) fn core(&self) -> &Core {
        &self.core
    }

    pub(super) fn view(&self) -> &View<Picture> {
        &self.view
    }

    pub(super) fn queue(&self) -> &Queue {
        &self.core.queue
    }

    pub(super) fn holdings(&self) -> &Holdings {
        &self.core.windows.holdings
    }

    pub(super) fn serial(&self) -> u64 {
        self.serial
    }

    pub(super) fn next_turn(&self, client: u64) -> Turn {
        Turn::new(self.core.seed, self.turns.fetch_add(1, Ordering::Relaxed), client)
    }

    /// A turn before it is known among whom, which [`Pool::turn_among`] says.
    pub(super) fn narrowed_turn(&self, client: u64) -> Turn {
        Turn::new(!self.core.seed, self.narrowed.fetch_add(1, Ordering::Relaxed), client)
    }

    /// `turn` among those that are allowed. Other dials' turns are left alone, or theirs would not
    /// be exact any more.
    pub(super) fn turn_among(&self, allowed: &Allowed, turn: Turn) -> Turn {
        match allowed.next_turn() {
            Some(number) => Turn { number, ..turn },
            None => self.next_turn(turn.client),
        }
    }

    /// A connect to `account`'s backend failed, and not by our own fault.
    pub(super) fn connect_failed(&self, account: &Account, fault: &DialError) {
        let in_a_row = account.failed();
        tracing::debug!(rule = %self.plan().rule, address = %account.address, %fault, "connect failed");
        let now = time::now();
        if account.relieved.load(Ordering::Relaxed) {
            self.core.look_itself(account, now);
        }
        self.core.connects_fail(account, in_a_row, now);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.core.close();
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("rule", &self.plan().rule).finish_non_exhaustive()
    }
}
