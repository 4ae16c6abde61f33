//! The limiters of several nodes in virtual time, joined by a simulated exchange of their ledgers:
//! the real limiter and the real counters, no socket, no sleep. Every run prints its seed; set
//! `SIM_SEED` to replay one.

mod cluster;
mod flood;
mod world;
