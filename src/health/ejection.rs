//! Outlier ejection: a backend that refuses connections is left alone for a while, longer each
//! time.

use std::time::{Duration, Instant};

use super::plan::OutlierPlan;

/// Longest ejection, unless the plan's first one is longer.
const CEILING: Duration = Duration::from_secs(300);

/// A backend's time out.
#[derive(Clone, Debug, Default)]
pub struct Ejection {
    until: Option<Instant>,
    /// How long the last one was, and when it ended.
    last: Option<(Duration, Instant)>,
}

impl Ejection {
    /// Sends the backend out and says for how long: twice as long as the time before, up to a
    /// ceiling; from the beginning again when it stayed well for as long as that.
    pub fn eject(&mut self, plan: &OutlierPlan, now: Instant) -> Duration {
        let length = match self.last {
            Some((length, end)) if now.saturating_duration_since(end) < length => {
                (length * 2).min(CEILING.max(plan.eject_for))
            }
            _ => plan.eject_for,
        };
        self.until = Some(now + length);
        self.last = Some((length, now + length));
        length
    }

    /// When it comes back; `None` when it is in.
    pub fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Takes it back when its time is over; whether that was now.
    pub fn take_back(&mut self, now: Instant) -> bool {
        let due = self.until.is_some_and(|until| now >= until);
        if due {
            self.until = None;
        }
        due
    }

    /// Takes it back before its time, because what it was sent out for is over; whether it was out.
    pub fn pardon(&mut self, now: Instant) -> bool {
        let out = self.until.take().is_some();
        if let (true, Some((_, end))) = (out, &mut self.last) {
            *end = now;
        }
        out
    }
}

/// Whether one more of `total` backends may be ejected when `ejected` are. The share is rounded
/// down, so a lone backend is never ejected unless 100 % may be.
pub fn may_eject(plan: &OutlierPlan, ejected: usize, total: usize) -> bool {
    // A share such as 0.2 is not exact in binary; a hair more keeps 20 % of 5 at 1.
    let most = (total as f32 * plan.max_ejected.fraction() + 1e-3) as usize;
    plan.failures > 0 && ejected < most
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Share;

    #[test]
    fn each_flap_doubles_up_to_the_ceiling() {
        let plan = OutlierPlan::default();
        let mut now = Instant::now();
        let mut ejection = Ejection::default();
        let mut lengths = Vec::new();
        for _ in 0..8 {
            let length = ejection.eject(&plan, now);
            assert!(!ejection.take_back(now + length - Duration::from_millis(1)));
            now += length;
            assert!(ejection.take_back(now));
            assert_eq!(ejection.until(), None);
            lengths.push(length.as_secs());
        }
        assert_eq!(lengths, [10, 20, 40, 80, 160, 300, 300, 300]);
    }

    #[test]
    fn a_good_while_starts_it_over() {
        let plan = OutlierPlan::default();
        let now = Instant::now();
        let mut ejection = Ejection::default();
        ejection.eject(&plan, now);
        let second = ejection.eject(&plan, now + Duration::from_secs(19));
        assert_eq!(second.as_secs(), 20);
        let end = now + Duration::from_secs(39);
        let third = ejection.eject(&plan, end + Duration::from_secs(20));
        assert_eq!(third.as_secs(), 10);
    }

    #[test]
    fn a_pardon_ends_an_ejection_and_is_not_forgotten() {
        let (plan, now) = (OutlierPlan::default(), Instant::now());
        let mut ejection = Ejection::default();
        assert!(!ejection.pardon(now), "it was not out");
        ejection.eject(&plan, now);
        let then = now + Duration::from_secs(2);
        assert!(ejection.pardon(then));
        assert_eq!(ejection.until(), None);
        assert!(!ejection.take_back(now + plan.eject_for));
        // It stayed in for less than its last ejection was meant to last.
        assert_eq!(ejection.eject(&plan, then + plan.eject_for / 2), plan.eject_for * 2);
    }

    #[test]
    fn the_ejected_share_is_capped() {
        let plan = |percent| OutlierPlan {
            max_ejected: Share::percent(percent),
            ..OutlierPlan::default()
        };
        assert!(may_eject(&plan(50.0), 0, 2) && !may_eject(&plan(50.0), 1, 2));
        assert!(!may_eject(&plan(50.0), 0, 1));
        assert!(may_eject(&plan(100.0), 0, 1));
        assert!(may_eject(&plan(20.0), 0, 5) && !may_eject(&plan(20.0), 1, 5));
        assert!(!may_eject(&OutlierPlan { failures: 0, ..plan(100.0) }, 0, 9));
    }
}
