#![allow(clippy::unwrap_used)]

use std::cell::Cell;

use super::KIND;
use crate::backing::{Crashing, Fault, Faulty};
use crate::format::log_writes::{Entry, EntryFlags, Superblock, Walk};
use crate::io::{BlockDev, DeviceNumber, IoResult, Limits, OpKind, OpenDevice, Request, WriteBuf};
use crate::sync::Arc;
use crate::target::{Access, BuildArgs, DeviceOpener, EventSink, Naming, OpenError, Target};
use crate::unit::{Bytes, SECTOR_SIZE, Sector, Sectors};

const DISK: Sectors = Sectors(256);
const LOG: Sectors = Sectors(4096);

/// `0` is the disk and `1` the log.
struct Devices([Arc<dyn BlockDev>; 2]);

impl DeviceOpener for Devices {
    fn open(&self, spec: &str, _: Access) -> Result<Arc<OpenDevice>, OpenError> {
        let minor: u32 = spec.parse().unwrap();
        Ok(Arc::new(OpenDevice {
            number: DeviceNumber { major: 7, minor },
            path: spec.into(),
            name: spec.to_owned(),
            dev: self.0[minor as usize].clone(),
            direct: false,
            mapped: None,
            part: None,
        }))
    }
}

struct Deaf;

impl EventSink for Deaf {
    fn raise(&self) {}
}

fn memory(len: Sectors) -> Arc<Crashing> {
    Arc::new(Crashing::new(vec![0; len.to_bytes().0 as usize]))
}

fn build(devices: [Arc<dyn BlockDev>; 2], access: Access, again: bool) -> Box<dyn Target> {
    let words = ["0".to_owned(), "1".to_owned()];
    let opener = Devices(devices);
    let place = (Sector(0), DISK);
    let mut args = BuildArgs::new(place, &words, access, &opener, Arc::new(Deaf));
    args.again = again;
    (KIND.build)(&mut args).unwrap()
}

/// A target over a disk and a log in memory.
fn logged() -> (Box<dyn Target>, Arc<Crashing>, Arc<Crashing>) {
    let (disk, log) = (memory(DISK), memory(LOG));
    let target = build([disk.clone(), log.clone()], Access::ReadWrite, false);
    (target, disk, log)
}

fn status(target: &dyn Target) -> String {
    target.status(Naming::Numbers)
}

fn write(target: &dyn Target, at: u64, sectors: u64, byte: u8) -> IoResult {
    let data = vec![byte; (sectors * SECTOR_SIZE) as usize];
    target.submit(Request::write(Sector(at), WriteBuf::new(&data)))
}

fn write_durably(target: &dyn Target, at: u64, byte: u8) {
    let data = [byte; 512];
    let request = Request::write(Sector(at), WriteBuf::new(&data)).durable();
    target.submit(request).unwrap();
}

fn flush(target: &dyn Target) -> IoResult {
    target.submit(Request::flush())
}

fn mark(target: &dyn Target, text: &str) {
    let devices = Devices([memory(DISK), memory(LOG)]);
    target.message(&["mark", text], &devices).unwrap();
}

fn entries(log: &Crashing) -> Vec<Entry> {
    let bytes = log.contents();
    let superblock = Superblock::parse(&bytes).unwrap();
    let mut walk = Walk::new(superblock, Bytes(bytes.len() as u64)).unwrap();
    let mut entries = Vec::new();
    while let Some(at) = walk.next_at() {
        let sector = &bytes[at.0 as usize..][..superblock.sector_size as usize];
        entries.push(walk.take(sector).unwrap());
    }
    entries
}

/// What the entries are, in short: `w8` a write at sector 8, `F` a flush, `D3` a discard, `U` durable, `:x` a mark.
fn told(log: &Crashing) -> String {
    let entries = entries(log);
    let told = entries.iter().map(|entry| {
        let (header, is) = (entry.header, |flag| entry.header.flags.has(flag));
        let durable = if is(EntryFlags::FUA) { "U" } else { "" };
        match &entry.mark {
            Some(text) => format!(":{text}"),
            None if is(EntryFlags::FLUSH) => "F".to_owned(),
            None if is(EntryFlags::DISCARD) => format!("D{}{durable}", header.sector),
            None => format!("w{}{durable}", header.sector),
        }
    });
    told.collect::<Vec<_>>().join(" ")
}

