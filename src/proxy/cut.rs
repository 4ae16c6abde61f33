//! Cutting: ends live sessions of a worker at once, all of them or those of some clients.
//!
//! A session that may be cut keeps its client and its waker here, so that telling those who are meant
//! costs nothing until it is done; a session at rest pays 32 bytes for it, and an atomic look at every
//! turn.

use std::future::poll_fn;
use std::net::{IpAddr, Ipv6Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

/// Every session is cut.
const ALL: u32 = u32::MAX;
/// Sessions looked at before others may begin or end.
const AT_ONCE: usize = 4096;
/// In the place of a client: its session is cut. Nobody has this address.
const CUT: [u8; 16] = [0xff; 16];
/// In the place of a client: nobody is there.
const NOBODY: [u8; 16] = [0; 16];

/// Why a session was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// The node ends.
    Shutdown,
    /// Its client was banned.
    Ban,
}

/// One worker's sessions, as far as cutting goes.
#[derive(Debug, Default)]
pub(super) struct Cut {
    /// Grows when some were cut; [`ALL`] in the end.
    round: AtomicU32,
    places: Mutex<Places>,
}

#[derive(Debug, Default)]
struct Places {
    sessions: Vec<Session>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Session {
    client: [u8; 16],
    waker: Option<Waker>,
}

/// A session that hears of the cut; leaves on drop.
pub(super) struct Place {
    cut: Arc<Cut>,
    at: u32,
    /// The last round that was looked into.
    round: u32,
    awake: bool,
}

impl Cut {
    /// A session of `client` begins. To be called before the client is asked for in the bans: then a ban
    /// is seen there, or its cut finds the session here.
    pub(super) fn enter(self: &Arc<Self>, client: IpAddr) -> Place {
        // Before the session can be found, so that a cut in between is not taken for an old one.
        let round = self.round.load(Ordering::SeqCst);
        let round = if round == ALL { 0 } else { round };
        let session = Session { client: bits(client), waker: None };
        let mut places = self.places.lock();
        let at = match places.free.pop() {
            Some(at) => {
                places.sessions[at as usize] = session;
                at
            }
            None => {
                places.sessions.push(session);
                (places.sessions.len() - 1) as u32
            }
        };
        Place { cut: Arc::clone(self), at, round, awake: false }
    }

    /// The session at `at` is `client`'s: a PROXY header said so. As with [`Cut::enter`], to be called
    /// before the client is asked for in the bans.
    pub(super) fn rename(&self, at: u32, client: IpAddr) {
        let mut places = self.places.lock();
        if let Some(session) = places.sessions.get_mut(at as usize)
            && session.client != CUT
        {
            session.client = bits(client);
        }
    }

    /// Cuts all sessions that live, and those that begin later.
    pub(super) fn say(&self) {
        self.round.store(ALL, Ordering::SeqCst);
        let wakers: Vec<Waker> = {
            let places = self.places.lock();
            places.sessions.iter().filter_map(|session| session.waker.clone()).collect()
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Cuts the sessions whose client `banned` names; how many.
    pub(super) fn clients(&self, banned: impl Fn(IpAddr) -> bool) -> usize {
        let (mut cut, mut from) = (Vec::new(), 0);
        loop {
            let mut places = self.places.lock();
            let until = places.sessions.len().min(from + AT_ONCE);
            for session in places.sessions.get_mut(from..until).into_iter().flatten() {
                let client = session.client;
                if client != CUT && client != NOBODY && banned(Ipv6Addr::from(client).into()) {
                    session.client = CUT;
                    cut.push(session.waker.clone());
                }
            }
            if until == places.sessions.len() {
                break;
            }
            from = until;
        }
        if !cut.is_empty() {
            let next = |round| (round != ALL).then(|| (round + 1) % ALL);
            let _ = self.round.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next);
        }
        let number = cut.len();
        cut.into_iter().flatten().for_each(Waker::wake);
        number
    }
}

impl Place {
    /// Which one it is, for [`Cut::rename`].
    pub(super) fn at(&self) -> u32 {
        self.at
    }

