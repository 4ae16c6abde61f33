//! Records: what datagrams other than foca's are made of, and foca's broadcast items.
//!
//! ```text
//!   | type 1 | length 2 | body …          | type 1 | length 2 | body …
//! ```
//!
//! A reader skips types that it does not know, and what a later version appended to a body.

mod health;
pub mod hello;
mod load;
mod tickets;

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::encoding::{Undecodable, decode, encode};
use super::lease::{LeaseAsk, LeaseBook, LeaseLoans, LeasePing, LeaseTold, PaceShares, PaceTold};
use super::limits::{Hot, Levels, Reports, TokenAnswer, TokenAsk};
use crate::base::Actor;
use crate::cluster::acts::{ActsBeat, AskActs, BackendRow, BanRow, DrainRow};
use crate::cluster::identity::Identity;
use crate::cluster::keyring::MOST_KEYS;

pub use hello::{Cloned, Hello};

pub use health::{HealthBeat, HealthPart, HealthRow};
pub use load::LoadRows;
pub use tickets::{TicketRow, TicketsBeat};

/// Most bytes of a name, a version or a digest that is kept of what a peer says.
const MOST_TEXT: usize = 255;

/// One record.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// Let me in.
    Join(Join),
    /// Show that you are at the address you claim.
    Challenge(Challenge),
    /// You are not let in.
    Refused(Refused),
    /// What I am called and run.
    Meta(Meta),
    /// Tell me what you are called and run.
    AskMeta,
    /// My verdicts are at this version.
    HealthBeat(HealthBeat),
    /// Part of my verdicts.
    HealthPart(HealthPart),
    /// My connections to backends.
    Load(LoadRows),
    /// Tell me all your verdicts.
    AskHealth,
    /// I am about to leave.
    Leaving(Leaving),
    /// What my view of the members amounts to.
    ViewBeat(ViewBeat),
    /// Some of the members as I see them.
    ViewPart(ViewPart),
    /// What all that I know amounts to.
    StateBeat(StateBeat),
    /// Use of one limit.
    Reports(Reports),
    /// What is left of one limit.
    Levels(Levels),
    /// Keys of one limit run low.
    Hot(Hot),
    /// May I take a token of a strict limit?
    TokenAsk(TokenAsk),
    /// You may, or may not.
    TokenAnswer(TokenAnswer),
    /// How a holder of permits stands.
    LeaseTold(LeaseTold),
    /// Permits lent.
    LeaseLoans(LeaseLoans),
    /// Who holds permits of a key?
    LeaseAsk(LeaseAsk),
    /// Who holds permits of a key.
    LeaseBook(LeaseBook),
    /// Are you there?
    LeasePing(LeasePing),
    /// What all my acts amount to.
    ActsBeat(ActsBeat),
    /// Tell me the acts that I lack.
    AskActs(AskActs),
    /// A ban.
    Ban(BanRow),
    /// A drain.
    Drain(DrainRow),
    /// A change of a rule's backends.
    Backend(BackendRow),
    /// What a node moves of shared bandwidth.
    PaceTold(PaceTold),
    /// A node's parts of shared bandwidth.
    PaceShares(PaceShares),
    /// Show that you live.
    Hello(Hello),
    /// Two boots of one node live.
    Cloned(Cloned),
    /// What my secrets of session tickets amount to.
    TicketsBeat(TicketsBeat),
    /// A secret of session tickets.
    Ticket(TicketRow),
}

/// A node asks to be let in. Without a good nonce it gets a challenge, sent to the address that it
/// claims: so an address is only believed when its holder answers there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// As the node wants to be known.
    pub identity: Identity,
    /// From the challenge; 0 at first.
    pub nonce: u64,
    /// What it is called and runs.
    pub meta: Meta,
}

/// The answer to a join.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// Who asked.
    pub to: Actor,
    /// The address that it claims: to whom that is not his own, the challenge says nothing.
    pub claimed: SocketAddr,
    /// Where it asked from: not always the address it claims.
    pub asked_from: SocketAddr,
    /// Its name.
    pub name: String,
    /// To be sent back.
    pub nonce: u64,
    /// The highest generation known for the claimed address; a lower one loses.
    pub highest: u64,
}

/// A node is refused for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Who was refused.
    pub to: Actor,
    /// The name of the node that holds the claimed address.
    pub holder: String,
}

