use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

#[tokio::test]
async fn a_dead_backend_is_known_after_the_first_checks_and_never_tried() {
    let (dead, a, b) = (dead(), Server::start().await, Server::start().await);
    let pool = start(checked(&[dead.1, a.address, b.address]));
    pool.first_checks().await;
    assert_eq!(state(&pool, dead.1), BackendState::Down);
    assert!(of(&pool, dead.1).last_check.starts_with("connect: "));
    for _ in 0..10 {
        assert_eq!(pool.dial(client(), None).await.unwrap().attempts, 1);
    }
    let status = pool.snapshot();
    assert_eq!((status.usable, status.total, status.panic), (2, 3, false));
    assert_eq!(of(&pool, dead.1).connect_failures, 0);
}

#[tokio::test]
async fn a_backend_that_stops_is_down_within_its_check_time_and_comes_back() {
    let (a, b) = (Server::start().await, Server::start().await);
    let address = a.address;
    let windows = windows();
    let verdicts = Arc::clone(&windows.verdicts);
    let pool = Pool::start(checked(&[address, b.address]), windows, None, 1);
    pool.first_checks().await;
    assert_eq!(
        verdicts.of(&"web".into(), address).map(|own| own.report.verdict),
        Some(Verdict::Up)
    );
    a.stop().await;
    let began = time::now();
    until("it is down", || state(&pool, address) == BackendState::Down).await;
    // Three failures, the first one interval away at most; the rest is for a loaded machine.
    assert!(began.elapsed() < Duration::from_millis(3 * 50 + 2000), "{:?}", began.elapsed());
    assert_eq!(
        verdicts.of(&"web".into(), address).map(|own| own.report.verdict),
        Some(Verdict::Down)
    );
    assert_eq!(spread(&pool, 4).await, HashMap::from([(b.address, 4)]));

    let again = Server::at(address).await;
    until("it is up again", || state(&pool, address) == BackendState::Up).await;
    assert_eq!(spread(&pool, 4).await, HashMap::from([(again.address, 2), (b.address, 2)]));
}

#[tokio::test]
async fn live_connections_stay_when_their_backend_goes_down() {
    let a = Server::start().await;
    let mut plan = checked(&[a.address]);
    let gone = dead();
    plan.check.port = Some(gone.1.port());
    let pool = Pool::start(
        PoolPlan { check: CheckPlan { kind: None, ..plan.check.clone() }, ..plan.clone() },
        windows(),
        None,
        1,
    );
    let mut dialed = pool.dial(client(), None).await.unwrap();
    let pool = Pool::start(plan, windows(), Some(&pool), 1);
    pool.first_checks().await;
    assert_eq!(state(&pool, a.address), BackendState::Down);
    let mut byte = [0; 1];
    let quiet = tokio::time::timeout(Duration::from_millis(50), dialed.stream.read(&mut byte));
    assert!(quiet.await.is_err(), "the connection was cut");
}

/// Answers every request with `answer`, in two pieces.
async fn http(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0; 1];
                if stream.read(&mut byte).await.unwrap_or(0) == 0 {
                    break;
                }
                head.extend(byte);
            }
            let head = String::from_utf8_lossy(&head);
            if !head.contains("GET /healthz HTTP/1.1\r\n") || !head.contains("host: app.test\r\n") {
                continue;
            }
            let (one, two) = answer.split_at(answer.len() / 2);
            let _ = stream.write_all(one.as_bytes()).await;
            let _ = stream.flush().await;
            tokio::task::yield_now().await;
            let _ = stream.write_all(two.as_bytes()).await;
        }
    });
    address
}

async fn http_check(answer: &'static str, body: Option<&str>) -> (BackendState, String) {
    let address = http(answer).await;
    let kind = CheckKind::Http {
        path: "/healthz".into(),
        host: Some("app.test".into()),
        expect_status: vec![(200, 299), (401, 401)],
        expect_body: body.map(Into::into),
    };
    let pool = start(PoolPlan { check: quick(kind), ..plan(&[address]) });
    pool.first_checks().await;
    let status = of(&pool, address);
    (status.state, status.last_check)
}

