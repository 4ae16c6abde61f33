use std::num::NonZeroU32;

use super::*;
use crate::base::LimitId;
use crate::base::time;
use crate::traffic::plan::{Algorithm, LimitScope, Quota, Sharing};

fn plan(rate: f64, burst: f64) -> LimitPlan {
    LimitPlan {
        id: LimitId(1),
        algorithm: Algorithm::TokenBucket(Quota { rate, burst }),
        scope: LimitScope::Cluster,
        key: LimitKey::Client,
        action: Action::Reject,
        ipv6_prefix: 64,
        exempt: Vec::new(),
        shadow: false,
        max_keys: 1024,
        sharing: Sharing { consistency: Consistency::Optimistic, ..Sharing::default() },
    }
}

/// As [`plan`], strict when it is tiny.
fn tiny(rate: f64, burst: f64) -> LimitPlan {
    LimitPlan { sharing: Sharing::default(), ..plan(rate, burst) }
}

fn shared(nodes: usize) -> Company {
    Company { alive: nodes, known: nodes }
}

/// A limiter among `nodes`.
fn among(nodes: usize, plan: LimitPlan, start: Instant) -> Arc<Limiter> {
    let limiter = limiter(plan, start);
    limiter.share_among(shared(nodes));
    limiter
}

fn told(limiter: &Limiter, now: Instant, client: IpAddr, level: f32, acked: u32) {
    let key = limiter.key(client).unwrap();
    limiter.told(now, key, Level { level, acked, remote: 0.0 });
}

