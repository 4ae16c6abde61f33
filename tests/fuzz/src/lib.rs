//! What is fuzzed: everything that reads bytes of others. A target takes any bytes; it must not
//! panic, must end soon, and must keep what it promises of what it read.
//!
//! libFuzzer runs the targets by `fuzz_targets/`; the kept corpus also runs with every `cargo test`
//! (`tests/fuzzed`), so that what was found once stays found.

pub mod codec;
pub mod config;
pub mod datagram;
pub mod records;
pub mod state;
pub mod stream;
pub mod words;

/// A target by its name: the name of its binary and of its corpus.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const ALL: [Target; 7] = [
    ("codec", codec::take),
    ("config", config::take),
    ("datagram", datagram::take),
    ("records", records::take),
    ("state", state::take),
    ("stream", stream::take),
    ("words", words::take),
];
