//! Push/pull with a whole gossip machine, in plaintext: a seal would stop every change at its first
//! frame.
//!
//! An input is who calls (even: the member, odd: the machine) and pieces of what the member says:
//!
//! ```text
//!   | caller 1 | how 1 | length 2 | bytes …   | how 1 | length 2 | bytes …
//! ```
//!
//! The bytes come as they are, or as the records of a good frame, in the middle or at the end of a
//! turn.
//!
//! What must hold: a stream ends within its deadline, the machine says no more than a state may
//! have, and a stream that was refused is closed.

use std::time::Duration;

use tidegate::cluster::machine::{Input, Output, StreamEvent};
use tidegate::cluster::sync::{DEADLINE, MOST_STATE, StreamId};
use tidegate::cluster::wire::stream::{Greeting, Lane, MOST_RECORDS, lanes};

use super::datagram::{OWN, PEER, World, address};

/// How a piece comes, by its first byte.
pub mod how {
    /// As it is.
    pub const RAW: u8 = 0;
    /// As records of a frame that is not a turn's last.
    pub const MORE: u8 = 1;
    /// As records of a turn's last frame.
    pub const LAST: u8 = 2;
    /// How many there are.
    pub const ALL: u8 = 3;
}

/// One piece of an input.
pub fn piece(how: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("no more than a frame").to_be_bytes();
    [&[how], &length[..], bytes].concat()
}

/// Takes a conversation.
pub fn take(input: &[u8]) {
    talk(input);
}

/// Takes a conversation; whether it came to its good end.
pub fn talk(input: &[u8]) -> bool {
    let Some((caller, mut rest)) = input.split_first() else { return false };
    let Some(mut talk) = Talk::begin(caller % 2 == 0) else { return false };
    while let Some((head, more)) = rest.split_at_checked(3) {
        let length = usize::from(u16::from_be_bytes([head[1], head[2]])).min(more.len());
        let (bytes, more) = more.split_at(length);
        rest = more;
        talk.say(head[0] % how::ALL, bytes);
    }
    // Whatever was said, it ends.
    talk.world.pass(DEADLINE + Duration::from_secs(1));
    talk.listen();
    assert!(talk.closed, "a stream without end");
    let syncs = talk.world.machine.figures().syncs;
    syncs.called + syncs.answered > 0
}

struct Talk {
    world: World,
    stream: StreamId,
    /// What the member says goes this way, once both have greeted.
    lane: Option<Lane>,
    said: usize,
    closed: bool,
}

const GREETING: Greeting = Greeting { key: 0, actor: PEER, nonce: [9; 16] };

impl Talk {
    /// Both have greeted.
    fn begin(called: bool) -> Option<Talk> {
        let mut world = World::new();
        let stream = if called {
            let event = StreamEvent::Accepted { from: address(PEER) };
            let stream = StreamId::In(1);
            world.machine.handle(world.now, Input::Stream { stream, event });
            stream
        } else {
            // It calls as soon as it has a peer.
            world.call()?
        };
        let mut talk = Talk { world, stream, lane: None, said: 0, closed: false };
        if called {
            talk.event(StreamEvent::Bytes(&GREETING.bytes()));
            let theirs = Greeting::read(&talk.listen()).ok()??;
            let [lane, _] = lanes(None, "default", &GREETING, &theirs);
            talk.lane = Some(lane);
        } else {
            talk.event(StreamEvent::Connected);
            let theirs = Greeting::read(&talk.listen()).ok()??;
            assert_eq!(theirs.actor, OWN);
            let [_, lane] = lanes(None, "default", &theirs, &GREETING);
            talk.lane = Some(lane);
            talk.event(StreamEvent::Bytes(&GREETING.bytes()));
            talk.listen();
        }
        Some(talk)
    }

    fn say(&mut self, how: u8, bytes: &[u8]) {
        let mut framed = Vec::new();
        match (&mut self.lane, how) {
            (Some(lane), how::MORE | how::LAST) => {
                let records = &bytes[..bytes.len().min(MOST_RECORDS)];
                lane.put(how == how::MORE, records, &mut framed);
            }
            _ => framed.extend_from_slice(bytes),
        }
        self.event(StreamEvent::Bytes(&framed));
        self.listen();
    }

    fn event(&mut self, event: StreamEvent<'_>) {
        let stream = self.stream;
        self.world.machine.handle(self.world.now, Input::Stream { stream, event });
    }

    /// What the machine wrote since.
    fn listen(&mut self) -> Vec<u8> {
        let mut written = Vec::new();
        for output in self.world.take_outputs() {
            match output {
                Output::Write { stream, bytes } if stream == self.stream => {
                    assert!(!self.closed, "it speaks after its end");
                    written.extend_from_slice(&bytes);
                }
                Output::Close { stream, .. } if stream == self.stream => self.closed = true,
                _ => {}
            }
        }
        self.said += written.len();
        assert!(self.said <= MOST_STATE, "{} bytes said", self.said);
        written
    }
}
