//! The slot of the live table, which a request inside the gate reads at the price of one load.
//!
//! Who is inside the gate uses the table without counting itself as a user. Everybody else takes a counted
//! reference. A table is replaced behind a closed gate, and given up only when nobody was found inside then.
#![allow(unsafe_code)]

use std::{mem, ptr};

use super::gate::Entered;
use crate::sync::{Arc, ArcSwapOption, AtomicPtr, Mutex, Ordering};
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
        // SAFETY: null, or a table that `counted` holds, or that `replace` gave back or kept for good: it gives back
        // only what nobody who is inside can have seen, because the gate was closed and then found empty. Whoever came in
        // since did so after the gate was opened again, and sees the new pointer. The caller is inside until the
        // reference ends.
        unsafe { self.inside.load(Ordering::Acquire).as_ref() }
    }

    /// Puts `table` in place of the one that was live, and gives that back. The gate is closed; `is_empty`: it was found
    /// empty since.
    pub fn replace(&self, table: Option<Arc<Table>>, is_empty: bool) -> Option<Arc<Table>> {
        let _replacing = self.replacing.lock();
        let pointer = table.as_ref().map_or(ptr::null(), Arc::as_ptr);
        self.inside.store(pointer.cast_mut(), Ordering::Release);
        let replaced = self.counted.swap(table);
        if !is_empty {
            // Somebody may still be using it, for good: it is the end of a device below which a request hangs.
            mem::forget(replaced.clone());
        }
        replaced
    }
}
