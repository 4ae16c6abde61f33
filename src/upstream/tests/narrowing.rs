use std::collections::HashSet;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

const LONG: Duration = Duration::from_secs(8);

/// Dials among `allowed` alone.
async fn among(pool: &Arc<Pool>, allowed: &[SocketAddr]) -> Result<Dialed, DialError> {
    pool.dial(client(), Some(&|_, address| allowed.contains(&address))).await
}

/// As [`among`], in a task.
fn waits_among(pool: &Arc<Pool>, allowed: &[SocketAddr]) -> JoinHandle<Result<Dialed, DialError>> {
    let (pool, allowed) = (Arc::clone(pool), allowed.to_vec());
    tokio::spawn(async move { among(&pool, &allowed).await })
}

fn went(dialed: &Result<Dialed, DialError>) -> SocketAddr {
    dialed.as_ref().unwrap().lease.address().0
}

/// One place at each backend, and a line of `size`.
fn one_each(addresses: &[SocketAddr], size: u32) -> PoolPlan {
    PoolPlan {
        connection_limit: NonZeroU32::new(1),
        queue: QueuePlan { size, timeout: LONG },
        ..plan(addresses)
    }
}

#[tokio::test]
async fn round_robin_is_exact_among_the_allowed_and_among_all() {
    let servers = [Server::start().await, Server::start().await, Server::start().await];
    let [a, b, c] = servers.each_ref().map(|server| server.address);
    let mut plan = plan(&[a, b, c]);
    plan.backends[0].weight = 3;
    plan.backends[2].weight = 2;
    let pool = start(plan);
    // Two groups and those who may go anywhere, in turn: none takes another's turns.
    let mut all: [Vec<SocketAddr>; 3] = Default::default();
    for _ in 0..60 {
        all[0].push(went(&among(&pool, &[a, b]).await));
        all[1].push(went(&among(&pool, &[b, c]).await));
        all[2].push(went(&pool.dial(client(), None).await));
    }
    let exact = |went: &[SocketAddr], expected: &[(SocketAddr, usize)]| {
        let length = expected.iter().map(|(_, times)| times).sum();
        for window in went.windows(length) {
            for (address, times) in expected {
                assert_eq!(window.iter().filter(|one| *one == address).count(), *times);
            }
        }
    };
    exact(&all[0], &[(a, 3), (b, 1)]);
    exact(&all[1], &[(b, 1), (c, 2)]);
    exact(&all[2], &[(a, 3), (b, 1), (c, 2)]);
    assert_eq!(pool.view().look().narrowings().kept(), 2);
}

#[tokio::test]
async fn who_may_go_anywhere_goes_as_if_nothing_was_asked() {
    let servers = [Server::start().await, Server::start().await];
    let [a, b] = servers.each_ref().map(|server| server.address);
    let pool = start(plan(&[a, b]));
    let first = went(&pool.dial(client(), None).await);
    let second = went(&among(&pool, &[a, b]).await);
    let third = went(&pool.dial(client(), None).await);
    assert!(first != second && first == third, "one sequence of turns");
}

#[tokio::test]
async fn the_least_loaded_of_the_allowed_is_chosen() {
    let servers = [Server::start().await, Server::start().await, Server::start().await];
    let [a, b, c] = servers.each_ref().map(|server| server.address);
    let pool = start(PoolPlan { policy: Policy::LeastConnections, ..plan(&[a, b, c]) });
    let mut held = Vec::new();
    for only in [a, a, a, b] {
        held.push(among(&pool, &[only]).await.unwrap());
    }
    // c has none, and is not theirs.
    for expected in [b, b] {
        let dialed = among(&pool, &[a, b]).await;
        assert_eq!(went(&dialed), expected);
        held.push(dialed.unwrap());
    }
    assert_eq!(went(&among(&pool, &[a, b, c]).await), c);
}

