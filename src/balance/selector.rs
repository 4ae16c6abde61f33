//! The order in which one connection asks the members.

use super::draw::Urn;
use super::rendezvous::{bound, score};
use super::smooth::smooth;
use super::tally::PARTS;
use super::tried::Tried;
use super::turn::{below, mix};
use super::{Member, Policy, Turn};

/// Draws for a retry before it looks at every place of the sequence.
const DRAWS: usize = 8;

/// Connections that members have now, by index.
pub trait Loads {
    /// Of member `index`, of the whole cluster as far as it is known.
    fn load(&self, index: usize) -> u32;

    /// What counts of them where the least is sought, in [`PARTS`] of one: see [`super::Gauge`].
    fn burden(&self, index: usize) -> u64 {
        u64::from(self.load(index)) * PARTS
    }
}

/// A policy made ready for a set of members. Built when the set or a weight changes.
#[derive(Debug)]
pub struct Selector {
    members: Box<[Member]>,
    total_weight: u64,
    method: Method,
}

#[derive(Debug)]
enum Method {
    Sequence(Box<[u32]>),
    Least,
    TwoChoices(Urn),
    Rendezvous,
    Random(Urn),
}

impl Selector {
    /// Makes `policy` ready for `members`; those of weight 0 are never handed out.
    pub fn new(policy: Policy, members: &[Member]) -> Self {
        let method = match policy {
            Policy::WeightedRoundRobin => {
                let weights: Vec<_> = members.iter().map(|member| member.weight).collect();
                Method::Sequence(smooth(&weights))
            }
            Policy::LeastConnections => Method::Least,
            Policy::PowerOfTwo => Method::TwoChoices(Urn::new(members)),
            Policy::ConsistentHash => Method::Rendezvous,
            Policy::Random => Method::Random(Urn::new(members)),
        };
        let total_weight = members.iter().map(|member| u64::from(member.weight)).sum();
        Selector { members: members.into(), total_weight, method }
    }

    /// Members to ask on this turn, in order. Nothing is computed before it is asked for.
    pub fn candidates<'a, L: Loads>(&'a self, turn: Turn, loads: &'a L) -> Candidates<'a, L> {
        Candidates { selector: self, loads, turn, noise: turn.noise, tried: Tried::default() }
    }
}

/// Members in order of preference, each at most once; ends when all were handed out.
#[derive(Debug)]
pub struct Candidates<'a, L> {
    selector: &'a Selector,
    loads: &'a L,
    turn: Turn,
    noise: u64,
    tried: Tried,
}

impl<L: Loads> Iterator for Candidates<'_, L> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let chosen = match &self.selector.method {
            Method::Sequence(sequence) => self.next_in(sequence),
            Method::Least => self.least(),
            Method::TwoChoices(urn) => {
                let (one, two) = (self.bits(), self.bits());
                self.two_choices(urn, one, two)
            }
            Method::Rendezvous => self.rendezvous(),
            Method::Random(urn) => {
                let bits = self.bits();
                urn.draw(bits, &self.tried)
            }
        }?;
        self.tried.insert(chosen);
        Some(chosen)
    }
}

impl<L: Loads> Candidates<'_, L> {
    fn bits(&mut self) -> u64 {
        self.noise = mix(self.noise);
        self.noise
    }

    /// This turn's place in the sequence. A retry takes nobody's turn, so first choices stay
    /// exact; it is drawn from the sequence, and so by weight: the next in line would be the same
    /// neighbour every time, and would get all of a dead backend's share.
    fn next_in(&mut self, sequence: &[u32]) -> Option<usize> {
        let length = sequence.len() as u64;
        let mut place = self.turn.number.checked_rem(length)? as usize;
        for _ in 0..DRAWS {
            let index = sequence[place] as usize;
            if !self.tried.contains(index) {
                return Some(index);
            }
            place = below(self.bits(), length) as usize;
        }
        // Nearly all were tried: whoever is left.
        let (before, from) = sequence.split_at(place);
        let mut order = from.iter().chain(before).map(|&index| index as usize);
        order.find(|&index| !self.tried.contains(index))
    }

    /// Members that may still be handed out, beginning at this turn's, so that equals take turns.
    fn open(&self) -> impl Iterator<Item = (usize, Member)> {
        let members = &self.selector.members;
        let count = members.len();
        let place = self.turn.number.checked_rem(count as u64).unwrap_or(0) as usize;
        (place..count)
            .chain(0..place)
            .map(|index| (index, members[index]))
            .filter(|(index, member)| member.weight > 0 && !self.tried.contains(*index))
    }

    fn least(&self) -> Option<usize> {
        let mut best: Option<(usize, Load)> = None;
        for (index, member) in self.open() {
            let load = Load::with_one_more(self.loads.burden(index), member.weight);
            if best.is_none_or(|(_, least)| load.less_than(least)) {
                best = Some((index, load));
            }
        }
        best.map(|(index, _)| index)
    }

    fn two_choices(&self, urn: &Urn, one: u64, two: u64) -> Option<usize> {
        let first = urn.draw(one, &self.tried)?;
        let Some(second) = urn.draw_other(two, first, &self.tried) else {
            return Some(first);
        };
        let load = |index: usize| {
            let load = u64::from(self.loads.load(index)) * PARTS;
            Load::with_one_more(load, self.selector.members[index].weight)
        };
        Some(if load(second).less_than(load(first)) { second } else { first })
    }

    /// The highest score among those within their bound, else the highest of all.
    fn rendezvous(&self) -> Option<usize> {
        let count = self.selector.members.len();
        let load: u64 = (0..count).map(|index| u64::from(self.loads.load(index))).sum();
        let mut best: Option<(usize, (bool, f64))> = None;
        for (index, member) in self.open() {
            let most = bound(load, member.weight, self.selector.total_weight);
            let within = u64::from(self.loads.load(index)) < most;
            let rank = (within, score(self.turn.client, &member));
            if best.is_none_or(|(_, highest)| rank > highest) {
                best = Some((index, rank));
            }
        }
        best.map(|(index, _)| index)
    }
}

/// Connections per weight, compared without division.
#[derive(Clone, Copy, Debug)]
struct Load {
    /// In [`PARTS`].
    connections: u64,
    weight: u64,
}

impl Load {
    /// Counts the one that is about to come: an idle heavy member is better than an idle light one.
    fn with_one_more(parts: u64, weight: u32) -> Self {
        Load { connections: parts.saturating_add(PARTS), weight: u64::from(weight) }
    }

    fn less_than(self, other: Load) -> bool {
        u128::from(self.connections) * u128::from(other.weight)
            < u128::from(other.connections) * u128::from(self.weight)
    }
}

#[cfg(test)]
mod tests;
