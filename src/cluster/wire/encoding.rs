//! The one place that knows bincode. Every decode is bounded, so that a forged length cannot ask
//! for memory.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What decoding one record may ask for. It is counted in memory, not on the wire, where numbers are
/// short: a full datagram of rows becomes about 4 KiB.
const MOST: usize = 16 << 10;

/// Bytes that are not a value of the wanted type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bytes that are not what they claim to be")]
pub struct Undecodable;

/// Appends `value` to `out`.
pub fn encode<T: Serialize>(value: &T, out: &mut Vec<u8>) {
    // Writing our own plain types to memory cannot fail; were it to, the peer drops what we send.
    let config = bincode::config::standard();
    let _ = bincode::serde::encode_into_std_write(value, out, config);
}

/// The value at the head of `bytes`; what follows it is a later version's and is left alone.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Undecodable> {
    let config = bincode::config::standard().with_limit::<MOST>();
    match bincode::serde::decode_from_slice(bytes, config) {
        Ok((value, _)) => Ok(value),
        Err(_) => Err(Undecodable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forged_length_is_refused_before_memory_is_asked_for() {
        // A byte string that claims 2^62 bytes.
        let forged = [&[253u8][..], &(1u64 << 62).to_le_bytes(), &[0; 16]].concat();
        assert_eq!(decode::<Vec<u64>>(&forged), Err(Undecodable));
        assert_eq!(decode::<String>(&forged), Err(Undecodable));
    }

    #[test]
    fn a_longer_tail_is_left_alone() {
        let mut bytes = Vec::new();
        encode(&(7u64, 9u8), &mut bytes);
        bytes.extend_from_slice(b"of a later version");
        assert_eq!(decode::<(u64, u8)>(&bytes), Ok((7, 9)));
    }
}
