//! The end of a node, told in order: peers and balancers in front hear of it first, connections are
//! accepted a little longer, listeners close, live connections get their time, the cluster is left.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::boot::Node;
use crate::base::Draining;

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Every connection ended by itself.
    Whole,
    /// So many were cut when their time was over.
    Cut(u64),
}

impl Node {
    /// Drains and leaves; the node carries nothing afterwards. Takes at most `drain_delay` +
    /// `shutdown_timeout` + what leaving the cluster takes (about 2 s).
    pub async fn drain(&self) -> Drained {
        let plan = self.plan();
        self.draining.store(true, Relaxed);
        if let Some(cluster) = &self.cluster {
            cluster.leaving();
        }
        tracing::info!(
            drain_delay_s = plan.drain_delay.as_secs_f64(),
            connections = self.workers.live(),
            "draining: not ready any more"
        );
        sleep(plan.drain_delay).await;

        self.workers.unlisten_all().await;
        self.drain.say(Draining::Started);
        tracing::info!(
            shutdown_timeout_s = plan.shutdown_timeout.as_secs_f64(),
            connections = self.workers.live(),
            "listeners closed: live connections get their time"
        );
        let drained = self.wait_for_connections(plan.shutdown_timeout).await;

        if let Some(cluster) = &self.cluster {
            cluster.leave().await;
        }
        self.drain.say(Draining::Over);
        match drained {
            Drained::Whole => tracing::info!("drained: every connection ended by itself"),
            Drained::Cut(cut) => tracing::warn!(cut, "drained: connections were cut"),
        }
        drained
    }

    async fn wait_for_connections(&self, patience: Duration) -> Drained {
        if timeout(patience, self.workers.idle()).await.is_ok() {
            return Drained::Whole;
        }
        let cut = self.workers.live();
        self.workers.cut();
        // Cutting takes each worker one turn; a worker that cannot must not hold up the end.
        let _ = timeout(Duration::from_secs(1), self.workers.idle()).await;
        Drained::Cut(cut)
    }
}
