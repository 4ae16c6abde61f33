//! Records of challenges between boots.

use serde::{Deserialize, Serialize};

use crate::base::{Actor, BootId};

/// A boot that is not known is to show that it lives: it seals the nonce back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// To be sent back.
    pub nonce: u64,
    /// Which boot is meant; another boot of its node does not answer for it.
    pub of: BootId,
}

/// Two boots of one node live: its state directory was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cloned {
    /// The one.
    pub one: Actor,
    /// The other.
    pub other: Actor,
}
