//! A pool's tasks, on the control runtime. They hold the core, and the core's board holds them:
//! closing the pool cuts the knot.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::Notify;
use tokio::time::sleep_until;

use super::check::{Target, check};
use super::core::Core;
use super::slot::Slot;
use crate::base::time;

/// Least pause between two checks of a backend, whatever the plan says.
const LEAST_INTERVAL: Duration = Duration::from_millis(10);
/// How often the peers' votes are read.
const PEERS_EVERY: Duration = Duration::from_millis(250);
/// How long an address is believed, whatever the name server says.
const LEAST_VALID: Duration = Duration::from_secs(1);
const MOST_VALID: Duration = Duration::from_secs(60);
/// Longest pause after a name could not be resolved.
const MOST_BACKOFF: Duration = Duration::from_secs(10);

/// Checks one backend: at once, then every interval unless other nodes do, and whenever it is
/// poked.
pub(super) async fn check_for_ever(core: Arc<Core>, slot: Arc<Slot>, poke: Arc<Notify>) {
    let plan = &core.plan;
    let address = slot.account.address;
    let name = slot.name.to_string();
    let target = Target {
        address,
        name: &name,
        tcp: &plan.tcp,
        send_proxy: plan.send_proxy,
        tls: slot.tls.as_ref(),
    };
    let mut rng = StdRng::seed_from_u64(core.seed ^ slot.id);
    loop {
        let began = time::now();
        let found = check(&plan.check, target).await;
        let now = time::now();
        core.checked(address, found, now.saturating_duration_since(began), now);
        // Up to a tenth early, never late: nodes that started together drift apart, and a dead
        // backend is found within the promised time.
        let pause = plan.check.interval.mul_f64(rng.random_range(0.9..=1.0));
        tokio::select! {
            () = turn(&core, address, began + pause.max(LEAST_INTERVAL)) => {}
            () = poke.notified() => {}
        }
    }
}

/// Waits until the next check is due; for ever when other nodes check by then: who is taken on
/// again is poked.
async fn turn(core: &Core, address: SocketAddr, at: Instant) {
    sleep_until(at.into()).await;
    if core.relieved(address) {
        std::future::pending().await
    }
}

/// Resolves the name of origin `origin` again and again. A failure changes nothing.
pub(super) async fn resolve_for_ever(core: Arc<Core>, origin: usize) {
    let host = &core.plan.backends[origin].address.host;
    let mut backoff = LEAST_VALID;
    loop {
        let pause = match core.windows.resolver.resolve(host).await {
            Ok(resolved) => {
                core.resolved(origin, &resolved.addresses, time::now());
                backoff = LEAST_VALID;
                resolved.valid_for.clamp(LEAST_VALID, MOST_VALID)
            }
            Err(error) => {
                core.unresolved(origin, error.to_string(), time::now());
                let pause = backoff;
                backoff = (backoff * 2).min(MOST_BACKOFF);
                pause
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Does what comes by time: the end of ejections, slow starts, the peers' votes.
pub(super) async fn keep_for_ever(core: Arc<Core>) {
    let alone = core.windows.peers.alone();
    loop {
        let now = time::now();
        if !alone {
            core.hear_peers(now);
        }
        let change = core.tick(now);
        let peers = (!alone).then(|| now + PEERS_EVERY);
        let next = change.into_iter().chain(peers).min();
        tokio::select! {
            () = until(next) => {}
            () = core.stir.notified() => {}
        }
    }
}

async fn until(next: Option<Instant>) {
    match next {
        Some(next) => sleep_until(next.into()).await,
        None => std::future::pending().await,
    }
}
