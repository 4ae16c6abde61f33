//! A backend's entry among this node's verdicts, for as long as some pool uses the backend.

use std::sync::Arc;
use std::time::Instant;

use crate::base::BackendKey;
use crate::health::{Report, Sighting, Verdicts};

/// Shared between a pool and the one that replaces it, so that a reload does not make peers forget
/// what they heard; the last one to go takes the verdict along.
#[derive(Debug)]
pub(super) struct Seat {
    verdicts: Arc<Verdicts>,
    key: BackendKey,
}

impl Seat {
    pub(super) fn new(verdicts: Arc<Verdicts>, key: BackendKey) -> Self {
        Seat { verdicts, key }
    }

    pub(super) fn key(&self) -> &BackendKey {
        &self.key
    }

    /// The backend is checked, by this node or by others.
    pub(super) fn enroll(&self) {
        self.verdicts.enroll(&self.key);
    }

    pub(super) fn note(&self, now: Instant, seen: Sighting) {
        self.verdicts.note(&self.key, now, seen);
    }

    /// This node's last word.
    pub(super) fn report(&self) -> Option<Report> {
        self.verdicts.of(&self.key.rule, self.key.address).map(|own| own.report)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.verdicts.forget(&self.key);
    }
}
