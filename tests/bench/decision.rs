//! What one decision of the limiter costs with a million tracked keys: nanoseconds (median and 99th
//! percentile over batches) and allocations. Ends with status 1 above the bars: 200 ns, none.
//!
//! Keys are asked for at random, so nearly every decision fetches its set from memory. What one
//! such fetch costs on this machine, at this moment, is measured beside it: a busy or virtual
//! machine may need 175 ns for the fetch alone.
//!
//! What it costs to ask whether a client is banned stands below: with nobody banned, and with as many as
//! there can be.
//!
//! `cargo bench --bench decision`

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::net::IpAddr;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tidegate::base::{LimitId, publish_and_view};
use tidegate::cluster::acts::MOST_BANS;
use tidegate::traffic::{
    Action, Algorithm, Bans, Decision, LimitKey, LimitPlan, LimitScope, Limiter, Quota, Sharing,
};

const KEYS: u32 = 1_000_000;
const BATCH: usize = 1_000;
const BATCHES: usize = 2_000;
const BAR_NS: f64 = 200.0;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: everything is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `GlobalAlloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> ExitCode {
    let mut good = true;
    for (name, max_keys) in [("all keys fit", KEYS + KEYS / 4), ("table full, evicting", KEYS / 2)]
    {
        let start = Instant::now();
        let limiter = Limiter::new(plan(max_keys), 1, 2, start);
        let client = |n: u32| IpAddr::V4(n.wrapping_mul(2_654_435_761).into());
        for n in 0..KEYS {
            limiter.admit(client(n), start);
        }
        let mut rng = StdRng::seed_from_u64(1);
        // Random keys, so that hardly any slot is in a cache.
        let asked: Vec<IpAddr> =
            (0..BATCH * BATCHES).map(|_| client(rng.random_range(0..KEYS))).collect();
        let allocations = ALLOCATIONS.load(Ordering::Relaxed);
        let mut times = [0.0; BATCHES];
        let mut admitted = 0u64;
        for (time, batch) in times.iter_mut().zip(asked.chunks(BATCH)) {
            let began = Instant::now();
            for client in batch {
                let decision = limiter.admit(black_box(*client), began);
                admitted += u64::from(decision == Decision::Admit);
            }
            *time = began.elapsed().as_nanos() as f64 / BATCH as f64;
        }
        let allocations = ALLOCATIONS.load(Ordering::Relaxed) - allocations;
        times.sort_by(f64::total_cmp);
        let (median, p99) = (times[BATCHES / 2], times[BATCHES * 99 / 100]);
        println!(
            "{name}: {median:.0} ns median, {p99:.0} ns p99, {allocations} allocations in {} \
             decisions ({admitted} admitted), {:.1} B per key",
            BATCH * BATCHES,
            limiter.bytes() as f64 / f64::from(max_keys),
        );
        println!("  of which one fetch from memory: {:.0} ns", fetch(limiter.bytes()));
        good &= median <= BAR_NS && allocations == 0;
    }
    good &= ask_bans();
    if good {
        return ExitCode::SUCCESS;
    }
    println!("above the bar: {BAR_NS} ns median, no allocation");
    ExitCode::FAILURE
}

/// What looking a client up among the bans costs; whether that is within the bar.
fn ask_bans() -> bool {
    let mut good = true;
    let client = |n: u32| IpAddr::V4(n.wrapping_mul(2_654_435_761).into());
    let mut rng = StdRng::seed_from_u64(3);
    let asked: Vec<IpAddr> =
        (0..BATCH * BATCHES).map(|_| client(rng.random_range(0..2 * MOST_BANS as u32))).collect();
    for number in [0, MOST_BANS as u32] {
        // One in eight a network, so that there are two lengths to look through.
        let network = |n: u32| {
            let length = if n.is_multiple_of(8) { 24 } else { 32 };
            IpNet::new(client(n), length).map(|net| (net.trunc(), false)).expect("a network")
        };
        let all: Vec<(IpNet, bool)> = (0..number).map(network).collect();
        let (_, view) = publish_and_view(Bans::new(all));
        let allocations = ALLOCATIONS.load(Ordering::Relaxed);
        let (mut times, mut refused) = ([0.0; BATCHES], 0u64);
        for (time, batch) in times.iter_mut().zip(asked.chunks(BATCH)) {
            let began = Instant::now();
            for client in batch {
                refused += u64::from(view.look().refuses(black_box(*client)));
            }
            *time = began.elapsed().as_nanos() as f64 / BATCH as f64;
        }
        let allocations = ALLOCATIONS.load(Ordering::Relaxed) - allocations;
        times.sort_by(f64::total_cmp);
        let (median, p99) = (times[BATCHES / 2], times[BATCHES * 99 / 100]);
        println!(
            "{number} bans: {median:.0} ns median, {p99:.0} ns p99, {allocations} allocations ({refused} refused)"
        );
        good &= median <= BAR_NS && allocations == 0;
    }
    good
}

/// Nanoseconds of a load that waits for the one before it, median, within `bytes` of memory.
fn fetch(bytes: usize) -> f64 {
    let lines = bytes / 64;
    let mut rng = StdRng::seed_from_u64(2);
    // One cycle through all lines (Sattolo's shuffle).
    let mut memory: Vec<[u64; 8]> = (0..lines as u64).map(|n| [n; 8]).collect();
    for n in (1..lines).rev() {
        memory.swap(n, rng.random_range(0..n));
    }
    let mut at = 0;
    let mut times = [0.0; BATCHES];
    for time in &mut times {
        let began = Instant::now();
        for _ in 0..BATCH {
            at = memory[at as usize][0];
        }
        *time = began.elapsed().as_nanos() as f64 / BATCH as f64;
    }
    black_box(at);
    times.sort_by(f64::total_cmp);
    times[BATCHES / 2]
}

fn plan(max_keys: u32) -> LimitPlan {
    LimitPlan {
        id: LimitId(1),
        algorithm: Algorithm::TokenBucket(Quota { rate: 10.0, burst: 20.0 }),
        scope: LimitScope::Cluster,
        key: LimitKey::Client,
        action: Action::Delay { queue: 16, max: Duration::from_secs(1) },
        ipv6_prefix: 64,
        exempt: vec!["10.0.0.0/8".parse().expect("a network"), "fd00::/8".parse().expect("too")],
        shadow: false,
        max_keys,
        sharing: Sharing::default(),
    }
}
