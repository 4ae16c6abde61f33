//! Whole nodes in this process, as `tidegate run` starts them but for signals: reload, drain, and a
//! cluster that shares a limit.

mod acts;
mod certificates;
mod cluster;
mod ending;
mod hello;
mod keys;
mod pages;
mod reload;
mod sessions;
#[path = "../support/mod.rs"]
mod support;
mod tickets;
mod tls_modes;
mod world;
