//! Where something runs: this machine, or a network namespace.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::thread;

/// A place with network addresses of its own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Host {
    /// A namespace's file; `None` is the machine itself.
    netns: Option<PathBuf>,
}

impl Host {
    /// This machine.
    pub(crate) fn here() -> Host {
        Host::default()
    }

    /// The namespace behind a file such as `/run/netns/NAME` or `/proc/PID/ns/net`.
    pub(crate) fn netns(file: impl Into<PathBuf>) -> Host {
        Host { netns: Some(file.into()) }
    }

    /// Moves the calling thread there for good: sockets it opens and processes it starts from now
    /// on are the host's.
    pub(crate) fn enter(&self) {
        let Some(file) = &self.netns else { return };
        let opened = File::open(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        // SAFETY: the descriptor is open for the length of the call; setns changes this thread only.
        let done = unsafe { libc::setns(opened.as_raw_fd(), libc::CLONE_NEWNET) };
        assert_eq!(done, 0, "cannot enter {}", file.display());
    }

    /// Does something there.
    pub(crate) fn inside<T: Send>(&self, what: impl FnOnce() -> T + Send) -> T {
        if self.netns.is_none() {
            return what();
        }
        thread::scope(|scope| {
            let visit = scope.spawn(|| {
                self.enter();
                what()
            });
            visit.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}
