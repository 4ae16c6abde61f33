//! What comes in.

use std::collections::HashSet;
use std::mem;
use std::net::SocketAddr;
use std::time::Instant;

use super::{Machine, Output};
use crate::base::Actor;
use crate::cluster::MOST_MEMBERS;
use crate::cluster::acts::Row;
use crate::cluster::budget::Priority;
use crate::cluster::identity::Identity;
use crate::cluster::private::is_public;
use crate::cluster::wire::records::{Record, records};
use crate::cluster::wire::{Head, Kind, Opened, PLAINTEXT, Reason};

impl Machine {
    /// A datagram, or why it changes nothing.
    pub(super) fn hear(
        &mut self,
        now: Instant,
        from: SocketAddr,
        bytes: &[u8],
    ) -> Result<(), Reason> {
        let head = Head::read(bytes)?;
        let kind = if head.key == PLAINTEXT {
            self.hear_plain(now, from, &head, bytes)?
        } else {
            self.hear_sealed(now, from, &head, bytes)?
        };
        self.traffic.received(kind, bytes.len());
        Ok(())
    }

    fn hear_plain(
        &mut self,
        now: Instant,
        from: SocketAddr,
        head: &Head,
        bytes: &[u8],
    ) -> Result<Kind, Reason> {
        // Who has shown that it holds a key is not believed without it any more.
        let sealed = self.boots.as_ref().is_some_and(|boots| boots.knows(head.sender));
        if !self.plain || sealed {
            return Err(Reason::Plaintext);
        }
        if !self.setup.public && is_public(from.ip()) {
            return Err(Reason::PublicAddress);
        }
        let Opened { kind, sender, anyone, payload, .. } = self.envelope.open(bytes)?;
        // Secrets that others could read are none, and others could have made them.
        if kind == Kind::Tickets {
            return Err(Reason::Plaintext);
        }
        let member = self.roster.row(sender).is_some_and(|row| row.state.active());
        if !self.intake.admit(now, sender, member) {
            return Err(Reason::RateLimited);
        }
        self.hear_content(now, from, sender, kind, anyone, payload)?;
        Ok(kind)
    }

    /// What a datagram carries that may count.
    pub(super) fn hear_content(
        &mut self,
        now: Instant,
        from: SocketAddr,
        sender: Actor,
        kind: Kind,
        anyone: bool,
        payload: &[u8],
    ) -> Result<(), Reason> {
        self.leases.quiet.heard(sender);
        if kind == Kind::Swim {
            return self.hear_swim(now, sender, payload);
        }
        let mut asked = HashSet::new();
        for record in records(payload).map_err(|_| Reason::Undecodable)? {
            // An ask is answered by more bytes than it has: once per datagram will do.
            let ask = matches!(
                record,
                Record::AskMeta
                    | Record::AskHealth
                    | Record::HealthBeat(_)
                    | Record::ViewBeat(_)
                    | Record::ActsBeat(_)
                    | Record::AskActs(_)
                    | Record::TicketsBeat(_)
            );
            if ask && !asked.insert(mem::discriminant(&record)) {
                return Err(Reason::Undecodable);
            }
            // What was sent to whoever hears it opens a challenge, and no door.
            let answer = matches!(&record, Record::Join(join) if join.nonce != 0);
            if anyone && answer {
                return Err(Reason::Unaddressed);
            }
            self.hear_record(now, from, sender, kind, record)?;
        }
        Ok(())
    }

    fn hear_swim(&mut self, now: Instant, sender: Actor, payload: &[u8]) -> Result<(), Reason> {
        let unix_ms = self.unix_ms(now);
        if self.driver.membership().len() >= MOST_MEMBERS && self.driver.names_strangers(payload) {
            return Err(Reason::MembersFull);
        }
        self.driver.hear(now, unix_ms, sender, payload)?;
        self.look_again = true;
        self.answered = true;
        Ok(())
    }

