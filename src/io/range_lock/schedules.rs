#![allow(clippy::unwrap_used)]

use std::ops::Range;

use loom::cell::UnsafeCell;
use loom::thread;

use super::RangeLock;
use crate::sync::{Arc, explore};

/// Blocks that only their holder touches: loom fails a test in which two do so at once.
type Blocks = Arc<[UnsafeCell<u32>; 3]>;

fn hold(lock: &RangeLock<usize>, blocks: &Blocks, range: Range<usize>) {
    let held = lock.lock(range.clone());
    blocks[range]
        .iter()
        .for_each(|block| block.with_mut(|_| ()));
    drop(held);
}

fn explore_ranges(ranges: [Range<usize>; 3]) {
    explore(3, move || {
        let lock = Arc::new(RangeLock::new());
        let blocks = Blocks::default();
        let [first, second, third] = ranges.clone();
        let others = [first, second].map(|range| {
            let (lock, blocks) = (lock.clone(), blocks.clone());
            thread::spawn(move || hold(&lock, &blocks, range))
        });
        hold(&lock, &blocks, third);
        others.into_iter().for_each(|other| other.join().unwrap());
        lock.if_idle(|| blocks[0].with_mut(|_| ()));
        assert!(lock.try_lock(0..3).is_some());
    });
}

#[test]
fn the_same_range_is_held_by_one() {
    explore_ranges([0..1, 0..1, 0..1]);
}

#[test]
fn overlapping_ranges_are_held_in_turn() {
    explore_ranges([0..2, 1..3, 0..3]);
}

#[test]
fn a_range_waits_for_all_that_overlap() {
    explore_ranges([0..1, 2..3, 0..3]);
}

#[test]
fn who_does_not_wait_gets_a_free_range_or_none() {
    explore(3, || {
        let lock = Arc::new(RangeLock::new());
        let blocks = Blocks::default();
        let other = {
            let (lock, blocks) = (lock.clone(), blocks.clone());
            thread::spawn(move || hold(&lock, &blocks, 0..2))
        };
        if let Some(_held) = lock.try_lock(1..3) {
            blocks[1].with_mut(|_| ());
        }
        other.join().unwrap();
    });
}
