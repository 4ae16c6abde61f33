//! What one node knows of one backend by checks, its own and its peers', and whether it is the one
//! to check.

use std::time::{Duration, Instant};

use super::peers::{Opinion, Vote, join, majority};
use super::plan::CheckPlan;
use super::rota::{Duty, Rota};
use super::streak::Streak;
use super::verdicts::{Sighting, Verdict};

/// How long those that are nearer to a duty have to take it. They check at once, and their word is
/// heard by all within half a second.
const GRACE: Duration = Duration::from_secs(2);

/// One backend at one node.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    streak: Streak,
    /// Without another result the own verdict lapses then.
    until: Option<Instant>,
    latency: Option<Duration>,
    votes: Vec<Vote>,
    /// Connects failed: checked by this node itself until then, whoever's turn it is.
    looks_until: Option<Instant>,
    /// Others check it.
    relieved: bool,
    /// Since then too few of them do.
    wanting_since: Option<Instant>,
}

/// A verdict that turned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// What it is now.
    pub verdict: Verdict,
    /// Nothing was known before.
    pub first: bool,
}

/// What came of a result.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Checked {
    /// The verdict turned.
    pub turned: Option<Turn>,
    /// For the register; `None` as long as the verdict is only the peers' word.
    pub sighting: Option<Sighting>,
}

/// What came of the peers' votes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// The verdict turned by their word.
    pub turned: Option<Turn>,
    /// To be checked at once.
    pub check_now: bool,
    /// Most peers see down what this node sees up, and that is new.
    pub doubted: bool,
}

impl Watch {
    /// A check had a result, after `took`.
    pub fn checked(
        &mut self,
        good: bool,
        took: Duration,
        plan: &CheckPlan,
        now: Instant,
    ) -> Checked {
        // What most of the others have found as well need not be found again and again.
        if !good && self.votes.len() >= 2 && majority(&self.votes) == Some(Verdict::Down) {
            self.streak.begin_afresh();
        }
        let first = self.streak.verdict().is_none();
        let turned = self.streak.note(good, plan).map(|verdict| Turn { verdict, first });
        if good {
            let smooth = |before: Duration| (before * 3 + took) / 4;
            self.latency = Some(self.latency.map_or(took, smooth));
        }
        let sighting = self.streak.own().map(|verdict| Sighting {
            verdict,
            streak: self.streak.run(),
            latency: self.latency,
            settled: now + plan.settling(),
            until: now + plan.lasting(),
        });
        self.until = sighting.map(|sighting| sighting.until);
        Checked { turned, sighting }
    }

    /// Peers say `votes` of `backend` (its [`crate::base::BackendKey::id`]), and share the checks
    /// by `rota`. To be told again and again: time is looked at as well.
    pub fn hear(&mut self, backend: u64, votes: Vec<Vote>, rota: &Rota, now: Instant) -> Heard {
        if self.until.is_some_and(|until| until <= now) {
            self.until = None;
            self.streak.lapse();
        }
        let before = self.opinion();
        self.votes = votes;
        let first = self.streak.verdict().is_none();
        let (own, peers) = (self.streak.own(), majority(&self.votes));
        let turned = peers.and_then(|peers| self.streak.hear(peers));
        // Who sees something else than the others goes on looking: its own *down* is final, and
        // its own *up* may be the better one.
        let differs = own.is_some() && peers.is_some() && own != peers;
        let looks = self.looks_until.is_some_and(|until| until > now);
        let due = self.on_duty(backend, rota, now) || differs || looks;
        let doubted = before != Opinion::Doubted && self.opinion() == Opinion::Doubted;
        let taken_on = std::mem::replace(&mut self.relieved, !due) && due;
        Heard {
            turned: turned.map(|verdict| Turn { verdict, first }),
            check_now: taken_on || doubted,
            doubted,
        }
    }

    fn on_duty(&mut self, backend: u64, rota: &Rota, now: Instant) -> bool {
        let duty = rota.duty(backend, &self.votes);
        if duty != Duty::Spare {
            self.wanting_since = None;
            return duty == Duty::On;
        }
        // Whoever checks goes on until enough others do.
        !self.relieved || now >= *self.wanting_since.get_or_insert(now) + GRACE
    }

    /// A connect failed: a node that leaves the checks to others looks for itself, now and for as
    /// long as what it finds counts. Whether to check at once.
    pub fn connect_failed(&mut self, plan: &CheckPlan, now: Instant) -> bool {
        if !self.relieved {
            return false;
        }
        self.looks_until = Some(now + plan.lasting());
        self.relieved = false;
        true
    }

    /// What is asked of the backend has changed: the next result decides.
    pub fn begin_afresh(&mut self) {
        self.streak.begin_afresh();
    }

