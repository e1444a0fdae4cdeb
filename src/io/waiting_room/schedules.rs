#![allow(clippy::unwrap_used)]

use std::time::Duration;

use loom::thread;

use super::WaitingRoom;
use crate::sync::{Arc, AtomicUsize, Condvar, Mutex, Ordering, explore};

const LONG: Duration = Duration::from_secs(1_000_000);

fn submit(room: &WaitingRoom, done: &Arc<AtomicUsize>) {
    let done = done.clone();
    room.submit(Box::new(move || {
        done.fetch_add(1, Ordering::Relaxed);
    }));
}

fn explore_jobs(max_threads: usize, idle_time: Duration) {
    explore(2, move || {
        let room = Arc::new(WaitingRoom::new("explored", max_threads, idle_time).unwrap());
        let done = Arc::new(AtomicUsize::new(0));
        let other = {
            let (room, done) = (room.clone(), done.clone());
            thread::spawn(move || submit(&room, &done))
        };
        submit(&room, &done);
        other.join().unwrap();
        assert!(room.shut_down(LONG));
        assert_eq!((done.load(Ordering::Relaxed), room.threads()), (2, 0));
    });
}

#[test]
fn no_job_is_lost_and_threads_end() {
    explore_jobs(2, LONG);
}

#[test]
fn a_job_that_comes_while_its_thread_ends_is_not_lost() {
    explore_jobs(2, Duration::ZERO);
}

#[test]
fn queued_jobs_are_not_lost() {
    explore_jobs(1, LONG);
}

#[test]
fn a_job_that_comes_during_the_end_is_carried_out() {
    explore(2, || {
        let room = Arc::new(WaitingRoom::new("explored", 2, LONG).unwrap());
        let done = Arc::new(AtomicUsize::new(0));
        let other = {
            let (room, done) = (room.clone(), done.clone());
            thread::spawn(move || submit(&room, &done))
        };
        assert!(room.shut_down(LONG));
        other.join().unwrap();
        assert!(room.shut_down(LONG));
        assert_eq!(done.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn jobs_are_carried_out_before_the_room_is_closed() {
    explore(2, || {
        let room = WaitingRoom::new("explored", 1, LONG).unwrap();
        let done = Arc::new((Mutex::new(0), Condvar::new()));
        for _ in 0..2 {
            let done = done.clone();
            room.submit(Box::new(move || {
                *done.0.lock() += 1;
                done.1.notify_all();
            }));
        }
        let mut count = done.0.lock();
        while *count < 2 {
            done.1.wait(&mut count);
        }
        drop(count);
        assert!(room.shut_down(LONG));
    });
}
