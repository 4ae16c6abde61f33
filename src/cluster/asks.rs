//! Asks of this node's workers that wait for an answer: each once, each for a bounded time.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::traffic::{Answer, Ask};

/// Asks that may wait at once; beyond, nobody is asked.
const MOST_OPEN: usize = 16_384;
/// An ask waits at least so long per round trip that it may need, however short those are: a peer's
/// agent has other work as well.
const LEAST: Duration = Duration::from_millis(5);
/// No round trip that is worth waiting for is longer.
const LONGEST: Duration = Duration::from_millis(100);

/// Names an ask within one machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// Counted since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AskCounts {
    /// Asks that came.
    pub asked: u64,
    /// Of them, granted.
    pub granted: u64,
    /// Of them, refused.
    pub refused: u64,
    /// Of them, not answered in time, or with nobody to ask.
    pub unanswered: u64,
}

/// The open ones.
#[derive(Debug)]
pub struct Asks {
    open: HashMap<Ticket, Instant>,
    /// By kind of patience, so that each line is in order of time: two round trips, four.
    lines: [VecDeque<(Instant, Ticket)>; 2],
    /// The slowest round trip to a peer lately, smoothed.
    round_trip: Duration,
    /// What happened.
    pub counts: AskCounts,
}

impl Default for Asks {
    fn default() -> Self {
        Asks {
            open: HashMap::new(),
            lines: Default::default(),
            round_trip: Duration::ZERO,
            counts: AskCounts::default(),
        }
    }
}

impl Asks {
    /// How many round trips an answer may take: permits may have to be called back from a third
    /// node first.
    fn trips(ask: &Ask) -> u32 {
        match ask {
            Ask::Token(_) => 2,
            Ask::Permits { .. } => 4,
        }
    }

    /// How long such an ask waits.
    pub fn patience(&self, ask: &Ask) -> Duration {
        self.round_trip.clamp(LEAST, LONGEST) * Self::trips(ask)
    }

    /// How long any ask waits at most.
    pub fn longest_patience(&self) -> Duration {
        self.round_trip.clamp(LEAST, LONGEST) * 4
    }

    /// A round trip to some peer was measured. Rises at once, falls slowly.
    pub fn measured(&mut self, round_trip: Duration) {
        let smoothed = (self.round_trip * 15 + round_trip) / 16;
        self.round_trip = smoothed.max(round_trip);
    }

    /// The slowest round trip to a peer lately.
    pub fn round_trip(&self) -> Duration {
        self.round_trip
    }

    /// Takes an ask in; when it ends at the latest, or `None` when too many are open.
    pub fn open(&mut self, now: Instant, ticket: Ticket, ask: &Ask) -> Option<Instant> {
        self.counts.asked += 1;
        if self.open.len() >= MOST_OPEN {
            self.counts.unanswered += 1;
            return None;
        }
        let until = now + self.patience(ask);
        self.open.insert(ticket, until);
        self.lines[usize::from(Self::trips(ask) > 2)].push_back((until, ticket));
        Some(until)
    }

    /// Whether `ticket` still waits.
    pub fn waits(&self, ticket: Ticket) -> bool {
        self.open.contains_key(&ticket)
    }

    /// The answer to `ticket` is known; whether anybody still waits for it.
    pub fn close(&mut self, ticket: Ticket, answer: &Answer) -> bool {
        if self.open.remove(&ticket).is_none() {
            return false;
        }
        match answer {
            Answer::Granted { .. } => self.counts.granted += 1,
            Answer::Refused { .. } => self.counts.refused += 1,
            Answer::Nobody => self.counts.unanswered += 1,
        }
        true
    }

    /// When the next open ask ends.
    pub fn due(&self) -> Option<Instant> {
        self.lines.iter().filter_map(|line| line.front()).map(|(until, _)| *until).min()
    }

    /// Those that ended unanswered by now, and whether they asked for permits; they are closed.
    pub fn expire(&mut self, now: Instant) -> Vec<(Ticket, bool)> {
        let mut expired = Vec::new();
        for (line, permits) in self.lines.iter_mut().zip([false, true]) {
            while let Some(&(until, ticket)) = line.front() {
                // Answered ones lie in the line until their time comes.
                if until > now && self.open.contains_key(&ticket) {
                    break;
                }
                line.pop_front();
                if self.open.remove(&ticket).is_some() {
                    self.counts.unanswered += 1;
                    expired.push((ticket, permits));
                }
            }
        }
        expired
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{KeyHash, LimitId, time};
    use crate::traffic::Report;

    const PERMITS: Ask = Ask::Permits { limit: LimitId(1), key: KeyHash(2), cap: 3 };
    const TOKEN: Ask = Ask::Token(Report {
        limit: LimitId(1),
        key: KeyHash(2),
        total: 1,
        tenure: 1,
        recent: 1,
        level: None,
    });

    #[test]
    fn an_ask_is_answered_once_or_ends_by_itself() {
        let (mut asks, now) = (Asks::default(), time::now());
        let until = asks.open(now, Ticket(1), &PERMITS).unwrap();
        asks.open(now, Ticket(2), &PERMITS).unwrap();
        assert!(asks.close(Ticket(1), &Answer::Granted { level: 0.0 }));
        assert!(!asks.close(Ticket(1), &Answer::Granted { level: 0.0 }), "answered twice");
        assert_eq!(asks.expire(until - Duration::from_millis(1)), []);
        assert_eq!(asks.due(), Some(until));
        assert_eq!(asks.expire(until), [(Ticket(2), true)]);
        assert!(!asks.close(Ticket(2), &Answer::Nobody) && asks.due().is_none());
        let AskCounts { asked, granted, refused, unanswered } = asks.counts;
        assert_eq!((asked, granted, refused, unanswered), (2, 1, 0, 1));
    }

    #[test]
    fn a_token_is_waited_for_less_long_than_permits_and_neither_holds_up_the_other() {
        let (mut asks, now) = (Asks::default(), time::now());
        let permits = asks.open(now, Ticket(1), &PERMITS).unwrap();
        let token = asks.open(now, Ticket(2), &TOKEN).unwrap();
        assert_eq!((token - now, permits - now), (2 * LEAST, 4 * LEAST));
        assert_eq!(asks.expire(token), [(Ticket(2), false)]);
    }

    #[test]
    fn patience_follows_the_slowest_round_trip_within_bounds() {
        let mut asks = Asks::default();
        asks.measured(Duration::from_millis(30));
        assert_eq!(asks.patience(&TOKEN), Duration::from_millis(60));
        asks.measured(Duration::from_millis(1));
        assert!(asks.patience(&TOKEN) > Duration::from_millis(50), "it falls slowly");
        asks.measured(Duration::from_secs(5));
        assert_eq!(asks.patience(&TOKEN), 2 * LONGEST);
    }

    #[test]
    fn too_many_asks_are_not_taken() {
        let (mut asks, now) = (Asks::default(), time::now());
        let taken = (0..MOST_OPEN as u64 + 5)
            .filter(|n| asks.open(now, Ticket(*n), &PERMITS).is_some())
            .count();
        assert_eq!((taken, asks.counts.unanswered), (MOST_OPEN, 5));
        assert_eq!(asks.expire(now + Duration::from_secs(1)).len(), MOST_OPEN);
        assert!(asks.lines.iter().all(VecDeque::is_empty));
    }
}
