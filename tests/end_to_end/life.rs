//! Suspend, resume, the control socket, and how a daemon ends.

use crate::files::wait_until;
use crate::model::{assert_equal, read};
use crate::support::mount::{Mount, is_mounted};
use crate::support::tools::word;
use rustix::io::Errno;
use rustix::process::Signal;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

const MIB: u64 = 1 << 20;

/// A mount with devices `a`, `b`, ... of 1 MiB, each over a file of its name.
fn devices(names: &[&str]) -> Mount {
    let mount = Mount::start();
    for name in names {
        let file = mount.backing(&format!("{name}.img"), MIB);
        mount.create(name, &format!("0 2048 linear {} 0\n", file.display()));
    }
    mount
}

#[test]
fn a_suspended_device_holds_its_own_requests_and_no_others() {
    let mount = devices(&["held", "free"]);
    mount.dmfs(&["suspend", "held"]).must();
    let (held, free) = (mount.open("held"), mount.open("free"));
    let (done, waiting) = channel();
    thread::scope(|scope| {
        // More requests than the front has workers: they must not take the workers along.
        for index in 0..32_u64 {
            let (held, done) = (&held, done.clone());
            scope.spawn(move || {
                held.write_all_at(&[index as u8 + 1; 512], index * 512)
                    .unwrap();
                done.send(index).unwrap();
            });
        }
        for round in 0..100_u64 {
            free.write_all_at(&[round as u8; 4096], round * 4096)
                .unwrap();
            assert_eq!(read(&free, round * 4096, 1), [round as u8]);
        }
        let info = mount.dmsetup(&["info", "held"]).must();
        assert!(info.contains("State:             SUSPENDED"), "{info}");
        mount.create("new", "0 8 zero\n");
        assert_eq!(read(&mount.open("new"), 0, 8), [0; 8]);
        mount.dmfs(&["remove", "new"]).must();
        assert_eq!(
            waiting.recv_timeout(Duration::from_millis(200)),
            Err(RecvTimeoutError::Timeout),
            "a write to the suspended device finished"
        );
        mount.dmfs(&["resume", "held"]).must();
        for _ in 0..32 {
            waiting.recv_timeout(Duration::from_secs(30)).unwrap();
        }
    });
    for index in 0..32_u64 {
        assert_eq!(read(&held, index * 512, 1), [index as u8 + 1]);
    }
    drop((held, free));
    mount.stop();
}

#[test]
fn requests_that_waited_go_to_the_new_table() {
    let mount = devices(&["d"]);
    let other = mount.backing("other.img", MIB);
    let device = mount.open("d");
    device.write_all_at(&[1; 512], 0).unwrap();
    mount.dmfs(&["suspend", "d"]).must();
    thread::scope(|scope| {
        let writer = scope.spawn(|| device.write_all_at(&[2; 512], 512));
        let table = format!("0 2048 linear {} 0\n", other.display());
        mount.dmfs_fed(&["load", "d"], &table).must();
        mount.dmfs(&["resume", "d"]).must();
        writer.join().unwrap().unwrap();
    });
    let (old, new) = (
        fs::read(mount.folder().join("d.img")).unwrap(),
        fs::read(&other).unwrap(),
    );
    // The write may have been before the suspend or after it, but in one place only.
    assert_eq!(old[0], 1);
    assert_eq!(u8::from(old[512] == 2) + u8::from(new[512] == 2), 1);
    drop(device);
    mount.stop();
}

#[test]
fn sigterm_drains_flushes_and_unmounts() {
    let mut mount = devices(&["d"]);
    let at = mount.at().to_owned();
    let device = mount.open("d");
    let data: Vec<u8> = (0..MIB).map(|index| (index % 251) as u8).collect();
    device.write_all_at(&data, 0).unwrap();
    drop(device);
    mount.signal(Signal::TERM);
    let status = mount.wait();
    assert!(status.success(), "{status}: {}", mount.log());
    assert!(!is_mounted(&at));
    assert_equal(
        &fs::read(mount.folder().join("d.img")).unwrap(),
        &data,
        "the file below",
    );
    let left: Vec<_> = fs::read_dir(mount.runtime().join("dmfs"))
        .map(|entries| entries.map(|entry| entry.unwrap().path()).collect())
        .unwrap_or_default();
    assert!(left.is_empty(), "left behind: {left:?}");
}

