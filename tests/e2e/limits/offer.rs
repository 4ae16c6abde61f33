//! Real connections, offered at the times that were drawn, whatever becomes of the earlier ones.
//!
//! One thread with a runtime of its own, and for every connection a task: connect, wait for the
//! backend's first bytes (admitted) or for the end (refused), and go by a reset, which leaves no port
//! waiting. When it was begun and when it was decided is noted at this end, so that a busy machine
//! widens what is known of the moment of decision but never moves it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use tokio::time::{sleep_until, timeout};

use super::arrivals::Arrival;
use crate::harness::host::Host;

/// What a client waits for anything.
const PATIENCE: Duration = Duration::from_secs(3);
/// Connections under way at most: descriptors are not endless. Who comes on top is turned away here.
const MOST_UNDER_WAY: usize = 8000;

/// What became of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The backend spoke.
    Admitted,
    /// Closed in order, without a word.
    Refused,
    /// Anything else: nobody listens there, reset, no answer in time.
    Lost,
}

/// One connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Try {
    /// Which node was asked.
    pub(crate) node: usize,
    /// Behind its time.
    pub(crate) late: Duration,
    /// Not decided before this.
    pub(crate) start: Duration,
    /// Not decided after this.
    pub(crate) end: Duration,
    pub(crate) fate: Fate,
}

/// Where the nodes listen, and which of them clients are sent to: a balancer in front takes out
/// those that are known to be dead.
#[derive(Debug)]
pub(crate) struct Targets {
    addresses: Vec<SocketAddr>,
    used: Vec<AtomicBool>,
}

impl Targets {
    pub(crate) fn new(addresses: Vec<SocketAddr>) -> Targets {
        let used = addresses.iter().map(|_| AtomicBool::new(true)).collect();
        Targets { addresses, used }
    }

    /// Clients are sent to this node, or to the next one instead.
    pub(crate) fn set_used(&self, node: usize, used: bool) {
        self.used[node].store(used, Ordering::Relaxed);
    }

    fn pick(&self, wanted: usize) -> (usize, SocketAddr) {
        let all = self.addresses.len();
        let mut order = (0..all).map(|step| (wanted + step) % all);
        let node = order.find(|node| self.used[*node].load(Ordering::Relaxed)).unwrap_or(wanted);
        (node, self.addresses[node])
    }
}

/// Offers all arrivals from the host, `began` being their time 0; returns when all are decided.
pub(crate) fn offer(
    host: &Host,
    targets: &Arc<Targets>,
    arrivals: &[Arrival],
    began: Instant,
) -> Vec<Try> {
    host.inside(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, offer_all(targets, arrivals, began))
    })
}

async fn offer_all(targets: &Arc<Targets>, arrivals: &[Arrival], began: Instant) -> Vec<Try> {
    let under_way = Arc::new(AtomicUsize::new(0));
    let mut tasks = Vec::with_capacity(arrivals.len());
    for arrival in arrivals {
        let due = began + arrival.at;
        if due > Instant::now() {
            sleep_until(due.into()).await;
        } else if tasks.len() % 64 == 0 {
            // Late: those that are under way get their turn all the same.
            tokio::task::yield_now().await;
        }
        if under_way.load(Ordering::Relaxed) >= MOST_UNDER_WAY {
            continue;
        }
        under_way.fetch_add(1, Ordering::Relaxed);
        let (node, address) = targets.pick(arrival.node);
        let under_way = Arc::clone(&under_way);
        tasks.push(tokio::task::spawn_local(async move {
            let start = Instant::now();
            let fate = timeout(PATIENCE, one(address)).await.unwrap_or(Fate::Lost);
            let end = began.elapsed();
            under_way.fetch_sub(1, Ordering::Relaxed);
            let late = start.saturating_duration_since(due);
            Try { node, late, start: start.saturating_duration_since(began), end, fate }
        }));
    }
    let mut tries = Vec::with_capacity(tasks.len());
    for task in tasks {
        tries.push(task.await.expect("a client does not panic"));
    }
    tries
}

async fn one(address: SocketAddr) -> Fate {
    let Ok(mut stream) = TcpStream::connect(address).await else { return Fate::Lost };
    let fate = match stream.read(&mut [0; 64]).await {
        Ok(0) => Fate::Refused,
        Ok(_) => Fate::Admitted,
        Err(_) => Fate::Lost,
    };
    // Closed by a reset: thousands of ports would otherwise wait for a minute.
    let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    fate
}
