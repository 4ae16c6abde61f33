//! What an act is.

use std::fmt;
use std::time::Instant;

use ipnet::IpNet;

use crate::base::{Endpoint, NodeName, RuleName};

/// What an act is about: one register for each.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// Whether clients of a network may connect.
    Client(IpNet),
    /// Whether a backend takes new connections.
    Drain(Place),
    /// A backend's part in its rule.
    Backend(Place),
}

/// A backend of a rule, as the configuration writes it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The rule.
    pub rule: RuleName,
    /// Address or name.
    pub backend: Endpoint,
}

/// What is to be. A `mark` tells how the backend was configured when the act was made: where it is
/// configured otherwise, the act does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As if nothing had ever been ordered.
    Lifted,
    /// New connections are refused.
    Ban {
        /// Live ones were ended as well.
        cut: bool,
    },
    /// No new connections; live ones go on.
    Drain {
        /// How the backend was configured.
        mark: u64,
    },
    /// A backend that the configuration does not have.
    Add {
        /// Its share.
        weight: u32,
    },
    /// The rule goes without this backend.
    Remove {
        /// How the backend was configured.
        mark: u64,
    },
    /// Another share.
    Weight {
        /// The share.
        weight: u32,
        /// How the backend was configured.
        mark: u64,
    },
}

/// An act as a node holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    /// What is to be.
    pub order: Order,
    /// The node where it was ordered.
    pub by: NodeName,
    /// When it no longer holds; `None`: it is lifted by an act only.
    pub ends: Option<Instant>,
    /// When it may be forgotten; `None`: not as long as it is not lifted.
    pub forget: Option<Instant>,
}

impl Act {
    /// Whether it still says something.
    pub fn holds(&self, now: Instant) -> bool {
        self.order != Order::Lifted && self.ends.is_none_or(|ends| ends > now)
    }
}

impl Subject {
    /// Whether `order` can be said of it.
    pub fn takes(&self, order: Order) -> bool {
        match self {
            Subject::Client(_) => matches!(order, Order::Lifted | Order::Ban { .. }),
            Subject::Drain(_) => matches!(order, Order::Lifted | Order::Drain { .. }),
            Subject::Backend(_) => !matches!(order, Order::Ban { .. } | Order::Drain { .. }),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Client(network) => write!(f, "client {network}"),
            Subject::Drain(place) => write!(f, "drain {} {}", place.rule, place.backend),
            Subject::Backend(place) => write!(f, "backend {} {}", place.rule, place.backend),
        }
    }
}
