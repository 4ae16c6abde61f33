//! All workers of a node, as the node sees them.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::runtime;
use tokio::sync::{mpsc, oneshot};

use crate::base::{Drain, ListenAddr, View};
use crate::traffic::Bans;

use super::rule::Snapshot;
use super::worker::{Command, Worker, work};

/// The worker threads. Dropping them ends their connections.
#[derive(Debug)]
pub struct Workers(Vec<Hand>);

/// The node's hold on one worker.
#[derive(Debug)]
struct Hand {
    worker: Arc<Worker>,
    /// Unbounded, for only the node speaks here, a few words per reload. `None` while dropping.
    commands: Option<mpsc::UnboundedSender<Command>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Workers {
    /// Starts `n` threads (at least one), which serve what `snapshot` shows. When `drain` is over,
    /// live connections are cut.
    ///
    /// # Errors
    /// No thread or no runtime can be had.
    pub fn start(n: usize, snapshot: View<Snapshot>, drain: Drain) -> io::Result<Workers> {
        (0..n.max(1))
            .map(|index| Hand::start(index, snapshot.clone(), drain.clone()))
            .collect::<io::Result<_>>()
            .map(Workers)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Hands each worker one of `sockets`, all bound to `address`; accepting begins at once. The
    /// rule is looked up by `address` in the snapshot whenever a connection comes, so publish it
    /// first.
    pub fn listen(&self, address: ListenAddr, sockets: Vec<TcpListener>) {
        for (socket, hand) in sockets.into_iter().zip(self.0.iter().cycle()) {
            hand.tell(Command::Listen(address, socket));
        }
    }

    /// Takes everybody who waits in the accept queues of `address`, then closes them. Live
    /// connections stay.
    pub fn unlisten(&self, address: ListenAddr) {
        self.0.iter().for_each(|hand| hand.tell(Command::Unlisten(address)));
    }

    /// [`Workers::unlisten`] for every address; returns when all are closed.
    pub async fn unlisten_all(&self) {
        self.0.iter().for_each(|hand| hand.tell(Command::UnlistenAll));
        self.settled().await;
    }

    /// Returns when everything said to the workers so far is done.
    pub async fn settled(&self) {
        let answers: Vec<_> = self
            .0
            .iter()
            .map(|hand| {
                let (tell, answer) = oneshot::channel();
                hand.tell(Command::Report(tell));
                answer
            })
            .collect();
        for answer in answers {
            // A worker that is gone has nothing left to do.
            let _ = answer.await;
        }
    }

    /// Live connections, refused ones on their way out included.
    pub fn live(&self) -> u64 {
        self.0.iter().map(|hand| hand.worker.live.count()).sum()
    }

    /// Returns when no connection lives.
    pub async fn idle(&self) {
        while self.live() > 0 {
            for hand in &self.0 {
                hand.worker.live.idle().await;
            }
        }
    }

    /// Ends all live connections with the outcome `shutdown_cut`, and any that comes later.
    pub fn cut(&self) {
        self.0.iter().for_each(|hand| hand.worker.cut.say());
    }

    /// Ends the live connections of clients whose ban says so, with the outcome `ban_cut`; how many.
    /// Publish the bans first.
    pub fn cut_banned(&self, bans: &Bans) -> usize {
        self.0.iter().map(|hand| hand.worker.cut.clients(|client| bans.cuts(client))).sum()
    }

    /// How often accepting paused, by cause.
    pub fn accept_pauses(&self) -> Vec<(&'static str, u64)> {
        let mut total = Vec::new();
        self.0.iter().for_each(|hand| hand.worker.pauses.add_to(&mut total));
        total
    }
}

/// Rings once per second, for nothing. A runtime at rest sleeps until its earliest timer, and a
/// timer earlier than that has to wake it by a system call: without the beat that is the time limit
/// of every connect, as long as no other is under way.
async fn beat() {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

impl Hand {
    fn start(index: usize, snapshot: View<Snapshot>, drain: Drain) -> io::Result<Hand> {
        let worker = Arc::new(Worker::new(index, snapshot));
        let (commands, told) = mpsc::unbounded_channel();
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = thread::Builder::new().name(format!("worker-{index}")).spawn({
            let worker = Arc::clone(&worker);
            move || {
                runtime.spawn(beat());
                runtime.block_on(work(worker, told, drain));
            }
        })?;
        Ok(Hand { worker, commands: Some(commands), thread: Some(thread) })
    }

    fn tell(&self, command: Command) {
        if let Some(commands) = &self.commands {
            // An error means that the worker is gone, and so is what it should have ended.
            let _ = commands.send(command);
        }
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        // The worker ends when nobody can tell it anything any more.
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been told on stderr.
            let _ = thread.join();
        }
    }
}
