//! Caps over the cluster, inside the machine: this node's claims, its book as an owner, and what
//! goes between.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::Machine;
use crate::base::Actor;
use crate::cluster::asks::Ticket;
use crate::cluster::budget::Priority;
use crate::cluster::figures::LeaseFigures;
use crate::cluster::identity::Identity;
use crate::cluster::leases::book::Book;
use crate::cluster::leases::claims::Claims;
use crate::cluster::leases::quiet::Quiet;
use crate::cluster::leases::{HOLD, Loan, SETTLE, Told};
use crate::cluster::owners::{Owners, Pair};
use crate::cluster::roster::MemberState;
use crate::cluster::verdicts::LOOK;
use crate::cluster::wire::encoding::encode;
use crate::cluster::wire::lease::{
    LeaseAsk, LeaseBook, LeaseLoans, LeasePing, LeaseTold, LoanRow, PaceTold, ROWS_IN_PART,
    ToldRow, cap_key,
};
use crate::cluster::wire::records::Record;
use crate::cluster::wire::{Kind, MAX_PAYLOAD};
use crate::traffic::{Answer, CapKey, Demand, Standing};

/// Between two rounds of telling: what comes in between goes together.
const ROUND: Duration = Duration::from_millis(2);
/// Keys looked at in one round.
const AT_ONCE: usize = 1024;
/// Keys taken from the room at once.
const DRAINED: usize = 8192;
/// A question about a key's books, or whether somebody lives, is repeated after this.
const ASK_AGAIN: Duration = Duration::from_millis(5);
/// Questions about books under way at once.
const MOST_QUESTIONS: usize = 4096;
/// A holder that is nobody's member any more is waited for so long.
const UNKNOWN: Duration = Duration::from_secs(2);
/// Between two sweeps of the book.
const SWEEP: Duration = Duration::from_secs(2);

/// All that a machine knows of leases.
pub(super) struct Leases {
    pub(super) book: Book,
    pub(super) claims: Claims,
    pub(super) quiet: Quiet,
    pub(super) owners: Owners,
    /// As they were before members began to come and go; nobody, when this node was alone.
    before: Owners,
    changed_at: Instant,
    questions: HashMap<CapKey, Question>,
    pings: HashMap<Actor, Instant>,
    unknown: HashMap<Actor, Instant>,
    /// What this node tells and lends itself.
    own: VecDeque<Own>,
    outbox: BTreeMap<Actor, Mail>,
    bell: bool,
    next_round: Instant,
    next_sweep: Instant,
    refused: u64,
}

/// Who is asked about a key's books, and what is missing of the answers.
struct Question {
    asked: Instant,
    open: Vec<(Actor, Vec<u16>)>,
}

enum Own {
    Told(CapKey, Told),
    Loan(CapKey, Loan),
}

#[derive(Default)]
struct Mail {
    told: Vec<(CapKey, Told)>,
    loans: Vec<(CapKey, Loan)>,
    paces: Vec<Demand>,
    rest: Vec<Record>,
}

impl Leases {
    pub(super) fn new(now: Instant, own: Actor) -> Self {
        Leases {
            book: Book::new(now),
            claims: Claims::default(),
            quiet: Quiet::default(),
            owners: Owners::new([own]),
            before: Owners::default(),
            changed_at: now,
            questions: HashMap::new(),
            pings: HashMap::new(),
            unknown: HashMap::new(),
            own: VecDeque::new(),
            outbox: BTreeMap::new(),
            bell: true,
            next_round: now,
            next_sweep: now + SWEEP,
            refused: 0,
        }
    }

    pub(super) fn pair(&self, key: CapKey) -> Option<Pair> {
        self.owners.of(key.limit, key.key)
    }

    /// When time alone has something to be done.
    pub(super) fn due(&self) -> Option<Instant> {
        let round = (self.bell || self.claims.any_dirty()).then_some(self.next_round);
        round.into_iter().chain(self.claims.due()).min()
    }