/// What a node is called and runs: a register of a single writer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// The writer.
    pub actor: Actor,
    /// Grows with every change.
    pub seq: u64,
    /// Node name.
    pub name: String,
    /// Digest of its configuration.
    pub digest: String,
    /// Version of the program.
    pub version: String,
    /// The names of its keys, the one that seals first; none in plaintext.
    pub keys: Vec<u8>,
    /// Where it answers push/pull, over TCP.
    pub sync: Option<SocketAddr>,
}

/// Said before a node drains and goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaving {
    /// Who goes.
    pub actor: Actor,
}

/// A view of who is there, as small as can be: equal views have equal beats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewBeat {
    /// Active members, the sender included.
    pub count: u32,
    /// Of all their actors and generations, in any order.
    pub hash: u64,
    /// It answers a beat: whoever sees another view tells it, but asks no further.
    pub answer: bool,
}

/// Active members, as many as fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewPart {
    /// As foca knows them.
    pub members: Vec<foca::Member<Identity>>,
}

/// What a push/pull begins with, so that equal states need not be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateBeat {
    /// Active members.
    pub view: ViewBeat,
    /// What they are called and run, summed up in any order.
    pub metas: u64,
    /// Acts.
    pub acts: ActsBeat,
}

impl Record {
    fn tag(&self) -> u8 {
        match self {
            Record::Join(_) => 1,
            Record::Challenge(_) => 2,
            Record::Refused(_) => 3,
            Record::Meta(_) => 4,
            Record::AskMeta => 5,
            Record::HealthBeat(_) => 7,
            Record::HealthPart(_) => 50,
            Record::Load(_) => 51,
            Record::AskHealth => 9,
            Record::Leaving(_) => 10,
            Record::ViewBeat(_) => 11,
            Record::ViewPart(_) => 12,
            Record::StateBeat(_) => 13,
            Record::Reports(_) => 20,
            Record::Levels(_) => 21,
            Record::Hot(_) => 22,
            Record::TokenAsk(_) => 23,
            Record::TokenAnswer(_) => 24,
            Record::LeaseTold(_) => 60,
            Record::LeaseLoans(_) => 61,
            Record::LeaseAsk(_) => 62,
            Record::LeaseBook(_) => 63,
            Record::LeasePing(_) => 64,
            Record::ActsBeat(_) => 40,
            Record::AskActs(_) => 41,
            Record::Ban(_) => 42,
            Record::Drain(_) => 43,
            Record::Backend(_) => 44,
            Record::PaceTold(_) => 65,
            Record::PaceShares(_) => 66,
            Record::Hello(_) => 30,
            Record::Cloned(_) => 31,
            Record::TicketsBeat(_) => 70,
            Record::Ticket(_) => 71,
        }
    }

    /// Appends the record to a payload.
    pub fn put(&self, out: &mut Vec<u8>) {
        out.push(self.tag());
        let length_at = out.len();
        out.extend_from_slice(&[0, 0]);
        match self {
            Record::Join(body) => encode(body, out),
            Record::Challenge(body) => encode(body, out),
            Record::Refused(body) => encode(body, out),
            Record::Meta(body) => encode(body, out),
            Record::HealthBeat(body) => encode(body, out),
            Record::HealthPart(body) => encode(body, out),
            Record::Load(body) => encode(body, out),
            Record::Leaving(body) => encode(body, out),
            Record::ViewBeat(body) => encode(body, out),
            Record::ViewPart(body) => encode(body, out),
            Record::StateBeat(body) => encode(body, out),
            Record::Reports(body) => encode(body, out),
            Record::Levels(body) => encode(body, out),
            Record::Hot(body) => encode(body, out),
            Record::TokenAsk(body) => encode(body, out),
            Record::TokenAnswer(body) => encode(body, out),
            Record::LeaseTold(body) => encode(body, out),
            Record::LeaseLoans(body) => encode(body, out),
            Record::LeaseAsk(body) => encode(body, out),
            Record::LeaseBook(body) => encode(body, out),
            Record::LeasePing(body) => encode(body, out),
            Record::ActsBeat(body) => encode(body, out),
            Record::AskActs(body) => encode(body, out),
            Record::Ban(body) => encode(body, out),
            Record::Drain(body) => encode(body, out),
            Record::Backend(body) => encode(body, out),
            Record::PaceTold(body) => encode(body, out),
            Record::PaceShares(body) => encode(body, out),
            Record::Hello(body) => encode(body, out),
            Record::Cloned(body) => encode(body, out),
            Record::TicketsBeat(body) => encode(body, out),
            Record::Ticket(body) => encode(body, out),
            Record::AskMeta | Record::AskHealth => {}
        }
        let length = (out.len() - length_at - 2) as u16;
        out[length_at..length_at + 2].copy_from_slice(&length.to_be_bytes());
    }

