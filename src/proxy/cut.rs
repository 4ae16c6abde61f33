//! Cutting: ends every live session of a worker at once.
//!
//! A session that may be cut keeps its waker here, so that telling all of them costs nothing until
//! it is done; a session at rest pays 16 bytes for it.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

/// One worker's sessions, as far as cutting goes.
#[derive(Debug, Default)]
pub(super) struct Cut {
    said: AtomicBool,
    places: Mutex<Places>,
}

#[derive(Debug, Default)]
struct Places {
    wakers: Vec<Option<Waker>>,
    free: Vec<u32>,
}

/// A session that hears of the cut; leaves on drop.
struct Place<'a> {
    cut: &'a Cut,
    at: Option<u32>,
}

impl Cut {
    /// Cuts all sessions that live, and those that begin later.
    pub(super) fn say(&self) {
        self.said.store(true, Ordering::SeqCst);
        let wakers: Vec<Waker> = self.places.lock().wakers.iter().flatten().cloned().collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// What `session` says, or `None` when it was cut before. Must stay within one task.
    pub(super) async fn unless<F: Future>(&self, mut session: Pin<&mut F>) -> Option<F::Output> {
        let mut place = Place { cut: self, at: None };
        poll_fn(|cx| {
            place.take(cx);
            // SeqCst, and after the waker is in its place: either we see the word or it wakes us.
            if self.said.load(Ordering::SeqCst) {
                return Poll::Ready(None);
            }
            session.as_mut().poll(cx).map(Some)
        })
        .await
    }
}

impl Place<'_> {
    fn take(&mut self, cx: &Context<'_>) {
        if self.at.is_some() {
            return;
        }
        let waker = Some(cx.waker().clone());
        let mut places = self.cut.places.lock();
        let at = match places.free.pop() {
            Some(at) => {
                places.wakers[at as usize] = waker;
                at
            }
            None => {
                places.wakers.push(waker);
                (places.wakers.len() - 1) as u32
            }
        };
        self.at = Some(at);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(at) = self.at {
            let mut places = self.cut.places.lock();
            let waker = places.wakers[at as usize].take();
            places.free.push(at);
            // Dropped outside: a waker may own the task that is being dropped.
            drop(places);
            drop(waker);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::pin::pin;
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn a_cut_ends_what_lives_and_what_comes_later_but_not_what_is_done() {
        let cut = Arc::new(Cut::default());
        assert_eq!(cut.unless(pin!(ready(1))).await, Some(1));
        let living = tokio::spawn({
            let cut = Arc::clone(&cut);
            async move { cut.unless(pin!(pending::<()>())).await }
        });
        tokio::task::yield_now().await;
        cut.say();
        assert_eq!(living.await.unwrap(), None);
        assert_eq!(cut.unless(pin!(ready(1))).await, None);
    }

    #[tokio::test]
    async fn places_are_used_again() {
        let cut = Cut::default();
        for _ in 0..100 {
            cut.unless(pin!(ready(()))).await;
        }
        assert_eq!(cut.places.lock().wakers.len(), 1);
    }
}
