use std::sync::atomic::{AtomicU32, Ordering};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

fn capped(address: SocketAddr, cap: u32, size: u32, timeout: Duration) -> PoolPlan {
    PoolPlan {
        connection_limit: NonZeroU32::new(cap),
        queue: QueuePlan { size, timeout },
        ..plan(&[address])
    }
}

const LONG: Duration = Duration::from_secs(8);

fn dial(pool: &Arc<Pool>) -> JoinHandle<Result<Dialed, DialError>> {
    let pool = Arc::clone(pool);
    tokio::spawn(async move { pool.dial(client(), None).await })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_dials_at_once_never_pass_the_cap() {
    let servers = [Server::start().await, Server::start().await];
    let mut plan = capped(servers[0].address, 5, 200, LONG);
    plan.backends.push(backend(servers[1].address));
    let pool = start(plan);
    let most = Arc::new(AtomicU32::new(0));
    let dials: Vec<_> = (0..200)
        .map(|_| {
            let (pool, most) = (Arc::clone(&pool), Arc::clone(&most));
            tokio::spawn(async move {
                let dialed = pool.dial(client(), None).await.unwrap();
                let active = of(&pool, dialed.lease.address().0).active;
                most.fetch_max(active, Ordering::Relaxed);
                tokio::task::yield_now().await;
                drop(dialed);
            })
        })
        .collect();
    for dial in dials {
        dial.await.unwrap();
    }
    assert_eq!(most.load(Ordering::Relaxed), 5, "the cap was reached, and never passed");
    let status = pool.snapshot();
    assert_eq!(status.queued, 0);
    assert!(status.backends.iter().all(|b| b.active == 0));
    assert_eq!(status.backends.iter().map(|b| b.connections).sum::<u64>(), 200);
}

#[tokio::test]
async fn without_a_queue_a_full_pool_says_so() {
    let live = Server::start().await;
    let pool = start(capped(live.address, 1, 0, Duration::ZERO));
    let held = pool.dial(client(), None).await.unwrap();
    assert!(matches!(pool.dial(client(), None).await, Err(DialError::Full)));
    drop(held);
    pool.dial(client(), None).await.unwrap();
}

#[tokio::test]
async fn a_backends_own_cap_wins_over_the_pools() {
    let live = Server::start().await;
    let mut plan = capped(live.address, 1, 0, Duration::ZERO);
    plan.backends[0].max_connections = NonZeroU32::new(2);
    let pool = start(plan);
    let _held =
        (pool.dial(client(), None).await.unwrap(), pool.dial(client(), None).await.unwrap());
    assert!(matches!(pool.dial(client(), None).await, Err(DialError::Full)));
}

#[tokio::test]
async fn a_full_primary_is_waited_for_and_not_replaced_by_a_backup() {
    let (primary, backup) = (Server::start().await, Server::start().await);
    let mut plan = capped(primary.address, 1, 0, Duration::ZERO);
    plan.backends.push(BackendPlan { backup: true, ..backend(backup.address) });
    let pool = start(plan);
    let _held = pool.dial(client(), None).await.unwrap();
    assert!(matches!(pool.dial(client(), None).await, Err(DialError::Full)));
}

#[tokio::test]
async fn the_queue_is_first_come_first_served() {
    let live = Server::start().await;
    let pool = start(capped(live.address, 1, 10, LONG));
    let mut held = pool.dial(client(), None).await.unwrap();
    let mut waiting = Vec::new();
    for number in 1..=5 {
        waiting.push(dial(&pool));
        until("one more waits", || pool.snapshot().queued == number).await;
    }
    for (number, next) in waiting.into_iter().enumerate() {
        assert!(!next.is_finished());
        drop(held);
        held = next.await.unwrap().unwrap();
        assert!(held.queued > Duration::ZERO);
        assert_eq!(pool.snapshot().queued as usize, 4 - number);
    }
}

#[tokio::test]
async fn a_backend_that_comes_up_serves_those_who_wait() {
    let (live, down) = (Server::start().await, dead());
    let mut plan = capped(live.address, 1, 10, LONG);
    plan.backends.push(backend(down.1));
    plan.check = quick(CheckKind::Tcp);
    let pool = start(plan);
    pool.first_checks().await;
    let _held = pool.dial(client(), None).await.unwrap();
    let waits = dial(&pool);
    until("it waits", || pool.snapshot().queued == 1).await;
    let address = down.1;
    drop(down);
    let _up = Server::at(address).await;
    assert_eq!(waits.await.unwrap().unwrap().lease.address().0, address);
}

#[tokio::test]
async fn a_late_comer_does_not_pass_those_who_wait() {
    let live = Server::start().await;
    let pool = start(capped(live.address, 1, 10, LONG));
    let held = pool.dial(client(), None).await.unwrap();
    let first = dial(&pool);
    until("the first waits", || pool.snapshot().queued == 1).await;
    // Freed and asked for in one breath: the place belongs to the first already.
    drop(held);
    let late = dial(&pool);
    let first = first.await.unwrap().unwrap();
    until("the late one waits", || pool.snapshot().queued == 1).await;
    assert!(!late.is_finished());
    drop(first);
    late.await.unwrap().unwrap();
}

#[tokio::test]
async fn the_queue_is_bounded_in_length_and_in_time() {
    let live = Server::start().await;
    let timeout = Duration::from_millis(150);
    let pool = start(capped(live.address, 1, 1, timeout));
    let held = pool.dial(client(), None).await.unwrap();
    let began = time::now();
    let first = dial(&pool);
    until("the first waits", || pool.snapshot().queued == 1).await;
    assert!(matches!(pool.dial(client(), None).await, Err(DialError::QueueFull)));
    let late = first.await.unwrap().unwrap_err();
    assert!(matches!(late, DialError::QueueTimeout), "{late}");
    assert!(began.elapsed() >= timeout);
    assert_eq!(pool.snapshot().queued, 0);
    drop(held);
    pool.dial(client(), None).await.unwrap();
}

#[tokio::test]
async fn who_gives_up_leaves_the_queue_and_loses_no_place() {
    let live = Server::start().await;
    let pool = start(capped(live.address, 1, 10, LONG));
    let held = pool.dial(client(), None).await.unwrap();
    let gives_up = dial(&pool);
    until("it waits", || pool.snapshot().queued == 1).await;
    let stays = dial(&pool);
    until("both wait", || pool.snapshot().queued == 2).await;
    gives_up.abort();
    assert!(gives_up.await.unwrap_err().is_cancelled());
    assert_eq!(pool.snapshot().queued, 1);
    drop(held);
    stays.await.unwrap().unwrap();
    assert_eq!(of(&pool, live.address).active, 0);
}

#[tokio::test]
async fn a_place_handed_to_one_who_just_gave_up_goes_to_the_next() {
    let live = Server::start().await;
    let pool = start(capped(live.address, 1, 10, LONG));
    let held = pool.dial(client(), None).await.unwrap();
    let gives_up = dial(&pool);
    until("it waits", || pool.snapshot().queued == 1).await;
    let stays = dial(&pool);
    until("both wait", || pool.snapshot().queued == 2).await;
    // Handed over, but on this single thread the receiver has not run yet when it is aborted.
    drop(held);
    gives_up.abort();
    stays.await.unwrap().unwrap();
    assert!(gives_up.await.is_err());
    assert_eq!((pool.snapshot().queued, of(&pool, live.address).active), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_are_exact_however_dials_end() {
    let seed: u64 = 0x7419;
    println!("seed {seed:#x}");
    let mut rng = StdRng::seed_from_u64(seed);
    let (live, dead) = (Server::start().await, dead());
    let mut plan = capped(live.address, 3, 40, Duration::from_millis(30));
    plan.backends.push(backend(dead.1));
    let pool = start(plan);
    let mut dials = Vec::new();
    for _ in 0..400 {
        let (holds, aborts) = (rng.random_range(0..8), rng.random_bool(0.4));
        let pool = Arc::clone(&pool);
        let dial = tokio::spawn(async move {
            let dialed = pool.dial(client(), None).await;
            for _ in 0..holds {
                tokio::task::yield_now().await;
            }
            drop(dialed);
        });
        if rng.random_bool(0.5) {
            tokio::task::yield_now().await;
        }
        if aborts {
            dial.abort();
        }
        dials.push(dial);
    }
    for dial in dials {
        let ended = dial.await;
        assert!(ended.is_ok() || ended.unwrap_err().is_cancelled());
    }
    let status = pool.snapshot();
    let active: Vec<_> = status.backends.iter().map(|b| b.active).collect();
    assert_eq!((status.queued, active), (0, vec![0, 0]));
    assert!(status.backends[0].connections > 0);
    let _held = pool.dial(client(), None).await.unwrap();
}