    /// The record alone.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.put(&mut out);
        out
    }

    /// `None`: of a type that we do not know.
    fn of(tag: u8, body: &[u8]) -> Result<Option<Record>, Undecodable> {
        Ok(Some(match tag {
            1 => Record::Join(decode::<Join>(body)?.checked()?),
            2 => Record::Challenge(decode::<Challenge>(body)?.checked()?),
            3 => Record::Refused(decode::<Refused>(body)?.checked()?),
            4 => Record::Meta(decode::<Meta>(body)?.checked()?),
            5 => Record::AskMeta,
            7 => Record::HealthBeat(decode(body)?),
            9 => Record::AskHealth,
            10 => Record::Leaving(decode(body)?),
            11 => Record::ViewBeat(decode(body)?),
            12 => Record::ViewPart(decode(body)?),
            13 => Record::StateBeat(decode(body)?),
            50 => Record::HealthPart(decode(body)?),
            20 => Record::Reports(decode(body)?),
            21 => Record::Levels(decode(body)?),
            22 => Record::Hot(decode(body)?),
            23 => Record::TokenAsk(decode(body)?),
            24 => Record::TokenAnswer(decode(body)?),
            60 => Record::LeaseTold(decode(body)?),
            61 => Record::LeaseLoans(decode(body)?),
            62 => Record::LeaseAsk(decode(body)?),
            63 => Record::LeaseBook(decode(body)?),
            64 => Record::LeasePing(decode(body)?),
            40 => Record::ActsBeat(decode(body)?),
            41 => Record::AskActs(decode(body)?),
            42 => Record::Ban(decode::<BanRow>(body)?.checked()?),
            43 => Record::Drain(decode::<DrainRow>(body)?.checked()?),
            44 => Record::Backend(decode::<BackendRow>(body)?.checked()?),
            65 => Record::PaceTold(decode(body)?),
            66 => Record::PaceShares(decode(body)?),
            51 => Record::Load(decode(body)?),
            30 => Record::Hello(decode(body)?),
            31 => Record::Cloned(decode(body)?),
            70 => Record::TicketsBeat(decode(body)?),
            71 => Record::Ticket(decode(body)?),
            _ => return Ok(None),
        }))
    }
}

impl Join {
    fn checked(self) -> Result<Join, Undecodable> {
        let meta = self.meta.checked()?;
        let same = self.identity.actor == meta.actor;
        if same { Ok(Join { meta, ..self }) } else { Err(Undecodable) }
    }
}

impl Meta {
    fn checked(self) -> Result<Meta, Undecodable> {
        let good = [&self.name, &self.digest, &self.version].into_iter().all(|text| showable(text))
            && self.keys.len() <= MOST_KEYS;
        if good { Ok(self) } else { Err(Undecodable) }
    }
}

impl Challenge {
    fn checked(self) -> Result<Challenge, Undecodable> {
        if showable(&self.name) { Ok(self) } else { Err(Undecodable) }
    }
}

impl Refused {
    fn checked(self) -> Result<Refused, Undecodable> {
        if showable(&self.holder) { Ok(self) } else { Err(Undecodable) }
    }
}

/// Whether a peer's text may stand in a log line or a terminal.
pub(in crate::cluster) fn showable(text: &str) -> bool {
    text.len() <= MOST_TEXT && !text.chars().any(char::is_control)
}

/// All records of a payload that we know the type of.
pub fn records(mut payload: &[u8]) -> Result<Vec<Record>, Undecodable> {
    let mut all = Vec::new();
    while !payload.is_empty() {
        let (head, rest) = payload.split_at_checked(3).ok_or(Undecodable)?;
        let length = usize::from(u16::from_be_bytes([head[1], head[2]]));
        let (body, rest) = rest.split_at_checked(length).ok_or(Undecodable)?;
        all.extend(Record::of(head[0], body)?);
        payload = rest;
    }
    Ok(all)
}

#[cfg(test)]
mod tests;