    /// What this node thinks.
    pub fn opinion(&self) -> Opinion {
        match (join(self.streak.own(), &self.votes), self.streak.verdict()) {
            // Peers that are at odds, or gone: what was known last, until a check says more.
            (Opinion::Unknown, Some(Verdict::Up)) => Opinion::Good,
            (Opinion::Unknown, Some(Verdict::Down)) => Opinion::Bad,
            (opinion, _) => opinion,
        }
    }

    /// The verdict by own results.
    pub fn own(&self) -> Option<Verdict> {
        self.streak.own()
    }

    /// There was a result.
    pub fn checked_once(&self) -> bool {
        self.streak.checked()
    }

    /// Others check it.
    pub fn relieved(&self) -> bool {
        self.relieved
    }

    /// What peers said last.
    pub fn votes(&self) -> &[Vote] {
        &self.votes
    }
}

#[cfg(test)]
mod tests {
    use super::Verdict::{Down, Up};
    use super::*;
    use crate::base::{NodeId, time};
    use crate::health::Report;

    const SECOND: Duration = Duration::from_secs(1);

    fn votes(now: Instant, verdicts: &[Verdict]) -> Vec<Vote> {
        let cast = |(node, &verdict): (u64, &Verdict)| Vote {
            observer: "n".into(),
            node: NodeId(node),
            report: Report::first(verdict, now),
        };
        (0..).zip(verdicts).map(cast).collect()
    }

    /// A rota of 40 nodes in which nobody who speaks stands behind this one.
    fn last() -> Rota {
        let votes = votes(time::now(), &[Up; 3]);
        let mut ids = (100..).map(NodeId);
        let rota =
            |own| Rota { own, nodes: (0..39).map(NodeId).chain([own]).collect(), all_below: 5 };
        let own = ids.find(|own| rota(*own).duty(7, &votes) == Duty::Off).unwrap();
        rota(own)
    }

    /// Passes the time in which others may take a duty.
    fn wait(now: Instant) -> Instant {
        now + GRACE
    }

    fn note(watch: &mut Watch, good: bool, now: Instant) -> Checked {
        watch.checked(good, SECOND / 100, &CheckPlan::default(), now)
    }

    #[test]
    fn a_relieved_node_takes_the_majority_and_tells_nothing_of_its_own() {
        let (mut watch, now) = (Watch::default(), time::now());
        let heard = watch.hear(7, votes(now, &[Up, Up, Up]), &last(), now);
        assert_eq!(heard.turned, Some(Turn { verdict: Up, first: true }));
        assert!(watch.relieved() && !heard.check_now);
        assert_eq!((watch.opinion(), watch.own()), (Opinion::Good, None));
        let heard = watch.hear(7, votes(now, &[Up, Down, Down]), &last(), now);
        assert_eq!(heard.turned, Some(Turn { verdict: Down, first: false }));
        assert_eq!((watch.opinion(), watch.own()), (Opinion::Bad, None));
        assert!(!heard.check_now, "a dead backend is asked by its checkers alone");
    }

    #[test]
    fn checkers_at_odds_or_gone_change_nothing_but_who_checks() {
        let (mut watch, mut now) = (Watch::default(), time::now());
        watch.hear(7, votes(now, &[Up, Up, Up]), &last(), now);
        for left in [&[Up, Down][..], &[Down, Up], &[]] {
            let heard = watch.hear(7, votes(now, left), &last(), now);
            assert_eq!(heard, Heard::default(), "others are nearer");
            now = wait(now);
            let heard = watch.hear(7, votes(now, left), &last(), now);
            assert_eq!((watch.opinion(), heard.turned), (Opinion::Good, None));
            assert!(heard.check_now && !watch.relieved(), "nobody took it");
            let heard = watch.hear(7, votes(now, &[Up, Up, Up]), &last(), now);
            assert!(watch.relieved() && !heard.check_now);
        }
    }

    #[test]
    fn who_checks_goes_on_until_enough_others_do() {
        let (mut watch, now) = (Watch::default(), time::now());
        note(&mut watch, true, now);
        watch.hear(7, votes(now, &[Up, Up]), &last(), now);
        assert!(!watch.relieved());
        watch.hear(7, votes(now, &[Up, Up, Up]), &last(), now);
        assert!(watch.relieved());
    }

    #[test]
    fn a_failure_that_most_peers_have_seen_need_not_repeat_itself() {
        let (mut watch, now) = (Watch::default(), time::now());
        note(&mut watch, true, now);
        watch.hear(7, votes(now, &[Down]), &Rota::alone(), now);
        assert_eq!(note(&mut watch, false, now).turned, None, "one may be wrong");
        watch.hear(7, votes(now, &[Down, Down]), &Rota::alone(), now);
        let turned = note(&mut watch, false, now).turned;
        assert_eq!(turned, Some(Turn { verdict: Down, first: false }));
    }