fn limiter(plan: LimitPlan, start: Instant) -> Arc<Limiter> {
    Arc::new(Limiter::new(plan, 11, 22, start))
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn client(n: u32) -> IpAddr {
    IpAddr::V4(n.into())
}

fn admitted(limiter: &Limiter, client: IpAddr, asks: u32, now: Instant) -> u32 {
    (0..asks).map(|_| u32::from(limiter.admit(client, now) == Decision::Admit)).sum()
}

fn drained(limiter: &Limiter, now: Instant, all: bool) -> Vec<Report> {
    let mut out = Vec::new();
    limiter.drain(now, all, usize::MAX, &mut out);
    out
}

const MS: Duration = Duration::from_millis(1);

#[test]
fn each_client_has_its_own_bucket() {
    let start = time::now();
    let limiter = limiter(plan(1.0, 3.0), start);
    assert_eq!(admitted(&limiter, ip("192.0.2.1"), 10, start), 3);
    assert_eq!(admitted(&limiter, ip("192.0.2.2"), 10, start), 3);
    assert_eq!(admitted(&limiter, ip("::ffff:192.0.2.2"), 10, start), 0);
    assert_eq!(admitted(&limiter, ip("2001:db8::1"), 2, start), 2);
    assert_eq!(admitted(&limiter, ip("2001:db8::2"), 10, start), 1);
    let counts = limiter.counts();
    assert_eq!((counts.admitted, counts.refused, counts.keys), (9, 33, 3));
}

#[test]
fn a_limit_by_rule_is_one_bucket_for_all() {
    let start = time::now();
    let limiter = limiter(LimitPlan { key: LimitKey::Rule, ..plan(1.0, 3.0) }, start);
    let all: u32 = (0..100).map(|n| admitted(&limiter, client(n), 1, start)).sum();
    assert_eq!((all, limiter.counts().keys), (3, 1));
}

#[test]
fn exempt_clients_are_neither_limited_nor_tracked() {
    let start = time::now();
    let exempt = vec!["10.0.0.0/8".parse().unwrap()];
    let limiter = limiter(LimitPlan { exempt, ..plan(1.0, 1.0) }, start);
    assert_eq!(admitted(&limiter, ip("10.1.2.3"), 100, start), 100);
    assert_eq!(admitted(&limiter, ip("::ffff:10.1.2.3"), 100, start), 100);
    assert_eq!(limiter.counts().keys, 0);
    assert_eq!(admitted(&limiter, ip("192.0.2.1"), 100, start), 1);
}

#[test]
fn shadow_mode_counts_and_refuses_nobody() {
    let start = time::now();
    let limiter = limiter(LimitPlan { shadow: true, ..plan(1.0, 2.0) }, start);
    assert_eq!(admitted(&limiter, client(1), 10, start), 10);
    assert_eq!((limiter.counts().admitted, limiter.counts().refused), (2, 8));
}

#[test]
fn a_refusal_says_when_to_come_again() {
    let start = time::now();
    let limiter = limiter(plan(10.0, 1.0), start);
    limiter.admit(client(1), start);
    let Decision::Refuse { retry_after } = limiter.admit(client(1), start + 30 * MS) else {
        panic!("admitted")
    };
    assert_eq!(retry_after, 70 * MS);
    assert_eq!(limiter.admit(client(1), start + 30 * MS + retry_after), Decision::Admit);
}

#[test]
fn the_queue_is_bounded_and_who_leaves_it_without_a_token_is_refused() {
    let start = time::now();
    let action = Action::Delay { queue: 2, max: Duration::from_secs(1) };
    let limiter = limiter(LimitPlan { action, ..plan(10.0, 1.0) }, start);
    assert_eq!(admitted(&limiter, client(1), 2, start), 1);
    let mut waits = limiter.enter_queue().unwrap();
    let gives_up = limiter.enter_queue().unwrap();
    assert!(limiter.enter_queue().is_none());
    assert!(matches!(waits.admit(client(1), start + 50 * MS), Decision::Refuse { .. }));
    assert_eq!(waits.admit(client(1), start + 100 * MS), Decision::Admit);
    drop((waits, gives_up));
    let counts = limiter.counts();
    assert_eq!((counts.admitted, counts.refused, counts.delayed), (2, 2, 2));
    assert!(limiter.enter_queue().is_some());
}

#[test]
fn a_key_is_the_same_on_every_node_of_a_cluster_and_only_there() {
    let start = time::now();
    let here = Limiter::new(plan(1.0, 1.0), 11, 1, start);
    let there = Limiter::new(plan(5.0, 5.0), 11, 2, start);
    let other = Limiter::new(plan(1.0, 1.0), 12, 1, start);
    assert_eq!(here.key(client(7)), there.key(client(7)));
    assert_ne!(here.key(client(7)), other.key(client(7)));
}

#[test]
fn a_report_is_due_past_the_threshold_and_not_again_within_5_ms() {
    let start = time::now();
    let limiter = among(3, plan(1.0, 100.0), start);
    // Quiet until a quarter of an even share of the burst was used: 100 / 4 / 3.
    admitted(&limiter, client(1), 8, start);
    assert_eq!(drained(&limiter, start, false), []);
    admitted(&limiter, client(1), 2, start);
    let told = drained(&limiter, start, false);
    assert_eq!((told.len(), told[0].total, told[0].tenure, told[0].recent), (1, 10, 10, 10));
    assert_eq!(Some(told[0].key), limiter.key(client(1)));
    // The threshold is min(100 / 6, 100 / 20).
    admitted(&limiter, client(1), 4, start);
    assert_eq!(drained(&limiter, start + 10 * MS, false), []);
    admitted(&limiter, client(1), 1, start + 10 * MS);
    assert_eq!(drained(&limiter, start + 10 * MS, false)[0].total, 15);
    admitted(&limiter, client(1), 5, start + 10 * MS);
    assert_eq!(drained(&limiter, start + 14 * MS, false), []);
    assert_eq!(drained(&limiter, start + 15 * MS, false)[0].total, 20);
    assert_eq!(drained(&limiter, start + 30 * MS, false), []);
}

#[test]
fn the_interval_tells_what_the_threshold_held_back() {
    let start = time::now();
    let limiter = among(3, plan(1.0, 100.0), start);
    admitted(&limiter, client(1), 10, start);
    drained(&limiter, start, false);
    admitted(&limiter, client(1), 1, start);
    assert_eq!(drained(&limiter, start, true)[0].total, 11);
    assert_eq!(drained(&limiter, start, true), []);
}

#[test]
fn quiet_keys_cost_no_report_until_their_bucket_runs_low() {
    let start = time::now();
    let limiter = among(3, plan(1.0, 100.0), start);
    admitted(&limiter, client(1), 3, start);
    assert_eq!(drained(&limiter, start, true), []);
    // The owner says that it runs low elsewhere: a reply for one who reported, a word for others.
    limiter.hot(start, limiter.key(client(1)).unwrap(), 60.0);
    let reports = drained(&limiter, start, true);
    assert_eq!((reports.len(), reports[0].total), (1, 3));
    // For two seconds every token of it is reported.
    let refilled = start + 40 * MS;
    admitted(&limiter, client(1), 1, refilled);
    assert_eq!(drained(&limiter, refilled + 5 * MS, true).len(), 1);
}

#[test]
fn a_drain_is_bounded_and_tells_the_rest_next_time() {
    let start = time::now();
    let limiter = among(3, plan(1.0, 2.0), start);
    for (all, now) in [(true, start), (false, start + Duration::from_secs(4))] {
        for n in 0..100 {
            assert_eq!(admitted(&limiter, client(n), 2, now), 2);
        }
        let mut keys = std::collections::BTreeSet::new();
        for _ in 0..10 {
            let mut part = Vec::new();
            limiter.drain(now, all, 10, &mut part);
            assert_eq!(part.len(), 10);
            assert!(part.iter().all(|row| row.total == if all { 2 } else { 4 }));
            keys.extend(part.into_iter().map(|row| row.key));
        }
        assert_eq!(keys.len(), 100);
    }
}

#[test]
fn a_told_level_replaces_the_own_view_less_what_the_owner_does_not_know_of() {
    let start = time::now();
    let limiter = among(2, plan(1.0, 10.0), start);
    admitted(&limiter, client(1), 3, start);
    told(&limiter, start, client(1), 4.0, 2);
    // One of three is not in the four that are left.
    assert_eq!(admitted(&limiter, client(1), 10, start), 3);
    let report = drained(&limiter, start, true)[0];
    assert_eq!((report.total, report.level), (6, Some(0.0)));
    assert_eq!((limiter.counts().told, limiter.counts().spent_elsewhere), (1, 4));
}

#[test]
fn what_was_not_acknowledged_and_is_long_refilled_is_not_taken_off() {
    let start = time::now();
    let limiter = among(2, plan(100.0, 20.0), start);
    // A quiet key: 500 tokens over 20 s, none of them reported.
    let mut now = start;
    for _ in 0..500 {
        now += 40 * MS;
        assert_eq!(admitted(&limiter, client(1), 1, now), 1);
    }
    told(&limiter, now, client(1), 20.0, 0);
    assert_eq!(admitted(&limiter, client(1), 30, now), 19);
}

#[test]
fn an_answer_that_was_overtaken_by_a_newer_one_changes_nothing() {
    let start = time::now();
    let limiter = among(2, plan(1.0, 10.0), start);
    admitted(&limiter, client(1), 5, start);
    told(&limiter, start, client(1), 2.0, 5);
    told(&limiter, start, client(1), 9.0, 3);
    assert_eq!(admitted(&limiter, client(1), 10, start), 2);
}

#[test]
fn levels_of_keys_that_are_not_tracked_and_levels_that_are_none_change_nothing() {
    let start = time::now();
    let limiter = among(2, plan(1.0, 10.0), start);
    told(&limiter, start, client(9), -5.0, 0);
    assert_eq!(limiter.counts().keys, 0);
    admitted(&limiter, client(1), 1, start);
    for level in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        told(&limiter, start, client(1), level, 1);
        limiter.hot(start, limiter.key(client(1)).unwrap(), level);
    }
    told(&limiter, start, client(1), f32::MAX, 1);
    assert_eq!(admitted(&limiter, client(1), 20, start), 10);
}

