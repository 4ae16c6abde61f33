//! Who is used: the healthy, or backups, or in a panic everybody.

use crate::base::Share;

/// How a backend stands now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Configured weight; 0 takes nothing.
    pub weight: u32,
    /// Used only when no other can be.
    pub backup: bool,
    /// What health says.
    pub condition: Condition,
}

/// What health says of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Takes connections, at so many percent of its weight (slow start, doubt).
    Usable {
        /// 1 to 100.
        percent: u32,
    },
    /// Neither this node nor its peers have a result yet.
    Unknown,
    /// Down or ejected.
    Out,
}

/// Who is used, by index of the standings, with weights to balance by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Asked first.
    pub first: Vec<(usize, u32)>,
    /// Asked when all of the first were tried in vain.
    pub then: Vec<(usize, u32)>,
    /// Too few are healthy, so all are used.
    pub panic: bool,
}

/// Chooses. `threshold`: below this healthy share of the primaries all of them are used, for then
/// it is likelier that the checks are wrong, or that the healthy few would drown; 0 switches it
/// off. Backups are used when no primary can be, before any panic.
pub fn choose(standings: &[Standing], threshold: Share) -> Choice {
    let usable = |backup| tier(standings, backup, |c| matches!(c, Condition::Usable { .. }));
    let unknown = |backup| tier(standings, backup, |c| c == Condition::Unknown);
    let all = |backup| tier(standings, backup, |_| true);

    let primaries = usable(false);
    let backups = usable(true);
    let judged = tier(standings, false, |c| c != Condition::Unknown).len();
    let enough = primaries.len() as f32 >= judged as f32 * threshold.fraction();
    if !primaries.is_empty() {
        let first = if enough { primaries } else { all(false) };
        return Choice { first, then: backups, panic: !enough };
    }
    if !backups.is_empty() {
        return Choice { first: backups, ..Choice::default() };
    }
    // Not known to be bad is better than nothing, and no reason for a panic.
    let (first, then) = (unknown(false), unknown(true));
    if !first.is_empty() || !then.is_empty() {
        return in_order(first, then, false);
    }
    if threshold.fraction() > 0.0 {
        return in_order(all(false), all(true), true);
    }
    Choice::default()
}

/// A choice whose first tier is not empty while the second is not.
fn in_order(first: Vec<(usize, u32)>, then: Vec<(usize, u32)>, panic: bool) -> Choice {
    let panic = panic && !(first.is_empty() && then.is_empty());
    match first.is_empty() {
        true => Choice { first: then, then: first, panic },
        false => Choice { first, then, panic },
    }
}

fn tier(
    standings: &[Standing],
    backup: bool,
    wanted: impl Fn(Condition) -> bool,
) -> Vec<(usize, u32)> {
    let ours = |s: &Standing| s.backup == backup && s.weight > 0 && wanted(s.condition);
    let weigh = |s: &Standing| {
        let percent = match s.condition {
            Condition::Usable { percent } => percent,
            Condition::Unknown | Condition::Out => 100,
        };
        // In hundredths, so that a tenth of weight 1 is not nothing.
        s.weight.saturating_mul(percent)
    };
    let numbered = standings.iter().enumerate();
    numbered.filter(|(_, s)| ours(s)).map(|(index, s)| (index, weigh(s))).collect()
}

#[cfg(test)]
mod tests {
    use super::Condition::{Out, Unknown};
    use super::*;

    const OK: Condition = Condition::Usable { percent: 100 };

    fn chosen(primaries: &[Condition], backups: &[Condition], percent: f32) -> Choice {
        let stand = |backup| move |&condition| Standing { weight: 1, backup, condition };
        let primaries = primaries.iter().map(stand(false));
        let standings: Vec<_> = primaries.chain(backups.iter().map(stand(true))).collect();
        choose(&standings, Share::percent(percent))
    }

    fn indexes(tier: &[(usize, u32)]) -> Vec<usize> {
        tier.iter().map(|(index, _)| *index).collect()
    }

    #[track_caller]
    fn check(choice: Choice, first: &[usize], then: &[usize], panic: bool) {
        let found = (indexes(&choice.first), indexes(&choice.then), choice.panic);
        assert_eq!(found, (first.to_vec(), then.to_vec(), panic));
    }

    #[test]
    fn the_healthy_are_used_and_backups_wait() {
        check(chosen(&[OK, Out, OK], &[OK], 50.0), &[0, 2], &[3], false);
        check(chosen(&[OK, Out], &[], 50.0), &[0], &[], false);
    }

    #[test]
    fn too_few_healthy_is_a_panic_unless_switched_off() {
        check(chosen(&[OK, Out, Out], &[OK], 50.0), &[0, 1, 2], &[3], true);
        check(chosen(&[OK, Out, Out], &[OK], 0.0), &[0], &[3], false);
        check(chosen(&[Out, Out], &[], 50.0), &[0, 1], &[], true);
        check(chosen(&[Out, Out], &[], 0.0), &[], &[], false);
    }

    #[test]
    fn backups_come_before_a_panic() {
        check(chosen(&[Out, Out], &[Out, OK], 50.0), &[3], &[], false);
        check(chosen(&[Out], &[Out], 50.0), &[0], &[1], true);
        check(chosen(&[], &[OK], 50.0), &[0], &[], false);
    }

    #[test]
    fn the_unknown_are_used_only_when_nobody_is_known_to_be_good() {
        check(chosen(&[OK, Unknown, Unknown], &[], 50.0), &[0], &[], false);
        check(chosen(&[Out, Unknown], &[Unknown], 0.0), &[1], &[2], false);
        check(chosen(&[Out], &[Unknown], 50.0), &[1], &[], false);
    }

    #[test]
    fn weight_zero_takes_nothing_even_in_a_panic() {
        let standing = |weight, condition| Standing { weight, backup: false, condition };
        let choice = choose(&[standing(0, OK), standing(2, Out)], Share::percent(50.0));
        check(choice, &[1], &[], true);
        assert_eq!(choose(&[standing(0, Out)], Share::percent(50.0)), Choice::default());
    }

    #[test]
    fn a_weight_is_cut_by_percent_and_a_panic_forgets_that() {
        let half = Condition::Usable { percent: 50 };
        assert_eq!(chosen(&[half, OK], &[], 50.0).first, [(0, 50), (1, 100)]);
        assert_eq!(choose(&[], Share::percent(50.0)), Choice::default());
    }
}
