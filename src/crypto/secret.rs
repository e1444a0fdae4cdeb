//! Memory for keys: never swapped out, in no core dump, overwritten before it is given back.
#![allow(unsafe_code)]

use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::ptr::{NonNull, drop_in_place, null_mut, slice_from_raw_parts_mut};
use std::sync::Once;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mlock, mmap_anonymous, munlock, munmap};
use rustix::param::page_size;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use zeroize::Zeroize;

use super::modes::Mode;

/// Pages of its own that hold a value, or bytes.
///
/// Where the system does not allow that much memory to be locked (RLIMIT_MEMLOCK), it is used all the same and may be
/// swapped out.
pub struct Hidden<T: ?Sized> {
    value: NonNull<T>,
    pages: Pages,
}

struct Pages {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the pages belong to this value alone.
unsafe impl<T: ?Sized + Send> Send for Hidden<T> {}
// SAFETY: as for a box, what is shared is a reference to the value.
unsafe impl<T: ?Sized + Sync> Sync for Hidden<T> {}

impl Pages {
    /// At least `len` bytes of zeroes.
    fn new(len: usize) -> Pages {
        never_dump();
        let len = len.max(1).next_multiple_of(page_size());
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: a new mapping, at a place that the kernel chooses.
        let start = unsafe { mmap_anonymous(null_mut(), len, protection, flags) };
        let Some(start) = start
            .ok()
            .and_then(|start| NonNull::new(start.cast::<u8>()))
        else {
            panic!("no memory for a key");
        };
        let pages = start.as_ptr().cast();
        // SAFETY: the mapping just made; neither call changes what it holds.
        let hidden = unsafe { madvise(pages, len, Advice::LinuxDontDump) };
        // SAFETY: as above.
        let locked = unsafe { mlock(pages, len) };
        if let Err(error) = hidden.and(locked) {
            log::warn!("memory of a key cannot be locked, and may be swapped out: {error}");
        }
        Pages { start, len }
    }
}

/// From the first key on, the process leaves no core dump and nobody may trace it: registers and the heap have had parts
/// of keys in them, too.
fn never_dump() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let behaviour = DumpableBehavior::NotDumpable;
        if let Err(error) = set_dumpable_behavior(behaviour) {
            log::warn!("the process can be dumped, with keys in it: {error}");
        }
    });
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the whole of a mapping that nobody refers to any more.
        let bytes = unsafe { &mut *slice_from_raw_parts_mut(self.start.as_ptr(), self.len) };
        bytes.zeroize();
        let pages = self.start.as_ptr().cast();
        // SAFETY: as above. It fails where locking failed.
        let _ = unsafe { munlock(pages, self.len) };
        // SAFETY: as above.
        let _ = unsafe { munmap(pages, self.len) };
    }
}

impl<T> Hidden<T> {
    /// Moves `value` there. What the move leaves behind on the stack is for [`overwrite_stack`].
    pub(super) fn new(value: T) -> Hidden<T> {
        assert!(align_of::<T>() <= page_size(), "aligned to a page at most");
        let pages = Pages::new(size_of::<T>());
        let place: NonNull<T> = pages.start.cast();
        // SAFETY: the pages are long enough, aligned, and nobody else's.
        unsafe { place.write(value) };
        Hidden {
            value: place,
            pages,
        }
    }
}

/// A mode, with its key, as any mode.
pub(super) fn hide<M: Mode + 'static>(mode: M) -> Hidden<dyn Mode> {
    let hidden = ManuallyDrop::new(Hidden::new(mode));
    let value: NonNull<dyn Mode> = hidden.value;
    let Pages { start, len } = hidden.pages;
    let pages = Pages { start, len };
    Hidden { value, pages }
}

impl Hidden<[u8]> {
    /// `len` bytes of zeroes.
    pub fn zeroes(len: usize) -> Hidden<[u8]> {
        let pages = Pages::new(len);
        Hidden {
            value: NonNull::slice_from_raw_parts(pages.start, len),
            pages,
        }
    }
}

impl<T: ?Sized> Deref for Hidden<T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: the value was put there when this was made.
        unsafe { self.value.as_ref() }
    }
}

impl<T: ?Sized> DerefMut for Hidden<T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and nobody else has it.
        unsafe { self.value.as_mut() }
    }
}

impl<T: ?Sized> Drop for Hidden<T> {
    fn drop(&mut self) {
        // SAFETY: the value is dropped here and nowhere else, and the pages after it.
        unsafe { drop_in_place(self.value.as_ptr()) };
    }
}

impl std::fmt::Debug for Hidden<[u8]> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a key of {} bytes", self.len())
    }
}

/// Overwrites what calls before this one have left on the stack.
#[inline(never)]
pub(super) fn overwrite_stack() {
    let mut left = [0_u8; 32 << 10];
    left.zeroize();
    std::hint::black_box(&left);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs::read_to_string;

    use super::Hidden;

    /// The lines about the mapping that holds `address` (proc(5), smaps).
    fn mapping_of(address: usize) -> String {
        let text = read_to_string("/proc/self/smaps").unwrap();
        let mut found = String::new();
        let mut inside = false;
        for line in text.lines() {
            let range = line.split(' ').next().unwrap().split_once('-');
            let bounds = range.and_then(|(start, end)| {
                let number = |text| usize::from_str_radix(text, 16).ok();
                Some((number(start)?, number(end)?))
            });
            if let Some((start, end)) = bounds {
                inside = (start..end).contains(&address);
            }
            if inside {
                found += line;
                found.push('\n');
            }
        }
        found
    }

    #[test]
    fn a_key_is_locked_and_not_dumped() {
        let mut key = Hidden::zeroes(32);
        key.copy_from_slice(&[7; 32]);
        let mapping = mapping_of(key.as_ptr().addr());
        let flags = mapping.lines().find(|line| line.starts_with("VmFlags:"));
        let flags: Vec<_> = flags.unwrap().split(' ').collect();
        assert!(flags.contains(&"dd"), "{mapping}");
        assert!(flags.contains(&"lo"), "{mapping}");
        assert_eq!(&key[..], [7; 32]);
        assert_eq!(format!("{key:?}"), "a key of 32 bytes");
    }

    #[test]
    fn values_are_dropped_once() {
        let counted = std::sync::Arc::new(());
        let hidden = Hidden::new(counted.clone());
        assert_eq!(std::sync::Arc::strong_count(&counted), 2);
        drop(hidden);
        assert_eq!(std::sync::Arc::strong_count(&counted), 1);
    }
}
