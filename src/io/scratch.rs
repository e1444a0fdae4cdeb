//! Memory that each thread keeps for the data of a request: page-aligned, so that direct I/O below needs no
//! bounce, and touched when it is taken, so that no request waits for a page afterwards.

use std::cell::RefCell;

const PAGE: usize = 4096;

thread_local! {
    /// The memory that is not in use: one for each request that was under way on the thread at once, since a device may
    /// lie over another.
    static SPARE: RefCell<Vec<Scratch>> = const { RefCell::new(Vec::new()) };
}

/// Hands the calling thread's own memory, `len` bytes of it, to `work`. What it holds is left over from before.
pub fn with<R>(len: usize, work: impl FnOnce(&mut [u8]) -> R) -> R {
    let spare = SPARE.with_borrow_mut(Vec::pop);
    let mut scratch = spare.unwrap_or(Scratch(Vec::new()));
    let result = work(scratch.aligned(len));
    SPARE.with_borrow_mut(|spare| spare.push(scratch));
    result
}

struct Scratch(Vec<u8>);

impl Scratch {
    fn aligned(&mut self, len: usize) -> &mut [u8] {
        if self.0.len() < len + PAGE {
            self.grow(len + PAGE);
        }
        let start = self.0.as_ptr().align_offset(PAGE).min(PAGE);
        &mut self.0[start..start + len]
    }

    #[cold]
    fn grow(&mut self, len: usize) {
        // Not zeroes: memory that is asked for as zeroes is not touched until it is used.
        self.0 = vec![1; len];
    }
}

#[cfg(test)]
mod tests {
    use super::{PAGE, with};

    #[test]
    fn memory_is_aligned_whatever_its_length() {
        for len in [0, 1, PAGE, 1 << 20, 512] {
            with(len, |memory| {
                assert_eq!(memory.len(), len);
                assert_eq!(memory.as_ptr().align_offset(PAGE), 0);
            });
        }
    }

    #[test]
    fn memory_in_use_is_not_handed_out_again() {
        with(512, |outer| {
            outer.fill(7);
            with(512, |inner| inner.fill(8));
            assert!(outer.iter().all(|byte| *byte == 7));
        });
    }
}
