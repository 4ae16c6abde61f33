use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::base::time::now;
use crate::base::{BootId, NodeId};

const BOUNDS: Bounds =
    Bounds { rows: 1000, silence: Duration::from_secs(1), keep: Duration::from_secs(10) };

fn key(actor: u64, key: u64) -> RowKey {
    let actor = Actor { node: NodeId(actor), boot: BootId::new(7) };
    RowKey { limit: LimitId(1), key: KeyHash(key), actor }
}

fn row(total: u64) -> Row {
    Row { total, since: 0, recent: u32::MAX }
}

fn state(rows: &[(RowKey, Row)], now: Instant) -> Vec<(RowKey, u64)> {
    let mut counters = Counters::new(BOUNDS);
    for &(key, row) in rows {
        counters.merge(key, row, now);
    }
    let mut all: Vec<_> = counters.rows.iter().map(|(key, known)| (*key, known.total)).collect();
    all.sort();
    all
}

fn any_rows() -> impl Strategy<Value = Vec<(RowKey, Row)>> {
    vec((0..3u64, 0..4u64, 0..50u64), 0..40)
        .prop_map(|rows| rows.into_iter().map(|(a, k, t)| (key(a, k), row(t))).collect())
}

proptest! {
    #[test]
    fn merging_is_commutative(a in any_rows(), b in any_rows()) {
        let now = now();
        prop_assert_eq!(
            state(&[a.clone(), b.clone()].concat(), now),
            state(&[b, a].concat(), now)
        );
    }

    #[test]
    fn merging_is_associative(a in any_rows(), b in any_rows(), c in any_rows()) {
        let now = now();
        // (a + b) + c against a + (b + c): the inner state is handed on as rows.
        let as_rows = |rows: &[(RowKey, Row)]| -> Vec<(RowKey, Row)> {
            state(rows, now).into_iter().map(|(key, total)| (key, row(total))).collect()
        };
        let left = [as_rows(&[a.clone(), b.clone()].concat()), c.clone()].concat();
        let right = [a, as_rows(&[b, c].concat())].concat();
        prop_assert_eq!(state(&left, now), state(&right, now));
    }

    #[test]
    fn merging_is_idempotent(a in any_rows()) {
        let now = now();
        prop_assert_eq!(state(&a, now), state(&[a.clone(), a.clone()].concat(), now));
    }

    #[test]
    fn growth_sums_to_the_truth_over_any_loss_repetition_and_order(
        spent in vec(1..20u64, 1..30),
        order in vec(any::<prop::sample::Index>(), 0..80),
    ) {
        let now = now();
        // One report per spending, delivered by chance; the last is certain to come through.
        let totals: Vec<u64> =
            spent.iter().scan(0, |sum, n| { *sum += n; Some(*sum) }).collect();
        let truth = *totals.last().unwrap();
        let mut counters = Counters::new(BOUNDS);
        let mut debited = 0;
        let mut deliver = |total: u64| {
            let growth = counters.merge(key(1, 1), row(total), now);
            prop_assert_eq!(growth.debit, growth.grown);
            debited += growth.grown;
            Ok(())
        };
        for index in order {
            deliver(*index.get(&totals))?;
        }
        deliver(truth)?;
        prop_assert_eq!(debited, truth);
    }

    #[test]
    fn tenures_sum_to_the_truth_when_their_last_reports_arrive_in_order(
        tenures in vec((0..100u64, vec(1..20u64, 1..6)), 1..8),
    ) {
        let now = now();
        let mut counters = Counters::new(BOUNDS);
        let (mut total, mut truth, mut debited) = (0, 0, 0);
        for (gap, spent) in tenures {
            // Others that shared the slot pushed the total up in between.
            total += gap;
            let since = total;
            for n in spent {
                total += n;
                truth += n;
                let told = Row { total, since, recent: u32::MAX };
                debited += counters.merge(key(1, 1), told, now).grown;
            }
        }
        prop_assert_eq!(debited, truth);
    }
}

#[test]
fn the_first_report_of_an_unknown_row_debits_only_what_is_recent() {
    let now = now();
    let mut counters = Counters::new(BOUNDS);
    let told = Row { total: 5_000_000, since: 0, recent: 20 };
    let growth = counters.merge(key(1, 1), told, now);
    assert_eq!(growth, Growth { grown: 5_000_000, debit: 20, first: true });
    let growth = counters.merge(key(1, 1), Row { total: 5_000_300, ..told }, now);
    assert_eq!(growth, Growth { grown: 300, debit: 300, first: false });
}

#[test]
fn a_healed_partition_debits_only_what_is_recent() {
    let start = now();
    let mut counters = Counters::new(BOUNDS);
    counters.merge(key(1, 1), row(100), start);
    let healed = start + Duration::from_secs(5);
    let growth = counters.merge(key(1, 1), Row { total: 10_100, since: 0, recent: 80 }, healed);
    assert_eq!(growth, Growth { grown: 10_000, debit: 80, first: true });
    let growth = counters.merge(key(1, 1), row(10_150), healed + Duration::from_millis(200));
    assert_eq!(growth, Growth { grown: 50, debit: 50, first: false });
}

#[test]
fn rows_leave_after_their_silence_and_with_their_actor() {
    let start = now();
    let mut counters = Counters::new(BOUNDS);
    counters.merge(key(1, 1), row(1), start);
    counters.merge(key(2, 1), row(1), start + Duration::from_secs(8));
    counters.merge(key(3, 1), row(1), start + Duration::from_secs(8));
    counters.expire(start + Duration::from_secs(11));
    assert_eq!(counters.total(&key(1, 1)), None);
    counters.forget(key(2, 1).actor);
    assert_eq!((counters.total(&key(2, 1)), counters.total(&key(3, 1))), (None, Some(1)));
}

#[test]
fn a_full_map_refuses_and_counts_until_rows_have_expired() {
    let start = now();
    let mut counters = Counters::new(Bounds { rows: 2, ..BOUNDS });
    for n in 0..5 {
        counters.merge(key(1, n), row(1), start);
    }
    assert_eq!((counters.len(), counters.refused()), (2, 3));
    let growth = counters.merge(key(1, 9), row(1), start + Duration::from_secs(11));
    assert_eq!((growth.grown, counters.len()), (1, 1));
}

#[test]
fn a_row_that_contradicts_itself_does_no_harm() {
    let now = now();
    let mut counters = Counters::new(BOUNDS);
    let odd = Row { total: 5, since: u64::MAX, recent: 9 };
    assert_eq!(counters.merge(key(1, 1), odd, now).grown, 0);
    let huge = Row { total: u64::MAX, since: 0, recent: 9 };
    assert_eq!(counters.merge(key(1, 1), huge, now).grown, u64::MAX - 5);
    assert_eq!(counters.merge(key(1, 1), row(3), now).grown, 0);
}
