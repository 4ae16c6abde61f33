//! A pool's heart: what happens to its backends goes into the board under one lock, and comes out
//! as one published picture. The lock is never held across an await, nor on the way of a dial that
//! goes well.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU64;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::board::{Backend, Board, Health, Legacy, Task, word};
use super::check::Finding;
use super::narrow::Basis;
use super::picture::Picture;
use super::plan::PoolPlan;
use super::pool::PoolWindows;
use super::queue::SharedQueue;
use super::seat::Seat;
use super::slot::{Account, Slot};
use super::tasks;
use crate::base::{BackendKey, Endpoint, KeyHash, Publisher, id, spawn_supervised};
use crate::health::{Turn, Verdict, Vote};
use crate::net::tls::{OriginatePlan, Originator};
use crate::traffic::{CapKey, Pacer};

/// Accounts by address, for as long as anybody uses them: a cap holds over reloads and over names
/// that leave an address and come back.
pub(super) type Accounts = Arc<Mutex<HashMap<SocketAddr, Weak<Account>>>>;

pub(super) struct Core {
    pub(super) plan: PoolPlan,
    pub(super) windows: PoolWindows,
    pub(super) queue: SharedQueue,
    pub(super) accounts: Accounts,
    pub(super) board: Mutex<Board>,
    pub(super) cell: Publisher<Picture>,
    /// Everything had its first result.
    pub(super) ready: watch::Sender<bool>,
    /// Something changed that the keeper should time.
    pub(super) stir: Notify,
    pub(super) seed: u64,
    /// It replaces another pool: traffic flows already, so that newcomers start slowly.
    pub(super) replaces: bool,
}

impl Core {
    /// A check's result, and what the check took.
    pub(super) fn checked(
        &self,
        address: SocketAddr,
        found: Finding,
        took: Duration,
        now: Instant,
    ) {
        let mut board = self.board.lock();
        let Some(backend) = board.find(address) else { return };
        let (good, said) = match found {
            Finding::Good(said) => (true, said),
            Finding::Bad(said) => (false, said),
            // Neither a success nor a failure in a row: a node that runs out of descriptors must
            // not call its backends down, and tell its peers so.
            Finding::Nothing(said) => return backend.health.last_check = said,
        };
        let checked = backend.health.watch.checked(good, took, &self.plan.check, now);
        if let Some(sighting) = checked.sighting {
            backend.seat.note(now, sighting);
        }
        if let Some(turn) = checked.turned {
            self.turned(backend, turn, &said, now);
        }
        backend.health.last_check = said;
        self.refresh(&mut board, now, false);
        if checked.turned.is_some() {
            // A slow start may have begun, whose steps the keeper does.
            self.stir.notify_one();
        }
    }

    /// A verdict turned, by own checks or by the peers' word.
    fn turned(&self, backend: &mut Backend, turn: Turn, reason: &str, now: Instant) {
        let Turn { verdict, first } = turn;
        if verdict == Verdict::Up && (!first || backend.health.late) {
            backend.health.slow_start.begin(now);
        }
        // The checks have seen it go and come back: what it was ejected for is over, and a
        // backend that was restarted need not sit out the rest of its time.
        if verdict == Verdict::Up && !first {
            backend.health.ejection.pardon(now);
        }
        let (rule, name) = (&self.plan.rule, &backend.slot.name);
        let (address, state) = (backend.address(), word(verdict));
        match verdict {
            Verdict::Up => tracing::info!(%rule, %address, %name, reason, "backend is {state}"),
            Verdict::Down => tracing::warn!(%rule, %address, %name, reason, "backend is {state}"),
        }
    }

    /// Whether other nodes check the backend at `address`.
    pub(super) fn relieved(&self, address: SocketAddr) -> bool {
        let mut board = self.board.lock();
        board.find(address).is_some_and(|backend| backend.health.watch.relieved())
    }

    /// A connect failed to a backend that other nodes check: this one looks for itself.
    pub(super) fn look_itself(&self, account: &Account, now: Instant) {
        let mut board = self.board.lock();
        let Some(backend) = board.find(account.address) else { return };
        account.relieved.store(false, Ordering::Relaxed);
        if backend.health.watch.connect_failed(&self.plan.check, now) {
            backend.poke.notify_one();
        }
    }

    /// A connect failed `in_a_row` times.
    pub(super) fn connects_fail(&self, account: &Account, in_a_row: u32, now: Instant) {
        let outlier = &self.plan.outlier;
        if outlier.failures == 0 || in_a_row < outlier.failures {
            return;
        }
        let mut board = self.board.lock();
        if board.closed {
            return;
        }
        let Some(length) = board.eject(account.address, &self.plan, now) else { return };
        account.failures_in_a_row.store(0, Ordering::Relaxed);
        tracing::warn!(
            rule = %self.plan.rule,
            address = %account.address,
            failures = in_a_row,
            seconds = length.as_secs_f64(),
            "backend is ejected: it refused connections"
        );
        self.refresh(&mut board, now, false);
        drop(board);
        self.stir.notify_one();
    }

