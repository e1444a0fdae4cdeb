//! Power cuts: what log-writes logged of a file system and of SQLite on it, in every state that a cut could have left.

use crate::support::loop_device::{LoopDevice, Mounted};
use crate::support::mount::{Mount, Said};
use crate::support::tools::{command, run, word};
use std::fs;
use std::path::{Path, PathBuf};

/// Sectors of the disk; ext4 on it has a journal of 4 MiB.
const DISK: u64 = 65536;
/// As many as a test can afford; `DMFS_CRASH_STATES` asks for more.
const STATES: u32 = 40;

/// A mount whose device `logged` is an ext4 file system, as a loop device has it; the log begins behind `mkfs`.
struct Logged {
    mount: Mount,
    base: PathBuf,
    log: PathBuf,
}

impl Logged {
    fn new() -> Logged {
        let mount = Mount::start();
        let base = mount.backing("base.img", DISK * 512);
        run("mkfs.ext4", &["-q", "-F", "-b", "4096", word(&base)]);
        let disk = mount.folder().join("disk.img");
        run("cp", &["--sparse=always", word(&base), word(&disk)]);
        let log = mount.backing("log.img", 128 << 20);
        let table = format!("0 {DISK} log-writes {} {}", disk.display(), log.display());
        mount.create("logged", &table);
        Logged { mount, base, log }
    }

    /// Has `work` done on the file system, and ends the log.
    fn work(&self, options: &str, work: impl FnOnce(&Path)) {
        let attached = LoopDevice::attach(&self.mount.device("logged"), &["--direct-io=on"]);
        let at = self.mount.folder().join("fs");
        fs::create_dir(&at).unwrap();
        let mounted = Mounted::new(attached.path(), &at, options);
        work(&at);
        mounted.unmount();
        drop(attached);
        self.mount.dmfs(&["remove", "--retry", "logged"]).must();
    }

