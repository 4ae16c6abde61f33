//! foca's settings for a LAN, as measured: see `docs/` for what they give.

use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

use foca::{Config, PeriodicParams};

use super::wire::MAX_PAYLOAD;

/// How long a suspect has to refute, at any number of nodes.
pub const SUSPECT: Duration = Duration::from_millis(1500);
/// How long foca remembers who is down.
const REMEMBER_DOWN: Duration = Duration::from_secs(600);

/// The LAN profile of the design, for a cluster of `nodes`.
pub fn lan(nodes: usize) -> Config {
    const ONE: NonZeroUsize = NonZeroUsize::MIN;
    let three = ONE.saturating_add(2);
    let every = |ms, num_members| {
        Some(PeriodicParams { frequency: Duration::from_millis(ms), num_members })
    };
    Config {
        probe_period: Duration::from_millis(500),
        probe_rtt: Duration::from_millis(250),
        num_indirect_probes: three,
        max_transmissions: transmissions(nodes),
        suspect_to_down_after: SUSPECT,
        remove_down_after: Some(REMEMBER_DOWN),
        max_packet_size: ONE.saturating_add(MAX_PAYLOAD - 1),
        notify_down_members: true,
        periodic_announce: every(10_000, ONE),
        // Our own announce loop asks the lost ones, and it never stops.
        periodic_announce_to_down_members: None,
        periodic_gossip: every(100, three),
    }
}

/// How often an update is sent: foca's own 2, 4, 8 at 3, 10, 100 nodes leave events that never
/// reach everybody.
pub fn transmissions(nodes: usize) -> NonZeroU8 {
    let wanted = 4.0 * ((nodes + 1) as f64).log10().ceil();
    NonZeroU8::MIN.saturating_add((wanted as u8).max(10) - 1)
}
