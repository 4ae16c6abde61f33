//! Who is used now, and in which order: slots, weights and sequence together, so that no worker
//! ever sees a torn pair.

use std::net::SocketAddr;
use std::sync::Arc;

use super::narrow::{Allowed, Basis, Filter, Narrowings};
use super::slot::{Lease, Slot};
use crate::balance::{Candidates, Gauge, Loads, Member, Policy, Selector, Turn};
use crate::health::Choice;

/// Published whole whenever health or membership changes.
#[derive(Debug)]
pub(super) struct Picture {
    order: Order,
    basis: Arc<Basis>,
    narrowings: Narrowings,
}

/// Who is asked first, and who then.
#[derive(Debug)]
pub(super) struct Order {
    first: Tier,
    then: Tier,
    /// Too few are healthy, so all are used.
    panic: bool,
}

#[derive(Debug)]
struct Tier {
    selector: Selector,
    slots: Box<[Arc<Slot>]>,
    /// Those of the slots, one step nearer.
    gauges: Box<[Arc<Gauge>]>,
}

impl Loads for Tier {
    fn load(&self, index: usize) -> u32 {
        self.gauges[index].load()
    }

    fn burden(&self, index: usize) -> u64 {
        self.gauges[index].burden()
    }
}

impl Tier {
    fn new(policy: Policy, slots: &[&Arc<Slot>], chosen: &[(usize, u32)]) -> Self {
        let member = |&(index, weight): &(usize, u32)| Member { id: slots[index].id, weight };
        let members: Vec<_> = chosen.iter().map(member).collect();
        let slots: Box<[Arc<Slot>]> =
            chosen.iter().map(|(index, _)| Arc::clone(slots[*index])).collect();
        let gauges = slots.iter().map(|slot| Arc::clone(&slot.account.gauge)).collect();
        Tier { selector: Selector::new(policy, &members), slots, gauges }
    }
}

impl Picture {
    /// The picture that `basis` makes.
    pub(super) fn new(basis: Basis) -> Self {
        let narrowings = Narrowings::default();
        Picture { order: basis.order(), basis: Arc::new(basis), narrowings }
    }

    /// Too few are healthy, so all are used.
    pub(super) fn panic(&self) -> bool {
        self.order.panic
    }

    /// The order of all backends.
    pub(super) fn order(&self) -> &Order {
        &self.order
    }

    /// What it is made of.
    pub(super) fn basis(&self) -> &Arc<Basis> {
        &self.basis
    }

    /// What `only` allows of it; see [`Narrowings::find`].
    pub(super) fn allowed(&self, only: Filter<'_>, start: u64) -> Allowed {
        self.narrowings.find(&self.basis, only, start)
    }

    #[cfg(test)]
    pub(super) fn narrowings(&self) -> &Narrowings {
        &self.narrowings
    }
}

impl Order {
    /// The order of `choice`, whose indexes mean `slots`.
    pub(super) fn new(policy: Policy, slots: &[&Arc<Slot>], choice: &Choice) -> Self {
        Order {
            first: Tier::new(policy, slots, &choice.first),
            then: Tier::new(policy, slots, &choice.then),
            panic: choice.panic,
        }
    }

    /// What this turn is offered.
    pub(super) fn offers(&self, turn: Turn) -> Offers<'_> {
        Offers { first: Walk::new(&self.first, turn), then: Walk::new(&self.then, turn) }
    }

    /// Whether nobody is left beside the `failed`.
    pub(super) fn is_spent(&self, failed: &[SocketAddr]) -> bool {
        let mut slots = self.first.slots.iter().chain(&self.then.slots);
        slots.all(|slot| failed.contains(&slot.account.address))
    }

    /// Backends whose permits are the cluster's, in this turn's order, without the `failed`: what is
    /// lent of them may be asked for.
    pub(super) fn borrowers(&self, turn: Turn, failed: &[SocketAddr]) -> Vec<Arc<Slot>> {
        let tier = |tier: &Tier| {
            let slots = tier.selector.candidates(turn, tier).map(|index| &tier.slots[index]);
            let open = slots.filter(|slot| !failed.contains(&slot.account.address));
            open.cloned().collect::<Vec<_>>()
        };
        let first = tier(&self.first);
        let mut slots = if first.is_empty() { tier(&self.then) } else { first };
        slots.retain(|slot| slot.holding.is_some());
        slots
    }
}

/// Places to connect to, in order of preference, found lazily.
pub(super) struct Offers<'a> {
    first: Walk<'a>,
    then: Walk<'a>,
}

/// One offer.
#[derive(Debug)]
pub(super) enum Offer {
    /// A place that is taken now.
    Place(Lease),
    /// Everybody left is full.
    Full,
    /// Nobody is left.
    Nobody,
}

struct Walk<'a> {
    slots: &'a [Arc<Slot>],
    candidates: Candidates<'a, Tier>,
}

impl<'a> Walk<'a> {
    fn new(tier: &'a Tier, turn: Turn) -> Self {
        Walk { slots: &tier.slots, candidates: tier.selector.candidates(turn, tier) }
    }

    fn next(&mut self, failed: &[SocketAddr]) -> Offer {
        let mut full = false;
        for index in &mut self.candidates {
            let slot = &self.slots[index];
            if failed.contains(&slot.account.address) {
                continue;
            }
            if let Some(lease) = slot.take_place() {
                return Offer::Place(lease);
            }
            full = true;
        }
        if full { Offer::Full } else { Offer::Nobody }
    }
}

impl Offers<'_> {
    /// The next place that is not among the `failed`. A full tier is waited for, not passed over:
    /// backups stand in for the dead, not for the busy.
    pub(super) fn next(&mut self, failed: &[SocketAddr]) -> Offer {
        match self.first.next(failed) {
            Offer::Nobody => self.then.next(failed),
            offer => offer,
        }
    }
}
