//! Values that any two nodes can merge in any order, any number of times. Pure; the laws are proved
//! by property tests.
//!
//! - [`Counter`]: a grow-only total of one actor, merged by max; a merge tells by how much the total
//!   grew, so that it can be debited exactly once.
//! - [`Registers`]: last writer wins, by (version, writer); with the writer in the key they are
//!   registers of a single writer.
//! - [`Outbox`]: what is still to be told, newest value per key, cut to a datagram's size.

mod counters;
mod outbox;
mod registers;

pub use counters::{Counter, Told};
pub use outbox::Outbox;
pub use registers::{Register, Registers};