#[test]
fn a_key_that_only_others_have_used_up_is_known_from_their_owner() {
    let start = time::now();
    let limiter = among(2, plan(1.0, 10.0), start);
    limiter.hot(start, limiter.key(client(1)).unwrap(), 2.0);
    assert_eq!(limiter.counts().keys, 1);
    assert_eq!(admitted(&limiter, client(1), 10, start), 2);
}

#[test]
fn a_debt_has_a_floor_so_that_a_node_never_stops_for_long() {
    let start = time::now();
    let limiter = among(2, plan(100.0, 10.0), start);
    admitted(&limiter, client(1), 1, start);
    told(&limiter, start, client(1), -1e30, 1);
    assert_eq!(admitted(&limiter, client(1), 1, start + 500 * MS), 0);
    assert_eq!(admitted(&limiter, client(1), 1, start + 511 * MS), 1);
}

#[test]
fn while_the_owner_is_silent_the_others_are_assumed_to_go_on() {
    let start = time::now();
    let limiter = among(2, plan(100.0, 20.0), start);
    admitted(&limiter, client(1), 20, start);
    let key = limiter.key(client(1)).unwrap();
    limiter.told(start, key, Level { level: 10.0, acked: 20, remote: 40.0 });
    limiter.silent(start, key, 100 * MS);
    assert_eq!(admitted(&limiter, client(1), 20, start), 6);
    // Never by more than comes back: this node's share of the rate is not below zero.
    limiter.told(start, key, Level { level: 10.0, acked: 26, remote: 1e9 });
    limiter.silent(start + 50 * MS, key, 50 * MS);
    assert_eq!(admitted(&limiter, client(1), 20, start + 50 * MS), 10);
}

