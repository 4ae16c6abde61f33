//! Slow start: a backend that came up gets its weight step by step.

use std::time::{Duration, Instant};

/// Steps from nothing to the full weight; each rebuilds the balancer once.
const STEPS: u32 = 10;

/// Where a backend is on its way to its full weight.
#[derive(Clone, Copy, Debug, Default)]
pub struct SlowStart {
    since: Option<Instant>,
}

impl SlowStart {
    /// The way begins.
    pub fn begin(&mut self, now: Instant) {
        self.since = Some(now);
    }

    /// Percent of its weight that a backend gets now: 10, 20, … 100.
    pub fn percent(&self, length: Duration, now: Instant) -> u32 {
        self.step(length, now) * 100 / STEPS
    }

    /// When the percentage grows next; `None` at the full weight.
    pub fn next_step(&self, length: Duration, now: Instant) -> Option<Instant> {
        let step = self.step(length, now);
        // The least duration that `step` below counts as the next one.
        let after = || (length * step).div_ceil(STEPS);
        (step < STEPS).then(|| self.since.map(|since| since + after()))?
    }

    fn step(&self, length: Duration, now: Instant) -> u32 {
        match self.since {
            Some(since) if !length.is_zero() => {
                let gone = now.saturating_duration_since(since).as_nanos();
                let whole = gone * u128::from(STEPS) / length.as_nanos();
                (whole.min(STEPS.into()) as u32).saturating_add(1).min(STEPS)
            }
            _ => STEPS,
        }
    }
}

/// Division that rounds up to the next nanosecond, so that a timer is never early.
trait DivCeil {
    fn div_ceil(self, parts: u32) -> Duration;
}

impl DivCeil for Duration {
    fn div_ceil(self, parts: u32) -> Duration {
        Duration::from_nanos(self.as_nanos().div_ceil(u128::from(parts)) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weight_grows_in_steps_and_each_is_announced() {
        let length = Duration::from_nanos(1_000_000_007);
        let mut now = Instant::now();
        let mut start = SlowStart::default();
        assert_eq!(start.percent(length, now), 100);
        assert_eq!(start.next_step(length, now), None);
        start.begin(now);
        let mut seen = vec![start.percent(length, now)];
        while let Some(next) = start.next_step(length, now) {
            assert!(next > now);
            assert_eq!(
                start.percent(length, next - Duration::from_nanos(1)),
                *seen.last().unwrap()
            );
            now = next;
            seen.push(start.percent(length, now));
        }
        assert_eq!(seen, [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]);
    }

    #[test]
    fn a_slow_start_that_is_long_over_does_not_begin_again() {
        let (length, now) = (Duration::from_millis(1), Instant::now());
        let mut start = SlowStart::default();
        start.begin(now);
        // As many steps of 100 µs as 32 bits can count, and one more: five days.
        let later = now + Duration::from_micros(100) * u32::MAX + Duration::from_micros(150);
        assert_eq!(start.percent(length, later), 100);
    }

    #[test]
    fn no_slow_start_is_the_full_weight_at_once() {
        let now = Instant::now();
        let mut start = SlowStart::default();
        start.begin(now);
        assert_eq!(start.percent(Duration::ZERO, now), 100);
        assert_eq!(start.next_step(Duration::ZERO, now), None);
    }
}
