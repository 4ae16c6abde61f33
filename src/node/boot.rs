//! From a plan to a running node.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::acts::{Cutting, keep_acts, keep_overlay};
use super::build::{self, Rooms};
use super::expiry::watch_expiry;
use super::journal::Journal;
use super::listeners::{ListenError, Listeners};
use super::overlay;
use super::report::Report;
use super::tickets::keep_tickets;
use crate::admin::{self, ServerPlan};
use crate::balance::Tally;
use crate::base::drain::DrainSignal;
use crate::base::{
    Actor, BootId, Drain, NodeId, NodeName, Publisher, drain_signal, publish_and_view,
    spawn_supervised, stable_hash, time,
};
use crate::cluster::acts::Acts;
use crate::cluster::{Cluster, ClusterError, Windows};
use crate::config::{Plan, Seen};
use crate::health::{NoPeers, Peers, Verdicts};
use crate::net::tls::TicketKeys;
use crate::net::{ResolveError, Resolver};
use crate::proxy::{Snapshot, Workers};
use crate::traffic::{Bans, Holdings, Limits, SharedPace};

/// How long a node waits for its cluster before it is ready without it.
const CLUSTER_PATIENCE: Duration = Duration::from_secs(3);

/// A running node. Dropping it ends everything at once; [`Node::drain`] ends it in order.
pub struct Node {
    pub(super) name: NodeName,
    pub(super) started: Instant,
    /// What was started with; `workers`, `admin` and `cluster` stay so until a restart.
    pub(super) first: Plan,
    pub(super) plan: ArcSwap<Plan>,
    pub(super) journal: Journal,
    pub(super) snapshot: Publisher<Snapshot>,
    pub(super) digest: Publisher<String>,
    pub(super) rooms: Rooms,
    pub(super) listeners: tokio::sync::Mutex<Listeners>,
    pub(super) workers: Workers,
    pub(super) cluster: Option<Cluster>,
    pub(super) acts: Arc<Acts>,
    pub(super) bans: Publisher<Bans>,
    pub(super) cutting: Mutex<Cutting>,
    /// Held by whoever tells the pools who is drained.
    pub(super) draining_pools: Mutex<()>,
    acting: Mutex<Vec<JoinHandle<()>>>,
    pub(super) draining: AtomicBool,
    pub(super) serving: AtomicBool,
    pub(super) drain: DrainSignal,
    /// Asked for by `tidegate leave`; heard by whoever runs the node.
    pub(super) asked_to_leave: tokio::sync::Notify,
    /// Why the keys as they are in their file are not used, while that stands.
    pub(super) keys_fault: Mutex<Option<String>>,
    /// Why certificates as they are in their files are not used, while that stands.
    pub(super) certificates_fault: Mutex<Option<String>>,
    /// The files that a refused configuration names, while that stands.
    pub(super) at_fault: Mutex<Seen>,
    /// Held by whoever reads files and takes them over, so that none undoes another's work.
    pub(super) reloading: tokio::sync::Mutex<()>,
    admin: Mutex<Option<JoinHandle<()>>>,
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// A rule's listener.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The admin listener.
    #[error("cannot listen for admin on {address}: {error}; choose another `admin.listen`")]
    Admin {
        /// `admin.listen`.
        address: std::net::SocketAddr,
        /// The system's answer.
        error: std::io::Error,
    },
    /// Names.
    #[error("cannot set up name resolution: {0}")]
    Resolver(#[from] ResolveError),
    /// The cluster wing.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// Threads.
    #[error("cannot start workers: {0}")]
    Workers(std::io::Error),
    /// What rules are made of.
    #[error(transparent)]
    Build(#[from] build::BuildError),
}

impl Node {
    /// Starts a node and waits until it serves: first checks done, listeners bound. Must be called
    /// on the control runtime, where checks, names and admin then run.
    ///
    /// # Errors
    /// Whatever the plan asks for and the system refuses; nothing keeps running then.
    pub async fn start(plan: Plan) -> Result<Arc<Node>, BootError> {
        let started = time::now();
        let resolver = Resolver::from_system()?;
        let verdicts = Arc::new(Verdicts::default());
        let tally = Arc::new(Tally::default());
        let limits = Arc::new(Limits::default());
        let holdings = Arc::new(Holdings::default());
        let pace = Arc::new(SharedPace::default());
        let tickets = TicketKeys::new();
        let (digest, digest_view) = publish_and_view(plan.digest.clone());

        // The admin address first: probes should be answered from the start.
        let address = plan.admin.listen;
        let admin_listener = TcpListener::bind(address)
            .await
            .map_err(|error| BootError::Admin { address, error })?;

        let name = match &plan.cluster {
            Some(cluster) => cluster.node_name.clone(),
            None => "local".into(),
        };
        let acts = Acts::new(writer(), &name);
        let cluster = match &plan.cluster {
            Some(cluster) => Some(Cluster::start(
                cluster.clone(),
                Windows {
                    ledger: limits.clone(),
                    levels: limits.clone(),
                    holder: holdings.clone(),
                    paced: pace.clone(),
                    verdicts: verdicts.clone(),
                    acts: acts.clone(),
                    tally: tally.clone(),
                    tickets: tickets.clone(),
                    config_digest: digest_view,
                    resolver: resolver.clone(),
                },
            )?),
            None => None,
        };
        if let Some(cluster) = &cluster {
            limits.ask_by(cluster.asking());
            holdings.ask_by(cluster.asking());
        }
        let peers: Arc<dyn Peers> = match &cluster {
            Some(cluster) => cluster.peers(),
            None => Arc::new(NoPeers),
        };
        // The same on every node: the keys' salt, or in plaintext what the label gives.
        let salt = plan.cluster.as_ref().map_or(0, |cluster| match &cluster.keys {
            Some(keys) => keys.ring.salt(),
            None => stable_hash(0, cluster.label.as_bytes()),
        });
        let rooms = Rooms {
            resolver,
            verdicts,
            peers,
            limits,
            holdings,
            pace,
            tickets,
            tally,
            salt,
            secret: rand::random(),
        };

        let (signal, drain) = drain_signal();
        let (snapshot, view) = publish_and_view(Snapshot::empty());
        let (bans, _) = publish_and_view(Bans::default());
        let [changed, overlay_changed] = [(); 2].map(|()| Arc::new(Notify::new()));
        for wake in [Arc::clone(&changed), Arc::clone(&overlay_changed)] {
            acts.on_change(move || wake.notify_one());
        }
        let workers =
            Workers::start(plan.workers, view, drain.clone()).map_err(BootError::Workers)?;

        let node = Arc::new(Node {
            name,
            started,
            journal: Journal::begin(&plan.digest),
            plan: ArcSwap::from_pointee(plan.clone()),
            first: plan,
            snapshot,
            digest,
            rooms,
            listeners: tokio::sync::Mutex::default(),
            workers,
            cluster,
            acts,
            bans,
            cutting: Mutex::default(),
            draining_pools: Mutex::new(()),
            acting: Mutex::default(),
            draining: AtomicBool::new(false),
            serving: AtomicBool::new(false),
            drain: signal,
            asked_to_leave: tokio::sync::Notify::new(),
            keys_fault: Mutex::new(None),
            certificates_fault: Mutex::new(None),
            at_fault: Mutex::default(),
            reloading: tokio::sync::Mutex::default(),
            admin: Mutex::new(None),
        });
        node.serve_admin(admin_listener, drain);
        if node.cluster.is_none() {
            let keeping = keep_tickets(&node.rooms.tickets);
            node.acting.lock().push(spawn_supervised("tickets", keeping));
        }
        // What the disk kept holds before anybody is served.
        node.publish_bans();
        if let Err(error) = node.take_over(node.first.clone()).await {
            // Peers may know this node already: it has left, it has not failed.
            if let Some(cluster) = &node.cluster {
                cluster.leave().await;
            }
            return Err(error);
        }
        node.serving.store(true, Relaxed);
        let acting = keep_acts(Arc::downgrade(&node), changed);
        let laying = keep_overlay(Arc::downgrade(&node), overlay_changed);
        let expiry = watch_expiry(Arc::downgrade(&node));
        let acting = [
            spawn_supervised("acts", acting),
            spawn_supervised("overlay", laying),
            spawn_supervised("expiry", expiry),
        ];
        node.acting.lock().extend(acting);
        node.say_started();
        Ok(node)
    }

    /// Builds what `plan` asks for, waits for first checks of what is new, binds, publishes. An
    /// error leaves everything as it was.
    pub(super) async fn take_over(&self, plan: Plan) -> Result<(), BootError> {
        // One at a time: the lock is the order of reloads.
        let mut listeners = self.listeners.lock().await;
        let previous = self.snapshot.current();
        let bound = {
            let wanted = plan.rules.iter().flat_map(|rule| rule.listen.iter().copied());
            listeners.bind(wanted, self.first.workers, &plan.tcp)?
        };
        let laid = self.acts.look(|store| overlay::laid(&plan, store, time::now()));
        let next = build::snapshot(&laid, &previous, &self.rooms)?;
        build::first_checks(&next, &previous).await;

        // Those who wait at a listener that goes are still served by the rule they came for.
        listeners.close_unwanted(&bound, &self.workers).await;
        self.digest.publish(plan.digest.clone());
        self.plan.store(Arc::new(plan));
        self.put_in_place(next, &previous);
        listeners.open(bound, &self.workers);
        Ok(())
    }

    /// Has `next` take the place of `previous`.
    pub(super) fn put_in_place(&self, mut next: Snapshot, previous: &Snapshot) {
        next.bans = self.bans.view();
        self.rooms.limits.replace(build::limiters(&next));
        let plan = self.plan();
        self.drain_pools(&plan, &next);
        let next = Arc::new(next);
        self.snapshot.publish_shared(Arc::clone(&next));
        build::close_replaced(&next, previous);
        // Once more: a drain that came in between looked at the pools that were there before.
        self.drain_pools(&plan, &next);
    }

    /// Opens the access log's file anew, as log rotation needs it.
    pub fn reopen_access_log(&self) {
        if let Some(log) = &self.snapshot.current().access_log {
            log.reopen();
        }
    }

    /// The plan that runs.
    pub fn plan(&self) -> Arc<Plan> {
        self.plan.load_full()
    }

    /// Ends when somebody asked this node to leave (`tidegate leave`).
    pub async fn asked_to_leave(&self) {
        self.asked_to_leave.notified().await;
    }

    /// `Err` with every reason why this node should get no new traffic.
    pub fn ready(&self) -> Result<(), Vec<String>> {
        let mut reasons = Vec::new();
        if self.draining.load(Relaxed) {
            reasons.push("draining".to_owned());
        }
        if !self.serving.load(Relaxed) {
            reasons.push("first health checks are not done, listeners are not bound".to_owned());
        }
        if let Some(cluster) = &self.cluster {
            if !cluster.answered() && time::now() - self.started < CLUSTER_PATIENCE {
                reasons.push("no cluster peer has answered yet".to_owned());
            }
            if cluster.impaired() {
                reasons.push("impaired: peers see this node's network as ill".to_owned());
            }
        }
        if reasons.is_empty() { Ok(()) } else { Err(reasons) }
    }

    fn serve_admin(self: &Arc<Self>, listener: TcpListener, drain: Drain) {
        // Weak, or the node would hold itself alive through its own admin listener.
        let sources = Arc::new(Report(Arc::downgrade(self)));
        let token = self.first.admin.token.clone();
        let serving = admin::serve(ServerPlan::new(token), listener, sources, drain);
        *self.admin.lock() = Some(spawn_supervised("admin", serving));
    }

    fn say_started(&self) {
        let plan = self.plan();
        for rule in &plan.rules {
            tracing::info!(rule = %rule.name, listen = ?rule.listen, "listening");
        }
        tracing::info!(
            node = %self.name,
            version = env!("CARGO_PKG_VERSION"),
            workers = self.first.workers,
            admin = %plan.admin.listen,
            "started"
        );
    }
}

/// Who orders here: nobody else ever, and no former start of this node.
fn writer() -> Actor {
    Actor { node: NodeId(rand::random()), boot: BootId::new(0) }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.acting.lock().iter().for_each(JoinHandle::abort);
        if let Some(admin) = self.admin.lock().take() {
            admin.abort();
        }
    }
}
