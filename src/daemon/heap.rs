//! Keeps the C library's heap from growing and shrinking while requests are served.
#![allow(unsafe_code)]

/// What the heap holds from the start.
const ROOM: usize = 64 << 20;
/// Never given back, and longer than any request's buffer.
const NEVER: i32 = i32::MAX;

/// Has all threads allocate from one heap that has room from now on and gives nothing back to the kernel. Memory
/// that is locked ([`super::harden`]) is there when it is in the heap.
pub fn settle() {
    // SAFETY: mallopt(3) changes the allocator's settings and takes no pointers; it may be called at any time.
    let set = |what, to| unsafe { libc::mallopt(what, to) } == 1;
    let all = [
        set(libc::M_ARENA_MAX, 1),
        set(libc::M_MMAP_THRESHOLD, 32 << 20),
        set(libc::M_TRIM_THRESHOLD, NEVER),
    ];
    if all.contains(&false) {
        log::debug!("the heap's settings were refused: {all:?}");
    }
    // In pieces below the size that the C library maps by itself.
    let pieces: Vec<Vec<u8>> = (0..ROOM >> 20).map(|_| vec![1; 1 << 20]).collect();
    drop(std::hint::black_box(pieces));
}

#[cfg(test)]
mod tests {
    use super::settle;

    #[test]
    fn the_heap_goes_on_as_before() {
        settle();
        settle();
        let numbers: Vec<u64> = (0..1 << 20).collect();
        assert_eq!(numbers.iter().max(), Some(&((1 << 20) - 1)));
    }
}
