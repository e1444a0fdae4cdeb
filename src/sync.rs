//! The one file that names lock, atomic and thread types, so that a schedule explorer can take their place.
//!
//! Under `--cfg schedules` they come from loom, which runs a test under every schedule within a bound on
//! preemptions, and lets every atomic load see each value that the memory model allows:
//!
//! ```text
//! CARGO_TARGET_DIR=target/schedules RUSTFLAGS='--cfg schedules' cargo test --lib schedules
//! ```
//!
//! Loom rather than shuttle, because the gate's pairs of store and load are about orderings, and shuttle runs
//! every atomic as if it were `SeqCst`. Three things differ under it: nothing times out (a wake-up that is
//! lost shows as a deadlock), except that a wait for no time at all does; the barriers are fences on both sides;
//! and only tests called `schedules` can run, the rest of the crate merely compiles.

#[cfg(schedules)]
mod explored;
#[cfg(not(schedules))]
mod real;

#[cfg(all(schedules, test))]
pub use explored::explore;
#[cfg(schedules)]
pub use explored::{
    AtomicBool, AtomicI64, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Condvar, Mutex,
    MutexGuard, RwLock, become_worker, heavy_barrier, light_barrier, prepare_barriers,
    spawn_thread, thread_number, worker_number,
};
#[cfg(not(schedules))]
pub use real::{
    AtomicBool, AtomicI64, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Condvar, Mutex,
    MutexGuard, RwLock, become_worker, heavy_barrier, light_barrier, prepare_barriers,
    spawn_thread, thread_number, worker_number,
};

pub use arc_swap::ArcSwapOption;
pub use std::sync::atomic::Ordering;
pub use std::sync::{Arc, OnceLock, Weak};

use std::sync::atomic;

/// The most threads that can have a worker's number at the same time.
pub const WORKERS: usize = if cfg!(schedules) { 1 } else { 4 };

/// Numbers, each given once. Can be a `static`, as the explorer's atomics cannot; it never explores this one.
#[derive(Debug)]
pub struct Numbers(atomic::AtomicU64);

impl Numbers {
    /// Starts with `first`.
    pub const fn starting_at(first: u64) -> Numbers {
        Numbers(atomic::AtomicU64::new(first))
    }

    /// The next number.
    pub fn take(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}
