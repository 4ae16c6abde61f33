//! How a line looks. Fields keep their names and order; new ones are added at the end.

use std::fmt::{self, Display};
use std::io::Write;
use std::time::Duration;

use super::Record;
use crate::proxy::plan::AccessLogFormat;
use crate::proxy::{Reason, Side};

/// Appends the line of `record`, with its end of line.
pub(super) fn line(format: AccessLogFormat, record: &Record, out: &mut Vec<u8>) {
    let Record { rule, client, listener, wait, connect, total, up, down, attempts, .. } = record;
    let (wait, connect, total) = (Ms(*wait), Ms(*connect), Ms(*total));
    let (reason, side) = (record.outcome.reason.label(), record.outcome.side.label());
    let backend = OrDash(record.backend);
    let time = Rfc3339(record.ended_ms);
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
                 \"reason\":\"{reason}\",\"side\":\"{side}\"}}"
            )
        }
        AccessLogFormat::Text => writeln!(
            out,
            "time={time} rule={rule:?} client={client} listener={listener} backend={backend} \
             wait_ms={wait} connect_ms={connect} total_ms={total} bytes_up={up} \
             bytes_down={down} attempts={attempts} reason={reason} side={side}",
            rule = &*rule.0
        ),
        AccessLogFormat::Combined => writeln!(
            out,
            "{ip} - - [{date}] \"TCP {listener}\" {status} {down} \"{backend}\" \"{reason}\"",
            ip = client.ip(),
            date = Clf(record.ended_ms),
            status = status(record)
        ),
    };
}

/// The HTTP status that says about the same, for tools that read the combined format.
fn status(record: &Record) -> u16 {
    match record.outcome.reason {
        Reason::Ok | Reason::IdleTimeout => 200,
        Reason::AccessDenied => 403,
        Reason::RateLimited | Reason::ClientCap => 429,
        Reason::ConnectTimeout | Reason::QueueTimeout => 504,
        Reason::ConnectFailed | Reason::UpstreamReset | Reason::UpstreamLost => 502,
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

/// Milliseconds, to the microsecond.
struct Ms(Duration);

impl Display for Ms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = self.0.as_micros();
        write!(f, "{}.{:03}", us / 1000, us % 1000)
    }
}

/// Milliseconds since 1970 as `2026-11-21T04:00:00.000Z`.
struct Rfc3339(u64);

impl Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = date(self.0 / 86_400_000);
        let (hour, minute, second) = clock(self.0);
        let ms = self.0 % 1000;
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
    }
}

/// Milliseconds since 1970 as `21/Nov/2026:04:00:00 +0000`.
struct Clf(u64);

impl Display for Clf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MONTHS: [&str; 12] =
            ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let (year, month, day) = date(self.0 / 86_400_000);
        let (hour, minute, second) = clock(self.0);
        let month = MONTHS[month as usize - 1];
        write!(f, "{day:02}/{month}/{year:04}:{hour:02}:{minute:02}:{second:02} +0000")
    }
}

fn clock(ms: u64) -> (u64, u64, u64) {
    let second = ms / 1000 % 86_400;
    (second / 3600, second / 60 % 60, second % 60)
}

/// Days since 1970 as year, month and day: Howard Hinnant's `civil_from_days`, for days after 1970.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}
