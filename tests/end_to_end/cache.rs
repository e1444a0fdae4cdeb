//! Cache policies: what the kernel keeps of a device's data, what it holds back, when it goes around the daemon,
//! and that suspend and a swap of tables hold all the same.

use crate::files::wait_until;
use crate::model::{Dice, assert_equal, contents, read};
use crate::support::control::{Control, specs};
use crate::support::loop_device::LoopDevice;
use crate::support::mount::{Mount, size};
use crate::support::tools::{run, word};
use dmfs::control::protocol::json::{DeviceCounters, JsonReply, JsonRequest};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

const MIB: u64 = 1 << 20;

fn counters(mount: &Mount, name: &str) -> DeviceCounters {
    let request = JsonRequest::Counters {
        name: Some(name.to_owned()),
        measure: None,
    };
    match Control::connect(mount).ask(&request) {
        JsonReply::Counters { mut devices } => devices.remove(0),
        other => panic!("{other:?}"),
    }
}

fn whole(file: &Path) -> String {
    let sectors = size(file) / 512;
    format!("0 {sectors} linear {} 0\n", file.display())
}

/// A mount with device `d` over the file `a`, of random content; `b` has other content.
fn two_files(options: &[&str], len: u64) -> Mount {
    let mount = Mount::start_with(options);
    let mut dice = Dice::new(len);
    for name in ["a", "b"] {
        fs::write(mount.folder().join(name), dice.bytes(len as usize)).unwrap();
    }
    mount.create("d", &whole(&mount.folder().join("a")));
    mount
}

fn swap(mount: &Mount, to: &str) {
    let table = whole(&mount.folder().join(to));
    mount.dmfs(&["load", "d", "--table", &table]).must();
    mount.dmfs(&["resume", "d"]).must();
}

fn backing(mount: &Mount, name: &str) -> Vec<u8> {
    fs::read(mount.folder().join(name)).unwrap()
}

#[test]
fn keep_reads_once_and_writes_at_once() {
    let mount = two_files(&["--cache", "keep"], MIB);
    let device = mount.open("d");
    assert_equal(&contents(&device), &backing(&mount, "a"), "first");
    let first = counters(&mount, "d");
    assert!(first.sectors_read >= MIB / 512, "{first:?}");
    assert_equal(&contents(&device), &backing(&mount, "a"), "second");
    let other = mount.open("d");
    assert_equal(&contents(&other), &backing(&mount, "a"), "another opener");
    assert_eq!(counters(&mount, "d").reads, first.reads);
    device.write_all_at(b"through", 5).unwrap();
    assert_eq!(&backing(&mount, "a")[5..12], b"through");
    assert_eq!(read(&other, 5, 7), b"through");
    assert_eq!(counters(&mount, "d").writes, 1 + first.writes);
    // As a block device, and as with every policy that keeps nothing back.
    let error = device.write_at(b"x", MIB).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::NOSPC.raw_os_error()));
    drop((device, other));
    mount.stop();
}

#[test]
#[allow(unsafe_code)]
fn a_kept_file_shows_the_new_table_at_once() {
    let mount = two_files(&["--cache", "keep"], MIB);
    let device = mount.open("d");
    // SAFETY: a fresh shared mapping of a whole file, read only while it is there.
    let map = unsafe {
        let len = MIB as usize;
        mmap(
            ptr::null_mut(),
            len,
            ProtFlags::READ,
            MapFlags::SHARED,
            &device,
            0,
        )
        .unwrap()
    };
    let mapped = |at: usize| {
        // SAFETY: inside the mapping, which is not unmapped before the last call.
        unsafe { map.cast::<u8>().add(at).read_volatile() }
    };
    for to in ["b", "a", "b"] {
        let _ = contents(&device);
        swap(&mount, to);
        let new = backing(&mount, to);
        assert_eq!(mapped(777_777), new[777_777], "mapped, after {to}");
        assert_equal(&contents(&device), &new, "a file that was open");
        assert_equal(&contents(&mount.open("d")), &new, "a new one");
    }
    // SAFETY: the mapping made above; no reference into it is left.
    unsafe { munmap(map, MIB as usize).unwrap() };
    drop(device);
    mount.stop();
}

