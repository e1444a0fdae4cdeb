//! A slot whose content a request inside the gate reads at the price of one load: the live table, the regions of which
//! statistics are kept.
//!
//! Who is inside the gate uses the content without counting itself as a user. Everybody else takes a counted
//! reference. What was replaced is given up only when nobody can be using it any more.
#![allow(unsafe_code)]

use std::time::Duration;
use std::{mem, ptr, thread};

use super::gate::{Entered, Gate};
use crate::sync::{Arc, ArcSwapOption, AtomicPtr, Mutex, Ordering};

/// How often, and how far apart, it is looked whether nobody uses what was replaced, before it is kept until later.
const LOOKS: u32 = 20;
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);

/// What a device has at present, if it has any.
pub struct Live<T> {
    /// Keeps the content alive.
    counted: ArcSwapOption<T>,
    /// Points to what `counted` holds, or is null.
    inside: AtomicPtr<T>,
    /// What was replaced and may still be in use. One replacement at a time. A leaf in the lock order, but for the gate's.
    replaced: Mutex<Vec<Arc<T>>>,
}

impl<T> Live<T> {
    /// Nothing.
    pub fn empty() -> Live<T> {
        Live {
            counted: ArcSwapOption::empty(),
            inside: AtomicPtr::new(ptr::null_mut()),
            replaced: Mutex::new(Vec::new()),
        }
    }

    /// A counted reference, for anybody.
    pub fn load_full(&self) -> Option<Arc<T>> {
        self.counted.load_full()
    }

    /// The content, for a request that is inside this device's gate, and as long as it is.
    #[inline]
    pub fn for_request<'a>(&'a self, _inside: &'a Entered<'_>) -> Option<&'a T> {
        // SAFETY: null, or what `counted` or `replaced` hold, or what `replace` gave back or kept for good. It gives back
        // only what nobody who is inside can have seen, because the gate was closed and then found empty. Whoever came in
        // since did so after the gate was opened again, and sees the new pointer. `exchange` gives up only what was
        // replaced before the gate was found empty, as `Gate::was_empty` means it: whoever was not found inside sees the
        // new pointer. The caller is inside until the reference ends.
        unsafe { self.inside.load(Ordering::Acquire).as_ref() }
    }

    /// Puts `content` in place of what was live, and gives that back. The gate is closed; `is_empty`: it was found
    /// empty since.
    pub fn replace(&self, content: Option<Arc<T>>, is_empty: bool) -> Option<Arc<T>> {
        let _replacing = self.replaced.lock();
        let replaced = self.put(content);
        if !is_empty {
            // Somebody may still be using it, for good: it is the end of a device below which a request hangs.
            mem::forget(replaced.clone());
        }
        replaced
    }

    /// Puts `content` in place of what was live while requests come and go by `gate`. What was live is given up when it
    /// is not in use any more: where that takes long, at a later exchange.
    pub fn exchange(&self, content: Option<Arc<T>>, gate: &Gate) {
        let mut replaced = self.replaced.lock();
        replaced.extend(self.put(content));
        if replaced.is_empty() {
            return;
        }
        for look in 0..LOOKS {
            if gate.was_empty() {
                let unused = mem::take(&mut *replaced);
                drop(replaced);
                drop(unused);
                return;
            }
            if look + 1 < LOOKS {
                thread::sleep(BETWEEN_LOOKS);
            }
        }
    }

    fn put(&self, content: Option<Arc<T>>) -> Option<Arc<T>> {
        let pointer = content.as_ref().map_or(ptr::null(), Arc::as_ptr);
        self.inside.store(pointer.cast_mut(), Ordering::Release);
        self.counted.swap(content)
    }
}

impl<T> Default for Live<T> {
    fn default() -> Live<T> {
        Live::empty()
    }
}
