#![allow(clippy::unwrap_used)]

use loom::cell::UnsafeCell;
use loom::thread;

use super::Gate;
use crate::io::{IoError, OpKind, Pass};
use crate::sync::{Arc, AtomicU64, Ordering, explore};
use crate::unit::Sectors;

/// What the gate guards: requests look at it, who drained the gate changes it. Loom fails a test in which one of
/// the two is not ordered after the other.
type Slot = Arc<UnsafeCell<u32>>;

fn request(gate: &Gate, slot: &Slot, nowait: bool) -> Result<(), IoError> {
    let entered = gate.enter(OpKind::Write, Sectors(3), nowait)?;
    slot.with(|_| ());
    drop(entered);
    Ok(())
}

fn swap(gate: &Gate, slot: &Slot) {
    gate.close();
    assert!(gate.drain(&mut || true));
    slot.with_mut(|_| ());
    gate.open();
}

#[test]
fn nobody_is_inside_after_a_drain_and_counters_are_exact() {
    explore(2, || {
        let (gate, slot) = (Arc::new(Gate::new()), Slot::default());
        let workers = [(); 2].map(|()| {
            let (gate, slot) = (gate.clone(), slot.clone());
            thread::spawn(move || request(&gate, &slot, false).unwrap())
        });
        swap(&gate, &slot);
        workers
            .into_iter()
            .for_each(|worker| worker.join().unwrap());
        let written = gate.counters().of(OpKind::Write);
        assert_eq!((written.requests, written.in_flight), (2, 0));
        assert_eq!(written.sectors, Sectors(6));
    });
}

#[test]
fn who_is_refused_leaves_no_trace() {
    explore(2, || {
        let (gate, slot) = (Arc::new(Gate::new()), Slot::default());
        let workers = [(); 2].map(|()| {
            let (gate, slot) = (gate.clone(), slot.clone());
            thread::spawn(move || request(&gate, &slot, true).is_ok())
        });
        swap(&gate, &slot);
        let passed = workers.map(|worker| worker.join().unwrap());
        let passed = passed.into_iter().filter(|&passed| passed).count() as u64;
        let written = gate.counters().of(OpKind::Write);
        assert_eq!((written.requests, written.in_flight), (passed, 0));
        assert_eq!(written.sectors, Sectors(3 * passed));
    });
}

#[test]
fn nobody_who_waits_is_lost_when_the_gate_opens() {
    explore(3, || {
        let (gate, slot) = (Arc::new(Gate::new()), Slot::default());
        gate.close();
        let workers = [(); 2].map(|()| {
            let (gate, slot) = (gate.clone(), slot.clone());
            thread::spawn(move || request(&gate, &slot, false).unwrap())
        });
        gate.open();
        workers
            .into_iter()
            .for_each(|worker| worker.join().unwrap());
        assert_eq!(gate.counters().of(OpKind::Write).requests, 2);
    });
}

#[test]
fn who_was_given_back_comes_again_after_the_next_opening() {
    explore(3, || {
        let (gate, slot) = (Arc::new(Gate::new()), Slot::default());
        let entered = gate.enter(OpKind::Write, Sectors(3), false).unwrap();
        let opening = entered.put_off();
        let worker = {
            let (gate, slot) = (gate.clone(), slot.clone());
            thread::spawn(move || {
                gate.wait_reopened(opening);
                request(&gate, &slot, false).unwrap();
            })
        };
        swap(&gate, &slot);
        worker.join().unwrap();
        assert_eq!(gate.counters().of(OpKind::Write).requests, 1);
    });
}

#[test]
fn a_request_that_is_put_off_does_not_hold_up_a_drain() {
    explore(3, || {
        let (gate, slot) = (Arc::new(Gate::new()), Slot::default());
        let worker = {
            let gate = gate.clone();
            thread::spawn(move || {
                if let Ok(entered) = gate.enter(OpKind::Write, Sectors(3), true) {
                    entered.put_off();
                }
            })
        };
        swap(&gate, &slot);
        worker.join().unwrap();
        assert_eq!(gate.counters(), Gate::new().counters());
    });
}

/// Comes in on one thread and leaves on another, as a request does that is carried out through a queue.
fn handed_over(
    gate: &Arc<Gate>,
    slot: &Slot,
    leave: fn(&Gate, Pass),
) -> Option<thread::JoinHandle<()>> {
    let entered = gate.enter(OpKind::Write, Sectors(3), true).ok()?;
    slot.with(|_| ());
    let pass = entered.hand_over();
    let (gate, slot) = (gate.clone(), slot.clone());
    Some(thread::spawn(move || {
        slot.with(|_| ());
        leave(&gate, pass);
    }))
}

#[test]
fn who_leaves_on_another_thread_is_waited_for_and_counted() {
    explore(3, || {
        let (gate, slot) = (Arc::new(Gate::new()), Slot::default());
        let worker = {
            let (gate, slot) = (gate.clone(), slot.clone());
            thread::spawn(move || {
                let leave = |gate: &Gate, pass| drop(gate.take_over(pass));
                handed_over(&gate, &slot, leave).map(|left| left.join().unwrap())
            })
        };
        swap(&gate, &slot);
        let passed = u64::from(worker.join().unwrap().is_some());
        let written = gate.counters().of(OpKind::Write);
        assert_eq!((written.requests, written.in_flight), (passed, 0));
        assert_eq!(written.sectors, Sectors(3 * passed));
        assert!(gate.is_empty());
    });
}

#[test]
fn who_leaves_on_another_thread_hides_nobody_else() {
    explore(2, || {
        let (gate, slot) = (Arc::new(Gate::new()), Slot::default());
        let worker = {
            let (gate, slot) = (gate.clone(), slot.clone());
            thread::spawn(move || {
                let leave = |gate: &Gate, pass| drop(gate.take_over(pass).put_off());
                let other = handed_over(&gate, &slot, leave);
                // Another request of the same worker while the first is still under way.
                let passed = request(&gate, &slot, true).is_ok();
                other.map(|other| other.join().unwrap());
                passed
            })
        };
        swap(&gate, &slot);
        let passed = u64::from(worker.join().unwrap());
        let written = gate.counters().of(OpKind::Write);
        assert_eq!((written.requests, written.in_flight), (passed, 0));
    });
}

/// What is replaced while requests come and go: the number says which of two is live.
type Replaced = (AtomicU64, [Slot; 2]);

fn request_for_live(gate: &Gate, (live, slots): &Replaced) {
    if let Ok(entered) = gate.enter(OpKind::Write, Sectors(3), true) {
        let number = live.load(Ordering::Acquire);
        slots[number as usize].with(|_| ());
        drop(entered);
    }
}

#[test]
fn who_is_not_found_inside_an_open_gate_sees_what_was_put_there() {
    explore(2, || {
        let gate = Arc::new(Gate::new());
        let replaced: Arc<Replaced> = Arc::new((AtomicU64::new(0), Default::default()));
        let worker = {
            let (gate, replaced) = (gate.clone(), replaced.clone());
            thread::spawn(move || request_for_live(&gate, &replaced))
        };
        // One that goes back on another thread hides nobody.
        let other = {
            let gate = gate.clone();
            thread::spawn(move || {
                let leave = |gate: &Gate, pass| drop(gate.take_over(pass).put_off());
                let other = handed_over(&gate, &Slot::default(), leave);
                other.map(|other| other.join().unwrap());
            })
        };
        replaced.0.store(1, Ordering::Release);
        if gate.was_empty() {
            replaced.1[0].with_mut(|_| ());
        }
        worker.join().unwrap();
        other.join().unwrap();
    });
}
