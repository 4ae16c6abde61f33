//! Access by network: the more specific network decides.

use std::net::IpAddr;

use super::networks::Networks;
use super::plan::AccessPlan;

/// Who may connect. The more specific network wins; a network in both lists is denied; who is in
/// no list may connect unless there is an allow list.
#[derive(Clone, Debug)]
pub struct Access {
    networks: Networks<bool>,
    otherwise: bool,
}

impl Access {
    /// Made once per plan; a look-up is a binary search per prefix length in use.
    pub fn new(plan: &AccessPlan) -> Self {
        // Denied ones first: of equal networks the first counts.
        let deny = plan.deny.iter().map(|net| (*net, false));
        let allow = plan.allow.iter().map(|net| (*net, true));
        Access { networks: Networks::new(deny.chain(allow)), otherwise: plan.allow.is_empty() }
    }

    /// May `client` connect?
    pub fn allows(&self, client: IpAddr) -> bool {
        self.networks.find(client).unwrap_or(self.otherwise)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(allow: &[&str], deny: &[&str], client: &str) -> bool {
        let parse = |nets: &[&str]| nets.iter().map(|net| net.parse().unwrap()).collect();
        Access::new(&AccessPlan { allow: parse(allow), deny: parse(deny) })
            .allows(client.parse().unwrap())
    }

    #[test]
    fn without_lists_everybody_may() {
        assert!(allows(&[], &[], "192.0.2.1"));
        assert!(allows(&[], &[], "2001:db8::1"));
    }

    #[test]
    fn an_allow_list_keeps_everybody_else_out() {
        assert!(allows(&["10.0.0.0/8"], &[], "10.1.1.1"));
        assert!(!allows(&["10.0.0.0/8"], &[], "192.0.2.1"));
        assert!(!allows(&["10.0.0.0/8"], &[], "2001:db8::1"));
    }

    #[test]
    fn a_deny_list_alone_lets_everybody_else_in() {
        assert!(!allows(&[], &["203.0.113.0/24"], "203.0.113.9"));
        assert!(!allows(&[], &["203.0.113.0/24"], "::ffff:203.0.113.9"));
        assert!(allows(&[], &["203.0.113.0/24"], "192.0.2.1"));
    }

    #[test]
    fn the_more_specific_network_wins_whichever_list_it_is_in() {
        let (allow, deny) = (["0.0.0.0/0", "203.0.113.7/32"], ["203.0.113.0/24"]);
        assert!(allows(&allow, &deny, "192.0.2.1"));
        assert!(!allows(&allow, &deny, "203.0.113.9"));
        assert!(allows(&allow, &deny, "203.0.113.7"));
    }

    #[test]
    fn a_network_in_both_lists_is_denied() {
        assert!(!allows(&["10.0.0.0/8"], &["10.0.0.0/8"], "10.1.1.1"));
    }
}