#[test]
fn what_is_not_flushed_waits_and_marks_do_not() {
    let (target, _, log) = logged();
    assert_eq!(status(&*target), "0 0");
    write(&*target, 0, 8, 1).unwrap();
    assert_eq!(status(&*target), "0 0");
    mark(&*target, "m1");
    assert_eq!(status(&*target), "1 1");
    flush(&*target).unwrap();
    // As the kernel's (6.1) says.
    assert_eq!(status(&*target), "3 11");
    assert_eq!(told(&log), ":m1 w0 F");
    target
        .submit(Request::discard(Sector(9), Sectors(3)))
        .unwrap();
    write(&*target, 16, 1, 2).unwrap();
    drop(target);
    assert_eq!(told(&log), ":m1 w0 F D9 w16 :dm-log-writes-end");
}

#[test]
fn a_durable_write_goes_ahead_but_not_of_what_it_lies_on() {
    let (target, _, log) = logged();
    write(&*target, 0, 1, 1).unwrap();
    write(&*target, 8, 4, 1).unwrap();
    write_durably(&*target, 20, 2);
    assert_eq!(told(&log), "w20U");
    write(&*target, 30, 1, 1).unwrap();
    write_durably(&*target, 11, 3);
    assert_eq!(told(&log), "w20U w0 w8 w11U");
    flush(&*target).unwrap();
    assert_eq!(told(&log), "w20U w0 w8 w11U w30 F");
}

#[test]
fn the_core_s_own_flush_is_not_logged() {
    let (target, disk, log) = logged();
    write(&*target, 0, 1, 1).unwrap();
    let before = disk.n_events();
    target.settle().unwrap();
    assert_eq!(disk.n_events(), before + 1);
    flush(&*target).unwrap();
    assert_eq!(told(&log), "w0 F");
}

#[test]
fn a_full_log_stops_logging_and_nothing_else() {
    let (disk, log) = (memory(DISK), memory(Sectors(128)));
    let target = build([disk.clone(), log], Access::ReadWrite, false);
    for round in 0..14 {
        write(&*target, round * 8, 8, 7).unwrap();
        flush(&*target).unwrap();
        // As the kernel's (6.1) says.
        match round {
            11 => assert_eq!(status(&*target), "24 120"),
            12 | 13 => assert_eq!(status(&*target), "24 129 logging_disabled"),
            _ => {}
        }
    }
    assert!(disk.contents()[..14 * 4096].iter().all(|byte| *byte == 7));
    mark(&*target, "late");
    assert_eq!(status(&*target), "24 129 logging_disabled");
}

#[test]
fn a_log_that_fails_stops_logging_and_nothing_else() {
    let log = Arc::new(Faulty::new(memory(LOG)));
    log.fail(Fault::at_op(OpKind::Write, 1));
    let target = build([memory(DISK), log.clone()], Access::ReadWrite, false);
    write(&*target, 0, 1, 1).unwrap();
    flush(&*target).unwrap();
    assert!(status(&*target).ends_with(" logging_disabled"));
    flush(&*target).unwrap();
    assert_eq!(log.count(OpKind::Write), 1);
}

#[test]
fn what_failed_is_logged_all_the_same() {
    let (disk, log) = (Arc::new(Faulty::new(memory(DISK))), memory(LOG));
    disk.fail(Fault::from(1));
    let target = build([disk, log.clone()], Access::ReadWrite, false);
    write(&*target, 0, 8, 1).unwrap_err();
    flush(&*target).unwrap_err();
    assert_eq!(
        (status(&*target).as_str(), told(&log).as_str()),
        ("2 10", "w0 F")
    );
}

/// A disk that carries out a write while it is flushed.
struct Racing {
    below: Arc<Crashing>,
    target: crate::sync::Mutex<Option<Arc<dyn Target>>>,
}

impl BlockDev for Racing {
    fn capacity(&self) -> Sectors {
        self.below.capacity()
    }

    fn limits(&self) -> Limits {
        self.below.limits()
    }

    fn submit(&self, request: Request<'_>) -> IoResult {
        if request.op.kind() == OpKind::Flush
            && let Some(target) = self.target.lock().take()
        {
            write(&*target, 100, 1, 9).unwrap();
        }
        self.below.submit(request)
    }
}

#[test]
fn a_flush_does_not_cover_what_completed_while_it_ran() {
    let log = memory(LOG);
    let disk = Arc::new(Racing {
        below: memory(DISK),
        target: crate::sync::Mutex::new(None),
    });
    let target: Arc<dyn Target> =
        Arc::from(build([disk.clone(), log.clone()], Access::ReadWrite, false));
    write(&*target, 0, 1, 1).unwrap();
    *disk.target.lock() = Some(target.clone());
    flush(&*target).unwrap();
    assert_eq!(told(&log), "w0 F");
    flush(&*target).unwrap();
    assert_eq!(told(&log), "w0 F w100 F");
}

