use std::num::NonZeroU64;

use super::*;

fn key(address: SocketAddr) -> BackendKey {
    BackendKey { rule: "web".into(), address }
}

/// Checks once and then not again for an hour.
fn rarely(addresses: &[SocketAddr]) -> PoolPlan {
    let mut plan = checked(addresses);
    plan.check.interval = Duration::from_secs(3600);
    plan
}

#[tokio::test]
async fn what_is_known_of_a_backend_goes_over_to_the_next_pool() {
    let (dead, live) = (dead(), Server::start().await);
    let windows = windows();
    let verdicts = Arc::clone(&windows.verdicts);
    let old = Pool::start(rarely(&[dead.1, live.address]), windows.clone(), None, 1);
    old.first_checks().await;
    let kept = old.dial(client(), None).await.unwrap();

    let new = Pool::start(rarely(&[live.address, dead.1]), windows, Some(&old), 2);
    // At once, before any check of its own has run: nothing was awaited.
    assert_eq!(state(&new, dead.1), BackendState::Down);
    assert_eq!(state(&new, live.address), BackendState::Up);
    assert_eq!(of(&new, live.address).active, 1);
    assert_eq!(of(&new, live.address).connections, 1);
    assert!(of(&new, dead.1).last_check.starts_with("connect: "));
    old.close();
    drop(old);
    drop(kept);
    assert_eq!(of(&new, live.address).active, 0);
    let mut all = vec![(key(dead.1), Verdict::Down, 1), (key(live.address), Verdict::Up, 1)];
    all.sort_by(|a, b| a.0.cmp(&b.0));
    let kept: Vec<_> = fresh(&verdicts);
    assert_eq!(kept, all, "the old pool's end forgets nothing that is still used");
    drop(new);
    until("a pool's end takes its verdicts along", || fresh(&verdicts).is_empty()).await;
}

#[tokio::test]
async fn a_removed_backend_is_forgotten_once_the_old_pool_is_closed() {
    let (a, b) = (Server::start().await, Server::start().await);
    let windows = windows();
    let verdicts = Arc::clone(&windows.verdicts);
    let old = Pool::start(checked(&[a.address, b.address]), windows.clone(), None, 1);
    old.first_checks().await;
    let new = Pool::start(checked(&[b.address]), windows, Some(&old), 1);
    assert!(verdicts.of(&"web".into(), a.address).is_some(), "a failed reload undoes nothing");
    old.close();
    until("it is forgotten", || verdicts.of(&"web".into(), a.address).is_none()).await;
    assert!(verdicts.of(&"web".into(), b.address).is_some());
    // Whoever still has the old pool may dial by it.
    old.dial(client(), None).await.unwrap();
    new.dial(client(), None).await.unwrap();
}

#[tokio::test]
async fn a_reload_that_fails_leaves_the_old_pool_as_it_was() {
    let a = Server::start().await;
    let windows = windows();
    let verdicts = Arc::clone(&windows.verdicts);
    let old = Pool::start(checked(&[a.address]), windows.clone(), None, 1);
    old.first_checks().await;
    drop(Pool::start(checked(&[a.address]), windows, Some(&old), 1));
    let address = a.address;
    a.stop().await;
    until("the old pool still checks", || state(&old, address) == BackendState::Down).await;
    assert_eq!(
        verdicts.of(&"web".into(), address).map(|own| own.report.verdict),
        Some(Verdict::Down)
    );
}

#[tokio::test]
async fn a_closed_pool_checks_no_more() {
    let a = Server::start().await;
    let pool = start(checked(&[a.address]));
    let seen = || a.accepted.lock().len();
    until("it checks", || seen() >= 3).await;
    pool.close();
    // A check under way may still arrive; after that there is silence for many intervals.
    tokio::time::sleep(Duration::from_millis(60)).await;
    let before = seen();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(seen(), before);
}

#[tokio::test]
async fn a_cap_holds_over_a_reload_and_so_does_the_queue() {
    let a = Server::start().await;
    let plan = PoolPlan {
        connection_limit: NonZeroU32::new(1),
        queue: QueuePlan { size: 10, timeout: Duration::from_secs(8) },
        ..plan(&[a.address])
    };
    let old = start(plan.clone());
    let held = old.dial(client(), None).await.unwrap();
    let dial = |pool: &Arc<Pool>| {
        let pool = Arc::clone(pool);
        tokio::spawn(async move { pool.dial(client(), None).await.unwrap() })
    };
    let first = dial(&old);
    until("one waits", || old.snapshot().queued == 1).await;
    let new = Pool::start(plan, windows(), Some(&old), 1);
    old.close();
    let second = dial(&new);
    until("two wait", || new.snapshot().queued == 2).await;
    drop(held);
    let first = first.await.unwrap();
    assert!(!second.is_finished());
    assert_eq!(of(&new, a.address).active, 1);
    drop(first);
    second.await.unwrap();
}