#[tokio::test]
async fn a_filter_is_told_the_name_and_the_address() {
    let live = Server::start().await;
    let pool = start(plan(&[live.address]));
    let name = Endpoint::from(live.address);
    let by_name = |asked: &Endpoint, _: SocketAddr| *asked == name;
    pool.dial(client(), Some(&by_name)).await.unwrap();
    let by_address = |_: &Endpoint, asked: SocketAddr| asked == live.address;
    pool.dial(client(), Some(&by_address)).await.unwrap();
}

#[tokio::test]
async fn who_may_use_nobody_is_told_so() {
    let live = Server::start().await;
    let mut plan = plan(&[live.address]);
    plan.backends.push(backend("lost.invalid:80".parse::<Endpoint>().unwrap()));
    let pool = start(plan);
    let refused = among(&pool, &[]).await.unwrap_err();
    assert_eq!((refused.label(), refused.attempts()), ("not_allowed", 0));
    // The one that is allowed has no address: that is no matter of who may use it.
    let lost = |name: &Endpoint, _: SocketAddr| name.literal().is_none();
    let error = pool.dial(client(), Some(&lost)).await.unwrap_err();
    assert!(matches!(error, DialError::NoBackend), "{error}");
}

#[tokio::test]
async fn backups_and_panic_are_judged_among_the_allowed() {
    let (up, spare, down) = (Server::start().await, Server::start().await, dead());
    let mut plan = checked(&[up.address, down.1]);
    plan.backends.push(BackendPlan { backup: true, ..backend(spare.address) });
    plan.panic_threshold = Share::percent(10.0);
    let pool = start(plan);
    pool.first_checks().await;
    until("one is down", || state(&pool, down.1) == BackendState::Down).await;
    // The healthy primary is not theirs: the backup stands in, and without one it is a panic.
    for _ in 0..4 {
        let dialed = among(&pool, &[down.1, spare.address]).await;
        assert_eq!((went(&dialed), dialed.unwrap().attempts), (spare.address, 1));
    }
    let panicked = among(&pool, &[down.1]).await.unwrap_err();
    assert!(matches!(panicked, DialError::Connect { .. }), "{panicked}");
    assert!(!pool.snapshot().panic, "that is nothing that the whole pool does");
    assert_eq!(went(&pool.dial(client(), None).await), up.address);
}

#[tokio::test]
async fn nobody_is_ever_sent_where_they_may_not_go() {
    let seed: u64 = 0x5ca1e;
    println!("seed {seed:#x}");
    let mut rng = StdRng::seed_from_u64(seed);
    let servers = [Server::start().await, Server::start().await, Server::start().await];
    let ruins = [dead(), dead()];
    let live: HashSet<_> = servers.iter().map(|server| server.address).collect();
    let all: Vec<_> = live.iter().copied().chain(ruins.iter().map(|dead| dead.1)).collect();
    let policies = [
        Policy::WeightedRoundRobin,
        Policy::LeastConnections,
        Policy::PowerOfTwo,
        Policy::ConsistentHash,
        Policy::Random,
    ];
    for policy in policies {
        let pool = start(PoolPlan { policy, connect_attempts: 9, ..plan(&all) });
        for _ in 0..60 {
            let allowed: Vec<_> = all.iter().copied().filter(|_| rng.random_bool(0.4)).collect();
            let dialed = among(&pool, &allowed).await;
            let can = allowed.iter().any(|address| live.contains(address));
            match dialed {
                Ok(dialed) => assert!(allowed.contains(&dialed.lease.address().0)),
                Err(DialError::NotAllowed) => assert!(allowed.is_empty()),
                Err(DialError::Connect { attempts, .. }) => {
                    assert!(!can && attempts as usize == allowed.len(), "each was tried once");
                }
                Err(other) => panic!("{other}"),
            }
        }
    }
}

