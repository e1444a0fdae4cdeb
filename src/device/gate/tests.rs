#![allow(clippy::unwrap_used)]

use std::sync::mpsc;
use std::thread;

use super::Gate;
use crate::io::{IoError, OpKind};
use crate::sync::{AtomicBool, AtomicU64, Ordering};
use crate::unit::Sectors;

#[test]
fn a_closed_gate_refuses_who_may_not_wait() {
    let gate = Gate::new();
    gate.close();
    let refused = gate.enter(OpKind::Read, Sectors(8), true);
    assert_eq!(refused.err(), Some(IoError::WOULD_WAIT));
    assert_eq!(gate.counters(), Gate::new().counters());
}

#[test]
fn drain_waits_for_those_inside_and_can_be_given_up() {
    let gate = Gate::new();
    let entered = gate.enter(OpKind::Write, Sectors(8), true).unwrap();
    gate.close();
    let mut patience = 2;
    assert!(!gate.drain(&mut || {
        patience -= 1;
        patience > 0
    }));
    assert_eq!(patience, 0);
    let mut entered = Some(entered);
    // It leaves while the drain waits, and asks.
    assert!(gate.drain(&mut || {
        drop(entered.take());
        true
    }));
    assert_eq!(gate.counters().in_flight(), 0);
}

#[test]
fn counters_tell_kinds_sectors_and_errors() {
    let gate = Gate::new();
    let read = gate.enter(OpKind::Read, Sectors(8), false).unwrap();
    drop(gate.enter(OpKind::Write, Sectors(3), false).unwrap());
    let failing = gate.enter(OpKind::Write, Sectors(5), false).unwrap();
    failing.fail();
    drop(gate.enter(OpKind::Flush, Sectors::ZERO, false).unwrap());
    let counters = gate.counters();
    assert_eq!(counters.of(OpKind::Read).in_flight, 1);
    assert_eq!(counters.of(OpKind::Read).requests, 0);
    assert_eq!(counters.of(OpKind::Write).requests, 2);
    assert_eq!(counters.of(OpKind::Write).sectors, Sectors(8));
    assert_eq!(counters.of(OpKind::Flush).requests, 1);
    assert_eq!(counters.errors, 1);
    drop(read);
    assert_eq!(gate.counters().of(OpKind::Read).sectors, Sectors(8));
}

#[test]
fn a_request_given_back_waits_for_the_next_opening() {
    let gate = Gate::new();
    let entered = gate.enter(OpKind::Read, Sectors(1), false).unwrap();
    let opening = entered.put_off();
    assert_eq!(gate.counters(), Gate::new().counters());
    // Still the opening it came in by: waits, although the gate is open.
    assert!(!gate.wait_reopened_while(opening, &mut || false));
    gate.close();
    assert!(!gate.wait_reopened_while(opening, &mut || false));
    gate.open();
    assert!(gate.wait_reopened_while(opening, &mut || false));
    gate.wait_reopened(opening);
    gate.wait_open();
}

#[test]
fn nobody_is_inside_after_a_drain_and_everybody_comes_through() {
    const WORKERS: u64 = 4;
    const REQUESTS: u64 = 2_000;
    let gate = Gate::new();
    let alone = AtomicBool::new(false);
    let done = AtomicU64::new(0);
    let (finished, all_finished) = mpsc::channel::<()>();
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            let finished = finished.clone();
            let (gate, alone, done) = (&gate, &alone, &done);
            scope.spawn(move || {
                for _ in 0..REQUESTS {
                    let _entered = gate.enter(OpKind::Write, Sectors(2), false).unwrap();
                    assert!(!alone.load(Ordering::SeqCst));
                    done.fetch_add(1, Ordering::Relaxed);
                }
                drop(finished);
            });
        }
        drop(finished);
        while all_finished.try_recv() != Err(mpsc::TryRecvError::Disconnected) {
            gate.close();
            assert!(gate.drain(&mut || true));
            alone.store(true, Ordering::SeqCst);
            let before = done.load(Ordering::Relaxed);
            thread::yield_now();
            assert_eq!(done.load(Ordering::Relaxed), before);
            alone.store(false, Ordering::SeqCst);
            gate.open();
        }
    });
    let written = gate.counters().of(OpKind::Write);
    assert_eq!(written.requests, WORKERS * REQUESTS);
    assert_eq!(written.sectors, Sectors(2 * WORKERS * REQUESTS));
}
