//! The one file that names lock and atomic types, so that a schedule explorer can take their place in tests.

use std::cell::Cell;

pub use arc_swap::ArcSwapOption;
pub use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};
pub use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering};
pub use std::sync::{Arc, OnceLock};

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
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
