//! One worker: a thread with a runtime of its own, its own listening sockets and its own
//! connections. Nothing on a connection's way crosses to another thread.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::base::{Drain, Draining, ListenAddr, View};
use crate::net::Pauses;

use super::accept::accept;
use super::cut::Cut;
use super::door::Door;
use super::rule::Snapshot;

/// What the sessions of one worker share.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) index: usize,
    pub(super) snapshot: View<Snapshot>,
    pub(super) cut: Arc<Cut>,
    pub(super) live: Live,
    pub(super) pauses: Pauses,
    pub(super) lingering: AtomicU32,
}

/// Counts sessions and says when there are none.
#[derive(Debug, Default)]
pub(super) struct Live {
    count: AtomicU64,
    none: Notify,
}

/// What a worker is told to do.
pub(super) enum Command {
    /// Accept from this socket.
    Listen(ListenAddr, std::net::TcpListener),
    /// Empty the accept queue and close.
    Unlisten(ListenAddr),
    /// All of them.
    UnlistenAll,
    /// Answer when everything told before is done.
    Report(oneshot::Sender<()>),
}

/// An accept loop and the way to end it.
struct Listening {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// Runs on the worker's runtime until the node lets go of the command channel.
pub(super) async fn work(
    worker: Arc<Worker>,
    mut commands: mpsc::UnboundedReceiver<Command>,
    mut drain: Drain,
) {
    let mut listening: HashMap<ListenAddr, Listening> = HashMap::new();
    let mut closing: Vec<JoinHandle<()>> = Vec::new();
    let mut cut = false;
    loop {
        let command = tokio::select! {
            command = commands.recv() => command,
            () = drain.reached(Draining::Over), if !cut => {
                cut = true;
                worker.cut.say();
                continue;
            }
        };
        match command {
            None => return,
            Some(Command::Listen(address, socket)) => {
                let previous = listen(&worker, address, socket)
                    .and_then(|begun| listening.insert(address, begun));
                closing.extend(previous.map(Listening::stop));
            }
            Some(Command::Unlisten(address)) => {
                closing.extend(listening.remove(&address).map(Listening::stop));
            }
            Some(Command::UnlistenAll) => {
                closing.extend(listening.drain().map(|(_, gone)| gone.stop()));
            }
            Some(Command::Report(answer)) => {
                for task in closing.drain(..) {
                    // An accept loop that panicked is closed as well.
                    let _ = task.await;
                }
                let _ = answer.send(());
            }
        }
        closing.retain(|task| !task.is_finished());
    }
}

fn listen(
    worker: &Arc<Worker>,
    address: ListenAddr,
    socket: std::net::TcpListener,
) -> Option<Listening> {
    let listener = match TcpListener::from_std(socket) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%address, %error, "a listener cannot be watched; this worker does not serve it");
            return None;
        }
    };
    let door = Arc::new(Door::new(Arc::clone(worker), address));
    let (stop, stopped) = oneshot::channel();
    Some(Listening { stop, task: tokio::spawn(accept(listener, door, stopped)) })
}

impl Worker {
    pub(super) fn new(index: usize, snapshot: View<Snapshot>) -> Self {
        Worker {
            index,
            snapshot,
            cut: Arc::default(),
            live: Live::default(),
            pauses: Pauses::default(),
            lingering: AtomicU32::new(0),
        }
    }
}

impl Listening {
    fn stop(self) -> JoinHandle<()> {
        // An error means that it has ended already.
        let _ = self.stop.send(());
        self.task
    }
}

impl Live {
    pub(super) fn enter(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn leave(&self) {
        if self.count.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.none.notify_waiters();
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Waits until there is none.
    pub(super) async fn idle(&self) {
        loop {
            let none = self.none.notified();
            if self.count() == 0 {
                return;
            }
            none.await;
        }
    }
}