    /// Time has passed; when it should be asked again.
    pub(super) fn tick(&self, now: Instant) -> Option<Instant> {
        let mut board = self.board.lock();
        for backend in board.backends_mut() {
            if backend.health.ejection.take_back(now) {
                backend.health.slow_start.begin(now);
                let (rule, address) = (&self.plan.rule, backend.address());
                tracing::info!(%rule, %address, "backend is taken back after its ejection");
            }
        }
        self.refresh(&mut board, now, false);
        board.next_change(&self.plan, now)
    }

    /// Reads the peers' votes anew.
    pub(super) fn hear_peers(&self, now: Instant) {
        if self.plan.check.kind.is_none() {
            return;
        }
        // Asked outside the lock: whose code answers is not known here.
        let rota = self.windows.peers.rota();
        let keys: Vec<BackendKey> =
            self.board.lock().backends().map(|backend| backend.seat.key().clone()).collect();
        let heard: HashMap<SocketAddr, (u64, Vec<Vote>)> = keys
            .into_iter()
            .map(|key| (key.address, (key.id(), self.windows.peers.votes(&key))))
            .collect();
        let mut board = self.board.lock();
        for backend in board.backends_mut() {
            let Some((id, votes)) = heard.get(&backend.address()) else { continue };
            let heard = backend.health.watch.hear(*id, votes.clone(), &rota, now);
            let relieved = backend.health.watch.relieved();
            backend.slot.account.relieved.store(relieved, Ordering::Relaxed);
            if let Some(turn) = heard.turned {
                self.turned(backend, turn, "most of the nodes that check it say so", now);
            }
            if heard.doubted {
                let (rule, address) = (&self.plan.rule, backend.address());
                tracing::info!(%rule, %address, "most peers see this backend down: half its weight, checked at once");
            }
            if heard.check_now {
                backend.poke.notify_one();
            }
        }
        self.refresh(&mut board, now, false);
    }

    /// The addresses that name `origin` has now.
    pub(super) fn resolved(self: &Arc<Self>, origin: usize, addresses: &[IpAddr], now: Instant) {
        let mut board = self.board.lock();
        if board.closed {
            return;
        }
        let port = self.plan.backends[origin].address.port;
        let wanted: Vec<_> = addresses.iter().map(|ip| SocketAddr::new(*ip, port)).collect();
        // A name's first addresses belong to the pool's beginning.
        let late = self.replaces || !board.origins[origin].pending;
        board.origins[origin].pending = false;
        board.origins[origin].trouble = None;
        let changed = self.settle(&mut board, origin, &wanted, &mut Legacy::default(), late, now);
        if changed {
            let (rule, name) = (&self.plan.rule, &self.plan.backends[origin].address);
            tracing::info!(%rule, %name, addresses = ?wanted, "backend name resolved");
        }
        self.refresh(&mut board, now, changed);
        if changed {
            self.stir.notify_one();
        }
    }

    /// Name `origin` could not be resolved: what it had stays.
    pub(super) fn unresolved(&self, origin: usize, why: String, now: Instant) {
        let mut board = self.board.lock();
        // A question under way outlives the end of its pool by a moment.
        let Some(state) = board.origins.get_mut(origin) else { return };
        if state.trouble.is_none() {
            let (rule, name) = (&self.plan.rule, &self.plan.backends[origin].address);
            let kept = state.backends.len();
            tracing::warn!(%rule, %name, kept, reason = why, "backend name not resolved");
        }
        state.pending = false;
        state.trouble = Some(why);
        self.refresh(&mut board, now, false);
    }

    /// Makes `origin` consist of `wanted`; whether that changed it. An address that another origin
    /// has already is left to that one. Who leaves keeps its live connections and gets no more.
    pub(super) fn settle(
        self: &Arc<Self>,
        board: &mut Board,
        origin: usize,
        wanted: &[SocketAddr],
        legacy: &mut Legacy,
        late: bool,
        now: Instant,
    ) -> bool {
        let mut old = std::mem::take(&mut board.origins[origin].backends);
        let before: Vec<_> = old.iter().map(Backend::address).collect();
        let mut kept = Vec::new();
        for &address in wanted {
            if board.find(address).is_some() {
                continue;
            }
            let known = old.iter().position(|backend| backend.address() == address);
            kept.push(match known {
                Some(index) => old.swap_remove(index),
                None => self.backend(origin, address, legacy, late, now),
            });
        }
        let changed = before.iter().copied().ne(kept.iter().map(Backend::address));
        board.origins[origin].backends = kept;
        changed
    }

