//! The line of connections that wait for a full backend: bounded, first come first served.
//!
//! A freed place is not announced for anyone to grab; it is handed to who waits longest and may
//! use it. Two counters keep a wake-up from being lost without a lock on the usual path, and are
//! sequentially consistent for it: who frees a place lowers `active` and then reads `waiting`; who
//! lines up raises `waiting` and then looks at `active`. One of the two sees the other.
//!
//! Who may use some backends only waits with what is allowed of one picture, and is handed nothing of
//! any other: when the picture changes, the dial that waits is woken and says anew what it may use.
//! Such a waiter says nothing about those behind it, who may use what it may not.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use parking_lot::Mutex;
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, oneshot};

use super::narrow::Allowed;
use super::picture::{Offer, Picture};
use super::slot::Lease;
use crate::balance::Turn;
use crate::base::View;

/// A rule's line. A reload carries it over.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: AtomicU32,
    /// One of those who wait asks the cluster for all of them.
    asking: AtomicBool,
    /// Woken when a picture changed.
    changed: Notify,
    line: Mutex<Line>,
}

#[derive(Debug, Default)]
struct Line {
    next_id: u64,
    waiters: VecDeque<Waiter>,
}

/// Who waits, and for what.
#[derive(Debug)]
struct Waiter {
    id: u64,
    /// Pool it dialled; after a reload there can be two.
    pool: u64,
    view: View<Picture>,
    turn: Turn,
    /// Backends that it has tried in vain.
    failed: Box<[SocketAddr]>,
    /// What it may use, of one picture; `None`: whatever there is.
    allowed: Option<Allowed>,
    hand: oneshot::Sender<Lease>,
}

/// The line is as long as it may be.
#[derive(Debug)]
pub(super) struct LineFull {
    /// Not all who wait may use the same: that they wait does not say that there is no place.
    pub(super) mixed: bool,
}

/// A place in the line, left on drop.
#[derive(Debug)]
pub(super) struct Place<'a> {
    queue: &'a Queue,
    id: u64,
    lease: oneshot::Receiver<Lease>,
}

impl Queue {
    /// How many wait.
    pub(super) fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Lines up behind at most `size` - 1 others. A place that is free already is handed over at
    /// once.
    pub(super) fn line_up(
        &self,
        size: u32,
        pool: u64,
        view: &View<Picture>,
        turn: Turn,
        failed: &[SocketAddr],
        allowed: Option<Allowed>,
    ) -> Result<Place<'_>, LineFull> {
        let (hand, lease) = oneshot::channel();
        let id = {
            let mut line = self.line.lock();
            if line.waiters.len() as u64 >= u64::from(size) {
                let others = || line.waiters.iter().any(|waiter| waiter.allowed.is_some());
                return Err(LineFull { mixed: allowed.is_some() || others() });
            }
            let id = line.next_id;
            line.next_id += 1;
            let view = view.clone();
            let failed = failed.into();
            line.waiters.push_back(Waiter { id, pool, view, turn, failed, allowed, hand });
            self.waiting.fetch_add(1, Ordering::SeqCst);
            id
        };
        let place = Place { queue: self, id, lease };
        self.serve();
        Ok(place)
    }

    /// A place went back somewhere.
    pub(super) fn place_freed(&self) {
        if self.waiting() > 0 {
            self.serve();
        }
    }

    /// The picture changed: a backend that came up has places, and others may be allowed.
    pub(super) fn picture_changed(&self) {
        self.place_freed();
        self.changed.notify_waiters();
    }

    /// The next change of a picture from now on, whether or not anybody awaits it yet.
    pub(super) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Hands out what is free, in the line's order.
    pub(super) fn serve(&self) {
        // Leases that nobody took are dropped after the lock is: a drop comes back here.
        let mut untaken = Vec::new();
        loop {
            let mut line = self.line.lock();
            let mut full: Vec<(u64, usize)> = Vec::new();
            let mut index = 0;
            while let Some(waiter) = line.waiters.get(index) {
                let order = waiter.order_id();
                if full.contains(&order) {
                    index += 1;
                    continue;
                }
                let Some(lease) = waiter.find_place() else {
                    // With backends ruled out a waiter says nothing about those behind it.
                    if waiter.failed.is_empty() {
                        full.push(order);
                    }
                    index += 1;
                    continue;
                };
                if let Some(waiter) = line.waiters.remove(index) {
                    self.waiting.fetch_sub(1, Ordering::SeqCst);
                    // An error: it gave up this moment.
                    untaken.extend(waiter.hand.send(lease).err());
                }
            }
            drop(line);
            if untaken.is_empty() {
                return;
            }
            untaken.clear();
        }
    }

    /// `None` while somebody else asks who may use the same.
    pub(super) fn begin_asking<'a>(
        &'a self,
        allowed: Option<&'a Allowed>,
    ) -> Option<BusyAsking<'a>> {
        let asking = allowed.and_then(Allowed::asking).unwrap_or(&self.asking);
        (!asking.swap(true, Ordering::Relaxed)).then_some(BusyAsking(asking))
    }

    fn leave(&self, id: u64) {
        let left = {
            let mut line = self.line.lock();
            let found = line.waiters.iter().position(|waiter| waiter.id == id);
            let left = found.and_then(|index| line.waiters.remove(index));
            if left.is_some() {
                self.waiting.fetch_sub(1, Ordering::SeqCst);
            }
            left
        };
        drop(left);
    }
}

impl Waiter {
    /// The same for all who choose from the same order.
    fn order_id(&self) -> (u64, usize) {
        (self.pool, self.allowed.as_ref().map_or(0, Allowed::id))
    }

    /// A place that it may use, taken.
    fn find_place(&self) -> Option<Lease> {
        let picture = self.view.look();
        let order = match &self.allowed {
            None => picture.order(),
            Some(allowed) if allowed.is_of(&picture) => allowed.order(&picture),
            // Its dial was woken and is about to say what it may use of the new picture.
            Some(_) => return None,
        };
        match order.offers(self.turn).next(&self.failed) {
            Offer::Place(lease) => Some(lease),
            Offer::Full | Offer::Nobody => None,
        }
    }
}

/// Somebody asks, until it is dropped.
pub(super) struct BusyAsking<'a>(&'a AtomicBool);

impl Drop for BusyAsking<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl Place<'_> {
    /// From now on this is what may be used. Keeps its place in the line.
    pub(super) fn allow(&self, allowed: Allowed) {
        {
            let mut line = self.queue.line.lock();
            if let Some(waiter) = line.waiters.iter_mut().find(|waiter| waiter.id == self.id) {
                waiter.allowed = Some(allowed);
            }
        }
        self.queue.serve();
    }

    /// Waits for the lease. Given up half-way, the place in the line is left, and a lease that was
    /// handed over in that very moment goes back on its drop, and so to the next.
    pub(super) async fn lease(&mut self) -> Option<Lease> {
        (&mut self.lease).await.ok()
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.queue.leave(self.id);
    }
}

/// Shared by all backends of a rule, over reloads.
pub(super) type SharedQueue = Arc<Queue>;
