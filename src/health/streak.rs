//! Rise and fall: results in a row turn a verdict.

use super::plan::CheckPlan;
use super::verdicts::Verdict;

/// A backend's verdict and the results in a row that speak for or against it.
#[derive(Clone, Debug, Default)]
pub struct Streak {
    verdict: Option<Verdict>,
    /// The verdict is the peers', no result of our own has borne it out yet.
    hearsay: bool,
    /// Results in a row that contradict the verdict.
    against: u32,
    /// Results in a row that agree with it, up to the last one.
    run: u32,
    /// There was a result.
    checked: bool,
    /// The next result decides alone, whatever the verdict was.
    afresh: bool,
}

impl Streak {
    /// The verdict, own or taken from peers; `None` before the first result or word.
    pub fn verdict(&self) -> Option<Verdict> {
        self.verdict
    }

    /// The verdict as far as own results bear it out.
    pub fn own(&self) -> Option<Verdict> {
        self.verdict.filter(|_| !self.hearsay)
    }

    /// Results in a row that agree with the verdict, up to the last one.
    pub fn run(&self) -> u32 {
        self.run
    }

    /// Whether there was a result at all.
    pub fn checked(&self) -> bool {
        self.checked
    }

    /// Lets the next result decide at once.
    pub fn begin_afresh(&mut self) {
        self.afresh = true;
        self.against = 0;
    }

    /// Takes the peers' word, as long as there is no own one; the verdict when that turned it. A
    /// node that has checked before then needs as many results to turn it as to turn any: taking
    /// a check over, it does not drop a backend for one lost packet.
    pub fn hear(&mut self, peers: Verdict) -> Option<Verdict> {
        if self.own().is_some() || self.verdict == Some(peers) {
            return None;
        }
        (self.against, self.run) = (0, 0);
        self.hearsay = true;
        self.verdict = Some(peers);
        self.verdict
    }

    /// The own verdict has not been renewed in time: it stands only until somebody knows better.
    pub fn lapse(&mut self) {
        (self.against, self.run) = (0, 0);
        self.hearsay = self.verdict.is_some();
    }

    /// Notes one result; the new verdict when it turned. The first result counts at once: waiting
    /// for `rise` of them would keep a fresh node closed for as many intervals.
    pub fn note(&mut self, good: bool, plan: &CheckPlan) -> Option<Verdict> {
        let seen = if good { Verdict::Up } else { Verdict::Down };
        let afresh = std::mem::take(&mut self.afresh);
        let first = !std::mem::replace(&mut self.checked, true) || afresh;
        if self.verdict == Some(seen) {
            self.hearsay = false;
            self.against = 0;
            self.run = self.run.saturating_add(1);
            return None;
        }
        self.run = 0;
        self.against += 1;
        let needed = if good { plan.rise } else { plan.fall };
        if !first && self.against < needed {
            return None;
        }
        self.run = std::mem::take(&mut self.against);
        self.hearsay = false;
        self.verdict = Some(seen);
        self.verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(results: &[bool]) -> Vec<Option<Verdict>> {
        let plan = CheckPlan { rise: 2, fall: 3, ..CheckPlan::default() };
        let mut streak = Streak::default();
        results.iter().map(|&good| streak.note(good, &plan)).collect()
    }

    const UP: Option<Verdict> = Some(Verdict::Up);
    const DOWN: Option<Verdict> = Some(Verdict::Down);

    #[test]
    fn the_first_result_decides_at_once() {
        assert_eq!(turns(&[true]), [UP]);
        assert_eq!(turns(&[false]), [DOWN]);
    }

    #[test]
    fn it_falls_after_fall_failures_in_a_row() {
        assert_eq!(turns(&[true, false, false, false]), [UP, None, None, DOWN]);
        assert_eq!(
            turns(&[true, false, false, true, false, false, false]),
            [UP, None, None, None, None, None, DOWN]
        );
    }

    #[test]
    fn it_rises_after_rise_successes_in_a_row() {
        assert_eq!(turns(&[false, true, false, true, true]), [DOWN, None, None, None, UP]);
    }

    #[test]
    fn afresh_lets_one_result_decide_again() {
        let plan = CheckPlan { rise: 2, fall: 3, ..CheckPlan::default() };
        let mut streak = Streak::default();
        streak.note(true, &plan);
        streak.begin_afresh();
        assert_eq!(streak.verdict(), UP);
        assert_eq!(streak.note(false, &plan), DOWN);
        assert_eq!(streak.note(true, &plan), None);
    }

    #[test]
    fn hearsay_stands_until_own_results_bear_it_out_or_turn_it() {
        let plan = CheckPlan { rise: 2, fall: 3, ..CheckPlan::default() };
        let mut streak = Streak::default();
        streak.note(false, &plan);
        streak.lapse();
        assert_eq!(streak.hear(Verdict::Up), UP);
        assert_eq!((streak.verdict(), streak.own()), (UP, None));
        // One failure after a take-over drops nobody, and is not yet an own verdict.
        assert_eq!(streak.note(false, &plan), None);
        assert_eq!((streak.verdict(), streak.own()), (UP, None));
        assert_eq!(streak.note(false, &plan), None);
        assert_eq!(streak.note(false, &plan), DOWN);
        assert_eq!((streak.own(), streak.run()), (DOWN, 3));
        assert_eq!(streak.hear(Verdict::Up), None, "own results count more than words");
        streak.lapse();
        assert_eq!((streak.verdict(), streak.own()), (DOWN, None));
        assert_eq!(streak.hear(Verdict::Up), UP);
        assert_eq!(streak.note(true, &plan), None);
        assert_eq!((streak.own(), streak.run()), (UP, 1));
    }

    #[test]
    fn the_first_own_result_counts_more_than_any_hearsay() {
        let mut streak = Streak::default();
        streak.hear(Verdict::Up);
        assert_eq!(streak.note(false, &CheckPlan::default()), DOWN);
        assert_eq!(streak.own(), DOWN);
    }

    #[test]
    fn a_run_counts_what_agrees_and_ends_with_what_does_not() {
        let plan = CheckPlan { rise: 2, fall: 3, ..CheckPlan::default() };
        let mut streak = Streak::default();
        let runs = [true, true, false, true, false, false, false, false].map(|good| {
            streak.note(good, &plan);
            streak.run()
        });
        assert_eq!(runs, [1, 2, 0, 1, 0, 0, 3, 4]);
    }
}
