//! A device file behaves as a file of fixed size.

use crate::model::{Dice, assert_equal, contents, read};
use crate::support::mount::{Mount, Said, size};
use crate::support::tools::{run, text, word};
use rustix::fs::{
    FallocateFlags, FileType, Mode, OFlags, SeekFrom, fallocate, fstatvfs, ftruncate, open, seek,
};
use rustix::io::Errno;
use rustix::mm::{MapFlags, MsyncFlags, ProtFlags, mmap, msync, munmap};
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown};
use std::process::Command;
use std::ptr;
use std::thread;

const MIB: u64 = 1 << 20;

/// A mount with device `d`: two files of 1 MiB, one after the other.
fn two_halves() -> Mount {
    let mount = Mount::start();
    let (a, b) = (mount.backing("a", MIB), mount.backing("b", MIB));
    mount.create(
        "d",
        &format!(
            "0 2048 linear {} 0\n2048 2048 linear {} 0\n",
            a.display(),
            b.display()
        ),
    );
    mount
}

#[test]
fn dd_of_odd_sizes_writes_what_it_writes_to_a_plain_file() {
    let mount = two_halves();
    let model = mount.backing("model", 2 * MIB);
    let source = mount.folder().join("source");
    let mut dice = Dice::new(1);
    fs::write(&source, dice.bytes(300_000)).unwrap();
    for (size, count, skip, at) in [
        (1, 1, 0, 0),
        (511, 3, 7, 1),
        (513, 5, 1, 2045),
        (4097, 9, 3, 200),
        (65_537, 2, 0, 15),
        (100_003, 2, 1, 10),
        (3, 1000, 5, 349_000),
    ] {
        for target in [mount.device("d"), model.clone()] {
            run(
                "dd",
                &[
                    format!("if={}", source.display()),
                    format!("of={}", target.display()),
                    format!("bs={size}"),
                    format!("count={count}"),
                    format!("skip={skip}"),
                    format!("seek={at}"),
                    "conv=notrunc".into(),
                    "status=none".into(),
                ],
            );
        }
    }
    run("cmp", &[word(&mount.device("d")), word(&model)]);
    let out = mount.folder().join("out");
    run(
        "dd",
        &[
            format!("if={}", mount.device("d").display()),
            format!("of={}", out.display()),
            "bs=7777".into(),
            "skip=3".into(),
            "count=50".into(),
            "status=none".into(),
        ],
    );
    let whole = fs::read(&model).unwrap();
    assert_equal(
        &fs::read(out).unwrap(),
        &whole[3 * 7777..53 * 7777],
        "what dd read",
    );
    mount.stop();
}

#[test]
fn random_reads_and_writes_agree_with_a_plain_file() {
    let mount = two_halves();
    let device = mount.open("d");
    let model = OpenOptions::new()
        .read(true)
        .write(true)
        .open(mount.backing("model", 2 * MIB))
        .unwrap();
    let mut dice = Dice::new(2);
    for _ in 0..400 {
        let at = dice.below(2 * MIB);
        let len = (dice.below(20_000) + 1).min(2 * MIB - at) as usize;
        if dice.below(2) == 0 {
            let data = dice.bytes(len);
            device.write_all_at(&data, at).unwrap();
            model.write_all_at(&data, at).unwrap();
        } else {
            assert_equal(&read(&device, at, len), &read(&model, at, len), "a read");
        }
    }
    device.sync_all().unwrap();
    assert_equal(&contents(&device), &contents(&model), "the whole");
    drop(device);
    mount.stop();
}

#[test]
fn the_end_of_the_device_is_the_end_of_the_file() {
    let mount = two_halves();
    let device = mount.open("d");
    let mut beyond = [0; 8];
    assert_eq!(device.read_at(&mut beyond, 2 * MIB).unwrap(), 0);
    assert_eq!(device.read_at(&mut beyond, 2 * MIB - 3).unwrap(), 3);
    let error = device.write_at(b"x", 2 * MIB).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::NOSPC.raw_os_error()));
    // What fits is written, as at the end of a block device.
    assert_eq!(device.write_at(b"abcdef", 2 * MIB - 4).unwrap(), 4);
    assert_eq!(read(&device, 2 * MIB - 4, 4), b"abcd");
    drop(device);
    mount.stop();
}

