//! Memory that each thread keeps for the data of a request: page-aligned, so that direct I/O below needs no
//! bounce, and touched when it is taken, so that no request waits for a page afterwards.

use std::cell::RefCell;

const PAGE: usize = 4096;

thread_local! {
    static OF_THREAD: RefCell<Scratch> = const { RefCell::new(Scratch(Vec::new())) };
}

/// Hands the calling thread's own memory, `len` bytes of it, to `work`. What it holds is left over from before.
pub fn with<R>(len: usize, work: impl FnOnce(&mut [u8]) -> R) -> R {
    OF_THREAD.with(|kept| match kept.try_borrow_mut() {
        Ok(mut kept) => work(kept.aligned(len)),
        Err(_) => work(Scratch(Vec::new()).aligned(len)),
    })
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
    use crate::fs::protocol::MAX_REQUEST;

    #[test]
    fn memory_is_aligned_whatever_its_length() {
        for len in [0, 1, PAGE, MAX_REQUEST, 512] {
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
