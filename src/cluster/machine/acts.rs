//! Acts between nodes. A new one is sent to every peer at once and three times more; a digest of all
//! acts goes to some peer now and then, often after a change, and at once to who has just come; who
//! sees another digest than its own asks for the parts that differ.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rand::seq::IndexedRandom;

use super::{Machine, Output};
use crate::base::Actor;
use crate::cluster::acts::{ActsBeat, AskActs, Digest, Row, Store, Subject};
use crate::cluster::budget::Priority;
use crate::cluster::identity::{FURTHEST_AHEAD, Identity};
use crate::cluster::wire::records::Record;
use crate::cluster::wire::{Kind, Reason, pack};

/// A new act is told again after these, from the first time on: 5 % loss each leaves six in a million.
const AGAIN: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(150), Duration::from_millis(250)];
/// Between two digests.
const CALM: Duration = Duration::from_secs(2);
/// Between two digests for a while after a change.
const EAGER: Duration = Duration::from_millis(200);
/// How long that is.
const EAGERNESS: Duration = Duration::from_secs(2);
/// Between two asks.
const BETWEEN_ASKS: Duration = Duration::from_millis(50);
/// Between two answers: comparing costs a look at every act.
const BETWEEN_ANSWERS: Duration = Duration::from_millis(20);
/// Acts in one answer.
const ANSWER: usize = 800;
/// Acts on their way to all peers; of more, peers learn by comparing.
const MOST_TELLING: usize = 4096;
/// An ask that changed nothing is repeated after so long, each time doubled.
const FIRST_REPEAT: Duration = Duration::from_millis(200);
const LAST_REPEAT: Duration = Duration::from_secs(600);
/// What has ended is looked for so often.
const SWEEP: Duration = Duration::from_secs(1);

/// What is under way.
#[derive(Debug)]
pub(super) struct Telling {
    revision: u64,
    next_beat: Instant,
    eager_until: Instant,
    next_sweep: Instant,
    under_way: Vec<(Subject, usize, Instant)>,
    asked: Option<Instant>,
    answered: Option<Instant>,
    /// Between two asks of who has just come.
    first_wait: Duration,
    /// Peers who have other acts than we.
    behind: HashMap<Actor, Behind>,
    /// Some peer had the same acts.
    pub(super) compared: bool,
}

#[derive(Clone, Copy, Debug)]
struct Behind {
    theirs: ActsBeat,
    /// What we had when we last asked.
    ours: Option<Digest>,
    wait: Duration,
    again: Instant,
}

impl Telling {
    pub(super) fn new(now: Instant) -> Self {
        Telling {
            revision: 0,
            next_beat: now,
            eager_until: now,
            next_sweep: now,
            under_way: Vec::new(),
            asked: None,
            answered: None,
            first_wait: FIRST_REPEAT,
            behind: HashMap::new(),
            compared: false,
        }
    }
}

impl Machine {
    /// Tells what is new, and now and then what all amounts to.
    pub(super) fn tell_acts(&mut self, now: Instant) {
        self.note_change(now);
        for subject in self.rooms.acts.take_waiting() {
            if self.telling.under_way.len() < MOST_TELLING {
                self.telling.under_way.push((subject, 0, now));
            }
        }
        if self.left {
            return;
        }
        self.tell_under_way(now);
        self.ask_acts(now);
        self.ask_at_first(now);
        if now >= self.telling.next_sweep {
            self.telling.next_sweep = now + SWEEP;
            self.rooms.acts.sweep(now);
        }
        if now >= self.telling.next_beat {
            let eager = now < self.telling.eager_until;
            self.telling.next_beat = now + if eager { EAGER } else { CALM };
            let peers = self.peers();
            if let Some(peer) = peers.choose(&mut self.rng).copied() {
                self.beat_acts(now, peer);
            }
        }
    }

    pub(super) fn note_change(&mut self, now: Instant) {
        let revision = self.rooms.acts.revision();
        let telling = &mut self.telling;
        if revision != telling.revision {
            telling.revision = revision;
            telling.eager_until = now + EAGERNESS;
            telling.next_beat = telling.next_beat.min(now + EAGER);
            self.outputs.push_back(Output::Persist);
        }
    }

    fn tell_under_way(&mut self, now: Instant) {
        if self.telling.under_way.iter().all(|(_, _, due)| *due > now) {
            return;
        }
        let mut due = Vec::new();
        for (subject, round, at) in &mut self.telling.under_way {
            if *at <= now {
                due.push(subject.clone());
                // The round after the last is none.
                *at = AGAIN.get(*round).map_or(now, |again| *at + *again);
                *round += 1;
            }
        }
        self.telling.under_way.retain(|(_, round, _)| *round <= AGAIN.len());
        let rows = self.rooms.acts.look(|store| {
            due.iter().filter_map(|subject| store.row(now, subject)).collect::<Vec<_>>()
        });
        let peers = self.peers();
        for payload in pack(rows.into_iter().map(|row| row.record().bytes())) {
            for peer in &peers {
                self.send(now, Kind::Acts, *peer, &payload, Priority::Views);
            }
        }
    }

