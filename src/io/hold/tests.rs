#![allow(clippy::unwrap_used)]

use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use super::Hold;
use crate::io::Clock;
use crate::sync::Arc;

const LONG: u32 = 1 << 30;

#[test]
fn jobs_go_in_the_order_of_their_times_and_none_before() {
    let hold = Hold::new(Arc::new(Clock::system())).unwrap();
    let (done, ended) = channel();
    let start = Instant::now();
    for milliseconds in [30, 10, 20, 10] {
        let done = done.clone();
        let job = move || done.send((milliseconds, start.elapsed())).unwrap();
        hold.later(milliseconds, Box::new(job));
    }
    let order: Vec<_> = (0..4).map(|_| ended.recv().unwrap()).collect();
    for (milliseconds, after) in &order {
        assert!(*after >= Duration::from_millis(u64::from(*milliseconds)));
    }
    let order: Vec<_> = order
        .into_iter()
        .map(|(milliseconds, _)| milliseconds)
        .collect();
    assert_eq!(order, [10, 10, 20, 30]);
    assert_eq!(hold.n_held(), 0);
}

#[test]
fn who_is_held_goes_when_it_is_opened() {
    let hold = Hold::new(Arc::new(Clock::system())).unwrap();
    let (done, ended) = channel();
    for number in 0..3 {
        let done = done.clone();
        hold.later(
            LONG - number * 1_000_000,
            Box::new(move || done.send(number).unwrap()),
        );
    }
    let sleeper = {
        let hold = hold.clone();
        thread::spawn(move || hold.wait(LONG))
    };
    while hold.n_held() < 4 {
        thread::yield_now();
    }
    hold.open();
    sleeper.join().unwrap();
    // The one that was to go first.
    assert_eq!(ended.try_iter().collect::<Vec<_>>(), [2, 1, 0]);
    hold.wait(LONG);
    hold.later(LONG, Box::new(move || done.send(3).unwrap()));
    assert_eq!(ended.try_recv(), Ok(3));
    hold.close();
    assert!(!hold.is_open());
}

#[test]
fn ticks_let_go_what_they_are_enough_for() {
    let clock = Arc::new(Clock::ticking());
    let hold = Hold::new(clock.clone()).unwrap();
    let (done, ended) = channel();
    for ticks in [2, 1, 3] {
        let done = done.clone();
        hold.later(ticks, Box::new(move || done.send(ticks).unwrap()));
    }
    let sleeper = {
        let hold = hold.clone();
        thread::spawn(move || hold.wait(3))
    };
    while hold.n_held() < 4 {
        thread::yield_now();
    }
    for gone in [1, 2] {
        clock.tick(1);
        hold.ticked();
        assert_eq!(ended.try_iter().collect::<Vec<_>>(), [gone]);
    }
    clock.tick(1);
    hold.ticked();
    sleeper.join().unwrap();
    assert_eq!(hold.n_held(), 0);
}

#[test]
fn a_job_that_panics_takes_nobody_with_it() {
    let hold = Hold::new(Arc::new(Clock::system())).unwrap();
    let (done, ended) = channel();
    hold.later(1, Box::new(|| panic!("on purpose")));
    hold.later(2, Box::new(move || done.send(()).unwrap()));
    ended.recv().unwrap();
}
