//! Who belongs to the cluster, as people see it: one row per node, with its name, and leaving told
//! apart from failing.
//!
//! foca knows alive, suspect and down, by address. The roster adds what a node said of itself,
//! keeps who is gone for a while, and lets go of an old row when its node is back: at the same
//! address under a new boot, or at another address under the same name.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use foca::{Member, State};

use super::identity::Identity;
use super::wire::records::Meta;
use crate::base::{Actor, GossipAddr, NodeId, NodeName};

/// How long a member that failed or left is still shown.
pub const KEPT: Duration = Duration::from_secs(600);

/// What is thought of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MemberState {
    /// Answers.
    Alive,
    /// Did not answer a probe and has not spoken since.
    Suspect,
    /// Stopped answering without a word.
    Failed,
    /// Said that it goes, and went.
    Left,
}

impl MemberState {
    /// As people see it.
    pub fn label(self) -> &'static str {
        match self {
            MemberState::Alive => "alive",
            MemberState::Suspect => "suspect",
            MemberState::Failed => "failed",
            MemberState::Left => "left",
        }
    }

    /// Alive or suspect: may still be spoken to.
    pub fn active(self) -> bool {
        matches!(self, MemberState::Alive | MemberState::Suspect)
    }
}

/// One node.
#[derive(Clone, Debug, PartialEq)]
pub struct MemberView {
    /// Node name; its address until it was heard.
    pub name: NodeName,
    /// Where its gossip is heard.
    pub address: GossipAddr,
    /// What is thought of it.
    pub state: MemberState,
    /// Whether it is this node.
    pub own: bool,
    /// Digest of its configuration; empty until heard.
    pub config_digest: String,
    /// Node id.
    pub node_id: NodeId,
    /// Which of its starts.
    pub boot_id: crate::base::BootId,
    /// Version of its program; empty until heard.
    pub version: String,
    /// The names of its keys, the one that seals first; none until heard, or in plaintext.
    pub keys: Vec<u8>,
    /// When `state` last changed.
    pub since: Instant,
}

/// What happened to a member.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Who.
    pub identity: Identity,
    /// Its name, or its address.
    pub name: NodeName,
    /// What is thought of it now.
    pub state: MemberState,
    /// It was known before and is back.
    pub back: bool,
}

/// A peer's row.
#[derive(Clone, Debug)]
pub struct Row {
    /// As last known.
    pub identity: Identity,
    /// What is thought of it.
    pub state: MemberState,
    /// Since when.
    pub since: Instant,
    /// It said that it goes.
    pub leaving: bool,
    /// What it said of itself.
    pub meta: Option<Meta>,
    /// When it was last asked what it is called.
    pub asked: Option<Instant>,
    first_seen: Instant,
}

impl Row {
    /// Its name, or its address until that was heard.
    pub fn name(&self) -> NodeName {
        match &self.meta {
            Some(meta) => NodeName::from(meta.name.as_str()),
            None => NodeName::from(self.identity.address.to_string().as_str()),
        }
    }

    /// Whether it shares limits and verdicts: active, and not about to go.
    pub fn shares(&self) -> bool {
        self.state.active() && !self.leaving
    }
}

/// All peers.
#[derive(Debug, Default)]
pub struct Roster {
    rows: BTreeMap<Actor, Row>,
    /// What was said before its writer was known as a member.
    early: HashMap<Actor, (Option<Meta>, bool)>,
    /// Pairs of alive nodes that are called the same.
    pub duplicates: Vec<(Identity, Identity)>,
}