    fn hear_record(
        &mut self,
        now: Instant,
        from: SocketAddr,
        sender: Actor,
        kind: Kind,
        record: Record,
    ) -> Result<(), Reason> {
        // Only a join may come from a stranger.
        match (kind, record) {
            (Kind::Join, Record::Join(join)) => self.hear_join(now, from, sender, join),
            (Kind::Join, Record::Challenge(challenge)) => {
                self.hear_challenge(now, from, sender, challenge);
                Ok(())
            }
            (Kind::Join, Record::Refused(refused)) => {
                self.hear_refused(now, refused);
                Ok(())
            }
            // Of this kind only what is sealed comes here.
            (Kind::Tickets, record) => {
                let peer = self.peer(sender)?;
                match record {
                    Record::TicketsBeat(beat) => self.hear_tickets_beat(now, peer, beat),
                    Record::Ticket(row) => self.hear_ticket(now, &row),
                    _ => return Err(Reason::Undecodable),
                }
                Ok(())
            }
            (_, record) => {
                let peer = self.peer(sender)?;
                self.hear_peer(now, peer, record)
            }
        }
    }

    pub(super) fn peer(&self, sender: Actor) -> Result<Identity, Reason> {
        let row = self.roster.row(sender).filter(|row| row.state.active());
        row.map(|row| row.identity).ok_or(Reason::UnknownSender)
    }

    pub(super) fn hear_peer(
        &mut self,
        now: Instant,
        peer: Identity,
        record: Record,
    ) -> Result<(), Reason> {
        match record {
            Record::Meta(meta) if meta.actor == peer.actor => {
                if self.roster.hear_meta(meta) {
                    self.outputs.push_back(Output::Members);
                    self.outputs.push_back(Output::Votes);
                }
            }
            Record::Leaving(leaving) if leaving.actor == peer.actor => {
                self.roster.hear_leaving(peer.actor);
                self.forget_peer(peer.actor);
                self.look_again = true;
            }
            Record::AskMeta => {
                let meta = Record::Meta(self.meta()).bytes();
                self.send(now, Kind::Meta, peer, &meta, Priority::Membership);
            }
            Record::Reports(reports) => {
                self.exchange.hear_reports(now, peer.actor, &reports, &*self.rooms.levels);
            }
            Record::Levels(told) => {
                self.exchange.hear_levels(now, peer.actor, &told, &*self.rooms.levels);
            }
            Record::TokenAsk(ask) => self.hear_token_ask(now, peer, ask),
            Record::TokenAnswer(answer) => self.hear_token_answer(now, peer, answer),
            Record::Hot(hot) => {
                self.exchange.hear_hot(now, peer.actor, &hot, &*self.rooms.levels);
            }
            Record::HealthBeat(beat) => {
                if self.heard.beat(now, peer.actor, beat) {
                    let ask = Record::AskHealth.bytes();
                    self.send(now, Kind::Health, peer, &ask, Priority::Views);
                }
            }
            Record::HealthPart(part) => {
                if self.heard.part(now, peer.actor, part) {
                    self.outputs.push_back(Output::Votes);
                }
            }
            Record::Load(load) => self.loads.hear(now, peer.actor, &load),
            Record::ViewBeat(beat) => self.hear_view_beat(now, peer, beat),
            Record::ViewPart(part) => self.hear_view(now, part),
            Record::AskHealth => self.tell_verdicts(now, &[peer]),
            Record::LeaseTold(_)
            | Record::LeaseLoans(_)
            | Record::LeaseAsk(_)
            | Record::LeaseBook(_)
            | Record::LeasePing(_)
            | Record::PaceTold(_)
            | Record::PaceShares(_) => self.hear_lease(now, peer, record),
            Record::ActsBeat(beat) => self.hear_acts_beat(now, peer, beat),
            Record::AskActs(ask) => self.answer_acts(now, peer, &ask),
            Record::Ban(ban) => self.hear_acts(now, vec![Row::Ban(ban)]),
            Record::Drain(drain) => self.hear_acts(now, vec![Row::Drain(drain)]),
            Record::Backend(backend) => self.hear_acts(now, vec![Row::Backend(backend)]),
            // Right in itself, but not where it came.
            _ => return Err(Reason::Undecodable),
        }
        Ok(())
    }
}
