//! Programs and file systems over devices that fail on purpose: errors reach whoever has to know, and what was
//! acknowledged is there when the fault has ended.

use crate::model::read;
use crate::support::loop_device::{LoopDevice, Mounted};
use crate::support::mount::Mount;
use crate::support::tools::{self, text, word};
use crate::support::watchdog::Watchdog;
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

const MIB: u64 = 1 << 20;
const SECTORS: u64 = 32 * MIB / 512;

/// Asserts that `result` failed with `expected`.
fn failed<T>(result: io::Result<T>, expected: Errno) {
    let error = result.map(|_| ()).unwrap_err();
    assert_eq!(Errno::from_io_error(&error), Some(expected), "{error}");
}

/// A mount with device `d` of 32 MiB under `row` (`{file}` stands for its file), and an ext4 in it.
struct Disk {
    mount: Mount,
    file: PathBuf,
    at: PathBuf,
}

impl Disk {
    fn new(row: &str) -> Disk {
        let mount = Mount::start();
        let file = mount.backing("file", 32 * MIB);
        mount.create("d", &row.replace("{file}", word(&file)));
        let made = [
            "-q",
            "-F",
            "-b",
            "4096",
            "-E",
            "lazy_itable_init=0,lazy_journal_init=0",
        ];
        let device = mount.device("d");
        tools::run("mkfs.ext4", &[&made[..], &[word(&device)]].concat());
        let at = mount.folder().join("fs");
        fs::create_dir(&at).unwrap();
        Disk { mount, file, at }
    }

    fn attach(&self) -> (LoopDevice, Mounted) {
        let attached = LoopDevice::attach(&self.mount.device("d"), &["--direct-io=on"]);
        let mounted = Mounted::new(attached.path(), &self.at, "errors=remount-ro,noatime");
        (attached, mounted)
    }

    fn message(&self, words: &[&str]) -> String {
        let words = [&["message", "d", "0"], words].concat();
        self.mount.dmfs(&words).must()
    }

    /// Puts another row under the device, while it is in use.
    fn swap(&self, row: &str) {
        let row = row.replace("{file}", word(&self.file));
        self.mount.dmfs_fed(&["load", "d"], &row).must();
        self.mount.dmfs(&["resume", "d"]).must();
    }

    /// Has the file system's journal carried out, and checks the rest.
    fn fsck(&self) {
        let device = self.mount.device("d");
        let said = tools::output("e2fsck", &["-f", "-y", word(&device)]);
        // 1: something was mended, such as what the journal had to say.
        let code = said.status.code();
        let words = text(&said.stdout) + &text(&said.stderr);
        assert!(matches!(code, Some(0 | 1)), "{code:?}: {words}");
        let again = tools::output("e2fsck", &["-f", "-n", word(&device)]);
        assert!(again.status.success(), "{}", text(&again.stdout));
    }
}

/// Opens or makes the database and inserts numbers until that fails, or until `argv[2]` is reached. Prints the last one
/// that was committed, and the error.
const INSERT: &str = "
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
last = 0
try:
    # With FULL the journal that is deleted at a commit may come back.
    db.execute('PRAGMA synchronous = EXTRA')
    db.execute('CREATE TABLE IF NOT EXISTS t (n INTEGER PRIMARY KEY, x BLOB)')
    last = db.execute('SELECT COALESCE(MAX(n), 0) FROM t').fetchone()[0]
    while last < int(sys.argv[2]):
        db.execute('INSERT INTO t VALUES (?, ?)', (last + 1, bytes([last % 251]) * 2000))
        last += 1
    print(last, 'done')
except sqlite3.Error as error:
    print(last, error)
";

/// Checks the database and counts its rows, each of which must be what was inserted.
const CHECK: &str = "
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
assert db.execute('PRAGMA integrity_check').fetchone() == ('ok',)
rows = db.execute('SELECT n, x FROM t ORDER BY n').fetchall()
for at, (n, x) in enumerate(rows):
    assert n == at + 1 and x == bytes([at % 251]) * 2000, n
print(len(rows))
";

fn python(script: &str, words: &[&str]) -> String {
    tools::run("python3", &[&["-c", script], words].concat())
}

