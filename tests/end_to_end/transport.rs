//! The io_uring transport beside the classic one: what a mount says of it, data, requests that wait, the end.

use crate::support::loop_device::LoopDevice;
use crate::support::mount::{Mount, Said, is_mounted};
use crate::support::tools::{run, word};
use crate::support::transport::{mount_over_rings, with_rings};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::thread;
use std::time::Duration;

const MIB: u64 = 1 << 20;

/// A mount over rings with a device of 16 MiB over a file; `None` where there are no rings.
fn mount() -> Option<Mount> {
    let mount = mount_over_rings(&[])?;
    let file = mount.backing("a", 16 * MIB);
    mount.create("d", &format!("0 32768 linear {} 0\n", file.display()));
    Some(mount)
}

fn transport_of(mount: &Mount) -> String {
    let said: serde_json::Value =
        serde_json::from_str(&mount.dmfs(&["mounts", "--json"]).must()).unwrap();
    let mounts = said.as_array().unwrap();
    let own = mounts
        .iter()
        .find(|one| one["mountpoint"] == word(mount.at()))
        .unwrap();
    own["transport"].as_str().unwrap().to_owned()
}

fn direct(path: &Path) -> File {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_DIRECT)
        .open(path)
        .unwrap()
}

/// Bytes that tell their place.
fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len)
        .map(|at| (at * 7 + at / 251 + seed) as u8)
        .collect()
}

#[test]
fn a_mount_says_how_requests_come_in() {
    let classic = Mount::start_with(&["--transport", "classic"]);
    assert_eq!(transport_of(&classic), "classic");
    classic.stop();
    let Some(rings) = mount() else { return };
    let auto = with_rings(|| Mount::start_with(&["--transport", "auto"])).unwrap();
    assert_eq!(transport_of(&auto), "classic");
    auto.stop();
    assert_eq!(transport_of(&rings), "io_uring");
    rings.stop();
}

#[test]
fn a_transport_that_is_none_is_refused() {
    let mount = Mount::start();
    let at = mount.folder().join("other");
    let words = ["mount", word(&at), "--transport", "uring"];
    let said = Said::from(mount.program("dmfs").args(words).output().unwrap());
    let error = said.must_fail();
    assert!(
        error.contains("expected one of auto, classic, io_uring"),
        "{error}"
    );
    assert!(!at.exists());
    mount.stop();
}

#[test]
fn the_mount_file_chooses_and_the_command_line_has_the_last_word() {
    let file = |transport: &str| format!("transport = \"{transport}\"\n");
    let classic = Mount::from_toml(&file("classic"));
    assert_eq!(transport_of(&classic), "classic");
    classic.stop();
    let chosen = with_rings(|| Mount::from_toml(&file("io_uring")));
    let Ok(rings) = chosen else {
        return eprintln!("not tested further: no rings here");
    };
    assert_eq!(transport_of(&rings), "io_uring");
    let toml = rings.folder().join("mount.toml");
    rings.stop();
    assert!(!toml.exists());
    let mut again = Mount::from_toml(&file("classic"));
    again.signal(rustix::process::Signal::TERM);
    again.wait();
    let words = [
        "mount",
        word(&again.folder().join("mount.toml")),
        word(again.at()),
        "--transport",
        "io_uring",
    ]
    .map(str::to_owned);
    with_rings(|| again.run_daemon(&words)).unwrap();
    assert_eq!(transport_of(&again), "io_uring");
    again.stop();
}

#[test]
fn whatever_length_and_place_data_comes_back() {
    let Some(mount) = mount() else { return };
    let device = mount.open("d");
    let mut model = vec![0; 16 << 20];
    let lens = [
        1,
        511,
        512,
        513,
        4096,
        4097,
        65_536,
        131_071,
        1 << 20,
        (1 << 20) + 3,
        3 << 20,
    ];
    for (round, len) in lens.into_iter().enumerate() {
        for at in [0, 511, 4096, 1_000_003, (16 << 20) - len] {
            let at = at.min((16 << 20) - len);
            let data = pattern(len, round * 31 + at);
            device.write_all_at(&data, at as u64).unwrap();
            model[at..at + len].copy_from_slice(&data);
            let mut back = vec![0; len];
            device.read_exact_at(&mut back, at as u64).unwrap();
            assert!(back == data, "{len} bytes at {at}");
        }
    }
    let mut all = Vec::new();
    (&device).read_to_end(&mut all).unwrap();
    assert!(all == model);
    assert_eq!(std::fs::read(mount.folder().join("a")).unwrap(), model);
    let end = device.write_at(&[1; 512], 16 * MIB).unwrap_err();
    assert_eq!(end.kind(), ErrorKind::StorageFull);
    drop(device);
    mount.stop();
}

