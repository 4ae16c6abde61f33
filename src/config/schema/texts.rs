//! What the schema asks of a text beyond its reading.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::config::fault::{Wrong, quote};
use crate::config::written::{Size, Written};
use crate::traffic::parse_short;

pub(super) fn any<T: Written>(text: &str) -> Result<(), Wrong> {
    T::read(text).map(drop)
}

fn at_least(text: &str, least: Duration) -> Result<(), Wrong> {
    if Duration::read(text)? < least {
        let what = format!("{} is too short", quote(text));
        return Err(Wrong::new(what, format!("write at least {}ms", least.as_millis())));
    }
    Ok(())
}

pub(super) fn wait(text: &str) -> Result<(), Wrong> {
    at_least(text, Duration::from_millis(1))
}

pub(super) fn interval(text: &str) -> Result<(), Wrong> {
    at_least(text, Duration::from_millis(10))
}

pub(super) fn keepalive_time(text: &str) -> Result<(), Wrong> {
    let time = Duration::read(text)?;
    if time < Duration::from_secs(1) || time > Duration::from_secs(32_767) {
        let what = format!("{} is not a keepalive time", quote(text));
        return Err(Wrong::new(what, "write from `1s` to `9h`"));
    }
    Ok(())
}

pub(super) fn bytes(text: &str) -> Result<(), Wrong> {
    if Size::read(text)?.0 == 0 {
        return Err(Wrong::new("0 lets nothing pass", "leave the key out for no limit"));
    }
    Ok(())
}

pub(super) fn name(text: &str) -> Result<(), Wrong> {
    let fine = |c: char| !c.is_whitespace() && !c.is_control();
    // Spaces inside are for people; elsewhere a name stands in tables, labels and log lines.
    if text.is_empty() || text.len() > 128 || !text.chars().all(|c| fine(c) || c == ' ') {
        let what = format!("{} cannot be a name", quote(text));
        return Err(Wrong::new(what, "write 1 to 128 printable characters"));
    }
    if text.trim() != text {
        let what = format!("{} begins or ends with a space", quote(text));
        return Err(Wrong::new(what, "take the space out"));
    }
    Ok(())
}

/// What may stand in a `Host` field.
pub(super) fn host(text: &str) -> Result<(), Wrong> {
    if text.is_empty() || text.len() > 255 || !text.bytes().all(|b| b.is_ascii_graphic()) {
        let what = format!("{} is not a host name", quote(text));
        return Err(Wrong::new(what, "write a name, for example `app.internal`"));
    }
    Ok(())
}

pub(super) fn line(text: &str) -> Result<(), Wrong> {
    if text.is_empty() {
        return Err(Wrong::new("the text is empty", "write a text, or leave the key out"));
    }
    Ok(())
}

pub(super) fn path(text: &str) -> Result<(), Wrong> {
    line(text)?;
    if text.contains('\0') {
        return Err(Wrong::new("a path cannot hold a zero byte", "write a path"));
    }
    Ok(())
}

pub(super) fn request_path(text: &str) -> Result<(), Wrong> {
    if !text.starts_with('/') || !text.bytes().all(|b| b.is_ascii_graphic()) {
        let what = format!("{} is not a request path", quote(text));
        return Err(Wrong::new(what, "write a path that begins with `/`, for example `/healthz`"));
    }
    Ok(())
}

pub(super) fn reachable(text: &str) -> Result<(), Wrong> {
    let addr = SocketAddr::read(text)?;
    if addr.ip().is_unspecified() || addr.port() == 0 {
        let what = format!("{} is not an address that peers can reach", quote(text));
        return Err(Wrong::new(what, "write this node's own address and gossip port"));
    }
    Ok(())
}

/// What a client may ask for by name, exact or `*.example.com`.
pub(super) fn sni_pattern(text: &str) -> Result<(), Wrong> {
    let wrong = |why: &str, remedy: &str| {
        Err(Wrong::new(format!("{} is not a server name: {why}", quote(text)), remedy))
    };
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    if bare.parse::<IpAddr>().is_ok() {
        return wrong("clients never ask for an address by name", "write a DNS name");
    }
    let name = text.strip_prefix("*.").unwrap_or(text);
    if name.contains('*') {
        let remedy = "write a name, or `*.example.com` for one label more";
        return wrong("`*` only stands for the whole first label", remedy);
    }
    if !is_dns_name(name) {
        return wrong("it is no DNS name", "write a name, for example `www.example.com`");
    }
    Ok(())
}

/// The name of a server that is called by TLS: a DNS name or an address.
pub(super) fn tls_name(text: &str) -> Result<(), Wrong> {
    if text.parse::<IpAddr>().is_ok() || is_dns_name(text) {
        return Ok(());
    }
    let what = format!("{} is neither a DNS name nor an IP address", quote(text));
    Err(Wrong::new(what, "write the name in the backend's certificate, for example `app.internal`"))
}

/// What may stand in a certificate; underscores are about, and do no harm.
fn is_dns_name(text: &str) -> bool {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    text.len() <= 253
        && !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
        && text.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(fine)
        })
}

pub(super) fn tls_version(text: &str) -> Result<(), Wrong> {
    let remedy = "write \"1.2\" or \"1.3\"";
    match text {
        "1.2" | "1.3" => Ok(()),
        "1.0" | "1.1" | "1" => {
            let what = format!("TLS {text} is not spoken: it is broken, and so is SSL before it");
            Err(Wrong::new(what, remedy))
        }
        _ => Err(Wrong::new(format!("{} is not a version of TLS", quote(text)), remedy)),
    }
}

pub(super) fn application_protocol(text: &str) -> Result<(), Wrong> {
    if text.is_empty() || text.len() > 255 {
        let what = format!("{} is not a protocol's name", quote(text));
        return Err(Wrong::new(what, "write 1 to 255 bytes, for example `http/1.1`"));
    }
    Ok(())
}

pub(super) fn short_permission(text: &str) -> Result<(), Wrong> {
    parse_short(text).map(drop).map_err(|fault| Wrong::new(fault.to_string(), fault.remedy()))
}

pub(super) fn log_level(text: &str) -> Result<(), Wrong> {
    let parsed = tracing_subscriber::EnvFilter::builder().parse(text);
    // A lone unknown word is taken for a target there, here it is a mistyped level.
    let lone = !text.contains(['=', ',', '[']);
    let level = matches!(text, "off" | "error" | "warn" | "info" | "debug" | "trace");
    if text.is_empty() || parsed.is_err() || (lone && !level) {
        let what = format!("{} is not a log level", quote(text));
        let remedy = "write error, warn, info, debug or trace, or `tidegate::cluster=debug,info`";
        return Err(Wrong::new(what, remedy));
    }
    Ok(())
}
