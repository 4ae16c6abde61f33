use super::*;

/// Peers that say what the test told them.
#[derive(Default)]
struct Told(Mutex<HashMap<SocketAddr, Vec<Verdict>>>);

impl Told {
    fn tell(&self, address: SocketAddr, verdicts: &[Verdict]) {
        self.0.lock().insert(address, verdicts.to_vec());
    }
}

impl Peers for Told {
    fn votes(&self, backend: &BackendKey) -> Vec<Vote> {
        let told = self.0.lock().get(&backend.address).cloned().unwrap_or_default();
        let cast = |(number, verdict): (u64, Verdict)| Vote {
            observer: NodeName(format!("n{number}").into()),
            node: NodeId(number),
            report: Report::first(verdict, time::now()),
        };
        (1..).zip(told).map(cast).collect()
    }
}

fn start_with(plan: PoolPlan, peers: &Arc<Told>) -> Arc<Pool> {
    let peers = Arc::clone(peers) as Arc<dyn Peers>;
    Pool::start(plan, PoolWindows { peers, ..windows() }, None, 1)
}

#[tokio::test]
async fn a_backend_that_most_peers_see_down_gets_half_and_is_checked_at_once() {
    let (a, b) = (Server::start().await, Server::start().await);
    let peers = Arc::new(Told::default());
    let mut plan = checked(&[a.address, b.address]);
    plan.check.interval = Duration::from_secs(3600);
    let pool = start_with(plan, &peers);
    pool.first_checks().await;
    let seen = || a.accepted.lock().len();
    until("the first check came", || seen() == 1).await;
    peers.tell(a.address, &[Verdict::Down, Verdict::Down]);
    until("it is checked at once", || seen() == 2).await;
    let went = spread(&pool, 30).await;
    assert_eq!((went[&a.address], went[&b.address]), (10, 20));
    assert_eq!(state(&pool, a.address), BackendState::Up);
    assert_eq!(of(&pool, a.address).votes.len(), 2);
}

#[tokio::test]
async fn own_down_is_final() {
    let (dead, live) = (dead(), Server::start().await);
    let peers = Arc::new(Told::default());
    peers.tell(dead.1, &[Verdict::Up, Verdict::Up]);
    let pool = start_with(checked(&[dead.1, live.address]), &peers);
    pool.first_checks().await;
    until("the votes are heard", || of(&pool, dead.1).votes.len() == 2).await;
    assert_eq!(state(&pool, dead.1), BackendState::Down);
}

#[tokio::test]
async fn before_the_first_result_the_peers_majority_speaks() {
    // Connects, and never answers: the check stays without a result.
    let (a, b) = (Server::start().await, Server::start().await);
    let kind = CheckKind::Http {
        path: "/".into(),
        host: None,
        expect_status: vec![(200, 200)],
        expect_body: None,
    };
    let peers = Arc::new(Told::default());
    let mut plan = PoolPlan { check: quick(kind), ..plan(&[a.address, b.address]) };
    plan.check.timeout = Duration::from_secs(3600);
    peers.tell(a.address, &[Verdict::Down]);
    peers.tell(b.address, &[Verdict::Up]);
    let pool = start_with(plan, &peers);
    until("the votes are heard", || state(&pool, a.address) == BackendState::Down).await;
    assert_eq!(state(&pool, b.address), BackendState::Up);
    assert_eq!(spread(&pool, 4).await, HashMap::from([(b.address, 4)]));
}
