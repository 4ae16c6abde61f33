use super::*;

fn ejecting(addresses: &[SocketAddr], eject_for: Duration) -> PoolPlan {
    let outlier = OutlierPlan { failures: 2, eject_for, ..OutlierPlan::default() };
    PoolPlan { outlier, ..plan(addresses) }
}

const LONG: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn connect_failures_in_a_row_eject() {
    let (dead, live) = (dead(), Server::start().await);
    let pool = start(ejecting(&[dead.1, live.address], LONG));
    spread(&pool, 20).await;
    assert_eq!(state(&pool, dead.1), BackendState::Ejected);
    assert_eq!(of(&pool, dead.1).connect_failures, 2, "tried no more once it was ejected");
    assert_eq!(pool.snapshot().usable, 1);
}

#[tokio::test]
async fn the_ejected_share_is_capped() {
    let (dead, live) = ([dead(), dead()], Server::start().await);
    let addresses = [dead[0].1, dead[1].1, live.address];
    let pool = start(ejecting(&addresses, LONG));
    spread(&pool, 30).await;
    let ejected = |b: &BackendStatus| b.state == BackendState::Ejected;
    let count = |pool: &Pool| pool.snapshot().backends.iter().filter(|b| ejected(b)).count();
    assert_eq!(count(&pool), 1, "half of three is one");

    let mut plan = ejecting(&addresses, LONG);
    plan.outlier.max_ejected = Share::percent(100.0);
    plan.panic_threshold = Share::percent(0.0);
    let pool = start(plan);
    spread(&pool, 30).await;
    assert_eq!(count(&pool), 2);
}

#[tokio::test]
async fn an_ejection_ends_by_time_and_success_counts_anew() {
    let (dead, live) = (dead(), Server::start().await);
    let pool = start(ejecting(&[dead.1, live.address], Duration::from_millis(100)));
    spread(&pool, 8).await;
    assert_eq!(state(&pool, dead.1), BackendState::Ejected);
    until("it is back", || state(&pool, dead.1) == BackendState::Up).await;
    let before = of(&pool, dead.1).connect_failures;
    spread(&pool, 2).await;
    assert_eq!(of(&pool, dead.1).connect_failures, before + 1, "it is tried again");
    assert_eq!(state(&pool, dead.1), BackendState::Up, "failures before do not count");
    spread(&pool, 2).await;
    assert_eq!(state(&pool, dead.1), BackendState::Ejected);
}

#[tokio::test]
async fn a_success_between_failures_keeps_a_backend_in() {
    let live = Server::start().await;
    let pool = start(ejecting(&[live.address, dead().1], LONG));
    let dialed = pool.dial(client(), None).await.unwrap();
    let fault = || DialError::Timeout { address: dialed.lease.address(), attempts: 1, took_us: 0 };
    for _ in 0..5 {
        pool.connect_failed(dialed.lease.account(), &fault());
        dialed.lease.account().connected();
    }
    assert_eq!(state(&pool, live.address), BackendState::Up);
    pool.connect_failed(dialed.lease.account(), &fault());
    pool.connect_failed(dialed.lease.account(), &fault());
    assert_eq!(state(&pool, live.address), BackendState::Ejected);
}

/// Killed under load a backend is ejected by its first refused connects, before its checks notice.
/// Restarted it was well again for its checks and stayed out for the rest of ten seconds.
#[tokio::test]
async fn a_backend_that_its_checks_saw_go_and_come_back_is_taken_back_at_once() {
    let (a, b) = (Server::start().await, Server::start().await);
    let address = a.address;
    let outlier = OutlierPlan { failures: 2, eject_for: LONG, ..OutlierPlan::default() };
    let pool = start(PoolPlan { outlier, ..checked(&[address, b.address]) });
    pool.first_checks().await;
    a.stop().await;
    spread(&pool, 4).await;
    assert_eq!(state(&pool, address), BackendState::Ejected);
    let known = || of(&pool, address).own.is_some_and(|own| own.verdict == Verdict::Down);
    until("its checks have noticed", known).await;
    assert_eq!(state(&pool, address), BackendState::Ejected);

    let again = Server::at(address).await;
    until("it is up again", || state(&pool, address) == BackendState::Up).await;
    assert_eq!(spread(&pool, 4).await, HashMap::from([(again.address, 2), (b.address, 2)]));
}
