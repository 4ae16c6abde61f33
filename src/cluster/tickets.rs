//! Secrets of session tickets: when there is a new one, who makes it, and which of them seals.
//!
//! ```text
//!   epoch 7                              epoch 8                              epoch 9
//!   |-------------- half ---------------|-------------- half ---------------|------
//!   7's secret seals                     8's seals, 7's opens                 7's is forgotten
//!                  8's is made and told                 9's is made and told
//! ```
//!
//! Epochs follow the wall clock. The next epoch's secret is made half an epoch ahead, so that clocks
//! that differ by minutes do no harm: when somebody seals by it, everybody has it. Who makes it
//! follows from the members: the first in an order that each epoch shuffles; the others wait for it,
//! each longer than the one before. Should two be made all the same, all nodes seal by the one with
//! the smaller name, and all open both.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::base::NodeId;
use crate::base::id::stable_hash;
use crate::net::tls::{TICKET_LIFETIME, TicketSecret, TicketSet};

/// Of one epoch; of more, those with the smallest names are kept, on every node the same.
pub const MOST_PER_EPOCH: usize = 32;
/// A secret that is learnt in its own epoch does not seal before it was known this long: the others
/// shall know it first.
pub const SETTLE: Duration = Duration::from_secs(10);
/// Who has no secret to seal by waits this long for the cluster's before it makes one.
const PATIENCE: Duration = Duration::from_secs(3);
/// And the next in order longer than the one before by this.
const STAGGER: Duration = Duration::from_secs(2);
/// Whose turn it would be when all before it have failed is not waited for beyond this many.
const MOST_WAITED: u32 = 20;
/// The next epoch's secret is waited for, per node before, by this part of an epoch: five minutes,
/// more than clocks differ.
const PARTS: u32 = 72;

/// Fills bytes with what nobody can guess; `false`: there is nothing to be had just now.
pub type Draw = Arc<dyn Fn(&mut [u8]) -> bool + Send + Sync>;

/// Draws from the system.
pub fn system() -> Draw {
    Arc::new(|bytes| aws_lc_rs::rand::fill(bytes).is_ok())
}

/// This node among those that could make a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// There is nobody else to hear from.
    Alone,
    /// So many come before it.
    Behind(u32),
}

/// How many of `nodes` come before `own` when a secret of `epoch` is to be made: rendezvous hashing,
/// so that all nodes agree who is first, and each is in turn.
pub fn rank(epoch: u64, own: NodeId, nodes: impl Iterator<Item = NodeId>) -> u32 {
    let score = |node: NodeId| (stable_hash(epoch, &node.0.to_be_bytes()), node);
    nodes.filter(|node| score(*node) > score(own)).count() as u32
}

/// What became of a secret that was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It is kept.
    New,
    /// It was known, or is over, or there are too many of its epoch.
    Nothing,
    /// Of a later epoch than the next: no honest clock is there.
    TooEarly,
}

/// The secrets that a node knows. Times are milliseconds since 1970.
#[derive(Debug)]
pub struct Rotation {
    span_ms: u64,
    known: BTreeMap<u64, BTreeMap<[u8; 16], Known>>,
    sealing: Option<Sealing>,
    /// Since when there is none of the present epoch.
    lacking: Option<u64>,
    /// Since when there is one.
    settled: Option<u64>,
}

#[derive(Debug)]
struct Known {
    secret: TicketSecret,
    since: u64,
}

#[derive(Clone, Copy, Debug)]
struct Sealing {
    epoch: u64,
    id: [u8; 16],
    since: u64,
}

impl Rotation {
    /// With what a former life of this node has left in use; epochs last `span`, usually
    /// [`TICKET_LIFETIME`].
    pub fn new(unix_ms: u64, span: Duration, left: &TicketSet) -> Rotation {
        let span_ms = (span.as_millis() as u64).max(1);
        let known = BTreeMap::new();
        let mut rotation = Rotation { span_ms, known, sealing: None, lacking: None, settled: None };
        for secret in &left.secrets {
            rotation.keep(unix_ms, left.since_ms, secret.clone());
        }
        let sealing = left.secrets.iter().find(|secret| Some(secret.id) == left.sealing);
        rotation.sealing = sealing.map(|secret| Sealing {
            epoch: secret.epoch,
            id: secret.id,
            since: left.since_ms,
        });
        rotation
    }

    /// Which epoch it is.
    pub fn epoch(&self, unix_ms: u64) -> u64 {
        unix_ms / self.span_ms
    }

    /// The epochs whose secrets are known to who is in `epoch`: the one before, it, and the next.
    pub fn window(epoch: u64) -> std::ops::RangeInclusive<u64> {
        epoch.saturating_sub(1)..=epoch.saturating_add(1)
    }

    /// A secret of a peer's.
    pub fn hear(&mut self, unix_ms: u64, secret: TicketSecret) -> Heard {
        if secret.epoch > self.epoch(unix_ms).saturating_add(1) {
            return Heard::TooEarly;
        }
        if self.keep(unix_ms, unix_ms, secret) { Heard::New } else { Heard::Nothing }
    }