impl Roster {
    /// Every peer's row.
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.values()
    }

    /// The row of `actor`.
    pub fn row(&self, actor: Actor) -> Option<&Row> {
        self.rows.get(&actor)
    }

    /// The row of `actor`, to note something in.
    pub fn row_mut(&mut self, actor: Actor) -> Option<&mut Row> {
        self.rows.get_mut(&actor)
    }

    /// Takes over what foca knows, and says what changed.
    pub fn refresh<'a>(
        &mut self,
        now: Instant,
        membership: impl Iterator<Item = &'a Member<Identity>>,
    ) -> Vec<Event> {
        let mut events = Vec::new();
        let mut seen = BTreeMap::new();
        for member in membership {
            seen.insert(member.id().actor, ());
            self.take_over(now, member, &mut events);
        }
        // An active row that foca no longer has was replaced by another claim on its address.
        self.rows.retain(|actor, row| seen.contains_key(actor) || !row.state.active());
        self.let_go(now);
        events
    }

    fn take_over(&mut self, now: Instant, member: &Member<Identity>, events: &mut Vec<Event>) {
        let identity = *member.id();
        let state = match member.state() {
            State::Alive => MemberState::Alive,
            State::Suspect => MemberState::Suspect,
            State::Down => MemberState::Failed,
        };
        let actor = identity.actor;
        if !self.rows.contains_key(&actor) {
            // Who was down before we ever saw it alive is not ours to tell of.
            if !state.active() {
                return;
            }
            let (meta, leaving) = self.early.remove(&actor).unwrap_or_default();
            let since = now;
            let row = Row { identity, state, since, leaving, meta, asked: None, first_seen: now };
            let name = row.name();
            let back = self.rows.values().any(|old| old.identity.address == identity.address);
            self.rows.insert(actor, row);
            events.push(Event { identity, name, state, back });
            return;
        }
        let Some(row) = self.rows.get_mut(&actor) else { return };
        row.identity = identity;
        let state =
            if state == MemberState::Failed && row.leaving { MemberState::Left } else { state };
        if row.state != state {
            let back = !row.state.active();
            if state == MemberState::Alive && back {
                row.leaving = false;
            }
            (row.state, row.since) = (state, now);
            events.push(Event { identity, name: row.name(), state, back });
        }
    }

    /// Removes rows whose node is back under another boot or address, and those gone for long.
    fn let_go(&mut self, now: Instant) {
        let mut newest_at = HashMap::new();
        let mut newest_named: HashMap<&str, Identity> = HashMap::new();
        for row in self.rows.values() {
            let at = newest_at.entry(row.identity.address).or_insert(row.identity);
            if row.identity.generation > at.generation {
                *at = row.identity;
            }
            if let Some(meta) = row.meta.as_ref().filter(|_| row.state.active()) {
                let named = newest_named.entry(meta.name.as_str()).or_insert(row.identity);
                if row.identity.generation > named.generation {
                    *named = row.identity;
                }
            }
        }
        let gone = |row: &Row| {
            if newest_at.get(&row.identity.address).is_some_and(|at| at.actor != row.identity.actor)
            {
                return true;
            }
            if row.state.active() {
                return false;
            }
            let named = row.meta.as_ref().and_then(|meta| newest_named.get(meta.name.as_str()));
            named.is_some() || now.saturating_duration_since(row.since) > KEPT
        };
        let gone: Vec<Actor> =
            self.rows.values().filter(|row| gone(row)).map(|row| row.identity.actor).collect();
        for actor in gone {
            self.rows.remove(&actor);
        }
    }

    /// Forgets a gone node that was called as we are: we are it, or its heir.
    pub fn own_name(&mut self, own: &str) {
        self.rows.retain(|_, row| {
            row.state.active() || row.meta.as_ref().is_none_or(|meta| meta.name != own)
        });
    }

    /// A node said what it is called and runs; whether that was news.
    pub fn hear_meta(&mut self, meta: Meta) -> bool {
        match self.rows.get_mut(&meta.actor) {
            Some(row) => {
                let news = row.meta.as_ref().is_none_or(|known| known.seq < meta.seq);
                if news {
                    row.meta = Some(meta);
                }
                news
            }
            None => {
                let actor = meta.actor;
                self.early(actor).0 = Some(meta);
                false
            }
        }
    }

    /// A node said that it goes.
    pub fn hear_leaving(&mut self, actor: Actor) -> bool {
        match self.rows.get_mut(&actor) {
            Some(row) => {
                if row.state == MemberState::Failed {
                    row.state = MemberState::Left;
                }
                !std::mem::replace(&mut row.leaving, true)
            }
            None => {
                self.early(actor).1 = true;
                false
            }
        }
    }

    fn early(&mut self, actor: Actor) -> &mut (Option<Meta>, bool) {
        // What was said early is asked for again when it is missing; so it may be thrown away.
        if self.early.len() >= super::MOST_MEMBERS {
            self.early.clear();
        }
        self.early.entry(actor).or_default()
    }

    /// Notes pairs of alive nodes with one name, `own` included, when the older cannot be a former
    /// self of the younger any more: for `moving` they are taken for a node that moved, then the old
    /// one must have been found dead.
    pub fn look_for_duplicates(&mut self, now: Instant, own: (&str, Identity), moving: Duration) {
        let mut named: HashMap<&str, (Identity, Option<Instant>)> = HashMap::new();
        named.insert(own.0, (own.1, None));
        let mut found = Vec::new();
        for row in self.rows.values().filter(|row| row.state == MemberState::Alive) {
            let Some(meta) = &row.meta else { continue };
            let entry = (row.identity, Some(row.first_seen));
            if let Some((other, since)) = named.insert(meta.name.as_str(), entry) {
                let since = since.map_or(row.first_seen, |since| since.max(row.first_seen));
                if now.saturating_duration_since(since) > moving {
                    found.push((other, row.identity));
                }
            }
        }
        self.duplicates = found;
    }

    /// All members for people, this node first; one row per name while a node moves.
    pub fn views(&self, own: MemberView) -> Vec<MemberView> {
        let mut rows: Vec<&Row> = self.rows.values().collect();
        // A name's newest row hides its older ones, unless they are true duplicates.
        let mut newest: HashMap<&str, (u64, Actor)> = HashMap::new();
        for row in &rows {
            if let Some(meta) = &row.meta {
                let rank = (row.identity.generation, row.identity.actor);
                let known = newest.entry(meta.name.as_str()).or_insert(rank);
                *known = rank.max(*known);
            }
        }
        let doubled = |identity: &Identity| {
            self.duplicates
                .iter()
                .any(|(a, b)| a.actor == identity.actor || b.actor == identity.actor)
        };
        rows.retain(|row| {
            let Some(meta) = &row.meta else { return true };
            let rank = (row.identity.generation, row.identity.actor);
            let newest = newest.get(meta.name.as_str()) == Some(&rank);
            let ours = meta.name == *own.name.0;
            doubled(&row.identity) || newest && !ours
        });
        let mut views: Vec<MemberView> = rows.into_iter().map(view).collect();
        views.sort_by(|a, b| (&a.name, a.address).cmp(&(&b.name, b.address)));
        views.insert(0, own);
        views
    }
}

fn view(row: &Row) -> MemberView {
    let text =
        |part: fn(&Meta) -> &String| row.meta.as_ref().map(part).cloned().unwrap_or_default();
    MemberView {
        name: row.name(),
        address: row.identity.gossip(),
        state: row.state,
        own: false,
        config_digest: text(|meta| &meta.digest),
        node_id: row.identity.actor.node,
        boot_id: row.identity.actor.boot,
        version: text(|meta| &meta.version),
        keys: row.meta.as_ref().map(|meta| meta.keys.clone()).unwrap_or_default(),
        since: row.since,
    }
}