/// Inserts up to `goal`; the last number that was committed, and what was said then.
fn insert(database: &Path, goal: &str) -> (u64, String) {
    let said = python(INSERT, &[word(database), goal]);
    let (last, rest) = said.trim().split_once(' ').unwrap();
    (last.parse().unwrap(), rest.to_owned())
}

/// SQLite over a disk that stops taking writes: the commit under way fails, the file system turns read-only, and with
/// the disk back every row that was committed is there.
fn a_database_survives(row: &str, fail: impl Fn(&Disk), mend: impl Fn(&Disk)) {
    let watchdog = Watchdog::of_seconds(180);
    let disk = Disk::new(row);
    watchdog.mind(&disk.mount);
    let (attached, mounted) = disk.attach();
    let database = disk.at.join("database");
    let (before, said) = insert(&database, "30");
    assert_eq!((before, said.as_str()), (30, "done"));
    let log = File::create(disk.at.join("log")).unwrap();
    (&log).write_all(&[1; 5000]).unwrap();

    fail(&disk);
    failed(log.sync_all(), Errno::IO);
    let (acknowledged, said) = insert(&database, "1000000");
    assert!(acknowledged < 1_000_000 && said != "done", "{said}");
    // Whatever is tried first may still be kept in memory; the journal cannot be written.
    let name = |number: u32| disk.at.join(format!("new-{number}"));
    let error = (0..200).find_map(|number| {
        let made = File::create(name(number)).and_then(|file| file.sync_all());
        made.err()
            .filter(|error| Errno::from_io_error(error) == Some(Errno::ROFS))
    });
    assert!(error.is_some(), "still takes writes: {}", mounts());

    mend(&disk);
    drop(log);
    mounted.unmount();
    drop(attached);
    disk.fsck();
    let (_attached, _mounted) = disk.attach();
    let rows: u64 = python(CHECK, &[word(&database)]).trim().parse().unwrap();
    // One more may have reached the disk than was acknowledged.
    assert!(
        rows == acknowledged || rows == acknowledged + 1,
        "{rows} rows, {acknowledged} acknowledged"
    );
    let (more, said) = insert(&database, &(rows + 5).to_string());
    assert_eq!((more, said.as_str()), (rows + 5, "done"));
}

fn mounts() -> String {
    let text = fs::read_to_string("/proc/self/mounts").unwrap();
    text.lines().filter(|line| line.contains("dmfs")).collect()
}

#[test]
fn a_database_survives_a_disk_that_refuses_writes_for_a_while() {
    let row = format!("0 {SECTORS} flakey dmfs:clock=messages {{file}} 0 1 1 1 error_writes");
    let tick = |disk: &Disk| drop(disk.message(&["dmfs:tick"]));
    a_database_survives(&row, tick, tick);
}

#[test]
fn a_database_survives_a_disk_that_is_gone_for_a_while() {
    let linear = format!("0 {SECTORS} linear {{file}} 0");
    let error = format!("0 {SECTORS} error {{file}} 0");
    a_database_survives(&linear, |disk| disk.swap(&error), |disk| disk.swap(&linear));
}

#[test]
fn errors_of_a_flakey_device_reach_who_asks() {
    let watchdog = Watchdog::of_seconds(60);
    let mount = Mount::start();
    watchdog.mind(&mount);
    let file = mount.backing("file", MIB);
    let row = |features: &str| {
        format!(
            "0 2048 flakey dmfs:clock=messages {} 0 1 1 {features}",
            word(&file)
        )
    };
    for (features, reads, writes) in [
        ("", false, false),
        ("1 error_reads", false, true),
        ("1 error_writes", true, false),
        ("1 drop_writes", true, true),
    ] {
        mount.create("d", &row(features));
        let device = mount.open("d");
        device.write_all_at(&[1; 4096], 8192).unwrap();
        device.sync_all().unwrap();
        mount.dmfs(&["message", "d", "0", "dmfs:tick"]).must();
        let outcome = |fine: bool, result: io::Result<()>| match fine {
            true => result.unwrap(),
            false => failed(result, Errno::IO),
        };
        outcome(reads, device.read_exact_at(&mut [0; 4096], 8192));
        outcome(writes, device.write_all_at(&[2; 4096], 8192));
        outcome(writes, device.sync_all());
        // Part of a sector, too, which has to be read first.
        outcome(reads && writes, device.write_all_at(&[2; 100], 8192 + 30));
        mount.dmfs(&["message", "d", "0", "dmfs:tick"]).must();
        let kept = match features {
            "1 error_reads" => 2,
            _ => 1,
        };
        assert_eq!(read(&device, 8192, 4096), [kept; 4096], "{features}");
        drop(device);
        mount.dmfs(&["remove", "d"]).must();
        File::create(&file).unwrap().set_len(MIB).unwrap();
    }
    mount.stop();
}

