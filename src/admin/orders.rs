//! What an operator may order of the whole cluster, as the API takes it and the commands send it.
//!
//! | path | body |
//! | --- | --- |
//! | `/api/v1/bans` | `{"client": "203.0.113.7", "for": "10m", "cut": true, "wide": false}` |
//! | `/api/v1/bans/lift` | `{"client": "203.0.113.7"}` |
//! | `/api/v1/backends/drain`, `…/undrain` | `{"backend": "10.0.0.7:8081", "rule": "web"}` |
//! | `/api/v1/backends/add` | `{"rule": "web", "backend": "10.0.0.9:8081", "weight": 2}` |
//! | `/api/v1/backends/remove` | `{"rule": "web", "backend": "10.0.0.9:8081"}` |
//! | `/api/v1/backends/weight` | `{"rule": "web", "backend": "10.0.0.9:8081", "weight": 3}` |

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::base::Endpoint;

/// Largest body taken.
pub const MOST_BODY: usize = 4096;
/// Networks wider than this ban much of the Internet: it must be asked for in words.
const WIDE: (u8, u8) = (8, 16);
/// Longest ban with an end.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);
/// As in the configuration.
const MOST_WEIGHT: u32 = 65_535;

/// An order, sound in itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Refuse new connections of a network.
    Ban {
        /// Which.
        client: IpNet,
        /// How long; `None`: until it is lifted.
        length: Option<Duration>,
        /// End live ones as well.
        cut: bool,
    },
    /// Lift a ban.
    Unban {
        /// Of which network.
        client: IpNet,
    },
    /// Take a backend out for new connections.
    Drain(About),
    /// Take it in again.
    Undrain(About),
    /// One more backend.
    Add {
        /// Where.
        about: About,
        /// Its share.
        weight: Option<u32>,
    },
    /// One less.
    Remove(About),
    /// Another share.
    Weigh {
        /// Where.
        about: About,
        /// Its share.
        weight: u32,
    },
}

/// A backend, and its rule where that must be said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// `None`: the only rule, or every rule that has the backend.
    pub rule: Option<String>,
    /// As configured, or one of the addresses that it resolves to.
    pub backend: Endpoint,
}

/// Which order a path takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `POST /api/v1/bans`.
    Ban,
    /// `POST /api/v1/bans/lift`.
    Unban,
    /// `POST /api/v1/backends/drain`.
    Drain,
    /// `POST /api/v1/backends/undrain`.
    Undrain,
    /// `POST /api/v1/backends/add`.
    Add,
    /// `POST /api/v1/backends/remove`.
    Remove,
    /// `POST /api/v1/backends/weight`.
    Weigh,
}

/// Why an order is not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// It makes no sense.
    Wrong(String),
    /// What it is about is not there.
    Unknown(String),
    /// It does not fit what is.
    Conflict(String),
}

