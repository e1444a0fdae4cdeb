//! Daemons that are stopped, told to end, cut off from the kernel, or not alone.

use super::Ledger;
use crate::files::wait_until;
use crate::support::control::Control;
use crate::support::loop_device::LoopDevice;
use crate::support::mount::{Mount, is_mounted, new_folder};
use crate::support::tools::{self, command, word};
use crate::support::watchdog::Watchdog;
use dmfs::daemon::connection::Connection;
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::Signal;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
const TABLE: &str = "0 8192 linear file 0\n";

/// A mount with the device `d` of 4 MiB over `file` in its folder.
fn one_device(watchdog: &Watchdog) -> Mount {
    let mount = Mount::start();
    watchdog.mind(&mount);
    mount.backing("file", 4 * MIB);
    let said = mount.shell(&format!("echo '{TABLE}' | dmfs create d"));
    said.must();
    mount
}

/// Writes records until refused; counts those that were acknowledged.
fn write_on(mut ledger: Ledger, device: &File, count: &AtomicU64) -> (Ledger, io::Error) {
    loop {
        match ledger.write(device) {
            Ok(()) => count.fetch_add(1, Ordering::SeqCst),
            Err(error) => return (ledger, error),
        };
    }
}

#[test]
fn a_stopped_daemon_holds_its_users_and_goes_on_where_it_was() {
    let watchdog = Watchdog::of_seconds(90);
    let mount = one_device(&watchdog);
    let device = mount.open("d");
    let mut ledger = Ledger::new(0, 64);
    for _ in 0..100 {
        ledger.write(&device).unwrap();
    }
    mount.signal(Signal::STOP);
    let (done, waiting) = channel();
    thread::scope(|scope| {
        let (ledger, device) = (&mut ledger, &device);
        scope.spawn(move || {
            for _ in 0..100 {
                ledger.write(device).unwrap();
            }
            done.send(()).unwrap();
        });
        assert_eq!(
            waiting.recv_timeout(Duration::from_millis(200)),
            Err(RecvTimeoutError::Timeout),
            "somebody answers while the daemon is stopped"
        );
        // A command does not wait for good, and says for whom it waited.
        let asked = Instant::now();
        let said = mount.dmfs(&["table"]);
        assert!(!said.status.success());
        assert!(
            said.err.contains(&format!("process {}", mount.pid())),
            "{}",
            said.err
        );
        assert!(asked.elapsed() < Duration::from_secs(30));
        mount.signal(Signal::CONT);
        waiting.recv_timeout(Duration::from_secs(30)).unwrap();
    });
    assert_eq!(ledger.acknowledged, 200);
    ledger.check(&device);
    mount.dmfs(&["table"]).must();
    drop(device);
    mount.stop();
}

#[test]
fn sigterm_under_load_loses_nothing_that_fsync_acknowledged() {
    let watchdog = Watchdog::of_seconds(90);
    let mut mount = one_device(&watchdog);
    let at = mount.at().to_owned();
    let count = AtomicU64::new(0);
    let ended = thread::scope(|scope| {
        let writers: Vec<_> = (0..8)
            .map(|index| {
                let (device, count) = (mount.open("d"), &count);
                scope.spawn(move || write_on(Ledger::new(index * 100, 100), &device, count))
            })
            .collect();
        wait_until(|| count.load(Ordering::SeqCst) > 500);
        mount.signal(Signal::TERM);
        wait_until(|| !is_mounted(&at));
        // It goes on for those who have the device open.
        let then = count.load(Ordering::SeqCst);
        wait_until(|| count.load(Ordering::SeqCst) > then + 500);
        mount.signal(Signal::TERM);
        let ended = writers.into_iter().map(|writer| writer.join().unwrap());
        ended.collect::<Vec<_>>()
    });
    mount.wait();
    let file = File::open(mount.folder().join("file")).unwrap();
    for (ledger, error) in &ended {
        let errno = Errno::from_io_error(error);
        let refused = [Errno::NOTCONN, Errno::CONNABORTED, Errno::NXIO, Errno::IO];
        assert!(errno.is_some_and(|it| refused.contains(&it)), "{error}");
        ledger.check(&file);
    }
}

#[test]
fn a_cut_connection_ends_the_daemon_with_a_word_and_everything_flushed() {
    let watchdog = Watchdog::of_seconds(90);
    let mut mount = one_device(&watchdog);
    let device = mount.open("d");
    let connection = Connection::of(device.metadata().unwrap().dev()).unwrap();
    let count = AtomicU64::new(0);
    let (ledger, error) = thread::scope(|scope| {
        let writer = scope.spawn(|| write_on(Ledger::new(0, 64), &device, &count));
        wait_until(|| count.load(Ordering::SeqCst) > 200);
        connection.cut().unwrap();
        writer.join().unwrap()
    });
    let errno = Errno::from_io_error(&error);
    assert!(
        matches!(errno, Some(Errno::NOTCONN | Errno::CONNABORTED)),
        "{error}"
    );
    let status = mount.wait();
    assert_eq!(status.code(), Some(1), "{}", mount.log());
    assert!(mount.log().contains("cut"), "{}", mount.log());
    ledger.check(&File::open(mount.folder().join("file")).unwrap());
    left_nothing(&mount);
    drop(device);
    // The place is free for the next one.
    mount.run_daemon(&["mount", word(mount.at())].map(str::to_owned));
    mount.stop();
}

