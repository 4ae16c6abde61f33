//! Acts brought into effect in this node, whoever ordered them.
//!
//! Bans and drains take effect at once. A change of a rule's backends is like a reload of that rule:
//! pools keep what did not change, new backends are checked, live connections keep what they began
//! with; it waits for a reload that is under way.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use tokio::sync::Notify;

use super::boot::Node;
use super::{build, overlay};
use crate::base::time;
use crate::cluster::acts::{Act, Order, Store, Subject};
use crate::config::Plan;
use crate::crdt::Register;
use crate::proxy::Snapshot;
use crate::traffic::Bans;

/// A flood of acts is brought into effect so often at most.
const GATHER: Duration = Duration::from_millis(20);

/// A ban, as people see it.
pub(super) struct Banned {
    pub(super) client: IpNet,
    pub(super) cut: bool,
    pub(super) ends: Option<Instant>,
    pub(super) by: String,
    /// About when it was ordered, milliseconds since 1970.
    pub(super) since_ms: u64,
}

/// Bans that end live connections, as last brought into effect, with their versions.
pub(super) type Cutting = HashMap<IpNet, u64>;

impl Node {
    /// Who is banned now, in the order of addresses.
    pub(super) fn bans(&self) -> Vec<Banned> {
        let now = time::now();
        let mut bans = self.acts.look(|store| banned(store, now));
        bans.sort_by_key(|ban| ban.client);
        bans
    }

    /// How many are banned now.
    pub(super) fn ban_count(&self) -> usize {
        let now = time::now();
        self.acts.look(|store| store.clients().filter(|(_, known)| known.value.holds(now)).count())
    }

    /// What acts say of backends.
    pub(super) fn overlay(&self) -> Vec<overlay::Listed> {
        let (plan, now) = (self.plan(), time::now());
        self.acts.look(|store| overlay::listed(&plan, store, now))
    }

    /// How many acts of each kind hold.
    pub(super) fn act_counts(&self) -> Vec<(&'static str, u64)> {
        let now = time::now();
        let mut counts = [("ban", 0), ("drain", 0), ("backend", 0)];
        self.acts.look(|store| {
            for (subject, _) in store.iter().filter(|(_, known)| known.value.holds(now)) {
                let at = match subject {
                    Subject::Client(_) => 0,
                    Subject::Drain(_) => 1,
                    Subject::Backend(_) => 2,
                };
                counts[at].1 += 1;
            }
        });
        counts.into()
    }

    /// Brings bans into effect, and cuts whom new ones cut.
    pub(super) fn publish_bans(&self) {
        let now = time::now();
        let bans: Vec<(IpNet, bool, u64)> = self.acts.look(|store| {
            store.clients().filter_map(|(subject, known)| ban(subject, known, now)).collect()
        });
        let cutting: Cutting = bans
            .iter()
            .filter(|(_, cut, _)| *cut)
            .map(|(client, _, version)| (*client, *version))
            .collect();
        let plain: Vec<(IpNet, bool)> =
            bans.iter().map(|(client, cut, _)| (*client, *cut)).collect();
        self.bans.publish(Bans::new(plain));
        let news = {
            let mut before = self.cutting.lock();
            let news = cutting.iter().any(|(client, version)| before.get(client) != Some(version));
            *before = cutting;
            news
        };
        if news {
            let cut = self.workers.cut_banned(&self.bans.current());
            if cut > 0 {
                tracing::info!(connections = cut, "live connections of banned clients are cut");
            }
        }
    }

    /// Tells each pool of `snapshot` who takes no new connections.
    pub(super) fn drain_pools(&self, plan: &Plan, snapshot: &Snapshot) {
        // One at a time, or who looked first might speak last.
        let _turn = self.draining_pools.lock();
        let now = time::now();
        for rule in &snapshot.rules {
            if let Some(file) = plan.rules.iter().find(|file| file.name == rule.plan.name) {
                rule.pool.drain(self.acts.look(|store| overlay::drained(file, store, now)));
            }
        }
    }

    /// Changes the pools whose backends the acts changed.
    async fn lay_acts(&self) {
        let same = |node: &Node| {
            let running = node.running();
            let snapshot = node.snapshot.current();
            running.rules.iter().all(|wanted| {
                let is = snapshot.rule(&wanted.name);
                is.is_none_or(|is| is.plan.pool.backends == wanted.pool.backends)
            })
        };
        if same(self) {
            return;
        }
        // The lock is the order of reloads; a reload that was faster has laid the acts as well.
        let _order = self.listeners.lock().await;
        if same(self) {
            return;
        }
        let previous = self.snapshot.current();
        let next = match build::snapshot(&self.running(), &previous, &self.rooms) {
            Ok(next) => next,
            // Only the access log can fail, which is open already.
            Err(error) => return tracing::error!(%error, "cannot change backends"),
        };
        self.put_in_place(next, &previous);
    }
}

/// A network of one address is written as the address.
pub(super) fn written(client: IpNet) -> String {
    if client.prefix_len() == client.max_prefix_len() {
        client.addr().to_string()
    } else {
        client.to_string()
    }
}

type Known = Register<Act>;

fn ban(subject: &Subject, known: &Known, now: Instant) -> Option<(IpNet, bool, u64)> {
    match (subject, known.value.order) {
        (Subject::Client(client), Order::Ban { cut }) if known.value.holds(now) => {
            Some((*client, cut, known.version))
        }
        _ => None,
    }
}

fn banned(store: &Store, now: Instant) -> Vec<Banned> {
    let shown = |(subject, known): (&Subject, &Known)| {
        let (client, cut, since_ms) = ban(subject, known, now)?;
        let act = &known.value;
        Some(Banned { client, cut, ends: act.ends, by: act.by.to_string(), since_ms })
    };
    store.clients().filter_map(shown).collect()
}

/// Brings bans and drains into effect, as they come and as they end.
pub(super) async fn keep_acts(node: Weak<Node>, changed: Arc<Notify>) {
    loop {
        let due = {
            let Some(node) = node.upgrade() else { return };
            let due = node.acts.sweep(time::now());
            node.publish_bans();
            node.drain_pools(&node.plan(), &node.snapshot.current());
            due
        };
        tokio::select! {
            () = changed.notified() => {}
            () = until(due) => {}
        }
        tokio::time::sleep(GATHER).await;
    }
}

/// Brings changes of backends into effect: by itself, for a reload that is under way may hold it up.
pub(super) async fn keep_overlay(node: Weak<Node>, changed: Arc<Notify>) {
    loop {
        {
            let Some(node) = node.upgrade() else { return };
            node.lay_acts().await;
        }
        changed.notified().await;
        tokio::time::sleep(GATHER).await;
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}