#[test]
fn a_report_says_what_level_is_held_only_once_an_owner_has_answered() {
    let start = time::now();
    let limiter = among(2, plan(1.0, 10.0), start);
    admitted(&limiter, client(1), 6, start);
    assert_eq!(drained(&limiter, start, true)[0].level, None);
    told(&limiter, start, client(1), 4.0, 6);
    admitted(&limiter, client(1), 1, start);
    assert_eq!(drained(&limiter, start, true)[0].level, Some(3.0));
    let key = limiter.key(client(1)).unwrap();
    assert_eq!(limiter.report(start, key).map(|report| report.total), Some(7));
    assert_eq!(limiter.report(start, limiter.key(client(2)).unwrap()), None);
}

#[test]
fn lost_members_and_isolation_change_the_rate_as_the_plan_says() {
    let start = time::now();
    let half = Company { alive: 2, known: 4 };
    let isolated = Company { alive: 1, known: 4 };
    for (on_partition, on_isolated, company, expected) in [
        (OnPartition::Full, OnIsolated::LocalFull, half, 1000),
        (OnPartition::Proportional, OnIsolated::LocalFull, half, 500),
        (OnPartition::Full, OnIsolated::LocalFull, isolated, 1000),
        (OnPartition::Proportional, OnIsolated::LocalFull, isolated, 250),
        (OnPartition::Full, OnIsolated::LocalShare, isolated, 250),
        (OnPartition::Full, OnIsolated::Deny, isolated, 0),
        (OnPartition::Full, OnIsolated::Deny, Company::ALONE, 1000),
    ] {
        let sharing = Sharing { on_partition, on_isolated, consistency: Consistency::Optimistic };
        let limiter = limiter(LimitPlan { sharing, ..plan(100.0, 1.0) }, start);
        limiter.share_among(company);
        let all: u32 =
            (0..10_000).map(|ms| admitted(&limiter, client(1), 1, start + ms * MS)).sum();
        assert!(all.abs_diff(expected) <= 1, "{sharing:?} {company:?}: {all}");
        limiter.share_among(shared(4));
        let later = start + Duration::from_secs(20);
        assert_eq!(admitted(&limiter, client(1), 1, later), 1, "{sharing:?} after all are back");
    }
}

