//! Records of limits: what a node admitted, and what the cluster has left of it.
//!
//! Keys are hashes, of which every bit counts: they are written as eight bytes, not as numbers that
//! are often small.

use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::traffic::{Algorithm, Quota, Report};

/// Most rows of one [`Reports`]: each takes 28 bytes at the most.
pub const MOST_REPORTS: usize = 39;
/// Most rows of one [`Levels`]: each takes 21 bytes at the most.
pub const MOST_LEVELS: usize = 53;
/// Most rows of one [`Hot`]: 12 bytes each.
pub const MOST_HOT: usize = 90;

/// Use of one limit; the actor is the datagram's sender.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reports {
    /// To be named in the answer; 0 when none is wanted.
    pub seq: u32,
    /// The limit's id.
    pub limit: u64,
    /// How the sender counts it, for an owner that does not have the limit.
    pub counts: Counts,
    /// By key.
    pub rows: Vec<ReportRow>,
}

/// How a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Counts {
    /// A token bucket.
    Bucket {
        /// Tokens per second.
        rate: f64,
        /// Tokens.
        burst: f64,
    },
    /// A fixed window.
    Window {
        /// Admissions per window.
        limit: u32,
        /// Milliseconds.
        length: u64,
    },
}

/// What one actor spent of one key.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReportRow {
    /// The key's hash.
    pub key: [u8; 8],
    /// Tokens, cumulative; the low bits.
    pub total: u32,
    /// The part of `total` since the actor began to track the key.
    pub tenure: u32,
    /// The part of `total` that was spent just now.
    pub recent: u32,
    /// What the actor holds for the level, once an owner has answered it.
    pub level: Option<f32>,
}

/// Levels of one limit, by its owner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Levels {
    /// Of the reports that this answers; 0 when nobody asked.
    pub seq: u32,
    /// The limit's id.
    pub limit: u64,
    /// By key.
    pub rows: Vec<LevelRow>,
}

/// The level of one key.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LevelRow {
    /// The key's hash.
    pub key: [u8; 8],
    /// Tokens left; below zero when more was admitted than there was.
    pub level: f32,
    /// The recipient's newest total that is in it.
    pub acked: u32,
    /// Tokens per second that the others take.
    pub remote: f32,
}

/// Keys of one limit that run low.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hot {
    /// The limit's id.
    pub limit: u64,
    /// By key.
    pub rows: Vec<HotRow>,
}

/// A key that runs low.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct HotRow {
    /// The key's hash.
    pub key: [u8; 8],
    /// Tokens left.
    pub level: f32,
}

/// A token of a strict limit is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenAsk {
    /// To be named in the answer.
    pub ticket: u64,
    /// The limit's id.
    pub limit: u64,
    /// How the sender counts it.
    pub counts: Counts,
    /// The sender's use, the token that is asked for included.
    pub row: ReportRow,
}

/// The answer to a [`TokenAsk`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenAnswer {
    /// As in the ask.
    pub ticket: u64,
    /// Whether the token is granted.
    pub granted: bool,
    /// Tokens left.
    pub level: f64,
}

impl From<Report> for ReportRow {
    fn from(report: Report) -> Self {
        let Report { key, total, tenure, recent, level, .. } = report;
        ReportRow { key: key.0.to_be_bytes(), total: total as u32, tenure, recent, level }
    }
}

impl From<Algorithm> for Counts {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::TokenBucket(Quota { rate, burst }) => Counts::Bucket { rate, burst },
            Algorithm::FixedWindow { limit, window } => Counts::Window {
                limit: limit.get(),
                length: u64::try_from(window.as_millis()).unwrap_or(u64::MAX),
            },
        }
    }
}

impl Counts {
    /// The algorithm, when there can be such a one.
    pub fn algorithm(self) -> Option<Algorithm> {
        /// No window is longer.
        const YEAR: u64 = 365 * 24 * 3600 * 1000;
        match self {
            Counts::Bucket { rate, burst } => Quota::new(rate, burst).map(Algorithm::TokenBucket),
            Counts::Window { limit, length } => Some(Algorithm::FixedWindow {
                limit: NonZeroU32::new(limit)?,
                window: Duration::from_millis(length.clamp(1, YEAR)),
            }),
        }
    }
}
