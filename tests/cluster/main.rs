//! Clusters: many gossip machines on a simulated fabric in virtual time, and real ones on loopback.

mod counters;
mod fabric;
mod health;
mod loopback;
mod malformed;
mod measure;
mod membership;
mod memory;
mod names;
mod sharing;
mod support;
