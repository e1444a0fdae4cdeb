//! Page-aligned memory for requests that outlive the call that brought them: lent from a stock with a bound, and
//! kept for the next one.
//!
//! It is reached through a pointer, because the kernel reads and writes it while a request is under way; nobody
//! here looks at it then.
#![allow(unsafe_code)]

use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::slice;

use crate::sync::{Arc, Mutex};

const PAGE: usize = 4096;
/// Lengths that are kept: powers of two up to the longest request of the front, and that with a block at each end.
const LENGTHS: [usize; 10] = [
    PAGE,
    2 * PAGE,
    4 * PAGE,
    8 * PAGE,
    16 * PAGE,
    32 * PAGE,
    64 * PAGE,
    128 * PAGE,
    256 * PAGE,
    288 * PAGE,
];

#[derive(Clone, Copy)]
#[repr(C, align(4096))]
struct Page([u8; PAGE]);

/// Memory that a stock has lent; goes back when dropped. What it holds at first is left over from before.
pub struct Memory {
    pages: Pages,
    len: usize,
    class: usize,
    home: Arc<Stock>,
}

/// Pages of the heap, owned by whoever holds this.
struct Pages {
    first: NonNull<Page>,
    n: usize,
}

// SAFETY: the pages belong to this value alone, and bytes can be used from any thread.
unsafe impl Send for Pages {}

impl Pages {
    fn new(n: usize) -> Pages {
        let pages = Box::leak(vec![Page([0; PAGE]); n].into_boxed_slice());
        Pages {
            first: NonNull::from(pages).cast(),
            n,
        }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        let pages = NonNull::slice_from_raw_parts(self.first, self.n);
        // SAFETY: `first` and `n` are those of a box that was leaked when this was made, and nobody else has it.
        drop(unsafe { Box::from_raw(pages.as_ptr()) });
    }
}

impl Memory {
    /// Where it begins. Good for `len` bytes as long as this lives, wherever this is moved.
    pub(super) fn start(&self) -> NonNull<u8> {
        self.pages.first.cast()
    }
}

impl Deref for Memory {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: `len` is not more than the pages hold, which were filled when they were made.
        unsafe { slice::from_raw_parts(self.start().as_ptr(), self.len) }
    }
}

impl DerefMut for Memory {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above; nobody else has the pages.
        unsafe { slice::from_raw_parts_mut(self.start().as_ptr(), self.len) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let nothing = Pages {
            first: NonNull::dangling(),
            n: 0,
        };
        let pages = std::mem::replace(&mut self.pages, nothing);
        self.home.take_back(pages, self.class);
    }
}

/// Lends memory up to a bound.
pub(super) struct Stock {
    /// Most bytes, lent and kept together.
    most: usize,
    /// Most bytes kept while nobody wants them.
    most_kept: usize,
    /// A leaf in the lock order.
    shelves: Mutex<Shelves>,
}

#[derive(Default)]
struct Shelves {
    kept: [Vec<Pages>; LENGTHS.len()],
    bytes_kept: usize,
    /// With those kept.
    bytes: usize,
}

impl Stock {
    /// At most `most` bytes.
    pub(super) fn new(most: usize) -> Arc<Stock> {
        Arc::new(Stock {
            most,
            most_kept: most / 2,
            shelves: Mutex::default(),
        })
    }

    /// Lends `len` bytes; `None` where that is too much, by itself or with what is lent already.
    pub(super) fn lend(self: &Arc<Stock>, len: usize) -> Option<Memory> {
        let class = LENGTHS.iter().position(|&length| length >= len)?;
        let pages = self.pages(class)?;
        Some(Memory {
            pages,
            len,
            class,
            home: self.clone(),
        })
    }

    fn pages(&self, class: usize) -> Option<Pages> {
        let length = LENGTHS[class];
        let discarded = {
            let mut shelves = self.shelves.lock();
            if let Some(pages) = shelves.kept[class].pop() {
                shelves.bytes_kept -= length;
                return Some(pages);
            }
            if shelves.bytes - shelves.bytes_kept + length > self.most {
                return None;
            }
            shelves.bytes += length;
            shelves.cut_down(self.most)
        };
        drop(discarded);
        Some(Pages::new(length / PAGE))
    }

    fn take_back(&self, pages: Pages, class: usize) {
        let mut shelves = self.shelves.lock();
        let length = LENGTHS[class];
        if shelves.bytes_kept + length > self.most_kept {
            shelves.bytes -= length;
            drop(shelves);
            return drop(pages);
        }
        shelves.bytes_kept += length;
        shelves.kept[class].push(pages);
    }
}

impl Shelves {
    /// Takes kept pages away, longest first, until there are no more than `most` bytes.
    fn cut_down(&mut self, most: usize) -> Vec<Pages> {
        let mut taken = Vec::new();
        for class in (0..LENGTHS.len()).rev() {
            while self.bytes > most
                && let Some(pages) = self.kept[class].pop()
            {
                self.bytes -= LENGTHS[class];
                self.bytes_kept -= LENGTHS[class];
                taken.push(pages);
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::{LENGTHS, PAGE, Stock};

    #[test]
    fn memory_is_aligned_and_as_long_as_asked() {
        let stock = Stock::new(16 << 20);
        for len in [0, 1, 512, PAGE, PAGE + 1, 1 << 20, LENGTHS[9]] {
            let mut memory = stock.lend(len).unwrap();
            assert_eq!(memory.len(), len);
            assert!(memory.start().as_ptr().addr().is_multiple_of(PAGE));
            memory.fill(7);
        }
        assert!(stock.lend(LENGTHS[9] + 1).is_none());
    }

    #[test]
    fn what_comes_back_is_lent_again_and_the_bound_holds() {
        let stock = Stock::new(4 * PAGE);
        let first = stock.lend(PAGE).unwrap();
        let place = first.start();
        drop(first);
        let lent: Vec<_> = (0..4).map(|_| stock.lend(PAGE).unwrap()).collect();
        assert_eq!(lent[0].start(), place);
        assert!(stock.lend(1).is_none());
        drop(lent);
        // Half of the bound is kept, and makes room where something longer is wanted.
        assert_eq!(stock.shelves.lock().bytes_kept, 2 * PAGE);
        let long = stock.lend(4 * PAGE).unwrap();
        assert_eq!(stock.shelves.lock().bytes_kept, 0);
        drop(long);
        assert_eq!(stock.shelves.lock().bytes, 0);
    }
}
