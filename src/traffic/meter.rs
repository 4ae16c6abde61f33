//! The arithmetic of a limit. What a key has used is one number, [`Used`], in which the smaller is
//! always the fuller bucket; so a slot is small, refilling writes nothing, and the table compares
//! two buckets without knowing how they count.
//!
//! Token bucket: the moment at which the bucket is full again (the theoretical arrival time of the
//! ATM Forum's generic cell rate algorithm). `token` is how long one token takes to come back.
//!
//! ```text
//!      now                         used            now + capacity
//!       ├─ tokens used × token ─────┤├─ tokens left × token ─┤
//! ```
//!
//! Fixed window: the window's number above, the admissions in it below. An older window is full.
//! Windows are cut where the wall clock says, so that nodes cut them alike as far as their clocks
//! agree; where they do not, the key's owner decides, as it does of everything else.

use std::time::{Duration, Instant};

use super::plan::{Algorithm, Quota};

/// Moments and spans as 1/64 ns, so that fast rates do not suffer from rounding; 64 bits last for
/// nine years.
pub type Ticks = u64;

const PER_NANOSECOND: u64 = 64;
const PER_SECOND: f64 = 1e9 * PER_NANOSECOND as f64;
/// No bucket takes longer to fill: keeps sums of moments far from overflow.
const LONGEST: f64 = 365.0 * 86_400.0 * PER_SECOND;
/// Peers may push a bucket below empty by what refills in this time, no further: a node that heard
/// of a great spending late would otherwise stop for as long.
const DEBT: Duration = Duration::from_millis(500);

/// Ticks from `start` to `now`.
pub fn ticks(start: Instant, now: Instant) -> Ticks {
    let since = now.saturating_duration_since(start);
    since
        .as_secs()
        .saturating_mul(1_000_000_000)
        .saturating_add(u64::from(since.subsec_nanos()))
        .saturating_mul(PER_NANOSECOND)
}

/// The span of `ticks`, rounded up so that who waits for it does not come too early.
pub fn duration(ticks: Ticks) -> Duration {
    Duration::from_nanos(ticks.div_ceil(PER_NANOSECOND))
}

/// What a key has used. Smaller is fuller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Used(u64);