/// The block of the file system that a file's first bytes lie in.
fn first_block(disk: &Disk, name: &str) -> u64 {
    let device = disk.mount.device("d");
    let said = tools::run("debugfs", &["-R", &format!("bmap {name} 0"), word(&device)]);
    said.trim().parse().unwrap()
}

#[test]
fn a_bad_block_fails_its_reader_until_it_is_written() {
    let watchdog = Watchdog::of_seconds(120);
    let disk = Disk::new(&format!("0 {SECTORS} dust {{file}} 0 4096"));
    watchdog.mind(&disk.mount);
    let file = disk.at.join("file");
    {
        let (_attached, mounted) = disk.attach();
        fs::write(&file, [7; 12288]).unwrap();
        mounted.unmount();
    }
    let block = first_block(&disk, "file").to_string();
    disk.message(&["addbadblock", &block]);
    disk.message(&["enable"]);
    let (_attached, mounted) = disk.attach();
    failed(
        File::open(&file).unwrap().read_exact_at(&mut [0; 4096], 0),
        Errno::IO,
    );
    // Its neighbours are well, if nothing is read ahead of them.
    let direct = rustix::fs::OFlags::DIRECT.bits() as i32;
    let mut well = Aligned([0; 4096]);
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(direct);
    let around = options.open(&file).unwrap();
    around.read_exact_at(&mut well.0, 4096).unwrap();
    assert_eq!(well.0, [7; 4096]);
    assert_eq!(
        disk.message(&["countbadblocks"]),
        "countbadblocks: 1 badblock(s) found\n"
    );
    // Written whole, the disk puts the block elsewhere.
    around.write_all_at(&Aligned([8; 4096]).0, 0).unwrap();
    around.sync_all().unwrap();
    assert_eq!(
        disk.message(&["countbadblocks"]),
        "countbadblocks: 0 badblock(s) found\n"
    );
    drop(around);
    mounted.unmount();
    let (_again, mounted) = disk.attach();
    let mut seen = [0; 12288];
    File::open(&file)
        .unwrap()
        .read_exact_at(&mut seen, 0)
        .unwrap();
    assert_eq!(
        (seen[..4096].to_vec(), seen[4096..].to_vec()),
        (vec![8; 4096], vec![7; 8192])
    );
    mounted.unmount();
}

/// Memory as direct I/O wants it.
#[repr(align(4096))]
struct Aligned([u8; 4096]);

/// A device `slow`, on which each read takes an hour, and `quick`, on which none does, over files of these names.
fn slow_and_quick() -> (Watchdog, Mount) {
    let watchdog = Watchdog::of_seconds(120);
    let mount = Mount::start();
    watchdog.mind(&mount);
    let (slow, quick) = (mount.backing("slow", 4 * MIB), mount.backing("quick", MIB));
    mount.create("slow", &format!("0 8192 delay {} 0 3600000", word(&slow)));
    mount.create("quick", &format!("0 2048 linear {} 0", word(&quick)));
    (watchdog, mount)
}

