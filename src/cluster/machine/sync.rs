//! Push/pull: when, with whom, and what is told. At once when a node finds its first peer or comes
//! back, then now and then with somebody at random.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::seq::IndexedRandom;
use rand::{Rng, RngExt};

use super::view::sum_of;
use super::{Machine, Output};
use crate::base::{Actor, NodeId};
use crate::cluster::acts::{AskActs, Row, Store};
use crate::cluster::budget::Priority;
use crate::cluster::figures::SyncFigures;
use crate::cluster::identity::Identity;
use crate::cluster::private::is_public;
use crate::cluster::sync::{Session, StreamId};
use crate::cluster::wire::records::{Meta, Record, StateBeat, TicketsBeat, ViewPart, records};
use crate::cluster::wire::stream::{FRAME, Greeting, HELLO};
use crate::cluster::wire::{Kind, PLAINTEXT, Reason};

/// Between two calls, times log2 of the number of nodes: the newest state costs all the same.
const PERIOD: Duration = Duration::from_secs(30);
/// From the first peer to the first call: it says where it is to be called meanwhile.
const FIRST: Duration = Duration::from_millis(50);
/// From a call that failed to the next one, each time doubled.
const AGAIN: Duration = Duration::from_millis(200);
/// A node calls us no more often.
const BETWEEN: Duration = Duration::from_secs(1);
/// Callers that have shown who they are, at once.
const MOST_CALLERS: usize = 8;
/// Callers that have not; the oldest gives way.
const MOST_STRANGERS: usize = 256;
/// Acts in one turn: comparing costs a look at every act, and gossip brings the rest.
const MOST_ACTS: usize = 16_384;
/// Calls that fail are complained of this often.
const COMPLAIN: Duration = Duration::from_secs(600);

/// What happens to a stream.
#[derive(Clone, Debug)]
pub enum StreamEvent<'a> {
    /// Somebody called.
    Accepted {
        /// Who.
        from: SocketAddr,
    },
    /// Somebody called, and there was no room.
    TurnedAway,
    /// Our call was accepted.
    Connected,
    /// Bytes came in.
    Bytes(&'a [u8]),
    /// It is over, and why.
    Closed(&'a str),
}

/// A stream and what its other end said of its state.
#[derive(Debug)]
struct Talk {
    session: Session,
    at: SocketAddr,
    theirs: Option<StateBeat>,
    sums: Option<Vec<u8>>,
    tickets: Option<TicketsBeat>,
}

impl Talk {
    fn new(session: Session, at: SocketAddr) -> Talk {
        Talk { session, at, theirs: None, sums: None, tickets: None }
    }

    /// Whether what is said once both have greeted is sealed.
    fn sealed(&self) -> bool {
        self.session.met() && self.session.greeting().key != PLAINTEXT
    }
}

/// All streams.
#[derive(Debug)]
pub(super) struct Syncs {
    talks: BTreeMap<StreamId, Talk>,
    called: u64,
    due: Instant,
    wait: Duration,
    callers: HashMap<NodeId, Instant>,
    pub(super) counted: SyncFigures,
}

impl Syncs {
    pub(super) fn new(now: Instant) -> Self {
        let (talks, callers) = (BTreeMap::new(), HashMap::new());
        let counted = SyncFigures::default();
        Syncs { talks, called: 0, due: now + PERIOD, wait: AGAIN, callers, counted }
    }

    /// This node has peers again, who may know what it does not.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.due = now + FIRST;
        self.wait = AGAIN;
    }

    pub(super) fn due(&self) -> Instant {
        self.talks.values().map(|talk| talk.session.ends).fold(self.due, Instant::min)
    }

    /// Those that have called; of them those who have shown who they are, or have not.
    fn callers(&self, authentic: bool) -> impl Iterator<Item = (StreamId, &Session)> {
        let sessions = self.talks.iter().map(|(stream, talk)| (*stream, &talk.session));
        sessions.filter(move |(stream, session)| {
            matches!(stream, StreamId::In(_)) && session.authentic == authentic
        })
    }
}

