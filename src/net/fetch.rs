//! Fetching memory before it is read.

use std::ops::Range;

/// A cache line, in bytes.
const LINE: usize = 64;

/// Has the cache lines of `range` (addresses, which need not be anybody's) fetched while the caller
/// goes on. Advice: nothing is read into the program, and a processor may do nothing at all.
pub fn fetch_soon(range: Range<usize>) {
    for line in range.step_by(LINE) {
        let at = std::ptr::without_provenance::<i8>(line);
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a prefetch is a hint that never faults, whatever the address.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(at);
        }
        #[cfg(target_arch = "aarch64")]
        // SAFETY: as above.
        unsafe {
            std::arch::asm!("prfm pldl1keep, [{at}]", at = in(reg) at, options(nostack, readonly, preserves_flags));
        }
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let _ = at;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_named_is_harmless() {
        let memory = [7u8; 4096];
        let start = memory.as_ptr().addr();
        #[expect(clippy::reversed_empty_ranges, reason = "nonsense is what is tried")]
        for range in [start..start + 4096, 0..0, 1..4095, 9000..100, usize::MAX - 200..usize::MAX] {
            fetch_soon(range);
        }
        assert_eq!(memory, [7; 4096]);
    }
}
