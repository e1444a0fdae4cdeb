//! The slot of the live table, which a request inside the gate reads at the price of one load.
//!
//! Who is inside the gate uses the table without counting itself as a user. Everybody else takes a counted
//! reference. A table that was replaced is given up only when nobody was inside after that; that is always so
//! where the gate was closed and drained first.
#![allow(unsafe_code)]

use std::{mem, ptr};

use super::gate::{Entered, Gate};
use crate::sync::{Arc, ArcSwapOption, AtomicPtr, Mutex, Ordering, heavy_barrier};
use crate::table::Table;

/// The live table of a device, if it has one.
pub struct LiveTable {
    /// Keeps the table alive.
    counted: ArcSwapOption<Table>,
    /// Points to what `counted` holds, or is null.
    inside: AtomicPtr<Table>,
    /// One replacement at a time. A leaf in the lock order.
    replacing: Mutex<()>,
}

impl LiveTable {
    /// No table.
    pub fn empty() -> LiveTable {
        LiveTable {
            counted: ArcSwapOption::empty(),
            inside: AtomicPtr::new(ptr::null_mut()),
            replacing: Mutex::new(()),
        }
    }

    /// A counted reference, for anybody.
    pub fn load_full(&self) -> Option<Arc<Table>> {
        self.counted.load_full()
    }

    /// The table, for a request that is inside this device's gate, and as long as it is.
    #[inline]
    pub fn for_request<'a>(&'a self, _inside: &'a Entered<'_>) -> Option<&'a Table> {
        // SAFETY: null, or a table that `counted` holds, or held until `replace`: which drops it only if it found
        // nobody inside after changing the pointer. The caller is inside until the reference ends. It was
        // counted as such before it loads the pointer, with the gate's light barrier in between; `replace` has a
        // heavy one between changing the pointer and looking at the count. So either it was found there, or the
        // pointer that it loads is the new one.
        unsafe { self.inside.load(Ordering::Acquire).as_ref() }
    }

    /// Puts `table` in place of the one that was live, and gives that back. `gate` is this device's.
    pub fn replace(&self, table: Option<Arc<Table>>, gate: &Gate) -> Option<Arc<Table>> {
        let _replacing = self.replacing.lock();
        let pointer = table.as_ref().map_or(ptr::null(), Arc::as_ptr);
        self.inside.store(pointer.cast_mut(), Ordering::Release);
        heavy_barrier();
        let replaced = self.counted.swap(table);
        if !gate.is_empty() {
            // Somebody may still be using it, for good: it is the end of a device below which a request hangs.
            mem::forget(replaced.clone());
        }
        replaced
    }
}
