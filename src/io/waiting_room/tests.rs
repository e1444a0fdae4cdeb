#![allow(clippy::unwrap_used)]

use std::sync::{Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::WaitingRoom;
use crate::sync::{Arc, AtomicUsize, Ordering};

const LONG: Duration = Duration::from_secs(60);

#[test]
fn jobs_that_wait_do_not_hold_up_others() {
    let room = WaitingRoom::new("test", 100, LONG).unwrap();
    let gate = Arc::new(Barrier::new(21));
    for _ in 0..20 {
        let gate = gate.clone();
        room.submit(Box::new(move || {
            gate.wait();
        }));
    }
    let (sender, receiver) = mpsc::channel();
    room.submit(Box::new(move || sender.send(7).unwrap()));
    assert_eq!(receiver.recv().unwrap(), 7);
    assert!(!room.shut_down(Duration::from_millis(1)));
    gate.wait();
    assert!(room.shut_down(LONG));
    assert_eq!(room.threads(), 0);
}

#[test]
fn beyond_the_bound_jobs_queue_and_none_is_lost() {
    let room = WaitingRoom::new("test", 3, LONG).unwrap();
    let done = Arc::new(AtomicUsize::new(0));
    for _ in 0..5_000 {
        let done = done.clone();
        room.submit(Box::new(move || {
            done.fetch_add(1, Ordering::Relaxed);
        }));
        assert!(room.threads() <= 3);
    }
    assert!(room.shut_down(LONG));
    assert_eq!(done.load(Ordering::Relaxed), 5_000);
}

#[test]
fn threads_end_when_idle_but_one_stays() {
    let room = WaitingRoom::new("test", 100, Duration::from_millis(5)).unwrap();
    let gate = Arc::new(Barrier::new(11));
    for _ in 0..10 {
        let gate = gate.clone();
        room.submit(Box::new(move || {
            gate.wait();
        }));
    }
    assert!(room.threads() >= 10);
    gate.wait();
    let start = Instant::now();
    while room.threads() > 1 {
        assert!(start.elapsed() < LONG);
        thread::yield_now();
    }
    let (sender, receiver) = mpsc::channel();
    room.submit(Box::new(move || sender.send(()).unwrap()));
    receiver.recv().unwrap();
}

#[test]
fn a_job_that_panics_takes_nothing_with_it() {
    let room = WaitingRoom::new("test", 2, LONG).unwrap();
    let done = Arc::new(AtomicUsize::new(0));
    for n in 0..100 {
        let done = done.clone();
        room.submit(Box::new(move || {
            if n % 2 == 0 {
                panic!("job {n}");
            }
            done.fetch_add(1, Ordering::Relaxed);
        }));
    }
    assert!(room.shut_down(LONG));
    assert_eq!((done.load(Ordering::Relaxed), room.threads()), (50, 0));
}

#[test]
fn work_after_the_end_is_carried_out() {
    let room = WaitingRoom::new("test", 2, LONG).unwrap();
    assert!(room.shut_down(LONG));
    let (sender, receiver) = mpsc::channel();
    room.submit(Box::new(move || sender.send(()).unwrap()));
    receiver.recv().unwrap();
    assert!(room.shut_down(LONG));
}

#[test]
fn a_room_that_keeps_threads_has_them_ready_and_grows_all_the_same() {
    let room = WaitingRoom::new("kept", 8, Duration::from_millis(1)).unwrap();
    room.keep(3).unwrap();
    room.keep(2).unwrap();
    assert_eq!(room.threads(), 3);
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(room.threads(), 3);
    // As many at a time as the room may have threads, each waiting for all others.
    let together = std::sync::Arc::new(std::sync::Barrier::new(8));
    for _ in 0..8 {
        let together = together.clone();
        room.submit(Box::new(move || {
            together.wait();
        }));
    }
    assert!(room.shut_down(Duration::from_secs(10)));
}
