//! What the schema asks of a text beyond its reading.

use std::net::SocketAddr;
use std::time::Duration;

use crate::config::fault::{Wrong, quote};
use crate::config::written::{Size, Written};

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
