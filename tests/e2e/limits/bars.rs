//! What a run is measured by: the bars of the design, from what the clients saw.

use std::time::Duration;

use super::offer::{Fate, Try};

/// A limit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    pub(crate) rate: f64,
    pub(crate) burst: f64,
}

/// How far the fullest window of this length was above what the limit allows in it, as a share. A
/// connection counts when it was begun and decided inside, so what is said to be above was above,
/// however busy the machine.
pub(crate) fn worst_window(tries: &[Try], limit: Limit, window: Duration) -> f64 {
    let admitted: Vec<&Try> = tries.iter().filter(|one| one.fate == Fate::Admitted).collect();
    let mut starts: Vec<Duration> = admitted.iter().map(|one| one.start).collect();
    let mut ends: Vec<Duration> = admitted.iter().map(|one| one.end).collect();
    starts.sort();
    ends.sort();
    let fullest = starts.iter().enumerate().map(|(before, start)| {
        let decided = ends.partition_point(|end| *end <= *start + window);
        // Those that began earlier and were decided even later than the window are few.
        decided.saturating_sub(before)
    });
    let allowed = limit.rate * window.as_secs_f64() + limit.burst;
    fullest.max().unwrap_or(0) as f64 / allowed - 1.0
}

/// Admitted between two moments, by when they were decided.
pub(crate) fn admitted(tries: &[Try], from: Duration, until: Duration) -> usize {
    let within = |one: &&Try| one.fate == Fate::Admitted && one.end >= from && one.end < until;
    tries.iter().filter(within).count()
}

/// Which a single bucket would have admitted of the same arrivals.
pub(crate) fn central(tries: &[Try], limit: Limit) -> Vec<bool> {
    let mut order: Vec<usize> = (0..tries.len()).collect();
    order.sort_by_key(|index| tries[*index].start);
    let (mut level, mut filled) = (limit.burst, Duration::ZERO);
    let mut admitted = vec![false; tries.len()];
    for index in order {
        let at = tries[index].start;
        level = (level + (at - filled).as_secs_f64() * limit.rate).min(limit.burst);
        filled = at;
        if level >= 1.0 {
            level -= 1.0;
            admitted[index] = true;
        }
    }
    admitted
}

/// Refused beyond what the single bucket refuses of the same: how many between two moments, of how
/// many that came. Below the limit these are the false rejections.
pub(crate) fn false_rejections(
    tries: &[Try],
    limit: Limit,
    from: Duration,
    until: Duration,
) -> (usize, usize) {
    let central = central(tries, limit);
    let within = |one: &Try| one.start >= from && one.start < until;
    let came = tries.iter().zip(central).filter(|(one, _)| within(one));
    let (mut asked, mut refused, mut rightly) = (0, 0, 0_usize);
    for (one, admitted) in came {
        asked += 1;
        refused += usize::from(one.fate == Fate::Refused);
        rightly += usize::from(!admitted);
    }
    (usize::saturating_sub(refused, rightly), asked)
}

/// Jain's index of fairness between nodes that were asked (Jain, Chiu, Hawe 1984): of what each
/// admitted over its max-min fair share of what all admitted.
pub(crate) fn fairness(tries: &[Try], nodes: usize, from: Duration, until: Duration) -> f64 {
    let count = |node: usize| {
        let within = |one: &&Try| one.node == node && one.start >= from && one.start < until;
        tries.iter().filter(within).fold((0.0, 0.0), |(asked, admitted), one| {
            (asked + 1.0, admitted + f64::from(u8::from(one.fate == Fate::Admitted)))
        })
    };
    let mut counts: Vec<(f64, f64)> =
        (0..nodes).map(count).filter(|(asked, _)| *asked > 0.0).collect();
    counts.sort_by(|one, other| one.0.total_cmp(&other.0));
    let mut left: f64 = counts.iter().map(|(_, admitted)| admitted).sum();
    let mut sharing = counts.len() as f64;
    let of_fair = counts.iter().map(|(asked, admitted)| {
        let fair = asked.min(left / sharing);
        (left, sharing) = (left - fair, sharing - 1.0);
        admitted / fair
    });
    let of_fair: Vec<f64> = of_fair.collect();
    let (sum, squares) = (of_fair.iter().sum::<f64>(), of_fair.iter().map(|x| x * x).sum::<f64>());
    sum * sum / (of_fair.len() as f64 * squares)
}

/// The value below which this share of all lies.
pub(crate) fn quantile(mut values: Vec<Duration>, share: f64) -> Duration {
    values.sort();
    let at = (values.len().saturating_sub(1)) as f64 * share;
    values.get(at.round() as usize).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Limit = Limit { rate: 10.0, burst: 5.0 };

    fn tries(step_ms: u64, number: u64, fate: impl Fn(u64) -> Fate) -> Vec<Try> {
        let one = |n: u64| {
            let start = Duration::from_millis(n * step_ms);
            let (late, end) = (Duration::ZERO, start + Duration::from_millis(1));
            Try { node: (n % 2) as usize, late, start, end, fate: fate(n) }
        };
        (0..number).map(one).collect()
    }

    #[test]
    fn the_fullest_window_counts_what_was_begun_and_decided_in_it() {
        // 20 a second are 20 in any second, where 15 are allowed.
        let all = tries(50, 200, |_| Fate::Admitted);
        let worst = worst_window(&all, LIMIT, Duration::from_secs(1));
        assert!((worst - (20.0 / 15.0 - 1.0)).abs() < 0.01, "{worst}");
        let slow = all.iter().map(|one| Try { end: one.end + Duration::from_millis(500), ..*one });
        let worst = worst_window(&slow.collect::<Vec<_>>(), LIMIT, Duration::from_secs(1));
        assert!(worst < 0.0, "half of them may have been decided later: {worst}");
    }

    #[test]
    fn the_single_bucket_refuses_what_is_above_its_rate() {
        let all = tries(50, 200, |_| Fate::Refused);
        let admitted = central(&all, LIMIT).into_iter().filter(|admitted| *admitted).count();
        assert!((103..=105).contains(&admitted), "{admitted}");
        let (falsely, came) =
            false_rejections(&all, LIMIT, Duration::ZERO, Duration::from_secs(99));
        assert_eq!((falsely, came), (admitted, 200));
    }

    #[test]
    fn fairness_is_one_when_all_nodes_give_the_same_share() {
        let even = tries(10, 400, |n| if n % 4 < 2 { Fate::Admitted } else { Fate::Refused });
        let odd = tries(10, 400, |n| if n % 2 == 0 { Fate::Admitted } else { Fate::Refused });
        let jain = |tries: &[Try]| fairness(tries, 2, Duration::ZERO, Duration::from_secs(9));
        assert!((jain(&even) - 1.0).abs() < 1e-9);
        assert!((jain(&odd) - 0.5).abs() < 1e-9);
    }
}
