//! How a line looks. Fields keep their names and order; new ones are added at the end.

use std::fmt::{self, Display, Write as _};
use std::io::Write;
use std::time::Duration;

use super::{Record, Secured};
use crate::base::time;
use crate::proxy::plan::AccessLogFormat;
use crate::proxy::{Reason, Side};

/// Appends the line of `record`, with its end of line.
pub(super) fn line(format: AccessLogFormat, record: &Record, out: &mut Vec<u8>) {
    let Record { rule, client, listener, wait, connect, total, up, down, attempts, .. } = record;
    let [handshake, wait, connect, total] = [record.handshake, *wait, *connect, *total].map(Ms);
    let (reason, side) = (record.outcome.reason.label(), record.outcome.side.label());
    let backend = OrDash(record.backend);
    let time = time::rfc3339(record.ended_ms);
    let nothing = Secured::default();
    let Secured { version, server_name, identity, denied_by, fault } =
        record.secured.as_deref().unwrap_or(&nothing);
    let tls = OrDash(*version);
    // Writing to a Vec cannot fail.
    let _ = match format {
        AccessLogFormat::Json => {
            let rule = serde_json::Value::from(&*rule.0);
            let quote = if record.backend.is_some() { "\"" } else { "" };
            let backend: &dyn Display = if record.backend.is_some() { &backend } else { &"null" };
            writeln!(
                out,
                "{{\"time\":\"{time}\",\"rule\":{rule},\"client\":\"{client}\",\
                 \"listener\":\"{listener}\",\"backend\":{quote}{backend}{quote},\
                 \"wait_ms\":{wait},\"connect_ms\":{connect},\"total_ms\":{total},\
                 \"bytes_up\":{up},\"bytes_down\":{down},\"attempts\":{attempts},\
                 \"reason\":\"{reason}\",\"side\":\"{side}\",\"tls\":{tls},\
                 \"server_name\":{server_name},\"identity\":{identity},\"denied_by\":{denied_by},\
                 \"fault\":{fault},\"handshake_ms\":{handshake}}}",
                tls = json(*version),
                server_name = json(server_name.as_deref()),
                identity = json(identity.as_deref()),
                denied_by = json(denied_by.as_deref()),
                fault = json(fault.as_deref()),
            )
        }
        AccessLogFormat::Text => writeln!(
            out,
            "time={time} rule={rule:?} client={client} listener={listener} backend={backend} \
             wait_ms={wait} connect_ms={connect} total_ms={total} bytes_up={up} \
             bytes_down={down} attempts={attempts} reason={reason} side={side} tls={tls} \
             server_name={server_name} identity={identity} denied_by={denied_by} fault={fault} \
             handshake_ms={handshake}",
            rule = &*rule.0,
            server_name = Quoted(server_name.as_deref()),
            identity = Quoted(identity.as_deref()),
            denied_by = Quoted(denied_by.as_deref()),
            fault = Quoted(fault.as_deref()),
        ),
        AccessLogFormat::Combined => writeln!(
            out,
            "{ip} - {user} [{date}] \"TCP {listener}\" {status} {down} \"{backend}\" \"{reason}\"",
            ip = client.ip(),
            user = OneWord(identity.as_deref()),
            date = Clf(record.ended_ms),
            status = status(record)
        ),
    };
}

/// The HTTP status that says about the same, for tools that read the combined format.
fn status(record: &Record) -> u16 {
    match record.outcome.reason {
        Reason::Ok | Reason::IdleTimeout => 200,
        Reason::AccessDenied
        | Reason::Banned
        | Reason::BanCut
        | Reason::NotAuthorized
        | Reason::ProxyUntrusted => 403,
        Reason::TlsNoCertificate
        | Reason::TlsUntrusted
        | Reason::TlsExpired
        | Reason::TlsRevoked => 401,
        Reason::ProxyHeader
        | Reason::NotTls
        | Reason::TlsFailed
        | Reason::TlsIncompatible
        | Reason::ClientTls => 400,
        Reason::ProxyTimeout | Reason::TlsTimeout | Reason::CrowdedOut => 408,
        Reason::NoRoute => 421,
        Reason::RateLimited | Reason::ClientCap => 429,
        Reason::ConnectTimeout | Reason::QueueTimeout => 504,
        Reason::ConnectFailed
        | Reason::BackendTls
        | Reason::UpstreamReset
        | Reason::UpstreamTls
        | Reason::UpstreamLost => 502,
        Reason::Panic => 500,
        _ if record.outcome.side == Side::Client => 499,
        Reason::UpstreamClosed => 200,
        _ => 503,
    }
}

struct OrDash<T>(Option<T>);

impl<T: Display> Display for OrDash<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("-"),
        }
    }
}

/// A text or `null`, as JSON.
fn json(text: Option<&str>) -> serde_json::Value {
    text.into()
}

/// A text in quotes, or a dash.
struct Quoted<'a>(Option<&'a str>);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(text) => write!(f, "{text:?}"),
            None => f.write_str("-"),
        }
    }
}

/// A text without blanks and quotes, which would be taken for the next field; a dash for none.
struct OneWord<'a>(Option<&'a str>);

impl Display for OneWord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let safe = |c: char| if c.is_ascii_graphic() && !"\"[]".contains(c) { c } else { '_' };
        match self.0 {
            Some(text) => text.chars().try_for_each(|c| f.write_char(safe(c))),
            None => f.write_str("-"),
        }
    }
}

/// Milliseconds, to the microsecond.
struct Ms(Duration);

impl Display for Ms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = self.0.as_micros();
        write!(f, "{}.{:03}", us / 1000, us % 1000)
    }
}

/// Milliseconds since 1970 as `21/Nov/2026:04:00:00 +0000`.
struct Clf(u64);

impl Display for Clf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MONTHS: [&str; 12] =
            ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        // 2026-11-21T04:00:00.000Z
        let time = time::rfc3339(self.0);
        let month: usize = time[5..7].parse().map_err(|_| fmt::Error)?;
        let (year, day, clock) = (&time[..4], &time[8..10], &time[11..19]);
        write!(f, "{day}/{}/{year}:{clock} +0000", MONTHS[month - 1])
    }
}
