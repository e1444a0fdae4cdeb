#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::log::Log;
use super::plan::{Choice, StateSpec, all};
use super::replay::log_writes;
use super::state::{CrashState, History, base_len};
use crate::backing::Kept;
use crate::control::protocol::crash::{Every, LogOptions, LogTask, Span};
use crate::format::log_writes::{EntryFlags, EntryHeader, Superblock};
use crate::io::{BlockDev, ReadBuf, Request, WriteBuf};
use crate::sync::Arc;
use crate::unit::{Sector, Sectors};

const S: usize = 512;
const DISK: usize = 16;

/// A log under construction.
struct Made {
    bytes: Vec<u8>,
    n_entries: u64,
}

impl Made {
    fn new() -> Made {
        Made {
            bytes: vec![0; S],
            n_entries: 0,
        }
    }

    fn add(mut self, header: EntryHeader, text: &[u8], data: &[u8]) -> Made {
        let start = self.bytes.len();
        self.bytes.extend(header.encode());
        self.bytes.extend(text);
        self.bytes.resize(start + S, 0);
        self.bytes.extend(data);
        self.n_entries += 1;
        self
    }

    /// A write of sectors that are full of `bytes`, one each.
    fn write(self, sector: u64, bytes: &[u8], flags: EntryFlags) -> Made {
        let data: Vec<u8> = bytes.iter().flat_map(|byte| [*byte; S]).collect();
        let header = EntryHeader {
            sector,
            n_sectors: bytes.len() as u64,
            flags,
            data_len: 0,
        };
        self.add(header, b"", &data)
    }

    fn plain(self, sector: u64, bytes: &[u8]) -> Made {
        self.write(sector, bytes, EntryFlags::NONE)
    }

    fn discard(self, sector: u64, n_sectors: u64) -> Made {
        let header = EntryHeader {
            sector,
            n_sectors,
            flags: EntryFlags::DISCARD,
            data_len: 0,
        };
        self.add(header, b"", b"")
    }

    fn flush(self) -> Made {
        self.write(0, b"", EntryFlags::FLUSH)
    }

    fn mark(self, text: &str) -> Made {
        let (header, text) = EntryHeader::mark(text, S as u32);
        self.add(header, text, b"")
    }

    /// The folder, with `log` and a `base` of sevens in it.
    fn store(mut self) -> TempDir {
        let superblock = Superblock {
            n_entries: self.n_entries,
            sector_size: S as u32,
        };
        self.bytes[..Superblock::LEN].copy_from_slice(&superblock.encode());
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("log"), self.bytes).unwrap();
        fs::write(folder.path().join("base"), vec![7; DISK * S]).unwrap();
        folder
    }
}

fn choice(samples: usize) -> Choice {
    Choice {
        samples,
        most: usize::MAX,
        seed: 3,
        ignore_flushes: false,
        atomic: Sectors(1),
    }
}

fn history(folder: &TempDir) -> Arc<History> {
    let log = Log::open(&folder.path().join("log")).unwrap();
    let base = fs::File::open(folder.path().join("base")).unwrap();
    let len = base_len(&base).unwrap();
    Arc::new(History::new(log, base, len).unwrap())
}

/// The first byte of each sector.
fn sectors(state: &dyn BlockDev) -> Vec<u8> {
    let mut bytes = vec![0; DISK * S];
    let request = Request::read(Sector(0), ReadBuf::new(&mut bytes));
    state.submit(request).unwrap();
    let sectors = bytes.chunks(S).map(|sector| {
        assert!(sector.iter().all(|byte| *byte == sector[0]));
        sector[0]
    });
    sectors.collect()
}

fn shown(folder: &TempDir, choice: Choice) -> Vec<(StateSpec, Vec<u8>)> {
    let history = history(folder);
    let states = all(&history.log.entries, 0..history.log.entries.len(), choice);
    let show = |spec| sectors(&CrashState::new(history.clone(), spec, choice));
    states.into_iter().map(|spec| (spec, show(spec))).collect()
}

/// A disk of sevens with some sectors of its own.
fn disk(other: &[(usize, u8)]) -> Vec<u8> {
    let mut disk = vec![7; DISK];
    other.iter().for_each(|(at, byte)| disk[*at] = *byte);
    disk
}

