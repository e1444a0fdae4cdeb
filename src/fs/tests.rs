//! The front with real devices, as plain calls and through a real mount.

#![allow(clippy::unwrap_used)]

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::fs::{FallocateFlags, SeekFrom, fallocate, ftruncate, seek};

use super::front::{AttributeChange, Entry, Front};
use super::inodes::{Inodes, OwnerChange};
use super::{FsOptions, Mounted, serve};
use crate::backing::BackingStore;
use crate::device::{Change, Device, Directory, Events, Identity, SuspendOptions};
use crate::io::{
    BlockDev, DeviceNumber, Errno, Flags, IoError, IoResult, Limits, OpKind, OpenDevice, Request,
    scratch,
};
use crate::sync::{Arc, Mutex};
use crate::table::{RowSpec, Table, TableContext};
use crate::target::{Access, DeviceOpener, OpenError};
use crate::targets::KINDS;
use crate::unit::{Sector, Sectors};

const SECTORS: u64 = 256;
const SIZE: u64 = SECTORS * 512;

/// Devices of a test, without an owner that would remove them by itself.
#[derive(Default)]
struct Devices(Mutex<Vec<Arc<Device>>>);

impl Directory for Devices {
    fn by_name(&self, name: &str) -> Option<Arc<Device>> {
        self.list().into_iter().find(|device| device.name() == name)
    }

    fn by_id(&self, id: u64) -> Option<Arc<Device>> {
        self.list().into_iter().find(|device| device.id() == id)
    }

    fn list(&self) -> Vec<Arc<Device>> {
        self.0.lock().clone()
    }

    fn remove_closed(&self, _device: &Device) {}
}

/// Gives one memory device for every name.
struct Memory(Arc<OpenDevice>);

impl DeviceOpener for Memory {
    fn open(&self, _spec: &str, _access: Access) -> Result<Arc<OpenDevice>, OpenError> {
        Ok(self.0.clone())
    }
}

fn memory() -> Memory {
    let store = BackingStore::new(250);
    let dev = store.memory("mem:1M", Access::ReadWrite).unwrap();
    Memory(Arc::new(OpenDevice {
        number: dev.number(),
        path: dev.path().to_path_buf(),
        name: "mem".into(),
        dev,
        direct: false,
        mapped: None,
        part: None,
    }))
}

fn set_table(device: &Device, sectors: u64, access: Access, opener: &dyn DeviceOpener) {
    let row = RowSpec {
        start: Sector(0),
        len: Sectors(sectors),
        kind: "linear".into(),
        params: "mem 0".into(),
    };
    let context = TableContext {
        kinds: KINDS,
        access,
        number: device.number(),
        opener,
        events: Arc::new(Events::default()),
        again: false,
    };
    device
        .load(Arc::new(Table::build(&[row], &context).unwrap()))
        .unwrap();
    device
        .resume(SuspendOptions::default(), &mut || true)
        .unwrap();
}

impl Devices {
    fn add(&self, name: &str, access: Access) -> Arc<Device> {
        let mut devices = self.0.lock();
        let id = devices.len() as u64 + 2;
        let number = DeviceNumber {
            major: 254,
            minor: id as u32,
        };
        let identity = Identity {
            name: name.into(),
            uuid: String::new(),
        };
        let device = Arc::new(Device::new(
            id,
            number,
            identity,
            Arc::new(Events::default()),
        ));
        set_table(&device, SECTORS, access, &memory());
        devices.push(device.clone());
        device
    }
}

fn front(names: &[&str]) -> (Arc<Devices>, Front) {
    let devices = Arc::new(Devices::default());
    names
        .iter()
        .for_each(|name| drop(devices.add(name, Access::ReadWrite)));
    let inodes = Inodes::new(devices.clone(), 10, 20, 0o600);
    (devices, Front::new(inodes, 10, 20))
}

fn resized(size: u64, through_open_file: bool) -> AttributeChange {
    AttributeChange {
        size: Some(size),
        through_open_file,
        ..AttributeChange::default()
    }
}

