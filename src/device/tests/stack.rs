//! Devices on top of each other: whichever way requests go, each device holds back, refuses and counts what it would if
//! all came through its gate.
#![allow(clippy::unwrap_used)]

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest};

use super::{Memory, NUMBER, device, resume};
use crate::device::{Device, Events, SuspendOptions};
use crate::io::{
    BlockDev, DeviceNumber, Flags, IoError, IoResult, Limits, OpKind, OpenDevice, ReadBuf, Request,
    WriteBuf,
};
use crate::sync::{Arc, Mutex};
use crate::table::{RowSpec, Table, TableContext};
use crate::target::{Access, DeviceOpener, OpenError};
use crate::targets::KINDS;
use crate::unit::{Sector, Sectors};

const OPTIONS: SuspendOptions = SuspendOptions {
    noflush: false,
    nolockfs: false,
};
const NOWAIT: Flags = Flags {
    fua: false,
    nowait: true,
};

/// Gives the same device for every name.
struct Below(Arc<OpenDevice>);

impl Below {
    fn new(dev: Arc<dyn BlockDev>) -> Below {
        Below(Arc::new(OpenDevice {
            number: DeviceNumber { major: 7, minor: 0 },
            path: "below".into(),
            name: "below".into(),
            dev,
            direct: false,
            mapped: None,
            part: None,
        }))
    }
}

impl DeviceOpener for Below {
    fn open(&self, _spec: &str, _access: Access) -> Result<Arc<OpenDevice>, OpenError> {
        Ok(self.0.clone())
    }
}

/// Rows of (length, start) on the device below, or of zeroes where there is no start.
type Rows = Vec<(u64, Option<u64>)>;

fn load(device: &Device, rows: &Rows, access: Access, opener: &dyn DeviceOpener) {
    let mut end = 0;
    let specs: Vec<_> = rows
        .iter()
        .map(|&(len, start)| {
            let row = RowSpec {
                start: Sector(end),
                len: Sectors(len),
                kind: if start.is_some() { "linear" } else { "zero" }.into(),
                params: start.map(|start| format!("x {start}")).unwrap_or_default(),
            };
            end += len;
            row
        })
        .collect();
    let context = TableContext {
        kinds: KINDS,
        access,
        number: NUMBER,
        opener,
        events: Arc::new(Events::default()),
        // Also where the device below is too short.
        again: true,
    };
    let table = Table::build(&specs, &context).unwrap();
    device.load(Arc::new(table)).unwrap();
}

/// `count` devices, the first over `bottom`, each of 100 sectors of the one before from its second on.
fn stack(count: usize, bottom: Arc<dyn BlockDev>) -> Vec<Arc<Device>> {
    let mut devices: Vec<Arc<Device>> = Vec::new();
    for _ in 0..count {
        let below = devices
            .last()
            .map(|below| below.clone() as Arc<dyn BlockDev>);
        let below = Below::new(below.unwrap_or_else(|| bottom.clone()));
        let new = Arc::new(device());
        load(&new, &vec![(100, Some(1))], Access::ReadWrite, &below);
        resume(&new);
        devices.push(new);
    }
    devices
}

fn read(device: &Device, at: u64, flags: Flags) -> Result<u8, IoError> {
    let mut sector = [0xee; 512];
    device.submit(Request::read(Sector(at), ReadBuf::new(&mut sector)).with_flags(flags))?;
    Ok(sector[0])
}

fn write(device: &Device, at: u64, byte: u8) -> IoResult {
    device.submit(Request::write(Sector(at), WriteBuf::new(&[byte; 512])))
}

/// How many reads came to the gate itself.
fn through_gate(device: &Device) -> u64 {
    device.gate.counters().of(OpKind::Read).requests
}

fn reads(device: &Device) -> u64 {
    device.counters().of(OpKind::Read).requests
}

#[test]
fn requests_pass_layers_that_only_show_the_next_and_are_counted_in_each() {
    let devices = stack(4, Memory::new().0.dev.clone());
    let top = &devices[3];
    write(&devices[0], 8, 5).unwrap();
    for _ in 0..10 {
        assert_eq!(read(top, 5, NOWAIT), Ok(5));
    }
    for device in &devices {
        assert_eq!(reads(device), 10);
        assert!(through_gate(device) <= 1);
        assert_eq!(device.counters().of(OpKind::Read).sectors, Sectors(10));
    }
    // What one of them measures, all that are passed have taken.
    devices[1].look(Duration::from_secs(60));
    assert_eq!(read(top, 5, NOWAIT), Ok(5));
    assert_eq!(devices[1].counters().of(OpKind::Read).took.requests, 1);
    assert_eq!(reads(&devices[1]), 11);
    assert!(through_gate(&devices[1]) <= 1);
}

