//! Who is banned: asked of every new connection before anything else, so it must cost next to nothing
//! when nobody is, and little when sixty thousand are.

use std::net::IpAddr;

use ipnet::IpNet;

use super::networks::Networks;

/// The bans in effect at one moment. Published whole; a look-up takes no lock and allocates nothing.
#[derive(Clone, Debug, Default)]
pub struct Bans {
    all: Networks<()>,
    /// Those that end live connections as well.
    cutting: Networks<()>,
}

impl Bans {
    /// Of these networks; with each, whether it ends live connections as well.
    pub fn new(bans: impl IntoIterator<Item = (IpNet, bool)> + Clone) -> Self {
        let cutting = bans.clone().into_iter().filter(|(_, cut)| *cut);
        Bans {
            cutting: Networks::new(cutting.map(|(network, _)| (network, ()))),
            all: Networks::new(bans.into_iter().map(|(network, _)| (network, ()))),
        }
    }

    /// Whether `client` may not connect.
    pub fn refuses(&self, client: IpAddr) -> bool {
        self.all.find(client).is_some()
    }

    /// Whether live connections of `client` are to end.
    pub fn cuts(&self, client: IpAddr) -> bool {
        self.cutting.find(client).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bans(all: &[(&str, bool)]) -> Bans {
        let all: Vec<(IpNet, bool)> =
            all.iter().map(|(net, cut)| (net.parse().unwrap(), *cut)).collect();
        Bans::new(all)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn nobody_is_refused_until_somebody_is_banned() {
        assert!(!Bans::default().refuses(ip("10.0.0.1")));
        let bans = bans(&[("203.0.113.7/32", false), ("2001:db8::/32", false)]);
        assert!(bans.refuses(ip("203.0.113.7")) && bans.refuses(ip("::ffff:203.0.113.7")));
        assert!(bans.refuses(ip("2001:db8::5")) && !bans.refuses(ip("203.0.113.8")));
    }

    #[test]
    fn a_wide_ban_that_cuts_is_not_softened_by_a_narrow_one_that_does_not() {
        let bans = bans(&[("10.0.0.0/8", true), ("10.0.0.1/32", false), ("9.9.9.9/32", false)]);
        assert!(bans.cuts(ip("10.0.0.1")) && bans.refuses(ip("10.0.0.1")));
        assert!(!bans.cuts(ip("9.9.9.9")) && bans.refuses(ip("9.9.9.9")));
    }
}
