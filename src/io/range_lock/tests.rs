#![allow(clippy::unwrap_used)]

use std::sync::mpsc;
use std::thread;

use super::RangeLock;
use crate::sync::{AtomicU32, Ordering};

#[test]
fn only_overlap_keeps_out() {
    let lock = RangeLock::new();
    let held = lock.try_lock(10..20).unwrap();
    for overlapping in [10..20, 0..11, 19..30, 12..13, 0..100] {
        assert!(lock.try_lock(overlapping).is_none());
    }
    for beside in [0..10, 20..30, 15..15] {
        assert!(lock.try_lock(beside).is_some());
    }
    drop(held);
    assert!(lock.try_lock(0..100).is_some());
}

#[test]
fn idle_means_that_nothing_is_held() {
    let lock = RangeLock::new();
    let mut calls = 0;
    lock.if_idle(|| calls += 1);
    let held = lock.lock(0..1);
    lock.if_idle(|| calls += 1);
    drop(held);
    lock.if_idle(|| calls += 1);
    assert_eq!(calls, 2);
}

#[test]
fn a_large_range_is_not_starved_by_small_ones() {
    let lock = RangeLock::new();
    let small = lock.lock(3..4);
    let (arrived, arrival) = mpsc::channel();
    thread::scope(|scope| {
        let large = scope.spawn(|| {
            let _held = lock.lock(0..100);
            arrived.send(()).unwrap();
        });
        // It waits in the queue from the moment a small range that overlaps with it alone is refused.
        while lock.try_lock(50..51).is_some() {
            thread::yield_now();
        }
        assert!(arrival.try_recv().is_err());
        drop(small);
        arrival.recv().unwrap();
        large.join().unwrap();
    });
    assert!(lock.try_lock(0..100).is_some());
}

#[test]
fn overlapping_holders_take_turns() {
    const BLOCKS: u64 = 8;
    let lock = RangeLock::new();
    let holders: Vec<AtomicU32> = (0..BLOCKS).map(|_| AtomicU32::new(0)).collect();
    thread::scope(|scope| {
        for thread in 0..4 {
            let (lock, holders) = (&lock, &holders);
            scope.spawn(move || {
                for turn in 0..5_000 {
                    let start = (turn * 5 + thread * 3) % BLOCKS;
                    let end = (start + 1 + turn % 4).min(BLOCKS);
                    let _held = lock.lock(start..end);
                    for holder in &holders[start as usize..end as usize] {
                        assert_eq!(holder.fetch_add(1, Ordering::Relaxed), 0);
                    }
                    for holder in &holders[start as usize..end as usize] {
                        holder.fetch_sub(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
}
