//! The tale of one session: what is known of it while it lives, told once when it ends, whatever
//! ends it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use crate::base::{BackendAddr, ClientAddr, time};
use crate::net::Meter;

use super::access_log::{Record, Secured};
use super::door::Door;
use super::outcome::{Level, Outcome, Reason, Side};
use super::rule::Rule;
use super::stats::Phase;

/// One session. Dropped untold, it was cut with its worker or ended by a panic, and tells that.
pub(super) struct Tale {
    pub(super) door: Arc<Door>,
    pub(super) rule: Arc<Rule>,
    pub(super) client: ClientAddr,
    pub(super) backend: Option<BackendAddr>,
    /// What TLS has told of it.
    pub(super) secured: Option<Box<Secured>>,
    /// Where it stands among those that may be cut.
    pub(super) place: u32,
    /// After the door was opened: half as long as an instant.
    began_us: u64,
    handshake_us: u32,
    wait_us: u32,
    connect_us: u32,
    pub(super) attempts: u8,
    /// Whether it got so far as to dial.
    dialed: bool,
    told: bool,
    /// Bytes delivered; written by one task only, atomic because it is seen through a shared
    /// reference.
    up: AtomicU64,
    down: AtomicU64,
}

impl Tale {
    pub(super) fn begin(door: Arc<Door>, rule: Arc<Rule>, client: ClientAddr) -> Self {
        let began = time::now().saturating_duration_since(door.opened);
        door.worker.live.enter();
        rule.stats.shard(door.worker.index).begun();
        Tale {
            door,
            rule,
            client,
            backend: None,
            secured: None,
            place: 0,
            began_us: began.as_micros() as u64,
            handshake_us: 0,
            wait_us: 0,
            connect_us: 0,
            attempts: 0,
            dialed: false,
            told: false,
            up: AtomicU64::new(0),
            down: AtomicU64::new(0),
        }
    }

    /// Who the client is, by its certificate.
    pub(super) fn identity(&self) -> Option<&str> {
        self.secured.as_ref()?.identity.as_deref()
    }

    /// Since it began.
    pub(super) fn age(&self) -> Duration {
        let open = time::now().saturating_duration_since(self.door.opened);
        open.saturating_sub(Duration::from_micros(self.began_us))
    }

    /// Notes that from `began` on, in its age, the client was asked who it is and whom it wants.
    pub(super) fn note_handshake(&mut self, began: Duration) {
        let took = micros(self.age().saturating_sub(began));
        self.handshake_us = self.handshake_us.saturating_add(took);
    }

    /// Notes how long it had lived before, how long it waited, and how long connecting took.
    pub(super) fn note_phases(&mut self, before: Duration, wait: Duration, connect: Duration) {
        self.dialed = true;
        let before = micros(before).saturating_sub(self.handshake_us);
        self.wait_us = before.saturating_add(micros(wait));
        self.connect_us = micros(connect);
    }

    /// Tells the end; only the first end counts.
    pub(super) fn tell(&mut self, outcome: Outcome) {
        if std::mem::replace(&mut self.told, true) {
            return;
        }
        let total = self.age();
        if !self.dialed {
            // What it waited for never came.
            self.note_phases(total, Duration::ZERO, Duration::ZERO);
        }
        let [handshake, wait, connect] =
            [self.handshake_us, self.wait_us, self.connect_us].map(duration);
        let stats = self.rule.stats.shard(self.door.worker.index);
        if self.rule.tls.is_some() || self.rule.plan.proxy_from.is_some() {
            stats.took(Phase::Handshake, handshake);
        }
        stats.took(Phase::Wait, wait);
        if self.attempts > 0 {
            stats.took(Phase::Connect, connect);
        }
        stats.took(Phase::Total, total);
        stats.ended(outcome.reason);
        if outcome.reason.level() == Level::Fault {
            self.warn(outcome);
        }
        if let Some(log) = &self.door.worker.snapshot.look().access_log {
            log.tell(Record {
                ended_ms: time::unix_ms(),
                rule: self.rule.plan.name.clone(),
                client: self.client,
                listener: self.door.address,
                backend: self.backend,
                handshake,
                wait,
                connect,
                total,
                up: self.up.load(Relaxed),
                down: self.down.load(Relaxed),
                attempts: u32::from(self.attempts),
                outcome,
                secured: self.secured.take(),
            });
        }
    }

    /// At most one line per second and rule: at night a dead backend must not fill the disk.
    fn warn(&self, outcome: Outcome) {
        if let Some(unsaid) = self.rule.stats.may_warn(time::unix_ms()) {
            tracing::warn!(
                rule = %self.rule.plan.name,
                reason = outcome.reason.label(),
                side = outcome.side.label(),
                backend = self.backend.map(tracing::field::display),
                client = %self.client,
                fault = self.secured.as_ref().and_then(|secured| secured.fault.as_deref()),
                unsaid,
                "a session failed"
            );
        }
    }
}

impl Meter for Tale {
    fn moved(&self, up: u64, down: u64) {
        self.up.store(self.up.load(Relaxed) + up, Relaxed);
        self.down.store(self.down.load(Relaxed) + down, Relaxed);
        self.rule.stats.shard(self.door.worker.index).moved(up, down);
    }
}

impl Drop for Tale {
    fn drop(&mut self) {
        let reason = if thread::panicking() { Reason::Panic } else { Reason::ShutdownCut };
        self.tell(Outcome::new(reason, Side::Proxy));
        self.door.worker.live.leave();
    }
}

/// Saturates at 71 minutes, longer than anything waits.
fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}

fn duration(micros: u32) -> Duration {
    Duration::from_micros(micros.into())
}
