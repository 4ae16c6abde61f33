//! Rise and fall: results in a row turn a verdict.

use super::plan::CheckPlan;
use super::verdicts::Verdict;

/// A backend's verdict and the results in a row that speak against it.
#[derive(Clone, Debug, Default)]
pub struct Streak {
    verdict: Option<Verdict>,
    /// Results in a row that contradict the verdict.
    against: u32,
    /// The next result decides alone, whatever the verdict was.
    afresh: bool,
}

impl Streak {
    /// The verdict; `None` before the first result.
    pub fn verdict(&self) -> Option<Verdict> {
        self.verdict
    }

    /// Lets the next result decide at once: what is asked of the backend has changed.
    pub fn begin_afresh(&mut self) {
        self.afresh = true;
        self.against = 0;
    }

    /// Notes one result; the new verdict when it turned. The first result counts at once: waiting
    /// for `rise` of them would keep a fresh node closed for as many intervals.
    pub fn note(&mut self, good: bool, plan: &CheckPlan) -> Option<Verdict> {
        let seen = if good { Verdict::Up } else { Verdict::Down };
        let first = self.verdict.is_none() || std::mem::take(&mut self.afresh);
        if self.verdict == Some(seen) {
            self.against = 0;
            return None;
        }
        self.against += 1;
        let needed = if good { plan.rise } else { plan.fall };
        if !first && self.against < needed {
            return None;
        }
        self.against = 0;
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
}