    fn keep(&mut self, unix_ms: u64, since: u64, secret: TicketSecret) -> bool {
        if !Self::window(self.epoch(unix_ms)).contains(&secret.epoch) {
            return false;
        }
        let all = self.known.entry(secret.epoch).or_default();
        if all.contains_key(&secret.id) {
            return false;
        }
        let id = secret.id;
        all.insert(id, Known { secret, since });
        if all.len() > MOST_PER_EPOCH {
            all.pop_last();
        }
        all.contains_key(&id)
    }

    /// Forgets what is over and chooses what seals; which epoch's secret this node should make now,
    /// if any. `standing` is asked for an epoch.
    pub fn turn(&mut self, unix_ms: u64, standing: impl Fn(u64) -> Standing) -> Option<u64> {
        let epoch = self.epoch(unix_ms);
        self.known.retain(|of, _| Self::window(epoch).contains(of));
        self.choose(unix_ms, epoch);
        let ms = |time: Duration| time.as_millis() as u64;
        if !self.has(epoch) {
            self.settled = None;
            let since = *self.lacking.get_or_insert(unix_ms);
            let patience = match standing(epoch) {
                Standing::Alone => 0,
                Standing::Behind(rank) => ms(PATIENCE + STAGGER * rank.min(MOST_WAITED)),
            };
            return (unix_ms.saturating_sub(since) >= patience).then_some(epoch);
        }
        self.lacking = None;
        let since = *self.settled.get_or_insert(unix_ms);
        if self.has(epoch + 1) {
            return None;
        }
        // Who has just come may not have heard yet of one that is there.
        let half = epoch.saturating_mul(self.span_ms).saturating_add(self.span_ms / 2);
        let from = half.max(since.saturating_add(ms(SETTLE)));
        let wait = match standing(epoch + 1) {
            Standing::Alone => 0,
            Standing::Behind(rank) => {
                self.span_ms / u64::from(PARTS) * u64::from(rank.min(MOST_WAITED))
            }
        };
        (unix_ms >= from.saturating_add(wait)).then_some(epoch + 1)
    }

    /// Of the present epoch the smallest that is settled. One that is not seals only where there is
    /// nothing better: the one in use, or at a start. Without any of this epoch what was in use goes
    /// on as long as it is known.
    fn choose(&mut self, unix_ms: u64, epoch: u64) {
        let settle = SETTLE.as_millis() as u64;
        let in_use = self.sealing;
        let all = self.known.get(&epoch).filter(|all| !all.is_empty());
        let chosen = match all {
            Some(all) => {
                let settled = |known: &&Known| unix_ms.saturating_sub(known.since) >= settle;
                let settled = all.values().find(settled).map(|known| known.secret.id);
                let kept = in_use.map(|sealing| sealing.id).filter(|id| all.contains_key(id));
                let id = settled.or(kept).or_else(|| all.keys().next().copied());
                id.map(|id| (epoch, id))
            }
            None => in_use.map(|sealing| (sealing.epoch, sealing.id)).filter(|(epoch, id)| {
                self.known.get(epoch).is_some_and(|all| all.contains_key(id))
            }),
        };
        self.sealing = chosen.map(|(epoch, id)| match in_use {
            Some(sealing) if sealing.id == id => sealing,
            _ => Sealing { epoch, id, since: unix_ms },
        });
    }

    fn has(&self, epoch: u64) -> bool {
        self.known.get(&epoch).is_some_and(|all| !all.is_empty())
    }

    /// All that is in use.
    pub fn set(&self, shared: bool) -> TicketSet {
        let secrets = self.known.values().flat_map(|all| all.values());
        TicketSet {
            secrets: secrets.map(|known| known.secret.clone()).collect(),
            sealing: self.sealing.map(|sealing| sealing.id),
            since_ms: self.sealing.map_or(0, |sealing| sealing.since),
            shared,
        }
    }

    /// Secrets of an epoch.
    pub fn of(&self, epoch: u64) -> impl Iterator<Item = &TicketSecret> {
        self.known.get(&epoch).into_iter().flat_map(|all| all.values()).map(|known| &known.secret)
    }

    /// What the secrets of an epoch amount to, in any order; 0: there are none.
    pub fn sum(&self, epoch: u64) -> u64 {
        let names = self.of(epoch).map(|secret| stable_hash(epoch, &secret.id));
        names.fold(0, u64::wrapping_add)
    }
}

/// A node's secrets where no other node hears of them: without a cluster.
pub struct Local {
    rotation: Rotation,
    draw: Draw,
}

impl Local {
    /// With what is left of a former life.
    pub fn new(unix_ms: u64, left: &TicketSet, draw: Draw) -> Local {
        Local { rotation: Rotation::new(unix_ms, TICKET_LIFETIME, left), draw }
    }

    /// What is in use now; to be asked for every few seconds.
    pub fn turn(&mut self, unix_ms: u64) -> TicketSet {
        while let Some(epoch) = self.rotation.turn(unix_ms, |_| Standing::Alone) {
            let Some(secret) = mint(&self.draw, epoch) else { break };
            self.rotation.hear(unix_ms, secret);
        }
        self.rotation.set(false)
    }
}

/// A new secret, if there is randomness for it.
pub(super) fn mint(draw: &Draw, epoch: u64) -> Option<TicketSecret> {
    let mut secret = [0; 32];
    draw(&mut secret).then(|| TicketSecret::new(epoch, secret))
}

#[cfg(test)]
mod tests;
