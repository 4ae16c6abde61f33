//! The gossip machine: everything a node does in its cluster, without socket, clock or task. Input
//! comes with the time it came at; what is to be done is polled. A thousand of them run in one test.

mod acts;
mod asking;
mod clones;
mod hear;
mod hello;
mod io;
mod join;
mod leases;
mod loads;
mod memory;
mod paces;
mod sync;
mod tickets;
mod upkeep;
mod view;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::asks::{Asks, Ticket};
use super::boots::Boots;
use super::budget::{Allowance, Intake, Priority};
use super::driver::Driver;
use super::exchange::Exchange;
use super::figures::{Figures, Traffic};
use super::herald::Herald;
use super::identity::Identity;
use super::private::is_public;
use super::roster::{MemberState, MemberView, Roster};
use super::tickets::Rotation;
use super::verdicts::{Heard, Senses, Told, senses};
use super::waiting::Waiting;
use super::wire::records::{Leaving, Meta, Record};
use super::wire::{Envelope, Kind};
use crate::base::{Actor, NodeId};
use crate::health::Vote;
use crate::traffic::Company;

/// While plaintext is spoken beside sealed gossip: a boot that is not known is challenged this often.
const TRY_SEALED: Duration = Duration::from_secs(1);

pub use io::{Input, Output, Rooms, Setup};
pub use sync::StreamEvent;

/// One node's part of the cluster.
pub struct Machine {
    setup: Setup,
    rooms: Rooms,
    began: Instant,
    /// When something was last handled.
    handled: Instant,
    secret: u64,
    rng: StdRng,
    envelope: Envelope,
    /// When gossip is sealed.
    boots: Option<Boots>,
    waiting: Waiting,
    clones: clones::Clones,
    /// When we last asked somebody unknown to be let in.
    joining: Option<Instant>,
    tidied: Instant,
    /// Whether plaintext is heard and spoken, beside sealed gossip or for want of keys.
    plain: bool,
    driver: Driver,
    roster: Roster,
    herald: Herald,
    exchange: Exchange,
    asks: Asks,
    /// Tokens asked for: of whom, and when.
    token_asks: HashMap<Ticket, (Actor, Instant)>,
    leases: leases::Leases,
    paces: paces::Paces,
    told: Told,
    heard: Heard,
    loads: loads::Loads,
    allowance: Allowance,
    intake: Intake,
    traffic: Traffic,
    outputs: VecDeque<Output>,
    compare: view::Compare,
    memory: memory::Memory,
    telling: acts::Telling,
    syncs: sync::Syncs,
    tickets: tickets::Tickets,
    meta_seq: u64,
    next_upkeep: Instant,
    look_again: bool,
    answered: bool,
    leaving: bool,
    left: bool,
    senses: Senses,
    relying: bool,
    company: Company,
    fault: Option<(Instant, String)>,
    claims: u64,
    said: HashMap<&'static str, Instant>,
}

impl Machine {
    /// A machine that is alone and will ask its seeds at the first [`Input::Tick`].
    pub fn new(setup: Setup, rooms: Rooms, now: Instant) -> Self {
        let mut rng = StdRng::seed_from_u64(setup.seed);
        let identity = Identity {
            actor: setup.actor,
            address: setup.address,
            generation: memory::first_generation(setup.unix_ms, &setup.state),
        };
        let secret = rng.next_u64();
        let left = rooms.tickets.current();
        let rotation = Rotation::new(setup.unix_ms, setup.ticket_span, &left);
        let driver = Driver::new(identity, setup.profile, StdRng::seed_from_u64(rng.next_u64()));
        rooms.levels.company(company(1, 0, usize::from(setup.seeds)));
        rooms.holder.nodes(1);
        rooms.paced.nodes(1);
        // Whoever held permits for us before is a former boot.
        rooms.holder.look_at_all();
        let mut machine = Machine {
            envelope: Envelope::new(&setup.label, setup.actor),
            boots: setup.keys.clone().map(|ring| Boots::new(setup.actor, &setup.label, ring)),
            waiting: Waiting::default(),
            clones: clones::Clones::default(),
            joining: None,
            tidied: now,
            plain: setup.keys.is_none() || setup.unix_ms < setup.plaintext_until,
            allowance: Allowance::new(setup.traffic_cap, now),
            rooms,
            began: now,
            handled: now,
            secret,
            rng,
            driver,
            roster: Roster::default(),
            herald: Herald::new(now),
            exchange: Exchange::new(setup.actor, now, setup.unix_ms, secret, setup.interval),
            asks: Asks::default(),
            token_asks: HashMap::new(),
            leases: leases::Leases::new(now, setup.actor),
            paces: paces::Paces::new(now),
            told: Told::default(),
            heard: Heard::default(),
            loads: loads::Loads::new(now, setup.seed),
            intake: Intake::new(now),
            traffic: Traffic::default(),
            outputs: VecDeque::from([Output::Members]),
            compare: view::Compare::new(now),
            memory: memory::Memory::new(setup.state.clone()),
            telling: acts::Telling::new(now),
            syncs: sync::Syncs::new(now),
            tickets: tickets::Tickets::new(now, rotation),
            meta_seq: 1,
            next_upkeep: now,
            look_again: true,
            answered: false,
            leaving: false,
            left: false,
            senses: Senses::Sound,
            relying: true,
            company: Company::ALONE,
            fault: None,
            claims: 0,
            said: HashMap::new(),
            setup,
        };
        machine.recall_peers(now);
        machine
    }