#[test]
fn who_wants_to_see_every_request_sees_it_at_the_gate() {
    let devices = stack(3, Memory::new().0.dev.clone());
    let (seen, top) = (&devices[1], &devices[2]);
    let mut expected = (0, 0);
    for is_seen in [false, true, false, true] {
        let sight = is_seen.then(|| seen.see_every_request());
        for _ in 0..5 {
            read(top, 5, NOWAIT).unwrap();
        }
        // The first one after it is passed again comes to the gate as well.
        expected = (expected.0 + if is_seen { 5 } else { 1 }, expected.1 + 5);
        assert_eq!((through_gate(seen), reads(seen)), expected);
        drop(sight);
    }
    assert!(devices.iter().all(|device| reads(device) == 20));
}

#[test]
fn a_flush_reaches_the_end_and_every_suspend_knows_what_was_written_past_it() {
    let devices = stack(3, Memory::new().0.dev.clone());
    let flushes = |device: &Device| device.counters().of(OpKind::Flush).requests;
    for _ in 0..2 {
        write(&devices[2], 0, 1).unwrap();
    }
    devices[2].submit(Request::flush()).unwrap();
    assert_eq!(devices.iter().map(|device| flushes(device)).sum::<u64>(), 3);
    // Two writes passed it, one by the gate and one not: it flushes what is below it.
    devices[1].suspend(OPTIONS, &mut || true).unwrap();
    assert_eq!(flushes(&devices[0]), 2);
    resume(&devices[1]);
    devices[1].suspend(OPTIONS, &mut || true).unwrap();
    assert_eq!(flushes(&devices[0]), 2);
}

#[test]
fn each_device_of_the_stack_holds_requests_back() {
    let devices = stack(4, Memory::new().0.dev.clone());
    let top = &devices[3];
    for held in &devices {
        for _ in 0..3 {
            read(top, 5, NOWAIT).unwrap();
        }
        held.suspend(OPTIONS, &mut || true).unwrap();
        assert_eq!(read(top, 5, NOWAIT), Err(IoError::WOULD_WAIT));
        let waiting = {
            let top = top.clone();
            thread::spawn(move || read(&top, 5, Flags::default()))
        };
        thread::sleep(Duration::from_millis(20));
        assert!(!waiting.is_finished());
        resume(held);
        assert_eq!(waiting.join().unwrap(), Ok(0));
    }
    assert!(
        devices
            .iter()
            .all(|device| device.counters().in_flight() == 0)
    );
    assert!(devices.iter().all(|device| reads(device) == 16));
}

/// Keeps each request until it is told to let it go.
struct Slow {
    came: Mutex<Sender<()>>,
    go: Mutex<Receiver<()>>,
}

impl BlockDev for Slow {
    fn capacity(&self) -> Sectors {
        Sectors(200)
    }

    fn limits(&self) -> Limits {
        Limits::default()
    }

    fn submit(&self, _request: Request<'_>) -> IoResult {
        self.came.lock().send(()).unwrap();
        self.go.lock().recv().unwrap();
        Ok(())
    }
}

#[test]
fn a_suspend_anywhere_waits_for_requests_that_are_under_way_past_it() {
    let (came, has_come) = channel();
    let (go, may_go) = channel();
    let slow = Arc::new(Slow {
        came: Mutex::new(came),
        go: Mutex::new(may_go),
    });
    let devices = stack(3, slow);
    let top = &devices[2];
    for held in &devices {
        go.send(()).unwrap();
        read(top, 5, NOWAIT).unwrap();
        has_come.recv().unwrap();
        let reader = {
            let top = top.clone();
            thread::spawn(move || read(&top, 5, NOWAIT))
        };
        has_come.recv().unwrap();
        assert_eq!(held.counters().in_flight(), 1);
        // Whoever does not want to wait finds everything as it was.
        let given_up = held.suspend(OPTIONS, &mut || false);
        assert_eq!(given_up, Err(crate::io::Errno::INTR));
        let suspending = {
            let held = held.clone();
            thread::spawn(move || held.suspend(OPTIONS, &mut || true))
        };
        thread::sleep(Duration::from_millis(20));
        assert!(!suspending.is_finished());
        go.send(()).unwrap();
        assert_eq!(reader.join().unwrap(), Ok(0xee));
        suspending.join().unwrap().unwrap();
        assert_eq!(held.counters().in_flight(), 0);
        resume(held);
    }
}

#[test]
fn a_device_that_goes_lets_go_of_all_that_it_passed() {
    let memory = Memory::new();
    let before = Arc::strong_count(&memory.0.dev);
    let mut devices = stack(3, memory.0.dev.clone());
    for _ in 0..2 {
        read(&devices[2], 5, NOWAIT).unwrap();
    }
    devices[2].shut_down();
    assert_eq!(read(&devices[2], 5, NOWAIT), Err(IoError::IO));
    devices.pop();
    assert_eq!(Arc::strong_count(devices.last().unwrap()), 1);
    for _ in 0..2 {
        read(&devices[1], 5, NOWAIT).unwrap();
    }
    // Without being shut down.
    drop(devices);
    assert_eq!(Arc::strong_count(&memory.0.dev), before);
}

