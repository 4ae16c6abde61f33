//! The thread that writes. It is told the newest state and writes at most one a second; what it was
//! told in between is overtaken. A write that fails is tried again, less and less often, for ever.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::State;
use super::dir::{Dir, Saved};
use crate::base::{NodeId, time};
use crate::cluster::acts::Acts;

/// Least time between two writes: a flood of changes must not become a flood of syncs.
const BETWEEN: Duration = Duration::from_secs(1);
/// Longest time between two: what is kept says by its age how long the node was away.
const RARELY: Duration = Duration::from_secs(3600);
/// Pauses after a failed write.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(60);
/// What the last write gets when the node ends; a disk that hangs must not hold it up.
const PARTING: Duration = Duration::from_secs(2);

/// How writing goes.
#[derive(Debug, Default)]
pub struct News {
    written: AtomicU64,
    errors: AtomicU64,
    fault: Mutex<Option<String>>,
}

impl News {
    /// Writes that went well.
    pub fn written(&self) -> u64 {
        self.written.load(Relaxed)
    }

    /// Writes that failed.
    pub fn errors(&self) -> u64 {
        self.errors.load(Relaxed)
    }

    /// Why the last write failed; `None` when it did not.
    pub fn fault(&self) -> Option<String> {
        self.fault.lock().clone()
    }
}

#[derive(Debug, Default)]
struct Desk {
    newest: Option<State>,
    ending: bool,
    ended: bool,
}

#[derive(Debug, Default)]
struct Shared {
    desk: Mutex<Desk>,
    bell: Condvar,
    news: Arc<News>,
}

/// Keeps a node's state on disk. Dropped, it writes what is still to be written.
#[derive(Debug)]
pub struct Keeper {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Begins to keep the state of `node`, with its `acts`, in `dir`.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(dir: Dir, node: NodeId, acts: Arc<Acts>) -> io::Result<Keeper> {
        let shared = Arc::new(Shared::default());
        let thread = Builder::new().name("state".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || {
                work(&shared, |state| {
                    let acts = acts.rows(time::now());
                    dir.write(&Saved { node, state: state.clone(), acts })
                });
                // The lock goes before the end is said: who starts next must find it free.
                drop(dir);
                shared.desk.lock().ended = true;
                shared.bell.notify_all();
            }
        })?;
        Ok(Keeper { shared, thread: Some(thread) })
    }

    /// Keeps `state` from now on. Never waits for the disk.
    pub fn keep(&self, state: State) {
        self.shared.desk.lock().newest = Some(state);
        self.shared.bell.notify_all();
    }

    /// How it goes.
    pub fn news(&self) -> Arc<News> {
        Arc::clone(&self.shared.news)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let mut desk = self.shared.desk.lock();
        desk.ending = true;
        self.shared.bell.notify_all();
        let waited = self.shared.bell.wait_while_for(&mut desk, |desk| !desk.ended, PARTING);
        drop(desk);
        if waited.timed_out() {
            tracing::warn!(
                "the disk under `cluster.state_dir` does not answer; not waiting for it"
            );
        } else if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn work(shared: &Shared, write: impl Fn(&State) -> io::Result<()>) {
    let mut last: Option<State> = None;
    let mut retry = FIRST_RETRY;
    loop {
        let ending = {
            let mut desk = shared.desk.lock();
            let idle = |desk: &mut Desk| desk.newest.is_none() && !desk.ending;
            shared.bell.wait_while_for(&mut desk, idle, RARELY);
            let news = desk.newest.take();
            if news.is_none() && desk.ending {
                return;
            }
            last = news.or(last);
            desk.ending
        };
        let Some(state) = &last else { continue };
        let pause = match write(state) {
            Ok(()) => {
                shared.news.written.fetch_add(1, Relaxed);
                if shared.news.fault.lock().take().is_some() {
                    tracing::info!("the node's state is written again");
                }
                retry = FIRST_RETRY;
                BETWEEN
            }
            Err(error) => {
                shared.news.errors.fetch_add(1, Relaxed);
                let before = shared.news.fault.lock().replace(error.to_string());
                if before.is_none() {
                    tracing::error!(%error, "cannot write the node's state to `cluster.state_dir`; the node runs on and tries again");
                }
                shared.desk.lock().newest.get_or_insert_with(|| state.clone());
                let pause = retry;
                retry = (retry * 2).min(LAST_RETRY);
                pause
            }
        };
        if ending {
            return;
        }
        let mut desk = shared.desk.lock();
        shared.bell.wait_while_for(&mut desk, |desk| !desk.ending, pause);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn state(generation: u64) -> State {
        State { generation, ..State::default() }
    }

    fn until(what: &str, mut holds: impl FnMut() -> bool) {
        let began = time::now();
        while !holds() {
            assert!(began.elapsed() < Duration::from_secs(20), "waited in vain: {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn the_newest_state_is_on_disk_when_the_keeper_is_gone_and_the_lock_is_free() {
        let home = tempfile::tempdir().unwrap();
        let keeper =
            Keeper::start(Dir::open(home.path()).unwrap(), NodeId(7), Acts::empty()).unwrap();
        let news = keeper.news();
        for generation in 1..=1000 {
            keeper.keep(state(generation));
        }
        drop(keeper);
        let saved = Dir::open(home.path()).unwrap().read().unwrap();
        assert_eq!(saved, Saved { node: NodeId(7), state: state(1000), acts: Vec::new() });
        assert!(news.written() <= 4, "{} writes", news.written());
    }

    #[test]
    fn a_disk_that_fails_is_counted_and_tried_again() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("dir");
        let keeper = Keeper::start(Dir::open(&path).unwrap(), NodeId(7), Acts::empty()).unwrap();
        // A file where the directory was.
        fs::remove_dir_all(&path).unwrap();
        fs::write(&path, "in the way").unwrap();
        keeper.keep(state(5));
        let news = keeper.news();
        until("the fault is seen", || news.fault().is_some());
        assert!(news.errors() >= 1 && news.written() == 0);
        fs::remove_file(&path).unwrap();
        until("it is written after all", || news.written() == 1);
        assert_eq!(news.fault(), None);
        drop(keeper);
        assert_eq!(Dir::open(&path).unwrap().read().unwrap().state, state(5));
    }
}