impl Machine {
    pub(super) fn hear_stream(&mut self, now: Instant, stream: StreamId, event: StreamEvent<'_>) {
        match event {
            StreamEvent::Accepted { from } => self.hear_call(now, stream, from),
            StreamEvent::TurnedAway => {
                self.traffic.drop(Reason::RateLimited);
                self.syncs.counted.unanswered += 1;
            }
            StreamEvent::Connected => {
                if let Some(talk) = self.syncs.talks.get(&stream) {
                    let hello = talk.session.greeting().bytes();
                    self.write(now, stream, hello, 1);
                }
            }
            StreamEvent::Bytes(bytes) => {
                // Otherwise it was ended, and its last bytes were on their way.
                let Some(mut talk) = self.syncs.talks.remove(&stream) else { return };
                match self.advance(now, stream, &mut talk, bytes) {
                    Ok(false) => {
                        self.syncs.talks.insert(stream, talk);
                    }
                    Ok(true) => self.done(now, stream, &talk),
                    Err(reason) => {
                        self.traffic.drop(reason);
                        self.failed(now, stream, &talk, reason.label());
                    }
                }
            }
            StreamEvent::Closed(why) => {
                if let Some(talk) = self.syncs.talks.remove(&stream) {
                    self.failed(now, stream, &talk, why);
                }
            }
        }
    }

    /// Ends what took too long, and calls when it is time.
    pub(super) fn keep_in_sync(&mut self, now: Instant) {
        let late = |(_, talk): &(&StreamId, &Talk)| talk.session.ends <= now;
        while let Some(stream) = self.syncs.talks.iter().find(late).map(|(stream, _)| *stream) {
            self.give_up(now, stream, "it took too long");
        }
        if now < self.syncs.due {
            return;
        }
        let nodes = (self.driver.active() + 1) as f64;
        let period = PERIOD.mul_f64(nodes.log2().max(1.0));
        self.syncs.due = now + period.mul_f64(self.rng.random_range(0.9..1.1));
        let calling = self.syncs.talks.keys().any(|stream| matches!(stream, StreamId::Out(_)));
        if self.left || calling || self.driver.active() == 0 {
            return;
        }
        let may = self.boots.is_some() || self.setup.public;
        let callable = self.roster.rows().filter(|row| row.state.active()).filter_map(|row| {
            let at = row.meta.as_ref()?.sync?;
            (may || !is_public(at.ip())).then_some((row.identity.actor, at))
        });
        let callable: Vec<_> = callable.collect();
        match callable.choose(&mut self.rng) {
            Some(&(peer, at)) => self.call_up(now, peer, at),
            None => self.call_again_soon(now),
        }
    }

    fn call_up(&mut self, now: Instant, peer: Actor, at: SocketAddr) {
        let sealed = self.boots.as_ref().filter(|boots| !self.plain || boots.knows(peer));
        let key = sealed.map_or(PLAINTEXT, |boots| boots.first_key().get());
        self.syncs.called += 1;
        let stream = StreamId::Out(self.syncs.called);
        let session = Session::new(self.greeting(key), Some(peer), now);
        self.syncs.talks.insert(stream, Talk::new(session, at));
        self.outputs.push_back(Output::Connect { stream, to: at });
    }

    fn greeting(&mut self, key: u8) -> Greeting {
        let mut nonce = [0; 16];
        self.rng.fill_bytes(&mut nonce);
        Greeting { key, actor: self.setup.actor, nonce }
    }

    fn hear_call(&mut self, now: Instant, stream: StreamId, from: SocketAddr) {
        if self.syncs.callers(false).count() >= MOST_STRANGERS {
            let oldest = self.syncs.callers(false).min_by_key(|(_, session)| session.ends);
            if let Some(oldest) = oldest.map(|(stream, _)| stream) {
                self.traffic.drop(Reason::RateLimited);
                self.give_up(now, oldest, "too many call");
            }
        }
        // How we greet depends on how the caller does.
        let session = Session::new(self.greeting(PLAINTEXT), None, now);
        self.syncs.talks.insert(stream, Talk::new(session, from));
    }

    /// Whether the talk is over.
    fn advance(
        &mut self,
        now: Instant,
        stream: StreamId,
        talk: &mut Talk,
        bytes: &[u8],
    ) -> Result<bool, Reason> {
        talk.session.hear(bytes)?;
        if !talk.session.met() {
            let Some(theirs) = talk.session.greeted()? else { return Ok(false) };
            self.meet_caller(now, stream, talk, &theirs)?;
        }
        loop {
            let known = talk.session.authentic;
            let Some(frame) = talk.session.next_frame()? else { return Ok(false) };
            let actor = talk.session.peer.ok_or(Reason::UnknownSender)?;
            if !known && matches!(stream, StreamId::In(_)) {
                self.admit_caller(now, actor)?;
            }
            let peer = self.peer(actor)?;
            self.traffic.received(Kind::Sync, FRAME + frame.records.len());
            self.hear_turn(now, peer, talk, &frame.records)?;
            if frame.more {
                continue;
            }
            match (stream, talk.session.turns) {
                (StreamId::In(_), 1) => {
                    let mut turn = self.opening(now, talk.sealed());
                    turn.extend(self.differing(now, talk)?);
                    self.say_turn(now, stream, talk, &turn);
                }
                (StreamId::Out(_), 2) => {
                    let turn = self.differing(now, talk)?;
                    self.say_turn(now, stream, talk, &turn);
                    return Ok(true);
                }
                (StreamId::In(_), 3) => return Ok(true),
                _ => return Err(Reason::Undecodable),
            }
        }
    }

