//! A picture narrowed to what somebody may use: the same judgement (weights, panic, backups), made of
//! the allowed backends alone, as if the others were not there.
//!
//! Whoever may use the same backends shares one order and its turns, so that round robin is exact
//! among them. Orders are kept with the picture and go with it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::picture::{Order, Picture};
use super::slot::Slot;
use crate::balance::Policy;
use crate::base::{Endpoint, Share};
use crate::health::{Standing, choose};

/// Says which backends may be used, by the name that is configured and by the address. A name that
/// has no address yet is asked about with the unspecified one.
pub type Filter<'a> = &'a (dyn Fn(&Endpoint, SocketAddr) -> bool + Sync);

/// Orders that a picture keeps.
const MOST_KEPT: usize = 64;

/// What a picture is made of.
#[derive(Debug)]
pub(super) struct Basis {
    pub(super) policy: Policy,
    pub(super) threshold: Share,
    pub(super) slots: Vec<Arc<Slot>>,
    /// Of the slots.
    pub(super) standings: Vec<Standing>,
}

impl Basis {
    /// The order of all.
    pub(super) fn order(&self) -> Order {
        let slots: Vec<_> = self.slots.iter().collect();
        Order::new(self.policy, &slots, &choose(&self.standings, self.threshold))
    }

    /// The order of those that `mask` allows.
    fn narrowed(&self, mask: &Mask) -> Order {
        let both = self.slots.iter().zip(&self.standings).enumerate();
        let allowed = both.filter(|(index, _)| mask.allows(*index)).map(|(_, both)| both);
        let (slots, standings): (Vec<_>, Vec<_>) = allowed.unzip();
        Order::new(self.policy, &slots, &choose(&standings, self.threshold))
    }
}

/// Which slots may be used, one bit for each.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Mask(Box<[u64]>);

impl Mask {
    fn new(slots: &[Arc<Slot>], only: Filter<'_>) -> Self {
        let word = |slots: &[Arc<Slot>]| {
            let bit = |(bit, slot): (usize, &Arc<Slot>)| {
                u64::from(only(&slot.name, slot.account.address)) << bit
            };
            slots.iter().enumerate().map(bit).fold(0, |word, bit| word | bit)
        };
        Mask(slots.chunks(64).map(word).collect())
    }

    fn allows(&self, index: usize) -> bool {
        self.0[index / 64] & (1 << (index % 64)) != 0
    }

    fn count(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }
}

/// The orders that were asked for.
#[derive(Debug, Default)]
pub(super) struct Narrowings(Mutex<HashMap<Mask, Allowed>>);

impl Narrowings {
    /// What `only` allows of `basis`. Turns among backends that nobody was narrowed to before begin
    /// at `start`: anywhere, or whoever comes first after a change would always get the same one.
    pub(super) fn find(&self, basis: &Arc<Basis>, only: Filter<'_>, start: u64) -> Allowed {
        let mask = Mask::new(&basis.slots, only);
        // Made under the lock: two at once would both take the first turn.
        let mut kept = self.0.lock();
        if let Some(allowed) = kept.get(&mask) {
            return allowed.clone();
        }
        if kept.len() >= MOST_KEPT {
            kept.clear();
        }
        let count = mask.count();
        let narrow = (count < basis.slots.len()).then(|| Narrow {
            order: basis.narrowed(&mask),
            turns: AtomicU64::new(start),
            asking: AtomicBool::new(false),
        });
        let scope = Scope { basis: Arc::clone(basis), narrow, nobody: count == 0 };
        let allowed = Allowed(Arc::new(scope));
        kept.insert(mask, allowed.clone());
        allowed
    }

    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.0.lock().len()
    }
}

/// What somebody may use of one picture. Says nothing of any other: an address may have come, or
/// belong to another name.
#[derive(Clone, Debug)]
pub(super) struct Allowed(Arc<Scope>);

#[derive(Debug)]
struct Scope {
    basis: Arc<Basis>,
    /// `None`: everything.
    narrow: Option<Narrow>,
    nobody: bool,
}

/// The order of some of a picture's backends.
#[derive(Debug)]
struct Narrow {
    order: Order,
    /// Counts the dials among them.
    turns: AtomicU64,
    /// One of those who wait for them asks the cluster for all of those.
    asking: AtomicBool,
}

impl Allowed {
    /// Whether it speaks of this picture.
    pub(super) fn is_of(&self, picture: &Picture) -> bool {
        Arc::ptr_eq(&self.0.basis, picture.basis())
    }

    /// Whether no backend is allowed.
    pub(super) fn is_nobody(&self) -> bool {
        self.0.nobody
    }

    /// The order of what is allowed of `picture`, which is its own.
    pub(super) fn order<'a>(&'a self, picture: &'a Picture) -> &'a Order {
        debug_assert!(self.is_of(picture), "another picture is not judged yet");
        self.0.narrow.as_ref().map_or(picture.order(), |narrow| &narrow.order)
    }

    /// The next turn among them; `None` when everything is allowed: the pool's own turns count.
    pub(super) fn next_turn(&self) -> Option<u64> {
        self.0.narrow.as_ref().map(|narrow| narrow.turns.fetch_add(1, Ordering::Relaxed))
    }

    /// Whether somebody asks the cluster for what is narrowed to; `None` when everything is allowed.
    pub(super) fn asking(&self) -> Option<&AtomicBool> {
        self.0.narrow.as_ref().map(|narrow| &narrow.asking)
    }

    /// The same for all whose order is the same, as long as they live: 0 when it is everybody's.
    pub(super) fn id(&self) -> usize {
        self.0.narrow.as_ref().map_or(0, |_| Arc::as_ptr(&self.0).addr())
    }
}
