//! Records of verdicts on backends. Tag 8 was rows without details; it is not used again.

use serde::{Deserialize, Serialize};

/// Sent on change and every report interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthBeat {
    /// Grows with every change of what is told.
    pub version: u64,
    /// Milliseconds to the next beat at the latest.
    pub interval: u32,
}

/// Some of the verdicts of one version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthPart {
    /// The version.
    pub version: u64,
    /// Which part, from 0.
    pub part: u16,
    /// Of how many.
    pub parts: u16,
    /// What the sender found.
    pub rows: Vec<HealthRow>,
}

/// One backend's register, its observer being the datagram's sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthRow {
    /// The backend's id.
    pub backend: u64,
    /// Whether it is down.
    pub down: bool,
    /// Grows with every change of the verdict.
    pub seq: u64,
    /// Seconds that the verdict has stood, when this was sent.
    pub age: u32,
    /// Results in a row that said so.
    pub streak: u32,
    /// Microseconds of a good check; 0: there was none.
    pub latency: u32,
}
