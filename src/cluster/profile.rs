//! How long a cluster waits for its network: foca's settings, and what else hangs on them. Measured; see
//! `docs/cluster.md` for what they give.

use std::num::{NonZeroU8, NonZeroU32, NonZeroUsize};
use std::time::Duration;

use foca::{Config, PeriodicParams};

use super::wire::MAX_PAYLOAD;

/// How long foca remembers who is down.
const REMEMBER_DOWN: Duration = Duration::from_secs(600);

/// What lies between the nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Profile {
    /// One site: answers come within a few milliseconds.
    #[default]
    Lan,
    /// Sites apart: answers take a tenth of a second and more, and a route may fail for seconds.
    Wan,
}

impl Profile {
    /// As the configuration calls it.
    pub fn label(self) -> &'static str {
        match self {
            Profile::Lan => "lan",
            Profile::Wan => "wan",
        }
    }

    /// foca's settings for a cluster of `nodes`.
    pub fn config(self, nodes: usize) -> Config {
        let common = Config {
            max_transmissions: transmissions(nodes),
            probe_period: self.probe_period(),
            probe_rtt: self.probe_period() / 2,
            suspect_to_down_after: self.suspect(),
            remove_down_after: Some(REMEMBER_DOWN),
            max_packet_size: ONE.saturating_add(MAX_PAYLOAD - 1),
            notify_down_members: true,
            // Our own announce loop asks the lost ones, and it never stops.
            periodic_announce_to_down_members: None,
            ..Config::new_wan(NonZeroU32::MIN)
        };
        match self {
            Profile::Lan => Config {
                num_indirect_probes: ONE.saturating_add(2),
                periodic_announce: every(10_000, ONE),
                periodic_gossip: every(100, ONE.saturating_add(2)),
                ..common
            },
            // foca's own pace of gossip (500 ms, to four); its probes (every 5 s, 30 s to refute, more
            // in larger clusters) would show a death after 40 s.
            Profile::Wan => common,
        }
    }

    /// Between two probes; half of it is left for the direct answer, half for the detours.
    pub fn probe_period(self) -> Duration {
        match self {
            Profile::Lan => Duration::from_millis(500),
            Profile::Wan => Duration::from_secs(2),
        }
    }

    /// How long a suspect has to refute, at any number of nodes.
    pub fn suspect(self) -> Duration {
        match self {
            Profile::Lan => Duration::from_millis(1500),
            Profile::Wan => Duration::from_secs(8),
        }
    }

    /// How long it has at most when we are in doubt of our own senses.
    pub fn patience(self) -> Duration {
        4 * self.suspect()
    }

    /// Failed probes further apart than this do not add up to a doubt.
    pub fn memory(self) -> Duration {
        10 * self.probe_period()
    }

    /// By now a death is known, with whatever was lost on the way.
    pub fn death_is_known(self) -> Duration {
        4 * self.probe_period() + 4 * self.suspect()
    }
}

const ONE: NonZeroUsize = NonZeroUsize::MIN;

fn every(ms: u64, num_members: NonZeroUsize) -> Option<PeriodicParams> {
    Some(PeriodicParams { frequency: Duration::from_millis(ms), num_members })
}

/// How often an update is sent: foca's own 2, 4, 8 at 3, 10, 100 nodes leave events that never
/// reach everybody.
pub fn transmissions(nodes: usize) -> NonZeroU8 {
    let wanted = 4.0 * ((nodes + 1) as f64).log10().ceil();
    NonZeroU8::MIN.saturating_add((wanted as u8).max(10) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lan_keeps_the_settings_that_were_measured() {
        let lan = Profile::Lan.config(10);
        assert_eq!(lan.probe_period, Duration::from_millis(500));
        assert_eq!(lan.probe_rtt, Duration::from_millis(250));
        assert_eq!(lan.suspect_to_down_after, Duration::from_millis(1500));
        assert_eq!(lan.max_transmissions.get(), 10);
        assert_eq!(lan.num_indirect_probes.get(), 3);
        assert_eq!(Profile::Lan.death_is_known(), Duration::from_secs(8));
        assert_eq!(Profile::Lan.memory(), Duration::from_secs(5));
    }

    #[test]
    fn every_profile_gives_detours_their_time_and_suspects_a_chance() {
        for profile in [Profile::Lan, Profile::Wan] {
            let config = profile.config(100);
            assert!(config.probe_rtt < config.probe_period);
            assert!(config.suspect_to_down_after >= 3 * config.probe_period);
            assert_eq!(config.max_packet_size.get(), MAX_PAYLOAD);
            assert_eq!(config.max_transmissions, transmissions(100));
        }
    }
}
