#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::BackingStore;
use crate::backing::{Access, BackingError, OpenOptions};
use crate::io::{BlockDev, DeviceNumber, Errno, IoError, ReadBuf, Request, WriteBuf};
use crate::sync::Arc;
use crate::unit::{Sector, Sectors};

const BUFFERED: OpenOptions = OpenOptions { direct: false };
const MAJOR: u32 = 240;

fn store() -> BackingStore {
    BackingStore::new(MAJOR)
}

fn file(folder: &TempDir, name: &str, len: u64) -> std::path::PathBuf {
    let path = folder.path().join(name);
    File::create(&path).unwrap().set_len(len).unwrap();
    path
}

fn refused(store: &BackingStore, path: &Path, access: Access) -> BackingError {
    match store.open(path, access, BUFFERED) {
        Ok(_) => panic!("{} was opened", path.display()),
        Err(error) => error,
    }
}

fn write(dev: &dyn BlockDev, at: u64, byte: u8) -> Result<(), IoError> {
    dev.submit(Request::write(Sector(at), WriteBuf::new(&[byte; 512])))
}

fn read(dev: &dyn BlockDev, at: u64) -> u8 {
    let mut bytes = [0; 512];
    dev.submit(Request::read(Sector(at), ReadBuf::new(&mut bytes)))
        .unwrap();
    assert!(bytes.iter().all(|byte| *byte == bytes[0]));
    bytes[0]
}

#[test]
fn paths_to_one_file_share_one_backing() {
    let folder = TempDir::new().unwrap();
    let path = file(&folder, "disk", 4096);
    let (link, hard) = (folder.path().join("link"), folder.path().join("hard"));
    symlink(&path, &link).unwrap();
    fs::hard_link(&path, &hard).unwrap();
    let store = store();
    let a = store.open(&path, Access::ReadWrite, BUFFERED).unwrap();
    let b = store.open(&link, Access::ReadWrite, BUFFERED).unwrap();
    let c = store.open(&hard, Access::ReadOnly, BUFFERED).unwrap();
    assert!(Arc::ptr_eq(&a.device, &b.device) && Arc::ptr_eq(&a.device, &c.device));
    assert_eq!((a.number(), a.number()), (b.number(), c.number()));
    assert_eq!(
        (a.name(), b.name(), c.path()),
        ("disk", "link", hard.as_path())
    );
    write(&*a, 3, 7).unwrap();
    assert_eq!(read(&*c, 3), 7);
    assert_eq!(write(&*c, 3, 8).unwrap_err(), IoError::READ_ONLY);
    assert_eq!(read(&*b, 3), 7);
}

#[test]
fn a_file_opened_for_reading_is_opened_for_writing_later() {
    let folder = TempDir::new().unwrap();
    let path = file(&folder, "disk", 4096);
    let (ours, other) = (store(), store());
    let reader = ours.open(&path, Access::ReadOnly, BUFFERED).unwrap();
    assert!(!reader.limits().discards());
    let second = other.open(&path, Access::ReadOnly, BUFFERED).unwrap();
    // The other store reads it: no writer beside a reader. The reader keeps its lock.
    let error = refused(&ours, &path, Access::ReadWrite);
    assert_eq!(error.errno, Errno::BUSY);
    assert_eq!(refused(&other, &path, Access::ReadWrite).errno, Errno::BUSY);
    drop(second);
    // Renamed meanwhile: it is still the same file.
    let moved = folder.path().join("moved");
    fs::rename(&path, &moved).unwrap();
    let writer = ours.open(&moved, Access::ReadWrite, BUFFERED).unwrap();
    assert!(writer.limits().writes_zeroes() && !reader.limits().writes_zeroes());
    write(&*writer, 0, 9).unwrap();
    assert_eq!(read(&*reader, 0), 9);
    assert_eq!(refused(&other, &moved, Access::ReadOnly).errno, Errno::BUSY);
    drop((reader, writer));
    other.open(&moved, Access::ReadWrite, BUFFERED).unwrap();
}

#[test]
fn a_second_writer_is_told_who_the_first_is() {
    let folder = TempDir::new().unwrap();
    let path = file(&folder, "disk", 4096);
    let first = store();
    let _held = first.open(&path, Access::ReadWrite, BUFFERED).unwrap();
    let error = refused(&store(), &path, Access::ReadOnly);
    assert_eq!(error.errno, Errno::BUSY);
    let us = format!("process {} (", std::process::id());
    assert!(error.message.contains(&us), "{error}");
    assert!(error.message.contains(path.to_str().unwrap()), "{error}");
}

#[test]
fn a_file_closed_by_its_last_opener_opens_again_at_once() {
    let folder = TempDir::new().unwrap();
    let path = file(&folder, "disk", 4096);
    let store = store();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..200 {
                    store.open(&path, Access::ReadWrite, BUFFERED).unwrap();
                }
            });
        }
    });
    assert!(store.0.known.lock().open.is_empty());
}