    fn backend(
        self: &Arc<Self>,
        origin: usize,
        address: SocketAddr,
        legacy: &mut Legacy,
        late: bool,
        now: Instant,
    ) -> Backend {
        let configured = &self.plan.backends[origin];
        let heirloom = legacy.by_address.remove(&address);
        let before = heirloom.as_ref().map(|heirloom| &heirloom.slot);
        let rates = &self.plan.bandwidth;
        let cap = configured.max_connections.or(self.plan.connection_limit);
        let stable_id = id::stable_hash(0, address.to_string().as_bytes());
        let holding = self.plan.shared_caps.zip(cap).map(|(rule, cap)| {
            let key = CapKey { limit: rule.part("backend"), key: KeyHash(stable_id) };
            let holding = self.windows.holdings.holding(key, cap.get());
            let queue = Arc::clone(&self.queue);
            holding.on_more(Box::new(move || queue.place_freed()));
            holding
        });
        // The same as before when it is for the same.
        let pacer = |way: &str, rate: Option<NonZeroU64>, before: Option<&Arc<Pacer>>| {
            let rate = rate?;
            let limit = self.plan.shared_bandwidth.map(|rule| rule.part("backend").part(way));
            let key = limit.map(|limit| CapKey { limit, key: KeyHash(stable_id) });
            let same = before.filter(|pacer| pacer.rate() == rate && pacer.key() == key).cloned();
            Some(same.unwrap_or_else(|| match key {
                Some(key) => self.windows.pace.pacer(key, rate, now),
                None => Arc::new(Pacer::new(rate, now)),
            }))
        };
        let slot = Arc::new(Slot {
            account: self.account(address),
            name: configured.address.clone(),
            id: stable_id,
            weight: configured.weight,
            backup: configured.backup,
            cap: cap.map(|cap| cap.get()),
            holding,
            tls: configured.tls.as_ref().map(|tls| originator(tls, &configured.address)),
            upload: pacer("upload", rates.upload, before.and_then(|slot| slot.upload.as_ref())),
            download: pacer(
                "download",
                rates.download,
                before.and_then(|slot| slot.download.as_ref()),
            ),
        });
        let unchecked = self.plan.check.kind.is_none();
        let (before, health) = match heirloom {
            Some(heirloom) => (Some(heirloom.seat), heirloom.health),
            None => {
                let mut health = Health { late, ..Health::default() };
                if late && unchecked {
                    health.slow_start.begin(now);
                }
                (None, health)
            }
        };
        // Without checks nobody would ever correct an old verdict: it is not taken over.
        let seat = before.filter(|_| !unchecked).unwrap_or_else(|| {
            let key = BackendKey { rule: self.plan.rule.clone(), address };
            Arc::new(Seat::new(Arc::clone(&self.windows.verdicts), key))
        });
        if !unchecked {
            seat.enroll();
        }
        let poke = Arc::new(Notify::new());
        let checker = self.plan.check.kind.is_some().then(|| {
            let work =
                tasks::check_for_ever(Arc::clone(self), Arc::clone(&slot), Arc::clone(&poke));
            Task(spawn_supervised("backend checker", work))
        });
        Backend { slot, seat, health, poke, _checker: checker }
    }

    fn account(&self, address: SocketAddr) -> Arc<Account> {
        let mut accounts = self.accounts.lock();
        if let Some(account) = accounts.get(&address).and_then(Weak::upgrade) {
            return account;
        }
        accounts.retain(|_, account| account.strong_count() > 0);
        let key = BackendKey { rule: self.plan.rule.clone(), address };
        let gauge = self.windows.tally.gauge(&key);
        let account = Arc::new(Account::new(address, gauge, Arc::clone(&self.queue)));
        accounts.insert(address, Arc::downgrade(&account));
        account
    }

    /// Publishes a new picture when anything in it changed.
    pub(super) fn refresh(&self, board: &mut Board, now: Instant, members_changed: bool) {
        if board.closed {
            return;
        }
        if board.is_ready(&self.plan) {
            // Stays true: a backend that comes later is checked before it is used anyway.
            self.ready.send_if_modified(|ready| !std::mem::replace(ready, true));
        }
        let standings = board.standings(&self.plan, now);
        if !members_changed && standings == board.standings {
            return;
        }
        let picture = Picture::new(Basis {
            policy: self.plan.policy,
            threshold: self.plan.panic_threshold,
            slots: board.backends().map(|backend| Arc::clone(&backend.slot)).collect(),
            standings: standings.clone(),
        });
        board.standings = standings;
        if picture.panic() != self.cell.current().panic() {
            let rule = &self.plan.rule;
            match picture.panic() {
                true => tracing::warn!(%rule, "too few backends are healthy: all are used"),
                false => tracing::info!(%rule, "enough backends are healthy again"),
            }
        }
        self.cell.publish(picture);
        // A backend that came up has places for those who wait.
        self.queue.picture_changed();
    }

    /// Ends all tasks and lets go of the verdicts. The last picture stays for dials under way.
    pub(super) fn close(&self) {
        let origins = {
            let mut board = self.board.lock();
            board.closed = true;
            std::mem::take(&mut board.origins)
        };
        // Outside the lock: a verdict is forgotten by whoever drops its seat last.
        drop(origins);
    }
}

fn originator(plan: &OriginatePlan, backend: &Endpoint) -> Originator {
    let tls = Originator::new(plan, backend);
    if let Some(fault) = tls.fault() {
        tracing::error!(%backend, %fault, "TLS to this backend cannot be set up");
    }
    tls
}
