//! Comparing views: gossip reaches nearly everybody, this reaches the rest. Now and then a node tells
//! one peer what its view amounts to; where two views differ, both tell theirs in full.

use std::time::{Duration, Instant};

use rand::seq::IndexedRandom;

use super::Machine;
use crate::base::Actor;
use crate::base::id::stable_hash;
use crate::cluster::budget::Priority;
use crate::cluster::identity::Identity;
use crate::cluster::wire::records::{Record, ViewBeat, ViewPart};
use crate::cluster::wire::{Kind, MAX_PAYLOAD};

/// Between two comparisons.
const CALM: Duration = Duration::from_secs(2);
/// Between two comparisons while views still differ.
const EAGER: Duration = Duration::from_millis(300);
/// How long a node is eager after it saw another view than its own.
const EAGERNESS: Duration = Duration::from_secs(1);
/// Between two full views told: a storm of joins costs a bounded number of bytes.
const BETWEEN: Duration = Duration::from_millis(50);
/// Bytes of a member at most: ids, an IPv6 address, generation, incarnation, state.
const MEMBER: usize = 52;

/// When to compare.
#[derive(Debug)]
pub(super) struct Compare {
    next: Instant,
    eager_until: Instant,
    told: Option<Instant>,
}

impl Compare {
    pub(super) fn new(now: Instant) -> Self {
        Compare { next: now, eager_until: now, told: None }
    }

    /// Another view than ours was seen, or ours is new.
    pub(super) fn be_eager(&mut self, now: Instant) {
        self.eager_until = now + EAGERNESS;
        self.next = self.next.min(now + EAGER);
    }
}

/// What `number` of `actor` adds to a sum over all actors, in any order.
pub(super) fn sum_of(actor: Actor, number: u64) -> u64 {
    let salt = actor.node.0 ^ actor.boot.bits().rotate_left(32);
    stable_hash(salt, &number.to_be_bytes())
}

impl Machine {
    /// Tells a peer at random what our view amounts to, when it is time.
    pub(super) fn compare_views(&mut self, now: Instant) {
        if now < self.compare.next || self.left {
            return;
        }
        self.compare.next = now + if now < self.compare.eager_until { EAGER } else { CALM };
        let peers = self.peers();
        if let Some(peer) = peers.choose(&mut self.rng) {
            let beat = Record::ViewBeat(self.view_beat(false)).bytes();
            self.send(now, Kind::View, *peer, &beat, Priority::Views);
        }
    }

    /// Tells suspects that they are suspected, so that they can refute.
    pub(super) fn tell_suspects(&mut self, now: Instant) {
        for suspect in self.driver.take_doubted() {
            let to = *suspect.id();
            let part = Record::ViewPart(ViewPart { members: vec![suspect] }).bytes();
            self.send(now, Kind::View, to, &part, Priority::Membership);
        }
    }

    pub(super) fn view_beat(&self, answer: bool) -> ViewBeat {
        let view = self.driver.view();
        let hash = view.iter().fold(0, |hash: u64, member| {
            let Identity { actor, generation, .. } = member.id();
            hash.wrapping_add(sum_of(*actor, *generation))
        });
        ViewBeat { count: view.len() as u32, hash, answer }
    }

    /// Our view, a record per datagram.
    pub(super) fn view_parts(&self) -> Vec<Vec<u8>> {
        let view = self.driver.view();
        let part = |members: &[_]| Record::ViewPart(ViewPart { members: members.to_vec() }).bytes();
        view.chunks((MAX_PAYLOAD - 8) / MEMBER).map(part).collect()
    }

    /// A peer told what its view amounts to.
    pub(super) fn hear_view_beat(&mut self, now: Instant, peer: Identity, beat: ViewBeat) {
        let own = self.view_beat(true);
        if (own.count, own.hash) == (beat.count, beat.hash) || self.left {
            return;
        }
        self.compare.be_eager(now);
        if self.compare.told.is_some_and(|at| now.saturating_duration_since(at) < BETWEEN) {
            return;
        }
        self.compare.told = Some(now);
        for part in self.view_parts() {
            self.send(now, Kind::View, peer, &part, Priority::Views);
        }
        if !beat.answer {
            let answer = Record::ViewBeat(own).bytes();
            self.send(now, Kind::View, peer, &answer, Priority::Views);
        }
    }

    /// A peer told whom it sees.
    pub(super) fn hear_view(&mut self, now: Instant, part: ViewPart) {
        let unix_ms = self.unix_ms(now);
        self.driver.take_over(now, unix_ms, part.members);
    }
}
