//! Values as people write them: durations, sizes, shares, addresses, networks. Each has one
//! reading, used by the schema to judge a text and by the file's shapes to take it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;

use super::fault::{Wrong, quote};
use crate::base::time::{of_rfc3339, rfc3339};
use crate::base::{Endpoint, EndpointError, Host, Share};

/// A value with one way to be written as text.
pub(super) trait Written: Sized {
    /// Reads it; never panics, whatever the text.
    fn read(text: &str) -> Result<Self, Wrong>;

    /// One form for all spellings of the same value, for the digest.
    fn canonical(&self) -> String;
}

/// Longer than anybody means, and far from any overflow of a deadline.
const LONGEST: u64 = 366 * 24 * 3600;

impl Written for Duration {
    /// `500ms`, `3s`, `10m`, `1h`, `2d`, or `0`. At most a year.
    fn read(text: &str) -> Result<Self, Wrong> {
        let example = "write a whole number and a unit (ms, s, m, h), for example `3s`";
        let (digits, unit) = number_and_unit(text);
        if digits.is_empty() {
            return Err(Wrong::new(format!("{} is not a duration", quote(text)), example));
        }
        let seconds_each = match unit {
            "ms" | "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 24 * 3600,
            "" if digits.bytes().all(|digit| digit == b'0') => return Ok(Duration::ZERO),
            "" => {
                let remedy = format!("write `{digits}s` for seconds, `{digits}ms` for thousandths");
                return Err(Wrong::new(format!("{} has no unit", quote(text)), remedy));
            }
            _ => return Err(Wrong::new(format!("{} is not a duration", quote(text)), example)),
        };
        let read = digits.parse::<u64>().ok().and_then(|number| match unit {
            "ms" => Some(Duration::from_millis(number)),
            _ => number.checked_mul(seconds_each).map(Duration::from_secs),
        });
        read.filter(|read| *read <= Duration::from_secs(LONGEST)).ok_or_else(|| {
            Wrong::new(format!("{} is longer than a year", quote(text)), "write less")
        })
    }

    fn canonical(&self) -> String {
        format!("{}ns", self.as_nanos())
    }
}

/// A moment, milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment(pub(super) u64);

impl Written for Moment {
    /// RFC 3339, in UTC: `2026-12-01T00:00:00Z`.
    fn read(text: &str) -> Result<Self, Wrong> {
        of_rfc3339(text).map(Moment).ok_or_else(|| {
            let what = format!("{} is not a time", quote(text));
            Wrong::new(what, "write a time in UTC, for example `2026-12-01T00:00:00Z`")
        })
    }

    fn canonical(&self) -> String {
        rfc3339(self.0)
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size(pub(super) u64);

impl Written for Size {
    /// `10485760`, `64KiB`, `10MiB`, `1GiB`.
    fn read(text: &str) -> Result<Self, Wrong> {
        let (digits, unit) = number_and_unit(text);
        let shift = match unit {
            "" | "B" => 0,
            "KiB" => 10,
            "MiB" => 20,
            "GiB" => 30,
            "TiB" => 40,
            _ => u32::MAX,
        };
        if digits.is_empty() || shift == u32::MAX {
            return Err(Wrong::new(
                format!("{} is not a size", quote(text)),
                "write bytes or a whole number with KiB, MiB or GiB, for example `10MiB`",
            ));
        }
        digits
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(1 << shift))
            // What any system call takes, and what may be added up without care.
            .filter(|bytes| *bytes <= i64::MAX as u64)
            .map(Size)
            .ok_or_else(|| Wrong::new(format!("{} is too large", quote(text)), "write less"))
    }

    fn canonical(&self) -> String {
        self.0.to_string()
    }
}

impl Written for Share {
    /// `20%`, or `0`.
    fn read(text: &str) -> Result<Self, Wrong> {
        let wrong = |what| {
            Wrong::new(
                format!("{} {what}", quote(text)),
                "write a share from 0% to 100%, for example `20%`",
            )
        };
        let number = match text.strip_suffix('%') {
            Some(number) => number.trim_end(),
            None if text == "0" => "0",
            None => return Err(wrong("has no `%`")),
        };
        let plain = number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        match number.parse::<f32>() {
            Ok(percent) if plain && (0.0..=100.0).contains(&percent) => Ok(Share::percent(percent)),
            Ok(_) if plain => Err(wrong("is more than a whole")),
            _ => Err(wrong("is not a share")),
        }
    }