#[test]
fn control_c_ends_it_the_same_way() {
    let mut mount = devices(&["d"]);
    let at = mount.at().to_owned();
    mount.signal(Signal::INT);
    let status = mount.wait();
    assert!(status.success(), "{status}: {}", mount.log());
    assert!(!is_mounted(&at));
}

/// Writes numbered sectors to device `d` round and round until told to stop or refused.
fn write_numbers(mount: &Mount, written: &AtomicU64, stop: &AtomicBool) {
    let device = mount.open("d");
    for round in 1..=u64::MAX {
        let sector = round.to_le_bytes().repeat(64);
        let at = round % 2048 * 512;
        if stop.load(Ordering::SeqCst) || device.write_all_at(&sector, at).is_err() {
            return;
        }
        written.store(round, Ordering::SeqCst);
    }
}

/// Every write up to the last that returned is in the file, unless a later one took its place.
fn assert_written(file: &Path, last: u64) {
    let below = fs::read(file).unwrap();
    for round in last.saturating_sub(2000).max(1)..=last {
        let at = (round % 2048 * 512) as usize;
        let found = u64::from_le_bytes(below[at..at + 8].try_into().unwrap());
        assert!(
            found == round || found > last,
            "write {round} of {last} returned, and {found} is there"
        );
    }
}

