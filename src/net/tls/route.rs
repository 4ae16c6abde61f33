//! Where a name and a protocol lead: the routes of a rule, and which of them a client takes.

use crate::base::Endpoint;

/// Backends of those who ask for a name, speak a protocol, or both.
#[derive(Clone, Debug, PartialEq)]
pub struct TlsRoute {
    /// Lower case; `*.example.com` stands for one label more. `None`: whatever is asked for, and
    /// also nothing.
    pub server_name: Option<String>,
    /// Protocols (ALPN), one of which must be offered, or agreed on where TLS ends here; empty:
    /// whatever is offered, and also nothing.
    pub alpn: Vec<Vec<u8>>,
    /// As configured.
    pub backends: Vec<Endpoint>,
}

/// How closely a name is meant; the closest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Meant {
    Exactly,
    ByWildcard,
    WithAll,
}

impl TlsRoute {
    /// Whether who asks for `name` may come this way, whatever it speaks.
    pub fn leads(&self, name: Option<&str>) -> bool {
        self.meant(name).is_some()
    }

    fn meant(&self, name: Option<&str>) -> Option<Meant> {
        let Some(own) = self.server_name.as_deref() else { return Some(Meant::WithAll) };
        let name = name?;
        if own == name {
            return Some(Meant::Exactly);
        }
        let parent = name.find('.').map(|dot| &name[dot..]);
        (parent.is_some() && own.strip_prefix('*') == parent).then_some(Meant::ByWildcard)
    }

    fn takes(&self, offered: &[Vec<u8>]) -> bool {
        self.alpn.is_empty() || self.alpn.iter().any(|own| offered.contains(own))
    }
}

/// The route of who asks for `name` and offers these protocols: of those that lead there the one that
/// means the name most closely, then one that means a protocol, then the first. `None`: no route,
/// and so the rule's own backends.
pub fn route<'a>(
    routes: &'a [TlsRoute],
    name: Option<&str>,
    offered: &[Vec<u8>],
) -> Option<&'a TlsRoute> {
    routes
        .iter()
        .filter(|route| route.takes(offered))
        .filter_map(|route| Some(((route.meant(name)?, route.alpn.is_empty()), route)))
        .min_by_key(|(closest, _)| *closest)
        .map(|(_, route)| route)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ways(written: &[(Option<&str>, &[&str])]) -> Vec<TlsRoute> {
        let of = |(i, (name, alpn)): (usize, &(Option<&str>, &[&str]))| TlsRoute {
            server_name: name.map(str::to_owned),
            alpn: alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect(),
            backends: vec![format!("b:{}", i + 1).parse().unwrap()],
        };
        written.iter().enumerate().map(of).collect()
    }

    /// The port of the backend that is found.
    fn found(routes: &[TlsRoute], name: Option<&str>, offered: &[&str]) -> Option<u16> {
        let offered: Vec<_> = offered.iter().map(|name| name.as_bytes().to_vec()).collect();
        route(routes, name, &offered).map(|route| route.backends[0].port)
    }

    #[test]
    fn the_closest_name_goes_before_the_protocol_and_that_before_the_order() {
        let routes = ways(&[
            (None, &["h2"]),
            (Some("*.example.com"), &[]),
            (Some("*.example.com"), &["h2", "h3"]),
            (Some("a.example.com"), &["h2"]),
            (Some("a.example.com"), &["acme-tls/1", "http/1.1"]),
        ]);
        for (name, offered, want) in [
            (Some("a.example.com"), &["http/1.1", "h2"][..], Some(4)),
            (Some("a.example.com"), &["http/1.1"], Some(5)),
            (Some("a.example.com"), &["acme-tls/1"], Some(5)),
            (Some("a.example.com"), &[], Some(2)),
            (Some("a.example.com"), &["h3"], Some(3)),
            (Some("b.example.com"), &["h2"], Some(3)),
            (Some("b.example.com"), &["x"], Some(2)),
            (Some("b.a.example.com"), &["x"], None),
            (Some("example.com"), &["h2"], Some(1)),
            (Some("com"), &["h2"], Some(1)),
            (Some("com"), &["h2c"], None),
            (None, &["h2"], Some(1)),
            (None, &[], None),
        ] {
            assert_eq!(found(&routes, name, offered), want, "{name:?} {offered:?}");
        }
    }

    #[test]
    fn a_name_leads_somewhere_even_where_its_protocol_does_not() {
        let routes = ways(&[(Some("a.b"), &["h2"]), (Some("*.c.d"), &["h2"])]);
        assert_eq!(found(&routes, Some("a.b"), &["x"]), None);
        let leads = |name| routes.iter().any(|route| route.leads(name));
        assert!(leads(Some("a.b")) && leads(Some("x.c.d")));
        assert!(!leads(Some("b")) && !leads(Some("c.d")) && !leads(Some("")) && !leads(None));
    }
}
