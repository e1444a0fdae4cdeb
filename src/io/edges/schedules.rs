#![allow(clippy::unwrap_used)]

use loom::cell::UnsafeCell;
use loom::thread;

use super::Edges;
use crate::sync::{Arc, explore};

/// One block. Loom fails a test in which a write of a part and another write touch it at once.
type Block = Arc<UnsafeCell<u32>>;

fn write(edges: &Edges, block: &Block, unaligned: bool, nowait: bool) {
    if let Ok(_guard) = edges.enter_write(0..1, unaligned, nowait) {
        block.with_mut(|_| ());
    }
}

/// Runs a whole write, a part's write that another opener's close follows, and what `third` does.
fn explore_with(third: impl Fn(&Edges, &Block) + Copy + Send + Sync + 'static) {
    explore(2, move || {
        let (edges, block) = (Arc::new(Edges::new()), Block::default());
        let whole = {
            let (edges, block) = (edges.clone(), block.clone());
            thread::spawn(move || write(&edges, &block, false, false))
        };
        let part = {
            let (edges, block) = (edges.clone(), block.clone());
            thread::spawn(move || {
                write(&edges, &block, true, false);
                edges.reset_if_idle();
            })
        };
        third(&edges, &block);
        whole.join().unwrap();
        part.join().unwrap();
        edges.reset_if_idle();
        assert!(!edges.aligned.is_closed());
    });
}

#[test]
fn parts_and_whole_blocks_do_not_meet() {
    explore_with(|edges, block| write(edges, block, true, false));
}

#[test]
fn who_does_not_wait_does_not_meet_others_either() {
    explore_with(|edges, block| write(edges, block, true, true));
}

#[test]
fn who_closes_the_file_does_not_let_others_at_a_block_that_is_held() {
    explore(3, || {
        let (edges, block) = (Arc::new(Edges::new()), Block::default());
        let whole = {
            let (edges, block) = (edges.clone(), block.clone());
            thread::spawn(move || write(&edges, &block, false, false))
        };
        let closer = {
            let edges = edges.clone();
            thread::spawn(move || edges.reset_if_idle())
        };
        write(&edges, &block, true, false);
        whole.join().unwrap();
        closer.join().unwrap();
    });
}
