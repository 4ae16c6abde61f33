//! foca's messages: a header, the number of members, the members. Whatever the codec reads it can
//! write, and the driver tells strangers from members and hears the message without harm.

use foca::Codec;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tidegate::base::time;
use tidegate::cluster::Profile;
use tidegate::cluster::codec::SwimCodec;
use tidegate::cluster::driver::Driver;

use super::datagram::{EPOCH_MS, OWN, PEER, identity};

/// Takes a message.
pub fn take(message: &[u8]) {
    let mut driver = Driver::new(identity(OWN), Profile::Lan, StdRng::seed_from_u64(1));
    let mut codec = SwimCodec::new(identity(OWN));
    let mut rest = message;
    if let Ok(header) = codec.decode_header(&mut rest) {
        let mut again = Vec::new();
        codec.encode_header(&header, &mut again).expect("what was read fits");
        assert_eq!(codec.decode_header(&again[..]), Ok(header));
        rest = rest.get(2..).unwrap_or_default();
        while let Ok(member) = codec.decode_member(&mut rest) {
            let mut again = Vec::new();
            codec.encode_member(&member, &mut again).expect("what was read fits");
            assert_eq!(codec.decode_member(&again[..]), Ok(member));
        }
    }
    driver.names_strangers(message);
    let _ = driver.hear(time::now(), EPOCH_MS, PEER, message);
    let sent = driver.take_sends();
    assert!(sent.len() <= 8, "{} datagrams for one", sent.len());
}