#[tokio::test]
async fn an_http_check_judges_by_status() {
    let ok = http_check("HTTP/1.1 204 No Content\r\n\r\n", None).await;
    assert_eq!(ok, (BackendState::Up, "status 204".into()));
    let ok = http_check("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n", None).await;
    assert_eq!(ok, (BackendState::Up, "status 401".into()));
    let bad = http_check("HTTP/1.1 503 Busy\r\ncontent-length: 2\r\n\r\nno", None).await;
    assert_eq!(bad, (BackendState::Down, "status 503".into()));
}

#[tokio::test]
async fn an_http_check_judges_by_body_even_in_chunks_or_until_the_end() {
    let expected = (BackendState::Up, "status 200, body as expected".to_owned());
    let chunked =
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nall\r\n5\r\n good\r\n0\r\n\r\n";
    assert_eq!(http_check(chunked, Some("all good")).await, expected);
    let to_the_end = "HTTP/1.0 200 OK\r\n\r\nall good";
    assert_eq!(http_check(to_the_end, Some("good")).await, expected);
    let other = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nbad";
    let (state, said) = http_check(other, Some("good")).await;
    assert_eq!(state, BackendState::Down);
    assert_eq!(said, "status 200, body without the expected text");
}

#[tokio::test]
async fn an_answer_that_is_not_http_or_has_no_end_is_a_failed_check() {
    let (state, said) = http_check("SSH-2.0-OpenSSH_9.2\r\n\r\n", None).await;
    assert_eq!(state, BackendState::Down);
    assert!(said.starts_with("http: "), "{said}");
    let endless: &'static str =
        Box::leak(format!("HTTP/1.1 200 OK\r\nx: {}", "a".repeat(1 << 20)).into());
    let (state, said) = http_check(endless, None).await;
    assert_eq!(state, BackendState::Down);
    assert!(said.starts_with("http: "), "{said}");
}

#[tokio::test]
async fn a_silent_http_backend_fails_its_check_in_time() {
    let silent = Server::start().await;
    let kind = CheckKind::Http {
        path: "/".into(),
        host: None,
        expect_status: vec![(200, 399)],
        expect_body: None,
    };
    let mut plan = PoolPlan { check: quick(kind), ..plan(&[silent.address]) };
    plan.check.timeout = Duration::from_millis(100);
    let pool = start(plan);
    pool.first_checks().await;
    assert_eq!(of(&pool, silent.address).last_check, "no answer in 100 ms");
    assert_eq!(state(&pool, silent.address), BackendState::Down);
}

#[tokio::test]
async fn too_few_healthy_backends_are_a_panic_that_uses_all() {
    let (live, dead) = (Server::start().await, [dead(), dead()]);
    let addresses = [dead[0].1, dead[1].1, live.address];
    let pool = start(checked(&addresses));
    pool.first_checks().await;
    assert!(pool.snapshot().panic);
    for _ in 0..6 {
        assert_eq!(pool.dial(client(), None).await.unwrap().lease.address().0, live.address);
    }
    assert!(of(&pool, dead[0].1).connect_failures > 0, "all are used");

    let pool = start(PoolPlan { panic_threshold: Share::percent(0.0), ..checked(&addresses) });
    pool.first_checks().await;
    assert!(!pool.snapshot().panic);
    spread(&pool, 6).await;
    assert_eq!(of(&pool, dead[0].1).connect_failures, 0, "only the healthy one is used");
}