    pub(super) fn ring(&mut self) {
        self.bell = true;
    }

    /// To be told with the next mail.
    pub(super) fn tell_pace(&mut self, to: Actor, demand: Demand) {
        self.outbox.entry(to).or_default().paces.push(demand);
    }

    pub(super) fn write(&mut self, to: Actor, record: Record) {
        self.outbox.entry(to).or_default().rest.push(record);
    }
}

impl Machine {
    /// A worker asks for permits.
    pub(super) fn ask_permits(&mut self, now: Instant, ticket: Ticket, key: CapKey, cap: u32) {
        let quiet = |owner| self.leases.quiet.is(now, owner);
        let nobody = match self.leases.pair(key) {
            None => true,
            Some(pair) => quiet(pair.primary) && pair.backup.is_none_or(quiet),
        };
        if nobody || !self.leases.claims.wait(key, cap, ticket) {
            self.answer(ticket, Answer::Nobody);
        }
    }

    /// Everything that is to be told now.
    pub(super) fn tend_leases(&mut self, now: Instant) {
        self.leases.claims.tick(now);
        if now >= self.leases.next_round {
            let busy = self.leases.bell || self.leases.claims.any_dirty();
            if std::mem::take(&mut self.leases.bell) {
                let mut keys = Vec::new();
                self.rooms.holder.drain(DRAINED, &mut keys);
                for key in keys {
                    let standing = self.rooms.holder.look(key);
                    self.leases.claims.touch(key, standing);
                }
            }
            for _ in 0..AT_ONCE {
                let Some(key) = self.leases.claims.next_dirty() else { break };
                self.tend_key(now, key);
                self.hear_ourselves(now);
            }
            if busy {
                self.leases.next_round = now + ROUND;
            }
        }
        self.hear_ourselves(now);
        self.post(now);
    }

    /// Now and then, whatever happens.
    pub(super) fn look_after_leases(&mut self, now: Instant) {
        self.leases.bell = true;
        self.leases.claims.refresh(LOOK);
        self.miss_holders(now);
        if now >= self.leases.next_sweep {
            self.leases.next_sweep = now + SWEEP;
            self.leases.book.expire(now);
            self.leases.questions.retain(|_, question| now < question.asked + SWEEP);
        }
    }

    /// Members came, went, or are about to.
    pub(super) fn look_for_owners(&mut self, now: Instant) {
        let own = self.setup.actor;
        let leaving = self.leaving || self.left;
        let sharing = self.roster.rows().filter(|row| row.shares());
        let mut members: Vec<Actor> = sharing.map(|row| row.identity.actor).collect();
        if !leaving || members.is_empty() {
            members.push(own);
        }
        members.sort_unstable();
        let leases = &mut self.leases;
        if leases.owners.members() == members {
            return;
        }
        let old = std::mem::replace(&mut leases.owners, Owners::new(members));
        if now.saturating_duration_since(leases.changed_at) >= SETTLE {
            // Who was alone knows of nobody else's permits.
            leases.before = if old.members().len() > 1 { old } else { Owners::default() };
        }
        leases.changed_at = now;
        leases.questions.clear();
        let owners = &leases.owners;
        let is_ours =
            |key: CapKey| owners.of(key.limit, key.key).is_some_and(|pair| pair.primary == own);
        leases.book.owners_changed(is_ours);
        leases.claims.touch_all();
        let roster = &self.roster;
        let there = |actor| roster.row(actor).is_some_and(|row| row.state.active());
        leases.quiet.retain(there);
        leases.pings.retain(|actor, _| there(*actor));
        let nodes = leases.owners.members().len();
        self.rooms.holder.nodes(nodes);
        self.rooms.paced.nodes(nodes);
    }

