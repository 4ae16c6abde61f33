//! Sockets: options, listeners that never die, relay and splice, names. The only room with
//! `unsafe`.

pub mod options;

pub use options::{Keepalive, TcpOptions};