#[test]
fn writeback_merges_small_writes_and_fsync_makes_them_durable() {
    let mount = two_files(&["--cache", "writeback"], MIB);
    let device = mount.open("d");
    let mut expected = backing(&mount, "a");
    for (index, piece) in expected.chunks_mut(128).enumerate() {
        piece.fill(index as u8);
        device.write_all_at(piece, index as u64 * 128).unwrap();
    }
    device.sync_data().unwrap();
    let seen = counters(&mount, "d");
    assert!(seen.writes <= 512, "8192 writes came as {}", seen.writes);
    assert!(seen.flushes > 0, "{seen:?}");
    assert_equal(&backing(&mount, "a"), &expected, "after fsync");
    drop(device);
    mount.stop();
}

#[test]
fn a_suspend_sends_what_was_held_back() {
    let mount = two_files(&["--cache", "writeback"], MIB);
    let device = mount.open("d");
    device.write_all_at(&[7; 5000], 70_001).unwrap();
    mount.dmfs(&["suspend", "d"]).must();
    assert_eq!(backing(&mount, "a")[70_001..75_001], [7; 5000]);
    // Nothing of it comes to the next table.
    let b = whole(&mount.folder().join("b"));
    let before = backing(&mount, "b");
    mount.dmfs(&["load", "d", "--table", &b]).must();
    mount.dmfs(&["resume", "d"]).must();
    assert_equal(&contents(&device), &before, "the new table");
    device.sync_all().unwrap();
    assert_equal(&backing(&mount, "b"), &before, "its file");
    drop(device);
    mount.stop();
}

#[test]
fn a_device_held_back_for_grows_and_shrinks() {
    let mount = two_files(&["--cache", "writeback"], MIB);
    mount.backing("long", 3 * MIB);
    mount.backing("short", MIB / 2);
    let device = mount.open("d");
    for (file, len) in [("long", 3 * MIB), ("short", MIB / 2), ("a", MIB)] {
        swap(&mount, file);
        assert_eq!(size(&mount.device("d")), len, "{file}");
        assert_eq!(device.metadata().unwrap().size(), len, "{file}");
        device.write_all_at(&[9; 512], len - 512).unwrap();
        device.sync_all().unwrap();
        assert_eq!(backing(&mount, file)[len as usize - 512..], [9; 512]);
    }
    drop(device);
    mount.stop();
}

#[test]
fn a_failed_write_is_told_at_fsync() {
    let mount = Mount::start_with(&["--cache", "writeback"]);
    mount.backing("a", MIB);
    let a = mount.folder().join("a");
    let table = format!("0 1024 linear {} 0\n1024 1024 error\n", a.display());
    mount.create("d", &table);
    let device = mount.open("d");
    device.write_all_at(&[1; 4096], 0).unwrap();
    device.sync_all().unwrap();
    device.write_all_at(&[1; 4096], MIB / 2).unwrap();
    let error = device.sync_all().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::IO.raw_os_error()));
    drop(device);
    mount.stop();
}

/// Writers fill a file, each its own records, while its table moves from file to file with its data. Each record
/// bears the number of the last write to it.
#[test]
fn tables_swapped_under_load_lose_nothing_that_is_held_back() {
    const WRITERS: u64 = 2;
    const RECORD: usize = 1000;
    const RECORDS: u64 = 1000;
    let mount = two_files(&["--cache", "writeback"], 2 * MIB);
    let over = AtomicBool::new(false);
    let device = mount.open("d");
    let mut expected = backing(&mount, "a");
    let written = thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (device, over) = (&device, &over);
                scope.spawn(move || {
                    let mut last = vec![None; RECORDS as usize];
                    let mut dice = Dice::new(writer + 1);
                    let mut round = 0_u8;
                    while !over.load(Ordering::Relaxed) {
                        let record = dice.below(RECORDS);
                        let at = (record * WRITERS + writer) * RECORD as u64;
                        round = round.wrapping_add(1);
                        device.write_all_at(&[round; RECORD], at).unwrap();
                        last[record as usize] = Some(round);
                    }
                    last
                })
            })
            .collect();
        // No program is started meanwhile: it would inherit the file for a moment, and close it, which sends what is
        // held back and so waits for the resume.
        let mut control = Control::connect(&mount);
        for (from, to) in [("a", "b"), ("b", "a"), ("a", "b"), ("b", "a"), ("a", "b")] {
            thread::sleep(std::time::Duration::from_millis(60));
            let table = whole(&mount.folder().join(to));
            control.suspend("d");
            fs::copy(mount.folder().join(from), mount.folder().join(to)).unwrap();
            control.load("d", &specs(&[table.trim_end().to_owned()]));
            control.resume("d");
        }
        over.store(true, Ordering::Relaxed);
        let ended = writers.into_iter().map(|writer| writer.join().unwrap());
        ended.collect::<Vec<_>>()
    });
    for (writer, last) in written.iter().enumerate() {
        for (record, round) in last.iter().enumerate() {
            let at = (record * WRITERS as usize + writer) * RECORD;
            if let Some(round) = round {
                expected[at..at + RECORD].fill(*round);
            }
        }
    }
    device.sync_all().unwrap();
    assert_equal(&backing(&mount, "b"), &expected, "the last table's file");
    assert_equal(&contents(&device), &expected, "the device");
    drop(device);
    mount.stop();
}

