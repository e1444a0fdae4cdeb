#![allow(clippy::unwrap_used)]

use super::at_once;
use crate::io::{IoError, Pool};
use crate::sync::{AtomicUsize, Ordering, explore};

#[test]
fn every_piece_is_carried_out_once() {
    explore(2, || {
        let pool = Pool::new(1);
        let done = [(); 3].map(|()| AtomicUsize::new(0));
        let result = at_once(&pool, vec![0, 1, 2], |piece| {
            done[piece].fetch_add(1, Ordering::Relaxed);
            if piece == 0 { Ok(()) } else { Err(IoError::IO) }
        });
        assert_eq!(result, Err(IoError::IO));
        assert_eq!(done.map(AtomicUsize::into_inner), [1, 1, 1]);
    });
}

#[test]
fn a_nested_fan_out_ends_on_a_busy_pool() {
    explore(2, || {
        let pool = Pool::new(1);
        let done = AtomicUsize::new(0);
        let result = at_once(&pool, vec![0, 1], |_| {
            at_once(&pool, vec![0, 1], |_| {
                done.fetch_add(1, Ordering::Relaxed);
                Ok(())
            })
        });
        assert_eq!(result, Ok(()));
        assert_eq!(done.into_inner(), 4);
    });
}