#[test]
fn numbers_stay_and_lead_back() {
    let folder = TempDir::new().unwrap();
    let (a, b) = (file(&folder, "a", 512), file(&folder, "b", 1024));
    let store = store();
    let number_a = store
        .open(&a, Access::ReadWrite, BUFFERED)
        .unwrap()
        .number();
    let number_b = store
        .open(&b, Access::ReadWrite, BUFFERED)
        .unwrap()
        .number();
    assert_eq!(
        (number_a.major, number_a.minor, number_b.minor),
        (MAJOR, 0, 1)
    );
    let again = store.open(&a, Access::ReadOnly, BUFFERED).unwrap();
    assert_eq!(again.number(), number_a);
    let b_again = store
        .by_number(number_b, Access::ReadWrite, BUFFERED)
        .unwrap();
    assert_eq!(
        (b_again.capacity(), b_again.path()),
        (Sectors(2), b.as_path())
    );
    drop(b_again);
    // Open though its name is gone: the number still leads to it.
    fs::remove_file(&a).unwrap();
    store
        .by_number(number_a, Access::ReadOnly, BUFFERED)
        .unwrap();
    drop(again);
    let opened = |number| {
        store
            .by_number(number, Access::ReadOnly, BUFFERED)
            .map(|_| ())
    };
    assert_eq!(opened(number_a).unwrap_err().errno, Errno::NODEV);
    fs::rename(&b, &a).unwrap();
    file(&folder, "b", 1024);
    assert_eq!(opened(number_b).unwrap_err().errno, Errno::NXIO);
}

#[test]
fn unknown_numbers_are_enxio() {
    let store = store();
    let opened = |major, minor| {
        let number = DeviceNumber { major, minor };
        store
            .by_number(number, Access::ReadOnly, BUFFERED)
            .map(|_| ())
            .unwrap_err()
    };
    assert_eq!(opened(MAJOR, 0).errno, Errno::NXIO);
    assert_eq!(opened(4095, 77).errno, Errno::NXIO);
    assert_eq!(opened(4096, 0).errno, Errno::OVERFLOW);
    assert_eq!(opened(7, 1 << 20).errno, Errno::OVERFLOW);
    assert!(opened(MAJOR, 5).message.contains("240:5"));
}

#[test]
fn what_is_no_disk_is_refused() {
    let folder = TempDir::new().unwrap();
    let store = store();
    let missing = refused(&store, &folder.path().join("missing"), Access::ReadOnly);
    assert_eq!(missing.errno, Errno::NODEV);
    let through_a_file = file(&folder, "plain", 512).join("below");
    assert_eq!(
        refused(&store, &through_a_file, Access::ReadOnly).errno,
        Errno::NODEV
    );
    let socket = folder.path().join("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    for (path, what) in [
        (folder.path(), "folder"),
        (Path::new("/dev/null"), "character"),
        (&socket, "socket"),
    ] {
        let error = refused(&store, path, Access::ReadWrite);
        assert_eq!(error.errno, Errno::NOTBLK);
        assert!(error.message.contains(what), "{error}");
    }
    let dangling = folder.path().join("dangling");
    symlink("nowhere", &dangling).unwrap();
    assert_eq!(
        refused(&store, &dangling, Access::ReadOnly).errno,
        Errno::NODEV
    );
    assert_eq!(
        refused(&store, Path::new("nul\0"), Access::ReadOnly).errno,
        Errno::INVAL
    );
}

#[test]
fn a_file_must_hold_a_sector_and_a_part_is_not_used() {
    let folder = TempDir::new().unwrap();
    let store = store();
    for len in [0, 511] {
        let error = refused(&store, &file(&folder, "short", len), Access::ReadWrite);
        assert_eq!(error.errno, Errno::INVAL);
        assert!(error.message.contains("512"), "{error}");
    }
    let odd = store
        .open(&file(&folder, "odd", 1535), Access::ReadWrite, BUFFERED)
        .unwrap();
    assert_eq!(odd.capacity(), Sectors(2));
    assert_eq!(write(&*odd, 2, 1).unwrap_err(), IoError::IO);
    assert_eq!(fs::metadata(odd.path()).unwrap().len(), 1535);
}

