#![allow(clippy::unwrap_used)]

use loom::cell::UnsafeCell;
use loom::thread;

use super::{Shortcut, Stretches, Trail, Waypoint};
use crate::io::{BlockDev, InFlight, IoError, IoResult, Limits, OpKind, Request, WriteBuf};
use crate::sync::{Arc, explore};
use crate::unit::{Sector, Sectors};

/// What requests reach, and who holds them back changes: loom fails a test in which the two are not ordered.
struct End(UnsafeCell<u32>);

// SAFETY: loom fails a test in which two threads use it at the same time.
unsafe impl Sync for End {}

impl BlockDev for End {
    fn capacity(&self) -> Sectors {
        Sectors(8)
    }

    fn limits(&self) -> Limits {
        Limits::default()
    }

    fn submit(&self, _request: Request<'_>) -> IoResult {
        self.0.with(|_| ());
        Ok(())
    }
}

/// A device with a gate and a waypoint, which shows another.
struct Layer {
    gate: InFlight,
    waypoint: Arc<Waypoint>,
    below: Arc<dyn BlockDev>,
}

impl Layer {
    fn over(below: Arc<dyn BlockDev>) -> Arc<Layer> {
        Arc::new(Layer {
            gate: InFlight::new(),
            waypoint: Arc::default(),
            below,
        })
    }

    /// What a suspend, a change and a resume do.
    fn change(&self, end: &End) {
        self.gate.close();
        let closed = self.waypoint.block();
        assert!(self.gate.drain(&mut || true));
        assert!(closed.drain(&mut || true));
        end.0.with_mut(|_| ());
        self.waypoint.unblock();
        self.gate.open();
    }

    fn written(&self) -> u64 {
        let sum = self.gate.counters().plus(&self.waypoint.counters());
        assert_eq!(sum.in_flight(), 0);
        sum.of(OpKind::Write).requests
    }
}

impl BlockDev for Layer {
    fn capacity(&self) -> Sectors {
        Sectors(8)
    }

    fn limits(&self) -> Limits {
        Limits::default()
    }

    fn submit(&self, request: Request<'_>) -> IoResult {
        let inside = self.gate.try_enter(OpKind::Write, request.len);
        let inside = inside.ok_or(IoError::WOULD_WAIT)?;
        let result = self.below.submit(request);
        match result {
            Ok(()) => drop(inside),
            Err(_) => {
                inside.put_off();
            }
        }
        result
    }

    fn trace(&self, trail: &mut Trail<'_>) -> bool {
        trail.pass(&self.waypoint, || {
            let mut shown = Stretches::default();
            shown.push(Sectors(8), &self.below, Sector(0));
            Some(shown)
        })
    }
}

/// By the shortcut or the long way, and makes a shortcut then, as devices do. True where it was done.
fn write(shortcut: &Arc<Shortcut>, top: &Layer) -> bool {
    let mut request = Request::write(Sector(0), WriteBuf::new(&[0; 512]));
    let result = shortcut.submit(&mut request);
    let result = result.unwrap_or_else(|| {
        let result = top.submit(request);
        shortcut.make(top);
        result
    });
    result.is_ok()
}

fn stack() -> (Arc<End>, Arc<Layer>, Arc<Layer>, Arc<Shortcut>) {
    let end = Arc::new(End(UnsafeCell::new(0)));
    let lower = Layer::over(end.clone());
    let upper = Layer::over(lower.clone());
    (end, lower, upper, Arc::default())
}

#[test]
fn nobody_passes_a_layer_that_is_held_back_and_each_is_counted_once() {
    explore(2, || {
        let (end, lower, upper, shortcut) = stack();
        shortcut.make(&*upper);
        let writer = {
            let (upper, shortcut) = (upper.clone(), shortcut.clone());
            thread::spawn(move || u64::from(write(&shortcut, &upper)))
        };
        lower.change(&end);
        let written = writer.join().unwrap();
        assert_eq!((upper.written(), lower.written()), (written, written));
        shortcut.end();
    });
}

#[test]
fn a_shortcut_that_is_being_made_passes_no_layer_that_is_held_back() {
    explore(2, || {
        let (end, lower, upper, shortcut) = stack();
        let writer = {
            let (upper, shortcut) = (upper.clone(), shortcut.clone());
            thread::spawn(move || {
                shortcut.make(&*upper);
                u64::from(write(&shortcut, &upper))
            })
        };
        lower.change(&end);
        let written = writer.join().unwrap();
        assert_eq!((upper.written(), lower.written()), (written, written));
        shortcut.end();
    });
}

#[test]
fn two_layers_are_held_back_at_the_same_time() {
    explore(2, || {
        let (end, lower, upper, shortcut) = stack();
        shortcut.make(&*upper);
        assert!(write(&shortcut, &upper));
        let other = {
            let upper = upper.clone();
            thread::spawn(move || {
                let closed = upper.waypoint.block();
                assert!(closed.drain(&mut || true));
                upper.waypoint.unblock();
            })
        };
        lower.change(&end);
        other.join().unwrap();
        assert!(write(&shortcut, &upper));
        assert_eq!((upper.written(), lower.written()), (2, 2));
        shortcut.end();
    });
}
