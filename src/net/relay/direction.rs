//! One direction of a relay: read, pass on, and keep aside what the other side cannot take yet.
//!
//! ```text
//!   Open ── end read ──▶ Ending ── all passed on, end passed on ──▶ Over
//! ```

use std::cell::RefCell;
use std::io;
use std::task::{Context, Poll, ready};

use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::traffic::Pacer;

use super::batch::Batching;
use super::pace::Pace;
use super::splice::{self, PIPE_SIZE, Pipe};
use super::wire::Wire;

/// What one read may bring.
const BUFFER: usize = 64 * 1024;
/// Bytes that a direction moves before it lets other connections of the thread have their turn.
const TURN: usize = 512 * 1024;
/// A direction that has carried this much may move in bulk…
const BULK_AFTER: u64 = 1024 * 1024;
/// …when reads come at least this full; small messages are cheaper to copy than to splice.
const BULK_READ: usize = 32 * 1024;
/// A direction that has carried this much may wait for whole batches.
const BATCHES_AFTER: u64 = 16 * 1024 * 1024;
/// A splice that brings less than this ends the bulk.
const BULK_LEAST: usize = 8 * 1024;

thread_local! {
    /// Serves every connection of this thread: nothing stays in it between two polls.
    static SHARED: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER].into_boxed_slice());
}

/// Which end of a direction failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// Where bytes come from.
    Read(io::Error),
    /// Where they go.
    Write(io::Error),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    Ending,
    Over,
}

/// What the other side could not take at once.
enum Stash {
    Bytes { bytes: Box<[u8]>, passed: usize },
    Piped(Pipe),
}

/// One direction of a relay.
pub(super) struct Direction<'a> {
    stage: Stage,
    ended: bool,
    bulk: bool,
    moved: u64,
    stash: Option<Box<Stash>>,
    pace: Option<Box<Pace<'a>>>,
    batching: Option<Box<Batching>>,
}

impl<'a> Direction<'a> {
    pub(super) fn new(pacers: [Option<&'a Pacer>; 2]) -> Self {
        Direction {
            stage: Stage::Open,
            ended: false,
            bulk: false,
            moved: 0,
            stash: None,
            pace: Pace::of(pacers).map(Box::new),
            batching: None,
        }
    }

    /// Nothing more will move.
    pub(super) fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    /// Its source has said that it ends.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Bytes delivered.
    pub(super) fn moved(&self) -> u64 {
        self.moved
    }

    /// Moves what can be moved now. `last` says that the other direction is over: closing will say
    /// the end, no call is spent on it. Sets `active` when anything moved.
    pub(super) fn poll<F: Wire, T: Wire>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut F,
        to: &mut T,
        last: bool,
        active: &mut bool,
    ) -> Poll<Result<(), Failure>> {
        let polled = self.poll_moving(cx, from, to, last, active);
        if polled.is_ready() {
            self.stage = Stage::Over;
            self.stash = None;
        }
        polled
    }

