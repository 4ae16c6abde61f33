//! The line of connections that wait for a full backend: bounded, first come first served.
//!
//! A freed place is not announced for anyone to grab; it is handed to who waits longest and may
//! use it. Two counters keep a wake-up from being lost without a lock on the usual path, and are
//! sequentially consistent for it: who frees a place lowers `active` and then reads `waiting`; who
//! lines up raises `waiting` and then looks at `active`. One of the two sees the other.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use parking_lot::Mutex;
use tokio::sync::oneshot;

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
    hand: oneshot::Sender<Lease>,
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

    /// Lines up behind at most `size` - 1 others; `None` when the line is that long. A place that
    /// is free already is handed over at once.
    pub(super) fn line_up(
        &self,
        size: u32,
        pool: u64,
        view: &View<Picture>,
        turn: Turn,
        failed: &[SocketAddr],
    ) -> Option<Place<'_>> {
        let (hand, lease) = oneshot::channel();
        let id = {
            let mut line = self.line.lock();
            if line.waiters.len() as u64 >= u64::from(size) {
                return None;
            }
            let id = line.next_id;
            line.next_id += 1;
            let view = view.clone();
            line.waiters.push_back(Waiter { id, pool, view, turn, failed: failed.into(), hand });
            self.waiting.fetch_add(1, Ordering::SeqCst);
            id
        };
        let place = Place { queue: self, id, lease };
        self.serve();
        Some(place)
    }

    /// A place went back somewhere.
    pub(super) fn place_freed(&self) {
        if self.waiting() > 0 {
            self.serve();
        }
    }

    /// Hands out what is free, in the line's order. Also called when the picture changed: a
    /// backend that came up has places.
    pub(super) fn serve(&self) {
        // Leases that nobody took are dropped after the lock is: a drop comes back here.
        let mut untaken = Vec::new();
        loop {
            let mut line = self.line.lock();
            let mut full_pools: Vec<u64> = Vec::new();
            let mut index = 0;
            while let Some(waiter) = line.waiters.get(index) {
                if full_pools.contains(&waiter.pool) {
                    index += 1;
                    continue;
                }
                let offer = waiter.view.look().offers(waiter.turn).next(&waiter.failed);
                let Offer::Place(lease) = offer else {
                    // With backends ruled out a waiter says nothing about those behind it.
                    if waiter.failed.is_empty() {
                        full_pools.push(waiter.pool);
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

    /// `None` while somebody else asks.
    pub(super) fn begin_asking(&self) -> Option<BusyAsking<'_>> {
        (!self.asking.swap(true, Ordering::Relaxed)).then_some(BusyAsking(self))
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

/// Somebody asks, until it is dropped.
pub(super) struct BusyAsking<'a>(&'a Queue);

impl Drop for BusyAsking<'_> {
    fn drop(&mut self) {
        self.0.asking.store(false, Ordering::Relaxed);
    }
}

impl Place<'_> {
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