#[test]
fn a_file_that_may_not_be_written_is_refused_to_a_writer() {
    let folder = TempDir::new().unwrap();
    let store = store();
    // A program that runs may not be written even by root.
    let program = folder.path().join("program");
    fs::copy("/bin/sleep", &program).unwrap();
    let mut running = Command::new(&program).arg("60").spawn().unwrap();
    let error = refused(&store, &program, Access::ReadWrite);
    assert_eq!(error.errno, Errno::ACCESS);
    assert!(error.message.contains("--readonly"), "{error}");
    let reader = store.open(&program, Access::ReadOnly, BUFFERED).unwrap();
    assert_eq!(
        refused(&store, &program, Access::ReadWrite).errno,
        Errno::ACCESS
    );
    drop(reader);
    running.kill().unwrap();
    running.wait().unwrap();

    let path = file(&folder, "disk", 512);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
    match store.open(&path, Access::ReadWrite, BUFFERED) {
        Ok(_) => assert!(rustix::process::geteuid().is_root()),
        Err(error) => assert_eq!(error.errno, Errno::ACCESS),
    }
}

#[test]
fn memory_is_private_unless_named() {
    let store = store();
    let open = |text: &str| store.memory(text, Access::ReadWrite);
    let (a, b) = (open("1M").unwrap(), open("mem:1M").unwrap());
    assert_ne!(a.path(), b.path());
    write(&*a, 5, 1).unwrap();
    assert_eq!((read(&*a, 5), read(&*b, 5)), (1, 0));
    // The path shown leads back to the same memory, and so does the number.
    let same = open(a.path().to_str().unwrap()).unwrap();
    let by_number = store
        .by_number(a.number(), Access::ReadOnly, BUFFERED)
        .unwrap();
    assert_eq!((read(&*same, 5), read(&*by_number, 5)), (1, 1));
    assert_eq!(write(&*by_number, 5, 2).unwrap_err(), IoError::READ_ONLY);

    let named = open("64K:swap").unwrap();
    write(&*named, 0, 3).unwrap();
    assert_eq!(read(&*open("mem:65536:swap").unwrap(), 0), 3);
    let error = open("128K:swap").map(|_| ()).unwrap_err();
    assert_eq!(error.errno, Errno::INVAL);
    assert!(error.message.contains("65536"), "{error}");
    let number = named.number();
    drop(named);
    let gone = store
        .by_number(number, Access::ReadOnly, BUFFERED)
        .map(|_| ());
    assert_eq!(gone.unwrap_err().errno, Errno::NXIO);
    let anew = open("128K:swap").unwrap();
    assert_eq!((read(&*anew, 0), anew.number()), (0, number));
}

#[test]
fn memory_of_any_size_costs_nothing_until_written() {
    let store = store();
    let huge = store.memory("7E", Access::ReadWrite).unwrap();
    assert_eq!(huge.capacity(), Sectors(7 << 51));
    let last = huge.capacity().0 - 1;
    write(&*huge, last, 4).unwrap();
    assert_eq!((read(&*huge, last), read(&*huge, 1 << 40)), (4, 0));
    assert_eq!(write(&*huge, last + 1, 4).unwrap_err(), IoError::IO);
    assert_eq!(write(&*huge, u64::MAX, 4).unwrap_err(), IoError::IO);
    assert_eq!(write(&*huge, u64::MAX >> 9, 4).unwrap_err(), IoError::IO);
}

#[test]
fn growing_is_seen_when_asked_for() {
    let folder = TempDir::new().unwrap();
    let path = file(&folder, "disk", 1024);
    let store = store();
    let disk = store.open(&path, Access::ReadWrite, BUFFERED).unwrap();
    fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(4096)
        .unwrap();
    assert_eq!(write(&*disk, 2, 1).unwrap_err(), IoError::IO);
    assert_eq!(disk.refresh().unwrap(), Sectors(8));
    write(&*disk, 7, 1).unwrap();
    // Cut short behind our back: the sectors that are gone fail, and nothing is made longer.
    fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(1024)
        .unwrap();
    let mut bytes = [0; 1024];
    let read = disk.submit(Request::read(Sector(1), ReadBuf::new(&mut bytes)));
    assert_eq!(read.unwrap_err(), IoError::IO);
    assert_eq!(disk.refresh().unwrap(), Sectors(2));
}

#[test]
fn the_first_opener_decides_about_the_page_cache() {
    let folder = TempDir::new_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let path = file(&folder, "disk", 8192);
    let direct = OpenOptions { direct: true };
    let store = store();
    for (first, second) in [(BUFFERED, direct), (direct, BUFFERED)] {
        let a = store.open(&path, Access::ReadOnly, first).unwrap();
        let b = store.open(&path, Access::ReadWrite, second).unwrap();
        assert_eq!((a.is_direct(), b.is_direct()), (first.direct, first.direct));
        write(&*b, 1, 6).unwrap();
        assert_eq!(read(&*a, 1), 6);
    }
    // A file system without direct I/O says so.
    let error = store.open(Path::new("/proc/self/maps"), Access::ReadOnly, direct);
    let error = error.map(|_| ()).unwrap_err();
    assert_eq!(error.errno, Errno::INVAL);
    assert!(error.message.contains("no direct I/O"), "{error}");
}
