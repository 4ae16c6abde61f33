//! What is done because time went by or something changed.

use std::time::{Duration, Instant};

use rand::seq::IteratorRandom;

use super::{Machine, Output, Rooms, company};
use crate::base::Actor;
use crate::cluster::budget::Priority;
use crate::cluster::identity::Identity;
use crate::cluster::roster::{Event, MemberState};
use crate::cluster::verdicts::LOOK;
use crate::cluster::wire::Kind;
use crate::cluster::wire::records::Record;

/// A node that did not say what it is called is asked again after this.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// Nodes asked for their name at once.
const ASKED_AT_ONCE: usize = 20;
/// Peers asked to let us in again when the cluster took us for dead.
const ASKED_TO_REJOIN: usize = 3;
/// True duplicates of a name are complained of this often.
const COMPLAIN: Duration = Duration::from_secs(60);
/// A refusal that was not repeated for this long no longer stands.
const REFUSED_FOR: Duration = Duration::from_secs(15);

impl Machine {
    pub(super) fn upkeep(&mut self, now: Instant) {
        if self.driver.take_changed() {
            self.look_again = true;
            // Joins and deaths are told to everybody who asks at once.
            self.look_around(now);
        }
        if self.driver.take_rejoined() {
            tracing::warn!("the cluster took this node for dead; rejoining");
            self.herald.hurry(now);
            self.syncs.hurry(now);
            // Some know us by a generation that we may have to pass: a challenge tells which.
            for peer in self.peers().into_iter().sample(&mut self.rng, ASKED_TO_REJOIN) {
                self.send_join(now, Some(peer.actor), peer.address, 0);
            }
        }
        self.answer_claims(now);
        self.read_inbox();
        self.end_asks(now);
        self.tell_paces(now);
        self.tend_leases(now);
        self.call(now);
        self.tell_spent(now);
        if now >= self.next_upkeep {
            self.next_upkeep = now + LOOK;
            self.look_around(now);
            self.compare_views(now);
            self.ask_names(now);
            self.exchange_verdicts(now);
            self.complain(now);
            self.look_after_leases(now);
            self.plain &= self.boots.is_none() || self.unix_ms(now) < self.setup.plaintext_until;
            self.keep_acquaintances(now);
            self.keep_tickets(now);
        }
        self.tell_acts(now);
        self.remember();
        self.exchange_loads(now);
        self.keep_in_sync(now);
        self.tell_suspects(now);
        for (to, payload) in self.driver.take_sends() {
            self.send(now, Kind::Swim, to, &payload, Priority::Membership);
        }
    }

    /// Takes over what foca knows.
    fn look_around(&mut self, now: Instant) {
        if !std::mem::take(&mut self.look_again) {
            return;
        }
        let events = self.roster.refresh(now, self.driver.membership());
        self.roster.own_name(&self.setup.name.0);
        for event in &events {
            self.tell_of(now, event);
        }
        if !events.is_empty() {
            self.outputs.push_back(Output::Members);
            self.compare.be_eager(now);
        }
        self.look_for_owners(now);
        let alone = self.driver.active() == 0;
        self.herald.alone(now, alone);
        if !alone {
            self.fault = None;
        }
        let sharing: Vec<Actor> = self.sharing().collect();
        let gone = self.roster.rows().filter(|row| row.state == MemberState::Failed).count();
        let alive = sharing.len();
        let remembered = self.remembered().max(usize::from(self.setup.seeds));
        let company = company(alive, gone, remembered);
        if sharing != self.exchange.owners().members() {
            self.exchange.shared_by(sharing);
        }
        if company != self.company {
            if self.company.alive <= 1 && company.alive > 1 {
                self.syncs.hurry(now);
            }
            self.company = company;
            self.rooms.levels.company(company);
            self.outputs.push_back(Output::Members);
        }
    }

    fn tell_of(&mut self, now: Instant, event: &Event) {
        self.remember_peer(now, event);
        let Event { identity, name, state, back } = event;
        let (address, boot) = (identity.address, identity.actor.boot);
        match state {
            MemberState::Alive if *back => {
                tracing::info!(member = %name, %address, %boot, "member rejoined");
            }
            MemberState::Alive => tracing::info!(member = %name, %address, %boot, "member alive"),
            MemberState::Suspect => tracing::info!(member = %name, %address, "member suspect"),
            MemberState::Failed => tracing::warn!(member = %name, %address, "member failed"),
            MemberState::Left => tracing::info!(member = %name, %address, "member left"),
        }
        match state {
            MemberState::Alive => {
                self.herald.found(identity.address);
                self.told.hurry(now);
                self.beat_acts(now, *identity);
                self.beat_tickets(now, *identity, false);
                self.loads.hurry(now);
            }
            // Perhaps it is there again under a new boot, and nobody else asks it.
            MemberState::Suspect | MemberState::Failed => self.herald.lost(now, identity.address),
            MemberState::Left => {
                self.herald.found(identity.address);
            }
        }
    }

