//! A share of a whole, written `20%`.

/// From 0.0 (none) to 1.0 (all).
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Share(f32);

impl Share {
    /// `percent` is clamped to 0..=100.
    pub fn percent(percent: f32) -> Self {
        Share((percent / 100.0).clamp(0.0, 1.0))
    }

    /// 0.0 to 1.0.
    pub fn fraction(self) -> f32 {
        self.0
    }
}