/// How one limit counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Meter(Kind);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Bucket(Bucket),
    Window(Window),
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Bucket {
    burst: f64,
    /// Until one token has come back, at least 1.
    token: Ticks,
    /// Until an empty bucket is full, at least `token`.
    capacity: Ticks,
    /// Until a bucket that peers pushed as low as it goes is full.
    lowest: Ticks,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Window {
    limit: u64,
    length: Ticks,
    /// How far into a window the clock was when ticks began.
    offset: Ticks,
    /// The count's bits in [`Used`]; wide enough for the limit.
    bits: u32,
}

impl Meter {
    /// How `algorithm` counts, by ticks that began when the wall clock was at `unix_ms`.
    pub fn new(algorithm: Algorithm, unix_ms: u64) -> Self {
        Meter(match algorithm {
            Algorithm::TokenBucket(quota) => Kind::Bucket(Bucket::new(quota)),
            Algorithm::FixedWindow { limit, window } => {
                Kind::Window(Window::new(u64::from(limit.get()), window, unix_ms))
            }
        })
    }

    /// The same at a share of its rate, above 0. A window's limit shrinks instead, to one at least.
    pub fn slowed(self, share: f64) -> Self {
        Meter(match self.0 {
            Kind::Bucket(bucket) => Kind::Bucket(bucket.slowed(share)),
            Kind::Window(window) => {
                let limit = ((window.limit as f64 * share).round() as u64).max(1);
                Kind::Window(Window { limit, ..window })
            }
        })
    }

    /// Tokens of a full bucket.
    pub fn burst(&self) -> f64 {
        match &self.0 {
            Kind::Bucket(bucket) => bucket.burst,
            Kind::Window(window) => window.limit as f64,
        }
    }

    /// Tokens that come back per second; a window gives them back all at once.
    pub fn rate(&self) -> f64 {
        match &self.0 {
            Kind::Bucket(bucket) => PER_SECOND / bucket.token as f64,
            Kind::Window(_) => 0.0,
        }
    }

    /// Whether tokens come back one by one.
    pub fn refills(&self) -> bool {
        matches!(self.0, Kind::Bucket(_))
    }

    /// A full bucket.
    pub fn full(&self, now: Ticks) -> Used {
        match &self.0 {
            Kind::Bucket(_) => Used(now),
            Kind::Window(window) => window.pack(window.number(now), 0),
        }
    }

    /// A bucket with `level` tokens left, as far as it can have so many or so few.
    pub fn at_level(&self, level: f64, now: Ticks) -> Used {
        self.debit(self.full(now), now, self.burst() - level)
    }

    /// Takes one token, or tells how long until there is one.
    pub fn take(&self, used: Used, now: Ticks) -> Result<Used, Ticks> {
        match &self.0 {
            Kind::Bucket(bucket) => {
                let next = used.0.max(now).saturating_add(bucket.token);
                match (next - now).checked_sub(bucket.capacity) {
                    None | Some(0) => Ok(Used(next)),
                    Some(early) => Err(early),
                }
            }
            Kind::Window(window) => {
                let (number, count) = window.unpack(used, now);
                if count < window.limit {
                    Ok(window.pack(number, count + 1))
                } else {
                    Err(window.left_of(number, now))
                }
            }
        }
    }

    /// Takes tokens that are spent already, down to the lowest level.
    pub fn debit(&self, used: Used, now: Ticks, tokens: f64) -> Used {
        let tokens = tokens.max(0.0);
        match &self.0 {
            Kind::Bucket(bucket) => {
                let span = (bucket.token as f64 * tokens) as Ticks;
                let next = used.0.max(now).saturating_add(span);
                Used(next.min(now.saturating_add(bucket.lowest)))
            }
            Kind::Window(window) => {
                let (number, count) = window.unpack(used, now);
                window.pack(number, count.saturating_add(tokens.round() as u64))
            }
        }
    }

    /// Tokens left; below zero after a debit.
    pub fn level(&self, used: Used, now: Ticks) -> f64 {
        match &self.0 {
            Kind::Bucket(bucket) => {
                bucket.burst - used.0.saturating_sub(now) as f64 / bucket.token as f64
            }
            Kind::Window(window) => window.limit as f64 - window.unpack(used, now).1 as f64,
        }
    }

    /// Adds one token to this node's own use, which leaks at this node's even share of the rate.
    pub(super) fn add_own(&self, own: Used, now: Ticks, nodes: u32) -> Used {
        match &self.0 {
            Kind::Bucket(bucket) => {
                let nodes = u64::from(nodes.max(1));
                let next = own.0.max(now).saturating_add(bucket.token.saturating_mul(nodes));
                let most = bucket.capacity.saturating_mul(nodes);
                Used(next.min(now.saturating_add(most)))
            }
            Kind::Window(window) => {
                let (number, count) = window.unpack(own, now);
                window.pack(number, count + 1)
            }
        }
    }

    /// This node's own use that has not leaked yet, in tokens.
    pub(super) fn own(&self, own: Used, now: Ticks, nodes: u32) -> f64 {
        match &self.0 {
            Kind::Bucket(bucket) => {
                let token = bucket.token.saturating_mul(u64::from(nodes.max(1)));
                own.0.saturating_sub(now) as f64 / token as f64
            }
            Kind::Window(window) => window.unpack(own, now).1 as f64,
        }
    }
}

impl Bucket {
    /// A quota that is out of its bounds is brought into them: a rate from one token a year, a
    /// burst of at least one.
    fn new(quota: Quota) -> Self {
        let burst = if quota.burst.is_finite() { quota.burst.max(1.0) } else { 1.0 };
        let token = (PER_SECOND / quota.rate.max(0.0)).clamp(1.0, LONGEST);
        let capacity = (token * burst).clamp(token, LONGEST.max(token));
        let debt = ticks_of(DEBT).max(token as u64);
        let capacity = capacity as u64;
        Bucket {
            burst,
            token: token.round() as u64,
            capacity: capacity.max(token.round() as u64),
            lowest: capacity + debt,
        }
    }

    fn slowed(self, share: f64) -> Self {
        let share = if share.is_finite() { share.clamp(1e-6, 1.0) } else { 1.0 };
        let longer = |span: Ticks| (span as f64 / share) as Ticks;
        let (token, capacity) = (longer(self.token), longer(self.capacity));
        let debt = (self.lowest - self.capacity).max(token);
        Bucket { burst: self.burst, token, capacity, lowest: capacity.saturating_add(debt) }
    }
}

impl Window {
    fn new(limit: u64, length: Duration, unix_ms: u64) -> Self {
        let bits = (64 - limit.saturating_mul(4).leading_zeros()).min(32);
        let length = length.max(Duration::from_millis(1));
        let into = u128::from(unix_ms) * 1_000_000 % length.as_nanos();
        let offset = ticks_of(Duration::from_nanos(u64::try_from(into).unwrap_or(0)));
        Window { limit, length: ticks_of(length), offset, bits }
    }

    fn number(&self, now: Ticks) -> u64 {
        now.saturating_add(self.offset) / self.length
    }

    /// Ticks until window `number` ends.
    fn left_of(&self, number: u64, now: Ticks) -> Ticks {
        let end = (number + 1).saturating_mul(self.length);
        end.saturating_sub(now.saturating_add(self.offset))
    }

    fn pack(&self, number: u64, count: u64) -> Used {
        Used(number << self.bits | count.min((1 << self.bits) - 1))
    }

    /// The window that counts and its admissions. A thread whose `now` is a little old still counts
    /// into the newest window.
    fn unpack(&self, used: Used, now: Ticks) -> (u64, u64) {
        let (number, current) = (used.0 >> self.bits, self.number(now));
        if number < current { (current, 0) } else { (number, used.0 & ((1 << self.bits) - 1)) }
    }
}

/// The ticks of `span`, as far as they can be counted.
/// A span of time in ticks.
pub fn ticks_of(span: Duration) -> Ticks {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX / 128).min(u64::MAX / 128) * PER_NANOSECOND
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    const SECOND: Ticks = PER_SECOND as u64;

    fn bucket(rate: f64, burst: f64) -> Meter {
        Meter::new(Algorithm::TokenBucket(Quota { rate, burst }), 0)
    }

    fn window(limit: u32, length: Duration) -> Meter {
        let limit = NonZeroU32::new(limit).unwrap();
        Meter::new(Algorithm::FixedWindow { limit, window: length }, 0)
    }

    /// How many of `offered` within a second, evenly, are admitted over `seconds`.
    fn admitted(meter: Meter, offered: u64, seconds: u64) -> u64 {
        let mut used = meter.full(0);
        let mut admitted = 0;
        for n in 0..offered * seconds {
            if let Ok(next) =
                meter.take(used, (n as u128 * SECOND as u128 / offered as u128) as u64)
            {
                used = next;
                admitted += 1;
            }
        }
        admitted
    }

    #[test]
    fn a_bucket_admits_its_burst_and_then_its_rate() {
        assert_eq!(admitted(bucket(100.0, 20.0), 10_000, 10), 1000 + 20 - 1);
        assert_eq!(admitted(bucket(0.5, 1.0), 10, 10), 5);
        let fast = admitted(bucket(3e5, 10.0), 1_000_000, 1);
        assert!((300_000..=300_010).contains(&fast), "{fast}");
    }

    #[test]
    fn demand_below_the_rate_is_never_refused() {
        assert_eq!(admitted(bucket(1000.0, 1.0), 1000, 5), 5000);
        assert_eq!(admitted(bucket(7.0, 1.0), 6, 60), 360);
    }

    #[test]
    fn a_refusal_says_when_a_token_comes_and_not_earlier() {
        let meter = bucket(10.0, 2.0);
        let used = meter.take(meter.take(meter.full(5), 5).unwrap(), 5).unwrap();
        let early = meter.take(used, 5).unwrap_err();
        assert_eq!(early, SECOND / 10);
        assert!(meter.take(used, 5 + early - 1).is_err());
        assert!(meter.take(used, 5 + early).is_ok());
    }

    #[test]
    fn a_window_admits_its_limit_and_forgets_it_at_its_end() {
        let meter = window(3, Duration::from_secs(10));
        let mut used = meter.full(0);
        for n in 0..3 {
            used = meter.take(used, n * SECOND).unwrap();
        }
        assert_eq!(meter.take(used, 4 * SECOND), Err(6 * SECOND));
        assert_eq!(meter.level(meter.take(used, 10 * SECOND).unwrap(), 10 * SECOND), 2.0);
    }

    #[test]
    fn a_clock_that_is_a_little_behind_does_not_reopen_an_old_window() {
        let meter = window(1, Duration::from_secs(1));
        let used = meter.take(meter.full(SECOND), SECOND).unwrap();
        assert!(meter.take(used, SECOND - 1).is_err());
    }

    #[test]
    fn debits_stop_at_a_floor_and_are_gone_half_a_second_after_it_is_empty() {
        let meter = bucket(100.0, 10.0);
        let used = meter.debit(meter.full(0), 0, 1_000_000.0);
        assert_eq!(meter.level(used, 0), -50.0);
        assert!(meter.take(used, SECOND / 2).is_err());
        assert!(meter.take(used, SECOND / 2 + SECOND / 100).is_ok());
        assert_eq!(meter.debit(used, 0, f64::INFINITY), used);
    }

    #[test]
    fn a_windows_debit_counts_into_the_current_window_only() {
        let meter = window(100, Duration::from_secs(1));
        let used = meter.debit(meter.full(0), 0, 1_000_000.0);
        assert!(meter.take(used, 0).is_err());
        assert_eq!(meter.level(used, SECOND), 100.0);
    }

    #[test]
    fn windows_are_cut_where_the_wall_clock_says() {
        let limit = NonZeroU32::new(1).unwrap();
        let algorithm = Algorithm::FixedWindow { limit, window: Duration::from_secs(60) };
        // Ticks began 50 s into a minute.
        let meter = Meter::new(algorithm, 120_050_000);
        let used = meter.take(meter.full(0), 0).unwrap();
        assert_eq!(meter.take(used, 4 * SECOND), Err(6 * SECOND));
        assert!(meter.take(used, 10 * SECOND).is_ok());
    }

    #[test]
    fn a_level_that_was_told_is_the_level_that_is_read() {
        let now = 100 * SECOND;
        for (meter, levels) in [
            (bucket(100.0, 20.0), [20.0, 7.5, 0.0, -30.0]),
            (window(20, Duration::from_secs(1)), [20.0, 7.0, 0.0, -30.0]),
        ] {
            for level in levels {
                let read = meter.level(meter.at_level(level, now), now);
                assert!((read - level).abs() < 1e-6, "{meter:?} {level} {read}");
            }
            assert_eq!(meter.level(meter.at_level(1e9, now), now), 20.0);
        }
        assert_eq!(bucket(100.0, 20.0).level(bucket(100.0, 20.0).at_level(-1e9, now), now), -50.0);
    }

    #[test]
    fn a_slowed_bucket_has_its_burst_and_a_share_of_its_rate() {
        let slow = bucket(100.0, 20.0).slowed(0.25);
        assert_eq!(admitted(slow, 10_000, 10), 250 + 20 - 1);
        let slow = window(20, Duration::from_secs(1)).slowed(0.25);
        assert_eq!(slow.burst(), 5.0);
    }

    #[test]
    fn a_fuller_bucket_has_used_less() {
        for meter in [bucket(10.0, 5.0), window(5, Duration::from_secs(1))] {
            let now = 10 * SECOND;
            let full = meter.full(now);
            let one = meter.take(full, now).unwrap();
            let two = meter.take(one, now).unwrap();
            let long_ago = meter.take(meter.full(0), 0).unwrap();
            assert!(full < one && one < two && long_ago < full, "{meter:?}");
        }
    }

    #[test]
    fn own_use_leaks_at_the_nodes_share_of_the_rate() {
        let meter = bucket(90.0, 30.0);
        let mut own = Used::default();
        for _ in 0..20 {
            own = meter.add_own(own, 0, 3);
        }
        assert!((meter.own(own, 0, 3) - 20.0).abs() < 1e-6);
        assert!((meter.own(own, SECOND / 3, 3) - 10.0).abs() < 1e-6);
        assert_eq!(meter.own(own, SECOND, 3), 0.0);
    }

    #[test]
    fn quotas_out_of_bounds_are_brought_into_them() {
        for (rate, burst) in [(0.0, 0.0), (-1.0, -5.0), (f64::NAN, f64::NAN), (1e300, 1e300)] {
            let meter = bucket(rate, burst);
            let used = meter.take(meter.full(7), 7).expect("a full bucket has a token");
            meter.debit(used, 7, f64::INFINITY);
        }
        for limit in [1, u32::MAX] {
            let meter = window(limit, Duration::ZERO);
            assert!(meter.take(meter.full(7), 7).is_ok());
            let used = meter.debit(meter.full(7), 7, f64::INFINITY);
            assert!(meter.take(used, 7).is_err());
        }
    }
}
