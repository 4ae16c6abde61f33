//! The queue of `action: delay`: who is over the limit may wait for a token, a bounded number at
//! once. What is given back is held by ownership: a place that is dropped without a token counts as
//! a refusal.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use super::ask::{Answer, Ask};
use super::limiter::{Decision, Limiter};
use super::subject::Subject;

/// The places of one limiter.
#[derive(Debug)]
pub(super) struct Queue {
    most: u32,
    waiting: AtomicU32,
}

/// A place among those who wait; given back on drop.
#[derive(Debug)]
pub struct QueuePlace {
    limiter: Arc<Limiter>,
    admitted: bool,
}

impl Queue {
    pub(super) fn new(most: u32) -> Self {
        Queue { most, waiting: AtomicU32::new(0) }
    }

    pub(super) fn enter(&self) -> bool {
        let more = |waiting| (waiting < self.most).then_some(waiting + 1);
        self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn leave(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl QueuePlace {
    pub(super) fn new(limiter: Arc<Limiter>) -> Self {
        QueuePlace { limiter, admitted: false }
    }

    /// Asks again after the wait that the last refusal named. Another one may have been quicker, so
    /// the answer may be a refusal again.
    pub fn admit<'a>(&mut self, client: impl Into<Subject<'a>>, now: Instant) -> Decision {
        let decision = self.limiter.ask(client.into(), now);
        self.admitted |= decision == Decision::Admit;
        decision
    }

    /// As [`Limiter::answered`], after [`Decision::Ask`].
    pub fn answered(&mut self, ask: Ask, answer: Answer, now: Instant) -> Decision {
        let decision = self.limiter.take_answer(ask, answer, now);
        self.admitted |= decision == Decision::Admit;
        decision
    }
}

impl Drop for QueuePlace {
    fn drop(&mut self) {
        let limiter = &self.limiter;
        limiter.queue().leave();
        if !self.admitted {
            limiter.count_refused();
        }
    }
}
