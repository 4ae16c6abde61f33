//! Clusters: many gossip machines on a simulated fabric in virtual time, and real ones on loopback.

mod loopback;
mod support;
