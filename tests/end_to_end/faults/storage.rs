//! Storage that fails: files cut short or deleted, full disks, I/O errors.

use super::{Ledger, RECORD};
use crate::model::{Dice, assert_equal, contents, read};
use crate::support::loop_device::{LoopDevice, Mounted};
use crate::support::mount::Mount;
use crate::support::tools::{self, word};
use crate::support::watchdog::Watchdog;
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

const MIB: u64 = 1 << 20;

fn linear(file: &Path, bytes: u64) -> String {
    format!("0 {} linear {} 0\n", bytes / 512, file.display())
}

fn errno(error: &io::Error) -> Option<Errno> {
    Errno::from_io_error(error)
}

/// Asserts that `result` failed with `expected`.
fn failed<T>(result: io::Result<T>, expected: Errno) {
    let error = result.map(|_| ()).unwrap_err();
    assert_eq!(errno(&error), Some(expected), "{error}");
}

#[test]
fn a_truncated_backing_file_fails_behind_its_end_and_nowhere_else() {
    let watchdog = Watchdog::of_seconds(60);
    let mount = Mount::start();
    watchdog.mind(&mount);
    let file = mount.backing("file", 4 * MIB);
    mount.create("d", &linear(&file, 4 * MIB));
    let device = mount.open("d");
    let mut early = Ledger::new(0, 16);
    for _ in 0..32 {
        early.write(&device).unwrap();
    }
    device.write_all_at(&[9; 4096], 3 * MIB).unwrap();

    let under_us = OpenOptions::new().write(true).open(&file).unwrap();
    under_us.set_len(MIB).unwrap();

    early.check(&device);
    for _ in 0..32 {
        early.write(&device).unwrap();
    }
    // Behind the end there is nothing to read, as on a disk that has lost its second half.
    failed(device.read_at(&mut [0; 4096], 3 * MIB), Errno::IO);
    failed(device.read_at(&mut [0; 4096], MIB), Errno::IO);
    // What is written there makes the file longer again, so it is kept.
    device.write_all_at(&[5; 4096], 2 * MIB).unwrap();
    device.sync_data().unwrap();
    assert_eq!(read(&device, 2 * MIB, 4096), [5; 4096]);
    assert_eq!(read(&device, MIB, 4096), [0; 4096]);
    failed(device.read_at(&mut [0; 4096], 3 * MIB), Errno::IO);
    // The device itself keeps its length, and its table can be changed.
    assert_eq!(device.metadata().unwrap().len(), 4 * MIB);
    mount.dmfs_fed(&["load", "d"], &linear(&file, MIB)).must();
    mount.dmfs(&["resume", "d"]).must();
    assert_eq!(mount.open("d").metadata().unwrap().len(), MIB);
    early.check(&File::open(&file).unwrap());
    // A table that reaches behind the end is refused and says what is missing.
    let refused = mount.dmfs_fed(&["load", "d"], &linear(&file, 4 * MIB));
    let said = refused.must_fail();
    assert!(said.contains("file"), "{said}");
    // With the rest back, as zeroes, it is taken.
    under_us.set_len(4 * MIB).unwrap();
    mount
        .dmfs_fed(&["load", "d"], &linear(&file, 4 * MIB))
        .must();
    mount.dmfs(&["resume", "d"]).must();
    assert_eq!(read(&device, 3 * MIB, 4096), [0; 4096]);
    drop(device);
    mount.stop();
}

#[test]
fn a_deleted_backing_file_serves_on_until_its_last_table_goes() {
    let watchdog = Watchdog::of_seconds(60);
    let mount = Mount::start();
    watchdog.mind(&mount);
    let file = mount.backing("file", MIB);
    let kept = File::open(&file).unwrap();
    mount.create("d", &linear(&file, MIB));
    let device = mount.open("d");
    let mut ledger = Ledger::new(0, 16);
    ledger.write(&device).unwrap();
    fs::remove_file(&file).unwrap();
    for _ in 0..64 {
        ledger.write(&device).unwrap();
    }
    mount.dmfs(&["suspend", "d"]).must();
    mount.dmfs(&["resume", "d"]).must();
    ledger.write(&device).unwrap();
    ledger.check(&device);
    // A table that names it anew finds nothing; the live one stays.
    let said = mount
        .dmfs_fed(&["load", "d"], &linear(&file, MIB))
        .must_fail();
    assert!(said.contains(&file.display().to_string()), "{said}");
    // A new file of that name is another file.
    mount.backing("file", MIB);
    ledger.write(&device).unwrap();
    mount.dmfs_fed(&["load", "d"], &linear(&file, MIB)).must();
    ledger.check(&device);
    mount.dmfs(&["resume", "d"]).must();
    assert_eq!(read(&device, 0, MIB as usize), vec![0; MIB as usize]);
    // What was acknowledged is in the old one, for who still has it open.
    ledger.check(&kept);
    drop(device);
    mount.stop();
}

