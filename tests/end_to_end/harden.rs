//! A loop device over our file while memory is short: the writer and the daemon in one control group that has less
//! memory than is written.
//!
//! Unhardened this deadlocks beyond any signal and takes every `sync` of the machine along, so each test holds the
//! file open that cuts the connection, and cuts it when its time is over.

use crate::support::mount::{new_folder, put_programs};
use crate::support::tools::{command, path_variable, text};
use dmfs::daemon::connection::Connection;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// What the group may have, MiB, and what is written.
const ALLOWED: u64 = 150;
const WRITTEN: u64 = 300;
const PATIENCE: Duration = Duration::from_secs(90);

/// A control group with little memory, removed when dropped.
struct Group {
    folder: PathBuf,
    ended: bool,
}

impl Group {
    fn new(name: &str) -> Group {
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap();
        let (root, limit) = match groups.contains(":memory:") {
            true => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            false => ("/sys/fs/cgroup", "memory.max"),
        };
        let folder = Path::new(root).join(format!("dmfs-test-{name}-{}", std::process::id()));
        fs::create_dir(&folder)
            .unwrap_or_else(|error| panic!("{}: {error} (root is needed)", folder.display()));
        let bytes = (ALLOWED << 20).to_string();
        fs::write(folder.join(limit), bytes).unwrap_or_else(|error| {
            panic!("{limit}: {error}: no memory controller in the groups of this machine")
        });
        Group {
            folder,
            ended: false,
        }
    }

    fn procs(&self) -> PathBuf {
        self.folder.join("cgroup.procs")
    }

    fn remove(mut self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while fs::remove_dir(&self.folder).is_err() {
            assert!(Instant::now() < deadline, "the group is not empty");
            thread::sleep(Duration::from_millis(20));
        }
        self.ended = true;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.ended {
            let _ = fs::remove_dir(&self.folder);
        }
    }
}

/// What everybody does: in the group, an ext4 on a loop device over a device file, and more written to it than there
/// is memory. `$1` is the group's list of processes. `mount` mounts,
/// `attach` sets `loop`, `check` may look at the daemon, `$pid`.
fn script(mount: &str, attach: &str, check: &str) -> String {
    format!(
        "set -ex
        fallocate -l 512M file
        mkdir fs
        echo $$ >$1
        dmfs {mount} mnt
        dmfs create d --table \"0 1048576 linear $PWD/file 0\"
        stat -c %d mnt >device.tmp
        mv device.tmp device
        {attach}
        pid=$(dmfs mounts --json | grep -o '\"pid\": *[0-9]*' | grep -o '[0-9]*$')
        grep -q 'VmLck:.*[1-9]' /proc/$pid/status
        {check}
        mkfs.ext4 -q -F $loop
        mount $loop fs
        dd if=/dev/zero of=fs/much bs=1M count={WRITTEN} status=none
        sync -f fs
        test $(stat -c %s fs/much) = $(({WRITTEN} * 1048576))
        umount fs
        dmfs detach d
        dmfs umount mnt
        "
    )
}

/// Runs `script` in a group of its own and says how it ended; cuts the connection when it takes too long.
fn run(name: &str, script: &str) {
    let (folder, at) = new_folder();
    let folder = folder.path();
    put_programs(folder);
    let group = Group::new(name);
    let path = format!("{}:{}", folder.display(), path_variable());
    let mut child = command("unshare")
        .args(["-m", "--propagation", "private", "sh", "-c", script, "sh"])
        .arg(group.procs())
        .current_dir(folder)
        .env("XDG_RUNTIME_DIR", folder.join("run"))
        .env("DMFS_LOG", "info")
        .env("DMFS_MOUNT", &at)
        .env("PATH", path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(fs::File::create(folder.join("log")).unwrap())
        .spawn()
        .unwrap();
    let (over, is_over) = channel::<()>();
    let device = folder.join("device");
    let minder = thread::spawn(move || {
        // Before anything is written the way out is open.
        let begun = Instant::now();
        let mut connection = None;
        while begun.elapsed() < PATIENCE {
            if connection.is_none()
                && let Ok(number) = fs::read_to_string(&device)
            {
                connection = Connection::of(number.trim().parse().unwrap()).ok();
            }
            match is_over.recv_timeout(Duration::from_millis(20)) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
        let cut = connection.map(|connection| connection.cut());
        eprintln!("not over after {PATIENCE:?}: cut the connection: {cut:?}");
        true
    });
    let status = child.wait().unwrap();
    drop(over);
    let was_cut = minder.join().unwrap();
    let log = text(&fs::read(folder.join("log")).unwrap());
    println!("{log}");
    assert!(!was_cut, "it deadlocked:\n{log}");
    assert!(status.success(), "{status}:\n{log}");
    assert!(!log.contains("watchdog"), "{log}");
    group.remove();
}

#[test]
fn a_hardened_mount_leaves_a_limited_group() {
    let mount = "mount --harden --background";
    let moved = "! grep -qx $pid $1";
    run("leaves", &script(mount, "loop=$(dmfs attach d)", moved));
}

#[test]
fn attaching_a_loop_device_hardens_what_can_be() {
    let moved = "! grep -qx $pid $1";
    let script = script("mount --background", "loop=$(dmfs attach d)", moved);
    run("attach", &script);
}