#[tokio::test]
async fn each_waits_for_its_own_and_nobody_for_the_others() {
    let servers = [Server::start().await, Server::start().await];
    let [a, b] = servers.each_ref().map(|server| server.address);
    let pool = start(one_each(&[a, b], 10));
    let at_a = among(&pool, &[a]).await.unwrap();
    let first = waits_among(&pool, &[a]);
    until("one waits for a", || pool.snapshot().queued == 1).await;
    // b has room, and who is in the line cannot use it.
    let at_b = among(&pool, &[b]).await.unwrap();
    let second = waits_among(&pool, &[b]);
    until("one waits for b", || pool.snapshot().queued == 2).await;
    let anywhere = waits_among(&pool, &[a, b]);
    until("one waits for either", || pool.snapshot().queued == 3).await;
    drop(at_b);
    let second = second.await.unwrap();
    assert_eq!(went(&second), b, "though another waits longer");
    assert!(!first.is_finished() && !anywhere.is_finished());
    drop(second);
    let anywhere = anywhere.await.unwrap();
    assert_eq!(went(&anywhere), b);
    assert!(!first.is_finished());
    drop(at_a);
    assert_eq!(went(&first.await.unwrap()), a);
    assert_eq!(pool.snapshot().queued, 0);
}

#[tokio::test]
async fn who_may_go_anywhere_waits_behind_nobody_who_waits_for_one() {
    let servers = [Server::start().await, Server::start().await];
    let [a, b] = servers.each_ref().map(|server| server.address);
    let pool = start(one_each(&[a, b], 10));
    let _at_a = among(&pool, &[a]).await.unwrap();
    let _first = waits_among(&pool, &[a]);
    until("one waits for a", || pool.snapshot().queued == 1).await;
    let dialed = pool.dial(client(), None).await;
    assert_eq!(went(&dialed), b);
}

#[tokio::test]
async fn a_line_full_of_others_does_not_keep_anybody_from_a_free_backend() {
    let servers = [Server::start().await, Server::start().await];
    let [a, b] = servers.each_ref().map(|server| server.address);
    let pool = start(one_each(&[a, b], 1));
    let _at_a = among(&pool, &[a]).await.unwrap();
    let _first = waits_among(&pool, &[a]);
    until("the line is full", || pool.snapshot().queued == 1).await;
    for only in [Some(&[b][..]), None] {
        let at_b = match only {
            Some(only) => among(&pool, only).await,
            None => pool.dial(client(), None).await,
        };
        assert_eq!(went(&at_b), b);
        assert!(matches!(among(&pool, &[b]).await, Err(DialError::QueueFull)));
        assert!(matches!(pool.dial(client(), None).await, Err(DialError::QueueFull)));
    }
}

#[tokio::test]
async fn who_has_nobody_left_does_not_wait_with_the_others() {
    let (a, gone) = (Server::start().await, dead());
    let pool = start(one_each(&[a.address, gone.1], 10));
    let _at_a = among(&pool, &[a.address]).await.unwrap();
    let _first = waits_among(&pool, &[a.address]);
    until("one waits", || pool.snapshot().queued == 1).await;
    let refused = among(&pool, &[gone.1]).await.unwrap_err();
    assert!(matches!(refused, DialError::Connect { attempts: 1, .. }), "{refused}");
}

