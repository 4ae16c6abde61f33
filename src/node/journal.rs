//! What became of each configuration that was read: shown in `status` and as a metric.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use arc_swap::ArcSwap;

use crate::admin::shapes::ConfigStatus;
use crate::base::time;

/// The running configuration's state and how many reloads went which way.
#[derive(Debug)]
pub(super) struct Journal {
    status: ArcSwap<ConfigStatus>,
    loaded_ms: AtomicU64,
    taken: AtomicU64,
    refused: AtomicU64,
}

impl Journal {
    /// The first configuration was good.
    pub(super) fn begin(digest: &str) -> Self {
        let ms = time::unix_ms();
        Journal {
            status: ArcSwap::from_pointee(good(digest, ms)),
            loaded_ms: AtomicU64::new(ms),
            taken: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// A reload was taken.
    pub(super) fn taken(&self, digest: &str) {
        let ms = time::unix_ms();
        self.status.store(good(digest, ms).into());
        self.loaded_ms.store(ms, Relaxed);
        self.taken.fetch_add(1, Relaxed);
    }

    /// A reload was refused; what ran before runs on.
    pub(super) fn refused(&self, error: String) {
        let mut status = ConfigStatus::clone(&self.status.load());
        (status.ok, status.error) = (false, Some(error));
        self.status.store(status.into());
        self.refused.fetch_add(1, Relaxed);
    }

    /// As `status` shows it.
    pub(super) fn status(&self) -> ConfigStatus {
        ConfigStatus::clone(&self.status.load())
    }

    /// Reloads (taken, refused).
    pub(super) fn reloads(&self) -> (u64, u64) {
        (self.taken.load(Relaxed), self.refused.load(Relaxed))
    }

    /// Unix seconds of the running configuration.
    pub(super) fn loaded_at(&self) -> f64 {
        self.loaded_ms.load(Relaxed) as f64 / 1000.0
    }
}

fn good(digest: &str, ms: u64) -> ConfigStatus {
    ConfigStatus { ok: true, digest: digest.to_owned(), loaded_at: time::rfc3339(ms), error: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_reload_keeps_the_running_digest_and_shows_its_faults() {
        let journal = Journal::begin("a");
        journal.refused("lb.yaml:3: no".into());
        let status = journal.status();
        assert_eq!((status.ok, status.digest.as_str()), (false, "a"));
        assert_eq!(status.error.as_deref(), Some("lb.yaml:3: no"));
        journal.taken("b");
        let status = journal.status();
        assert!(status.ok && status.error.is_none() && status.digest == "b");
        assert_eq!(journal.reloads(), (1, 1));
    }
}
