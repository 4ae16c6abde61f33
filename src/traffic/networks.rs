//! Networks with a value each; an address finds the value of the most specific network around it.

use std::net::IpAddr;

use ipnet::IpNet;

/// One sorted row of networks per prefix length that occurs, the longest prefix first: a look-up
/// is one binary search per length.
#[derive(Clone, Debug)]
pub(super) struct Networks<T> {
    v4: Vec<SameLength<T>>,
    v6: Vec<SameLength<T>>,
}

#[derive(Clone, Debug)]
struct SameLength<T> {
    /// The host part of an address, in its lowest bits.
    host_bits: u32,
    /// Network bits (shifted down) and value, sorted.
    networks: Vec<(u128, T)>,
}

impl<T> Default for Networks<T> {
    fn default() -> Self {
        Networks { v4: Vec::new(), v6: Vec::new() }
    }
}

impl<T: Copy> Networks<T> {
    /// Of equal networks the first one's value counts.
    pub(super) fn new(networks: impl IntoIterator<Item = (IpNet, T)>) -> Self {
        let mut made = Networks::default();
        for (network, value) in networks {
            let (rows, bits, host_bits) = match canonical(network) {
                IpNet::V4(net) => {
                    (&mut made.v4, u128::from(net.addr().to_bits()), 32 - net.prefix_len())
                }
                IpNet::V6(net) => (&mut made.v6, net.addr().to_bits(), 128 - net.prefix_len()),
            };
            let host_bits = u32::from(host_bits);
            let row = match rows.binary_search_by_key(&host_bits, |row| row.host_bits) {
                Ok(at) => &mut rows[at].networks,
                Err(at) => {
                    rows.insert(at, SameLength { host_bits, networks: Vec::new() });
                    &mut rows[at].networks
                }
            };
            row.push((above(bits, host_bits), value));
        }
        for row in made.v4.iter_mut().chain(&mut made.v6) {
            // Stable, so that of equal networks the first stays.
            row.networks.sort_by_key(|(bits, _)| *bits);
            row.networks.dedup_by_key(|(bits, _)| *bits);
        }
        made
    }

    /// The value of the most specific network around `ip`.
    pub(super) fn find(&self, ip: IpAddr) -> Option<T> {
        let (rows, bits) = match ip.to_canonical() {
            IpAddr::V4(ip) => (&self.v4, u128::from(ip.to_bits())),
            IpAddr::V6(ip) => (&self.v6, ip.to_bits()),
        };
        rows.iter().find_map(|row| {
            let bits = above(bits, row.host_bits);
            let at = row.networks.binary_search_by_key(&bits, |(bits, _)| *bits).ok()?;
            Some(row.networks[at].1)
        })
    }
}

fn above(bits: u128, host_bits: u32) -> u128 {
    bits.checked_shr(host_bits).unwrap_or(0)
}

/// A network of IPv4-mapped addresses is the IPv4 network.
fn canonical(network: IpNet) -> IpNet {
    if let IpNet::V6(net) = network
        && let Some(ip) = net.addr().to_ipv4_mapped()
        && let Some(prefix) = net.prefix_len().checked_sub(96)
        && let Ok(net) = ipnet::Ipv4Net::new(ip, prefix)
    {
        return IpNet::V4(net);
    }
    network
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(networks: &[(&str, u8)], ip: &str) -> Option<u8> {
        let networks = networks.iter().map(|(net, value)| (net.parse().unwrap(), *value));
        Networks::new(networks).find(ip.parse().unwrap())
    }

    #[test]
    fn the_most_specific_network_is_found() {
        let networks =
            [("0.0.0.0/0", 0), ("10.0.0.0/8", 8), ("10.1.0.0/16", 16), ("10.1.2.3/32", 32)];
        assert_eq!(find(&networks, "9.9.9.9"), Some(0));
        assert_eq!(find(&networks, "10.9.9.9"), Some(8));
        assert_eq!(find(&networks, "10.1.9.9"), Some(16));
        assert_eq!(find(&networks, "10.1.2.3"), Some(32));
    }

    #[test]
    fn the_families_do_not_mix_but_mapped_addresses_are_ipv4() {
        assert_eq!(find(&[("0.0.0.0/0", 1)], "2001:db8::1"), None);
        assert_eq!(find(&[("::/0", 1)], "10.0.0.1"), None);
        assert_eq!(find(&[("10.0.0.0/8", 1)], "::ffff:10.0.0.1"), Some(1));
        assert_eq!(find(&[("::ffff:10.0.0.0/104", 1)], "10.0.0.1"), Some(1));
    }

    #[test]
    fn host_bits_in_a_network_are_ignored_and_the_first_of_equals_counts() {
        assert_eq!(find(&[("10.1.2.3/8", 1), ("10.0.0.0/8", 2)], "10.9.9.9"), Some(1));
        assert_eq!(find(&[("2001:db8::5/32", 1)], "2001:db8:9::"), Some(1));
    }
}
