#![allow(clippy::unwrap_used)]

use proptest::prelude::{Strategy, any, prop_assert_eq, proptest};

use super::stretches::Route;
use super::{Shortcut, Stretches, Trail, Waypoint};
use crate::io::{BlockDev, IoError, IoResult, Limits, OpKind, ReadBuf, Request};
use crate::sync::{Arc, AtomicU64, Ordering};
use crate::unit::{Sector, Sectors};

/// Notes where it was asked, and answers as it is told.
struct End {
    asked: AtomicU64,
    answer: IoResult,
}

fn end(answer: IoResult) -> Arc<End> {
    Arc::new(End {
        asked: AtomicU64::new(u64::MAX),
        answer,
    })
}

impl BlockDev for End {
    fn capacity(&self) -> Sectors {
        Sectors(1 << 20)
    }

    fn limits(&self) -> Limits {
        Limits::default()
    }

    fn submit(&self, request: Request<'_>) -> IoResult {
        self.asked.store(request.at.0, Ordering::Relaxed);
        self.answer
    }
}

/// Shows a stretch of another device.
struct Layer {
    waypoint: Arc<Waypoint>,
    below: Arc<dyn BlockDev>,
    start: Sector,
}

fn layer(below: Arc<dyn BlockDev>, start: u64) -> Arc<Layer> {
    Arc::new(Layer {
        waypoint: Arc::default(),
        below,
        start: Sector(start),
    })
}

impl BlockDev for Layer {
    fn capacity(&self) -> Sectors {
        Sectors(1000)
    }

    fn limits(&self) -> Limits {
        Limits::default()
    }

    fn submit(&self, request: Request<'_>) -> IoResult {
        let at = request.at + Sectors(self.start.0);
        self.below.submit(Request { at, ..request })
    }

    fn trace(&self, trail: &mut Trail<'_>) -> bool {
        trail.pass(&self.waypoint, || {
            let mut shown = Stretches::default();
            shown.push(self.capacity(), &self.below, self.start);
            Some(shown)
        })
    }
}

fn read(shortcut: &Shortcut, at: u64) -> Option<IoResult> {
    let mut sector = [0; 512];
    shortcut.submit(&mut Request::read(Sector(at), ReadBuf::new(&mut sector)))
}

fn reads(waypoint: &Waypoint) -> (u64, u64) {
    let counters = waypoint.counters();
    (counters.of(OpKind::Read).requests, counters.errors)
}

#[test]
fn a_shortcut_leads_past_all_layers_and_counts_for_each() {
    let end = end(Ok(()));
    let lower = layer(end.clone(), 30);
    let upper = layer(lower.clone(), 4);
    let shortcut = Arc::new(Shortcut::default());
    assert_eq!(read(&shortcut, 1), None);
    shortcut.make(&*upper);
    assert_eq!(read(&shortcut, 1), Some(Ok(())));
    assert_eq!(end.asked.load(Ordering::Relaxed), 35);
    // Where the lower one ends, it refuses by itself.
    assert_eq!(read(&shortcut, 996), None);
    assert_eq!(read(&shortcut, u64::MAX), None);
    let flush = shortcut.submit(&mut Request::flush());
    assert_eq!(flush, None);
    assert_eq!(reads(&upper.waypoint), (1, 0));
    assert_eq!(reads(&lower.waypoint), (1, 0));
}

#[test]
fn a_blocked_layer_is_not_passed_and_keeps_what_was_counted() {
    let end = end(Err(IoError::IO));
    let lower = layer(end, 30);
    let upper = layer(lower.clone(), 4);
    let shortcut = Arc::new(Shortcut::default());
    shortcut.make(&*upper);
    assert_eq!(read(&shortcut, 1), Some(Err(IoError::IO)));
    assert!(lower.waypoint.block().drain(&mut || true));
    assert_eq!(read(&shortcut, 1), None);
    // As far as the blocked one.
    shortcut.make(&*upper);
    assert!(read(&shortcut, 1).is_some());
    assert_eq!(reads(&upper.waypoint), (2, 2));
    assert_eq!(reads(&lower.waypoint), (1, 1));
    // Open, but not past it: nothing to wait for.
    assert!(lower.waypoint.block().drain(&mut || false));
    lower.waypoint.unblock();
    lower.waypoint.unblock();
    shortcut.make(&*upper);
    assert!(read(&shortcut, 1).is_some());
    assert_eq!(reads(&lower.waypoint), (2, 2));
    shortcut.end();
    assert_eq!(read(&shortcut, 1), None);
    assert_eq!(reads(&upper.waypoint), (3, 3));
    assert_eq!(Arc::strong_count(&shortcut), 1);
}

