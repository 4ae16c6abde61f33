//! Why a client of a library balancer was not served.

use std::io;
use std::time::Duration;

use crate::proxy::outcome::{Outcome, Reason, Side};
use crate::upstream::DialError;

/// Why a client was not served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BalanceError {
    /// The client had left before it was looked at.
    #[error("the client has gone: {0}")]
    ClientGone(#[source] io::Error),
    /// The client is over its rate.
    #[error("over the rate limit; the next connection may come in {} ms", .retry_after.as_millis())]
    RateLimited {
        /// When there will be a token for this client, if none of its other connections takes it.
        retry_after: Duration,
    },
    /// None of the balancer's backends is among the allowed ones.
    #[error("no backend may be used by this client")]
    NotAllowed,
    /// None of the allowed backends can be used.
    #[error("no backend can be used")]
    NoBackend,
    /// All that may be used are full, and no place came free in time.
    #[error(transparent)]
    Full(DialError),
    /// None that was tried accepted; this is the last one's fault.
    #[error(transparent)]
    Connect(DialError),
}

impl From<DialError> for BalanceError {
    fn from(error: DialError) -> Self {
        match error {
            DialError::NoBackend => BalanceError::NoBackend,
            DialError::NotAllowed => BalanceError::NotAllowed,
            DialError::Full | DialError::QueueFull | DialError::QueueTimeout => {
                BalanceError::Full(error)
            }
            DialError::Connect { .. } | DialError::Timeout { .. } | DialError::Deadline => {
                BalanceError::Connect(error)
            }
        }
    }
}

/// As the access log of a node would say it.
impl From<&BalanceError> for Outcome {
    fn from(error: &BalanceError) -> Self {
        match error {
            BalanceError::ClientGone(_) => Outcome::new(Reason::ClientGone, Side::Client),
            BalanceError::RateLimited { .. } => Outcome::new(Reason::RateLimited, Side::Client),
            BalanceError::NotAllowed => (&DialError::NotAllowed).into(),
            BalanceError::NoBackend => (&DialError::NoBackend).into(),
            BalanceError::Full(error) | BalanceError::Connect(error) => error.into(),
        }
    }
}
