use std::net::IpAddr;
use std::time::Duration;

use super::*;
use crate::base::time::now;
use crate::traffic::limiter::Decision;
use crate::traffic::plan::{Action, Algorithm, Consistency, LimitKey, LimitPlan, Quota, Sharing};

fn limiter(id: u64, scope: LimitScope, start: Instant) -> Arc<Limiter> {
    let plan = LimitPlan {
        id: LimitId(id),
        algorithm: Algorithm::TokenBucket(Quota { rate: 1.0, burst: 10.0 }),
        scope,
        key: LimitKey::Client,
        action: Action::Reject,
        ipv6_prefix: 64,
        exempt: Vec::new(),
        shadow: false,
        max_keys: 1024,
        sharing: Sharing { consistency: Consistency::Optimistic, ..Sharing::default() },
    };
    Arc::new(Limiter::new(plan, 11, 22, start))
}

fn shared(nodes: usize) -> Company {
    Company { alive: nodes, known: nodes }
}

fn client(n: u32) -> IpAddr {
    IpAddr::V4(n.into())
}

/// Ten tokens, which is all that a bucket holds.
fn spend(limiter: &Limiter, client: IpAddr, now: Instant) {
    (0..10).for_each(|_| assert_eq!(limiter.admit(client, now), Decision::Admit));
}

fn drain(limits: &Limits, now: Instant, most: usize) -> Vec<Report> {
    let mut out = Vec::new();
    limits.drain(now, true, most, &mut out);
    out
}

#[test]
fn only_limits_of_cluster_scope_are_shared() {
    let start = now();
    let company = shared(3);
    let (shared, own) =
        (limiter(1, LimitScope::Cluster, start), limiter(2, LimitScope::Node, start));
    let limits = Limits::new();
    limits.replace(vec![Arc::clone(&shared), Arc::clone(&own)]);
    limits.company(company);
    for limiter in [&shared, &own] {
        (0..8).for_each(|_| assert_eq!(limiter.admit(client(1), start), Decision::Admit));
        let level = Level { level: 1.0, acked: 8, remote: 0.0 };
        limits.told(start, limiter.plan().id, limiter.key(client(1)).unwrap(), level);
    }
    let told = drain(&limits, start, 10);
    assert_eq!((told.len(), told[0].limit), (1, LimitId(1)));
    assert_eq!((shared.counts().told, own.counts().told), (1, 0));
    assert!(limits.counting(LimitId(1), start).is_some());
    assert!(limits.counting(LimitId(2), start).is_none());
}

#[test]
fn a_flood_of_one_limit_does_not_silence_the_others() {
    let start = now();
    let (flooded, other) =
        (limiter(1, LimitScope::Cluster, start), limiter(2, LimitScope::Cluster, start));
    let limits = Limits::new();
    limits.replace(vec![Arc::clone(&flooded), Arc::clone(&other)]);
    for n in 0..500 {
        spend(&flooded, client(n), start);
    }
    spend(&other, client(1), start);
    for seconds in [10, 20] {
        let told = drain(&limits, start, 20);
        assert_eq!(told.len(), 20);
        assert!(told.iter().any(|row| row.limit == LimitId(2)));
        spend(&other, client(1), start + Duration::from_secs(seconds));
    }
    assert_eq!(drain(&limits, start, 0), []);
}

#[test]
fn a_carried_over_limiter_keeps_its_totals_and_a_new_one_begins_above_the_old() {
    let start = now();
    let old = limiter(1, LimitScope::Cluster, start);
    let stays = limiter(2, LimitScope::Cluster, start);
    let limits = Limits::new();
    limits.replace(vec![Arc::clone(&old), Arc::clone(&stays)]);
    limits.company(shared(4));
    spend(&old, client(1), start);
    spend(&stays, client(1), start);
    let before: u64 = drain(&limits, start, 10).iter().map(|row| row.total).sum();
    assert_eq!(before, 20);

    // Its plan changed, say; and once it was away altogether.
    let again = limiter(1, LimitScope::Cluster, start);
    limits.replace(vec![Arc::clone(&stays)]);
    limits.replace(vec![Arc::clone(&stays), Arc::clone(&again)]);
    spend(&again, client(1), start);
    spend(&stays, client(1), start + Duration::from_secs(10));
    let told = drain(&limits, start, 10);
    let row = |id| told.iter().find(|row| row.limit == LimitId(id)).unwrap();
    assert_eq!(row(2).total, 20);
    assert!(row(1).total > 20, "{:?}", row(1));
    assert_eq!(row(1).tenure, 10);
}

#[test]
fn a_limiter_that_joins_later_knows_how_many_share_it() {
    let start = now();
    let limits = Limits::new();
    limits.company(shared(10));
    let late = limiter(1, LimitScope::Cluster, start);
    limits.replace(vec![Arc::clone(&late)]);
    // A quarter of an even share of the burst is below one token: told at once.
    late.admit(client(1), start);
    assert_eq!(drain(&limits, start, 10).len(), 1);
}

#[test]
fn passing_a_threshold_wakes_the_teller_once_until_it_drains() {
    use std::sync::atomic::AtomicUsize;

    let start = now();
    let limits = Limits::new();
    let woken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&woken);
    limits.on_urgent(Box::new(move || {
        count.fetch_add(1, Ordering::Relaxed);
    }));
    let limiter = limiter(1, LimitScope::Cluster, start);
    limits.replace(vec![Arc::clone(&limiter)]);
    limits.company(shared(3));
    for _ in 0..2 {
        let before = woken.load(Ordering::Relaxed);
        (0..5).for_each(|n| assert_eq!(limiter.admit(client(n), start), Decision::Admit));
        assert_eq!(woken.load(Ordering::Relaxed), before + 1);
        drain(&limits, start, 100);
    }
}