#[tokio::test]
async fn a_backup_takes_over_and_hands_back() {
    let (primary, backup) = (Server::start().await, Server::start().await);
    let address = primary.address;
    let mut plan = checked(&[address, backup.address]);
    plan.backends[1].backup = true;
    let pool = start(plan);
    pool.first_checks().await;
    assert_eq!(spread(&pool, 4).await, HashMap::from([(address, 4)]));
    primary.stop().await;
    until("the primary is down", || state(&pool, address) == BackendState::Down).await;
    assert_eq!(spread(&pool, 4).await, HashMap::from([(backup.address, 4)]));
    assert!(!pool.snapshot().panic);
    let _again = Server::at(address).await;
    until("the primary is up", || state(&pool, address) == BackendState::Up).await;
    assert_eq!(spread(&pool, 4).await, HashMap::from([(address, 4)]));
}

#[tokio::test]
async fn a_backend_that_comes_up_starts_slowly() {
    let (a, b) = (Server::start().await, Server::start().await);
    let address = a.address;
    let slow_start = Duration::from_secs(3600);
    let pool = start(PoolPlan { slow_start, ..checked(&[address, b.address]) });
    pool.first_checks().await;
    assert_eq!(spread(&pool, 22).await[&address], 11, "no slow start at the very beginning");
    a.stop().await;
    until("it is down", || state(&pool, address) == BackendState::Down).await;
    let _again = Server::at(address).await;
    until("it is up", || state(&pool, address) == BackendState::Up).await;
    assert_eq!(spread(&pool, 22).await[&address], 2, "a tenth of its weight");
}

/// Takes a PROXY header, then TLS; answers HTTP there. What the header was.
async fn sealed(header: &'static [u8]) -> SocketAddr {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut came = vec![0; header.len()];
            if stream.read_exact(&mut came).await.is_err() || came != header {
                continue;
            }
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut head = [0; 4096];
            while stream.read(&mut head).await.is_ok_and(|n| n > 0) {
                let _ = stream.write_all(b"HTTP/1.1 200 Fine\r\ncontent-length: 0\r\n\r\n").await;
            }
        }
    });
    address
}

fn sealed_plan(address: SocketAddr, kind: CheckKind) -> PoolPlan {
    let mut plan = PoolPlan { check: quick(kind), ..plan(&[address]) };
    let tls = OriginatePlan { trust: Trust::Anybody, server_name: None, certificate: None };
    plan.backends[0].tls = Some(Arc::new(tls));
    plan
}

async fn finding(plan: PoolPlan) -> (BackendState, String) {
    let address = plan.backends[0].address.literal().unwrap();
    let pool = start(plan);
    pool.first_checks().await;
    let status = of(&pool, address);
    (status.state, status.last_check)
}

#[tokio::test]
async fn a_check_reaches_its_backend_as_clients_do_by_tls_and_with_a_proxy_header() {
    let http = || CheckKind::Http {
        path: "/".into(),
        host: None,
        expect_status: vec![(200, 200)],
        expect_body: None,
    };
    let (up, said) = finding(sealed_plan(sealed(b"").await, http())).await;
    assert_eq!((up, &*said), (BackendState::Up, "status 200"));

    let address = sealed(b"PROXY UNKNOWN\r\n").await;
    let told = PoolPlan { send_proxy: Some(HeaderVersion::V1), ..sealed_plan(address, http()) };
    let (up, said) = finding(told).await;
    assert_eq!((up, &*said), (BackendState::Up, "status 200"));

    // Accepting is not enough where clients need TLS.
    let dumb = Server::start().await;
    let (down, said) = finding(sealed_plan(dumb.address, CheckKind::Tcp)).await;
    assert_eq!(down, BackendState::Down);
    assert!(said.starts_with("no answer in"), "{said}");
    let plain = self::http("HTTP/1.1 200 Fine\r\n\r\n").await;
    let mut other = sealed_plan(sealed(b"").await, CheckKind::Tcp);
    other.check.port = Some(plain.port());
    let (up, said) = finding(other).await;
    assert_eq!((up, &*said), (BackendState::Up, "connected"), "a port of its own is plain");
}