    fn canonical(&self) -> String {
        format!("{}", self.fraction())
    }
}

impl Written for SocketAddr {
    /// `0.0.0.0:8080`, `[::]:8080`; port 0 lets the system choose.
    fn read(text: &str) -> Result<Self, Wrong> {
        if let Ok(addr) = text.parse() {
            return Ok(addr);
        }
        let what = format!("{} is not an address to listen on", quote(text));
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Err(Wrong::new(what, format!("add a port: `{}`", SocketAddr::new(ip, 8080))));
        }
        let remedy = match text.rsplit_once(':') {
            Some(("" | "*", port)) if port.parse::<u16>().is_ok() => {
                format!("write `0.0.0.0:{port}` (all IPv4) or `[::]:{port}`")
            }
            None if text.parse::<u16>().is_ok() => format!("write `0.0.0.0:{text}`"),
            Some(("localhost", port)) => format!("write `127.0.0.1:{port}`"),
            _ => "write an IP address and a port: `0.0.0.0:8080` or `[::]:8080`".to_owned(),
        };
        Err(Wrong::new(what, remedy))
    }

    fn canonical(&self) -> String {
        self.to_string()
    }
}

impl Written for Endpoint {
    /// `10.0.0.1:80`, `[::1]:80`, `app.internal:8082`.
    fn read(text: &str) -> Result<Self, Wrong> {
        let port_wanted = "write a port from 1 to 65535";
        let endpoint = text.parse::<Endpoint>().map_err(|error| match error {
            EndpointError::NoPort(_) => Wrong::new(
                format!("{} has no port", quote(text)),
                "write `host:port`, for example `10.0.0.1:8080`",
            ),
            EndpointError::BadPort(_) => {
                Wrong::new(format!("{} has no good port", quote(text)), port_wanted)
            }
            EndpointError::BadHost(_) => Wrong::new(
                format!("{} has neither an IP address nor a DNS name", quote(text)),
                "write `host:port`; IPv6 is written `[::1]:8080`",
            ),
        })?;
        if endpoint.port == 0 {
            let what = format!("{} has port 0, where nothing can be reached", quote(text));
            return Err(Wrong::new(what, port_wanted));
        }
        if let Host::Ip(ip) = endpoint.host
            && ip.is_unspecified()
        {
            let what = format!("{} is not an address that can be reached", quote(text));
            return Err(Wrong::new(
                what,
                format!("write `127.0.0.1:{}` for this host", endpoint.port),
            ));
        }
        Ok(endpoint)
    }

    fn canonical(&self) -> String {
        self.to_string()
    }
}

impl Written for IpNet {
    /// `10.0.0.0/8`, `2001:db8::/32`, or one address.
    fn read(text: &str) -> Result<Self, Wrong> {
        let net = match text.parse::<IpNet>() {
            Ok(net) => Some(net.trunc()),
            Err(_) => text.parse::<IpAddr>().ok().map(|ip| IpNet::from(ip.to_canonical())),
        };
        net.ok_or_else(|| {
            Wrong::new(
                format!("{} is not a network", quote(text)),
                "write an address and a prefix length: `10.0.0.0/8`, `2001:db8::/32`",
            )
        })
    }

    fn canonical(&self) -> String {
        self.to_string()
    }
}

/// Inclusive ranges of HTTP status codes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Statuses(pub(super) Vec<(u16, u16)>);