    /// Puts a program into the mount's folder.
    fn program(&self, name: &str, text: &str) -> PathBuf {
        let path = self.mount.folder().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn crash_states(&self, check: &str, options: &[&str]) -> Said {
        let states = std::env::var("DMFS_CRASH_STATES").unwrap_or(STATES.to_string());
        let mut words = vec!["crash-states", word(&self.base), word(&self.log)];
        // ext4 counts on its superblock being written as a whole.
        words.extend(["--atomic", "4096", "--check", check, "--states", &states]);
        words.extend(options);
        self.mount.dmfs(&words)
    }
}

/// Recovers the journal as a mount would, and then wants a file system without a fault.
const FSCK: &str = "e2fsck -fy -E journal_only {} >/dev/null 2>&1; e2fsck -fn {}";

#[test]
fn ext4_is_whole_after_every_power_cut() {
    let logged = Logged::new();
    logged.work("noatime", |at| {
        for number in 0..12 {
            let folder = at.join(format!("folder-{number}"));
            fs::create_dir(&folder).unwrap();
            let file = folder.join("file");
            fs::write(&file, vec![number; 9000]).unwrap();
            fs::File::open(&file).unwrap().sync_all().unwrap();
            if number % 3 == 2 {
                fs::remove_dir_all(at.join(format!("folder-{}", number - 1))).unwrap();
            }
        }
    });
    let said = logged.crash_states(FSCK, &[]).must();
    assert!(said.contains(" states, all good (entries 0 to "), "{said}");
    logged.mount.stop();
}

/// Commits rows and marks each in the log once it is acknowledged.
const WORK: &str = r#"
import sqlite3, subprocess, sys
path, mode, synchronous, n = sys.argv[1:5]
db = sqlite3.connect(path, isolation_level=None)
db.execute(f"pragma journal_mode={mode}")
db.execute(f"pragma synchronous={synchronous}")
db.execute("create table t(i integer primary key, v blob)")
for i in range(1, int(n) + 1):
    db.execute("begin")
    db.execute("insert into t values(?, randomblob(3000))", (i,))
    db.execute("update t set v = randomblob(2000) where i = ?", (i // 2,))
    db.execute("commit")
    mark = ["dmfs", "message", "logged", "0", "mark", f"acknowledged-{i}"]
    subprocess.run(mark, check=True)
"#;

/// Recovers the file system, and wants a sound database with every row that was acknowledged.
const CHECK: &str = r#"
import os, sqlite3, subprocess, sys, tempfile
state, mark = os.environ["DMFS_STATE"], os.environ["DMFS_MARK"]
acknowledged = int(mark.split("-")[1]) if mark.startswith("acknowledged-") else 0
subprocess.run(["e2fsck", "-fy", "-E", "journal_only", state], stdout=subprocess.DEVNULL)
with tempfile.TemporaryDirectory() as folder:
    subprocess.run(["debugfs", "-R", f"rdump / {folder}", state], check=True, stderr=subprocess.DEVNULL)
    db = sqlite3.connect(f"{folder}/db")
    sound = db.execute("pragma integrity_check").fetchone()[0]
    rows = db.execute("select count(*) from t").fetchone()[0] if acknowledged else 0
if sound != "ok" or rows < acknowledged:
    sys.exit(f"{sound}: {rows} rows, {acknowledged} acknowledged")
"#;

/// Runs SQLite in `mode` on a logged file system, and the check over its states.
fn sqlite(mode: &str, synchronous: &str, options: &[&str]) -> Said {
    let logged = Logged::new();
    let program = logged.program("work.py", WORK);
    let check = logged.program("check.py", CHECK);
    logged.work("noatime", |at| {
        let mut command = command("python3");
        let database = at.join("db");
        let words = [word(&program), word(&database), mode, synchronous, "8"];
        logged.mount.environment(command.args(words));
        assert!(command.status().unwrap().success());
    });
    let said = logged.crash_states(&format!("python3 {}", check.display()), options);
    logged.mount.stop();
    said
}

#[test]
fn where_flushes_promise_nothing_acknowledged_rows_are_lost() {
    let said = sqlite("wal", "full", &["--ignore-flushes"]).must_fail();
    assert!(said.contains("states checked are bad"), "{said}");
    assert!(said.contains("to see it: dmfs crash-states"), "{said}");
}

#[test]
fn sqlite_loses_nothing_acknowledged_with_a_write_ahead_log() {
    let said = sqlite("wal", "full", &[]).must();
    assert!(said.contains(" states, all good"), "{said}");
}

#[test]
fn sqlite_loses_nothing_acknowledged_with_a_rollback_journal() {
    // With `full` the journal's removal is not durable, and a power cut brings the last transaction back to nothing.
    let said = sqlite("delete", "extra", &[]).must();
    assert!(said.contains(" states, all good"), "{said}");
}

#[test]
fn what_sqlite_loses_without_syncing_is_found() {
    let said = sqlite("delete", "off", &[]).must_fail();
    assert!(said.contains("states checked are bad"), "{said}");
    assert!(said.contains("last mark acknowledged-"), "{said}");
}

#[test]
fn the_log_of_a_live_device_is_the_kernel_s_to_the_entry() {
    let mount = Mount::start();
    let (disk, log) = (
        mount.backing("disk", 1 << 20),
        mount.backing("log", 1 << 20),
    );
    let table = format!("0 2048 log-writes {} {}", disk.display(), log.display());
    mount.create("d", &table);
    let device = mount.device("d");
    let dd = |words: &[&str]| {
        let to = format!("of={}", device.display());
        run(
            "dd",
            &[&[to.as_str(), "if=/dev/zero", "status=none"], words].concat(),
        )
    };
    dd(&["bs=4k", "count=1", "seek=3", "conv=notrunc,fsync"]);
    mount.dmfs(&["message", "d", "0", "mark", "first"]).must();
    run(
        "fallocate",
        &["-p", "-o", "8192", "-l", "4096", word(&device)],
    );
    dd(&["bs=512", "count=1", "seek=1", "oflag=dsync", "conv=notrunc"]);
    assert_eq!(
        mount.dmfs(&["status", "d"]).must(),
        "0 2048 log-writes 6 15\n"
    );
    let refused = mount.dmsetup(&["message", "d", "0", "mark"]);
    assert!(refused.must_fail().contains("message ioctl on d"));
    mount.dmfs(&["remove", "d"]).must();
    let list = mount.dmfs(&["log-writes", "list", word(&log)]).must();
    let expected = [
        "entry     sector  sectors  what",
        "    0         24        8  write",
        "    1          0        0  flush",
        "    2          0        0  mark first",
        "    3         16        8  discard",
        "    4          0        0  flush",
        "    5          1        1  write fua",
        "    6          0        0  mark dm-log-writes-end",
    ];
    assert_eq!(list.lines().collect::<Vec<_>>(), expected);
    let again = mount.backing("again", 1 << 20);
    mount
        .dmfs(&["log-writes", "replay", word(&log), word(&again)])
        .must();
    assert!(fs::read(disk).unwrap() == fs::read(again).unwrap());
    mount.stop();
}

#[test]
fn states_are_shown_until_the_mount_is_taken_away() {
    let mount = Mount::start();
    let (disk, log) = (
        mount.backing("disk", 1 << 20),
        mount.backing("log", 1 << 20),
    );
    let base = mount.backing("base", 1 << 20);
    let table = format!("0 2048 log-writes {} {}", disk.display(), log.display());
    mount.create("d", &table);
    fs::write(mount.device("d"), [1; 8192]).unwrap();
    mount.dmfs(&["remove", "--retry", "d"]).must();
    let at = mount.folder().join("states");
    let mut command = mount.program("dmfs");
    command.args(["crash-states", word(&base), word(&log), word(&at)]);
    let mut shows = command
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = std::io::BufReader::new(shows.stdout.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut said, &mut line).unwrap();
    assert!(line.contains(" states (entries 0 to 2, seed 1)"), "{line}");
    let names = |at: &Path| {
        let entries = fs::read_dir(at).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect::<Vec<_>>()
    };
    assert!(names(&at).contains(&"000001-all".to_owned()));
    assert!(fs::read(at.join("000000-all")).unwrap() == vec![0; 1 << 20]);
    assert!(fs::read(at.join("000001-all")).unwrap()[..8192] == [1; 8192]);
    fs::write(at.join("000001-none"), [2; 100]).unwrap();
    assert_eq!(
        fs::read(at.join("000001-none")).unwrap()[..512]
            .iter()
            .max(),
        Some(&2)
    );
    assert!(fs::read(at.join("000000-all")).unwrap() == vec![0; 1 << 20]);
    assert!(fs::read(&base).unwrap() == vec![0; 1 << 20]);
    run("umount", &[word(&at)]);
    assert!(shows.wait().unwrap().success());
    assert!(!at.exists());
    mount.stop();
}

#[test]
fn what_is_wrong_is_told_and_nothing_is_left_mounted() {
    let mount = Mount::start();
    let log = mount.backing("log", 4096);
    let refused = |words: &[&str]| mount.dmfs(words).must_fail();
    let said = refused(&["crash-states", word(&log), word(&log)]);
    assert!(said.contains("expected a MOUNTPOINT"), "{said}");
    let at = mount.folder().join("states");
    let said = refused(&["crash-states", word(&log), word(&log), word(&at)]);
    assert!(said.contains("superblock: magic: expected"), "{said}");
    assert!(!at.exists());
    let said = refused(&[
        "crash-states",
        word(&log),
        word(&log),
        "--atomic",
        "x",
        "--check",
        "true",
    ]);
    assert!(
        said.contains("option --atomic: expected a number"),
        "{said}"
    );
    let said = refused(&["log-writes", "list", "/nowhere"]);
    assert!(said.contains("/nowhere: No such file"), "{said}");
    let said = refused(&["log-writes", "show", word(&log)]);
    assert!(
        said.contains("expected list LOG, find LOG or replay LOG DEVICE"),
        "{said}"
    );
    let said = refused(&["log-writes", "list", word(&log), "--every", "day"]);
    assert!(
        said.contains("expected a number of entries, flush or fua"),
        "{said}"
    );
    mount.stop();
}
