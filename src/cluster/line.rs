//! The line to one peer that keeps books: which of our reports it has not answered, how long it
//! usually takes, and when it is so silent that its backup is asked instead.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::base::{KeyHash, LimitId};

/// Reports that were not answered are sent again after this, or three round trips.
const RESEND: Duration = Duration::from_millis(25);
/// What the others take is assumed after this, or two round trips.
const SILENT: Duration = Duration::from_millis(15);
/// The backup is asked after this, or eight round trips.
const DEAD: Duration = Duration::from_millis(100);
/// For so long.
const INSTEAD: Duration = Duration::from_secs(3);
/// Unanswered reports that are remembered; the oldest give way.
const MOST_SENT: usize = 512;

/// Reports under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Named in the answer.
    pub seq: u32,
    /// Of this limit.
    pub limit: LimitId,
    /// Of these keys.
    pub keys: Vec<KeyHash>,
    /// When they were first sent.
    first: Instant,
    /// When they were last sent.
    last: Instant,
    /// Up to when the others' use was assumed.
    assumed: Instant,
}

/// One peer.
#[derive(Debug)]
pub struct Line {
    sent: VecDeque<Sent>,
    rtt: Duration,
    heard: Instant,
    instead_until: Option<Instant>,
}

/// What is to be done about a silent peer.
#[derive(Debug, Default)]
pub struct Silence {
    /// Keys whose bucket is to be drained by what the others take in this time.
    pub assume: Vec<(LimitId, KeyHash, Duration)>,
    /// Keys whose report is to be sent again.
    pub resend: Vec<(LimitId, KeyHash)>,
    /// The peer was just given up for a while.
    pub gave_up: bool,
}

impl Line {
    /// Nothing sent yet.
    pub fn new(now: Instant) -> Self {
        Line { sent: VecDeque::new(), rtt: Duration::ZERO, heard: now, instead_until: None }
    }

    /// Reports went out that want an answer.
    pub fn sent(&mut self, now: Instant, seq: u32, limit: LimitId, keys: Vec<KeyHash>) {
        if self.sent.is_empty() {
            // It can only be silent from the first question on.
            self.heard = now;
        }
        if self.sent.len() == MOST_SENT {
            self.sent.pop_front();
        }
        let (first, last, assumed) = (now, now, now);
        self.sent.push_back(Sent { seq, limit, keys, first, last, assumed });
    }

    /// An answer came in.
    pub fn answered(&mut self, now: Instant, seq: u32) {
        self.heard = now;
        let Some(at) = self.sent.iter().position(|sent| sent.seq == seq) else { return };
        let Some(sent) = self.sent.remove(at) else { return };
        let took = now.saturating_duration_since(sent.first);
        // As RFC 6298 smooths it, but for its variance.
        self.rtt = match self.rtt {
            Duration::ZERO => took,
            rtt => (rtt * 7 + took) / 8,
        };
    }

    /// Whether its backup is asked instead.
    pub fn given_up(&self, now: Instant) -> bool {
        self.instead_until.is_some_and(|until| now < until)
    }

    /// The usual time from a report to its answer; zero until there was one.
    pub fn rtt(&self) -> Duration {
        self.rtt
    }

    /// Whether answers are awaited.
    pub fn waiting(&self) -> bool {
        !self.sent.is_empty()
    }

    /// We stood still for `stall`: that was no silence of the peer's.
    pub fn excuse(&mut self, stall: Duration) {
        self.heard += stall;
        for sent in &mut self.sent {
            (sent.first, sent.last, sent.assumed) =
                (sent.first + stall, sent.last + stall, sent.assumed + stall);
        }
    }

    /// What the silence of the peer asks for.
    pub fn look(&mut self, now: Instant) -> Silence {
        let mut silence = Silence::default();
        let rtt = self.rtt;
        let dead = DEAD.max(8 * rtt);
        let oldest = self.sent.front().map(|sent| now.saturating_duration_since(sent.first));
        if oldest.is_some_and(|age| age >= dead)
            && now.saturating_duration_since(self.heard) >= dead
        {
            self.instead_until = Some(now + INSTEAD);
            silence.gave_up = true;
            for sent in self.sent.drain(..) {
                silence.resend.extend(sent.keys.iter().map(|key| (sent.limit, *key)));
            }
            return silence;
        }
        let mut lost = Vec::new();
        for (at, sent) in self.sent.iter_mut().enumerate() {
            if now.saturating_duration_since(sent.first) >= SILENT.max(2 * rtt) {
                let during = now.saturating_duration_since(sent.assumed);
                sent.assumed = now;
                silence.assume.extend(sent.keys.iter().map(|key| (sent.limit, *key, during)));
            }
            if now.saturating_duration_since(sent.last) >= RESEND.max(3 * rtt) {
                sent.last = now;
                lost.push(at);
                silence.resend.extend(sent.keys.iter().map(|key| (sent.limit, *key)));
            }
        }
        // Sent again they are a new question; the old one still shows how long the silence lasts,
        // until the new one, which says more, is answered.
        for at in lost.into_iter().rev() {
            if now.saturating_duration_since(self.sent[at].first) >= 4 * RESEND.max(3 * rtt) {
                self.sent.remove(at);
            }
        }
        silence
    }