impl Written for Statuses {
    /// `200`, `200-399`, `200-299,404`.
    fn read(text: &str) -> Result<Self, Wrong> {
        let code =
            |text: &str| text.trim().parse::<u16>().ok().filter(|code| (100..=599).contains(code));
        let ranges: Option<Vec<_>> = text
            .split(',')
            .map(|range| {
                let (from, to) = range.split_once('-').unwrap_or((range, range));
                Some((code(from)?, code(to)?)).filter(|(from, to)| from <= to)
            })
            .collect();
        ranges.map(Statuses).ok_or_else(|| {
            Wrong::new(
                format!("{} is not a range of status codes", quote(text)),
                "write codes from 100 to 599, for example `200-399` or `200,404`",
            )
        })
    }

    fn canonical(&self) -> String {
        format!("{:?}", self.0)
    }
}

fn number_and_unit(text: &str) -> (&str, &str) {
    let end = text.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    (digits, unit.trim_start())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_read_as_written() {
        let ms = |text| Duration::read(text).map(|read| read.as_millis()).map_err(|e| e.remedy);
        assert_eq!(ms("500ms"), Ok(500));
        assert_eq!(ms("3s"), Ok(3_000));
        assert_eq!(ms("10m"), Ok(600_000));
        assert_eq!(ms("1h"), Ok(3_600_000));
        assert_eq!(ms("0"), Ok(0));
        assert!(ms("10").unwrap_err().contains("`10s`"));
        for wrong in ["", "s", "-3s", "1.5s", "3 s s", "3sec", "99999999999999999999s", "400d"] {
            assert!(ms(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_read_as_written_and_never_overflow() {
        let size = |text| Size::read(text).map(|size| size.0).ok();
        assert_eq!(size("10485760"), Some(10 << 20));
        assert_eq!(size("64KiB"), Some(64 << 10));
        assert_eq!(size("10 MiB"), Some(10 << 20));
        for wrong in ["", "MiB", "-1", "10MB", "1e3", "99999999TiB", "18446744073709551615"] {
            assert_eq!(size(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn shares_need_their_percent_sign() {
        let share = |text| Share::read(text).map(|share| share.fraction()).ok();
        assert_eq!(share("20%"), Some(0.2));
        assert_eq!(share("0"), Some(0.0));
        for wrong in ["0.5", "20", "101%", "-1%", "%", "inf%", "NaN%", "1e1%"] {
            assert_eq!(share(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_listener_that_is_nearly_right_is_shown_its_right_form() {
        let remedy = |text| SocketAddr::read(text).unwrap_err().remedy;
        assert!(remedy(":8080").contains("`0.0.0.0:8080`"));
        assert!(remedy("8080").contains("`0.0.0.0:8080`"));
        assert!(remedy("localhost:80").contains("`127.0.0.1:80`"));
        assert!(remedy("::1").contains("`[::1]:8080`"));
    }

    #[test]
    fn a_backend_must_be_reachable() {
        assert!(Endpoint::read("a.internal:80").is_ok());
        for wrong in ["127.0.0.1:0", "0.0.0.0:80", "[::]:80", "127.0.0.1", "a b:1", ":80"] {
            assert!(Endpoint::read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn networks_drop_their_host_bits_and_an_address_is_a_network_of_one() {
        assert_eq!(IpNet::read("10.1.2.3/8").unwrap().to_string(), "10.0.0.0/8");
        assert_eq!(IpNet::read("10.1.2.3").unwrap().to_string(), "10.1.2.3/32");
        assert!(IpNet::read("10.0.0.0/33").is_err());
    }

    #[test]
    fn status_ranges_read_as_written() {
        assert_eq!(Statuses::read("200-299,404").unwrap().0, [(200, 299), (404, 404)]);
        for wrong in ["", "399-200", "99", "600", "2xx", "200-"] {
            assert!(Statuses::read(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_a_reading_panic(text in "\\PC{0,40}|[0-9]{0,25}[a-zA-Z%:./-]{0,4}") {
            let _ = Duration::read(&text);
            let _ = Size::read(&text);
            let _ = Share::read(&text);
            let _ = SocketAddr::read(&text);
            let _ = Endpoint::read(&text);
            let _ = IpNet::read(&text);
            let _ = Statuses::read(&text);
        }
    }
}