#[test]
fn neighbours_in_one_sector_keep_each_others_bytes() {
    let mount = two_halves();
    let paths: Vec<_> = (0..4).map(|_| mount.device("d")).collect();
    const ROUNDS: u8 = 200;
    thread::scope(|scope| {
        for (writer, path) in paths.iter().enumerate() {
            scope.spawn(move || {
                let device = OpenOptions::new().write(true).open(path).unwrap();
                for round in 1..=ROUNDS {
                    for sector in 0..4_u64 {
                        let at = 1024 * 1024 - 1024 + sector * 512 + writer as u64 * 101 + 13;
                        device.write_all_at(&[round; 101], at).unwrap();
                    }
                }
            });
        }
    });
    let device = mount.open("d");
    for sector in 0..4_u64 {
        let data = read(&device, MIB - 1024 + sector * 512, 512);
        let mut expected = vec![0; 512];
        expected[13..13 + 404].fill(ROUNDS);
        assert_equal(&data, &expected, &format!("sector {sector}"));
    }
    drop(device);
    mount.stop();
}

#[test]
fn a_shared_writable_mapping_reaches_the_files_below() {
    let mount = two_halves();
    let device = mount.open("d");
    device.write_all_at(b"before", 4096).unwrap();
    let mut dice = Dice::new(3);
    let data = dice.bytes(3 * 4096);
    // The mapping lies across both rows.
    let at = MIB - 4096;
    map_and_store(&device, at, &data);
    device.sync_all().unwrap();
    assert_equal(&read(&device, at, data.len()), &data, "read after msync");
    let (a, b) = (
        fs::read(mount.folder().join("a")).unwrap(),
        fs::read(mount.folder().join("b")).unwrap(),
    );
    assert_equal(&a[MIB as usize - 4096..], &data[..4096], "first file");
    assert_equal(&b[..8192], &data[4096..], "second file");
    assert_eq!(read(&device, 4096, 6), b"before");
    drop(device);
    mount.stop();
}

/// Stores `data` at `at` of `file` through a shared mapping and waits until it is written.
#[allow(unsafe_code)]
fn map_and_store(file: &File, at: u64, data: &[u8]) {
    // SAFETY: the kernel chooses the address of a fresh mapping of `data.len()` bytes, which lies
    // within the file; nothing else knows the mapping, and it is unmapped after its last use.
    unsafe {
        let place = mmap(
            ptr::null_mut(),
            data.len(),
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::SHARED,
            file,
            at,
        )
        .unwrap();
        ptr::copy_nonoverlapping(data.as_ptr(), place.cast(), data.len());
        msync(place, data.len(), MsyncFlags::SYNC).unwrap();
        munmap(place, data.len()).unwrap();
    }
}

#[test]
fn punched_holes_and_zeroed_ranges_read_zero_and_give_space_back() {
    let mount = two_halves();
    let device = mount.open("d");
    let mut model = Dice::new(4).bytes(2 * MIB as usize);
    device.write_all_at(&model, 0).unwrap();
    device.sync_all().unwrap();
    let full = fs::metadata(mount.folder().join("a")).unwrap().blocks();
    let keep = FallocateFlags::KEEP_SIZE;
    for (mode, at, len) in [
        (FallocateFlags::PUNCH_HOLE | keep, 65_536, 524_288),
        (FallocateFlags::PUNCH_HOLE | keep, MIB - 8192, 16_384),
        (FallocateFlags::ZERO_RANGE | keep, MIB + 100_000, 77_777),
        (FallocateFlags::ZERO_RANGE, MIB + 300_000, 1),
        (FallocateFlags::PUNCH_HOLE | keep, 1001, 5),
    ] {
        fallocate(&device, mode, at, len).unwrap();
        model[at as usize..(at + len) as usize].fill(0);
        assert_equal(&contents(&device), &model, &format!("{mode:?} {at} {len}"));
    }
    let after = fs::metadata(mount.folder().join("a")).unwrap().blocks();
    assert!(after + 1000 < full, "{full} blocks before, {after} after");
    assert_eq!(device.metadata().unwrap().len(), 2 * MIB);
    drop(device);
    mount.stop();
}

