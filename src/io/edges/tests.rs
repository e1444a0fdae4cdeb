#![allow(clippy::unwrap_used)]

use std::thread;

use super::{EdgeGuard, Edges};
use crate::io::IoError;
use crate::sync::{AtomicU64, Ordering};

fn is_held(guard: &EdgeGuard<'_>) -> bool {
    matches!(guard, EdgeGuard::Held(_))
}

#[test]
fn whole_blocks_are_locked_only_after_a_part_was_written() {
    let edges = Edges::new();
    let whole = edges.enter_write(0..4, false, true).unwrap();
    let other = edges.enter_write(2..4, false, true).unwrap();
    assert!(!is_held(&whole) && !is_held(&other));
    drop((whole, other));
    let part = edges.enter_write(1..2, true, true).unwrap();
    assert!(is_held(&part));
    assert_eq!(
        edges.enter_write(0..4, false, true).err(),
        Some(IoError::WOULD_WAIT)
    );
    assert!(is_held(&edges.enter_write(2..4, false, true).unwrap()));
    edges.reset_if_idle();
    assert!(is_held(&edges.enter_write(2..4, false, true).unwrap()));
    drop(part);
    edges.reset_if_idle();
    assert!(!is_held(&edges.enter_write(0..4, false, true).unwrap()));
}

#[test]
fn a_part_waits_for_whole_blocks_in_flight() {
    let edges = Edges::new();
    let whole = edges.enter_write(0..1, false, true).unwrap();
    assert_eq!(
        edges.enter_write(0..1, true, true).err(),
        Some(IoError::WOULD_WAIT)
    );
    thread::scope(|scope| {
        let part = scope.spawn(|| is_held(&edges.enter_write(0..1, true, false).unwrap()));
        drop(whole);
        assert!(part.join().unwrap());
    });
}

/// One "block" of eight parts, changed by reading, changing and writing it whole.
#[test]
fn parts_of_a_block_are_not_lost() {
    const ROUNDS: u64 = 2_000;
    let edges = Edges::new();
    let block = AtomicU64::new(0);
    thread::scope(|scope| {
        for part in 0..4 {
            let (edges, block) = (&edges, &block);
            scope.spawn(move || {
                for round in 1..=ROUNDS {
                    let guard = edges.enter_write(0..1, true, false).unwrap();
                    let old = block.load(Ordering::Relaxed);
                    let kept = old & !(0xffff << (16 * part));
                    block.store(kept | (round << (16 * part)), Ordering::Relaxed);
                    drop(guard);
                    edges.reset_if_idle();
                    drop(edges.enter_write(0..1, false, false).unwrap());
                }
            });
        }
    });
    let all = (0..4).fold(0, |all, part| all | (ROUNDS << (16 * part)));
    assert_eq!(block.load(Ordering::Relaxed), all);
}
