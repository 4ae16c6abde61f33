//! Push/pull between two nodes: what a stream between them is at, whichever of them called.
//!
//! ```text
//!   caller                                   called
//!     │── hello ───────────────────────────────▶│
//!     │◀─────────────────────────────── hello ──│
//!     │── what my state amounts to ────────────▶│   first turn
//!     │◀───── what differs of mine; my own sum ─│   second
//!     │── what differs of mine ────────────────▶│   third
//! ```
//!
//! Gossip reaches nearly everybody soon; this reaches the rest, and a newcomer at once. Equal states
//! cost two short turns. What goes over the stream are records as in datagrams, and they merge as
//! those do: a stream that breaks has done what it did. Source: push/pull state exchange as in
//! memberlist (Dadgar 2013; "anti-entropy", Demers et al. 1987).

use std::time::{Duration, Instant};

use aws_lc_rs::hkdf::Prk;

use super::wire::Reason;
use super::wire::stream::{Frame, Greeting, HELLO, Lane, MOST_RECORDS, lanes};
use crate::base::Actor;

/// Bytes that one stream may carry to us, and that we put into one.
pub const MOST_STATE: usize = 4 << 20;
/// A stream that is not done by then is ended.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// A stream's name: whoever opens it numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StreamId {
    /// We called.
    Out(u64),
    /// We were called.
    In(u64),
}

/// One end of a stream.
#[derive(Debug)]
pub struct Session {
    own: Greeting,
    /// Who is at the other end: as called, or as its hello said.
    pub peer: Option<Actor>,
    /// When this is too late.
    pub ends: Instant,
    /// Ours and the peer's, once both hellos are there.
    lanes: Option<(Lane, Lane)>,
    /// A frame of the peer's opened, so it is who it says.
    pub authentic: bool,
    /// Turns that are over, both sides'.
    pub turns: u8,
    waiting: Vec<u8>,
    heard: usize,
    said: usize,
}

impl Session {
    /// Of the node that greets by `own`; `peer` is whom it calls.
    pub fn new(own: Greeting, peer: Option<Actor>, now: Instant) -> Session {
        Session {
            own,
            peer,
            ends: now + DEADLINE,
            lanes: None,
            authentic: false,
            turns: 0,
            waiting: Vec::new(),
            heard: 0,
            said: 0,
        }
    }

    /// How this end greets.
    pub fn greeting(&self) -> Greeting {
        self.own
    }

    /// Whether both have greeted.
    pub fn met(&self) -> bool {
        self.lanes.is_some()
    }

    /// Bytes came in.
    ///
    /// # Errors
    /// More than a state may have.
    pub fn hear(&mut self, bytes: &[u8]) -> Result<(), Reason> {
        self.heard += bytes.len();
        // An end that has not shown who it is has no more to say than a hello and one frame.
        let most = if self.authentic { MOST_STATE } else { HELLO + 2 * MOST_RECORDS };
        if self.heard > most {
            return Err(Reason::TooLong);
        }
        self.waiting.extend_from_slice(bytes);
        Ok(())
    }

    /// The peer's hello, once it is there.
    ///
    /// # Errors
    /// It is none, or somebody else's than was called.
    pub fn greeted(&mut self) -> Result<Option<Greeting>, Reason> {
        let Some(hello) = Greeting::read(&self.waiting)? else { return Ok(None) };
        if hello.actor == self.own.actor {
            return Err(Reason::Own);
        }
        if self.peer.is_some_and(|peer| peer != hello.actor) {
            return Err(Reason::UnknownSender);
        }
        self.waiting.drain(..HELLO);
        self.peer = Some(hello.actor);
        Ok(Some(hello))
    }

    /// Both have greeted: `theirs` is the peer's hello, `ours` what we answered or began with, and
    /// `root` that of the key which both name.
    pub fn meet(
        &mut self,
        root: Option<&Prk>,
        label: &str,
        ours: Greeting,
        theirs: &Greeting,
        called: bool,
    ) {
        self.own = ours;
        self.lanes = Some(if called {
            let [peer, own] = lanes(root, label, theirs, &ours);
            (own, peer)
        } else {
            let [own, peer] = lanes(root, label, &ours, theirs);
            (own, peer)
        });
    }

