//! The node: boot, build, reload, drain.

pub mod backend_server;