#[test]
fn what_is_put_off_is_not_counted() {
    for (answer, through) in [
        (IoError::WOULD_WAIT, Some(Err(IoError::WOULD_WAIT))),
        (IoError::REQUEUE, None),
    ] {
        let upper = layer(end(Err(answer)), 0);
        let shortcut = Arc::new(Shortcut::default());
        shortcut.make(&*upper);
        assert_eq!(read(&shortcut, 1), through);
        assert_eq!(upper.waypoint.counters(), Waypoint::default().counters());
        shortcut.end();
    }
}

/// Lengths, devices and where they begin there.
type Rows = Vec<(u64, usize, u64)>;

fn rows(devices: usize) -> impl Strategy<Value = Rows> {
    let row = (1..40u64, 0..devices, 0..60u64);
    proptest::collection::vec(row, 1..12)
}

fn stretches(rows: &Rows, devices: &[Arc<dyn BlockDev>]) -> Stretches {
    let mut stretches = Stretches::default();
    for &(len, device, start) in rows {
        stretches.push(Sectors(len), &devices[device], Sector(start));
    }
    stretches
}

fn lookup(rows: &Rows, at: u64) -> Option<(usize, u64)> {
    let mut start = 0;
    for &(len, device, to) in rows {
        if at < start + len {
            return Some((device, to + at - start));
        }
        start += len;
    }
    None
}

proptest! {
    #[test]
    fn a_route_leads_where_the_rows_lead(
        (upper, mut lower) in (rows(1), rows(3)),
        one_level: bool,
        len in any::<u8>(),
        even in proptest::option::of(1..9u64),
    ) {
        // A long table of rows of one length, but for the last, is looked up in another way.
        if let (Some(even), Some(mut last)) = (even, lower.pop()) {
            lower.iter_mut().for_each(|row| (row.0, row.1) = (even, 0));
            (last.0, last.1) = (last.0.min(even), 0);
            lower.push(last);
        }
        let devices: Vec<Arc<dyn BlockDev>> = vec![end(Ok(())), end(Ok(())), end(Ok(()))];
        let below = stretches(&lower, &devices);
        let shown = match one_level {
            true => Some(below),
            false => stretches(&upper, &devices[..1]).through(&below),
        };
        let total: u64 = if one_level { &lower } else { &upper }.iter().map(|row| row.0).sum();
        let expected = |at: u64| match one_level {
            true => lookup(&lower, at),
            false => lookup(&upper, at).and_then(|(_, at)| lookup(&lower, at)),
        };
        // Upper rows that each span many lower ones come to more stretches than are worth it.
        let Some(route) = shown.and_then(Route::new) else {
            proptest::prop_assume!(!one_level);
            return Ok(());
        };
        let len = u64::from(len % 8) + 1;
        for at in 0..total + 3 {
            let found = route.find(OpKind::Write, Sector(at), Sectors(len));
            let one = route.find(OpKind::Write, Sector(at), Sectors(1));
            let place = |device: &dyn BlockDev| {
                let address = std::ptr::from_ref(device).cast::<()>();
                devices.iter().position(|known| Arc::as_ptr(known).cast() == address)
            };
            let one = one.map(|(device, at)| (place(device).unwrap(), at.0));
            prop_assert_eq!(one, expected(at));
            // A longer one lies on one device without a gap, or is not taken.
            if let Some((device, found)) = found {
                for step in 0..len {
                    prop_assert_eq!(expected(at + step), Some((place(device).unwrap(), found.0 + step)));
                }
            }
        }
    }
}

#[test]
fn rows_that_go_on_are_one_and_a_read_only_table_lets_reads_pass() {
    let device: Arc<dyn BlockDev> = end(Ok(()));
    let mut shown = Stretches::new(true);
    for row in 0..4 {
        shown.push(Sectors(10), &device, Sector(7 + row * 10));
    }
    let route = Route::new(shown).unwrap();
    let found = route.find(OpKind::Read, Sector(5), Sectors(30));
    assert_eq!(found.unwrap().1, Sector(12));
    assert!(route.find(OpKind::Write, Sector(5), Sectors(30)).is_none());
    assert!(route.find(OpKind::Read, Sector(5), Sectors(36)).is_none());
}