    /// The next frame of the peer's, once it is whole.
    ///
    /// # Errors
    /// It is not the peer's next frame.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Reason> {
        let Some((_, lane)) = &mut self.lanes else { return Ok(None) };
        let Some((frame, taken)) = lane.take(&self.waiting)? else { return Ok(None) };
        self.waiting.drain(..taken);
        self.authentic = true;
        self.turns += u8::from(!frame.more);
        Ok(Some(frame))
    }

    /// A whole turn of ours: `records` each by themselves, in as few frames as they fit in. What goes
    /// beyond [`MOST_STATE`] is left to gossip. Also how many frames these are.
    pub fn turn(&mut self, records: &[Vec<u8>]) -> (Vec<u8>, usize) {
        let Some((lane, _)) = &mut self.lanes else { return (Vec::new(), 0) };
        let (mut out, mut frame, mut frames) = (Vec::new(), Vec::new(), 1);
        for record in records {
            if self.said + out.len() + frame.len() + record.len() > MOST_STATE - 2 * MOST_RECORDS {
                break;
            }
            if frame.len() + record.len() > MOST_RECORDS {
                lane.put(true, &frame, &mut out);
                frame.clear();
                frames += 1;
            }
            frame.extend_from_slice(record);
        }
        lane.put(false, &frame, &mut out);
        self.said += out.len();
        self.turns += 1;
        (out, frames)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::now;
    use crate::base::{BootId, NodeId};

    fn greeting(node: u64) -> Greeting {
        let actor = Actor { node: NodeId(node), boot: BootId::new(node) };
        Greeting { key: 0, actor, nonce: [node as u8; 16] }
    }

    /// Two ends that have met.
    fn pair() -> (Session, Session) {
        let (one, other) = (greeting(1), greeting(2));
        let mut caller = Session::new(one, Some(other.actor), now());
        let mut called = Session::new(other, None, now());
        called.hear(&one.bytes()).unwrap();
        let heard = called.greeted().unwrap().unwrap();
        called.meet(None, "l", other, &heard, true);
        caller.hear(&other.bytes()).unwrap();
        let heard = caller.greeted().unwrap().unwrap();
        caller.meet(None, "l", one, &heard, false);
        (caller, called)
    }

    #[test]
    fn a_turn_arrives_whole_however_it_is_cut() {
        let (mut caller, mut called) = pair();
        let records: Vec<Vec<u8>> = (0..40u8).map(|n| vec![n; 1000]).collect();
        let (bytes, frames) = caller.turn(&records);
        assert_eq!(frames, 3);
        let mut heard = Vec::new();
        for piece in bytes.chunks(777) {
            called.hear(piece).unwrap();
            while let Some(frame) = called.next_frame().unwrap() {
                heard.extend(frame.records);
            }
        }
        assert_eq!(heard, records.concat());
        assert_eq!((caller.turns, called.turns), (1, 1));
        assert!(called.authentic && !caller.authentic);
        // And back.
        let (bytes, frames) = called.turn(&[]);
        assert_eq!(frames, 1);
        caller.hear(&bytes).unwrap();
        assert_eq!(caller.next_frame(), Ok(Some(Frame { more: false, records: Vec::new() })));
        assert_eq!(caller.next_frame(), Ok(None));
    }

    #[test]
    fn a_state_is_bounded_on_both_ends() {
        let (mut caller, mut called) = pair();
        let (bytes, _) = caller.turn(&vec![vec![0; 16_000]; 1000]);
        assert!(bytes.len() < MOST_STATE && bytes.len() > MOST_STATE - 100_000, "{}", bytes.len());
        for piece in bytes.chunks(8000) {
            called.hear(piece).unwrap();
            while called.next_frame().unwrap().is_some() {}
        }
        assert_eq!(called.turns, 1);
        assert_eq!(called.hear(&vec![0; 200_000]), Err(Reason::TooLong));
    }

    #[test]
    fn a_stranger_may_say_little() {
        let mut called = Session::new(greeting(2), None, now());
        called.hear(&greeting(1).bytes()).unwrap();
        called.hear(&[0; MOST_RECORDS]).unwrap();
        assert_eq!(called.hear(&[0; 2 * MOST_RECORDS]), Err(Reason::TooLong));
    }

    #[test]
    fn another_than_was_called_is_no_peer_and_neither_are_we() {
        let mut caller = Session::new(greeting(1), Some(greeting(2).actor), now());
        caller.hear(&greeting(3).bytes()).unwrap();
        assert_eq!(caller.greeted(), Err(Reason::UnknownSender));
        let mut called = Session::new(greeting(2), None, now());
        called.hear(&greeting(2).bytes()).unwrap();
        assert_eq!(called.greeted(), Err(Reason::Own));
    }
}