#[test]
fn other_fallocates_are_refused_or_change_nothing() {
    let mount = two_halves();
    let device = mount.open("d");
    device.write_all_at(b"stays", 0).unwrap();
    for mode in [FallocateFlags::COLLAPSE_RANGE, FallocateFlags::INSERT_RANGE] {
        let refused = fallocate(&device, mode, 0, 4096).unwrap_err();
        assert_eq!(refused, Errno::OPNOTSUPP, "{mode:?}");
    }
    assert!(fallocate(&device, FallocateFlags::empty(), 0, 4 * MIB).is_err());
    assert_eq!(device.metadata().unwrap().len(), 2 * MIB);
    assert_eq!(read(&device, 0, 5), b"stays");
    drop(device);
    mount.stop();
}

#[test]
fn seeking_finds_data_and_holes() {
    let mount = two_halves();
    let device = mount.open("d");
    device.write_all_at(&[1; 4096], 262_144).unwrap();
    device.write_all_at(&[1; 4096], MIB + 524_288).unwrap();
    device.sync_all().unwrap();
    let mut found = Vec::new();
    let mut at = 0;
    loop {
        let data = match seek(&device, SeekFrom::Data(at)) {
            Ok(data) => data,
            Err(error) => {
                assert_eq!(error, Errno::NXIO);
                break;
            }
        };
        let hole = seek(&device, SeekFrom::Hole(data)).unwrap();
        found.push((data, hole));
        at = hole;
    }
    assert_eq!(
        found,
        [(262_144, 266_240), (MIB + 524_288, MIB + 528_384)],
        "the places of data"
    );
    assert_eq!(seek(&device, SeekFrom::Hole(0)), Ok(0));
    assert_eq!(seek(&device, SeekFrom::Data(2 * MIB)), Err(Errno::NXIO));
    drop(device);
    mount.stop();
}

#[test]
fn zero_rows_are_holes_and_error_rows_are_not() {
    let mount = Mount::start();
    mount.create("z", "0 1024 zero\n1024 1024 error\n");
    let device = File::open(mount.device("z")).unwrap();
    assert_eq!(seek(&device, SeekFrom::Data(0)), Ok(524_288));
    assert_eq!(seek(&device, SeekFrom::Hole(0)), Ok(0));
    drop(device);
    mount.stop();
}

#[test]
fn synchronous_and_direct_writes_arrive() {
    let mount = two_halves();
    let path = mount.device("d");
    for (at, flags) in [
        (512, OFlags::DSYNC),
        (4096, OFlags::SYNC),
        (8192, OFlags::DIRECT),
        (12_288, OFlags::DIRECT | OFlags::DSYNC),
    ] {
        let device =
            File::from(open(&path, OFlags::RDWR | OFlags::CLOEXEC | flags, Mode::empty()).unwrap());
        let data = vec![at as u8 / 2 + 1; 4096];
        device.write_all_at(&data, at).unwrap();
        assert_equal(&read(&device, at, 4096), &data, &format!("{flags:?}"));
        let below = File::open(mount.folder().join("a")).unwrap();
        assert_equal(&read(&below, at, 4096), &data, "the file below");
        device.sync_data().unwrap();
    }
    let before = counted(&mount, "flushes");
    mount.open("d").sync_all().unwrap();
    assert!(counted(&mount, "flushes") > before, "fsync is a flush");
    mount.stop();
}