    /// What `session` says, or why it was cut before. Must stay within one task.
    pub(super) async fn unless<F: Future>(
        &mut self,
        mut session: Pin<&mut F>,
    ) -> Result<F::Output, Why> {
        poll_fn(|cx| {
            self.stay_awake(cx);
            // After the waker is in its place: either we see the round or it wakes us.
            match self.look() {
                Some(why) => Poll::Ready(Err(why)),
                None => session.as_mut().poll(cx).map(Ok),
            }
        })
        .await
    }

    fn stay_awake(&mut self, cx: &Context<'_>) {
        if !std::mem::replace(&mut self.awake, true) {
            let waker = Some(cx.waker().clone());
            self.cut.places.lock().sessions[self.at as usize].waker = waker;
        }
    }

    fn look(&mut self) -> Option<Why> {
        let round = self.cut.round.load(Ordering::SeqCst);
        if round == self.round {
            return None;
        }
        if round == ALL {
            return Some(Why::Shutdown);
        }
        self.round = round;
        let cut = self.cut.places.lock().sessions[self.at as usize].client == CUT;
        cut.then_some(Why::Ban)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.cut.places.lock();
        let left = Session { client: NOBODY, waker: None };
        let session = std::mem::replace(&mut places.sessions[self.at as usize], left);
        places.free.push(self.at);
        // Dropped outside: a waker may own the task that is being dropped.
        drop(places);
        drop(session);
    }
}

fn bits(client: IpAddr) -> [u8; 16] {
    match client {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::pin::pin;
    use std::sync::Arc;

    use super::*;

    fn ip(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    async fn lives(cut: Arc<Cut>, client: IpAddr) -> Result<(), Why> {
        cut.enter(client).unless(pin!(pending::<()>())).await
    }

    #[tokio::test]
    async fn a_cut_ends_what_lives_and_what_comes_later_but_not_what_is_done() {
        let cut = Arc::new(Arc::new(Cut::default()));
        assert_eq!(cut.enter(ip(1)).unless(pin!(ready(1))).await, Ok(1));
        let living = tokio::spawn(lives(Arc::clone(&cut), ip(1)));
        tokio::task::yield_now().await;
        cut.say();
        assert_eq!(living.await.unwrap(), Err(Why::Shutdown));
        assert_eq!(cut.enter(ip(1)).unless(pin!(ready(1))).await, Err(Why::Shutdown));
    }

    #[tokio::test]
    async fn clients_are_cut_and_the_others_live_on() {
        let cut = Arc::new(Arc::new(Cut::default()));
        let session = |last| tokio::spawn(lives(Arc::clone(&cut), ip(last)));
        let sessions: Vec<_> = (0..40).map(|at| session(at % 4)).collect();
        tokio::task::yield_now().await;
        let banned = |client: IpAddr| client.to_canonical() == ip(1);
        assert_eq!(cut.clients(banned), 10);
        assert_eq!(cut.clients(banned), 0, "once is enough");
        for (at, session) in sessions.into_iter().enumerate() {
            if at % 4 == 1 {
                assert_eq!(session.await.unwrap(), Err(Why::Ban));
            } else {
                assert!(!session.is_finished());
                session.abort();
            }
        }
        // Who comes later is refused elsewhere, not cut.
        assert_eq!(cut.enter(ip(1)).unless(pin!(ready(1))).await, Ok(1));
    }

    #[tokio::test]
    async fn who_is_cut_between_its_accept_and_its_first_turn_ends_as_well() {
        let cut = Arc::new(Cut::default());
        let mut place = cut.enter(ip(1));
        assert_eq!(cut.clients(|_| true), 1);
        assert_eq!(place.unless(pin!(ready(1))).await, Err(Why::Ban));
    }

    #[tokio::test]
    async fn places_are_used_again() {
        let cut = Arc::new(Cut::default());
        for _ in 0..100 {
            let _ = cut.enter(ip(1)).unless(pin!(ready(()))).await;
        }
        assert_eq!(cut.places.lock().sessions.len(), 1);
        assert_eq!(cut.clients(|_| true), 0, "who has gone is not cut");
    }
}