    /// Holders that are gone give nothing back any more: their permits return.
    fn miss_holders(&mut self, now: Instant) {
        let own = self.setup.actor;
        let mut gone = Vec::new();
        for holder in self.leases.book.holders() {
            let row = self.roster.row(holder);
            if row.is_some() || holder == own {
                self.leases.unknown.remove(&holder);
            }
            let since = |at: Instant| now.saturating_duration_since(at);
            let is_gone = match row {
                _ if holder == own => false,
                None => since(*self.leases.unknown.entry(holder).or_insert(now)) >= UNKNOWN,
                Some(row) => match row.state {
                    MemberState::Left => true,
                    MemberState::Failed => since(row.since) >= HOLD,
                    MemberState::Alive | MemberState::Suspect => false,
                },
            };
            if is_gone {
                gone.push(holder);
            }
        }
        for holder in gone {
            self.leases.unknown.remove(&holder);
            for key in self.leases.book.forget(holder) {
                self.serve(now, key, None);
            }
        }
    }

    fn failed_lately(&self, now: Instant) -> bool {
        self.roster.rows().any(|row| {
            row.state == MemberState::Failed && now.saturating_duration_since(row.since) < HOLD
        })
    }

    /// Looks at one of this node's claims: gives back what lies about, tells what is new.
    fn tend_key(&mut self, now: Instant, key: CapKey) {
        let (claims, asks) = (&mut self.leases.claims, &self.asks);
        let Some(cap) = claims.cap(key) else { return };
        let nothing = Standing { used: 0, held: 0, cap };
        let mut standing = self.rooms.holder.look(key).unwrap_or(nothing);
        if let Some(keep) = claims.settle(now, key, &standing, |ticket| asks.waits(ticket)) {
            self.rooms.holder.keep(key, keep);
            // Told is only what stands after that: somebody may have come meanwhile.
            standing = self.rooms.holder.look(key).unwrap_or(nothing);
        }
        if let Some(eager) = claims.eagerness(key) {
            self.rooms.holder.eager(key, eager);
        }
        let pair = self.leases.owners.of(key.limit, key.key);
        let owners = [pair.map(|pair| pair.primary), pair.and_then(|pair| pair.backup)];
        let quiet = &self.leases.quiet;
        let round_trip = self.asks.round_trip();
        let tell =
            claims.tell(now, key, &standing, owners, round_trip, |owner| quiet.is(now, owner));
        for (to, told) in tell.into_iter().flatten() {
            if to == self.setup.actor {
                self.leases.own.push_back(Own::Told(key, told));
            } else {
                self.leases.quiet.asked(now, to);
                self.leases.outbox.entry(to).or_default().told.push((key, told));
            }
        }
    }

    /// What this node says to itself needs no datagram.
    fn hear_ourselves(&mut self, now: Instant) {
        let own = self.setup.actor;
        while let Some(said) = self.leases.own.pop_front() {
            match said {
                Own::Told(key, told) => self.hear_told(now, own, key, &told),
                Own::Loan(key, loan) => self.hear_loan(now, own, key, &loan),
            }
        }
    }

    fn lend(&mut self, key: CapKey, to: Actor, loan: Loan) {
        if to == self.setup.actor {
            self.leases.own.push_back(Own::Loan(key, loan));
        } else {
            self.leases.outbox.entry(to).or_default().loans.push((key, loan));
        }
    }

    /// A holder tells how it stands.
    fn hear_told(&mut self, now: Instant, from: Actor, key: CapKey, told: &Told) {
        if self.leases.book.hear(now, key, from, told).is_none() {
            // Of a life before, unless we know of one that never was: it will see which.
            if let Some(loan) = self.leases.book.acknowledge(key, from) {
                self.lend(key, from, loan);
            }
            return;
        }
        let own = self.setup.actor;
        let serves = match self.leases.pair(key) {
            Some(pair) if pair.primary == own => self.may_serve(now, key),
            Some(pair) if pair.backup == Some(own) && told.instead => {
                self.stands_in(now, pair.primary)
            }
            _ => false,
        };
        if serves {
            self.serve(now, key, Some(from));
        } else if let Some(loan) = self.leases.book.acknowledge(key, from) {
            self.lend(key, from, loan);
        }
    }