/// Sectors of the memory at the bottom.
const BOTTOM: u64 = 2048;
const LEVELS: usize = 3;

/// One device as its table says, with what it has to have counted.
#[derive(Clone, Default)]
struct Level {
    rows: Rows,
    read_only: bool,
    suspended: bool,
    reads: (u64, u64),
    writes: (u64, u64),
    errors: u64,
}

/// All of them, the lowest first, over a vector of one number for each sector.
struct Model {
    levels: Vec<Level>,
    bottom: Vec<u8>,
}

impl Model {
    /// Carries out a read or a write of the `data` from `at` on, on the device over `level` others.
    fn submit(&mut self, level: usize, at: u64, data: &mut [u8], writes: bool) -> IoResult {
        if self.levels[level].suspended {
            return Err(IoError::WOULD_WAIT);
        }
        let result = self.carry_out(level, at, data, writes);
        let level = &mut self.levels[level];
        if !result.is_err_and(IoError::is_put_off) {
            let counted = if writes {
                &mut level.writes
            } else {
                &mut level.reads
            };
            counted.0 += 1;
            counted.1 += data.len() as u64;
            level.errors += u64::from(result.is_err());
        }
        result
    }

    fn carry_out(&mut self, level: usize, at: u64, data: &mut [u8], writes: bool) -> IoResult {
        if writes && self.levels[level].read_only {
            return Err(IoError::READ_ONLY);
        }
        let rows = self.levels[level].rows.clone();
        let end = at + data.len() as u64;
        if end > rows.iter().map(|row| row.0).sum() {
            return Err(IoError::IO);
        }
        let mut failed = Ok(());
        let mut from = 0;
        for (len, start) in rows {
            let piece = at.max(from)..end.min(from + len);
            if !piece.is_empty() {
                let place = (piece.start - at) as usize..(piece.end - at) as usize;
                let to = |start: u64| start + piece.start - from;
                let piece = &mut data[place];
                let result = match start {
                    None if writes => Ok(()),
                    None => {
                        piece.fill(0);
                        Ok(())
                    }
                    Some(start) if level == 0 => self.reach(to(start), piece, writes),
                    Some(start) => self.submit(level - 1, to(start), piece, writes),
                };
                let stands = |result: IoResult| result.is_err_and(|error| !error.is_put_off());
                if failed.is_ok() || (stands(result) && !stands(failed)) {
                    failed = result.and(failed);
                }
            }
            from += len;
        }
        failed
    }