    /// Takes an input. Afterwards poll the outputs, then the timeout.
    pub fn handle(&mut self, now: Instant, input: Input<'_>) {
        self.handled = now;
        self.driver.run(now);
        match input {
            Input::Tick => {}
            Input::Urgent => {
                self.exchange.hurry(now);
                self.leases.ring();
            }
            Input::Datagram { from, bytes } => {
                if let Err(reason) = self.hear(now, from, bytes) {
                    self.traffic.drop(reason);
                }
            }
            Input::Ask { ticket, ask } => self.take_ask(now, ticket, ask),
            Input::Seeds(addresses) => self.ask(now, &addresses),
            Input::Digest(digest) => {
                if self.setup.digest != digest {
                    self.setup.digest = digest;
                    self.tell_meta(now);
                }
            }
            Input::Keys(ring) => {
                if let Some(boots) = &mut self.boots {
                    boots.rekey(ring);
                    self.tell_meta(now);
                }
            }
            Input::Address(address) => {
                if address != self.setup.address && self.driver.active() == 0 {
                    self.setup.address = address;
                    let identity = Identity { address, ..self.driver.identity() };
                    self.driver.become_known_as(now, identity);
                    self.outputs.push_back(Output::Members);
                }
            }
            Input::Stream { stream, event } => self.hear_stream(now, stream, event),
            Input::Leaving => self.say_leaving(now),
            Input::Leave => {
                self.say_leaving(now);
                self.driver.leave(now);
                self.left = true;
            }
        }
        self.upkeep(now);
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        if self.outputs.is_empty() {
            self.send_counters(self.handled);
        }
        self.outputs.pop_front()
    }

    /// When to come back with [`Input::Tick`] at the latest.
    pub fn poll_timeout(&self) -> Instant {
        let soonest =
            self.next_upkeep.min(self.paces.due()).min(self.exchange.due()).min(self.herald.due());
        let others = self.driver.due().into_iter().chain(self.asks.due()).chain(self.leases.due());
        let others = others.chain(self.loads.due()).chain([self.syncs.due()]);
        others.fold(soonest, Instant::min)
    }

    /// Everybody known, this node first.
    pub fn members(&self) -> Vec<MemberView> {
        self.roster.views(MemberView {
            name: self.setup.name.clone(),
            address: self.driver.identity().gossip(),
            state: if self.left { MemberState::Left } else { MemberState::Alive },
            own: true,
            config_digest: self.setup.digest.clone(),
            node_id: self.setup.actor.node,
            boot_id: self.setup.actor.boot,
            version: self.setup.version.clone(),
            keys: self.key_ids(),
            since: self.began,
        })
    }

    /// What peers think, by backend's id; only fresh opinions of peers that are there.
    pub fn votes(&self) -> HashMap<u64, Vec<Vote>> {
        let named = |(actor, report): (Actor, _)| {
            let observer = self.roster.row(actor)?.name();
            Some(Vote { observer, node: actor.node, report })
        };
        let all = self.heard.opinions().into_iter();
        all.map(|(backend, votes)| (backend, votes.into_iter().filter_map(named).collect()))
            .collect()
    }