    fn read_inbox(&mut self) {
        for record in self.driver.inbox.take() {
            let news = match record {
                Record::Meta(meta) if meta.actor != self.setup.actor => self.roster.hear_meta(meta),
                Record::Leaving(leaving) => {
                    self.look_again = true;
                    self.forget_peer(leaving.actor);
                    self.roster.hear_leaving(leaving.actor)
                }
                _ => false,
            };
            if news {
                self.outputs.push_back(Output::Members);
            }
        }
    }

    fn call(&mut self, now: Instant) {
        if self.herald.due() > now {
            return;
        }
        let call = self.herald.call(now, &mut self.rng);
        if self.left {
            return;
        }
        if call.seeds && self.setup.seeds {
            self.outputs.push_back(Output::Resolve);
        }
        self.ask(now, &call.lost);
    }

    /// Members that share limits and verdicts, this node included unless it goes.
    pub(super) fn sharing(&self) -> impl Iterator<Item = Actor> {
        let peers = self.roster.rows().filter(|row| row.shares()).map(|row| row.identity.actor);
        std::iter::once(self.setup.actor).chain(peers)
    }

    fn tell_spent(&mut self, now: Instant) {
        if self.exchange.due() <= now {
            // What is held back is merged with what comes; nothing is lost by waiting.
            let bytes = if self.company.alive > 1 { self.allowance.counters(now) } else { 0 };
            let Rooms { ledger, levels, .. } = &self.rooms;
            if self.exchange.look(now, &**ledger, &**levels, bytes) {
                self.allowance.throttled += 1;
            }
        }
    }

    /// Sends what there is of limits. Done last, when nothing else is to be done, so that what came
    /// in together is answered together.
    pub(super) fn send_counters(&mut self, now: Instant) {
        for (to, payload) in self.exchange.payloads(now) {
            if let Some(row) = self.roster.row(to) {
                let to = row.identity;
                self.send(now, Kind::Counters, to, &payload, Priority::Counters);
            }
        }
    }

    fn ask_names(&mut self, now: Instant) {
        let nameless = self.roster.rows().filter(|row| {
            let waited = row.asked.is_none_or(|at| now.saturating_duration_since(at) >= ASK_AGAIN);
            row.state.active() && row.meta.is_none() && waited
        });
        let nameless: Vec<Identity> =
            nameless.map(|row| row.identity).take(ASKED_AT_ONCE).collect();
        for identity in nameless {
            if let Some(row) = self.roster.row_mut(identity.actor) {
                row.asked = Some(now);
            }
            // Ours with it: who is nameless to us may not know us either.
            let mut payload = Record::Meta(self.meta()).bytes();
            Record::AskMeta.put(&mut payload);
            self.send(now, Kind::Meta, identity, &payload, Priority::Membership);
        }
    }

    fn exchange_verdicts(&mut self, now: Instant) {
        let roster = &self.roster;
        let there = |actor| roster.row(actor).is_some_and(|row| row.shares());
        if self.heard.expire(now, there) {
            self.outputs.push_back(Output::Votes);
        }
        // Who may be deaf or ill keeps its opinion to itself.
        let mute = self.impaired() || self.driver.score.muted();
        let changed = self.told.look(now, &self.rooms.verdicts, mute);
        self.look_at_own_health(now);
        let relying = self.checking().len() == self.company.alive;
        if std::mem::replace(&mut self.relying, relying) != relying {
            self.outputs.push_back(Output::Votes);
        }
        if self.left || !self.told.any() {
            return;
        }
        let peers = self.peers();
        if changed {
            self.tell_verdicts(now, &peers);
        } else if self.told.beat_due(now, peers.len()) {
            let beat = self.told.beat(peers.len()).bytes();
            for peer in peers {
                self.send(now, Kind::Health, peer, &beat, Priority::Views);
            }
        }
    }

    /// All own verdicts to `peers`.
    pub(super) fn tell_verdicts(&mut self, now: Instant, peers: &[Identity]) {
        for part in self.told.parts(now) {
            let payload = part.bytes();
            for peer in peers {
                self.send(now, Kind::Health, *peer, &payload, Priority::Views);
            }
        }
    }

    fn complain(&mut self, now: Instant) {
        if self.fault.as_ref().is_some_and(|(at, _)| now.duration_since(*at) > REFUSED_FOR) {
            self.fault = None;
        }
        let own = (&*self.setup.name.0, self.driver.identity());
        self.roster.look_for_duplicates(now, own, self.setup.profile.death_is_known());
        let Some(&(a, b)) = self.roster.duplicates.first() else { return };
        if self.may_say(now, "duplicate name", COMPLAIN) {
            tracing::error!(one = %a.address, other = %b.address, "two nodes have the same `cluster.node_name`");
        }
    }
}