    fn reach(&mut self, at: u64, data: &mut [u8], writes: bool) -> IoResult {
        let place = at as usize..at as usize + data.len();
        let bottom = self.bottom.get_mut(place).ok_or(IoError::IO)?;
        match writes {
            true => bottom.copy_from_slice(data),
            false => data.copy_from_slice(bottom),
        }
        Ok(())
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Several times, as the first goes the long way.
    Move(usize, u64, u64, bool, u8),
    Suspend(usize),
    Resume(usize),
    Load(usize, Rows, bool),
}

fn rows() -> impl Strategy<Value = Rows> {
    let linear = |len| (0..BOTTOM - len).prop_map(move |start| (len, Some(start)));
    let row = (1..400u64).prop_flat_map(
        move |len| prop_oneof![9 => linear(len).boxed(), 1 => Just((len, None)).boxed()],
    );
    prop_oneof![
        (200..1500u64)
            .prop_flat_map(linear)
            .prop_map(|row| vec![row]),
        proptest::collection::vec(row, 1..6),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let level = || 0..LEVELS;
    let moves = (level(), 0..900u64, 1..24u64, any::<bool>(), any::<u8>());
    prop_oneof![
        8 => moves.prop_map(|(level, at, len, writes, fill)| Step::Move(level, at, len, writes, fill)),
        1 => level().prop_map(Step::Suspend),
        2 => level().prop_map(Step::Resume),
        2 => (level(), rows(), prop_oneof![4 => Just(false), 1 => Just(true)])
            .prop_map(|(level, rows, read_only)| Step::Load(level, rows, read_only)),
    ]
}

fn play(steps: &[Step]) {
    let devices: Vec<_> = (0..LEVELS).map(|_| Arc::new(device())).collect();
    let memory = Memory::new();
    let openers: Vec<Below> = (0..LEVELS)
        .map(|level| match level {
            0 => Below::new(memory.0.dev.clone()),
            _ => Below::new(devices[level - 1].clone()),
        })
        .collect();
    let mut model = Model {
        levels: vec![Level::default(); LEVELS],
        bottom: vec![0; BOTTOM as usize],
    };
    let mut loaded: Vec<Option<(Rows, bool)>> = vec![Some((vec![(1000, Some(7))], false)); LEVELS];
    for level in 0..LEVELS {
        load(
            &devices[level],
            &vec![(1000, Some(7))],
            Access::ReadWrite,
            &openers[level],
        );
    }
    let first = (0..LEVELS).map(Step::Resume).collect::<Vec<_>>();
    for step in first.iter().chain(steps) {
        match step {
            &Step::Move(level, at, len, writes, fill) => {
                for round in 0..3 {
                    let byte = |index: u64| fill.wrapping_add(round).wrapping_add(index as u8);
                    let mut sectors: Vec<u8> = (0..len).map(byte).collect();
                    let mut bytes: Vec<u8> = sectors.iter().flat_map(|&byte| [byte; 512]).collect();
                    let expected = model.submit(level, at, &mut sectors, writes);
                    let request = match writes {
                        true => Request::write(Sector(at), WriteBuf::new(&bytes)),
                        false => Request::read(Sector(at), ReadBuf::new(&mut bytes)),
                    };
                    let result = devices[level].submit(request.with_flags(NOWAIT));
                    assert_eq!(result, expected, "{step:?}");
                    if result.is_ok() {
                        let found: Vec<u8> = bytes.iter().step_by(512).copied().collect();
                        assert_eq!(found, sectors, "{step:?}");
                    }
                }
            }
            // One over a suspended device could not flush.
            &Step::Suspend(level) if !model.levels[..level].iter().any(|level| level.suspended) => {
                devices[level].suspend(OPTIONS, &mut || true).unwrap();
                model.levels[level].suspended = true;
            }
            &Step::Suspend(_) => {}
            &Step::Resume(level) => {
                let options = SuspendOptions {
                    noflush: true,
                    ..OPTIONS
                };
                devices[level].resume(options, &mut || true).unwrap();
                let level_now = &mut model.levels[level];
                level_now.suspended = false;
                if let Some((rows, read_only)) = loaded[level].take() {
                    (level_now.rows, level_now.read_only) = (rows, read_only);
                }
            }
            Step::Load(level, rows, read_only) => {
                let access = if *read_only {
                    Access::ReadOnly
                } else {
                    Access::ReadWrite
                };
                load(&devices[*level], rows, access, &openers[*level]);
                loaded[*level] = Some((rows.clone(), *read_only));
            }
        }
        for (device, level) in devices.iter().zip(&model.levels) {
            let counters = device.counters();
            let of = |kind| (counters.of(kind).requests, counters.of(kind).sectors.0);
            assert_eq!(
                (of(OpKind::Read), of(OpKind::Write)),
                (level.reads, level.writes),
                "{step:?}"
            );
            assert_eq!(
                (counters.errors, counters.in_flight()),
                (level.errors, 0),
                "{step:?}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_stack_behaves_like_its_tables(steps in proptest::collection::vec(step(), 1..60)) {
        play(&steps);
    }
}

#[test]
fn nothing_is_lost_or_done_twice_while_layers_are_swapped_under_way() {
    let memory = Memory::new();
    let devices = stack(3, memory.0.dev.clone());
    let top = devices[2].clone();
    let writers: Vec<_> = (0..3u64)
        .map(|writer| {
            let top = top.clone();
            thread::spawn(move || {
                for round in 0..3000u64 {
                    let at = writer * 30 + round % 30;
                    let visits = (round / 30) as u8;
                    assert_eq!(read(&top, at, Flags::default()), Ok(visits));
                    write(&top, at, visits.wrapping_add(1)).unwrap();
                }
            })
        })
        .collect();
    let openers = [
        Below::new(memory.0.dev.clone()),
        Below::new(devices[0].clone()),
        Below::new(devices[1].clone()),
    ];
    // The same stretch in one row, and in two.
    let shapes: [Rows; 2] = [vec![(100, Some(1))], vec![(40, Some(1)), (60, Some(41))]];
    let mut swaps = 0;
    while writers.iter().any(|writer| !writer.is_finished()) {
        let level = swaps % 3;
        load(
            &devices[level],
            &shapes[swaps / 3 % 2],
            Access::ReadWrite,
            &openers[level],
        );
        resume(&devices[level]);
        swaps += 1;
    }
    for writer in writers {
        writer.join().unwrap();
    }
    assert!(swaps > 0);
    for device in &devices {
        let counters = device.counters();
        assert_eq!(counters.of(OpKind::Write).requests, 9000);
        assert_eq!(counters.of(OpKind::Read).requests, 9000);
        assert_eq!((counters.in_flight(), counters.errors), (0, 0));
    }
}