    /// Everything that was asked up to `seq` is answered by a newer answer.
    pub fn superseded(&mut self, limit: LimitId, keys: &[KeyHash], seq: u32) {
        self.sent.retain(|sent| {
            sent.limit != limit
                || seq.wrapping_sub(sent.seq) > u32::MAX / 2
                || !sent.keys.iter().all(|key| keys.contains(key))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time;

    const MS: Duration = Duration::from_millis(1);
    const LIMIT: LimitId = LimitId(1);

    fn line(now: Instant) -> Line {
        let mut line = Line::new(now);
        line.sent(now, 1, LIMIT, vec![KeyHash(5)]);
        line
    }

    #[test]
    fn an_answer_in_time_asks_for_nothing() {
        let start = time::now();
        let mut line = line(start);
        line.answered(start + MS, 1);
        let silence = line.look(start + 500 * MS);
        assert!(silence.assume.is_empty() && silence.resend.is_empty() && !silence.gave_up);
        assert_eq!(line.rtt(), MS);
    }

    #[test]
    fn silence_is_drained_then_asked_again_then_given_up() {
        let start = time::now();
        let mut line = line(start);
        assert!(line.look(start + 10 * MS).assume.is_empty());
        assert_eq!(line.look(start + 15 * MS).assume, [(LIMIT, KeyHash(5), 15 * MS)]);
        assert_eq!(line.look(start + 20 * MS).assume, [(LIMIT, KeyHash(5), 5 * MS)]);
        assert_eq!(line.look(start + 25 * MS).resend, [(LIMIT, KeyHash(5))]);
        line.sent(start + 25 * MS, 2, LIMIT, vec![KeyHash(5)]);
        assert!(!line.look(start + 95 * MS).gave_up);
        let silence = line.look(start + 100 * MS);
        assert!(silence.gave_up && silence.resend.contains(&(LIMIT, KeyHash(5))));
        assert!(line.given_up(start + 3_000 * MS) && !line.given_up(start + 3_100 * MS));
        assert!(!line.waiting());
    }

    #[test]
    fn one_lost_datagram_is_no_silence_of_a_peer_that_answers_others() {
        let start = time::now();
        let mut line = line(start);
        for seq in 2..100u32 {
            let now = start + seq * 5 * MS;
            line.sent(now, seq, LIMIT, vec![KeyHash(6)]);
            line.answered(now + MS, seq);
            assert!(!line.look(now + 2 * MS).gave_up);
        }
    }

    #[test]
    fn a_slow_peer_is_given_its_time() {
        let start = time::now();
        let mut line = line(start);
        line.answered(start + 50 * MS, 1);
        let later = start + 1_000 * MS;
        line.sent(later, 2, LIMIT, vec![KeyHash(5)]);
        let silence = line.look(later + 99 * MS);
        assert!(silence.assume.is_empty() && silence.resend.is_empty());
        assert!(!line.look(later + 399 * MS).gave_up);
        assert!(line.look(later + 400 * MS).gave_up);
    }

    #[test]
    fn a_newer_answer_ends_the_wait_for_older_reports_of_its_keys() {
        let start = time::now();
        let mut line = line(start);
        line.sent(start, 2, LIMIT, vec![KeyHash(6)]);
        line.sent(start, 3, LIMIT, vec![KeyHash(5)]);
        line.superseded(LIMIT, &[KeyHash(5)], 3);
        assert_eq!(line.sent.iter().map(|sent| sent.seq).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn our_own_stall_is_not_the_peers_silence() {
        let start = time::now();
        let mut line = line(start);
        line.excuse(500 * MS);
        let silence = line.look(start + 505 * MS);
        assert!(silence.assume.is_empty() && !silence.gave_up);
    }
}
