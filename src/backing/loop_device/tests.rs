#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::makedev;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use tempfile::TempDir;

use super::{
    AttachOptions, Detached, LoopDevice, attach, attached, detach, loop_backing, loop_path,
    set_capacity, status,
};
use crate::backing::{Access, Backing, BackingError, BackingStore, OpenOptions};
use crate::io::{BlockDev, Errno, IoError, ReadBuf, Request, WriteBuf};
use crate::sync::Arc;
use crate::unit::{Sector, Sectors};

const PLAIN: AttachOptions = AttachOptions {
    read_only: false,
    block_size: 512,
    direct: false,
    autoclear: true,
};
const BUFFERED: OpenOptions = OpenOptions { direct: false };

/// Attaches `file`; `None` for an ordinary user, who must have been refused.
fn try_attach(file: &Path, options: &AttachOptions) -> Option<LoopDevice> {
    match attach(file, options) {
        Ok(device) => Some(device),
        Err(error) => {
            assert!(!rustix::process::geteuid().is_root(), "{error}");
            let refused = [Errno::ACCESS, Errno::PERM, Errno::NODEV];
            assert!(refused.contains(&error.errno), "{error}");
            assert!(error.message.contains("/dev/loop-control"), "{error}");
            None
        }
    }
}

fn disk(folder: &Path, len: u64) -> PathBuf {
    let path = folder.join("disk");
    File::create(&path).unwrap().set_len(len).unwrap();
    path
}

fn open(path: &Path, access: Access, options: OpenOptions) -> Result<Arc<Backing>, BackingError> {
    BackingStore::new(240).open(path, access, options)
}

/// Waits for the kernel to have let go of a file: a child that another test forks holds a copy of every descriptor
/// until it calls exec.
fn until(mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(10));
        thread::yield_now();
    }
}

fn rdev(path: &Path) -> u64 {
    fs::metadata(path).unwrap().rdev()
}

#[test]
fn a_file_becomes_a_device_and_a_file_again() {
    let folder = TempDir::new().unwrap();
    let path = disk(folder.path(), 1 << 20);
    let options = AttachOptions {
        block_size: 4096,
        direct: true,
        autoclear: false,
        ..PLAIN
    };
    let Some(device) = try_attach(&path, &options) else {
        return;
    };
    let about = fs::metadata(&path).unwrap();
    let info = device.status().unwrap();
    assert_eq!((info.dev, info.ino), (about.dev(), about.ino()));
    assert_eq!((info.offset, info.size_limit), (0, 0));
    assert_eq!(
        (info.read_only, info.direct, info.autoclear),
        (false, true, false)
    );
    assert_eq!(info.path.as_deref(), Some(path.as_path()));
    assert_eq!(status(device.path()).unwrap(), info);
    let number = makedev(device.number().major, device.number().minor);
    assert_eq!(loop_backing(number), Some(info));
    assert_eq!(loop_path(number).as_deref(), Some(path.as_path()));
    assert!(attached().contains(&(device.number(), path.clone())));

    fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(2 << 20)
        .unwrap();
    device.set_capacity().unwrap();
    set_capacity(device.path()).unwrap();
    let node = device.path().to_owned();
    let backing = open(&node, Access::ReadOnly, BUFFERED).unwrap();
    assert_eq!(backing.capacity(), Sectors(4096));
    assert_eq!(backing.limits().logical_block_size, 4096);
    assert_eq!(backing.number(), device.number());
    // Open elsewhere: it goes when that is closed.
    assert_eq!(device.detach().unwrap(), Detached::WhenClosed);
    drop(backing);
    until(|| loop_path(number).as_deref() != Some(path.as_path()));
}

#[test]
fn what_is_no_loop_device_is_told_so() {
    let folder = TempDir::new().unwrap();
    let path = disk(folder.path(), 4096);
    assert_eq!(status(&path).unwrap_err().errno, Errno::NOTBLK);
    assert_eq!(
        detach(Path::new("/dev/null")).unwrap_err().errno,
        Errno::NOTTY
    );
    assert_eq!(
        status(Path::new("/dev/loop-none")).unwrap_err().errno,
        Errno::NODEV
    );
    assert_eq!(loop_backing(makedev(1, 3)), None);
    assert_eq!(loop_backing(makedev(7, 1 << 19)), None);
    assert_eq!(loop_path(makedev(7, 1 << 19)), None);
    assert_eq!(loop_path(makedev(254, 0)), None);
    let missing = attach(&folder.path().join("missing"), &PLAIN).unwrap_err();
    assert!([Errno::NOENT, Errno::ACCESS, Errno::PERM, Errno::NODEV].contains(&missing.errno));
    let odd = AttachOptions {
        block_size: 513,
        ..PLAIN
    };
    let error = attach(&path, &odd).unwrap_err();
    assert!(
        [Errno::INVAL, Errno::ACCESS, Errno::PERM, Errno::NODEV].contains(&error.errno),
        "{error}"
    );
}

