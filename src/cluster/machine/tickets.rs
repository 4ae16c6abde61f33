//! Secrets of session tickets between nodes. A new one is sent to every peer at once and three times
//! more; what all amount to is compared with some peer now and then, with who has just come at once,
//! and in push/pull. Over sealed gossip only: without keys nothing is sent and nothing is heard.

use std::time::{Duration, Instant};

use rand::RngExt;
use rand::seq::IndexedRandom;

use super::Machine;
use crate::cluster::budget::Priority;
use crate::cluster::identity::Identity;
use crate::cluster::tickets::{self, Heard, Rotation, Standing};
use crate::cluster::wire::records::{Record, TicketRow, TicketsBeat};
use crate::cluster::wire::{Kind, Reason, pack};
use crate::net::tls::TicketSecret;

/// A new secret is told so often, a look apart: 5 % loss each leaves six in a million.
const TIMES: u32 = 4;
/// Between two comparisons.
const CALM: Duration = Duration::from_secs(30);
/// Between two comparisons for a while after a change, or after other sums were seen.
const EAGER: Duration = Duration::from_millis(500);
/// How long that is.
const EAGERNESS: Duration = Duration::from_secs(3);
/// Between two times that all secrets are told.
const BETWEEN: Duration = Duration::from_millis(50);

/// What is known and under way.
#[derive(Debug)]
pub(super) struct Tickets {
    rotation: Rotation,
    /// Own ones, and how often they are still to be told.
    under_way: Vec<(TicketSecret, u32)>,
    next_beat: Instant,
    eager_until: Instant,
    told: Option<Instant>,
}

impl Tickets {
    pub(super) fn new(now: Instant, rotation: Rotation) -> Self {
        Tickets { rotation, under_way: Vec::new(), next_beat: now, eager_until: now, told: None }
    }

    fn be_eager(&mut self, now: Instant) {
        self.eager_until = now + EAGERNESS;
        self.next_beat = self.next_beat.min(now + EAGER);
    }
}

impl Machine {
    /// Makes what is due, publishes what is in use, tells it and compares it.
    pub(super) fn keep_tickets(&mut self, now: Instant) {
        self.rotate(now);
        if self.boots.is_none() || self.left {
            return;
        }
        self.tell_new_secrets(now);
        if now >= self.tickets.next_beat {
            let eager = now < self.tickets.eager_until;
            let calm = CALM.mul_f64(self.rng.random_range(0.9..1.1));
            self.tickets.next_beat = now + if eager { EAGER } else { calm };
            let peers = self.trusted();
            if let Some(peer) = peers.choose(&mut self.rng) {
                self.beat_tickets(now, *peer, false);
            }
        }
    }

    fn rotate(&mut self, now: Instant) {
        let unix_ms = self.unix_ms(now);
        let shared = self.boots.is_some();
        // Who will hear of peers, or may yet.
        let company = shared && (self.setup.seeds || self.driver.active() > 0);
        let own = self.setup.actor.node;
        let peers: Vec<_> = self.trusted().iter().map(|peer| peer.actor.node).collect();
        let standing = |epoch| match company {
            true => Standing::Behind(tickets::rank(epoch, own, peers.iter().copied())),
            false => Standing::Alone,
        };
        let due = self.tickets.rotation.turn(unix_ms, standing).filter(|_| !self.left);
        if let Some(secret) = due.and_then(|epoch| tickets::mint(&self.rooms.draw, epoch)) {
            tracing::debug!(?secret, "a new secret for session tickets");
            self.tickets.rotation.hear(unix_ms, secret.clone());
            self.tickets.rotation.turn(unix_ms, |_| Standing::Behind(u32::MAX));
            self.tickets.under_way.push((secret, TIMES));
            self.tickets.be_eager(now);
        }
        self.rooms.tickets.publish(self.tickets.rotation.set(shared));
    }

