//! Names to addresses, without the C library: a static binary cannot rely on its `getaddrinfo`,
//! which besides would block a thread.
//!
//! `/etc/hosts` is read anew for every question (it is small, and container runtimes rewrite it);
//! a name that stands there is not asked of any server. `/etc/resolv.conf` is read once.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig,
    ResolverOpts,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::system_conf::parse_resolv_conf;

use crate::base::{Host, time};

/// A name in `/etc/hosts` is looked at again after this long.
const HOSTS_VALID: Duration = Duration::from_secs(30);
/// Answers are good for at least this long, so that a TTL of zero makes nobody spin.
const LEAST_VALID: Duration = Duration::from_secs(1);
/// "No such name" is believed for at most this long: names appear while containers start.
const NEGATIVE_CACHE: Duration = Duration::from_secs(2);

/// Resolves names of backends and peers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Resolver {
    /// `None` without a name server: only `/etc/hosts` answers.
    dns: Option<TokioResolver>,
    hosts: Arc<PathBuf>,
}

/// The addresses of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// All A and AAAA, IPv4 first, sorted, each once; never empty.
    pub addresses: Vec<IpAddr>,
    /// When to ask again (the TTL), at least a second.
    pub valid_for: Duration,
}

/// Why a name has no addresses.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ResolveError {
    /// The name does not exist, or has neither A nor AAAA.
    #[error("the name `{0}` has no address")]
    NoAddress(Arc<str>),
    /// No name server is configured and `/etc/hosts` does not know the name.
    #[error("cannot resolve `{0}`: it is not in /etc/hosts and /etc/resolv.conf names no server")]
    NoServer(Arc<str>),
    /// The servers could not be asked.
    #[error("cannot resolve `{name}`: {error}")]
    Failed {
        /// The name.
        name: Arc<str>,
        /// What went wrong.
        error: String,
    },
    /// The name server configuration cannot be used.
    #[error("cannot use the name servers of /etc/resolv.conf: {0}")]
    Setup(String),
}

impl Resolver {
    /// As the system says: `/etc/hosts` first, then the name servers of `/etc/resolv.conf`. A
    /// missing file, or one without servers, leaves `/etc/hosts` alone, and is logged.
    ///
    /// # Errors
    /// [`ResolveError::Setup`] when the servers named there cannot be used.
    pub fn from_system() -> Result<Resolver, ResolveError> {
        Resolver::from_files(fs::read("/etc/resolv.conf"), PathBuf::from("/etc/hosts"))
    }

    fn from_files(
        resolv_conf: io::Result<Vec<u8>>,
        hosts: PathBuf,
    ) -> Result<Resolver, ResolveError> {
        let servers = resolv_conf
            .map_err(|error| error.to_string())
            .and_then(|text| parse_resolv_conf(text).map_err(|error| error.to_string()));
        let dns = match servers {
            Ok((config, options)) => Some(build(config, options).map_err(setup)?),
            Err(why) => {
                tracing::info!(%why, "no DNS server in /etc/resolv.conf: names are resolved by /etc/hosts alone");
                None
            }
        };
        Ok(Resolver { dns, hosts: Arc::new(hosts) })
    }

    /// Asks one server at `addr` and keeps no answers; `/etc/hosts` is not read.
    pub fn with_nameserver(addr: SocketAddr) -> Resolver {
        let connection = |mut connection: ConnectionConfig| {
            connection.port = addr.port();
            connection
        };
        let server = NameServerConfig::new(
            addr.ip(),
            true,
            vec![connection(ConnectionConfig::udp()), connection(ConnectionConfig::tcp())],
        );
        let mut options = ResolverOpts::default();
        options.cache_size = 0;
        options.timeout = Duration::from_secs(1);
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        let dns = build(config, options).ok();
        Resolver { dns, hosts: Arc::new(PathBuf::new()) }
    }

    /// All addresses of `host`; an address is its own answer. Must be awaited on a tokio runtime.
    ///
    /// # Errors
    /// [`ResolveError`], which says whether the name is unknown or could not be asked for.
    pub async fn resolve(&self, host: &Host) -> Result<Resolved, ResolveError> {
        let name = match host {
            Host::Ip(ip) => {
                return Ok(Resolved { addresses: vec![*ip], valid_for: Duration::MAX });
            }
            Host::Name(name) => name,
        };
        let known = hosts_entries(&self.hosts, name);
        if !known.is_empty() {
            return Ok(Resolved { addresses: tidy(known), valid_for: HOSTS_VALID });
        }
        let Some(dns) = &self.dns else { return Err(ResolveError::NoServer(Arc::clone(name))) };
        // Boxed: hickory's future is large, and rare.
        let answer = match Box::pin(dns.lookup_ip(&**name)).await {
            Ok(answer) => answer,
            Err(error) if error.is_nx_domain() || error.is_no_records_found() => {
                return Err(ResolveError::NoAddress(Arc::clone(name)));
            }
            Err(error) => {
                return Err(ResolveError::Failed {
                    name: Arc::clone(name),
                    error: error.to_string(),
                });
            }
        };
        let addresses = tidy(answer.iter().collect());
        if addresses.is_empty() {
            return Err(ResolveError::NoAddress(Arc::clone(name)));
        }
        let valid_for = answer.valid_until().saturating_duration_since(time::now());
        Ok(Resolved { addresses, valid_for: valid_for.max(LEAST_VALID) })
    }
}

fn build(config: ResolverConfig, mut options: ResolverOpts) -> Result<TokioResolver, NetError> {
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    // We read it ourselves: hickory would read it once, and ask a server for the family that is
    // not there.
    options.use_hosts_file = ResolveHosts::Never;
    options.negative_max_ttl = Some(NEGATIVE_CACHE);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    *builder.options_mut() = options;
    builder.build()
}

fn setup(error: NetError) -> ResolveError {
    ResolveError::Setup(error.to_string())
}

/// Addresses of `name` in the hosts file; none when there is no such file.
fn hosts_entries(path: &PathBuf, name: &str) -> Vec<IpAddr> {
    let Ok(text) = fs::read_to_string(path) else { return Vec::new() };
    let wanted = name.strip_suffix('.').unwrap_or(name);
    text.lines()
        .filter_map(|line| {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_whitespace();
            let ip: IpAddr = words.next()?.parse().ok()?;
            words.any(|alias| alias.eq_ignore_ascii_case(wanted)).then_some(ip)
        })
        .collect()
}

fn tidy(mut addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

#[cfg(test)]
mod tests;