    fn poll_moving<F: Wire, T: Wire>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut F,
        to: &mut T,
        last: bool,
        active: &mut bool,
    ) -> Poll<Result<(), Failure>> {
        let mut turn = TURN;
        loop {
            if self.stash.is_some() {
                ready!(self.poll_stash(cx, to, active)).map_err(Failure::Write)?;
            }
            ready!(to.poll_flush(cx)).map_err(Failure::Write)?;
            match self.stage {
                Stage::Open => {}
                Stage::Ending if last && to.close_says_end() => return Poll::Ready(Ok(())),
                Stage::Ending => {
                    // A side that cannot be told is gone; the other direction will say so.
                    let _ = ready!(to.poll_end(cx, from.was_whole()));
                    return Poll::Ready(Ok(()));
                }
                Stage::Over => return Poll::Ready(Ok(())),
            }
            if turn == 0 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let most = match &mut self.pace {
                None => usize::MAX,
                Some(pace) => ready!(pace.poll_turn(cx, active)),
            };
            let read = match (from.bare(), to.bare()) {
                (Some(from), Some(to)) if self.bulk => {
                    ready!(self.poll_splice(cx, from, to, most))?
                }
                _ => ready!(self.poll_copy(cx, from, to, most))?,
            };
            *active = true;
            turn = turn.saturating_sub(read);
            if read == 0 {
                self.ended = true;
                self.stage = Stage::Ending;
            } else if let Some(pace) = &mut self.pace {
                pace.charge(read);
            }
        }
    }

    /// Reads into the thread's buffer and writes from it. Zero: the source has ended.
    fn poll_copy<F: Wire, T: Wire>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut F,
        to: &mut T,
        most: usize,
    ) -> Poll<Result<usize, Failure>> {
        SHARED.with_borrow_mut(|shared| {
            let read = ready!(from.poll_read(cx, shared, most)).map_err(Failure::Read)?;
            let bytes = &shared[..read];
            if bytes.is_empty() {
                return Poll::Ready(Ok(0));
            }
            let taken = match to.poll_write(cx, bytes) {
                Poll::Ready(taken) => taken.map_err(Failure::Write)?,
                Poll::Pending => 0,
            };
            self.moved += taken as u64;
            if taken < bytes.len() {
                let bytes = bytes[taken..].into();
                self.stash = Some(Box::new(Stash::Bytes { bytes, passed: 0 }));
            }
            self.bulk = self.moved >= BULK_AFTER && bytes.len() >= BULK_READ;
            Poll::Ready(Ok(bytes.len()))
        })
    }

    /// Moves bytes through a pipe of the thread, or as [`Self::poll_copy`] when there is none. The
    /// pipe goes back as soon as it is empty, so only a slow reader holds one.
    fn poll_splice(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut TcpStream,
        to: &mut TcpStream,
        most: usize,
    ) -> Poll<Result<usize, Failure>> {
        loop {
            match from.poll_read_ready(cx) {
                Poll::Ready(ready) => ready.map_err(Failure::Read)?,
                Poll::Pending => {
                    if let Some(batching) = &mut self.batching {
                        batching.poll_patience(cx, from, self.moved);
                    }
                    return Poll::Pending;
                }
            }
            let Some(mut pipe) = splice::take() else {
                self.end_batches(from);
                return self.poll_copy(cx, from, to, most);
            };
            let filled = from.try_io(Interest::READABLE, || pipe.fill(from, most.min(PIPE_SIZE)));
            let read = match filled {
                Ok(0) => {
                    splice::give_back(pipe);
                    return Poll::Ready(Ok(0));
                }
                Ok(read) => read,
                Err(error) => {
                    splice::give_back(pipe);
                    if error.kind() == io::ErrorKind::WouldBlock {
                        self.expect_batch(from);
                        continue;
                    }
                    if splice::is_refused(&error) {
                        self.end_batches(from);
                        return self.poll_copy(cx, from, to, most);
                    }
                    return Poll::Ready(Err(Failure::Read(error)));
                }
            };
            if read < BULK_LEAST {
                self.bulk = false;
                self.end_batches(from);
            }
            match to.try_io(Interest::WRITABLE, || pipe.empty(to)) {
                Ok(taken) => self.moved += taken as u64,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(Failure::Write(error))),
            }
            if pipe.held() == 0 {
                splice::give_back(pipe);
            } else {
                self.stash = Some(Box::new(Stash::Piped(pipe)));
            }
            return Poll::Ready(Ok(read));
        }
    }

    /// The source of a bulk is empty for now. A paced one is not to be batched: it comes in quanta.
    fn expect_batch(&mut self, from: &TcpStream) {
        if self.moved >= BATCHES_AFTER && self.pace.is_none() {
            let batching = self.batching.get_or_insert_with(|| Box::new(Batching::new()));
            batching.expect(from, self.moved);
        }
    }

    /// Copying follows, which is woken by any byte.
    fn end_batches(&mut self, from: &TcpStream) {
        if let Some(batching) = &mut self.batching {
            batching.stop(from, self.moved);
        }
    }

    /// Passes on what was kept aside; ready when nothing is left.
    fn poll_stash<T: Wire>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut T,
        active: &mut bool,
    ) -> Poll<io::Result<()>> {
        while let Some(stash) = &mut self.stash {
            let (taken, left) = match &mut **stash {
                Stash::Bytes { bytes, passed } => {
                    let taken = ready!(to.poll_write(cx, &bytes[*passed..]))?;
                    if taken == 0 {
                        return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                    }
                    *passed += taken;
                    (taken, bytes.len() - *passed)
                }
                Stash::Piped(pipe) => {
                    let to = to.socket();
                    ready!(to.poll_write_ready(cx))?;
                    match to.try_io(Interest::WRITABLE, || pipe.empty(to)) {
                        Ok(taken) => (taken, pipe.held()),
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                        Err(error) => return Poll::Ready(Err(error)),
                    }
                }
            };
            self.moved += taken as u64;
            *active = true;
            if left == 0
                && let Some(done) = self.stash.take()
                && let Stash::Piped(pipe) = *done
            {
                splice::give_back(pipe);
            }
        }
        Poll::Ready(Ok(()))
    }
}