#[test]
fn a_file_looks_as_its_device() {
    let (_devices, front) = front(&["one"]);
    let found = front.lookup("one".as_ref()).unwrap();
    assert_eq!((found.inode, found.size, found.blocks), (2, SIZE, SECTORS));
    assert_eq!((found.uid, found.gid, found.permissions), (10, 20, 0o600));
    assert_eq!(front.lookup("two".as_ref()), Err(Errno::NOENT.into()));
    assert_eq!(
        front.lookup("n".repeat(128).as_ref()),
        Err(Errno::NAMETOOLONG.into())
    );
    assert_eq!(front.attributes(77), Err(Errno::NXIO.into()));
}

#[test]
fn owner_and_mode_are_remembered_without_set_id_bits() {
    let (_devices, front) = front(&["one"]);
    let change = AttributeChange {
        owner: OwnerChange {
            uid: Some(5),
            mode: Some(0o104_640),
            ..OwnerChange::default()
        },
        ..AttributeChange::default()
    };
    front.change_attributes(2, &change).unwrap();
    let found = front.attributes(2).unwrap();
    assert_eq!((found.uid, found.gid, found.permissions), (5, 20, 0o640));
    assert_eq!(front.change_attributes(1, &change), Err(Errno::PERM.into()));
}

#[test]
fn a_device_keeps_its_length() {
    let (_devices, front) = front(&["one"]);
    let error = Err(Errno::INVAL.into());
    assert_eq!(front.change_attributes(2, &resized(SIZE - 1, true)), error);
    assert_eq!(front.change_attributes(2, &resized(SIZE + 1, false)), error);
    assert_eq!(front.change_attributes(2, &resized(0, true)), error);
    for accepted in [resized(SIZE, true), resized(0, false)] {
        assert_eq!(front.change_attributes(2, &accepted).unwrap().size, SIZE);
    }
}

#[test]
fn a_write_shows_in_the_time_of_the_file() {
    let (_devices, front) = front(&["one"]);
    let before = front.attributes(2).unwrap().mtime;
    thread::sleep(Duration::from_millis(20));
    front.write(2, 0, &[1], Flags::default()).unwrap();
    assert!(front.attributes(2).unwrap().mtime > before);
}

#[test]
fn a_place_in_a_listing_survives_what_comes_and_goes() {
    let (devices, front) = front(&["c", "a", "b"]);
    let names = |after| -> Vec<(u64, String)> {
        let listing = front.listing();
        let entries = listing.after(after);
        entries
            .map(|(cookie, entry)| match entry {
                Entry::Dots(name) => (cookie, name.to_owned()),
                Entry::Device(device) => (cookie, device.name()),
            })
            .collect()
    };
    let all = names(0);
    let listed: Vec<_> = all.iter().map(|(_, name)| name.as_str()).collect();
    assert_eq!(listed, [".", "..", "c", "a", "b"]);
    assert_eq!(names(1).len(), 4);
    let after_a = all[3].0;
    devices.0.lock().remove(1);
    assert_eq!(names(after_a), all[4..]);
}

#[test]
fn a_device_that_went_is_gone_for_those_who_used_it_last() {
    let (devices, front) = front(&["one"]);
    front.write(2, 0, &[1], Flags::default()).unwrap();
    devices.0.lock().clear();
    front.inodes().forget(2);
    assert_eq!(
        front.write(2, 0, &[1], Flags::default()),
        Err(Errno::NXIO.into())
    );
}