#[test]
fn names_attributes_and_listings_come_through_rings() {
    let Some(mount) = mount() else { return };
    for number in 0..300 {
        mount.create(&format!("device-{number:03}"), "0 8 zero\n");
    }
    let mut names: Vec<_> = mount
        .at()
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names.len(), 301);
    assert_eq!((&*names[0], &*names[300]), ("d", "device-299"));
    let device = mount.device("device-007");
    assert_eq!(device.metadata().unwrap().size(), 4096);
    run("chmod", &["640", word(&device)]);
    assert_eq!(device.metadata().unwrap().mode() & 0o777, 0o640);
    assert_eq!(
        mount.device("none").metadata().unwrap_err().kind(),
        ErrorKind::NotFound
    );
    mount.dmfs(&["rename", "device-007", "bond"]).must();
    assert!(mount.device("bond").exists() && !device.exists());
    mount.dmfs(&["remove", "bond"]).must();
    assert!(!mount.device("bond").exists());
    mount.stop();
}

#[test]
fn requests_that_wait_hold_up_nobody_and_keep_their_data() {
    let Some(mount) = mount() else { return };
    mount.create("other", "0 2048 zero\n");
    mount.dmfs(&["suspend", "d"]).must();
    // More than there are entries for all processors.
    let writers: Vec<_> = (0..200_usize)
        .map(|number| {
            let path = mount.device("d");
            thread::spawn(move || {
                let data = pattern(4096, number);
                direct_write(&direct(&path), &data, number as u64 * 4096);
            })
        })
        .collect();
    // Some of them are under way by now; the commands below take their time as well.
    mount.dmfs(&["message", "other", "0", "x"]);
    thread::sleep(Duration::from_millis(50));
    assert!(mount.dmfs(&["info", "d"]).must().contains("SUSPENDED"));
    mount.dmfs(&["resume", "d"]).must();
    for writer in writers {
        writer.join().unwrap();
    }
    let stored = std::fs::read(mount.folder().join("a")).unwrap();
    for number in 0..200 {
        assert!(
            stored[number * 4096..][..4096] == pattern(4096, number),
            "write {number}"
        );
    }
    mount.stop();
}

/// Through memory as O_DIRECT wants it.
fn direct_write(file: &File, data: &[u8], at: u64) {
    let room = vec![0; data.len() + 4096];
    let skip = room.as_ptr().align_offset(4096);
    let mut room = room;
    room[skip..skip + data.len()].copy_from_slice(data);
    file.write_all_at(&room[skip..skip + data.len()], at)
        .unwrap();
}

#[test]
fn fio_verifies_through_rings() {
    let Some(mount) = mount() else { return };
    let verify = |file: &Path, block: &str| {
        let words = [
            "--name=verify".to_owned(),
            "--rw=randwrite".to_owned(),
            format!("--bs={block}"),
            "--iodepth=32".to_owned(),
            "--ioengine=libaio".to_owned(),
            "--direct=1".to_owned(),
            "--size=16m".to_owned(),
            "--verify=crc32c".to_owned(),
            "--verify_fatal=1".to_owned(),
            "--verify_state_save=0".to_owned(),
            format!("--filename={}", word(file)),
        ];
        run("fio", &words);
    };
    verify(&mount.device("d"), "4k");
    verify(&mount.device("d"), "1m");
    let attached = LoopDevice::attach(&mount.device("d"), &["--direct-io=on"]);
    verify(attached.path(), "4k");
    drop(attached);
    mount.stop();
}

#[test]
fn a_mount_over_rings_ends_by_force_under_load() {
    let Some(mut mount) = mount() else { return };
    mount.dmfs(&["suspend", "d"]).must();
    let writers: Vec<_> = (0..40_u64)
        .map(|number| {
            let device = mount.open("d");
            thread::spawn(move || device.write_at(&[1; 4096], number * 4096).is_err())
        })
        .collect();
    thread::sleep(Duration::from_millis(50));
    mount.dmfs(&["umount", "--force"]).must();
    for writer in writers {
        writer.join().unwrap();
    }
    assert!(mount.wait().success(), "{}", mount.log());
    assert!(!is_mounted(mount.at()));
}

#[test]
fn a_killed_daemon_leaves_nobody_waiting() {
    let Some(mut mount) = mount() else { return };
    let device = mount.open("d");
    mount.dmfs(&["suspend", "--noflush", "d"]).must();
    let waiting = thread::spawn(move || device.write_at(&[1; 4096], 0).unwrap_err().kind());
    thread::sleep(Duration::from_millis(50));
    mount.signal(rustix::process::Signal::KILL);
    mount.wait();
    assert_ne!(waiting.join().unwrap(), ErrorKind::Other);
}
