//! What is fuzzed: everything that reads bytes of others. A target takes any bytes; it must not
//! panic, must end soon, and must keep what it promises of what it read.
//!
//! libFuzzer runs the targets by `fuzz_targets/`; the kept corpus also runs with every `cargo test`
//! (`tests/fuzzed`), so that what was found once stays found.

use std::fmt::Debug;

pub mod codec;
pub mod config;
pub mod datagram;
pub mod hello;
pub mod proxy_header;
pub mod records;
pub mod state;
pub mod stream;
pub mod words;

/// A target by its name: the name of its binary and of its corpus.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const ALL: [Target; 9] = [
    ("codec", codec::take),
    ("config", config::take),
    ("datagram", datagram::take),
    ("hello", hello::take),
    ("proxy_header", proxy_header::take),
    ("records", records::take),
    ("state", state::take),
    ("stream", stream::take),
    ("words", words::take),
];

/// Has all `bytes` read, and every beginning of them that is not too dear: once a reader has said
/// something (`None` asks for more), it says the same of whatever follows.
fn settled<T: PartialEq + Debug, E: PartialEq + Debug>(
    bytes: &[u8],
    read: impl Fn(&[u8]) -> Result<Option<T>, E>,
) -> Result<Option<T>, E> {
    let all = read(bytes);
    let step = 1 + bytes.len() / 512;
    for end in (0..bytes.len()).step_by(step) {
        let said = read(&bytes[..end]);
        assert!(said == Ok(None) || said == all, "{said:?} of {end} bytes, then {all:?}");
    }
    all
}