    /// Says to `peer` what all acts amount to.
    pub(super) fn beat_acts(&mut self, now: Instant, peer: Identity) {
        let beat = Record::ActsBeat(self.acts_beat()).bytes();
        self.send(now, Kind::Acts, peer, &beat, Priority::Views);
    }

    pub(super) fn acts_beat(&self) -> ActsBeat {
        let Digest { count, hash } = self.rooms.acts.digest();
        ActsBeat { count, hash }
    }

    pub(super) fn hear_acts_beat(&mut self, now: Instant, peer: Identity, theirs: ActsBeat) {
        if self.rooms.acts.digest().is(theirs) {
            self.telling.compared = true;
            self.telling.behind.remove(&peer.actor);
            return;
        }
        let fresh = Behind { theirs, ours: None, wait: FIRST_REPEAT, again: now };
        let behind = self.telling.behind.entry(peer.actor).or_insert(fresh);
        if behind.theirs != theirs {
            *behind = fresh;
        }
        self.ask_acts(now);
    }

    /// Asks one of those who have other acts. When the last ask brought something, at once again; else
    /// less and less often: two nodes that cannot come to one mind (one is full, or knows kinds of acts
    /// that the other does not) must not ask each other for ever.
    fn ask_acts(&mut self, now: Instant) {
        let telling = &mut self.telling;
        let asked =
            telling.asked.is_some_and(|at| now.saturating_duration_since(at) < BETWEEN_ASKS);
        if telling.behind.is_empty() || asked || self.left {
            return;
        }
        let ours = self.rooms.acts.digest();
        let roster = &self.roster;
        let peer = |actor: Actor| roster.row(actor).filter(|row| row.state.active());
        telling.compared |= telling.behind.values().any(|behind| ours.is(behind.theirs));
        telling.behind.retain(|actor, behind| peer(*actor).is_some() && !ours.is(behind.theirs));
        let due = telling.behind.iter_mut().find(|(_, behind)| {
            behind.again <= now || behind.ours.is_some_and(|then| then != ours)
        });
        let Some((actor, behind)) = due else { return };
        if behind.ours.is_some_and(|then| then != ours) {
            behind.wait = FIRST_REPEAT;
        }
        behind.ours = Some(ours);
        behind.again = now + behind.wait;
        behind.wait = (behind.wait * 2).min(LAST_REPEAT);
        let Some(to) = peer(*actor).map(|row| row.identity) else { return };
        self.send_ask(now, to);
    }

    /// Who has just come asks one after the other, until it has what one of them has; less and less often,
    /// for they may be of a version that has no acts.
    fn ask_at_first(&mut self, now: Instant) {
        let asked = self.telling.asked;
        let wait = self.telling.first_wait;
        let waits = asked.is_some_and(|at| now.saturating_duration_since(at) < wait);
        if self.telling.compared || waits {
            return;
        }
        let peers = self.peers();
        if let Some(peer) = peers.choose(&mut self.rng).copied() {
            self.telling.first_wait = (wait.mul_f64(1.5)).min(LAST_REPEAT);
            self.send_ask(now, peer);
        }
    }

    fn send_ask(&mut self, now: Instant, to: Identity) {
        self.telling.asked = Some(now);
        let ask = Record::AskActs(AskActs { sums: self.rooms.acts.look(Store::sums) }).bytes();
        self.send(now, Kind::Acts, to, &ask, Priority::Views);
    }

    pub(super) fn answer_acts(&mut self, now: Instant, peer: Identity, ask: &AskActs) {
        let answered = self.telling.answered;
        if answered.is_some_and(|at| now.saturating_duration_since(at) < BETWEEN_ANSWERS) {
            return;
        }
        self.telling.answered = Some(now);
        let rows = self.rooms.acts.look(|store| store.rows_beyond(now, &ask.sums, ANSWER));
        for payload in pack(rows.into_iter().map(|row| row.record().bytes())) {
            self.send(now, Kind::Acts, peer, &payload, Priority::Views);
        }
        // So that it sees whether that was all.
        self.beat_acts(now, peer);
    }

    /// Acts of a peer. One from further ahead than any honest clock is could not be outdone.
    pub(super) fn hear_acts(&mut self, now: Instant, mut rows: Vec<Row>) {
        let ceiling = self.unix_ms(now).saturating_add(FURTHEST_AHEAD.as_millis() as u64);
        rows.retain(|row| {
            let honest = row.version() <= ceiling;
            if !honest {
                self.traffic.drop(Reason::FutureGeneration);
            }
            honest
        });
        if !rows.is_empty() && self.rooms.acts.merge(now, &rows) > 0 {
            self.note_change(now);
        }
    }
}