#[test]
fn a_fixed_window_takes_the_owners_word_for_the_current_window() {
    let start = time::now();
    let limit = NonZeroU32::new(10).unwrap();
    let algorithm = Algorithm::FixedWindow { limit, window: Duration::from_secs(1) };
    let limiter = among(2, LimitPlan { algorithm, ..plan(1.0, 1.0) }, start);
    admitted(&limiter, client(1), 1, start);
    told(&limiter, start, client(1), 2.0, 1);
    assert_eq!(admitted(&limiter, client(1), 10, start), 2);
    let report = drained(&limiter, start, true)[0];
    assert_eq!((report.total, report.recent), (3, 3));
    assert_eq!(admitted(&limiter, client(1), 20, start + Duration::from_secs(1)), 10);
    let report = drained(&limiter, start + Duration::from_secs(1), true)[0];
    assert_eq!((report.total, report.recent), (13, 10));
}

#[test]
fn totals_are_told_exactly_once_over_evictions() {
    let start = time::now();
    // Seven slots for a hundred keys.
    let limiter = among(2, LimitPlan { max_keys: 7, ..plan(1000.0, 4.0) }, start);
    let mut known = std::collections::HashMap::new();
    let mut sum = 0;
    let mut now = start;
    for round in 0..2_000u32 {
        now += MS;
        admitted(&limiter, client(round * 7 % 100), 2, now);
        for row in drained(&limiter, now, true) {
            let seen: &mut u64 = known.entry(row.key).or_default();
            assert!(row.total >= *seen, "a total went back");
            sum += (row.total - *seen).min(row.tenure.into());
            *seen = row.total;
        }
    }
    let counts = limiter.counts();
    assert!(counts.keys == 7 && known.len() == 100);
    assert!(sum <= counts.admitted, "{sum} told, {} admitted", counts.admitted);
    assert!(sum >= counts.admitted * 9 / 10, "{sum} told, {} admitted", counts.admitted);
}

#[test]
fn an_evicted_row_that_still_matters_is_told() {
    let start = time::now();
    let limiter = among(2, LimitPlan { max_keys: 7, ..plan(1.0, 10.0) }, start);
    for n in 0..7 {
        assert_eq!(admitted(&limiter, client(n), 2, start), 2);
    }
    limiter.hot(start, limiter.key(client(99)).unwrap(), 2.0);
    let told = drained(&limiter, start, true);
    assert_eq!(told.len(), 7, "six that are in and the one that had to go");
    assert!(told.iter().all(|row| (row.total, row.recent) == (2, 2)));
    assert_eq!(limiter.counts().untold, 0);
}

#[test]
fn threads_together_admit_exactly_the_burst_and_tell_all_of_it() {
    let start = time::now();
    let limiter = among(3, plan(0.001, 5_000.0), start);
    let told = std::thread::scope(|scope| {
        let asking: Vec<_> =
            (0..4).map(|_| scope.spawn(|| admitted(&limiter, client(1), 4_000, start))).collect();
        let mut told = 0;
        while !asking.iter().all(|thread| thread.is_finished()) {
            told = drained(&limiter, start, true).last().map_or(told, |row| row.total);
        }
        let all: u32 = asking.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert_eq!(all, 5_000);
        drained(&limiter, start, true).last().map_or(told, |row| row.total)
    });
    assert_eq!(told, 5_000);
    assert_eq!((limiter.counts().admitted, limiter.counts().refused), (5_000, 11_000));
}

#[test]
fn threads_over_many_keys_lose_no_token_while_the_ledger_is_drained() {
    let start = time::now();
    let limiter = among(10, LimitPlan { max_keys: 8192, ..plan(0.001, 100.0) }, start);
    let mut told = std::collections::HashMap::new();
    let all: u32 = std::thread::scope(|scope| {
        let limiter = &*limiter;
        let asking: Vec<_> = (0..4u32)
            .map(|thread| {
                scope.spawn(move || {
                    (0..20_000u32)
                        .map(|n| admitted(limiter, client((n * 7 + thread) % 500), 1, start))
                        .sum::<u32>()
                })
            })
            .collect();
        let mut note = |rows: Vec<Report>| told.extend(rows.iter().map(|row| (row.key, row.total)));
        while !asking.iter().all(|thread| thread.is_finished()) {
            note(drained(limiter, start, false));
            note(drained(limiter, start, true));
        }
        let all = asking.into_iter().map(|thread| thread.join().unwrap()).sum();
        note(drained(limiter, start, true));
        all
    });
    assert_eq!(all, 500 * 100);
    assert_eq!((told.len(), told.values().sum::<u64>()), (500, u64::from(all)));
}