/// A counter of device `d`.
fn counted(mount: &Mount, which: &str) -> u64 {
    use crate::support::control::Control;
    use dmfs::control::protocol::json::{JsonReply, JsonRequest};
    let request = JsonRequest::Counters {
        name: Some("d".into()),
        measure: None,
    };
    match Control::connect(mount).ask(&request) {
        JsonReply::Counters { devices } => {
            let value = serde_json::to_value(&devices[0]).unwrap();
            value[which].as_u64().unwrap()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn attributes_tell_the_truth_and_can_be_changed() {
    let mount = two_halves();
    let path = mount.device("d");
    let before = fs::metadata(&path).unwrap();
    assert!(before.file_type().is_file());
    assert_eq!(before.len(), 2 * MIB);
    assert_eq!(before.mode() & 0o7777, 0o600);
    assert_eq!(before.nlink(), 1);
    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    chown(&path, Some(12), Some(34)).unwrap();
    let after = fs::metadata(&path).unwrap();
    assert_eq!(after.mode() & 0o7777, 0o640);
    assert_eq!((after.uid(), after.gid()), (12, 34));
    mount.open("d").write_all_at(&[1; 65_536], 0).unwrap();
    let below: u64 = ["a", "b"]
        .iter()
        .map(|name| fs::metadata(mount.folder().join(name)).unwrap().blocks())
        .sum();
    assert!(below >= 128);
    assert_eq!(fs::metadata(&path).unwrap().ino(), before.ino());
    mount.stop();
}

#[test]
fn the_file_system_counts_its_devices() {
    let mount = two_halves();
    let folder = File::open(mount.at()).unwrap();
    let stat = fstatvfs(&folder).unwrap();
    assert!(stat.f_bsize >= 512);
    assert!(
        stat.f_blocks * stat.f_frsize >= 2 * MIB,
        "{} blocks of {}",
        stat.f_blocks,
        stat.f_frsize
    );
    assert!(stat.f_namemax >= 127);
    run("df", &[word(mount.at())]);
    drop(folder);
    mount.stop();
}

#[test]
fn truncating_is_refused_but_for_the_size_there_is() {
    let mount = two_halves();
    let device = mount.open("d");
    device.write_all_at(b"stays", 0).unwrap();
    for wrong in [0, 512, 2 * MIB - 1, 2 * MIB + 512] {
        let refused = ftruncate(&device, wrong).unwrap_err();
        assert!(
            [Errno::INVAL, Errno::PERM, Errno::OPNOTSUPP].contains(&refused),
            "{wrong}: {refused}"
        );
    }
    // O_TRUNC means nothing on a block device, and programs use it: mkfs, dd and cp do.
    let opened = OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(mount.device("d"));
    assert!(opened.is_ok(), "{opened:?}");
    drop(opened);
    assert_eq!(device.metadata().unwrap().len(), 2 * MIB);
    assert_eq!(read(&device, 0, 5), b"stays");
    drop(device);
    mount.stop();
}

#[test]
fn files_come_and_go_by_commands_alone() {
    let mount = two_halves();
    let path = mount.device("d");
    assert!(File::create(mount.device("new")).is_err());
    assert!(fs::create_dir(mount.device("folder")).is_err());
    assert!(fs::remove_file(&path).is_err());
    assert!(fs::rename(&path, mount.device("other")).is_err());
    assert!(fs::hard_link(&path, mount.device("other")).is_err());
    assert!(path.exists());
    mount.stop();
}

#[test]
fn a_device_grows_while_it_is_open() {
    let mount = two_halves();
    let device = mount.open("d");
    device.write_all_at(b"first", 0).unwrap();
    let c = mount.backing("c", MIB);
    let table = format!(
        "{}4096 2048 linear {} 0\n",
        mount.dmfs(&["table", "d"]).must(),
        c.display()
    );
    mount.dmfs_fed(&["load", "d"], &table).must();
    assert_eq!(device.metadata().unwrap().len(), 2 * MIB);
    mount.dmfs(&["resume", "d"]).must();
    assert_eq!(device.metadata().unwrap().len(), 3 * MIB);
    assert_eq!(size(&mount.device("d")), 3 * MIB);
    device.write_all_at(b"last", 3 * MIB - 4).unwrap();
    assert_eq!(&fs::read(c).unwrap()[MIB as usize - 4..], b"last");
    assert_eq!(read(&device, 0, 5), b"first");
    drop(device);
    mount.stop();
}

#[test]
fn an_open_device_is_renamed_and_not_removed() {
    let mount = two_halves();
    let device = mount.open("d");
    device.write_all_at(b"held", 0).unwrap();
    let error = mount.dmsetup(&["remove", "d"]).must_fail();
    assert_eq!(
        error,
        "device-mapper: remove ioctl on d  failed: Device or resource busy\nCommand failed.\n"
    );
    mount.dmfs(&["rename", "d", "e"]).must();
    assert!(!mount.device("d").exists());
    assert_eq!(read(&device, 0, 4), b"held");
    device.write_all_at(b"kept", 0).unwrap();
    assert_eq!(read(&mount.open("e"), 0, 4), b"kept");
    mount.dmfs(&["remove", "--deferred", "e"]).must();
    assert!(
        mount
            .dmsetup(&["info", "e"])
            .must()
            .contains("DEFERRED REMOVE")
    );
    assert_eq!(read(&device, 0, 4), b"kept");
    drop(device);
    // The kernel tells us of the last close a moment after close() returned.
    wait_until(|| !mount.dmfs(&["info", "e"]).status.success());
    wait_until(|| !mount.device("e").exists());
    mount.stop();
}

/// Looks until `done`; fails after ten seconds.
pub fn wait_until(mut done: impl FnMut() -> bool) {
    use std::time::{Duration, Instant};
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < deadline, "it does not come");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn ten_thousand_devices_are_listed() {
    let mount = Mount::start();
    const DEVICES: usize = 10_000;
    let spec: Vec<String> = (0..DEVICES)
        .map(|index| format!("d{index:05},,,rw,0 {} zero", index + 1))
        .collect();
    mount
        .dmfs_fed(&["create", "--concise"], &spec.join(";"))
        .must();
    let names: BTreeSet<String> = fs::read_dir(mount.at())
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            assert!(entry.file_type().unwrap().is_file());
            entry.file_name().into_string().unwrap()
        })
        .collect();
    assert_eq!(names.len(), DEVICES);
    assert_eq!(size(&mount.device("d09999")), 10_000 * 512);
    assert_eq!(
        run("find", &[word(mount.at()), "-size", "-2b", "-type", "f"])
            .lines()
            .count(),
        1
    );
    assert_eq!(mount.dmfs(&["ls"]).must().lines().count(), DEVICES);
    mount.dmfs(&["remove_all"]).must();
    assert_eq!(fs::read_dir(mount.at()).unwrap().count(), 0);
    mount.stop();
}

#[test]
fn errors_below_reach_the_reader() {
    let mount = Mount::start();
    mount.create("e", "0 8 zero\n8 8 error\n");
    let device = mount.open("e");
    assert_eq!(read(&device, 0, 4096), vec![0; 4096]);
    let mut data = [0; 512];
    for at in [4096, 4097, 8191 - 511] {
        let error = device.read_exact_at(&mut data, at).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::IO.raw_os_error()), "{at}");
    }
    let error = device.write_all_at(&data, 4096).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::IO.raw_os_error()));
    let said = Said::from(
        Command::new("dd")
            .args([
                &format!("if={}", mount.device("e").display()),
                "of=/dev/null",
            ])
            .env("LC_ALL", "C")
            .output()
            .unwrap(),
    );
    assert!(
        text(said.err.as_bytes()).contains("Input/output error"),
        "{}",
        said.err
    );
    drop(device);
    mount.stop();
}

#[test]
fn the_folder_holds_regular_files_only() {
    let mount = two_halves();
    let folder = File::open(mount.at()).unwrap();
    let listed = rustix::fs::Dir::read_from(&folder).unwrap();
    for entry in listed {
        let entry = entry.unwrap();
        let name = entry.file_name().to_str().unwrap();
        if !name.starts_with('.') {
            assert_eq!((name, entry.file_type()), ("d", FileType::RegularFile));
        }
    }
    drop(folder);
    mount.stop();
}