#[test]
fn who_may_not_wait_is_told_so_by_a_suspended_device() {
    let (devices, front) = front(&["one"]);
    let device = devices.by_name("one").unwrap();
    device
        .suspend(SuspendOptions::default(), &mut || true)
        .unwrap();
    let nowait = Flags {
        nowait: true,
        ..Flags::default()
    };
    let put_off = IoError::WOULD_WAIT;
    assert_eq!(
        front.read(2, 0, 512, &mut [0; 1 << 18], nowait),
        Err(put_off)
    );
    assert_eq!(front.write(2, 0, &[0; 512], nowait), Err(put_off));
    assert_eq!(front.write(2, 1, &[0; 5], nowait), Err(put_off));
    assert_eq!(front.flush(2, nowait), Err(put_off));
    assert_eq!(front.allocate(2, 0, 512, 3, nowait), Err(put_off));
}

/// A mount of the devices `one` and `two` and the read-only `three`, served by one worker. `None`, with the
/// reason printed, where this machine does not let us mount.
fn mounted() -> Option<(Arc<Devices>, tempfile::TempDir, Mounted)> {
    let devices = Arc::new(Devices::default());
    devices.add("one", Access::ReadWrite);
    devices.add("two", Access::ReadWrite);
    devices.add("three", Access::ReadOnly);
    let folder = tempfile::tempdir().unwrap();
    let options = FsOptions {
        threads: Some(1),
        ..FsOptions::default()
    };
    match serve(devices.clone(), folder.path(), &options) {
        Ok(mounted) => Some((devices, folder, mounted)),
        Err(error) => {
            println!("not run: {error}");
            None
        }
    }
}

fn open(mounted: &Mounted, name: &str) -> File {
    let path = mounted.mountpoint().join(name);
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap()
}

fn errno_of<T: std::fmt::Debug>(result: std::io::Result<T>) -> Option<i32> {
    result.unwrap_err().raw_os_error()
}

#[test]
fn a_mounted_file_behaves_as_a_block_device() {
    let Some((_devices, _folder, mounted)) = mounted() else {
        return;
    };
    let file = open(&mounted, "one");
    assert_eq!(file.metadata().unwrap().len(), SIZE);
    file.write_all_at(b"hello", 1021).unwrap();
    let mut back = [9; 7];
    file.read_exact_at(&mut back, 1020).unwrap();
    assert_eq!(&back, b"\0hello\0");
    assert_eq!(file.read_at(&mut back, SIZE).unwrap(), 0);
    assert_eq!(file.read_at(&mut back, SIZE - 3).unwrap(), 3);
    assert_eq!(file.write_at(&[1; 7], SIZE - 3).unwrap(), 3);
    assert_eq!(errno_of(file.write_at(&[1], SIZE)), Some(libc::ENOSPC));
    file.sync_all().unwrap();
    let three = open(&mounted, "three");
    assert_eq!(errno_of(three.write_at(&[1], 0)), Some(libc::EPERM));
    assert_eq!(three.read_at(&mut back, 0).unwrap(), 7);
    mounted.unmount(true).unwrap();
}

#[test]
fn a_mounted_file_keeps_its_length() {
    let Some((_devices, _folder, mounted)) = mounted() else {
        return;
    };
    let file = open(&mounted, "one");
    file.write_all_at(b"kept", 0).unwrap();
    assert_eq!(ftruncate(&file, SIZE - 1), Err(Errno::INVAL));
    assert_eq!(ftruncate(&file, 0), Err(Errno::INVAL));
    assert_eq!(ftruncate(&file, SIZE), Ok(()));
    let path = mounted.mountpoint().join("one");
    let truncating = OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(&path)
        .unwrap();
    assert_eq!(truncating.metadata().unwrap().len(), SIZE);
    let mut back = [0; 4];
    file.read_exact_at(&mut back, 0).unwrap();
    assert_eq!(&back, b"kept");
    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode(), 0o100_640);
    let refused = File::create_new(mounted.mountpoint().join("new")).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
    assert_eq!(errno_of(fs::remove_file(&path)), Some(libc::EPERM));
    assert_eq!(
        errno_of(fs::rename(&path, path.with_extension("x"))),
        Some(libc::EPERM)
    );
}

