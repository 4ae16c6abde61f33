//! The one place that reads a clock. Pure rooms take `now` as an argument.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Monotonic now.
#[inline]
pub fn now() -> Instant {
    Instant::now()
}

/// Milliseconds since 1970, for logs and for foca's generations; may step.
pub fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis() as u64
}

/// `2026-11-21T03:22:03.000Z`, of milliseconds since 1970.
pub fn rfc3339(unix_ms: u64) -> String {
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(unix_ms)).to_string()
}

/// Milliseconds since 1970 of a time in UTC: `2026-12-01T00:00:00Z`.
pub fn of_rfc3339(text: &str) -> Option<u64> {
    let time = humantime::parse_rfc3339(text).ok()?;
    Some(time.duration_since(UNIX_EPOCH).ok()?.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_people_and_machines_read_it() {
        assert_eq!(rfc3339(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(of_rfc3339("2000-02-29T00:00:00Z"), Some(951_782_400_000));
        for none in ["", "2000-02-30T00:00:00Z", "1969-12-31T23:59:59Z", "yesterday"] {
            assert_eq!(of_rfc3339(none), None, "{none}");
        }
        assert_eq!(rfc3339(1_795_231_323_999), "2026-11-21T03:22:03.999Z");
    }
}
