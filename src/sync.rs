//! The one file that names lock and atomic types, so that a schedule explorer can take their place in tests.

pub use arc_swap::ArcSwapOption;
pub use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};
pub use std::sync::Arc;
pub use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering};
