//! A limiter alone under a flood. Several of them, and the gossip between them, are in
//! `tests/cluster`. Every run prints its seed; set `SIM_SEED` to replay one.

mod allocations;
mod flood;
