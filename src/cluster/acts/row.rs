//! Acts on the wire and on disk. No wall clock: what ends, ends after so many milliseconds.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::act::{Order, Place, Subject};
use crate::base::{Actor, Endpoint, NodeName, RuleName};
use crate::cluster::wire::encoding::Undecodable;
use crate::cluster::wire::records::{Record, showable};

/// Longest name of a rule, a backend or a node in an act.
const MOST_TEXT: usize = 255;
/// So many bytes tell well enough which node it was.
const MOST_BY: usize = 32;
/// No version is above this: numbers can grow on. What peers tell is bounded by the clock as well.
const MOST_VERSION: u64 = u64::MAX / 2;
/// Two years: no act and no memory of one is longer.
const LONGEST_MS: u64 = 2 * 366 * 24 * 3600 * 1000;

/// What all acts together amount to: equal stores have equal beats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActsBeat {
    /// How many.
    pub count: u32,
    /// Of all of them, in any order.
    pub hash: u64,
}

/// Tell me what I lack: here is what mine amount to, by part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskActs {
    /// So many as there are parts of the store: sums of 4 bytes.
    pub sums: Vec<u8>,
}

/// Who wrote a register, when, and how long it lasts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// The later wins. Milliseconds since 1970, or more.
    pub version: u64,
    /// Decides between equal versions.
    pub writer: Actor,
    /// Name of the node where it was ordered.
    pub by: String,
    /// Milliseconds for which it still holds.
    pub left_ms: Option<u64>,
    /// Milliseconds for which it is still remembered.
    pub keep_ms: Option<u64>,
}

/// A ban.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BanRow {
    /// A network.
    pub client: String,
    /// Whether live connections were ended; `None`: the ban was lifted.
    pub cut: Option<bool>,
    /// Its stamp.
    pub stamp: Stamp,
}

/// A drain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainRow {
    /// Rule.
    pub rule: String,
    /// Backend, as configured.
    pub backend: String,
    /// How it was configured; `None`: the drain was lifted.
    pub mark: Option<u64>,
    /// Its stamp.
    pub stamp: Stamp,
}

/// A change of a rule's backends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendRow {
    /// Rule.
    pub rule: String,
    /// Backend, as configured.
    pub backend: String,
    /// What is changed.
    pub change: Change,
    /// Its stamp.
    pub stamp: Stamp,
}

/// As [`Order`], for backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "as in `Order`")]
pub enum Change {
    Lifted,
    Add { weight: u32 },
    Remove { mark: u64 },
    Weight { weight: u32, mark: u64 },
}

/// One act, by its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    /// A ban.
    Ban(BanRow),
    /// A drain.
    Drain(DrainRow),
    /// A change of backends.
    Backend(BackendRow),
}

impl Row {
    /// Of a subject and what is ordered about it; `None` when the order does not fit the subject.
    pub(super) fn new(subject: &Subject, order: Order, stamp: Stamp) -> Option<Row> {
        let names = |place: &Place| (place.rule.to_string(), place.backend.to_string());
        Some(match (subject, order) {
            (Subject::Client(network), Order::Lifted) => {
                Row::Ban(BanRow { client: network.to_string(), cut: None, stamp })
            }
            (Subject::Client(network), Order::Ban { cut }) => {
                Row::Ban(BanRow { client: network.to_string(), cut: Some(cut), stamp })
            }
            (Subject::Drain(place), order) => {
                let (rule, backend) = names(place);
                let mark = match order {
                    Order::Lifted => None,
                    Order::Drain { mark } => Some(mark),
                    _ => return None,
                };
                Row::Drain(DrainRow { rule, backend, mark, stamp })
            }
            (Subject::Backend(place), order) => {
                let (rule, backend) = names(place);
                let change = match order {
                    Order::Lifted => Change::Lifted,
                    Order::Add { weight } => Change::Add { weight },
                    Order::Remove { mark } => Change::Remove { mark },
                    Order::Weight { weight, mark } => Change::Weight { weight, mark },
                    _ => return None,
                };
                Row::Backend(BackendRow { rule, backend, change, stamp })
            }
            (Subject::Client(_), _) => return None,
        })
    }

    /// Its stamp.
    pub fn stamp(&self) -> &Stamp {
        match self {
            Row::Ban(row) => &row.stamp,
            Row::Drain(row) => &row.stamp,
            Row::Backend(row) => &row.stamp,
        }
    }

    /// Its stamp, to change.
    pub fn stamp_mut(&mut self) -> &mut Stamp {
        match self {
            Row::Ban(row) => &mut row.stamp,
            Row::Drain(row) => &mut row.stamp,
            Row::Backend(row) => &mut row.stamp,
        }
    }

    /// What it is about and what it orders; `None` when it is not sound, whoever wrote it.
    pub(super) fn read(&self) -> Option<(Subject, Order)> {
        let place = |rule: &str, backend: &str| {
            let sound = !rule.is_empty() && showable(rule) && rule.len() <= MOST_TEXT;
            let backend = backend.parse::<Endpoint>().ok()?;
            sound.then(|| Place { rule: RuleName::from(rule), backend })
        };
        let read = match self {
            Row::Ban(row) => {
                let network: IpNet = row.client.parse().ok()?;
                let order = row.cut.map_or(Order::Lifted, |cut| Order::Ban { cut });
                (Subject::Client(network.trunc()), order)
            }
            Row::Drain(row) => {
                let order = row.mark.map_or(Order::Lifted, |mark| Order::Drain { mark });
                (Subject::Drain(place(&row.rule, &row.backend)?), order)
            }
            Row::Backend(row) => {
                let order = match row.change {
                    Change::Lifted => Order::Lifted,
                    Change::Add { weight } => Order::Add { weight },
                    Change::Remove { mark } => Order::Remove { mark },
                    Change::Weight { weight, mark } => Order::Weight { weight, mark },
                };
                (Subject::Backend(place(&row.rule, &row.backend)?), order)
            }
        };
        self.stamp().sound().then_some(read)
    }

    /// The later wins.
    pub fn version(&self) -> u64 {
        self.stamp().version
    }

    /// As gossip carries it.
    pub fn record(self) -> Record {
        match self {
            Row::Ban(row) => Record::Ban(row),
            Row::Drain(row) => Record::Drain(row),
            Row::Backend(row) => Record::Backend(row),
        }
    }
}

impl Stamp {
    fn sound(&self) -> bool {
        let short = |ms: &Option<u64>| ms.is_none_or(|ms| ms <= LONGEST_MS);
        self.version <= MOST_VERSION
            && short(&self.left_ms)
            && short(&self.keep_ms)
            && self.by.len() <= MOST_BY
            && showable(&self.by)
    }
}

/// The name of the node, as far as an act carries it.
pub(super) fn by(name: &NodeName) -> NodeName {
    let mut end = name.0.len().min(MOST_BY);
    while !name.0.is_char_boundary(end) {
        end -= 1;
    }
    NodeName::from(&name.0[..end])
}

macro_rules! checked {
    ($($kind:ident, $row:ident);+) => {
        $(impl $row {
            /// Refuses what could not be an act.
            pub(in crate::cluster) fn checked(self) -> Result<$row, Undecodable> {
                let row = Row::$kind(self);
                if row.read().is_none() {
                    return Err(Undecodable);
                }
                match row {
                    Row::$kind(row) => Ok(row),
                    _ => Err(Undecodable),
                }
            }
        })+
    };
}

checked!(Ban, BanRow; Drain, DrainRow; Backend, BackendRow);

#[cfg(test)]
mod tests;
