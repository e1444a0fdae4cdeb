#![allow(clippy::unwrap_used)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Barrier;
use std::thread;

use super::Pool;
use crate::sync::{AtomicUsize, Ordering};

#[test]
fn helpers_work_at_the_same_time() {
    let pool = Pool::new(3);
    let all_here = Barrier::new(4);
    for _ in 0..50 {
        // Nobody passes the barrier unless four threads work at once.
        pool.help(3, &|| {
            all_here.wait();
        });
    }
}

#[test]
fn the_caller_alone_suffices() {
    let pool = Pool::new(0);
    let calls = AtomicUsize::new(0);
    pool.help(4, &|| {
        calls.fetch_add(1, Ordering::Relaxed);
    });
    assert_eq!(calls.into_inner(), 1);
}

#[test]
fn work_that_asks_for_help_itself_ends() {
    let pool = Pool::new(2);
    let calls = AtomicUsize::new(0);
    for _ in 0..200 {
        pool.help(4, &|| {
            pool.help(4, &|| {
                calls.fetch_add(1, Ordering::Relaxed);
            });
        });
    }
    assert!(calls.into_inner() >= 200);
}

#[test]
fn what_was_lent_is_back_when_the_caller_panics() {
    let pool = Pool::new(2);
    for _ in 0..100 {
        let here = thread::current().id();
        let (inside, begun) = (AtomicUsize::new(0), Barrier::new(2));
        let first = AtomicUsize::new(0);
        let result = catch_unwind(AssertUnwindSafe(|| {
            pool.help(1, &|| {
                inside.fetch_add(1, Ordering::SeqCst);
                begun.wait();
                if thread::current().id() == here {
                    panic!("the caller gives up");
                }
                // Goes on for a while on the pool's thread, with what it has borrowed.
                for _ in 0..100 {
                    first.fetch_add(1, Ordering::SeqCst);
                    thread::yield_now();
                }
                inside.fetch_sub(1, Ordering::SeqCst);
            });
        }));
        assert!(result.is_err());
        assert_eq!(
            inside.into_inner(),
            1,
            "only the caller's own call was cut short"
        );
        assert_eq!(first.into_inner(), 100);
    }
}

#[test]
fn a_panic_on_a_helper_reaches_the_caller_and_spares_the_pool() {
    let pool = Pool::new(1);
    for _ in 0..20 {
        let here = thread::current().id();
        let both = Barrier::new(2);
        let result = catch_unwind(AssertUnwindSafe(|| {
            pool.help(1, &|| {
                both.wait();
                if thread::current().id() != here {
                    panic!("a helper gives up");
                }
            });
        }));
        assert!(result.is_err());
    }
    let state = pool.shared.state.lock();
    assert!(state.panicked.is_empty() && state.working.is_empty() && state.waiting.is_empty());
}

#[test]
fn callers_share_a_pool() {
    let pool = Pool::new(2);
    thread::scope(|scope| {
        for _ in 0..4 {
            let pool = &pool;
            scope.spawn(move || {
                for n in 1..300 {
                    let left = AtomicUsize::new(n);
                    let done = AtomicUsize::new(0);
                    pool.help(3, &|| {
                        while left
                            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                                left.checked_sub(1)
                            })
                            .is_ok()
                        {
                            done.fetch_add(1, Ordering::Relaxed);
                        }
                    });
                    assert_eq!(done.into_inner(), n);
                }
            });
        }
    });
}
