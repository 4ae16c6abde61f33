//! Records of session tickets' secrets. They are told sealed, or not at all.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroize as _;

use crate::net::tls::TicketSecret;

/// What the secrets of three epochs amount to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicketsBeat {
    /// Which epoch the sender is in.
    pub epoch: u64,
    /// Of the epoch before, of this one, and of the next; 0: there are none.
    pub sums: [u64; 3],
    /// It answers a beat: whoever sees other sums tells its secrets, but asks no further.
    pub answer: bool,
}

/// A secret. Its name is not told: it is made of the two.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicketRow {
    /// When it seals.
    pub epoch: u64,
    /// The secret itself.
    pub secret: [u8; 32],
}

impl TicketsBeat {
    /// The sum of an epoch; `None`: it is not spoken of.
    pub fn sum(&self, epoch: u64) -> Option<u64> {
        let at = epoch.checked_add(1)?.checked_sub(self.epoch)?;
        self.sums.get(usize::try_from(at).ok()?).copied()
    }
}

impl From<&TicketSecret> for TicketRow {
    fn from(secret: &TicketSecret) -> Self {
        TicketRow { epoch: secret.epoch, secret: secret.secret }
    }
}

impl From<&TicketRow> for TicketSecret {
    fn from(row: &TicketRow) -> Self {
        TicketSecret::new(row.epoch, row.secret)
    }
}

/// Never shows the secret itself.
impl fmt::Debug for TicketRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TicketRow(epoch {})", self.epoch)
    }
}

impl Drop for TicketRow {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}