fn asks(limiter: &Limiter, client: IpAddr, now: Instant) -> Ask {
    match limiter.admit(client, now) {
        Decision::Ask(ask) => ask,
        decision => panic!("{decision:?}"),
    }
}

#[test]
fn limits_that_are_tiny_for_their_cluster_ask_by_themselves() {
    use Consistency::{Auto, Optimistic, Strict};
    let start = time::now();
    for (consistency, nodes, rate, burst, asks) in [
        (Auto, 3, 5.0, 5.0, true),
        (Auto, 3, 5.0, 12.0, false),
        (Auto, 4, 5.0, 12.0, true),
        (Auto, 3, 101.0, 5.0, false),
        (Auto, 1, 5.0, 1.0, false),
        (Optimistic, 3, 5.0, 5.0, false),
        (Strict, 3, 1000.0, 1000.0, true),
        (Strict, 1, 1000.0, 1000.0, false),
    ] {
        let sharing = Sharing { consistency, ..Sharing::default() };
        let limiter = among(nodes, LimitPlan { sharing, ..plan(rate, burst) }, start);
        let asked = matches!(limiter.admit(client(1), start), Decision::Ask(_));
        assert_eq!(asked, asks, "{consistency:?} {nodes} {rate} {burst}");
        // A shadow holds up nobody.
        let shadow = among(nodes, LimitPlan { sharing, shadow: true, ..plan(rate, burst) }, start);
        assert_eq!(shadow.admit(client(1), start), Decision::Admit);
    }
}

#[test]
fn a_strict_limit_admits_what_is_granted_and_remembers_what_is_empty() {
    let start = time::now();
    let limiter = among(3, tiny(5.0, 5.0), start);
    let (one, other) = (asks(&limiter, client(1), start), asks(&limiter, client(1), start));
    assert_eq!(limiter.answered(one, Answer::Granted { level: 0.5 }, start), Decision::Admit);
    let refused = limiter.answered(other, Answer::Refused { level: 0.5 }, start);
    assert_eq!(refused, Decision::Refuse { retry_after: 100 * MS });
    // Nobody is asked while it is known to be empty.
    assert!(matches!(limiter.admit(client(1), start + 99 * MS), Decision::Refuse { .. }));
    let again = asks(&limiter, client(1), start + 100 * MS);
    let Ask::Token(report) = again else { panic!("{again:?}") };
    assert_eq!((report.total, report.recent), (1, 1));
    assert_eq!((limiter.counts().admitted, limiter.counts().refused), (1, 2));
    assert_eq!(drained(&limiter, start, true).len(), 1, "what was granted is reported as well");
}

#[test]
fn when_nobody_answers_a_strict_limit_admits_its_own_share_and_asks_again_soon() {
    let start = time::now();
    let limiter = among(3, tiny(30.0, 6.0), start);
    let ask = asks(&limiter, client(1), start);
    assert_eq!(limiter.answered(ask, Answer::Nobody, start), Decision::Admit);
    // Two of six tokens are its share, and nobody is asked for 25 ms.
    assert_eq!(admitted(&limiter, client(1), 10, start + 20 * MS), 1);
    asks(&limiter, client(2), start + 25 * MS);
    // A tenth of a second later one of its ten a second has come back.
    let later = start + 110 * MS;
    let ask = asks(&limiter, client(3), later);
    limiter.answered(ask, Answer::Nobody, later);
    assert_eq!(admitted(&limiter, client(1), 10, later), 1);
}