    /// Both ends have greeted.
    fn meet_caller(
        &mut self,
        now: Instant,
        stream: StreamId,
        talk: &mut Talk,
        theirs: &Greeting,
    ) -> Result<(), Reason> {
        self.traffic.received(Kind::Sync, HELLO);
        // Who is no member has to be let in first, and shows there where it is.
        self.peer(theirs.actor)?;
        let called = matches!(stream, StreamId::In(_));
        let ours = if called { self.greeting(theirs.key) } else { talk.session.greeting() };
        if ours.key != theirs.key {
            return Err(Reason::UnknownKey);
        }
        if theirs.key == PLAINTEXT {
            let sealed = self.boots.as_ref().is_some_and(|boots| boots.knows(theirs.actor));
            if !self.plain || sealed {
                return Err(Reason::Plaintext);
            }
            if !self.setup.public && is_public(talk.at.ip()) {
                return Err(Reason::PublicAddress);
            }
            talk.session.meet(None, &self.setup.label, ours, theirs, called);
        } else {
            let boots = self.boots.as_ref().ok_or(Reason::UnknownKey)?;
            let root = boots.root(theirs.key).ok_or(Reason::UnknownKey)?;
            talk.session.meet(Some(root), &self.setup.label, ours, theirs, called);
        }
        if called {
            self.write(now, stream, ours.bytes(), 1);
        } else {
            let opening = self.opening(now, talk.sealed());
            self.say_turn(now, stream, talk, &opening);
        }
        Ok(())
    }

    /// A caller has shown who it is.
    fn admit_caller(&mut self, now: Instant, caller: Actor) -> Result<(), Reason> {
        let since = |then: &Instant| now.saturating_duration_since(*then);
        let syncs = &mut self.syncs;
        let again = syncs.callers.get(&caller.node).is_some_and(|last| since(last) < BETWEEN);
        if again || syncs.callers(true).count() >= MOST_CALLERS {
            return Err(Reason::RateLimited);
        }
        syncs.callers.retain(|_, last| since(last) < BETWEEN);
        syncs.callers.insert(caller.node, now);
        Ok(())
    }

    /// What our state amounts to.
    fn opening(&self, now: Instant, sealed: bool) -> Vec<Vec<u8>> {
        let beat = Record::StateBeat(self.state_beat()).bytes();
        // Who has no acts asks for all.
        let any = self.rooms.acts.digest().count > 0;
        let sums =
            any.then(|| Record::AskActs(AskActs { sums: self.rooms.acts.look(Store::sums) }));
        let tickets = sealed.then(|| Record::TicketsBeat(self.tickets_beat(now, true)));
        std::iter::once(beat)
            .chain(sums.into_iter().chain(tickets).map(|sums| sums.bytes()))
            .collect()
    }

    fn state_beat(&self) -> StateBeat {
        let metas = self
            .metas()
            .iter()
            .fold(0, |sum: u64, meta| sum.wrapping_add(sum_of(meta.actor, meta.seq)));
        StateBeat { view: self.view_beat(false), metas, acts: self.acts_beat() }
    }

    /// Of all active members, this one first.
    fn metas(&self) -> Vec<Meta> {
        let active = self.roster.rows().filter(|row| row.state.active());
        let peers = active.filter_map(|row| row.meta.clone());
        std::iter::once(self.meta()).chain(peers).collect()
    }

    /// What the other end lacks, as far as its sums tell.
    fn differing(&self, now: Instant, talk: &Talk) -> Result<Vec<Vec<u8>>, Reason> {
        // A turn without sums is none.
        let theirs = talk.theirs.ok_or(Reason::Undecodable)?;
        let own = self.state_beat();
        let mut told = Vec::new();
        if (own.view.count, own.view.hash) != (theirs.view.count, theirs.view.hash) {
            told.extend(self.view_parts());
        }
        if own.metas != theirs.metas {
            told.extend(self.metas().into_iter().map(|meta| Record::Meta(meta).bytes()));
        }
        if self.told.any() {
            told.extend(self.told.parts(now).iter().map(Record::bytes));
        }
        if own.acts != theirs.acts {
            let nothing = Store::no_sums();
            let sums = talk.sums.as_ref().unwrap_or(&nothing);
            let rows = self.rooms.acts.look(|store| store.rows_beyond(now, sums, MOST_ACTS));
            told.extend(rows.into_iter().map(|row| row.record().bytes()));
        }
        if let Some(theirs) = talk.tickets.filter(|_| talk.sealed()) {
            told.extend(self.tickets_beyond(now, &theirs).unwrap_or_default());
        }
        Ok(told)
    }

