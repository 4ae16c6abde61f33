//! Caps over the cluster: permits lent by a key's owner.
//!
//! ```text
//!   holder (claims)                             owner (book), and its backup
//!   used, held, needed ───── told ────────────▶ row: held + given - taken = lent
//!   held += given - taken ◀── loan ──────────── Σ lent ≤ cap, or nothing is given
//! ```
//!
//! Both ends tell numbers that only grow, or stand as they are under a running number, so that
//! datagrams which are lost, doubled or reordered harm nothing: `given` counts what the owner ever
//! gave to this holder, `taken` what the holder took of it, and between the two a permit counts as
//! lent. A holder lowers `held` first and tells then. So the permits that all nodes hold are never
//! more than the cap, as long as one node keeps the books of a key.
//!
//! A *life* is a holder's account with one pair of owners: when another node comes to keep a key's
//! books, or the key was forgotten meanwhile, a new life begins, what is held is told anew, and what
//! is still under way of the old one is void.

pub mod book;
pub mod claims;
pub mod quiet;
pub mod split;

use std::time::Duration;

/// A failed node's permits stay lent for so long: it may only be cut off, and serve on.
pub const HOLD: Duration = Duration::from_secs(5);
/// So long after members came or went, whoever begins to keep a key's books asks those who may have
/// kept them before.
pub const SETTLE: Duration = Duration::from_secs(3);
/// A key for which somebody was refused, or had to wait, is tight for so long: nobody holds more
/// than he uses.
pub const TIGHT: Duration = Duration::from_secs(2);

/// What a holder tells of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// Which account.
    pub life: u64,
    /// Later ones have higher numbers.
    pub seq: u64,
    /// Connections.
    pub used: u32,
    /// Permits, those in use included.
    pub held: u32,
    /// Permits for connections that are there or wait.
    pub needed: u32,
    /// Those, and some to spare.
    pub wanted: u32,
    /// The cap, as the holder has it configured.
    pub cap: u32,
    /// What it took, of all that this owner gave in this life.
    pub taken: u32,
    /// It gives back whatever comes free, at once.
    pub eager: bool,
    /// It takes the primary for dead.
    pub instead: bool,
}

/// What an owner tells a holder of one key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loan {
    /// As the holder last told.
    pub life: u64,
    /// As well.
    pub seq: u64,
    /// Permits given in this life, all together.
    pub given: u32,
    /// There are no more.
    pub full: bool,
    /// Others wait: give back whatever comes free.
    pub tight: bool,
    /// And say at once how you stand.
    pub recall: bool,
}