#[test]
fn space_of_a_mounted_file_is_zeroed_and_sought() {
    let Some((_devices, _folder, mounted)) = mounted() else {
        return;
    };
    let file = open(&mounted, "one");
    file.write_all_at(&[7; 8192], 0).unwrap();
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    fallocate(&file, punch, 100, 5000).unwrap();
    let mut back = [9; 8192];
    file.read_exact_at(&mut back, 0).unwrap();
    assert!(
        back[..100]
            .iter()
            .chain(&back[5100..])
            .all(|byte| *byte == 7)
    );
    assert!(back[100..5100].iter().all(|byte| *byte == 0));
    fallocate(&file, FallocateFlags::ZERO_RANGE, 0, 8192).unwrap();
    file.read_exact_at(&mut back, 0).unwrap();
    assert_eq!(back, [0; 8192]);
    fallocate(&file, FallocateFlags::empty(), 0, SIZE).unwrap();
    let beyond = fallocate(&file, FallocateFlags::empty(), 0, SIZE + 1);
    assert_eq!(beyond, Err(Errno::NOSPC));
    let collapse = fallocate(&file, FallocateFlags::COLLAPSE_RANGE, 0, 4096);
    assert_eq!(collapse, Err(Errno::OPNOTSUPP));
    assert_eq!(seek(&file, SeekFrom::Data(0)), Ok(0));
    assert_eq!(seek(&file, SeekFrom::Hole(0)), Ok(8192));
    assert_eq!(seek(&file, SeekFrom::Data(8192)), Err(Errno::NXIO));
    assert_eq!(seek(&file, SeekFrom::Data(SIZE)), Err(Errno::NXIO));
}

#[test]
fn a_suspended_device_does_not_hold_up_another() {
    let Some((devices, _folder, mounted)) = mounted() else {
        return;
    };
    let (one, two) = (open(&mounted, "one"), open(&mounted, "two"));
    let device = devices.by_name("one").unwrap();
    device
        .suspend(SuspendOptions::default(), &mut || true)
        .unwrap();
    let (done, is_done) = mpsc::channel();
    let writer = thread::spawn(move || {
        one.write_all_at(b"late", 3).unwrap();
        one.sync_all().unwrap();
        done.send(()).unwrap();
        one
    });
    // The only worker has taken the write by the time it has served this often.
    for _ in 0..100 {
        two.write_all_at(b"soon", 0).unwrap();
        two.sync_all().unwrap();
    }
    assert!(is_done.try_recv().is_err());
    device
        .resume(SuspendOptions::default(), &mut || true)
        .unwrap();
    let one = writer.join().unwrap();
    let mut back = [0; 4];
    one.read_exact_at(&mut back, 3).unwrap();
    assert_eq!(&back, b"late");
}

#[test]
fn what_changes_is_seen_at_once() {
    let Some((devices, folder, mounted)) = mounted() else {
        return;
    };
    let path = |name: &str| -> PathBuf { folder.path().join(name) };
    let file = open(&mounted, "one");
    let device = devices.by_name("one").unwrap();
    set_table(&device, SECTORS * 2, Access::ReadWrite, &memory());
    mounted.notify(&Change::Changed { id: device.id() });
    assert_eq!(file.metadata().unwrap().len(), SIZE * 2);
    file.write_all_at(b"grown", SIZE).unwrap();

    let identity = Identity {
        name: "uno".into(),
        uuid: String::new(),
    };
    device.set_identity(identity);
    mounted.notify(&Change::Renamed {
        id: device.id(),
        from: "one".into(),
        to: "uno".into(),
    });
    assert!(path("uno").exists() && !path("one").exists());

    let removed = devices.0.lock().remove(0);
    removed.shut_down();
    mounted.notify(&Change::Removed {
        id: removed.id(),
        name: "uno".into(),
    });
    assert!(!path("uno").exists());
    assert_eq!(errno_of(file.write_at(b"x", 0)), Some(libc::ENXIO));
}

/// Remembers of each write whether it was to be durable; takes its time over a flush.
#[derive(Default)]
struct Recorder(Mutex<Vec<bool>>);

