//! The door of one listener of one worker: how many are between it and a backend, and who makes room
//! when it is full.
//!
//! Whoever connects and then says nothing takes a place until its deadline. A few thousand of them
//! would keep everybody else out for that long, so the oldest of them give way, as half-open
//! connections do in a kernel's backlog. Nobody gives way who has said what it wants, nor anybody
//! before it has had [`GRACE`] to say it: a burst of good clients waits rather than lose its own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::worker::Worker;
use crate::base::{ListenAddr, time};

/// A client on a slow path has its first bytes here within this, more likely than not.
const GRACE: Duration = Duration::from_millis(500);
/// Give way at once.
const BATCH: usize = 32;
/// Of the silent, who have spoken meanwhile are cleared away beyond this many.
const CLEARED: usize = 64;

/// An open listener of one worker.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) worker: Arc<Worker>,
    pub(super) address: ListenAddr,
    pub(super) opened: Instant,
    handshakes: AtomicU32,
    waiting: AtomicBool,
    room: Notify,
    /// Who has not said what it wants, the oldest first.
    silent: Mutex<VecDeque<Silent>>,
}

#[derive(Debug)]
struct Silent {
    since: Instant,
    /// Closed when the client has spoken.
    give_way: oneshot::Sender<()>,
}

/// A connection of a door that is not relayed yet; given back on drop.
pub(super) struct Handshake(Arc<Door>);

/// Tells one that is silent to give way. Dropped when it has spoken.
pub(super) struct Crowded(Option<oneshot::Receiver<()>>);

impl Door {
    pub(super) fn new(worker: Arc<Worker>, address: ListenAddr) -> Self {
        Door {
            worker,
            address,
            opened: time::now(),
            handshakes: AtomicU32::new(0),
            waiting: AtomicBool::new(false),
            room: Notify::new(),
            silent: Mutex::default(),
        }
    }

    /// Whether fewer than `most` handshakes are under way.
    pub(super) fn has_room(&self, most: u32) -> bool {
        self.handshakes.load(Ordering::Relaxed) < most.max(1)
    }

    pub(super) fn enter(self: &Arc<Self>) -> Handshake {
        self.handshakes.fetch_add(1, Ordering::Relaxed);
        Handshake(Arc::clone(self))
    }

    /// Waits until a handshake of this door has ended.
    pub(super) async fn room(&self) {
        self.waiting.store(true, Ordering::Relaxed);
        self.room.notified().await;
    }

    /// Has some of the silent give way at `now`; after how long to look again. Some who have a place may
    /// not even have begun to be silent.
    pub(super) fn make_room(&self, now: Instant) -> Duration {
        let mut silent = self.silent.lock();
        let mut told = 0;
        while let Some(oldest) = silent.front() {
            let age = now.saturating_duration_since(oldest.since);
            if oldest.give_way.is_closed() {
                silent.pop_front();
            } else if age < GRACE || told == BATCH {
                return GRACE.saturating_sub(age);
            } else if let Some(oldest) = silent.pop_front() {
                // It may speak at this very moment; then the next one is told.
                told += usize::from(oldest.give_way.send(()).is_ok());
            }
        }
        GRACE
    }
}

impl Handshake {
    /// The client of this one is silent from `now` on, until this is dropped.
    fn silent(&self, now: Instant) -> Crowded {
        let mut silent = self.0.silent.lock();
        if silent.len() >= CLEARED + 2 * self.0.handshakes.load(Ordering::Relaxed) as usize {
            silent.retain(|one| !one.give_way.is_closed());
        }
        let (give_way, told) = oneshot::channel();
        silent.push_back(Silent { since: now, give_way });
        Crowded(Some(told))
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        // Door and handshakes belong to one thread: what is read here cannot change meanwhile.
        self.0.handshakes.fetch_sub(1, Ordering::Relaxed);
        if self.0.waiting.load(Ordering::Relaxed) {
            self.0.waiting.store(false, Ordering::Relaxed);
            self.0.room.notify_one();
        }
    }
}

impl Crowded {
    /// Of a client that has a place at the door; one without, which waits elsewhere, never gives way.
    pub(super) fn of(handshake: Option<&Handshake>) -> Crowded {
        handshake.map_or(Crowded(None), |handshake| handshake.silent(time::now()))
    }

    /// Waits until its client must give way. Cancel safe.
    pub(super) async fn told(&mut self) {
        if let Some(told) = &mut self.0 {
            if told.await.is_ok() {
                return;
            }
            // The door is gone, and nobody will ask for the place.
            self.0 = None;
        }
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::publish_and_view;
    use crate::proxy::rule::Snapshot;

    fn door() -> Arc<Door> {
        let worker = Worker::new(0, publish_and_view(Snapshot::default()).1);
        let address = ListenAddr("127.0.0.1:1".parse().unwrap());
        Arc::new(Door::new(Arc::new(worker), address))
    }

    fn told(crowded: &mut Crowded) -> bool {
        crowded.0.as_mut().is_some_and(|told| told.try_recv().is_ok())
    }

    #[test]
    fn the_oldest_of_the_silent_give_way_and_nobody_who_spoke_or_has_just_come() {
        let door = door();
        let now = time::now();
        assert_eq!(door.make_room(now), GRACE, "nobody is silent");
        let places: Vec<_> = (0..4).map(|_| door.enter()).collect();
        let at = |ms| now + Duration::from_millis(ms);
        let mut spoke = places[0].silent(at(0));
        let mut oldest = places[1].silent(at(100));
        let mut next = places[2].silent(at(300));
        assert_eq!(door.make_room(at(400)), Duration::from_millis(100), "the first may speak");
        assert!(!told(&mut spoke));
        drop(spoke);
        assert_eq!(door.make_room(at(600)), Duration::from_millis(200));
        assert!(told(&mut oldest) && !told(&mut next));
        assert_eq!(door.make_room(at(800)), GRACE);
        assert!(told(&mut next));
    }

    #[test]
    fn who_has_spoken_takes_no_memory_for_long() {
        let door = door();
        let now = time::now();
        let one = door.enter();
        for _ in 0..1_000 {
            drop(one.silent(now));
            assert!(door.silent.lock().len() <= CLEARED + 3);
        }
    }
}
