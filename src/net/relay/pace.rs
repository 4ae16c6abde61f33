//! Pacing one direction: ask before a read, charge after it, wait in between.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Sleep, sleep};

use crate::base::time;
use crate::traffic::Pacer;

/// The pacers of one direction, and the wait they demand.
pub(super) struct Pace<'a> {
    pacers: [Option<&'a Pacer>; 2],
    waiting: bool,
    /// The wait under way was the price of what *we* moved. Once it is over the next read is paid
    /// for and does not ask again, or connections that share a pacer would starve one another.
    paid: bool,
    timer: Pin<Box<Sleep>>,
}

impl<'a> Pace<'a> {
    /// `None` when nothing paces.
    pub(super) fn of(pacers: [Option<&'a Pacer>; 2]) -> Option<Self> {
        pacers.iter().flatten().next()?;
        Some(Pace { pacers, waiting: false, paid: false, timer: Box::pin(sleep(Duration::ZERO)) })
    }

    /// Ready, with the most bytes to read, when it is our turn.
    pub(super) fn poll_turn(&mut self, cx: &mut Context<'_>, active: &mut bool) -> Poll<usize> {
        loop {
            if self.waiting {
                ready!(self.timer.as_mut().poll(cx));
                self.waiting = false;
                // We held the bytes back, not the client: a wait is no idleness.
                *active = true;
            }
            if std::mem::take(&mut self.paid) {
                return Poll::Ready(self.quantum());
            }
            let now = time::now();
            match self.pacers.iter().flatten().map(|pacer| pacer.wait(now)).max() {
                None | Some(Duration::ZERO) => return Poll::Ready(self.quantum()),
                Some(wait) => self.wait(wait),
            }
        }
    }

    /// Most bytes of one read; a rate that nodes share may change meanwhile.
    fn quantum(&self) -> usize {
        self.pacers.iter().flatten().map(|pacer| pacer.quantum()).min().unwrap_or(1).max(1)
    }

    /// Charges `bytes` that were read.
    pub(super) fn charge(&mut self, bytes: usize) {
        let now = time::now();
        let wait = self.pacers.iter().flatten().map(|pacer| pacer.charge(bytes, now)).max();
        if let Some(wait) = wait
            && !wait.is_zero()
        {
            self.wait(wait);
            self.paid = true;
        }
    }

    fn wait(&mut self, wait: Duration) {
        self.timer.as_mut().reset((time::now() + wait).into());
        self.waiting = true;
    }
}
