//! Decisions ask for no memory, so a flood cannot make the process grow.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::IpAddr;
use std::time::Duration;

use tidegate::base::time;
use tidegate::traffic::Limiter;

use crate::flood::plan;

/// The system's allocator, counted by thread.
struct Counting;

thread_local! {
    static ASKED: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that ends has nothing to count in any more.
    let _ = ASKED.try_with(|asked| asked.set(asked.get() + 1));
}

// SAFETY: everything is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is the system allocator's demand.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_flood_of_decisions_asks_for_no_memory() {
    let start = time::now();
    let limiter = Limiter::new(plan(10.0, 5.0, 65_536), 1, 7, start);
    let client = |n: u32| IpAddr::V4((0x0a00_0000 + n).into());
    // The first of a thread may.
    limiter.admit(client(0), start);
    let asked = ASKED.get();
    for n in 0..1_000_000 {
        let now = start + Duration::from_micros(2) * n;
        // New ones, known ones that are let in, and one that is refused.
        for n in [n, n / 2, 3] {
            limiter.admit(client(n), now);
        }
    }
    assert_eq!(ASKED.get() - asked, 0, "allocations in three million decisions");
    assert!(limiter.counts().untracked + limiter.counts().keys > 0);
    let before = ASKED.get();
    drop(vec![1]);
    assert_eq!(ASKED.get() - before, 1, "allocations are counted");
}