#[test]
fn only_a_flush_or_fua_keeps_a_write() {
    let folder = Made::new()
        .plain(0, &[1])
        .write(1, &[2], EntryFlags::FUA)
        .flush()
        .plain(2, &[3])
        .mark("m")
        .store();
    let shown = shown(&folder, choice(0));
    let names: Vec<String> = shown.iter().map(|(spec, _)| spec.to_string()).collect();
    let expected = [
        ("000000-all", disk(&[])),
        ("000001-all", disk(&[(0, 1)])),
        ("000001-none", disk(&[])),
        ("000002-all", disk(&[(0, 1), (1, 2)])),
        ("000002-none", disk(&[(1, 2)])),
        ("000004-all", disk(&[(0, 1), (1, 2), (2, 3)])),
        ("000004-none", disk(&[(0, 1), (1, 2)])),
        // The same again, of which more is to be expected.
        ("000005-all", disk(&[(0, 1), (1, 2), (2, 3)])),
        ("000005-none", disk(&[(0, 1), (1, 2)])),
    ];
    assert_eq!(names, expected.each_ref().map(|(name, _)| *name));
    for ((spec, found), (_, disk)) in shown.iter().zip(&expected) {
        assert_eq!(found, disk, "{spec}");
    }
}

#[test]
fn samples_are_every_mixture_and_the_same_again() {
    let folder = Made::new().plain(0, &[1, 2]).plain(1, &[3]).store();
    let seen: BTreeSet<Vec<u8>> = shown(&folder, choice(300))
        .into_iter()
        .filter(|(spec, _)| spec.cut == 2)
        .map(|(_, disk)| disk[..2].to_vec())
        .collect();
    let all = [7, 1]
        .into_iter()
        .flat_map(|a| [7, 2, 3].map(|b| vec![a, b]));
    assert_eq!(seen, all.collect());
    assert_eq!(shown(&folder, choice(5)), shown(&folder, choice(5)));
    // A sample is the same whatever else is shown.
    let few = shown(&folder, choice(2));
    let many = shown(&folder, choice(9));
    assert!(few.iter().all(|state| many.contains(state)));
}

#[test]
fn what_the_disk_writes_as_a_whole_is_not_torn() {
    let folder = Made::new().plain(2, &[1; 10]).store();
    let atomic = Sectors(4);
    let states = shown(
        &folder,
        Choice {
            atomic,
            ..choice(50)
        },
    );
    for (spec, disk) in &states {
        for whole in disk[4..12].chunks(4) {
            assert!(
                whole.iter().all(|byte| *byte == whole[0]),
                "{spec}: {disk:?}"
            );
        }
        assert_eq!(disk[2], disk[3], "{spec}");
    }
    assert!(
        states
            .iter()
            .any(|(_, disk)| disk[3] != disk[4] && disk[2] != 7)
    );
}

#[test]
fn without_flushes_anything_can_be_lost() {
    let folder = Made::new()
        .write(0, &[1], EntryFlags::FUA)
        .flush()
        .plain(1, &[2])
        .store();
    let choice = Choice {
        ignore_flushes: true,
        ..choice(0)
    };
    let last = shown(&folder, choice).into_iter().rev();
    let all: Vec<_> = last.map(|(spec, disk)| (spec.kept, disk)).collect();
    assert_eq!(all[0], (Kept::All, disk(&[(0, 1), (1, 2)])));
    let none = all.iter().find(|(kept, _)| *kept == Kept::None);
    assert_eq!(none.unwrap().1, disk(&[]));
}

#[test]
fn a_flush_with_data_does_not_cover_its_own() {
    let folder = Made::new()
        .plain(0, &[1])
        .write(1, &[2], EntryFlags::FLUSH)
        .store();
    let shown = shown(&folder, choice(0));
    let (spec, none) = shown.last().unwrap();
    assert_eq!((spec.kept, none.clone()), (Kept::None, disk(&[(0, 1)])));
}

#[test]
fn states_are_thinned_out_to_a_number() {
    let folder = (0..40)
        .fold(Made::new(), |made, byte| made.plain(3, &[byte]))
        .store();
    let every = shown(&folder, choice(2)).len();
    assert_eq!(every, 1 + 40 * 3 + 1);
    for most in [0, 1, 17, every, every + 1] {
        let choice = Choice { most, ..choice(2) };
        assert_eq!(shown(&folder, choice).len(), most.min(every));
    }
}

#[test]
fn later_writes_cover_earlier_ones_in_part() {
    let folder = Made::new()
        .plain(0, &[1; 8])
        .plain(4, &[2; 8])
        .discard(2, 4)
        .plain(3, &[3])
        .flush()
        .store();
    let states = shown(&folder, choice(0));
    let last = |cut| {
        let of = |spec: &StateSpec| spec.cut == cut && spec.kept == Kept::All;
        states.iter().find(|(spec, _)| of(spec)).unwrap().1.clone()
    };
    assert_eq!(last(2), [1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 7, 7, 7, 7]);
    assert_eq!(last(4), [1, 1, 0, 3, 0, 0, 2, 2, 2, 2, 2, 2, 7, 7, 7, 7]);
}

