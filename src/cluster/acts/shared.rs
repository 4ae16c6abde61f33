//! One store, shared: the admin listener orders, the gossip agent merges, the keeper writes, the
//! node brings into effect. Whoever wants to know of changes hangs up a bell.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::act::{Act, Order, Subject};
use super::row::Row;
use super::store::{Digest, Full, Store};
use crate::base::{Actor, BootId, NodeId, NodeName};

/// Own acts that wait for the agent; of more, peers learn by comparing.
const MOST_WAITING: usize = 4096;

type Bell = Box<dyn Fn() + Send + Sync>;

/// A node's acts.
pub struct Acts {
    store: Mutex<Store>,
    waiting: Mutex<VecDeque<Subject>>,
    any_waiting: AtomicBool,
    revision: AtomicU64,
    bells: Mutex<Vec<Bell>>,
}

impl Acts {
    /// None yet. `writer` must be random: no other node's, and no former self's.
    pub fn new(writer: Actor, name: &NodeName) -> Arc<Acts> {
        Arc::new(Acts {
            store: Mutex::new(Store::new(writer, name)),
            waiting: Mutex::default(),
            any_waiting: AtomicBool::new(false),
            revision: AtomicU64::new(0),
            bells: Mutex::default(),
        })
    }

    /// For a node that orders nothing.
    pub fn empty() -> Arc<Acts> {
        Acts::new(Actor { node: NodeId(1), boot: BootId::new(0) }, &NodeName::from(""))
    }

    /// Has `bell` called after every change, on the thread that made it: it must be quick.
    pub fn on_change(&self, bell: impl Fn() + Send + Sync + 'static) {
        self.bells.lock().push(Box::new(bell));
    }

    /// Orders all of `orders` on every node, at once and in turn.
    ///
    /// # Errors
    /// There is no room for one; those before it are ordered.
    pub fn issue(
        &self,
        now: Instant,
        unix_ms: u64,
        orders: &[(Subject, Order)],
        length: Option<Duration>,
    ) -> Result<(), Full> {
        let mut done = Ok(());
        {
            let mut store = self.store.lock();
            for (subject, order) in orders {
                done = store.issue(now, unix_ms, subject, *order, length);
                if done.is_err() {
                    break;
                }
                let mut waiting = self.waiting.lock();
                if waiting.len() < MOST_WAITING {
                    waiting.push_back(subject.clone());
                }
            }
        }
        self.any_waiting.store(true, Relaxed);
        self.changed();
        done
    }

    /// Takes over what a peer or the disk holds; how many of them were news.
    pub fn merge<'a>(&self, now: Instant, rows: impl IntoIterator<Item = &'a Row>) -> usize {
        let news = {
            let mut store = self.store.lock();
            rows.into_iter().filter(|row| store.merge(now, row)).count()
        };
        if news > 0 {
            self.changed();
        }
        news
    }

    /// Own acts that nobody was told of yet.
    pub fn take_waiting(&self) -> Vec<Subject> {
        if !self.any_waiting.swap(false, Relaxed) {
            return Vec::new();
        }
        self.waiting.lock().drain(..).collect()
    }

    /// Forgets what is over; when to come back.
    pub fn sweep(&self, now: Instant) -> Option<Instant> {
        self.store.lock().sweep(now)
    }

    /// Grows with every change.
    pub fn revision(&self) -> u64 {
        self.revision.load(Relaxed)
    }

    /// Looks at the store. What `look` does holds up everybody else who wants it: no worker, but the
    /// gossip agent.
    pub fn look<T>(&self, look: impl FnOnce(&Store) -> T) -> T {
        look(&self.store.lock())
    }

    /// Everything held, as told to others: for the disk, and for a peer that wants it all.
    pub fn rows(&self, now: Instant) -> Vec<Row> {
        self.look(|store| store.rows(now))
    }

    /// What is held about `subject` and still says something.
    pub fn holding(&self, now: Instant, subject: &Subject) -> Option<Act> {
        self.look(|store| store.holding(subject, now).cloned())
    }

    /// What all acts amount to.
    pub fn digest(&self) -> Digest {
        self.look(Store::digest)
    }

    fn changed(&self) {
        self.revision.fetch_add(1, Relaxed);
        self.bells.lock().iter().for_each(|bell| bell());
    }
}

impl fmt::Debug for Acts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acts").field("digest", &self.digest()).finish_non_exhaustive()
    }
}
