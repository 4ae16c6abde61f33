//! Asks of this node's workers: taken in, sent to whoever keeps the key's books, answered.

use std::sync::Arc;
use std::time::Instant;

use super::{Machine, Output};
use crate::base::LimitId;
use crate::cluster::asks::Ticket;
use crate::cluster::identity::Identity;
use crate::cluster::wire::limits::{ReportRow, TokenAnswer, TokenAsk};
use crate::cluster::wire::records::Record;
use crate::traffic::{Answer, Ask, CapKey, Report};

impl Machine {
    /// A worker asks.
    pub(super) fn take_ask(&mut self, now: Instant, ticket: Ticket, ask: Ask) {
        if self.asks.open(now, ticket, &ask).is_none() {
            self.outputs.push_back(Output::Answer { ticket, answer: Answer::Nobody });
            return;
        }
        match ask {
            Ask::Token(report) => self.ask_for_token(now, ticket, report),
            Ask::Permits { limit, key, cap } => {
                self.ask_permits(now, ticket, CapKey { limit, key }, cap);
            }
        }
    }

    /// Asks the key's owner, which may be this node itself.
    fn ask_for_token(&mut self, now: Instant, ticket: Ticket, report: Report) {
        let (limit, levels) = (report.limit, Arc::clone(&self.rooms.levels));
        let owner = self.exchange.authority(now, limit, report.key);
        let row = ReportRow::from(report);
        if owner == Some(self.setup.actor) {
            let from = self.setup.actor;
            let answer = self.exchange.grant(now, from, (limit, None), row, &*levels);
            return self.answer(ticket, answer.unwrap_or(Answer::Nobody));
        }
        let peer = owner.and_then(|owner| self.roster.row(owner)).map(|row| row.identity);
        let counts = self.exchange.counts(limit, &*levels);
        let (Some(peer), Some(counts)) = (peer, counts) else {
            return self.answer(ticket, Answer::Nobody);
        };
        // A flood of new clients must not drown the gossip: beyond the cap this node helps itself.
        if self.allowance.counters(now) == 0 {
            return self.answer(ticket, Answer::Nobody);
        }
        let ask = TokenAsk { ticket: ticket.0, limit: limit.0, counts, row };
        self.token_asks.insert(ticket, (peer.actor, now));
        self.exchange.post(now, peer.actor, Record::TokenAsk(ask));
    }

    /// A peer asks for a token of a key whose books this node keeps.
    pub(super) fn hear_token_ask(&mut self, now: Instant, peer: Identity, ask: TokenAsk) {
        let levels = Arc::clone(&self.rooms.levels);
        let of = (LimitId(ask.limit), Some(ask.counts));
        // Books without a place for the key answer nothing, and the peer helps itself.
        let Some(answer) = self.exchange.grant(now, peer.actor, of, ask.row, &*levels) else {
            return;
        };
        let (granted, level) = match answer {
            Answer::Granted { level } => (true, level),
            Answer::Refused { level } => (false, level),
            Answer::Nobody => return,
        };
        let answer = TokenAnswer { ticket: ask.ticket, granted, level };
        self.exchange.post(now, peer.actor, Record::TokenAnswer(answer));
    }

    /// The owner of a key has answered.
    pub(super) fn hear_token_answer(&mut self, now: Instant, peer: Identity, told: TokenAnswer) {
        let ticket = Ticket(told.ticket);
        let Some(&(asked, at)) = self.token_asks.get(&ticket) else { return };
        if asked != peer.actor {
            return;
        }
        self.token_asks.remove(&ticket);
        self.asks.measured(now.saturating_duration_since(at));
        let level = told.level;
        self.answer(
            ticket,
            if told.granted { Answer::Granted { level } } else { Answer::Refused { level } },
        );
    }

    /// Answers an ask; nothing happens when it was answered or ended before.
    pub(super) fn answer(&mut self, ticket: Ticket, answer: Answer) {
        if self.asks.close(ticket, &answer) {
            self.outputs.push_back(Output::Answer { ticket, answer });
        }
    }

    /// Ends the asks whose time is over.
    pub(super) fn end_asks(&mut self, now: Instant) {
        for (ticket, permits) in self.asks.expire(now) {
            self.token_asks.remove(&ticket);
            // An owner that is only late is not a reason to let more in than the cap says.
            let answer = if permits { Answer::Refused { level: 0.0 } } else { Answer::Nobody };
            self.outputs.push_back(Output::Answer { ticket, answer });
        }
    }
}