#[tokio::test]
async fn a_raised_cap_serves_those_who_wait() {
    let a = Server::start().await;
    let capped = |cap| PoolPlan {
        connection_limit: NonZeroU32::new(cap),
        queue: QueuePlan { size: 10, timeout: Duration::from_secs(8) },
        ..plan(&[a.address])
    };
    let old = start(capped(1));
    let _held = old.dial(client(), None).await.unwrap();
    let new = Pool::start(capped(2), windows(), Some(&old), 1);
    let _also = new.dial(client(), None).await.unwrap();
    assert_eq!(of(&new, a.address).active, 2);
}

#[tokio::test]
async fn a_backend_asked_something_else_is_judged_by_its_first_answer() {
    let a = Server::start().await;
    let old = start(rarely(&[a.address]));
    old.first_checks().await;
    assert_eq!(state(&old, a.address), BackendState::Up);
    let mut plan = rarely(&[a.address]);
    let gone = dead();
    plan.check.port = Some(gone.1.port());
    let new = Pool::start(plan, windows(), Some(&old), 1);
    until("one failure takes it down", || state(&new, a.address) == BackendState::Down).await;
}

#[tokio::test]
async fn a_pace_goes_over_when_its_rate_stays() {
    let a = Server::start().await;
    let paced = |up, down| PoolPlan {
        bandwidth: Rates { upload: NonZeroU64::new(up), download: NonZeroU64::new(down) },
        ..plan(&[a.address])
    };
    let old = start(paced(1 << 20, 0));
    let before = old.dial(client(), None).await.unwrap().lease;
    assert!(before.download().is_none());
    let new = Pool::start(paced(1 << 20, 1 << 21), windows(), Some(&old), 1);
    let after = new.dial(client(), None).await.unwrap().lease;
    assert!(std::ptr::eq(before.upload().unwrap(), after.upload().unwrap()));
    assert_eq!(after.download().unwrap().rate().get(), 1 << 21);
    let new = Pool::start(paced(1 << 22, 0), windows(), Some(&new), 1);
    let after = new.dial(client(), None).await.unwrap().lease;
    assert_eq!(after.upload().unwrap().rate().get(), 1 << 22);
}

#[tokio::test]
async fn a_backend_that_joins_a_running_pool_starts_slowly() {
    let (a, b) = (Server::start().await, Server::start().await);
    let slow = |addresses: &[SocketAddr]| PoolPlan {
        slow_start: Duration::from_secs(3600),
        ..checked(addresses)
    };
    let old = start(slow(&[a.address]));
    old.first_checks().await;
    let new = Pool::start(slow(&[a.address, b.address]), windows(), Some(&old), 1);
    new.first_checks().await;
    assert_eq!(spread(&new, 22).await, HashMap::from([(a.address, 20), (b.address, 2)]));
}

#[tokio::test]
async fn peers_are_told_no_verdict_once_checks_are_off() {
    let dead = dead();
    let windows = windows();
    let verdicts = Arc::clone(&windows.verdicts);
    let old = Pool::start(rarely(&[dead.1]), windows.clone(), None, 1);
    old.first_checks().await;
    assert_eq!(
        verdicts.of(&"web".into(), dead.1).map(|own| own.report.verdict),
        Some(Verdict::Down)
    );
    let new = Pool::start(plan(&[dead.1]), windows, Some(&old), 1);
    old.close();
    until("it is forgotten", || verdicts.of(&"web".into(), dead.1).is_none()).await;
    assert_eq!(state(&new, dead.1), BackendState::Up);
}

#[tokio::test]
async fn a_slow_start_comes_to_its_end_between_two_checks() {
    let full = Condition::Usable { percent: 100 };
    let (a, b) = (Server::start().await, Server::start().await);
    let slow = |addresses: &[SocketAddr]| PoolPlan {
        slow_start: Duration::from_millis(300),
        ..rarely(addresses)
    };
    let old = start(slow(&[a.address]));
    old.first_checks().await;
    let new = Pool::start(slow(&[a.address, b.address]), windows(), Some(&old), 1);
    new.first_checks().await;
    let standings = || new.core().board.lock().standings.clone();
    assert!(standings().iter().any(|standing| standing.condition != full), "nothing began");
    until("its weight has grown", || standings().iter().all(|s| s.condition == full)).await;
}

fn fresh(verdicts: &crate::health::Verdicts) -> Vec<(BackendKey, Verdict, u64)> {
    let fresh = verdicts.fresh(time::now()).into_iter();
    fresh.map(|(key, own)| (key, own.report.verdict, own.report.seq)).collect()
}
