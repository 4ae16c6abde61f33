//! The cluster wing: membership by SWIM (foca), counters and health views between nodes.

pub mod plan;

pub use plan::ClusterPlan;