#[test]
fn levels_that_are_none_and_answers_to_other_questions_admit_nobody() {
    let start = time::now();
    let limiter = among(3, tiny(5.0, 5.0), start);
    let ask = asks(&limiter, client(1), start);
    let refused = limiter.answered(ask, Answer::Refused { level: f64::NAN }, start);
    assert!(matches!(refused, Decision::Refuse { .. }));
    let other = Ask::Permits { limit: LimitId(1), key: KeyHash(1), cap: 1 };
    let refused = limiter.answered(other, Answer::Granted { level: 1.0 }, start);
    assert!(matches!(refused, Decision::Refuse { .. }));
}

fn by_identity() -> LimitPlan {
    LimitPlan { key: LimitKey::Identity, ..plan(0.1, 2.0) }
}

fn named(address: &str, name: &'static str) -> Subject<'static> {
    Subject { address: ip(address), identity: Some(name) }
}

#[test]
fn an_identity_has_one_bucket_wherever_it_comes_from() {
    let start = time::now();
    let limiter = limiter(by_identity(), start);
    for address in ["192.0.2.1", "2001:db8::1"] {
        assert_eq!(limiter.admit(named(address, "a"), start), Decision::Admit);
    }
    assert_ne!(limiter.admit(named("192.0.2.3", "a"), start), Decision::Admit);
    assert_eq!(limiter.admit(named("192.0.2.1", "b"), start), Decision::Admit);
}

#[test]
fn who_has_no_identity_counts_by_address() {
    let start = time::now();
    let limiter = limiter(by_identity(), start);
    assert_eq!(limiter.admit(named("192.0.2.1", "a"), start), Decision::Admit);
    // The name took nothing from the address, and one address nothing from the other.
    assert_eq!(admitted(&limiter, ip("192.0.2.1"), 5, start), 2);
    assert_eq!(admitted(&limiter, ip("192.0.2.2"), 5, start), 2);
    assert_eq!(admitted(&limiter, ip("::ffff:192.0.2.2"), 5, start), 0);
}

#[test]
fn a_name_is_never_taken_for_an_address() {
    let limiter = limiter(by_identity(), time::now());
    let (address, name) = (ip("97.98.99.100"), "abcd");
    let by_name = limiter.key(Subject { address, identity: Some(name) });
    assert_ne!(by_name, limiter.key(address));
    assert_ne!(by_name, limiter.key(named("97.98.99.100", "abce")));
    assert_eq!(by_name, limiter.key(named("192.0.2.9", name)));
}

#[test]
fn other_limits_know_no_names() {
    for key in [LimitKey::Client, LimitKey::Rule] {
        let limiter = limiter(LimitPlan { key, ..plan(1.0, 1.0) }, time::now());
        assert_eq!(limiter.key(named("192.0.2.1", "a")), limiter.key(ip("192.0.2.1")));
    }
}

#[test]
fn an_exempt_address_is_exempt_whatever_its_name() {
    let exempt = vec!["192.0.2.0/24".parse().unwrap()];
    let limiter = limiter(LimitPlan { exempt, ..by_identity() }, time::now());
    assert_eq!(limiter.key(named("192.0.2.1", "a")), None);
    assert_ne!(limiter.key(named("198.51.100.1", "a")), None);
}

#[test]
fn who_waits_for_a_token_waits_by_name() {
    let start = time::now();
    let action = Action::Delay { queue: 1, max: Duration::from_secs(60) };
    let limiter = limiter(LimitPlan { action, ..by_identity() }, start);
    (0..2).for_each(|_| assert_eq!(limiter.admit(named("192.0.2.1", "a"), start), Decision::Admit));
    let mut place = limiter.enter_queue().unwrap();
    // Another address of the same name has to wait as long, and then takes the name's token.
    assert_ne!(place.admit(named("192.0.2.2", "a"), start), Decision::Admit);
    let later = start + Duration::from_secs(11);
    assert_eq!(place.admit(named("192.0.2.2", "a"), later), Decision::Admit);
    assert_ne!(limiter.admit(named("192.0.2.1", "a"), later), Decision::Admit);
}