#[test]
fn sigterm_waits_for_who_has_a_device_open() {
    let mut mount = devices(&["d"]);
    let at = mount.at().to_owned();
    let (written, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let count = || written.load(Ordering::SeqCst);
    thread::scope(|scope| {
        // The writer borrows the mount; the daemon is told to end by its number.
        let writer = scope.spawn(|| write_numbers(&mount, &written, &stop));
        wait_until(|| count() > 200);
        mount.signal(Signal::TERM);
        wait_until(|| !is_mounted(&at));
        let then = count();
        wait_until(|| count() > then + 200);
        stop.store(true, Ordering::SeqCst);
        writer.join().unwrap();
    });
    let status = mount.wait();
    assert!(status.success(), "{status}: {}", mount.log());
    assert!(
        mount.log().contains(&std::process::id().to_string()),
        "{}",
        mount.log()
    );
    assert_written(&mount.folder().join("d.img"), count());
}

#[test]
fn a_second_sigterm_ends_it_at_once_and_loses_no_write_that_returned() {
    let mut mount = devices(&["d"]);
    let at = mount.at().to_owned();
    let (written, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let count = || written.load(Ordering::SeqCst);
    thread::scope(|scope| {
        let writer = scope.spawn(|| write_numbers(&mount, &written, &stop));
        wait_until(|| count() > 200);
        mount.signal(Signal::TERM);
        wait_until(|| !is_mounted(&at));
        mount.signal(Signal::TERM);
        writer.join().unwrap();
    });
    mount.wait();
    assert!(!is_mounted(&at));
    assert_written(&mount.folder().join("d.img"), count());
}

#[test]
fn a_killed_daemon_leaves_enotconn_and_a_new_mount_takes_its_place() {
    let mut mount = devices(&["d"]);
    mount.open("d").write_all_at(b"safe", 0).unwrap();
    let device = mount.open("d");
    mount.signal(Signal::KILL);
    assert!(!mount.wait().success());
    let mut byte = [0];
    for error in [
        device.read_at(&mut byte, 0).unwrap_err(),
        fs::read_dir(mount.at()).map(|_| ()).unwrap_err(),
        File::open(mount.device("other")).unwrap_err(),
    ] {
        assert_eq!(error.raw_os_error(), Some(Errno::NOTCONN.raw_os_error()));
    }
    drop(device);
    let words = ["mount", word(mount.at())].map(str::to_owned);
    mount.run_daemon(&words);
    assert_eq!(mount.dmfs(&["ls"]).must(), "No devices found\n");
    let file = mount.folder().join("d.img");
    mount.create("d", &format!("0 2048 linear {} 0\n", file.display()));
    assert_eq!(read(&mount.open("d"), 0, 4), b"safe");
    mount.stop();
}

#[test]
fn commands_answer_while_the_devices_are_busy() {
    let mount = devices(&["d", "s"]);
    mount.dmfs(&["suspend", "s"]).must();
    let (stop, writes) = (AtomicBool::new(false), AtomicU64::new(0));
    let waiter = mount.open("s");
    thread::scope(|scope| {
        let held = scope.spawn(|| waiter.write_all_at(b"x", 0));
        for _ in 0..4 {
            scope.spawn(|| {
                let device = mount.open("d");
                while !stop.load(Ordering::Relaxed) {
                    device.write_all_at(&[7; 65_536], 0).unwrap();
                    writes.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        wait_until(|| writes.load(Ordering::Relaxed) > 20);
        for verb in [
            "ls", "info", "status", "table", "deps", "targets", "version",
        ] {
            mount.dmfs(&[verb]).must();
            mount.dmsetup(&[verb]).must();
        }
        stop.store(true, Ordering::Relaxed);
        mount.dmfs(&["resume", "s"]).must();
        held.join().unwrap().unwrap();
    });
    drop(waiter);
    mount.stop();
}

#[test]
fn unmount_says_who_holds_the_mount() {
    let mut mount = devices(&["d"]);
    let at = mount.at().to_owned();
    let held = File::open(mount.device("d")).unwrap();
    let refused = mount.dmfs(&["umount", word(&at)]);
    assert!(!refused.status.success());
    assert!(
        refused.err.contains(&std::process::id().to_string()),
        "no holder named: {}",
        refused.err
    );
    assert!(is_mounted(&at));
    drop(held);
    // The kernel tells us of the last close a moment after close() returned.
    wait_until(|| {
        let said = mount.dmfs(&["umount", word(&at)]);
        println!("{}", said.err);
        said.status.success()
    });
    assert!(mount.wait().success());
    assert!(!is_mounted(&at));
}

#[test]
fn a_second_daemon_on_the_same_mountpoint_is_refused() {
    let mount = devices(&["d"]);
    let said = mount.shell(&format!("dmfs mount {}", mount.at().display()));
    assert!(!said.status.success());
    assert!(
        said.err.contains(word(mount.at())),
        "it does not say where: {}",
        said.err
    );
    mount.open("d").write_all_at(b"x", 0).unwrap();
    mount.stop();
}

#[test]
fn a_rename_wakes_who_waits_for_an_event_and_a_table_swap_does_not() {
    let mount = devices(&["d"]);
    let events = |name: &str| {
        let said = mount.dmsetup(&["info", "-c", "--noheadings", "-o", "events", name]);
        said.must().trim().to_owned()
    };
    thread::scope(|scope| {
        let waiter = scope.spawn(|| mount.dmfs(&["wait", "d", "0"]).must());
        let table = mount.dmfs(&["table", "d"]).must();
        mount.dmfs_fed(&["load", "d"], &table).must();
        mount.dmfs(&["resume", "d"]).must();
        assert_eq!(events("d"), "0");
        assert!(!waiter.is_finished());
        // Whether it waits already or comes too late: the number has changed either way.
        mount.dmfs(&["rename", "d", "e"]).must();
        mount.dmfs(&["rename", "e", "d"]).must();
        waiter.join().unwrap();
    });
    assert_eq!(events("d"), "2");
    mount.stop();
}
