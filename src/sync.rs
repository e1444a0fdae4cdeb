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
//! lost shows as a deadlock), except that a wait for no time at all does; [`store_load_barrier`] does something;
//! and only tests called `schedules` can run, the rest of the crate merely compiles.

#[cfg(schedules)]
mod explored;

#[cfg(all(schedules, test))]
pub use explored::explore;
#[cfg(schedules)]
pub use explored::{
    AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Condvar, Mutex, MutexGuard, RwLock,
    spawn_thread, store_load_barrier, thread_number,
};
#[cfg(not(schedules))]
pub use real::{
    AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Condvar, Mutex, MutexGuard, RwLock,
    spawn_thread, store_load_barrier, thread_number,
};

pub use arc_swap::ArcSwapOption;
pub use std::sync::atomic::Ordering;
pub use std::sync::{Arc, OnceLock};

use std::sync::atomic;

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

#[cfg(not(schedules))]
mod real {
    use std::cell::Cell;
    use std::io;
    use std::thread::Builder;

    use super::Numbers;

    pub use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};
    pub use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize};

    /// A small number of the calling thread, in the order in which threads first ask.
    #[inline]
    pub fn thread_number() -> usize {
        thread_local! {
            static NUMBER: Cell<usize> = const { Cell::new(usize::MAX) };
        }
        let number = NUMBER.get();
        if number == usize::MAX {
            NUMBER.set(next_thread_number());
            return NUMBER.get();
        }
        number
    }

    #[cold]
    fn next_thread_number() -> usize {
        static NUMBERS: Numbers = Numbers::starting_at(0);
        NUMBERS.take() as usize
    }

    /// Starts a thread that nobody joins, with `stack` bytes of stack.
    ///
    /// # Errors
    /// What the system says where it has no thread left.
    pub fn spawn_thread(
        name: &str,
        stack: usize,
        work: impl FnOnce() + Send + 'static,
    ) -> io::Result<()> {
        let thread = Builder::new().name(name.to_owned()).stack_size(stack);
        thread.spawn(work).map(drop)
    }

    /// Stands between a `SeqCst` store and a later `SeqCst` load that must not come before it. The four accesses
    /// of such a pair are enough by themselves; but loom takes `SeqCst` accesses for `AcqRel`, and needs a fence to
    /// see the order.
    #[inline]
    pub fn store_load_barrier() {}
}