#[test]
fn a_loop_device_counts_as_a_user_of_its_file() {
    let folder = TempDir::new().unwrap();
    let path = disk(folder.path(), 4096);
    let Some(device) = try_attach(&path, &PLAIN) else {
        return;
    };
    // Another name of the file does not help.
    let hard = folder.path().join("hard");
    fs::hard_link(&path, &hard).unwrap();
    for (path, access) in [(&path, Access::ReadWrite), (&hard, Access::ReadOnly)] {
        let error = open(path, access, BUFFERED).map(|_| ()).unwrap_err();
        assert_eq!(error.errno, Errno::BUSY);
        assert!(
            error.message.contains(device.path().to_str().unwrap()),
            "{error}"
        );
    }
    device.detach().unwrap();
    until(|| open(&path, Access::ReadWrite, BUFFERED).is_ok());

    let read_only = AttachOptions {
        read_only: true,
        ..PLAIN
    };
    let device = try_attach(&path, &read_only).unwrap();
    assert!(device.status().unwrap().read_only);
    let store = BackingStore::new(240);
    let reader = store.open(&path, Access::ReadOnly, BUFFERED).unwrap();
    let writer = store.open(&path, Access::ReadWrite, BUFFERED).map(|_| ());
    assert_eq!(writer.unwrap_err().errno, Errno::BUSY);
    // Refused, the reader has the lock that it had: another reader fits beside it, a writer does not.
    open(&path, Access::ReadOnly, BUFFERED).unwrap();
    drop(reader);
}

#[test]
fn a_block_device_is_claimed_and_numbered_by_itself() {
    let folder = TempDir::new().unwrap();
    let path = disk(folder.path(), 1 << 20);
    let Some(device) = try_attach(&path, &PLAIN) else {
        return;
    };
    let store = BackingStore::new(240);
    let reader = store
        .open(device.path(), Access::ReadOnly, BUFFERED)
        .unwrap();
    let writer = store
        .by_number(device.number(), Access::ReadWrite, BUFFERED)
        .unwrap();
    assert_eq!(
        (writer.number(), writer.path()),
        (device.number(), device.path())
    );
    assert_eq!(writer.name(), device.path().file_name().unwrap());
    assert!(writer.is_block_device() && writer.limits().discards());
    let error = open(device.path(), Access::ReadOnly, BUFFERED)
        .map(|_| ())
        .unwrap_err();
    assert_eq!(error.errno, Errno::BUSY);
    let us = format!("process {}", std::process::id());
    assert!(error.message.contains(&us), "{error}");

    let mut expected = vec![7; 1 << 20];
    writer
        .submit(Request::write(Sector(0), WriteBuf::new(&expected)))
        .unwrap();
    writer
        .submit(Request::discard(Sector(8), Sectors(64)).durable())
        .unwrap();
    writer
        .submit(Request::write_zeroes(Sector(101), Sectors(9), false))
        .unwrap();
    writer
        .submit(Request::write_zeroes(Sector(201), Sectors(99), true).durable())
        .unwrap();
    for (at, len) in [(8, 64), (101, 9), (201, 99)] {
        expected[at * 512..(at + len) * 512].fill(0);
    }
    let mut bytes = vec![1; 1 << 20];
    reader
        .submit(Request::read(Sector(0), ReadBuf::new(&mut bytes)))
        .unwrap();
    assert!(bytes == expected);
    writer.submit(Request::flush()).unwrap();
    assert!(fs::read(&path).unwrap() == expected);
    assert!(!reader.extent_at(Sector(8)).hole);
}

#[test]
fn a_read_only_block_device_is_refused_to_a_writer() {
    let folder = TempDir::new().unwrap();
    let path = disk(folder.path(), 4096);
    let read_only = AttachOptions {
        read_only: true,
        ..PLAIN
    };
    let Some(device) = try_attach(&path, &read_only) else {
        return;
    };
    let error = open(device.path(), Access::ReadWrite, BUFFERED)
        .map(|_| ())
        .unwrap_err();
    assert_eq!(error.errno, Errno::ACCESS);
    assert!(error.message.contains("--readonly"), "{error}");
    let store = BackingStore::new(240);
    let reader = store
        .open(device.path(), Access::ReadOnly, BUFFERED)
        .unwrap();
    let writer = store
        .open(device.path(), Access::ReadWrite, BUFFERED)
        .map(|_| ());
    assert_eq!(writer.unwrap_err().errno, Errno::ACCESS);
    let mut sector = [1; 512];
    reader
        .submit(Request::read(Sector(7), ReadBuf::new(&mut sector)))
        .unwrap();
    assert_eq!(sector, [0; 512]);
}