#[test]
fn policies_change_while_the_mount_runs() {
    let mount = two_files(&[], MIB);
    assert_eq!(mount.dmfs(&["cache"]).must(), "d: none\n");
    let read_all = || drop(contents(&mount.open("d")));
    read_all();
    let uncached = counters(&mount, "d").reads;
    read_all();
    assert!(counters(&mount, "d").reads > uncached);
    mount.dmfs(&["cache", "d", "keep"]).must();
    assert_eq!(mount.dmfs(&["cache", "d"]).must(), "d: keep\n");
    read_all();
    let kept = counters(&mount, "d").reads;
    read_all();
    assert_eq!(counters(&mount, "d").reads, kept);
    assert!(mount.dmfs(&["dump"]).must().contains("cache = \"keep\""));
    mount.dmfs(&["cache", "d", "none"]).must();
    read_all();
    assert!(counters(&mount, "d").reads > kept);
    let why = mount.dmfs(&["cache", "d", "writeback"]).must_fail();
    assert!(why.contains("--cache writeback"), "{why}");
    let why = mount.dmfs(&["cache", "d", "full"]).must_fail();
    assert!(why.contains("expected one of none, keep"), "{why}");
    mount.stop();
    let mount = two_files(&["--cache", "writeback"], MIB);
    for policy in ["keep", "passthrough"] {
        let why = mount.dmfs(&["cache", "d", policy]).must_fail();
        assert!(why.contains("made for writeback"), "{why}");
    }
    mount.stop();
}

#[test]
fn what_is_kept_of_a_loop_device_s_file_is_read_once() {
    let mount = two_files(&["--cache", "keep"], MIB);
    let device = LoopDevice::attach(&mount.device("d"), &[]);
    let through = |path: &Path| {
        // A block device has a cache of its own, which must not answer.
        run("blockdev", &["--flushbufs", word(path)]);
        contents_of(path)
    };
    assert_equal(&through(device.path()), &backing(&mount, "a"), "first");
    let first = counters(&mount, "d").reads;
    assert_equal(&through(device.path()), &backing(&mount, "a"), "second");
    assert_eq!(counters(&mount, "d").reads, first);
    drop(device);
    mount.stop();
}

fn contents_of(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap()
}

/// Reads, writes and syncs through `device`, and gives what the daemon saw of it.
fn use_it(mount: &Mount, device: &File) -> DeviceCounters {
    let before = counters(mount, "d");
    device.write_all_at(&[3; 8192], 4096).unwrap();
    assert_eq!(read(device, 4096, 8192), [3; 8192]);
    device.sync_all().unwrap();
    let after = counters(mount, "d");
    DeviceCounters {
        reads: after.reads - before.reads,
        writes: after.writes - before.writes,
        flushes: after.flushes - before.flushes,
        ..after
    }
}

#[test]
fn passthrough_goes_around_the_daemon_except_for_syncs_and_holes() {
    let mount = two_files(&["--cache", "passthrough"], MIB);
    let device = mount.open("d");
    let seen = use_it(&mount, &device);
    assert_eq!((seen.reads, seen.writes, seen.flushes), (0, 0, 1));
    assert_eq!(
        mount.dmfs(&["cache"]).must(),
        "d: passthrough (open around the daemon)\n"
    );
    assert_eq!(backing(&mount, "a")[4096..12288], [3; 8192]);
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    fallocate(&device, hole, 4096, 4096).unwrap();
    assert_eq!(counters(&mount, "d").write_zeroes, 1);
    assert_eq!(read(&device, 4096, 8192), [[0; 4096], [3; 4096]].concat());
    let other = mount.open("d");
    assert_equal(&contents(&other), &backing(&mount, "a"), "another opener");
    assert_eq!(counters(&mount, "d").reads, 0);
    drop((device, other));
    mount.stop();
}

