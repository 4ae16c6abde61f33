//! Connections in flight: told and heard.

use std::time::Instant;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::Machine;
use crate::base::Actor;
use crate::cluster::budget::Priority;
use crate::cluster::loads::{Heard, LOOK, Told};
use crate::cluster::wire::Kind;
use crate::cluster::wire::records::LoadRows;

/// Both directions.
#[derive(Debug)]
pub(super) struct Loads {
    told: Told,
    heard: Heard,
    next: Instant,
    rng: StdRng,
}

impl Loads {
    pub(super) fn new(now: Instant, seed: u64) -> Self {
        let rng = StdRng::seed_from_u64(seed);
        Loads { told: Told::new(now), heard: Heard::default(), next: now, rng }
    }

    pub(super) fn hear(&mut self, now: Instant, actor: Actor, load: &LoadRows) {
        self.heard.rows(now, actor, load);
    }

    /// When to look again; a node without backends is not woken for it.
    pub(super) fn due(&self) -> Option<Instant> {
        (!self.heard.is_empty()).then_some(self.next)
    }

    /// Somebody new is there.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.told.hurry(now);
    }
}

impl Machine {
    pub(super) fn exchange_loads(&mut self, now: Instant) {
        if now < self.loads.next {
            return;
        }
        // Nodes that all told at one moment would all think alike until the next: chance keeps
        // them apart (Floyd, Jacobson 1994).
        self.loads.next = now + LOOK.mul_f64(self.loads.rng.random_range(0.75..1.25));
        let all = self.rooms.tally.look();
        let roster = &self.roster;
        // Also of who is about to leave: its connections end one by one.
        let there = |actor| roster.row(actor).is_some_and(|row| row.state.active());
        self.loads.heard.look(now, &all, there);
        if self.left || !self.loads.told.due(now) {
            return;
        }
        let peers = self.peers();
        if peers.is_empty() || !self.allowance.loads(now) {
            return;
        }
        let own: Vec<(u64, u32)> =
            all.iter().map(|backend| (backend.key.id(), backend.own)).collect();
        for record in self.loads.told.round(now, &own, peers.len()) {
            let payload = record.bytes();
            for peer in &peers {
                self.send(now, Kind::Load, *peer, &payload, Priority::Counters);
            }
        }
    }
}