#[test]
fn a_forced_unmount_by_somebody_else_ends_the_daemon() {
    for is_used in [false, true] {
        let watchdog = Watchdog::of_seconds(90);
        let mut mount = one_device(&watchdog);
        let device = is_used.then(|| mount.open("d"));
        // What `umount -f` does; in use, it cuts the connection and leaves the mount where it is.
        let forced = unmount(mount.at(), UnmountFlags::FORCE);
        let status = mount.wait();
        match is_used {
            true => assert_eq!(forced, Err(Errno::BUSY)),
            false => assert!(forced.is_ok()),
        }
        assert_eq!(status.success(), !is_used, "{}", mount.log());
        assert_eq!(mount.log().contains("cut"), is_used, "{}", mount.log());
        left_nothing(&mount);
        drop(device);
    }
}

/// Neither a mount nor a socket.
fn left_nothing(mount: &Mount) {
    assert!(!is_mounted(mount.at()), "{}", mount.log());
    let left: Vec<_> = fs::read_dir(mount.runtime().join("dmfs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

/// A program that holds the mount until its standard input ends, and has said that it does.
fn holder(mount: &Mount, script: &str) -> Child {
    let mut child = command("sh")
        .args(["-c", script])
        .current_dir(mount.folder())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = [0];
    io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut said).unwrap();
    child
}

#[test]
fn unmount_names_every_sort_of_holder_and_takes_nothing_away() {
    let watchdog = Watchdog::of_seconds(90);
    let mount = one_device(&watchdog);
    let at = word(mount.at()).to_owned();
    let refused = || {
        let said = mount.dmfs(&["umount", &at]);
        assert!(!said.status.success());
        assert!(is_mounted(mount.at()));
        said.err
    };
    for script in [
        "exec 3<mnt/d; echo; exec sed q",
        "exec 3>>mnt/d; echo; exec sed q",
        "cd mnt; echo; exec sed q",
    ] {
        let mut child = holder(&mount, script);
        let said = refused();
        let named = format!("sed (pid {})", child.id());
        wait_until(|| refused().contains(&named) || said.contains(&named));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let mut mapped = holder(
        &mount,
        "exec python3 -c '
import mmap, os, sys
fd = os.open(\"mnt/d\", os.O_RDWR)
held = mmap.mmap(fd, 4096)
os.close(fd)
print(flush=True)
sys.stdin.read()'",
    );
    let said = refused();
    assert!(said.contains(&format!("(pid {})", mapped.id())), "{said}");
    mapped.kill().unwrap();
    mapped.wait().unwrap();
    let attached = LoopDevice::attach(&mount.device("d"), &["--direct-io=on"]);
    let said = refused();
    assert!(said.contains(attached.word()), "{said}");
    drop(attached);
    wait_until(|| mount.dmfs(&["ls"]).status.success());
    let mut ledger = Ledger::new(0, 8);
    let device = mount.open("d");
    ledger.write(&device).unwrap();
    ledger.check(&device);
    drop(device);
    mount.stop();
}

#[test]
fn a_second_daemon_on_one_image_is_refused_and_comes_in_when_the_first_has_died() {
    let watchdog = Watchdog::of_seconds(90);
    let mut first = one_device(&watchdog);
    let device = first.open("d");
    let mut ledger = Ledger::new(0, 64);
    for _ in 0..64 {
        ledger.write(&device).unwrap();
    }
    // From a mount file, so that the second daemon has to end again.
    let (folder, at) = new_folder();
    let file = first.folder().join("file");
    let toml = folder.path().join("mount.toml");
    let text = format!(
        "[[device]]\nname = \"d\"\ntable = \"0 8192 linear {} 0\"\n",
        file.display()
    );
    fs::write(&toml, text).unwrap();
    let words = ["mount", word(&toml), word(&at)].map(str::to_owned);
    let refused = command(env!("CARGO_BIN_EXE_dmfs"))
        .args(&words)
        .env("XDG_RUNTIME_DIR", folder.path().join("run"))
        .output()
        .unwrap();
    assert!(!refused.status.success());
    let said = tools::text(&refused.stderr);
    let named = format!("process {} (dmfs)", first.pid());
    assert!(said.contains(&named), "{said}");
    assert!(said.contains(word(&file)), "{said}");
    assert!(!is_mounted(&at), "{said}");
    ledger.write(&device).unwrap();
    ledger.check(&device);
    first.signal(Signal::KILL);
    assert!(!first.wait().success());
    let second = Mount::launch(folder, at, &[], &words);
    watchdog.mind(&second);
    ledger.check(&second.open("d"));
    let mut byte = [0];
    let dead = device.read_at(&mut byte, 0).unwrap_err();
    assert_eq!(Errno::from_io_error(&dead), Some(Errno::NOTCONN));
    drop(device);
    second.stop();
}

#[test]
fn a_daemon_that_asks_about_its_own_files_can_be_killed() {
    // A thread that waits for an answer of its own process kept that from ending, and its users waited for good.
    let watchdog = Watchdog::of_seconds(180);
    for round in 0..25 {
        let mut mount = Mount::start();
        watchdog.mind(&mount);
        mount.create("d", "0 8 zero\n");
        let device = mount.open("d");
        let asked = AtomicU64::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                let (mut control, asked) = (Control::connect(&mount), &asked);
                // Refused, for it is open; but the daemon asks the kernel for news of the last close first.
                scope.spawn(move || {
                    while control.try_remove("d").is_ok() {
                        asked.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
            wait_until(|| asked.load(Ordering::SeqCst) > 20 + round);
            mount.signal(Signal::KILL);
        });
        assert!(!mount.wait().success());
        let dead = device.read_at(&mut [0], 0).unwrap_err();
        assert_eq!(Errno::from_io_error(&dead), Some(Errno::NOTCONN));
    }
}