    fn tell_new_secrets(&mut self, now: Instant) {
        if self.tickets.under_way.is_empty() {
            return;
        }
        let payloads = pack(self.tickets.under_way.iter().map(|(secret, _)| row(secret)));
        self.tickets.under_way.retain_mut(|(_, left)| {
            *left -= 1;
            *left > 0
        });
        for peer in self.trusted() {
            self.tell_secrets(now, peer, &payloads);
        }
    }

    /// Peers whose ear gossip is sealed for. While plaintext is spoken as well, only those that have
    /// shown that they hold a key.
    fn trusted(&self) -> Vec<Identity> {
        let Some(boots) = &self.boots else { return Vec::new() };
        let mut peers = self.peers();
        peers.retain(|peer| !self.plain || boots.knows(peer.actor));
        peers
    }

    fn tell_secrets(&mut self, now: Instant, peer: Identity, payloads: &[Vec<u8>]) {
        for payload in payloads {
            self.send(now, Kind::Tickets, peer, payload, Priority::Views);
        }
    }

    /// Says to `peer` what all secrets amount to.
    pub(super) fn beat_tickets(&mut self, now: Instant, peer: Identity, answer: bool) {
        let trusted =
            self.boots.as_ref().is_some_and(|boots| !self.plain || boots.knows(peer.actor));
        if trusted {
            let beat = Record::TicketsBeat(self.tickets_beat(now, answer)).bytes();
            self.send(now, Kind::Tickets, peer, &beat, Priority::Views);
        }
    }

    pub(super) fn tickets_beat(&self, now: Instant, answer: bool) -> TicketsBeat {
        let rotation = &self.tickets.rotation;
        let epoch = rotation.epoch(self.unix_ms(now));
        let sums = [epoch.saturating_sub(1), epoch, epoch + 1].map(|of| rotation.sum(of));
        TicketsBeat { epoch, sums, answer }
    }

    /// A peer's sums, heard under seal.
    pub(super) fn hear_tickets_beat(&mut self, now: Instant, peer: Identity, beat: TicketsBeat) {
        let Some(rows) = self.tickets_beyond(now, &beat) else { return };
        self.tickets.be_eager(now);
        let told = self.tickets.told;
        if self.left || told.is_some_and(|at| now.saturating_duration_since(at) < BETWEEN) {
            return;
        }
        self.tickets.told = Some(now);
        self.tell_secrets(now, peer, &pack(rows));
        if !beat.answer {
            self.beat_tickets(now, peer, true);
        }
    }

    /// All secrets of the epochs of which a peer has others; `None`: of none. Epochs that only one of
    /// both is near enough to are not compared: clocks differ.
    pub(super) fn tickets_beyond(
        &self,
        now: Instant,
        theirs: &TicketsBeat,
    ) -> Option<Vec<Vec<u8>>> {
        let rotation = &self.tickets.rotation;
        let epochs = Rotation::window(rotation.epoch(self.unix_ms(now)));
        let other = |epoch: &u64| theirs.sum(*epoch).is_some_and(|sum| sum != rotation.sum(*epoch));
        let differing: Vec<u64> = epochs.filter(other).collect();
        let rows = differing.iter().flat_map(|epoch| rotation.of(*epoch)).map(row).collect();
        (!differing.is_empty()).then_some(rows)
    }

    /// A peer's secret, heard under seal.
    pub(super) fn hear_ticket(&mut self, now: Instant, row: &TicketRow) {
        let unix_ms = self.unix_ms(now);
        match self.tickets.rotation.hear(unix_ms, row.into()) {
            Heard::New => {
                self.tickets.be_eager(now);
                // What it brought opens tickets from now on.
                self.rooms.tickets.publish(self.tickets.rotation.set(true));
            }
            Heard::Nothing => {}
            Heard::TooEarly => self.traffic.drop(Reason::FutureGeneration),
        }
    }
}

fn row(secret: &TicketSecret) -> Vec<u8> {
    Record::Ticket(secret.into()).bytes()
}
