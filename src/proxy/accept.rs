//! The accept loop of one listener of one worker. It takes several connections per wake-up, never
//! waits for one of them, and never dies.
//!
//! At most `max_handshakes` of its connections may be on their way to a backend: beyond, it has those
//! give way who say nothing, and pauses, so that those who come wait in the kernel's queue, which
//! costs us nothing and loses nobody. The bound is the listener's own, so that a rule whose backends
//! hang does not keep others from accepting.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::base::{ClientAddr, time};
use crate::net::{self, PauseCause};

use super::door::Door;
use super::life::{Accepted, live};
use super::rule::Rule;
use super::tale::Tale;

/// Connections taken per wake-up, before those taken get their turn.
const BATCH: usize = 32;

/// Longest queue that is emptied before a listener closes.
const MOST_IN_QUEUE: u32 = 65_536;
/// Tries, of 10 ms each, to empty it without descriptors.
const PATIENCE: u32 = 200;

/// Why the loop looks up.
enum Event {
    Stop,
    Full,
    Lacking(PauseCause),
}

/// Accepts until `stop` is said; then takes who still waits in the queue, and closes.
pub(super) async fn accept(
    listener: TcpListener,
    door: Arc<Door>,
    mut stop: oneshot::Receiver<()>,
) {
    let mut accepting = Accepting { door, rule: None };
    loop {
        let event = poll_fn(|cx| accepting.poll(cx, &listener, &mut stop)).await;
        let pauses = &accepting.door.worker.pauses;
        match event {
            Event::Stop => break,
            Event::Full => {
                pauses.count(PauseCause::Handshakes);
                tokio::select! {
                    () = accepting.room() => {}
                    _ = &mut stop => break,
                }
            }
            Event::Lacking(cause) => {
                pauses.count(cause);
                tokio::select! {
                    () = sleep(PauseCause::WAIT) => {}
                    _ = &mut stop => break,
                }
            }
        }
    }
    accepting.empty(listener).await;
}

struct Accepting {
    door: Arc<Door>,
    /// The rule as last seen: who waited in the queue of a listener that was just removed still
    /// gets what it came for.
    rule: Option<Arc<Rule>>,
}

impl Accepting {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        listener: &TcpListener,
        stop: &mut oneshot::Receiver<()>,
    ) -> Poll<Event> {
        if Pin::new(stop).poll(cx).is_ready() {
            return Poll::Ready(Event::Stop);
        }
        for _ in 0..BATCH {
            if !self.has_room() {
                return Poll::Ready(Event::Full);
            }
            match ready!(net::poll_accept(listener, cx)) {
                Ok((stream, peer)) => self.begin(stream, ClientAddr(peer)),
                Err(cause) => return Poll::Ready(Event::Lacking(cause)),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn has_room(&self) -> bool {
        self.door.has_room(self.door.worker.snapshot.look().tcp.max_handshakes)
    }

    /// Resolves when there is room; until then those give way who say nothing.
    async fn room(&self) {
        while !self.has_room() {
            let next = self.door.make_room(time::now());
            tokio::select! {
                () = self.door.room() => {}
                () = sleep(next) => {}
            }
        }
    }

    fn begin(&mut self, stream: TcpStream, client: ClientAddr) {
        if let Some(rule) = self.door.worker.snapshot.look().by_listener.get(&self.door.address)
            && !self.rule.as_ref().is_some_and(|known| Arc::ptr_eq(known, rule))
        {
            self.rule = Some(Arc::clone(rule));
        }
        // No rule was ever published for this address: nobody is there to answer for it.
        let Some(rule) = &self.rule else { return };
        let handshake = self.door.enter();
        let tale = Tale::begin(Arc::clone(&self.door), Arc::clone(rule), client);
        tokio::spawn(live(Accepted::new(stream, handshake), tale));
    }

    /// Closing a listener resets who waits in its queue, so they are taken first.
    async fn empty(&mut self, listener: TcpListener) {
        let Ok(listener) = listener.into_std() else { return };
        // Bounded: clients that connect again and again must not keep the listener open.
        let mut left = MOST_IN_QUEUE;
        while left > 0 {
            match listener.accept() {
                Ok((stream, peer)) => {
                    left -= 1;
                    if stream.set_nonblocking(true).is_ok()
                        && let Ok(stream) = TcpStream::from_std(stream)
                    {
                        self.begin(stream, ClientAddr(peer));
                    }
                }
                Err(error) => match net::listener::pause(&error) {
                    None => left -= 1,
                    // The queue is empty (or the socket unusable).
                    Some(PauseCause::Other) => return,
                    // Out of descriptors: those who end give some back, if they end soon.
                    Some(cause) => {
                        self.door.worker.pauses.count(cause);
                        left = left.min(PATIENCE) - 1;
                        sleep(Duration::from_millis(10)).await;
                    }
                },
            }
        }
    }
}