#[test]
fn much_that_is_held_back_is_logged_early() {
    let (disk, log) = (memory(DISK), memory(Sectors(300_000)));
    let target = build([disk, log.clone()], Access::ReadWrite, false);
    let writes = super::MOST_HELD as u64 / DISK.to_bytes().0 + 1;
    for _ in 0..writes {
        write(&*target, 0, DISK.0, 1).unwrap();
    }
    assert_eq!(status(&*target).split(' ').next(), Some("512"));
    flush(&*target).unwrap();
    assert_eq!(entries(&log).len() as u64, writes + 1);
}

#[test]
fn blocks_of_the_disk_are_the_sectors_of_the_log() {
    let limits = Limits {
        logical_block_size: 4096,
        ..Limits::default()
    };
    let disk = Crashing::with_limits(vec![0; DISK.to_bytes().0 as usize], limits);
    let log = memory(LOG);
    let target = build([Arc::new(disk), log.clone()], Access::ReadWrite, false);
    assert_eq!(status(&*target), "0 7");
    write(&*target, 24, 16, 1).unwrap();
    // The disk does not discard: that is logged and done with.
    target
        .submit(Request::discard(Sector(8), Sectors(8)))
        .unwrap();
    flush(&*target).unwrap();
    mark(&*target, &"y".repeat(5000));
    assert_eq!(status(&*target), "4 55");
    let entries = entries(&log);
    assert_eq!(
        (entries[0].header.sector, entries[0].header.n_sectors),
        (3, 2)
    );
    assert_eq!(entries[3].mark.as_ref().unwrap().len(), 4096 - 33);
}

#[test]
fn a_table_that_only_reads_or_was_never_used_leaves_the_log_alone() {
    for access in [Access::ReadOnly, Access::ReadWrite] {
        let log = memory(LOG);
        let target = build([memory(DISK), log.clone()], access, false);
        if access == Access::ReadOnly {
            flush(&*target).unwrap();
            mark(&*target, "m");
            target.lifecycle().unwrap().resume();
        }
        drop(target);
        assert_eq!(log.n_events(), 0);
    }
}

#[test]
fn a_table_that_comes_back_goes_on_with_its_log() {
    let (target, disk, log) = logged();
    write(&*target, 0, 2, 1).unwrap();
    flush(&*target).unwrap();
    // The daemon dies, and with it what was held back.
    write(&*target, 4, 1, 1).unwrap();
    std::mem::forget(target);
    let target = build([disk, log.clone()], Access::ReadWrite, true);
    assert_eq!(status(&*target), "2 4");
    write(&*target, 8, 1, 1).unwrap();
    flush(&*target).unwrap();
    assert_eq!(told(&log), "w0 F :dmfs-log-writes-gap w8 F");
}

#[test]
fn messages_are_refused_in_the_kernel_s_words() {
    let (target, ..) = logged();
    let devices = Devices([memory(DISK), memory(LOG)]);
    let refused = |words: &[&str]| target.message(words, &devices).unwrap_err().line.unwrap();
    assert_eq!(
        refused(&["mark"]),
        "log-writes: Invalid log-writes message arguments, expect 2 arguments, got 1"
    );
    assert_eq!(
        refused(&["mark", "a", "b"]),
        "log-writes: Invalid log-writes message arguments, expect 2 arguments, got 3"
    );
    assert_eq!(
        refused(&["foo", "bar"]),
        "log-writes: Unrecognised log writes target message received: foo"
    );
    assert_eq!(target.message(&["MARK", "up"], &devices).unwrap(), "");
}

#[test]
fn the_log_leads_to_what_the_disk_holds() {
    for seed in 1..40_u64 {
        let (target, disk, log) = logged();
        let state = Cell::new(seed);
        let below = |limit: u64| {
            let next = state
                .get()
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(99);
            state.set(next);
            (next >> 33) % limit
        };
        for byte in 1..=120 {
            let (at, len) = (below(DISK.0 - 8), 1 + below(8));
            match below(6) {
                0 => flush(&*target).unwrap(),
                1 => write_durably(&*target, at, byte),
                2 => target
                    .submit(Request::discard(Sector(at), Sectors(len)))
                    .unwrap(),
                _ => write(&*target, at, len, byte).unwrap(),
            }
        }
        drop(target);
        let log_bytes = log.contents();
        let mut replayed = vec![0; DISK.to_bytes().0 as usize];
        for entry in entries(&log) {
            let (at, len) = (entry.header.sector * 512, entry.header.n_sectors * 512);
            let range = &mut replayed[at as usize..(at + len) as usize];
            match entry.header.payload() {
                0 => range.fill(0),
                _ => range.copy_from_slice(&log_bytes[entry.data_at.0 as usize..][..range.len()]),
            }
        }
        assert!(replayed == disk.contents(), "seed {seed}");
    }
}
