//! A stream of records between two nodes, over TCP: push/pull.
//!
//! ```text
//!   caller ── hello ──▶ called     | head 24 | nonce 16 |
//!   caller ◀── hello ── called     the same, of the called
//!   frames, both ways              | length 2 | more 1, records … | tag 16 |
//! ```
//!
//! The head is a datagram's. Each direction has an AES-256-GCM key of its own, HKDF-SHA256(cluster
//! key, purpose ‖ direction ‖ both hellos ‖ label), and numbers its frames from 0: so nothing of one
//! stream opens in another, at another node, or a second time, and both ends know from the first
//! frame on that the other holds the key and lives now. `more` is 0 in the last frame of a turn: a
//! stream that was cut short does not look like one that ended.
//!
//! In plaintext the tag is the label's hash and a checksum, as in datagrams.

use aws_lc_rs::aead::{Aad, LessSafeKey};
use aws_lc_rs::hkdf::Prk;

use super::head::{HEAD, Head};
use super::plain::{checksum, hash_of_label};
use super::seal::{derive, nonce};
use super::{Kind, Reason, TAG};
use crate::base::Actor;

/// What the keys are for.
const STREAMS: &[u8] = b"tidegate stream 1";
const NONCE: usize = 16;
const LENGTH: usize = 2;
/// Bytes of a hello.
pub const HELLO: usize = HEAD + NONCE;
/// What a frame has beside its records.
pub const FRAME: usize = LENGTH + 1 + TAG;
/// Records in one frame at most, bytes.
pub const MOST_RECORDS: usize = 16 << 10;
const MOST_FRAME: usize = 1 + MOST_RECORDS + TAG;

/// How each end introduces itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// Which key of the cluster seals the stream; 0 is plaintext.
    pub key: u8,
    /// Who says to be here.
    pub actor: Actor,
    /// Fresh random.
    pub nonce: [u8; NONCE],
}

impl Greeting {
    /// On the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HELLO);
        let kind = Kind::Sync as u8;
        Head { key: self.key, kind, flags: 0, sender: self.actor, counter: 0 }.put(&mut bytes);
        bytes.extend_from_slice(&self.nonce);
        bytes
    }

    /// The hello that `bytes` begin with; `None` while it is not whole.
    ///
    /// # Errors
    /// It cannot be ours.
    pub fn read(bytes: &[u8]) -> Result<Option<Greeting>, Reason> {
        // What cannot become one is not waited for.
        if bytes.first().is_some_and(|version| *version != super::VERSION) {
            return Err(Reason::BadVersion);
        }
        let Some(hello) = bytes.first_chunk::<HELLO>() else { return Ok(None) };
        let head = Head::read(hello)?;
        if head.kind != Kind::Sync as u8 {
            return Err(Reason::UnknownType);
        }
        let mut nonce = [0; NONCE];
        nonce.copy_from_slice(&hello[HEAD..]);
        Ok(Some(Greeting { key: head.key, actor: head.sender, nonce }))
    }
}

/// One direction of a stream.
#[derive(Debug)]
pub struct Lane {
    guard: Guard,
    frames: u64,
}

#[derive(Debug)]
enum Guard {
    Sealed(LessSafeKey),
    Plain { label: u64, salt: u64 },
}

/// The caller's direction, and the called's. `root` is the root of the key that the hellos name, or
/// none for plaintext.
pub fn lanes(root: Option<&Prk>, label: &str, caller: &Greeting, called: &Greeting) -> [Lane; 2] {
    let (one, other) = (caller.bytes(), called.bytes());
    let lane = |direction: u8| {
        let guard = match root {
            Some(root) => {
                let info = [STREAMS, &[direction], &one, &other, label.as_bytes()];
                Guard::Sealed(derive(root, &info))
            }
            None => {
                let label = hash_of_label(label);
                let both = [&[direction], &one[..], &other].concat();
                Guard::Plain { label, salt: checksum(label, 0, &both) }
            }
        };
        Lane { guard, frames: 0 }
    };
    [lane(0), lane(1)]
}

/// What a frame holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Whether the turn goes on.
    pub more: bool,
    /// Records.
    pub records: Vec<u8>,
}

impl Lane {
    /// Appends a frame of `records`, at most [`MOST_RECORDS`] bytes, to `out`.
    pub fn put(&mut self, more: bool, records: &[u8], out: &mut Vec<u8>) {
        debug_assert!(records.len() <= MOST_RECORDS);
        let number = self.frames;
        self.frames += 1;
        let length = 1 + records.len() + TAG;
        out.extend_from_slice(&(length as u16).to_be_bytes());
        let begin = out.len();
        out.push(u8::from(more));
        out.extend_from_slice(records);
        match &self.guard {
            Guard::Sealed(key) => {
                let content = &mut out[begin..];
                let sealed = key.seal_in_place_separate_tag(nonce(number), Aad::empty(), content);
                // Sealing some kilobytes cannot fail; were it to, the other end drops the stream.
                out.extend_from_slice(sealed.as_ref().map_or(&[0; TAG], |tag| tag.as_ref()));
            }
            Guard::Plain { label, salt } => {
                let sum = checksum(*salt, number, &out[begin..]);
                out.extend_from_slice(&label.to_be_bytes());
                out.extend_from_slice(&sum.to_be_bytes());
            }
        }
    }

    /// The frame that `bytes` begin with and how many bytes it took; `None` while it is not whole.
    ///
    /// # Errors
    /// Its length cannot be ours, or its tag does not hold.
    pub fn take(&mut self, bytes: &[u8]) -> Result<Option<(Frame, usize)>, Reason> {
        let Some((length, rest)) = bytes.split_first_chunk::<LENGTH>() else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes(*length));
        if length <= TAG {
            return Err(Reason::TooShort);
        }
        if length > MOST_FRAME {
            return Err(Reason::TooLong);
        }
        let Some(frame) = rest.get(..length) else { return Ok(None) };
        let mut content = self.open(frame)?;
        self.frames += 1;
        let more = match content.first() {
            Some(0) => false,
            Some(1) => true,
            _ => return Err(Reason::Undecodable),
        };
        content.remove(0);
        Ok(Some((Frame { more, records: content }, LENGTH + length)))
    }

    fn open(&self, frame: &[u8]) -> Result<Vec<u8>, Reason> {
        let (content, tag) = frame.split_at(frame.len() - TAG);
        match &self.guard {
            Guard::Sealed(key) => {
                let mut content = frame.to_vec();
                let opened = key.open_in_place(nonce(self.frames), Aad::empty(), &mut content);
                let length = opened.map_err(|_| Reason::BadSeal)?.len();
                content.truncate(length);
                Ok(content)
            }
            Guard::Plain { label, salt } => {
                if tag[..8] != label.to_be_bytes() {
                    return Err(Reason::BadLabel);
                }
                if tag[8..] != checksum(*salt, self.frames, content).to_be_bytes() {
                    return Err(Reason::BadChecksum);
                }
                Ok(content.to_vec())
            }
        }
    }
}

#[cfg(test)]
mod tests;
