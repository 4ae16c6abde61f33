//! Many nodes' pools over the same backends, with a window between them that loses nothing.

use super::*;
use crate::base::RuleName;
use crate::health::Verdicts;

/// What every node has found, and who of them can be heard.
#[derive(Default)]
struct Cluster {
    nodes: Mutex<Vec<Node>>,
}

struct Node {
    id: u64,
    verdicts: Arc<Verdicts>,
    /// It is alive and not muted.
    heard: bool,
}

/// One node's look at the others.
struct Window(Arc<Cluster>, u64);

impl Peers for Window {
    fn votes(&self, backend: &BackendKey) -> Vec<Vote> {
        let nodes = self.0.nodes.lock();
        let vote = |node: &Node| {
            let fresh = node.verdicts.fresh(time::now());
            let (_, own) = fresh.into_iter().find(|(key, _)| key == backend)?;
            let observer = NodeName(format!("n{}", node.id).into());
            Some(Vote { observer, node: NodeId(node.id), report: own.report })
        };
        nodes.iter().filter(|node| node.heard && node.id != self.1).filter_map(vote).collect()
    }

    fn rota(&self) -> Rota {
        let nodes = self.0.nodes.lock();
        let others = nodes.iter().filter(|node| node.heard && node.id != self.1);
        let all = std::iter::once(self.1).chain(others.map(|node| node.id)).map(NodeId);
        Rota { own: NodeId(self.1), nodes: all.collect(), all_below: 5 }
    }
}

impl Cluster {
    fn start(nodes: u64, plan: &PoolPlan) -> (Arc<Cluster>, Vec<Arc<Pool>>) {
        let cluster = Arc::new(Cluster::default());
        let each = (1..=nodes).map(|id| {
            let windows = windows();
            let verdicts = Arc::clone(&windows.verdicts);
            cluster.nodes.lock().push(Node { id, verdicts, heard: true });
            let peers = Arc::new(Window(Arc::clone(&cluster), id));
            Pool::start(plan.clone(), PoolWindows { peers, ..windows }, None, id)
        });
        let pools = each.collect();
        (cluster, pools)
    }

    fn hear(&self, id: u64, heard: bool) {
        self.nodes.lock().iter_mut().filter(|n| n.id == id).for_each(|n| n.heard = heard);
    }
}

fn checkers(pools: &[Arc<Pool>], address: SocketAddr) -> Vec<u64> {
    let checks = |(_, pool): &(u64, &Arc<Pool>)| of(pool, address).checked_here;
    (1..).zip(pools).filter(checks).map(|(id, _)| id).collect()
}

/// Checks that arrive at a server within two seconds, per second.
async fn rate(server: &Server) -> f64 {
    let before = server.accepted.lock().len();
    let began = time::now();
    tokio::time::sleep(Duration::from_secs(2)).await;
    (server.accepted.lock().len() - before) as f64 / began.elapsed().as_secs_f64()
}

fn plan_of(addresses: &[SocketAddr]) -> PoolPlan {
    let mut plan = checked(addresses);
    plan.check.interval = Duration::from_millis(200);
    plan
}

#[tokio::test]
async fn a_backend_is_checked_by_three_of_many_and_all_know_when_it_dies_and_returns() {
    let (a, b) = (Server::start().await, Server::start().await);
    let (address, other) = (a.address, b.address);
    let (_cluster, pools) = Cluster::start(12, &plan_of(&[address, other]));
    until("three check each", || {
        [address, other].iter().all(|at| checkers(&pools, *at).len() == 3)
    })
    .await;
    // Three nodes, a check every 180 to 200 ms each; twelve would ask 60 times a second.
    let rate = rate(&a).await;
    assert!((10.0..24.0).contains(&rate), "{rate} checks a second");
    a.stop().await;
    until("all know it is down", || {
        pools.iter().all(|pool| state(pool, address) == BackendState::Down)
    })
    .await;
    assert!(pools.iter().all(|pool| state(pool, other) == BackendState::Up));
    let here = checkers(&pools, address);
    assert!(here.len() <= 4, "a dead backend is not asked by all: {here:?}");
    let _again = Server::at(address).await;
    until("all know it is back", || {
        pools.iter().all(|pool| state(pool, address) == BackendState::Up)
    })
    .await;
}

#[tokio::test]
async fn when_checkers_fall_silent_others_follow_and_no_live_backend_is_dropped() {
    let a = Server::start().await;
    let (cluster, pools) = Cluster::start(12, &plan_of(&[a.address]));
    until("three check", || checkers(&pools, a.address).len() == 3).await;
    let first = checkers(&pools, a.address);
    // All three at once, which is the worst.
    first.iter().for_each(|id| cluster.hear(*id, false));
    until("three others check", || {
        let now: Vec<u64> =
            checkers(&pools, a.address).into_iter().filter(|id| !first.contains(id)).collect();
        assert!(pools.iter().all(|pool| state(pool, a.address) == BackendState::Up));
        now.len() == 3
    })
    .await;
    let address = a.address;
    a.stop().await;
    until("its death is known all the same", || {
        pools.iter().all(|pool| state(pool, address) == BackendState::Down)
    })
    .await;
}

#[tokio::test]
async fn a_relieved_node_whose_connect_fails_looks_for_itself_at_once() {
    // Its peers are on the other side of something: to them the backend is up.
    let (cut_off, b) = (dead(), Server::start().await);
    let mut plan = plan_of(&[cut_off.1, b.address]);
    // Only the first check and one that is asked for come in time.
    plan.check.interval = Duration::from_secs(3600);
    plan.check.fall = 1;
    let cluster = Arc::new(Cluster::default());
    let key = |address| BackendKey { rule: RuleName::from("web"), address };
    let now = time::now();
    for id in 1..=12 {
        let verdicts = Arc::new(Verdicts::default());
        for address in [cut_off.1, b.address] {
            let until = now + Duration::from_secs(60);
            verdicts.note(&key(address), now, sighting(Verdict::Up, until));
        }
        cluster.nodes.lock().push(Node { id, verdicts, heard: true });
    }
    // A node id that stands behind three speakers for both backends.
    let own = (100..).find(|own| {
        let window = Window(Arc::clone(&cluster), *own);
        let rota = window.rota();
        [cut_off.1, b.address].iter().all(|address| {
            let key = key(*address);
            rota.duty(key.id(), &window.votes(&key)) == Duty::Off
        })
    });
    let windows =
        PoolWindows { peers: Arc::new(Window(Arc::clone(&cluster), own.unwrap())), ..windows() };
    let pool = Pool::start(plan, windows, None, 1);
    until("it takes their word", || of(&pool, b.address).votes.len() == 12).await;
    until("its own first check of the cut-off one has failed", || {
        state(&pool, cut_off.1) == BackendState::Down
    })
    .await;
    // The verdict is its own and differs from theirs: it goes on checking that one alone.
    assert!(of(&pool, cut_off.1).checked_here);
    until("it leaves the other to the others", || !of(&pool, b.address).checked_here).await;
    let address = b.address;
    b.stop().await;
    assert_eq!(state(&pool, address), BackendState::Up, "nobody has looked yet");
    let _ = pool.dial(client(), None).await;
    until("a failed connect made it look", || state(&pool, address) == BackendState::Down).await;
}

fn sighting(verdict: Verdict, until: std::time::Instant) -> crate::health::Sighting {
    crate::health::Sighting { verdict, streak: 1, latency: None, settled: until, until }
}
