//! Clusters: many gossip machines on a simulated fabric in virtual time, and real ones on loopback.

mod acts;
mod bars;
mod counters;
mod crowd;
mod fabric;
mod far;
mod health;
mod leases;
mod loads;
mod loopback;
mod malformed;
mod measure;
mod membership;
mod memory;
mod names;
mod paces;
mod push_pull;
mod scenarios;
mod sealed;
mod sharing;
mod support;
mod tickets;
mod world;
