//! foca's messages on the wire, and what can be seen only while they are read.
//!
//! A header or a member is one length byte and its encoding, so that a later version may append
//! fields. foca keeps its codec to itself, and tells nobody whose ack it got or which generations it
//! read; so the codec notes that in [`Observed`], which it shares with the driver.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Buf, BufMut};
use foca::{Header, Incarnation, Member, Message};
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::identity::Identity;
use super::wire::encoding::{Undecodable, decode, encode};
use crate::base::Actor;

/// Shared between codec and driver.
#[derive(Debug)]
pub struct Observed {
    /// Generations above this one are refused; moves with the clock.
    pub ceiling: u64,
    /// One was refused since this was last cleared.
    pub above_ceiling: bool,
    /// Who sent the datagram that is being read: foca's sender must be the same.
    pub sender: Option<Actor>,
    /// Our own actor and address: claims of others on it are noted.
    pub own: (Actor, SocketAddr),
    /// Our generation as last sent.
    pub generation: u64,
    /// The highest generation seen at our address, and whose.
    pub claim: Option<(u64, Actor)>,
    /// Senders that know us by a generation that we have left behind.
    pub outdated: Vec<Identity>,
    /// Acks read, direct or forwarded, since this was last taken.
    pub acks: u32,
    /// Our incarnation as last sent: it grows when we refute a suspicion.
    pub incarnation: Incarnation,
}

/// Encodes and decodes for foca.
#[derive(Debug)]
pub struct SwimCodec(pub Arc<Mutex<Observed>>);

/// What the codec can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Not what it claims to be.
    #[error(transparent)]
    Undecodable(#[from] Undecodable),
    /// A generation more than a day ahead.
    #[error("a generation from the far future")]
    Future,
    /// No room in the datagram; foca then sends it with the next one.
    #[error("no room left")]
    NoRoom,
}

impl Observed {
    /// Nothing observed yet; `identity` is this node's.
    fn new(identity: Identity) -> Self {
        Observed {
            ceiling: u64::MAX,
            above_ceiling: false,
            sender: None,
            own: (identity.actor, identity.address),
            generation: identity.generation,
            claim: None,
            outdated: Vec::new(),
            acks: 0,
            incarnation: 0,
        }
    }
}

impl SwimCodec {
    /// The codec of the node `identity`.
    pub fn new(identity: Identity) -> Self {
        SwimCodec(Arc::new(Mutex::new(Observed::new(identity))))
    }

    /// Whether an identity can be, and what it tells of our address.
    pub fn check(&self, identity: &Identity) -> Result<(), CodecError> {
        if !identity.plausible() {
            return Err(Undecodable.into());
        }
        let mut observed = self.0.lock();
        if identity.generation > observed.ceiling {
            observed.above_ceiling = true;
            return Err(CodecError::Future);
        }
        let (own, address) = observed.own;
        let claim = (identity.generation, identity.actor);
        if identity.address == address && identity.actor != own && observed.claim < Some(claim) {
            observed.claim = Some(claim);
        }
        Ok(())
    }
}

impl foca::Codec<Identity> for SwimCodec {
    type Error = CodecError;

    fn encode_header(
        &mut self,
        header: &Header<Identity>,
        buf: impl BufMut,
    ) -> Result<(), CodecError> {
        {
            let mut observed = self.0.lock();
            observed.incarnation = header.src_incarnation;
            observed.generation = header.src.generation;
        }
        put(header, buf)
    }

    fn decode_header(&mut self, buf: impl Buf) -> Result<Header<Identity>, CodecError> {
        let header: Header<Identity> = take(buf)?;
        self.check(&header.src)?;
        if self.0.lock().sender.is_some_and(|sender| sender != header.src.actor) {
            return Err(Undecodable.into());
        }
        {
            let mut observed = self.0.lock();
            let (own, address) = observed.own;
            let generation = observed.generation;
            let to = &header.dst;
            if (to.actor, to.address) == (own, address) && to.generation < generation {
                observed.outdated.push(header.src);
            }
        }
        match &header.message {
            Message::Ack(_) | Message::ForwardedAck { .. } => self.0.lock().acks += 1,
            Message::PingReq { target: other, .. }
            | Message::IndirectPing { origin: other, .. }
            | Message::IndirectAck { target: other, .. } => self.check(other)?,
            _ => {}
        }
        Ok(header)
    }

    fn encode_member(
        &mut self,
        member: &Member<Identity>,
        buf: impl BufMut,
    ) -> Result<(), CodecError> {
        put(member, buf)
    }

    fn decode_member(&mut self, buf: impl Buf) -> Result<Member<Identity>, CodecError> {
        let member: Member<Identity> = take(buf)?;
        self.check(member.id())?;
        Ok(member)
    }
}

fn put<T: Serialize>(value: &T, mut buf: impl BufMut) -> Result<(), CodecError> {
    let mut body = Vec::with_capacity(128);
    encode(value, &mut body);
    let length = u8::try_from(body.len()).map_err(|_| CodecError::NoRoom)?;
    if buf.remaining_mut() < body.len() + 1 {
        return Err(CodecError::NoRoom);
    }
    buf.put_u8(length);
    buf.put_slice(&body);
    Ok(())
}

fn take<T: DeserializeOwned>(mut buf: impl Buf) -> Result<T, CodecError> {
    if buf.remaining() == 0 {
        return Err(Undecodable.into());
    }
    let length = usize::from(buf.get_u8());
    if buf.remaining() < length {
        return Err(Undecodable.into());
    }
    let mut body = [0; u8::MAX as usize];
    buf.copy_to_slice(&mut body[..length]);
    Ok(decode(&body[..length])?)
}