#[test]
fn what_is_written_to_a_state_is_its_own() {
    let folder = Made::new().plain(0, &[1; 3]).store();
    let history = history(&folder);
    let spec = all(&history.log.entries, 0..1, choice(0))[1];
    let (one, other) = (
        CrashState::new(history.clone(), spec, choice(0)),
        CrashState::new(history.clone(), spec, choice(0)),
    );
    let (first, second) = ([9; S], [9; 9 * S]);
    let pieces = vec![&first[..], &second[..]];
    let write = Request::write(Sector(2), WriteBuf::from_pieces(pieces));
    one.submit(write).unwrap();
    let mut expected = disk(&[(0, 1), (1, 1)]);
    expected[2..12].fill(9);
    assert_eq!(sectors(&one), expected);
    assert_eq!(sectors(&other), disk(&[(0, 1), (1, 1), (2, 1)]));
    for (at, len) in [(16, 1), (0, 17), (u64::MAX, 1)] {
        assert!(
            one.submit(Request::discard(Sector(at), Sectors(len)))
                .is_err()
        );
    }
}

#[test]
fn a_base_that_is_too_short_is_refused() {
    let folder = Made::new().plain(15, &[1, 2]).store();
    let log = Log::open(&folder.path().join("log")).unwrap();
    let base = fs::File::open(folder.path().join("base")).unwrap();
    let error = History::new(log, base, Sectors(16)).err().unwrap();
    assert_eq!(
        error,
        "entry 0 writes up to sector 17, and the base image has 16: is it of this log?"
    );
}