impl BlockDev for Recorder {
    fn capacity(&self) -> Sectors {
        Sectors(SECTORS)
    }

    fn limits(&self) -> Limits {
        Limits::default()
    }

    fn submit(&self, request: Request<'_>) -> IoResult {
        match request.op.kind() {
            OpKind::Write => self.0.lock().push(request.flags.fua),
            OpKind::Flush => thread::sleep(Duration::from_millis(10)),
            OpKind::Read | OpKind::Discard | OpKind::WriteZeroes => {}
        }
        Ok(())
    }
}

fn recorder() -> (Arc<Recorder>, Memory) {
    let recorder = Arc::new(Recorder::default());
    let below = Memory(Arc::new(OpenDevice {
        number: DeviceNumber { major: 1, minor: 1 },
        path: "recorder".into(),
        name: "recorder".into(),
        dev: recorder.clone(),
        direct: false,
        mapped: None,
        part: None,
    }));
    (recorder, below)
}

#[test]
fn a_device_whose_flush_takes_long_is_known_for_it() {
    let (devices, front) = front(&["one", "two"]);
    let device = devices.by_name("one").unwrap();
    set_table(&device, SECTORS, Access::ReadWrite, &recorder().1);
    assert!(!front.flush_is_slow(2));
    for id in [2, 2, 3, 3] {
        front.flush(id, Flags::default()).unwrap();
    }
    assert!(front.flush_is_slow(2));
    assert!(!front.flush_is_slow(3) && !front.flush_is_slow(77));
}

#[test]
fn writes_to_a_synchronous_file_are_durable() {
    let Some((devices, _folder, mounted)) = mounted() else {
        return;
    };
    let (recorder, below) = recorder();
    let device = devices.by_name("one").unwrap();
    set_table(&device, SECTORS, Access::ReadWrite, &below);
    let path = mounted.mountpoint().join("one");
    for (flags, durable) in [
        (0, false),
        (libc::O_DSYNC, true),
        (libc::O_SYNC, true),
        (libc::O_DIRECT, false),
    ] {
        let file = OpenOptions::new()
            .write(true)
            .custom_flags(flags)
            .open(&path)
            .unwrap();
        // Page-aligned memory, as O_DIRECT wants it.
        scratch::with(4096, |memory| file.write_all_at(memory, 0)).unwrap();
        assert_eq!(*recorder.0.lock(), [durable], "{flags:#o}");
        recorder.0.lock().clear();
    }
}

#[test]
fn many_devices_are_listed() {
    let devices = Arc::new(Devices::default());
    for number in 0..3000 {
        devices.add(&format!("device-{number}"), Access::ReadWrite);
    }
    let folder = tempfile::tempdir().unwrap();
    let mounted = match serve(devices, folder.path(), &FsOptions::default()) {
        Ok(mounted) => mounted,
        Err(error) => return println!("not run: {error}"),
    };
    let mut names: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 3000);
    let folder = mounted.mountpoint().to_owned();
    assert!(rustix::fs::statfs(&folder).unwrap().f_files == 3001);
    mounted.unmount(false).unwrap();
    assert!(mounted.wait_for(Duration::from_secs(10)));
    mounted.wait().unwrap();
}

#[test]
fn a_second_mount_on_the_same_place_is_refused() {
    let Some((devices, folder, mounted)) = mounted() else {
        return;
    };
    let error = serve(devices, folder.path(), &FsOptions::default())
        .err()
        .unwrap();
    assert!(error.to_string().contains("already"), "{error}");
    let held = open(&mounted, "two");
    let busy = mounted.unmount(false).unwrap_err();
    assert!(busy.to_string().contains("in use"), "{busy}");
    drop(held);
    for _ in 0..1000 {
        // The kernel tells of the close only after it.
        if mounted.unmount(false).is_ok() {
            break;
        }
        thread::yield_now();
    }
    assert!(mounted.wait_for(Duration::from_secs(10)));
}
