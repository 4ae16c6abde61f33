//! Whole clusters, run and broken the way operators run and break them: real processes on loopback,
//! the compose cluster, and hosts that are network namespaces.
//!
//! ```text
//! cargo test --test e2e -- --ignored --test-threads 1
//! ```
//!
//! A test that lacks something (root, docker, a tool) says so and is skipped; with
//! `TIDEGATE_E2E_REQUIRE=1` it fails instead. `TIDEGATE_BIN` names the program under test, which is
//! else the one that cargo just built; the tests with containers need a static one.
//!
//! The tests take turns even without `--test-threads 1`: they measure time, and some share ports.

mod clients;
mod cluster;
mod command;
mod compose;
mod drain;
mod gossip;
mod harness;
mod image;
mod limits;
mod netns;
#[path = "../support/pages.rs"]
mod pages;
mod reload;
mod tls;
