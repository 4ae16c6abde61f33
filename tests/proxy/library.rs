//! The balancer as a library: a program accepts, and says who the client is and what it may use.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tidegate::base::Endpoint;
use tidegate::health::{CheckPlan, OutlierPlan};
use tidegate::proxy::Reason;
use tidegate::upstream::BackendState;
use tidegate::{BalanceError, Balancer, BalancerBuilder, Served, StartError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::support::backend::{Backend, nobody};
use crate::support::{SOON, bytes, until};

type Serving = JoinHandle<Result<Served, BalanceError>>;

/// A program of its own around a balancer.
struct Program {
    listener: TcpListener,
    balancer: Arc<Balancer>,
}

/// Without checks and ejection, so that only clients connect to backends.
fn builder(backends: &[SocketAddr]) -> BalancerBuilder {
    Balancer::builder()
        .backends(backends.iter().copied())
        .health_check(CheckPlan { kind: None, ..CheckPlan::default() })
        .outlier(OutlierPlan { failures: 0, ..OutlierPlan::default() })
}

/// Checks a hundred times a second.
fn checked_often() -> CheckPlan {
    CheckPlan { interval: Duration::from_millis(10), ..CheckPlan::default() }
}

impl Program {
    async fn of(builder: BalancerBuilder) -> Program {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Program { listener, balancer: Arc::new(builder.start().unwrap()) }
    }

    /// A client called `id`, and how it is served.
    async fn client(&self, id: &str, allowed: &[SocketAddr]) -> (TcpStream, Serving) {
        let client = TcpStream::connect(self.listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = self.listener.accept().await.unwrap();
        let (balancer, id, allowed) = (Arc::clone(&self.balancer), id.to_owned(), allowed.to_vec());
        let serving = tokio::spawn(async move { balancer.balance(stream, &id, &allowed).await });
        (client, serving)
    }

    fn active(&self, address: SocketAddr) -> u32 {
        let backends = self.balancer.backends();
        let found = backends.iter().find(|one| one.address.is_some_and(|at| at.0 == address));
        found.unwrap().active
    }
}

async fn ended(serving: Serving) -> Result<Served, BalanceError> {
    timeout(SOON, serving).await.expect("it is still served").unwrap()
}

/// The client reads an orderly end, though nobody read what it said.
async fn reads_the_end(mut client: TcpStream) {
    client.write_all(&bytes(4096, 1)).await.unwrap();
    let read = timeout(SOON, client.read(&mut [0; 8])).await.unwrap();
    assert_eq!(read.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_least_loaded_of_the_allowed_is_chosen_and_the_others_are_never_dialled() {
    let (one, two, denied) =
        (Backend::greeting("1").await, Backend::greeting("2").await, Backend::greeting("3").await);
    let program = Program::of(builder(&[one.address, two.address, denied.address])).await;
    let allowed = [one.address, two.address];
    let (mut stays, _serving) = program.client("client.a", &allowed).await;
    let busy = if stays.read_u8().await.unwrap() == b'1' { &one } else { &two };
    let free = if busy.address == one.address { &two } else { &one };
    // Turns would go back and forth.
    for round in 1..=4 {
        let (mut client, serving) = program.client("client.a", &allowed).await;
        client.read_u8().await.unwrap();
        drop(client);
        let served = ended(serving).await.unwrap();
        assert_eq!((served.backend, served.attempts), (free.address, 1), "round {round}");
        assert_eq!((busy.connections(), free.connections()), (1, round));
    }
    assert_eq!(denied.connections(), 0);
    assert_eq!((program.active(busy.address), program.active(free.address)), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_use_nothing_is_told_so_and_nobody_is_dialled() {
    let (one, other) = (Backend::echo().await, Backend::echo().await);
    let program = Program::of(builder(&[one.address])).await;
    for allowed in [&[][..], &[other.address]] {
        let (client, serving) = program.client("client.a", allowed).await;
        reads_the_end(client).await;
        assert!(matches!(ended(serving).await, Err(BalanceError::NotAllowed)));
    }
    assert_eq!((one.connections(), other.connections()), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_client_id_has_a_limit_of_its_own() {
    let backend = Backend::greeting("!").await;
    let allowed = [backend.address];
    let program = Program::of(builder(&allowed).rate_limit(0.001, 2.0)).await;
    for id in ["client.a", "client.b"] {
        for _ in 0..2 {
            let (mut client, serving) = program.client(id, &allowed).await;
            client.read_u8().await.unwrap();
            drop(client);
            ended(serving).await.unwrap();
        }
        let (client, serving) = program.client(id, &allowed).await;
        reads_the_end(client).await;
        let Err(BalanceError::RateLimited { retry_after }) = ended(serving).await else {
            panic!("{id} came in over its limit")
        };
        assert!(retry_after > Duration::from_secs(500), "{retry_after:?}");
    }
    assert_eq!(backend.connections(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_closed_connection_ends_with_its_other_half() {
    let backend = Backend::start(|mut stream| async move {
        let mut question = Vec::new();
        stream.read_to_end(&mut question).await.unwrap();
        stream.write_all(b"late answer").await.unwrap();
    })
    .await;
    let allowed = [backend.address];
    let program = Program::of(builder(&allowed)).await;
    let (mut client, serving) = program.client("client.a", &allowed).await;
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "late answer");
    let served = ended(serving).await.unwrap();
    assert_eq!((served.bytes_up, served.bytes_down), (8, 11));
    assert_eq!((served.outcome.reason, served.outcome.side.label()), (Reason::Ok, "client"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_ends_a_connection() {
    let backend = Backend::greeting("!").await;
    let allowed = [backend.address];
    let idle = Duration::from_millis(100);
    let program = Program::of(builder(&allowed).idle_timeout(idle)).await;
    let (mut client, serving) = program.client("client.a", &allowed).await;
    client.read_u8().await.unwrap();
    assert_eq!(ended(serving).await.unwrap().outcome.reason, Reason::IdleTimeout);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_future_gives_its_place_back() {
    let backend = Backend::greeting("!").await;
    let allowed = [backend.address];
    let limit = NonZeroU32::new(1).unwrap();
    let program = Program::of(builder(&allowed).backend_connection_limit(limit)).await;
    let (mut first, serving) = program.client("client.a", &allowed).await;
    first.read_u8().await.unwrap();
    let (second, refused) = program.client("client.a", &allowed).await;
    reads_the_end(second).await;
    assert!(matches!(ended(refused).await, Err(BalanceError::Full(_))));
    serving.abort();
    until("the place came back", || program.active(backend.address) == 0).await;
    assert_eq!(first.read(&mut [0; 8]).await.unwrap_or(0), 0);
    let (mut third, _serving) = program.client("client.a", &allowed).await;
    third.read_u8().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_backend_is_passed_over_and_seen_to_be_down() {
    let (backend, dead) = (Backend::greeting("!").await, nobody().await);
    let checked = Balancer::builder().backends([dead, backend.address]);
    let program = Program::of(checked.health_check(checked_often())).await;
    let (mut client, serving) = program.client("client.a", &[dead, backend.address]).await;
    client.read_u8().await.unwrap();
    drop(client);
    assert_eq!(ended(serving).await.unwrap().backend, backend.address);
    let states = || program.balancer.backends().into_iter().map(|one| one.state);
    until("one is down and the other is up", || {
        states().eq([BackendState::Down, BackendState::Up])
    })
    .await;

    let program = Program::of(builder(&[dead])).await;
    let (client, serving) = program.client("client.a", &[dead]).await;
    reads_the_end(client).await;
    assert!(matches!(ended(serving).await, Err(BalanceError::Connect(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_the_balancer_ends_its_tasks() {
    let backend = Backend::sink().await;
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let name: Endpoint = format!("localhost:{}", backend.address.port()).parse().unwrap();
    let balancer = Balancer::builder().backend(name).health_check(checked_often()).start().unwrap();
    until("it checks", || backend.connections() > 3).await;
    assert!(tasks() > before);
    drop(balancer);
    until("nothing of it runs", || tasks() == before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn bytes_stay_whole_where_tasks_change_threads() {
    const MUCH: usize = 16 * 1024 * 1024;
    let backend = Backend::echo().await;
    let program = Program::of(builder(&[backend.address])).await;
    let mut clients = Vec::new();
    for seed in 1..=6 {
        let (client, serving) = program.client("client.a", &[backend.address]).await;
        let (mut read, mut write) = client.into_split();
        clients.push(tokio::spawn(async move {
            let sent = bytes(MUCH, seed);
            let mut got = vec![0; MUCH];
            let write = async {
                write.write_all(&sent).await.unwrap();
                write.shutdown().await.unwrap();
            };
            // Now and then the reader is too slow, so that bytes lie in buffers and pipes.
            let read = async {
                for piece in got.chunks_mut(256 * 1024) {
                    tokio::task::yield_now().await;
                    read.read_exact(piece).await.unwrap();
                }
            };
            tokio::join!(write, read);
            assert!(got == sent, "bytes of client {seed} were changed on the way");
            ended(serving).await.unwrap()
        }));
    }
    for client in clients {
        let served = client.await.unwrap();
        assert_eq!((served.bytes_up, served.bytes_down), (MUCH as u64, MUCH as u64));
    }
}

#[tokio::test]
async fn what_cannot_be_started_says_why() {
    let (one, none): (SocketAddr, SocketAddr) =
        ("127.0.0.1:1".parse().unwrap(), "127.0.0.1:0".parse().unwrap());
    let fault = |builder: BalancerBuilder| builder.start().unwrap_err();
    assert!(matches!(fault(Balancer::builder()), StartError::NoBackend));
    assert!(matches!(fault(builder(&[one, one])), StartError::Twice(twice) if twice == one.into()));
    assert!(matches!(fault(builder(&[one, none])), StartError::NoPort(_)));
    let without_rate = builder(&[one]).rate_limit(0.0, 1.0);
    assert!(matches!(fault(without_rate), StartError::NoQuota { .. }));
    let elsewhere = std::thread::spawn(move || Balancer::new([one]).unwrap_err());
    assert!(matches!(elsewhere.join().unwrap(), StartError::NoRuntime));
}
