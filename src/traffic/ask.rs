//! The window through which a worker asks another node before it decides: the one way in this house
//! in which a connection waits for gossip, chosen for tiny limits and for caps over the cluster, and
//! bounded in time. What is asked is small and is answered by a yes or a no.
//!
//! Narrow on purpose: who keeps the books, who answers in its place and how long a round trip takes
//! is the implementer's.

use std::future::{Future, ready};
use std::pin::Pin;

use super::window::{Alone, Report};
use crate::base::{KeyHash, LimitId};

/// What a worker wants to know.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Ask {
    /// One token of a strict rate limit, with what was admitted of its key so far.
    Token(Report),
    /// Permits under a cap on connections, one of them for whoever asks.
    Permits {
        /// The cap.
        limit: LimitId,
        /// Whose connections count together.
        key: KeyHash,
        /// The cap, as this node has it configured.
        cap: u32,
    },
}

/// What came back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Answer {
    /// Yes; `level` is what is left, as far as whoever answers knows.
    Granted {
        /// Tokens or permits, may be negative for who is in debt.
        level: f64,
    },
    /// No.
    Refused {
        /// As for a yes.
        level: f64,
    },
    /// Nobody could be asked, or nobody answered in time.
    Nobody,
}

/// An answer under way.
pub type Answering<'a> = Pin<Box<dyn Future<Output = Answer> + Send + 'a>>;

/// Somebody to ask.
pub trait Asking: Send + Sync {
    /// Asks; ends within a few tens of milliseconds whatever happens, and at once with
    /// [`Answer::Nobody`] when too many are asking already. Given up half-way it leaves nothing
    /// behind.
    fn ask(&self, ask: Ask) -> Answering<'_>;
}

impl Asking for Alone {
    fn ask(&self, _: Ask) -> Answering<'_> {
        Box::pin(ready(Answer::Nobody))
    }
}
