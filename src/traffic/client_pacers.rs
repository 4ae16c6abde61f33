//! Bandwidth per client: all connections of a client share its pacers, which live exactly as long
//! as one of them does.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use super::client_key::{client_hash, client_key};
use super::holdings::CapKey;
use super::pacer::Pacer;
use super::plan::Rates;
use super::shared_pace::SharedPace;
use crate::base::{KeyHash, LimitId, stable_hash};

const SHARDS: usize = 64;

/// The pacers of all connected clients.
#[derive(Debug)]
pub struct ClientPacers {
    rates: Rates,
    /// When all nodes share the rates: the rule's id, and the salt of keys.
    over: Option<(Arc<SharedPace>, LimitId, u64)>,
    ipv6_prefix: u8,
    clients: Box<[Mutex<HashMap<Whose, Shared>>]>,
    hash: RandomState,
}

/// Whose connections share pacers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Whose {
    /// As [`client_key`] cuts it.
    Address(IpAddr),
    /// A client's identity.
    Name(Arc<str>),
}

impl Whose {
    fn hash(&self, salt: u64) -> KeyHash {
        match self {
            Whose::Address(address) => client_hash(*address, salt),
            // Salted again, so that no name is ever taken for an address.
            Whose::Name(name) => {
                KeyHash(stable_hash(stable_hash(salt, b"identity"), name.as_bytes()))
            }
        }
    }
}

#[derive(Debug)]
struct Shared {
    pace: Pace,
    connections: u32,
}

#[derive(Clone, Debug, Default)]
struct Pace {
    upload: Option<Arc<Pacer>>,
    download: Option<Arc<Pacer>>,
}

/// One connection's share of its client's pacers; the last one to go frees them.
#[derive(Debug)]
pub struct ClientPace {
    pace: Pace,
    client: Whose,
    of: Arc<ClientPacers>,
}

impl ClientPacers {
    /// Each client gets `rates`; IPv6 clients count together by `ipv6_prefix` bits.
    pub fn new(rates: Rates, ipv6_prefix: u8) -> Self {
        ClientPacers {
            rates,
            over: None,
            ipv6_prefix,
            clients: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hash: RandomState::new(),
        }
    }

    /// With rates that all nodes share; `rule` is the rule's id, keys are hashed under `salt`.
    pub fn over(mut self, all: &Arc<SharedPace>, rule: LimitId, salt: u64) -> Self {
        self.over = Some((Arc::clone(all), rule, salt));
        self
    }

    fn pacer(
        &self,
        rate: Option<NonZeroU64>,
        client: &Whose,
        way: &str,
        now: Instant,
    ) -> Option<Arc<Pacer>> {
        let rate = rate?;
        Some(match &self.over {
            None => Arc::new(Pacer::new(rate, now)),
            Some((all, rule, salt)) => {
                let limit = rule.part("client").part(way);
                all.pacer(CapKey { limit, key: client.hash(*salt) }, rate, now)
            }
        })
    }

    /// The pacers of `client`, made when this is its only connection.
    pub fn of(self: &Arc<Self>, client: IpAddr, now: Instant) -> ClientPace {
        self.share(Whose::Address(client_key(client, self.ipv6_prefix)), now)
    }

    /// The pacers of the client called `name`, wherever it is.
    pub fn of_name(self: &Arc<Self>, name: &str, now: Instant) -> ClientPace {
        self.share(Whose::Name(name.into()), now)
    }

    fn share(self: &Arc<Self>, client: Whose, now: Instant) -> ClientPace {
        let mut clients = self.shard(&client).lock();
        let shared = clients.entry(client.clone()).or_insert_with(|| {
            let pace = Pace {
                upload: self.pacer(self.rates.upload, &client, "upload", now),
                download: self.pacer(self.rates.download, &client, "download", now),
            };
            Shared { pace, connections: 0 }
        });
        shared.connections += 1;
        ClientPace { pace: shared.pace.clone(), client, of: Arc::clone(self) }
    }

    /// Clients with at least one connection.
    pub fn clients(&self) -> usize {
        self.clients.iter().map(|shard| shard.lock().len()).sum()
    }

    fn shard(&self, client: &Whose) -> &Mutex<HashMap<Whose, Shared>> {
        &self.clients[self.hash.hash_one(client) as usize % SHARDS]
    }
}

impl ClientPace {
    /// Client to backend; `None` is unlimited.
    pub fn upload(&self) -> Option<&Arc<Pacer>> {
        self.pace.upload.as_ref()
    }

    /// Backend to client; `None` is unlimited.
    pub fn download(&self) -> Option<&Arc<Pacer>> {
        self.pace.download.as_ref()
    }
}

impl Drop for ClientPace {
    fn drop(&mut self) {
        let mut clients = self.of.shard(&self.client).lock();
        if let Some(shared) = clients.get_mut(&self.client) {
            shared.connections -= 1;
            if shared.connections == 0 {
                clients.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::base::time::now;

    fn pacers() -> Arc<ClientPacers> {
        let rates = Rates { upload: NonZeroU64::new(1000), download: None };
        Arc::new(ClientPacers::new(rates, 64))
    }

    #[test]
    fn connections_of_one_client_share_a_pacer_and_others_do_not() {
        let (pacers, now) = (pacers(), now());
        let one = pacers.of("192.0.2.1".parse().unwrap(), now);
        let same = pacers.of("::ffff:192.0.2.1".parse().unwrap(), now);
        let other = pacers.of("192.0.2.2".parse().unwrap(), now);
        one.upload().unwrap().charge(1000, now);
        assert_eq!(same.upload().unwrap().wait(now), Duration::from_secs(1));
        assert_eq!(other.upload().unwrap().wait(now), Duration::ZERO);
        assert!(one.download().is_none());
    }

    #[test]
    fn connections_of_one_name_share_a_pacer_wherever_they_come_from() {
        let (pacers, now) = (pacers(), now());
        let one = pacers.of_name("client.a", now);
        let (same, other) = (pacers.of_name("client.a", now), pacers.of_name("client.b", now));
        one.upload().unwrap().charge(1000, now);
        assert_eq!(same.upload().unwrap().wait(now), Duration::from_secs(1));
        assert_eq!(other.upload().unwrap().wait(now), Duration::ZERO);
        drop((one, same, other));
        assert_eq!(pacers.clients(), 0);
    }

    #[test]
    fn the_last_connection_frees_its_client() {
        let (pacers, now) = (pacers(), now());
        let one = pacers.of("2001:db8::1".parse().unwrap(), now);
        let same = pacers.of("2001:db8::2".parse().unwrap(), now);
        drop(one);
        assert_eq!(pacers.clients(), 1);
        drop(same);
        assert_eq!(pacers.clients(), 0);
    }
}