impl Denied {
    /// What is wrong, and how to mend it.
    pub fn text(&self) -> &str {
        match self {
            Denied::Wrong(text) | Denied::Unknown(text) | Denied::Conflict(text) => text,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BanBody {
    client: String,
    #[serde(rename = "for")]
    length: Option<String>,
    #[serde(default)]
    cut: bool,
    #[serde(default)]
    wide: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UnbanBody {
    client: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AboutBody {
    backend: String,
    rule: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WeightBody {
    backend: String,
    rule: Option<String>,
    weight: Option<u32>,
}

impl Kind {
    /// Where it is sent.
    pub fn path(self) -> &'static str {
        match self {
            Kind::Ban => "/api/v1/bans",
            Kind::Unban => "/api/v1/bans/lift",
            Kind::Drain => "/api/v1/backends/drain",
            Kind::Undrain => "/api/v1/backends/undrain",
            Kind::Add => "/api/v1/backends/add",
            Kind::Remove => "/api/v1/backends/remove",
            Kind::Weigh => "/api/v1/backends/weight",
        }
    }

    /// The order in `body`.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn read(self, body: &[u8]) -> Result<Order, Denied> {
        match self {
            Kind::Ban => {
                let body: BanBody = parse(body)?;
                let client = client(&body.client)?;
                if too_wide(&client) && !body.wide {
                    return Err(Denied::Wrong(format!(
                        "{client} is a large part of all addresses: if you mean it, say so with `--wide` \
                         (API: \"wide\": true)"
                    )));
                }
                let length = body.length.as_deref().map(length).transpose()?;
                Ok(Order::Ban { client, length, cut: body.cut })
            }
            Kind::Unban => {
                let body: UnbanBody = parse(body)?;
                Ok(Order::Unban { client: client(&body.client)? })
            }
            Kind::Drain => Ok(Order::Drain(about(parse(body)?)?)),
            Kind::Undrain => Ok(Order::Undrain(about(parse(body)?)?)),
            Kind::Remove => Ok(Order::Remove(about(parse(body)?)?)),
            Kind::Add => {
                let (about, weight) = weighed(parse(body)?)?;
                Ok(Order::Add { about, weight })
            }
            Kind::Weigh => {
                let (about, weight) = weighed(parse(body)?)?;
                let weight =
                    weight.ok_or_else(|| Denied::Wrong("`weight` is missing".to_owned()))?;
                Ok(Order::Weigh { about, weight })
            }
        }
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Denied> {
    serde_json::from_slice(body)
        .map_err(|error| Denied::Wrong(format!("the body is not what this path takes: {error}")))
}

/// An address or a network, as people write it.
fn client(text: &str) -> Result<IpNet, Denied> {
    let network = match text.parse::<IpAddr>() {
        Ok(ip) => Ok(IpNet::from(ip.to_canonical())),
        Err(_) => text.parse::<IpNet>().map(|network| mapped(network.trunc())),
    };
    network.map_err(|_| {
        let what = "is neither an address nor a network; write `203.0.113.7`, `203.0.113.0/24` or `2001:db8::/32`";
        Denied::Wrong(format!("`{}` {what}", shown(text)))
    })
}

/// A network of IPv4-mapped addresses is the IPv4 network.
fn mapped(network: IpNet) -> IpNet {
    let length = network.prefix_len().checked_sub(96);
    match (network.addr().to_canonical(), length) {
        (IpAddr::V4(ip), Some(length)) if matches!(network, IpNet::V6(_)) => {
            IpNet::new(ip.into(), length).unwrap_or(network)
        }
        _ => network,
    }
}

fn too_wide(network: &IpNet) -> bool {
    match network {
        IpNet::V4(net) => net.prefix_len() < WIDE.0,
        IpNet::V6(net) => net.prefix_len() < WIDE.1,
    }
}

fn length(text: &str) -> Result<Duration, Denied> {
    let wrong = |what: &str| {
        Denied::Wrong(format!(
            "`{}` {what}; write for example `10m`, `1h 30m` or `2d`, or leave `--for` out for a ban without end",
            shown(text)
        ))
    };
    let length = humantime::parse_duration(text).map_err(|_| wrong("is not a length of time"))?;
    if length < Duration::from_secs(1) {
        return Err(wrong("is shorter than a second"));
    }
    if length > LONGEST {
        return Err(wrong("is longer than a year"));
    }
    Ok(length)
}

fn about(body: AboutBody) -> Result<About, Denied> {
    let backend: Endpoint =
        body.backend.parse().map_err(|error| Denied::Wrong(format!("{error}")))?;
    if backend.port == 0 {
        return Err(Denied::Wrong(format!("`{backend}` has port 0, where nobody listens")));
    }
    Ok(About { rule: body.rule, backend })
}

fn weighed(body: WeightBody) -> Result<(About, Option<u32>), Denied> {
    if body.weight.is_some_and(|weight| weight > MOST_WEIGHT) {
        return Err(Denied::Wrong(format!("a weight is from 0 to {MOST_WEIGHT}")));
    }
    let about = about(AboutBody { backend: body.backend, rule: body.rule })?;
    Ok((about, body.weight))
}

/// What came over the network, cut short.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ban(body: &str) -> Result<Order, Denied> {
        Kind::Ban.read(body.as_bytes())
    }

    #[test]
    fn a_client_is_an_address_or_a_network() {
        for (written, meant) in [
            ("203.0.113.7", "203.0.113.7/32"),
            ("203.0.113.7/24", "203.0.113.0/24"),
            ("::ffff:203.0.113.7", "203.0.113.7/32"),
            ("2001:db8::1", "2001:db8::1/128"),
            ("::ffff:10.1.0.0/112", "10.1.0.0/16"),
            ("10.0.0.0/8", "10.0.0.0/8"),
        ] {
            let read = ban(&format!(r#"{{"client": "{written}"}}"#)).unwrap();
            let client = meant.parse().unwrap();
            assert_eq!(read, Order::Ban { client, length: None, cut: false }, "{written}");
        }
        for wrong in ["", "localhost", "10.0.0", "10.0.0.0/33", "10.0.0.1:80", "*"] {
            let told = ban(&format!(r#"{{"client": "{wrong}"}}"#)).unwrap_err();
            assert!(told.text().contains("neither an address nor a network"), "{told:?}");
        }
    }

    #[test]
    fn a_ban_of_everybody_must_be_said_in_words() {
        for wide in ["0.0.0.0/0", "::/0", "128.0.0.0/7", "2000::/3", "::ffff:0:0/96"] {
            let told = ban(&format!(r#"{{"client": "{wide}"}}"#)).unwrap_err();
            assert!(told.text().contains("--wide"), "{told:?}");
            ban(&format!(r#"{{"client": "{wide}", "wide": true}}"#)).unwrap();
        }
    }

    #[test]
    fn a_length_is_written_as_people_write_it_and_is_bounded() {
        let length =
            |text: &str| match ban(&format!(r#"{{"client": "10.0.0.1", "for": "{text}"}}"#)) {
                Ok(Order::Ban { length, .. }) => length,
                _ => None,
            };
        assert_eq!(length("10m"), Some(Duration::from_secs(600)));
        assert_eq!(length("1h 30m"), Some(Duration::from_secs(5400)));
        for wrong in ["", "10", "soon", "0s", "10ms", "2y", "-1m"] {
            assert_eq!(length(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_a_path_does_not_take_is_told() {
        let told = ban(r#"{"client": "10.0.0.1", "fro": "10m"}"#).unwrap_err();
        assert!(told.text().contains("unknown field `fro`"), "{told:?}");
        for body in [&b""[..], b"{", b"[]", b"\xff", b"{\"client\": 1}"] {
            assert!(matches!(Kind::Ban.read(body), Err(Denied::Wrong(_))), "{body:?}");
        }
        let weigh = |body: &str| Kind::Weigh.read(body.as_bytes()).unwrap_err();
        assert!(weigh(r#"{"backend": "a:1"}"#).text().contains("`weight` is missing"));
        assert!(weigh(r#"{"backend": "a:1", "weight": 70000}"#).text().contains("65535"));
        assert!(weigh(r#"{"backend": "a", "weight": 1}"#).text().contains("no port"));
        assert!(weigh(r#"{"backend": "a:0", "weight": 1}"#).text().contains("port 0"));
    }
}