    /// Some peer answered and has the acts that we have, or there are none to ask.
    pub fn answered(&self) -> bool {
        (self.answered && self.telling.compared) || !self.setup.seeds
    }

    /// This node rather than its backends is ill.
    pub fn impaired(&self) -> bool {
        self.senses == Senses::Impaired
    }

    /// The nodes that share the checks of backends, this one first, as far as it may rely on
    /// others: a node that is deaf, ill or not sure of it relies on nobody.
    pub fn checking(&self) -> Vec<NodeId> {
        let sure = self.senses == Senses::Sound && !self.driver.score.muted();
        let peers = self.roster.rows().filter(|row| sure && row.shares());
        let own = std::iter::once(self.setup.actor.node);
        own.chain(peers.map(|row| row.identity.actor.node)).collect()
    }

    /// Why this node is not let in, as long as that stands.
    pub fn fault(&self) -> Option<&str> {
        self.fault.as_ref().map(|(_, fault)| fault.as_str())
    }

    /// Active members, this node included.
    pub fn alive(&self) -> usize {
        self.company.alive
    }

    /// Who this node is to foca now.
    pub fn identity(&self) -> Identity {
        self.driver.identity()
    }

    /// How long an ask waits at most.
    pub fn patience(&self) -> Duration {
        self.asks.longest_patience()
    }

    /// Timers and updates waiting inside.
    pub fn backlog(&self) -> usize {
        self.driver.timers() + self.driver.backlog() + self.waiting.len()
    }

    /// What was sent and heard.
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// The exchange, to be looked into.
    pub fn exchange(&self) -> &Exchange {
        &self.exchange
    }

    /// Counters and gauges.
    pub fn figures(&self) -> Figures {
        let [sent, received] = self.traffic.labelled();
        let drifted = self.roster.rows().filter(|row| {
            let digest = row.meta.as_ref().map(|meta| &meta.digest);
            row.state.active() && digest.is_some_and(|digest| *digest != self.setup.digest)
        });
        Figures {
            sent,
            received,
            dropped: self.traffic.dropped.all(),
            authenticated: !self.plain,
            keys: self.key_ids(),
            boots: self.boots.as_ref().map_or(0, Boots::len) as u64,
            clones: self.clones.len() as u64,
            rows: self.exchange.rows().1 as u64,
            owned_keys: self.exchange.rows().0 as u64,
            owner_untracked: self.exchange.untracked(),
            owner_failovers: self.exchange.counted.failovers,
            reports: self.exchange.counted.reported,
            reports_resent: self.exchange.counted.resent,
            owner_rtt: self.exchange.rtt(),
            drifted: drifted.count() as u64,
            health_score: self.driver.score.points().into(),
            throttled: self.allowance.throttled,
            backlog: self.driver.backlog() as u64,
            alive: self.company.alive as u64,
            duplicates: self.roster.duplicates.len() as u64 + self.claims,
            restarts: 0,
            silent_ms: 0,
            leases: self.lease_figures(),
            asks: self.asks.counts,
            asks_crowded: 0,
            asks_stuck: 0,
            acts: self.rooms.acts.digest().count.into(),
            acts_refused: self.rooms.acts.look(|store| store.refused()),
            state_writes: (0, 0),
            syncs: self.syncs.counted,
        }
    }

    fn meta(&self) -> Meta {
        Meta {
            actor: self.setup.actor,
            seq: self.meta_seq,
            name: self.setup.name.0.to_string(),
            digest: self.setup.digest.clone(),
            version: self.setup.version.clone(),
            keys: self.key_ids(),
            sync: self.setup.sync.map(|sync| sync.beside(self.driver.identity().address)),
        }
    }

    fn key_ids(&self) -> Vec<u8> {
        self.boots.as_ref().map(Boots::key_ids).unwrap_or_default()
    }

    /// What this node says of itself changed.
    fn tell_meta(&mut self, now: Instant) {
        self.meta_seq += 1;
        let item = Record::Meta(self.meta()).bytes();
        self.driver.spread(&item);
        self.driver.gossip(now);
        self.outputs.push_back(Output::Members);
    }

    /// The wall clock, as the monotonic one carries it on.
    fn unix_ms(&self, now: Instant) -> u64 {
        self.setup.unix_ms + now.saturating_duration_since(self.began).as_millis() as u64
    }