    fn serve(&mut self, now: Instant, key: CapKey, from: Option<Actor>) {
        // Without somebody who asks, only what is ours beyond doubt.
        if from.is_none() && !self.leases.book.is_mine(key) {
            return;
        }
        let nodes = self.leases.owners.members().len();
        for (to, loan) in self.leases.book.serve(now, key, nodes, from) {
            self.lend(key, to, loan);
        }
    }

    /// Whether this node, the primary of `key`, knows all that was lent of it. Where another one may
    /// have kept the books a moment ago, that one is asked.
    fn may_serve(&mut self, now: Instant, key: CapKey) -> bool {
        if self.leases.book.is_mine(key) {
            return true;
        }
        let own = self.setup.actor;
        let settled = now.saturating_duration_since(self.leases.changed_at) >= SETTLE;
        let failed_lately = self.failed_lately(now);
        let mine = if settled && !failed_lately {
            true
        } else if let Some(prior) = self.leases.before.of(key.limit, key.key) {
            let here = |actor: &Actor| self.leases.owners.members().contains(actor);
            let inherited = !here(&prior.primary) && prior.backup == Some(own);
            if prior.primary == own || inherited {
                true
            } else if failed_lately
                && !here(&prior.primary)
                && !prior.backup.is_some_and(|backup| here(&backup))
            {
                // Both are gone with what they knew: whoever failed may still hold permits.
                false
            } else {
                self.ask_for_books(now, key)
            }
        } else {
            self.ask_for_books(now, key)
        };
        if mine {
            self.leases.book.make_mine(key);
        }
        mine
    }

    /// Asks those who come next after us for the books of `key`; whether there is nobody to ask.
    fn ask_for_books(&mut self, now: Instant, key: CapKey) -> bool {
        let own = self.setup.actor;
        let members = self.leases.owners.members().iter().copied();
        let others = Owners::new(members.filter(|actor| *actor != own));
        let Some(next) = others.of(key.limit, key.key) else {
            return !self.failed_lately(now);
        };
        let questions = &mut self.leases.questions;
        if questions.len() >= MOST_QUESTIONS && !questions.contains_key(&key) {
            return false;
        }
        let fresh = || {
            let open = [Some(next.primary), next.backup].into_iter().flatten();
            let asked = now.checked_sub(ASK_AGAIN).unwrap_or(now);
            Question { asked, open: open.map(|actor| (actor, Vec::new())).collect() }
        };
        let question = questions.entry(key).or_insert_with(fresh);
        if now >= question.asked + ASK_AGAIN {
            question.asked = now;
            let ask = Record::LeaseAsk(LeaseAsk { limit: key.limit.0, key: key.key.0 });
            for (to, _) in &question.open {
                self.leases.outbox.entry(*to).or_default().rest.push(ask.clone());
                self.leases.quiet.asked(now, *to);
            }
        }
        false
    }

    /// Whether this node, the backup, takes `primary` for dead. A primary that is only doubted is
    /// asked whether it lives.
    fn stands_in(&mut self, now: Instant, primary: Actor) -> bool {
        if self.leases.quiet.is(now, primary) {
            return true;
        }
        let asked = self.leases.pings.get(&primary);
        if asked.is_none_or(|at| now >= *at + ASK_AGAIN) {
            self.leases.pings.insert(primary, now);
            self.leases.quiet.asked(now, primary);
            let ping = Record::LeasePing(LeasePing { answer: false });
            self.leases.outbox.entry(primary).or_default().rest.push(ping);
        }
        false
    }