#[tokio::test]
async fn a_backend_that_comes_up_serves_only_who_may_use_it() {
    let (a, theirs, own) = (Server::start().await, dead(), dead());
    let mut plan = one_each(&[a.address, theirs.1, own.1], 10);
    plan.check = quick(CheckKind::Tcp);
    let pool = start(plan);
    pool.first_checks().await;
    for down in [theirs.1, own.1] {
        until("it is down", || state(&pool, down) == BackendState::Down).await;
    }
    let _at_a = among(&pool, &[a.address]).await.unwrap();
    let waits = waits_among(&pool, &[a.address, own.1]);
    until("it waits", || pool.snapshot().queued == 1).await;
    let (theirs_at, own_at) = (theirs.1, own.1);
    drop((theirs, own));
    let _theirs = Server::at(theirs_at).await;
    until("the others' is up", || state(&pool, theirs_at) == BackendState::Up).await;
    let other = among(&pool, &[theirs_at]).await;
    assert_eq!(went(&other), theirs_at);
    drop(other);
    assert!(!waits.is_finished());
    let _own = Server::at(own_at).await;
    assert_eq!(went(&waits.await.unwrap()), own_at);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn places_are_neither_lost_nor_handed_to_the_wrong_ones() {
    let servers = [Server::start().await, Server::start().await, Server::start().await];
    let all = servers.each_ref().map(|server| server.address);
    let pool = start(PoolPlan { connection_limit: NonZeroU32::new(2), ..one_each(&all, 300) });
    let dials: Vec<_> = (0..240_usize)
        .map(|number| {
            let allowed = match number % 4 {
                3 => all.to_vec(),
                own => vec![all[own], all[(own + 1) % 3]],
            };
            let pool = Arc::clone(&pool);
            tokio::spawn(async move {
                let dialed = if number % 8 == 3 {
                    pool.dial(client(), None).await
                } else {
                    among(&pool, &allowed).await
                };
                assert!(allowed.contains(&went(&dialed)));
                tokio::task::yield_now().await;
            })
        })
        .collect();
    for dial in dials {
        dial.await.unwrap();
    }
    let status = pool.snapshot();
    assert_eq!(status.queued, 0);
    assert!(status.backends.iter().all(|backend| backend.active == 0));
}

#[tokio::test]
async fn as_many_orders_are_kept_as_may_be() {
    let all: Vec<SocketAddr> = (1..=9).map(|n| SocketAddr::from(([127, 0, 0, 1], n))).collect();
    let pool = start(plan(&all));
    let picture = pool.view().look();
    let mut most = 0;
    for mask in 0..500_usize {
        let only = |_: &Endpoint, at: SocketAddr| mask & (1 << (at.port() - 1)) != 0;
        assert_eq!(picture.allowed(&only, 0).is_nobody(), mask == 0);
        most = most.max(picture.narrowings().kept());
    }
    assert_eq!(most, 64);
    drop(picture);
    pool.drain(HashSet::from([Endpoint::from(all[0])]));
    assert_eq!(pool.view().look().narrowings().kept(), 0, "they went with their picture");
}

#[tokio::test]
async fn masks_hold_as_many_backends_as_there_are() {
    let all: Vec<SocketAddr> = (1..=130).map(|n| SocketAddr::from(([127, 0, 0, 1], n))).collect();
    let pool = start(plan(&all));
    let picture = pool.view().look();
    for wanted in [1, 64, 65, 128, 129, 130] {
        let only = |_: &Endpoint, at: SocketAddr| at.port() == wanted;
        let allowed = picture.allowed(&only, 0);
        let turn = crate::balance::Turn::new(1, 0, 0);
        let offer = allowed.order(&picture).offers(turn).next(&[]);
        let crate::upstream::picture::Offer::Place(lease) = offer else { panic!("{offer:?}") };
        assert_eq!(lease.address().0.port(), wanted);
    }
}

#[tokio::test]
async fn each_group_has_somebody_who_asks_the_cluster() {
    let all: Vec<SocketAddr> = (1..=3).map(|n| SocketAddr::from(([127, 0, 0, 1], n))).collect();
    let pool = start(plan(&all));
    let picture = pool.view().look();
    let only = |port: u16| picture.allowed(&|_: &Endpoint, at: SocketAddr| at.port() == port, 0);
    let (one, other, everything) = (only(1), only(2), picture.allowed(&|_, _| true, 0));
    let queue = pool.queue();
    let asks = queue.begin_asking(Some(&one));
    assert!(asks.is_some() && queue.begin_asking(Some(&only(1))).is_none());
    let others = queue.begin_asking(Some(&other));
    assert!(others.is_some());
    let all_of_them = queue.begin_asking(Some(&everything));
    assert!(all_of_them.is_some() && queue.begin_asking(None).is_none());
    drop(asks);
    assert!(queue.begin_asking(Some(&one)).is_some());
}