/// What `dmfs log-writes` prints, or why it refuses.
fn run(folder: &TempDir, change: impl FnOnce(&mut LogOptions)) -> Result<String, String> {
    let mut options = LogOptions {
        log: folder.path().join("log"),
        task: LogTask::Replay {
            onto: folder.path().join("base"),
        },
        span: Span::default(),
        no_discard: false,
        sectors: (None, None),
        check: None,
    };
    change(&mut options);
    let mut out = Vec::new();
    log_writes(options, &mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

fn three() -> TempDir {
    Made::new()
        .plain(0, &[1, 1])
        .mark("one")
        .flush()
        .discard(1, 1)
        .write(2, &[2], EntryFlags::FUA)
        .mark("two")
        .plain(3, &[3])
        .store()
}

fn replayed(folder: &TempDir) -> Vec<u8> {
    let disk = fs::read(folder.path().join("base")).unwrap();
    disk.chunks(S).map(|sector| sector[0]).collect()
}

#[test]
fn a_replay_goes_as_far_as_it_is_told() {
    type Change = fn(&mut LogOptions);
    let cases: [(Change, &[(usize, u8)]); 9] = [
        (|_| {}, &[(0, 1), (1, 0), (2, 2), (3, 3)]),
        (|o| o.span.limit = Some(1), &[(0, 1), (1, 1)]),
        (
            |o| o.span.end_mark = Some("two".into()),
            &[(0, 1), (1, 0), (2, 2)],
        ),
        (|o| o.span.start_mark = Some("two".into()), &[(3, 3)]),
        (|o| o.span.start_entry = Some(4), &[(2, 2), (3, 3)]),
        (|o| o.span.next_flush = true, &[(0, 1), (1, 1)]),
        (|o| o.span.next_fua = true, &[(0, 1), (1, 0), (2, 2)]),
        (|o| o.no_discard = true, &[(0, 1), (1, 1), (2, 2), (3, 3)]),
        (|o| o.sectors = (Some(1), Some(3)), &[(1, 0), (2, 2)]),
    ];
    for (number, (change, expected)) in cases.into_iter().enumerate() {
        let folder = three();
        run(&folder, change).unwrap();
        assert_eq!(replayed(&folder), disk(expected), "case {number}");
    }
}

#[test]
fn entries_are_listed_and_found() {
    let folder = three();
    let list = run(&folder, |options| {
        options.task = LogTask::List;
        options.span.limit = Some(5);
    });
    let expected = [
        "entry     sector  sectors  what",
        "    0          0        2  write",
        "    1          0        0  mark one",
        "    2          0        0  flush",
        "    3          1        1  discard",
        "    4          2        1  write fua",
    ];
    let list = list.unwrap();
    assert_eq!(list.lines().collect::<Vec<_>>(), expected);
    let found = run(&folder, |options| {
        options.task = LogTask::Find;
        options.span.end_mark = Some("two".into());
    });
    assert_eq!(found.unwrap(), "5@10\n");
}

#[test]
fn a_check_stops_a_replay_at_the_entry_that_is_bad() {
    let folder = three();
    let told = folder.path().join("told");
    let command = format!(
        "echo $DMFS_ENTRY $DMFS_MARK >>{}; test $DMFS_ENTRY != 5",
        told.display()
    );
    let check = |command: &str, every| {
        let check = Some((command.to_owned(), every));
        run(&folder, |options| options.check = check)
    };
    let error = check(&command, Every::Entries(1)).unwrap_err();
    assert!(error.contains("after entry 4 (write fua)"), "{error}");
    assert_eq!(replayed(&folder), disk(&[(0, 1), (1, 0), (2, 2)]));
    let lines = fs::read_to_string(&told).unwrap();
    assert_eq!(lines, "1\n2 one\n3 one\n4 one\n5 one\n");
    check("test $DMFS_ENTRY = 3", Every::Flush).unwrap();
    check("test $DMFS_ENTRY = 5", Every::Fua).unwrap();
}

#[test]
fn every_wrong_request_is_told_in_one_sentence() {
    type Change = fn(&mut LogOptions);
    let cases: [(Change, &str); 9] = [
        (
            |o| o.span.end_mark = Some("three".into()),
            "--end-mark: no mark 'three' from entry 0 on: there are one, two",
        ),
        (
            |o| {
                o.span.start_entry = Some(3);
                o.span.end_mark = Some("one".into());
            },
            "--end-mark: no mark 'one' from entry 3 on: there are two",
        ),
        (
            |o| {
                o.span.start_entry = Some(6);
                o.span.end_mark = Some("two".into());
            },
            "--end-mark: no mark 'two' from entry 6 on: there are no marks",
        ),
        (
            |o| o.span.start_entry = Some(8),
            "--start-entry: expected at most 7, the number of entries, found 8",
        ),
        (
            |o| o.span.limit = Some(0),
            "--limit: expected at least 1, found 0",
        ),
        (
            |o| {
                o.span.start_mark = Some("one".into());
                o.span.start_entry = Some(1);
            },
            "--start-mark and --start-entry: only one of them",
        ),
        (
            |o| {
                o.span.start_mark = Some("two".into());
                o.span.next_flush = true;
            },
            "--next-flush: there is none from entry 6 on",
        ),
        (
            |o| {
                o.span.start_mark = Some("two".into());
                o.span.next_fua = true;
            },
            "--next-fua: there is none from entry 6 on",
        ),
        (
            |o| o.log = PathBuf::from("/nowhere"),
            "/nowhere: No such file",
        ),
    ];
    for (change, text) in cases {
        let folder = three();
        let error = run(&folder, change).unwrap_err();
        assert!(error.contains(text), "{error:?} does not say {text:?}");
        assert_eq!(replayed(&folder), disk(&[]), "nothing is half done");
    }
}

#[test]
fn broken_logs_and_short_disks_are_named() {
    let folder = three();
    let log = folder.path().join("log");
    let whole = fs::read(&log).unwrap();
    fs::write(&log, &whole[..whole.len() - 1]).unwrap();
    let error = run(&folder, |_| {}).unwrap_err();
    assert!(error.contains("log: entry 6 (byte"), "{error}");
    fs::write(&log, b"short").unwrap();
    let error = run(&folder, |_| {}).unwrap_err();
    assert!(
        error.contains("expected at least 28 bytes, found 5"),
        "{error}"
    );
    fs::write(&log, vec![0; 512]).unwrap();
    let error = run(&folder, |_| {}).unwrap_err();
    assert!(error.contains("superblock: magic"), "{error}");
    fs::write(&log, whole).unwrap();
    fs::write(folder.path().join("base"), vec![7; 2 * S]).unwrap();
    let error = run(&folder, |_| {}).unwrap_err();
    assert!(
        error.ends_with("entry 4 writes up to sector 3, and it has 2"),
        "{error}"
    );
}

#[test]
fn a_log_of_the_real_kernel_is_replayed() {
    // Of the trace simple/log-writes: the log, and the digest of the disk at its end.
    let log = include_bytes!("../../tests/fixtures/log-writes/kernel-6.1.zst");
    let expected = "5ef2f98619bec683c0d743604033cd8f94513d4abac42524c46a01bf758ad476";
    let folder = TempDir::new().unwrap();
    let log = zstd::decode_all(&log[..]).unwrap();
    fs::write(folder.path().join("log"), log).unwrap();
    let disk = folder.path().join("base");
    fs::write(&disk, vec![0; 2048 * S]).unwrap();
    run(&folder, |_| {}).unwrap();
    let digest = Sha256::digest(fs::read(&disk).unwrap());
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digest, expected);
    let list = run(&folder, |options| options.task = LogTask::List).unwrap();
    let whats = list.lines().skip(1).map(|line| line[27..].to_owned());
    let expected = [
        "write",
        "flush",
        "mark first",
        "write",
        "write",
        "flush",
        "mark second",
        "discard",
        "write",
        "flush",
        "mark dm-log-writes-end",
    ];
    assert_eq!(whats.collect::<Vec<_>>(), expected);
}