    /// An owner lends.
    fn hear_loan(&mut self, now: Instant, from: Actor, key: CapKey, loan: &Loan) {
        if !self.leases.claims.has(key) {
            let standing = self.rooms.holder.look(key);
            if standing.is_none_or(|standing| standing.held == 0) {
                // We are long done with it, and the owner did not hear.
                let nothing = self.leases.claims.nothing();
                if from != self.setup.actor && (loan.given > 0 || loan.recall) {
                    self.leases.outbox.entry(from).or_default().told.push((key, nothing));
                }
                return;
            }
            self.leases.claims.touch(key, standing);
        }
        let standing = self.rooms.holder.look(key).unwrap_or_default();
        let Some(brought) = self.leases.claims.take(now, key, from, loan, &standing) else {
            return;
        };
        if let Some(round_trip) = brought.round_trip.filter(|_| from != self.setup.actor) {
            self.asks.measured(round_trip);
        }
        if brought.permits > 0 {
            self.rooms.holder.add(key, brought.cap, brought.permits);
        }
        for ticket in brought.granted {
            self.answer(ticket, Answer::Granted { level: 0.0 });
        }
        for ticket in brought.refused {
            self.leases.refused += 1;
            self.answer(ticket, Answer::Refused { level: 0.0 });
        }
    }

    /// A record about leases came from a member.
    pub(super) fn hear_lease(&mut self, now: Instant, peer: Identity, record: Record) {
        let from = peer.actor;
        match record {
            Record::LeaseTold(told) => {
                for row in &told.rows {
                    self.hear_told(now, from, cap_key(told.limit, row.key), &row.told());
                }
            }
            Record::LeaseLoans(loans) => {
                for row in &loans.rows {
                    self.hear_loan(now, from, cap_key(loans.limit, row.key), &row.loan());
                }
            }
            Record::PaceTold(told) => self.hear_paces(now, from, &told),
            Record::PaceShares(shares) => self.hear_shares(now, from, &shares),
            Record::LeaseAsk(ask) => self.hear_ask_for_books(from, ask),
            Record::LeaseBook(book) => self.hear_book(now, from, &book),
            Record::LeasePing(LeasePing { answer: false }) => {
                let answer = Record::LeasePing(LeasePing { answer: true });
                self.leases.outbox.entry(from).or_default().rest.push(answer);
            }
            _ => {}
        }
    }

    /// Somebody begins to keep the books of a key, which we may have kept. As we answer, we see it
    /// among the members, and so lend no more of it ourselves.
    fn hear_ask_for_books(&mut self, from: Actor, ask: LeaseAsk) {
        let key = cap_key(ask.limit, ask.key);
        let own = self.setup.actor;
        if self.leases.pair(key).is_none_or(|pair| pair.primary == own) {
            // To us it is ours: views differ, and soon will not.
            return;
        }
        let mut rows = self.leases.book.lent(key);
        rows.retain(|(holder, _)| *holder != own && *holder != from);
        if let Some(standing) = self.rooms.holder.look(key) {
            rows.push((own, standing.held));
        }
        let parts = rows.len().div_ceil(ROWS_IN_PART).max(1);
        let mut chunks = rows.chunks(ROWS_IN_PART);
        for part in 0..parts {
            let rows = chunks.next().unwrap_or_default().to_vec();
            let (part, parts) = (part as u16, parts as u16);
            let book = LeaseBook { limit: ask.limit, key: ask.key, part, parts, rows };
            self.leases.outbox.entry(from).or_default().rest.push(Record::LeaseBook(book));
        }
    }

    fn hear_book(&mut self, now: Instant, from: Actor, book: &LeaseBook) {
        let key = cap_key(book.limit, book.key);
        let Some(question) = self.leases.questions.get_mut(&key) else { return };
        let Some(at) = question.open.iter().position(|(actor, _)| *actor == from) else { return };
        let heard = &mut question.open[at].1;
        if !heard.contains(&book.part) {
            heard.push(book.part);
        }
        if heard.len() >= usize::from(book.parts) {
            question.open.swap_remove(at);
        }
        let whole = question.open.is_empty();
        self.leases.book.learn(now, key, &book.rows);
        let own = self.setup.actor;
        if whole && self.leases.pair(key).is_some_and(|pair| pair.primary == own) {
            self.leases.questions.remove(&key);
            self.leases.book.make_mine(key);
            self.serve(now, key, None);
        }
    }

