use super::*;

#[tokio::test]
async fn dials_are_spread_exactly_by_weight() {
    let (a, b) = (Server::start().await, Server::start().await);
    let mut plan = plan(&[a.address, b.address]);
    plan.backends[0].weight = 3;
    let pool = start(plan);
    pool.first_checks().await;
    let went = spread(&pool, 40).await;
    assert_eq!((went[&a.address], went[&b.address]), (30, 10));
    let status = of(&pool, a.address);
    assert_eq!((status.active, status.connections, status.connect_failures), (0, 30, 0));
    assert_eq!(status.state, BackendState::Up);
}

#[tokio::test]
async fn a_dead_backend_is_passed_over_in_the_same_dial() {
    let (dead, live) = (dead(), Server::start().await);
    let pool = start(plan(&[dead.1, live.address]));
    let mut attempts = 0;
    for _ in 0..10 {
        let dialed = pool.dial(client(), None).await.unwrap();
        assert_eq!(dialed.lease.address().0, live.address);
        attempts += dialed.attempts;
    }
    assert_eq!(attempts, 15, "every other dial has to try twice");
    assert_eq!(of(&pool, dead.1).connect_failures, 5);
    assert_eq!(of(&pool, dead.1).active, 0);
}

#[tokio::test]
async fn attempts_are_bounded_and_no_backend_is_tried_twice() {
    let nobody = [dead(), dead(), dead(), dead()];
    let addresses: Vec<_> = nobody.iter().map(|dead| dead.1).collect();
    let tries = |pool: &Arc<Pool>| {
        let mut failures: Vec<_> =
            pool.snapshot().backends.iter().map(|b| b.connect_failures).collect();
        failures.sort_unstable();
        failures
    };

    let pool = start(plan(&addresses));
    let error = pool.dial(client(), None).await.unwrap_err();
    assert!(matches!(error, DialError::Connect { attempts: 3, .. }), "{error}");
    assert_eq!(error.label(), "connect_failed");
    assert_eq!(tries(&pool), [0, 1, 1, 1]);

    let pool = start(PoolPlan { connect_attempts: 9, ..plan(&addresses) });
    let error = pool.dial(client(), None).await.unwrap_err();
    assert_eq!(error.attempts(), 4);
    assert_eq!(tries(&pool), [1, 1, 1, 1]);
}

#[tokio::test]
async fn a_silent_backend_costs_one_connect_timeout() {
    // A listener whose queue is full drops further connects without a word.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.listen(0).unwrap();
    let silent = socket.local_addr().unwrap().as_socket().unwrap();
    let _fills = std::net::TcpStream::connect(silent).unwrap();

    let live = Server::start().await;
    let connect_timeout = Duration::from_millis(200);
    let pool = start(PoolPlan { connect_timeout, ..plan(&[silent, live.address]) });
    let dialed = pool.dial(client(), None).await.unwrap();
    assert_eq!((dialed.attempts, dialed.lease.address().0), (2, live.address));
    assert!(dialed.connect >= connect_timeout);
    drop(dialed);

    let pool = start(PoolPlan { connect_timeout, ..plan(&[silent]) });
    let error = pool.dial(client(), None).await.unwrap_err();
    assert!(matches!(error, DialError::Timeout { attempts: 1, .. }), "{error}");
    assert_eq!(of(&pool, silent).active, 0);
}

#[tokio::test]
async fn a_pool_without_weight_has_no_backend() {
    let live = Server::start().await;
    let mut plan = plan(&[live.address]);
    plan.backends[0].weight = 0;
    let error = start(plan).dial(client(), None).await.unwrap_err();
    assert!(matches!(error, DialError::NoBackend), "{error}");
}

#[tokio::test]
async fn backups_are_used_when_every_primary_failed() {
    let (dead, backup) = (dead(), Server::start().await);
    let mut plan = plan(&[dead.1, backup.address]);
    plan.backends[1].backup = true;
    let pool = start(plan);
    let dialed = pool.dial(client(), None).await.unwrap();
    assert_eq!((dialed.attempts, dialed.lease.address().0), (2, backup.address));
}

#[tokio::test]
async fn a_cancelled_dial_gives_its_place_back() {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.listen(0).unwrap();
    let silent = socket.local_addr().unwrap().as_socket().unwrap();
    let _fills = std::net::TcpStream::connect(silent).unwrap();

    let pool = start(plan(&[silent]));
    let dialling = tokio::spawn({
        let pool = Arc::clone(&pool);
        async move { pool.dial(client(), None).await.map(|_| ()) }
    });
    until("the dial is under way", || of(&pool, silent).active == 1).await;
    dialling.abort();
    assert!(dialling.await.unwrap_err().is_cancelled());
    assert_eq!(of(&pool, silent).active, 0);
}

#[tokio::test]
async fn a_lease_counts_until_it_is_dropped_even_by_a_panic() {
    let live = Server::start().await;
    let pool = start(plan(&[live.address]));
    let dialed = pool.dial(client(), None).await.unwrap();
    assert_eq!(of(&pool, live.address).active, 1);
    let panicked = tokio::spawn(async move {
        let _held = dialed;
        std::panic::resume_unwind(Box::new("on purpose"));
    });
    assert!(panicked.await.unwrap_err().is_panic());
    assert_eq!(of(&pool, live.address).active, 0);
}

#[test]
fn a_dial_is_small() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let pool = start(plan(&[dead().1]));
        let dial = pool.dial(client(), None);
        assert!(size_of_val(&dial) <= 832, "{} bytes", size_of_val(&dial));
        assert_eq!(size_of::<Lease>(), size_of::<usize>());
    });
}

#[tokio::test]
async fn a_pool_is_dialled_from_other_runtimes_than_its_own() {
    let live = Server::start().await;
    let pool = start(PoolPlan {
        connection_limit: NonZeroU32::new(2),
        queue: QueuePlan { size: 100, timeout: Duration::from_secs(8) },
        ..plan(&[live.address])
    });
    let workers: Vec<_> = (0..2)
        .map(|_| {
            let pool = Arc::clone(&pool);
            tokio::task::spawn_blocking(move || {
                let mut runtime = tokio::runtime::Builder::new_current_thread();
                let runtime = runtime.enable_all().build().unwrap();
                let dials = (0..50).map(|_| {
                    let pool = Arc::clone(&pool);
                    async move { pool.dial(client(), None).await.map(|dialed| dialed.attempts) }
                });
                runtime.block_on(async {
                    let dials: Vec<_> = dials.map(tokio::spawn).collect();
                    for dial in dials {
                        assert_eq!(dial.await.unwrap().unwrap(), 1);
                    }
                });
            })
        })
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
    let status = of(&pool, live.address);
    assert_eq!((status.connections, status.active), (100, 0));
}