    /// Records of a peer's turn.
    fn hear_turn(
        &mut self,
        now: Instant,
        peer: Identity,
        talk: &mut Talk,
        payload: &[u8],
    ) -> Result<(), Reason> {
        let (mut members, mut acts) = (Vec::new(), Vec::new());
        for record in records(payload).map_err(|_| Reason::Undecodable)? {
            match record {
                Record::StateBeat(beat) => talk.theirs = Some(beat),
                Record::AskActs(ask) => talk.sums = Some(ask.sums),
                Record::ViewPart(part) => members.extend(part.members),
                Record::Meta(meta) => {
                    if meta.actor != self.setup.actor && self.roster.hear_meta(meta) {
                        self.outputs.push_back(Output::Members);
                    }
                }
                Record::HealthPart(_) => self.hear_peer(now, peer, record)?,
                Record::Ban(ban) => acts.push(Row::Ban(ban)),
                Record::Drain(drain) => acts.push(Row::Drain(drain)),
                Record::Backend(backend) => acts.push(Row::Backend(backend)),
                Record::TicketsBeat(_) | Record::Ticket(_) if !talk.sealed() => {
                    return Err(Reason::Plaintext);
                }
                Record::TicketsBeat(beat) => talk.tickets = Some(beat),
                Record::Ticket(row) => self.hear_ticket(now, &row),
                _ => return Err(Reason::Undecodable),
            }
        }
        // All of a frame at once: looking at members costs the more, the more there are.
        if !members.is_empty() {
            self.hear_view(now, ViewPart { members });
        }
        self.hear_acts(now, acts);
        Ok(())
    }

    fn say_turn(&mut self, now: Instant, stream: StreamId, talk: &mut Talk, turn: &[Vec<u8>]) {
        let (bytes, frames) = talk.session.turn(turn);
        self.write(now, stream, bytes, frames);
    }

    fn write(&mut self, now: Instant, stream: StreamId, bytes: Vec<u8>, frames: usize) {
        // It is not held back, but what can wait waits for it.
        self.allowance.take(now, bytes.len(), Priority::Membership);
        self.traffic.sent_frames(frames, bytes.len());
        self.outputs.push_back(Output::Write { stream, bytes });
    }

    fn done(&mut self, now: Instant, stream: StreamId, talk: &Talk) {
        self.outputs.push_back(Output::Close { stream, gently: true });
        match stream {
            StreamId::In(_) => self.syncs.counted.answered += 1,
            StreamId::Out(_) => {
                self.syncs.counted.called += 1;
                self.syncs.wait = AGAIN;
                let same = |beat: StateBeat| self.rooms.acts.digest().is(beat.acts);
                self.telling.compared |= talk.theirs.is_some_and(same);
                tracing::debug!(at = %talk.at, "push/pull done");
            }
        }
        // What it brought of members is looked at now.
        self.look_again = true;
        self.next_upkeep = now;
    }

    fn give_up(&mut self, now: Instant, stream: StreamId, why: &str) {
        if let Some(talk) = self.syncs.talks.remove(&stream) {
            self.failed(now, stream, &talk, why);
        }
    }

    fn failed(&mut self, now: Instant, stream: StreamId, talk: &Talk, why: &str) {
        self.outputs.push_back(Output::Close { stream, gently: false });
        match stream {
            StreamId::In(_) => {
                self.syncs.counted.unanswered += 1;
                tracing::debug!(from = %talk.at, why, "a push/pull of a peer failed");
            }
            StreamId::Out(_) => {
                self.syncs.counted.failed += 1;
                self.call_again_soon(now);
                // Once is no wonder: a peer may have died just now.
                let often = self.syncs.wait > 8 * AGAIN;
                if often && self.may_say(now, "sync", COMPLAIN) {
                    tracing::warn!(
                        at = %talk.at, why,
                        "push/pull with peers fails: TCP to their `cluster.sync_addr` must pass"
                    );
                }
            }
        }
    }

    fn call_again_soon(&mut self, now: Instant) {
        self.syncs.due = self.syncs.due.min(now + self.syncs.wait);
        self.syncs.wait = (self.syncs.wait * 2).min(PERIOD);
    }
}