    /// Sends what was written, in as few datagrams as it fits in. What the traffic cap holds back is
    /// lost, and told again like anything that is lost.
    fn post(&mut self, now: Instant) {
        for (to, mail) in std::mem::take(&mut self.leases.outbox) {
            let Some(peer) = self.roster.row(to).filter(|row| row.state.active()) else { continue };
            let peer = peer.identity;
            let mut packet = Packet::default();
            let mut payloads = Vec::new();
            let mut told: BTreeMap<u64, Vec<ToldRow>> = BTreeMap::new();
            for (key, row) in &mail.told {
                told.entry(key.limit.0).or_default().push(ToldRow::new(key.key, row));
            }
            for (limit, rows) in told {
                let record = |rows| Record::LeaseTold(LeaseTold { limit, rows });
                packet.put(&rows, record, &mut payloads);
            }
            let mut loans: BTreeMap<u64, Vec<LoanRow>> = BTreeMap::new();
            for (key, row) in &mail.loans {
                loans.entry(key.limit.0).or_default().push(LoanRow::new(key.key, row));
            }
            for (limit, rows) in loans {
                let record = |rows| Record::LeaseLoans(LeaseLoans { limit, rows });
                packet.put(&rows, record, &mut payloads);
            }
            let mut paces: BTreeMap<u64, Vec<(u64, u64, u64, bool)>> = BTreeMap::new();
            for Demand { key, rate, moved, hungry } in mail.paces {
                paces.entry(key.limit.0).or_default().push((key.key.0, rate, moved, hungry));
            }
            for (limit, rows) in paces {
                let record = |rows| Record::PaceTold(PaceTold { limit, rows });
                packet.put(&rows, record, &mut payloads);
            }
            for record in mail.rest {
                packet.add(&record.bytes(), &mut payloads);
            }
            payloads.extend(Some(packet.0).filter(|last| !last.is_empty()));
            for payload in payloads {
                self.send(now, Kind::Lease, peer, &payload, Priority::Views);
            }
        }
    }

    /// For metrics.
    pub(super) fn lease_figures(&self) -> LeaseFigures {
        let counts = self.leases.book.counts;
        LeaseFigures {
            claimed: self.leases.claims.len() as u64,
            booked: self.leases.book.keys() as u64,
            split: self.paces.keys() as u64,
            lent: counts.lent,
            recalled: counts.recalled,
            full: counts.full,
            crowded: counts.crowded,
        }
    }
}

/// A payload that is being filled.
#[derive(Default)]
struct Packet(Vec<u8>);

impl Packet {
    fn add(&mut self, record: &[u8], full: &mut Vec<Vec<u8>>) {
        if self.0.len() + record.len() > MAX_PAYLOAD {
            full.push(std::mem::take(&mut self.0));
        }
        self.0.extend_from_slice(record);
    }

    /// Adds `rows` in records as long as fit.
    fn put<T: Copy + serde::Serialize>(
        &mut self,
        rows: &[T],
        record: impl Fn(Vec<T>) -> Record,
        full: &mut Vec<Vec<u8>>,
    ) {
        /// A record's head: type, length, the cap, the number of rows.
        const HEAD: usize = 3 + 9 + 3;
        let (mut bytes, mut part) = (HEAD, Vec::new());
        for row in rows {
            let mut encoded = Vec::with_capacity(64);
            encode(row, &mut encoded);
            if self.0.len() + bytes + encoded.len() > MAX_PAYLOAD {
                if !part.is_empty() {
                    let whole = record(std::mem::take(&mut part)).bytes();
                    self.0.extend_from_slice(&whole);
                }
                full.push(std::mem::take(&mut self.0));
                bytes = HEAD;
            }
            bytes += encoded.len();
            part.push(*row);
        }
        if !part.is_empty() {
            self.add(&record(part).bytes(), full);
        }
    }
}
