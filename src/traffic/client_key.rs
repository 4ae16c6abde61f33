//! Whose traffic counts together: an IPv4 address, or an IPv6 prefix, as one customer usually has
//! a whole prefix to himself.

use std::net::{IpAddr, Ipv6Addr};

use crate::base::KeyHash;
use crate::base::id::stable_hash;

/// An IPv4 address, or an IPv6 address cut to `ipv6_prefix` bits. IPv4-mapped IPv6 is IPv4.
pub(super) fn client_key(client: IpAddr, ipv6_prefix: u8) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & mask(ipv6_prefix))),
        v4 => v4,
    }
}

/// A client as the cluster knows it: the same on every node under the same salt.
pub(super) fn client_hash(client: IpAddr, salt: u64) -> KeyHash {
    KeyHash(match client {
        IpAddr::V4(ip) => stable_hash(salt, &ip.octets()),
        IpAddr::V6(ip) => stable_hash(salt, &ip.octets()),
    })
}

fn mask(prefix: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(client: &str, prefix: u8) -> String {
        client_key(client.parse().unwrap(), prefix).to_string()
    }

    #[test]
    fn ipv6_clients_are_grouped_by_prefix_and_ipv4_ones_are_not() {
        assert_eq!(key("2001:db8:1:2:3:4:5:6", 64), "2001:db8:1:2::");
        assert_eq!(key("2001:db8:1:2:3:4:5:6", 48), "2001:db8:1::");
        assert_eq!(key("2001:db8::1", 128), "2001:db8::1");
        assert_eq!(key("2001:db8::1", 0), "::");
        assert_eq!(key("192.0.2.7", 8), "192.0.2.7");
    }

    #[test]
    fn a_mapped_client_is_its_ipv4_address() {
        assert_eq!(key("::ffff:192.0.2.7", 64), "192.0.2.7");
    }
}
