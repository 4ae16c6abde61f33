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