#[test]
fn passthrough_ends_before_the_table_changes() {
    let mount = two_files(&["--cache", "passthrough"], MIB);
    let device = mount.open("d");
    device.write_all_at(&[5; 512], 0).unwrap();
    let b = whole(&mount.folder().join("b"));
    mount.dmfs(&["load", "d", "--table", &b]).must();
    for verb in ["suspend", "resume"] {
        let why = mount.dmfs(&[verb, "d"]).must_fail();
        assert!(why.contains("straight to the backing file"), "{why}");
        let why = mount.dmsetup(&[verb, "d"]).must_fail();
        assert!(why.contains("Device or resource busy"), "{why}");
    }
    // It runs on, with the table it had.
    device.write_all_at(&[6; 512], 512).unwrap();
    assert_eq!(backing(&mount, "a")[..1024], [[5; 512], [6; 512]].concat());
    drop(device);
    mount.dmfs(&["suspend", "d"]).must();
    // Opened while it is suspended, it is the daemon that reads, when it may.
    thread::scope(|scope| {
        let reader = scope.spawn(|| contents(&mount.open("d")));
        wait_until(|| {
            mount
                .dmsetup(&["info", "-c", "--noheadings", "-o", "open"])
                .must()
                .trim()
                == "1"
        });
        mount.dmfs(&["resume", "d"]).must();
        let seen = reader.join().unwrap();
        assert_equal(&seen, &backing(&mount, "b"), "who waited");
    });
    let device = mount.open("d");
    let seen = use_it(&mount, &device);
    assert_eq!((seen.reads, seen.writes), (0, 0));
    assert_eq!(backing(&mount, "b")[4096..12288], [3; 8192]);
    drop(device);
    mount.stop();
}

#[test]
fn what_is_not_one_whole_file_is_served_by_the_daemon() {
    let mount = two_files(&["--cache", "passthrough"], MIB);
    let (a, b) = (mount.folder().join("a"), mount.folder().join("b"));
    let (a, b) = (a.display(), b.display());
    let tables = [
        format!("0 2047 linear {a} 0"),
        format!("0 2047 linear {a} 1"),
        format!("0 1024 linear {a} 0\n1024 1024 linear {b} 1024"),
        format!("0 2048 striped 2 8 {a} 0 {b} 0"),
    ];
    for table in tables {
        mount.dmfs(&["load", "d", "--table", &table]).must();
        mount.dmfs(&["resume", "d"]).must();
        let device = mount.open("d");
        let seen = use_it(&mount, &device);
        assert!(seen.reads > 0 && seen.writes > 0, "{table}: {seen:?}");
    }
    let table = whole(&mount.folder().join("a"));
    mount
        .dmfs(&["load", "d", "--readonly", "--table", &table])
        .must();
    mount.dmfs(&["resume", "d"]).must();
    let device = OpenOptions::new()
        .read(true)
        .write(true)
        .open(mount.device("d"))
        .unwrap();
    let error = device.write_at(b"x", 0).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::PERM.raw_os_error()));
    drop(device);
    mount.stop();
}

#[test]
fn a_mount_file_says_who_caches() {
    let mount = Mount::from_toml(
        "[defaults]\ncache = 'keep'\n\
         [[file]]\npath = 'a.img'\nsize = '1M'\n\
         [[device]]\nname = 'kept'\ntable = '0 1024 linear a.img 0'\n\
         [[device]]\nname = 'plain'\ncache = 'none'\ntable = '0 1024 linear a.img 1024'\n",
    );
    assert_eq!(mount.dmfs(&["cache"]).must(), "kept: keep\nplain: none\n");
    let words = [
        "create",
        "new",
        "--cache",
        "passthrough",
        "--table",
        "0 8 linear mem:4096 0",
    ];
    mount.dmfs(&words).must();
    let new = mount.open("new");
    new.write_all_at(&[1; 512], 0).unwrap();
    assert_eq!(counters(&mount, "new").writes, 0);
    drop(new);
    let words = [
        "create",
        "never",
        "--cache",
        "writeback",
        "--table",
        "0 8 zero",
    ];
    mount.dmfs(&words).must_fail();
    assert!(!mount.device("never").exists());
    mount.stop();
}
