//! A number in two bytes: the upper half of a 32-bit float (the "brain" format), with eight bits of
//! precision. For rates and differences of which there are very many.

/// A number to within 0.4 %.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bf16(u16);

impl Bf16 {
    /// Rounds to the nearest; what is not finite becomes 0.
    pub(super) fn new(number: f64) -> Self {
        if !number.is_finite() {
            return Bf16::default();
        }
        let bits = (number.clamp(-1e38, 1e38) as f32).to_bits();
        Bf16((bits.saturating_add(0x7fff + ((bits >> 16) & 1)) >> 16) as u16)
    }

    pub(super) fn get(self) -> f64 {
        f64::from(f32::from_bits(u32::from(self.0) << 16))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_kept_to_within_four_per_mille() {
        for number in [0.0, 1.0, -1.0, 0.001, 123.456, 99_999.0, 1e38, -1e12] {
            let kept = Bf16::new(number).get();
            assert!((kept - number).abs() <= number.abs() * 0.004, "{number} became {kept}");
        }
        assert_eq!(Bf16::new(f64::NAN).get(), 0.0);
        assert_eq!(Bf16::new(f64::INFINITY).get(), 0.0);
    }
}
