#![allow(clippy::unwrap_used)]

use loom::thread;

use super::Pool;
use crate::sync::{Arc, AtomicUsize, Ordering, explore};

/// Shares `left` pieces of work out among who helps, and tells how many were done. Taking the atomics apart at the
/// end is an access of its own for loom: it fails a test in which a helper could still use what was lent.
fn share_out(pool: &Pool, helpers: usize, left: usize) -> usize {
    let (left, done) = (AtomicUsize::new(left), AtomicUsize::new(0));
    pool.help(helpers, &|| {
        while left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            })
            .is_ok()
        {
            done.fetch_add(1, Ordering::Relaxed);
        }
    });
    left.into_inner();
    done.into_inner()
}

#[test]
fn what_was_lent_is_back_when_help_returns() {
    explore(3, || {
        let pool = Pool::new(1);
        assert_eq!(share_out(&pool, 1, 2), 2);
        assert_eq!(share_out(&pool, 1, 1), 1);
    });
}

#[test]
fn two_callers_share_one_thread() {
    explore(2, || {
        let pool = Arc::new(Pool::new(1));
        let other = {
            let pool = pool.clone();
            thread::spawn(move || assert_eq!(share_out(&pool, 1, 1), 1))
        };
        assert_eq!(share_out(&pool, 1, 1), 1);
        other.join().unwrap();
    });
}

#[test]
fn two_helpers_come_and_go() {
    explore(2, || {
        let pool = Pool::new(2);
        assert_eq!(share_out(&pool, 2, 2), 2);
    });
}
