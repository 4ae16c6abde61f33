//! The first bytes of a client whose TLS is passed through: what was said of them never changes by
//! what follows, and a name that routes go by is one that they can be written for.

use tidegate::net::hello::LARGEST_HELLO;
use tidegate::net::{Hello, HelloFault, read_hello};

use super::settled;

/// Takes what a client sent.
pub fn take(bytes: &[u8]) {
    match settled(bytes, read_hello) {
        Ok(Some(Hello { server_name, alpn })) => {
            if let Some(name) = server_name {
                let plain = |byte: u8| byte.is_ascii() && !byte.is_ascii_uppercase();
                assert!(name.bytes().all(plain), "{name:?}");
                assert!(!name.is_empty() && name.len() <= 253 && !name.ends_with('.'), "{name:?}");
            }
            assert!(alpn.iter().all(|protocol| !protocol.is_empty()));
        }
        Ok(None) => assert!(bytes.len() < LARGEST_HELLO, "more than that is never needed"),
        Err(HelloFault::NotTls) => assert!(!bytes.starts_with(&[0x16, 3])),
        Err(HelloFault::Malformed(_) | HelloFault::TooLarge) => assert_eq!(bytes[0], 0x16),
    }
}