#[test]
fn a_suspend_lets_go_of_hundreds_that_wait_and_nobody_else_waits_with_them() {
    const READERS: u64 = 300;
    let (_watchdog, mount) = slow_and_quick();
    let device = mount.open("slow");
    File::options()
        .write(true)
        .open(mount.folder().join("slow"))
        .unwrap()
        .write_all_at(&[5; 4096], 8192)
        .unwrap();
    thread::scope(|scope| {
        for number in 0..READERS {
            let device = &device;
            scope.spawn(move || {
                let seen = read(device, number % 8 * 4096, 4096);
                let expected = if number % 8 == 2 { 5 } else { 0 };
                assert_eq!(seen, [expected; 4096]);
            });
        }
        let held = format!("0 8192 delay {READERS} 0 0\n");
        while mount.dmfs(&["status", "slow"]).must() != held {
            thread::sleep(Duration::from_millis(5));
        }
        let beside = mount.open("quick");
        for turn in 0..100 {
            beside.write_all_at(&[turn; 4096], 0).unwrap();
            assert_eq!(read(&beside, 0, 4096), [turn; 4096]);
        }
        assert_eq!(mount.dmfs(&["status", "slow"]).must(), held);
        mount.dmfs(&["suspend", "slow"]).must();
    });
    assert_eq!(
        mount.dmfs(&["status", "slow"]).must(),
        "0 8192 delay 0 0 0\n"
    );
    mount.dmfs(&["resume", "slow"]).must();
    // The end does not wait for an hour, either.
    thread::scope(|scope| {
        scope.spawn(|| device.read_at(&mut [0; 4096], 0));
        while mount.dmfs(&["status", "slow"]).must() != "0 8192 delay 1 0 0\n" {
            thread::sleep(Duration::from_millis(5));
        }
        mount.dmfs(&["suspend", "slow"]).must();
        mount.dmfs(&["resume", "slow"]).must();
    });
    drop(device);
    mount.stop();
}

/// Reads `count` blocks with so many under way at once.
fn read_at_once(file: &Path, count: u64) -> std::process::Child {
    let words = [
        "--name=x".to_owned(),
        format!("--filename={}", word(file)),
        "--rw=read --bs=4k --direct=1 --ioengine=libaio".replace(' ', "\n"),
        format!("--iodepth={count}"),
        format!("--size={}", count * 4096),
    ];
    let words: Vec<&str> = words.iter().flat_map(|words| words.lines()).collect();
    let mut fio = tools::command("fio");
    let fio = fio.args(words).stdout(std::process::Stdio::null());
    fio.spawn()
        .unwrap_or_else(|error| panic!("{}", tools::missing("fio", &error)))
}

#[test]
fn a_thousand_that_are_held_leave_room_for_others() {
    const HELD: u64 = 1000;
    let (_watchdog, mount) = slow_and_quick();
    let mut waits = read_at_once(&mount.device("slow"), HELD);
    let held = format!("0 8192 delay {HELD} 0 0\n");
    while mount.dmfs(&["status", "slow"]).must() != held {
        assert!(waits.try_wait().unwrap().is_none());
        thread::sleep(Duration::from_millis(5));
    }
    let beside = read_at_once(&mount.device("quick"), 32);
    assert!(beside.wait_with_output().unwrap().status.success());
    assert_eq!(mount.dmfs(&["status", "slow"]).must(), held);
    mount.dmfs(&["suspend", "slow"]).must();
    assert!(waits.wait().unwrap().success());
    mount.dmfs(&["resume", "slow"]).must();
    mount.stop();
}

#[test]
fn a_failing_run_repeats() {
    let watchdog = Watchdog::of_seconds(60);
    let mount = Mount::start();
    watchdog.mind(&mount);
    let run = || {
        let file = mount.backing("file", MIB);
        let row = format!(
            "0 2048 flakey dmfs:seed=11,clock=requests {} 0 3 4 2 random_read_corrupt 300000000",
            word(&file)
        );
        mount.create("d", &row);
        let device = mount.open("d");
        let seen: Vec<Vec<u8>> = (0..200).map(|at| read(&device, at * 4096, 4096)).collect();
        drop(device);
        mount.dmfs(&["remove", "d"]).must();
        seen
    };
    let first = run();
    let bad = first.iter().filter(|bytes| **bytes != [0; 4096]).count();
    assert!((5..100).contains(&bad), "{bad} of 200");
    assert!(first == run(), "another run");
    mount.stop();
}
