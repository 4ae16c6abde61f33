//! What a rule asks of the health of its backends, as meant.

use std::time::Duration;

use crate::base::Share;

/// Active checks of a rule's backends.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckPlan {
    /// What is done to a backend; `None` switches checks off.
    pub kind: Option<CheckKind>,
    /// From the start of one check to the next.
    pub interval: Duration,
    /// What one check may take.
    pub timeout: Duration,
    /// Successes in a row that bring a backend up.
    pub rise: u32,
    /// Failures in a row that take it down.
    pub fall: u32,
    /// Port to check, when it is not the backend's own.
    pub port: Option<u16>,
}

/// How a backend is checked.
#[derive(Clone, Debug, PartialEq)]
pub enum CheckKind {
    /// A connection is accepted.
    Tcp,
    /// A GET is answered as expected.
    Http {
        /// Request path.
        path: String,
        /// `Host` field; the backend's address when `None`.
        host: Option<String>,
        /// Inclusive ranges of good status codes.
        expect_status: Vec<(u16, u16)>,
        /// Text that the first 64 KiB of the body must contain.
        expect_body: Option<String>,
    },
}

impl CheckPlan {
    /// How long after one node's verdict every node that checks alike has come to the same: each
    /// may be a whole fall or rise behind, and a verdict takes a moment to travel.
    pub fn settling(&self) -> Duration {
        const TRAVEL: Duration = Duration::from_secs(2);
        let results = self.fall.max(self.rise).saturating_add(1);
        self.interval.saturating_mul(results) + self.timeout + TRAVEL
    }

    /// How long a result counts when no other follows: three checks that did not come.
    pub fn lasting(&self) -> Duration {
        self.interval.saturating_mul(3) + self.timeout
    }
}

impl Default for CheckPlan {
    fn default() -> Self {
        CheckPlan {
            kind: Some(CheckKind::Tcp),
            interval: Duration::from_secs(3),
            timeout: Duration::from_secs(1),
            rise: 2,
            fall: 3,
            port: None,
        }
    }
}

/// Passive ejection after connect failures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OutlierPlan {
    /// Consecutive connect failures that eject; 0 switches ejection off.
    pub failures: u32,
    /// First ejection; doubles per flap.
    pub eject_for: Duration,
    /// At most this share of a rule's backends is ejected at once.
    pub max_ejected: Share,
}

impl Default for OutlierPlan {
    fn default() -> Self {
        OutlierPlan {
            failures: 5,
            eject_for: Duration::from_secs(10),
            max_ejected: Share::percent(50.0),
        }
    }
}