    #[test]
    fn taking_over_needs_as_many_failures_as_ever_to_drop_a_backend() {
        let (mut watch, mut now) = (Watch::default(), time::now());
        note(&mut watch, true, now);
        now += CheckPlan::default().lasting();
        watch.hear(7, votes(now, &[Up, Up, Up]), &last(), now);
        watch.hear(7, Vec::new(), &last(), now);
        for _ in 0..2 {
            assert_eq!(note(&mut watch, false, now), Checked { turned: None, sighting: None });
            assert_eq!(watch.opinion(), Opinion::Good);
        }
        let checked = note(&mut watch, false, now);
        assert_eq!(checked.turned, Some(Turn { verdict: Down, first: false }));
        assert_eq!(checked.sighting.unwrap().streak, 3);
    }

    #[test]
    fn who_differs_from_the_majority_goes_on_checking() {
        for (good, differing, same) in [(false, Up, Down), (true, Down, Up)] {
            let (mut watch, now) = (Watch::default(), time::now());
            note(&mut watch, good, now);
            watch.hear(7, votes(now, &[differing; 3]), &last(), now);
            assert!(!watch.relieved(), "{differing:?}");
            watch.hear(7, votes(now, &[same; 3]), &last(), now);
            assert!(watch.relieved(), "{same:?}");
        }
    }

    #[test]
    fn a_failed_connect_makes_a_relieved_node_look_for_itself_for_a_while() {
        let (mut watch, now) = (Watch::default(), time::now());
        let plan = CheckPlan::default();
        assert!(!watch.connect_failed(&plan, now), "it checks anyway");
        let all_up = || votes(now, &[Up, Up, Up]);
        watch.hear(7, all_up(), &last(), now);
        note(&mut watch, true, now);
        watch.hear(7, all_up(), &last(), now);
        assert!(watch.connect_failed(&plan, now));
        assert!(!watch.connect_failed(&plan, now), "once is enough");
        watch.hear(7, all_up(), &last(), now + SECOND);
        assert!(!watch.relieved());
        for _ in 0..3 {
            note(&mut watch, false, now + SECOND);
        }
        assert_eq!(watch.opinion(), Opinion::Bad, "own down is final");
        // Long after: it goes on as long as it finds something else than the others.
        let later = now + plan.lasting() / 2 * 3;
        note(&mut watch, false, later);
        watch.hear(7, all_up(), &last(), later);
        assert!(!watch.relieved());
        for _ in 0..2 {
            note(&mut watch, true, later);
        }
        watch.hear(7, all_up(), &last(), later);
        assert!(watch.relieved());
    }

    #[test]
    fn an_own_verdict_that_is_not_renewed_gives_way_to_the_peers() {
        let (mut watch, now) = (Watch::default(), time::now());
        note(&mut watch, false, now);
        let lasting = CheckPlan::default().lasting();
        watch.hear(7, Vec::new(), &last(), now + lasting);
        assert_eq!((watch.opinion(), watch.own()), (Opinion::Bad, None), "nobody knows better");
        assert!(!watch.relieved());
        let heard = watch.hear(7, votes(now, &[Up]), &last(), now + lasting);
        assert_eq!(heard.turned, Some(Turn { verdict: Up, first: false }));
        assert_eq!(watch.opinion(), Opinion::Good);
    }

    #[test]
    fn a_doubt_is_raised_once_and_checked_at_once() {
        let (mut watch, now) = (Watch::default(), time::now());
        note(&mut watch, true, now);
        let doubting = || votes(now, &[Down, Down]);
        let heard = watch.hear(7, doubting(), &Rota::alone(), now);
        assert!(heard.doubted && heard.check_now);
        assert_eq!(watch.opinion(), Opinion::Doubted);
        let heard = watch.hear(7, doubting(), &Rota::alone(), now);
        assert!(!heard.doubted && !heard.check_now);
    }

    #[test]
    fn latency_is_smoothed_over_good_checks() {
        let (mut watch, now, plan) = (Watch::default(), time::now(), CheckPlan::default());
        let mut latency = |good, ms| {
            let took = Duration::from_millis(ms);
            watch.checked(good, took, &plan, now).sighting.unwrap().latency
        };
        assert_eq!(latency(true, 40), Some(Duration::from_millis(40)));
        assert_eq!(latency(true, 80), Some(Duration::from_millis(50)));
        assert_eq!(latency(false, 900), Some(Duration::from_millis(50)));
    }
}