    fn say_leaving(&mut self, now: Instant) {
        let leaving = Record::Leaving(Leaving { actor: self.setup.actor });
        if !std::mem::replace(&mut self.leaving, true) {
            self.driver.spread(&leaving.bytes());
            self.driver.gossip(now);
            self.look_for_owners(now);
        }
        for to in self.peers() {
            self.send(now, Kind::Meta, to, &leaving.bytes(), Priority::Membership);
        }
    }

    /// Peers that may be spoken to.
    fn peers(&self) -> Vec<Identity> {
        self.roster.rows().filter(|row| row.state.active()).map(|row| row.identity).collect()
    }

    /// Whether it was sent; when not, the traffic cap held it back.
    fn send(
        &mut self,
        now: Instant,
        kind: Kind,
        to: Identity,
        payload: &[u8],
        priority: Priority,
    ) -> bool {
        let actor = to.node().map(|_| to.actor);
        self.send_to(now, kind, actor, to.address, payload, priority)
    }

    /// To the boot `to` at `address`, or to whoever is there.
    fn send_to(
        &mut self,
        now: Instant,
        kind: Kind,
        to: Option<Actor>,
        address: SocketAddr,
        payload: &[u8],
        priority: Priority,
    ) -> bool {
        let known = |to| self.boots.as_ref().is_some_and(|boots| boots.knows(to));
        let unknown = to.filter(|to| !known(*to));
        if self.plain && (to.is_none() || unknown.is_some()) {
            let may = self.setup.public || !is_public(address.ip());
            if may {
                let bytes = self.envelope.seal(kind, to.map(|to| to.node), payload);
                if !self.pass_on(now, kind, address, Some(bytes), priority) {
                    return false;
                }
            }
            // With keys as well, perhaps it has them by now.
            if let (Some(unknown), Some(boots)) = (unknown, &self.boots) {
                let asked = boots.challenged(unknown);
                if asked.is_none_or(|at| now.saturating_duration_since(at) >= TRY_SEALED) {
                    self.challenge_boot(now, unknown, address);
                }
                return may;
            }
        }
        if let Some(unknown) = unknown.filter(|_| self.boots.is_some()) {
            return self.send_when_known(now, kind, unknown, address, payload);
        }
        match &mut self.boots {
            Some(boots) => {
                let sealed = boots.seal(kind, to, payload);
                self.pass_on(now, kind, address, sealed, priority)
            }
            None => true,
        }
    }

    /// Hands a datagram to the shell, if the allowance has room for it.
    fn pass_on(
        &mut self,
        now: Instant,
        kind: Kind,
        to: SocketAddr,
        bytes: Option<Vec<u8>>,
        priority: Priority,
    ) -> bool {
        let Some(bytes) = bytes else { return false };
        if !self.allowance.take(now, bytes.len(), priority) {
            return false;
        }
        self.traffic.sent(kind, bytes.len());
        self.outputs.push_back(Output::Send { to, bytes });
        true
    }

    /// Whether a line of this kind may be logged again.
    fn may_say(&mut self, now: Instant, what: &'static str, every: Duration) -> bool {
        let last = self.said.get(what);
        let may = last.is_none_or(|last| now.saturating_duration_since(*last) >= every);
        if may {
            self.said.insert(what, now);
        }
        may
    }

    /// Compares what this node sees with what its peers see.
    fn look_at_own_health(&mut self, now: Instant) {
        let used = self.rooms.verdicts.used();
        let senses = senses(now, self.told.own(), used, &self.heard.opinions());
        let before = std::mem::replace(&mut self.senses, senses);
        match (before, senses) {
            (before, senses) if before == senses => {}
            (_, Senses::Impaired) => {
                tracing::warn!("most backends are down to this node alone: it stops voting");
            }
            (Senses::Impaired, _) => {
                tracing::info!("peers agree with this node about its backends again");
            }
            (_, Senses::Doubtful) => {
                tracing::info!("what this node checks is down to it alone: it checks everything");
            }
            (_, Senses::Sound) => tracing::debug!("this node trusts its checks again"),
        }
    }
}

/// Who shares: of those who should be there, those that `failed`; and for a node that sees no peer,
/// those it remembers.
fn company(alive: usize, failed: usize, remembered: usize) -> Company {
    let known = alive + failed;
    Company { alive, known: if alive > 1 { known } else { known.max(1 + remembered) } }
}