#[test]
fn direct_requests_for_parts_of_large_blocks_keep_their_neighbours() {
    let folder = TempDir::new().unwrap();
    let path = disk(folder.path(), 1 << 20);
    let options = AttachOptions {
        block_size: 4096,
        ..PLAIN
    };
    let Some(device) = try_attach(&path, &options) else {
        return;
    };
    let dev = open(
        device.path(),
        Access::ReadWrite,
        OpenOptions { direct: true },
    )
    .unwrap();
    let mut expected: Vec<u8> = (0..1 << 20)
        .map(|i: u32| (i / 512) as u8 ^ i as u8)
        .collect();
    dev.submit(Request::write(Sector(0), WriteBuf::new(&expected)))
        .unwrap();
    for (at, len) in [(1, 1), (15, 2), (31, 17), (2047, 1), (8, 8)] {
        let data = vec![len as u8; len * 512];
        dev.submit(Request::write(Sector(at as u64), WriteBuf::new(&data)).durable())
            .unwrap();
        expected[at * 512..(at + len) * 512].copy_from_slice(&data);
        let mut back = vec![0; len * 512];
        dev.submit(Request::read(Sector(at as u64), ReadBuf::new(&mut back)))
            .unwrap();
        assert!(back == data);
    }
    let mut bytes = vec![0; 1 << 20];
    dev.submit(Request::read(Sector(0), ReadBuf::new(&mut bytes)))
        .unwrap();
    assert!(bytes == expected);
}

struct Mounted(TempDir);

impl Drop for Mounted {
    fn drop(&mut self) {
        unmount(self.0.path(), UnmountFlags::DETACH).unwrap();
    }
}

/// A tmpfs of 1 MiB; `None` for an ordinary user, who must have been refused.
fn small_file_system() -> Option<Mounted> {
    let folder = TempDir::new().unwrap();
    match mount(
        "none",
        folder.path(),
        "tmpfs",
        MountFlags::empty(),
        Some(c"size=1m"),
    ) {
        Ok(()) => Some(Mounted(folder)),
        Err(errno) => {
            assert_eq!(errno, Errno::PERM);
            None
        }
    }
}

#[test]
fn a_full_file_system_is_enospc() {
    let Some(mounted) = small_file_system() else {
        return;
    };
    let path = disk(mounted.0.path(), 8 << 20);
    let dev = open(&path, Access::ReadWrite, BUFFERED).unwrap();
    let data = vec![1; 4 << 20];
    let error = dev
        .submit(Request::write(Sector(0), WriteBuf::new(&data)))
        .unwrap_err();
    assert_eq!(error.errno(), Errno::NOSPC);
    // That failed at once; nothing that was promised is lost.
    dev.submit(Request::flush()).unwrap();
}

/// A loop device on a sparse file of a file system that is too small for it takes writes into its cache and
/// loses them afterwards. The kernel tells that once; the device must not say later that all is well.
#[test]
fn a_flush_that_failed_fails_until_the_device_is_opened_again() {
    let Some(mounted) = small_file_system() else {
        return;
    };
    let path = disk(mounted.0.path(), 8 << 20);
    let device = try_attach(&path, &PLAIN).unwrap();
    let store = BackingStore::new(240);
    let dev = store
        .open(device.path(), Access::ReadWrite, BUFFERED)
        .unwrap();
    let data = vec![1; 4 << 20];
    dev.submit(Request::write(Sector(0), WriteBuf::new(&data)))
        .unwrap();
    // Somebody else's sync writes the cache out: the data is lost now.
    File::open(device.path()).unwrap().sync_data().unwrap_err();
    // A durable write meets the loss first; what the flush has to tell is not used up by that.
    let durable = Request::write(Sector(0), WriteBuf::new(&data[..4096])).durable();
    dev.submit(durable).unwrap_err();
    for _ in 0..3 {
        let error = dev.submit(Request::flush()).unwrap_err();
        assert!(
            [Errno::IO, Errno::NOSPC].contains(&error.errno()),
            "{error}"
        );
    }
    let second = store
        .open(device.path(), Access::ReadWrite, BUFFERED)
        .unwrap();
    assert!(second.submit(Request::flush()).is_err());
    drop((dev, second));
    let dev = store
        .open(device.path(), Access::ReadWrite, BUFFERED)
        .unwrap();
    dev.submit(Request::flush()).unwrap();
    let mut byte = [0; 512];
    dev.submit(Request::read(Sector(16383), ReadBuf::new(&mut byte)))
        .unwrap();
    let past = dev.submit(Request::read(Sector(16384), ReadBuf::new(&mut byte)));
    assert_eq!(past.unwrap_err(), IoError::IO);
}

#[test]
fn numbers_of_nodes_that_are_not_there() {
    let free = attached()
        .iter()
        .map(|(number, _)| number.minor)
        .max()
        .unwrap_or(0)
        + 1000;
    assert_eq!(loop_backing(makedev(7, free)), None);
    assert!(rdev(Path::new("/dev/null")) == makedev(1, 3));
}