#[test]
fn a_full_disk_is_told_and_takes_nothing_that_fsync_acknowledged() {
    let watchdog = Watchdog::of_seconds(120);
    let mount = Mount::start();
    watchdog.mind(&mount);
    let disk = mount.backing("disk", 16 * MIB);
    tools::run("mkfs.ext4", &["-q", "-F", word(&disk)]);
    let attached = LoopDevice::attach(&disk, &[]);
    let at = mount.folder().join("small");
    fs::create_dir(&at).unwrap();
    let small = Mounted::new(attached.path(), &at, "noatime");
    let ballast = at.join("ballast");
    fs::write(&ballast, vec![1; 4 * MIB as usize]).unwrap();
    // Sparse, and longer than what is free below.
    let file = at.join("sparse");
    File::create(&file).unwrap().set_len(64 * MIB).unwrap();
    mount.create("d", &linear(&file, 64 * MIB));
    let device = mount.open("d");
    let mut ledger = Ledger::new(0, (64 * MIB / RECORD) as usize);
    let refused = loop {
        if let Err(error) = ledger.write(&device) {
            break error;
        }
    };
    assert_eq!(errno(&refused), Some(Errno::NOSPC), "{refused}");
    assert!(ledger.acknowledged > 100, "{}", ledger.acknowledged);
    ledger.check_acknowledged(&device);
    // What has its place already can be written again, and a command is answered.
    let before = ledger.acknowledged;
    let mut again = Ledger::new(7, 1);
    again.write(&device).unwrap();
    mount.dmfs(&["status", "d"]).must();
    // With room again it goes on where it stopped.
    fs::remove_file(&ballast).unwrap();
    small_sync(&at);
    for _ in 0..100 {
        ledger.write(&device).unwrap();
    }
    assert_eq!(ledger.acknowledged, before + 100);
    drop(device);
    mount.dmfs(&["remove", "d"]).must();
    // From the disk, and not from memory.
    small.unmount();
    let small = Mounted::new(attached.path(), &at, "ro");
    let file = File::open(&file).unwrap();
    again.check(&file);
    ledger.forget(7);
    ledger.check_acknowledged(&file);
    drop(file);
    small.unmount();
    mount.stop();
}

/// Has a file system give back the space of deleted files.
fn small_sync(at: &Path) {
    tools::run("sync", &["-f", word(at)]);
}

/// A device over another that can be made to fail: `d` over `low` over a file.
fn failing_stack(mount: &Mount, bytes: u64) -> String {
    let file = mount.backing("file", bytes);
    let good = linear(&file, bytes);
    mount.create("low", &good);
    let sectors = bytes / 512;
    let half = sectors / 2;
    let table =
        format!("0 {half} linear /dev/mapper/low 0\n{half} {half} linear /dev/mapper/low {half}\n");
    mount.create("d", &table);
    good
}

fn swap(mount: &Mount, name: &str, table: &str) {
    mount.dmfs_fed(&["load", name], table).must();
    mount.dmfs(&["suspend", "--noflush", name]).must();
    mount.dmfs(&["resume", name]).must();
}

#[test]
fn an_error_below_at_any_operation_fails_that_one_alone() {
    let watchdog = Watchdog::of_seconds(120);
    let mount = Mount::start();
    watchdog.mind(&mount);
    let good = failing_stack(&mount, MIB);
    let bad = format!("0 {} error\n", MIB / 512);
    let device = mount.open("d");
    const OPERATIONS: u64 = 12;
    for failing in 0..OPERATIONS {
        let mut dice = Dice::new(failing);
        let mut model = contents(&device);
        for operation in 0..OPERATIONS {
            if operation == failing {
                swap(&mount, "low", &bad);
            }
            let len = 1 + dice.below(40_000) as usize;
            let at = dice.below(MIB - len as u64);
            let place = at as usize..at as usize + len;
            if dice.below(3) == 0 {
                let mut data = vec![0; len];
                let result = device.read_exact_at(&mut data, at);
                match operation == failing {
                    true => failed(result, Errno::IO),
                    false => {
                        result.unwrap();
                        assert_equal(&data, &model[place], "a read");
                    }
                }
            } else {
                let data = dice.bytes(len);
                let result = device.write_all_at(&data, at);
                match operation == failing {
                    true => failed(result, Errno::IO),
                    false => {
                        result.unwrap();
                        model[place].copy_from_slice(&data);
                    }
                }
            }
            if operation == failing {
                swap(&mount, "low", &good);
            }
        }
        device.sync_all().unwrap();
        assert_equal(&contents(&device), &model, "the device");
    }
    let file = File::open(mount.folder().join("file")).unwrap();
    assert_equal(&contents(&file), &contents(&device), "the file below");
    drop(device);
    mount.stop();
}

#[test]
fn a_disk_that_fails_and_heals_under_load_loses_nothing_acknowledged() {
    let watchdog = Watchdog::of_seconds(120);
    let mount = Mount::start();
    watchdog.mind(&mount);
    let good = failing_stack(&mount, 4 * MIB);
    let bad = format!("0 {} error\n", 4 * MIB / 512);
    let stop = AtomicBool::new(false);
    let is_over = || stop.load(Ordering::SeqCst);
    let ledgers: Vec<(Ledger, u64)> = thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|index| {
                let (mount, is_over) = (&mount, &is_over);
                scope.spawn(move || {
                    let device = mount.open("d");
                    let mut ledger = Ledger::new(index * 64, 64);
                    let mut failures = 0;
                    while !is_over() {
                        if let Err(error) = ledger.write(&device) {
                            assert_eq!(errno(&error), Some(Errno::IO), "{error}");
                            failures += 1;
                        }
                    }
                    (ledger, failures)
                })
            })
            .collect();
        for _ in 0..10 {
            swap(&mount, "low", &bad);
            swap(&mount, "low", &good);
        }
        stop.store(true, Ordering::SeqCst);
        writers
            .into_iter()
            .map(|writer| writer.join().unwrap())
            .collect()
    });
    let device = mount.open("d");
    for (ledger, failures) in &ledgers {
        ledger.check(&device);
        assert!(ledger.acknowledged > 0 && *failures > 0, "{failures}");
    }
    drop(device);
    mount.stop();
}
