//! Asks of this node's workers: taken in, sent to whoever keeps the key's books, answered.

use std::time::Instant;

use super::{Machine, Output};
use crate::cluster::asks::Ticket;
use crate::traffic::{Answer, Ask};

impl Machine {
    /// A worker asks.
    pub(super) fn take_ask(&mut self, now: Instant, ticket: Ticket, ask: Ask) {
        if self.asks.open(now, ticket, &ask).is_none() {
            self.outputs.push_back(Output::Answer { ticket, answer: Answer::Nobody });
            return;
        }
        match ask {
            Ask::Token { .. } | Ask::Permits { .. } => self.answer(ticket, Answer::Nobody),
        }
    }

    /// Answers an ask; nothing happens when it was answered or ended before.
    pub(super) fn answer(&mut self, ticket: Ticket, answer: Answer) {
        if self.asks.close(ticket, &answer) {
            self.outputs.push_back(Output::Answer { ticket, answer });
        }
    }

    /// Ends the asks whose time is over.
    pub(super) fn end_asks(&mut self, now: Instant) {
        for ticket in self.asks.expire(now) {
            self.outputs.push_back(Output::Answer { ticket, answer: Answer::Nobody });
        }
    }
}
