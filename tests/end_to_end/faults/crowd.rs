//! Too much of everything: callers who flood the socket, a thousand clients, ten thousand devices, no descriptors.

use super::Ledger;
use crate::model::{Dice, read};
use crate::support::control::{Control, socket};
use crate::support::mount::{Mount, new_folder};
use crate::support::tools::word;
use crate::support::watchdog::Watchdog;
use dmfs::control::protocol::frame::{self, Kind, Request};
use dmfs::control::protocol::json::{JsonReply, JsonRequest};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
/// More than the daemon keeps at once.
const FLOOD: usize = 1100;

/// The test program opens as many files as it may.
fn allow_many_files() {
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, most).unwrap();
}

/// A figure of the daemon's memory, in KiB: `VmRSS`, or `VmHWM` for the most there was.
fn memory(mount: &Mount, figure: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", mount.pid())).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with(figure))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn connect(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).unwrap();
    // Whoever is not read from must not hold the test.
    stream
        .set_write_timeout(Some(Duration::from_millis(20)))
        .unwrap();
    stream
}

/// A request that announces `length` bytes, without them.
fn header(kind: u16, length: u32) -> Vec<u8> {
    let mut header = b"DMFS\x01\x00".to_vec();
    header.extend(kind.to_le_bytes());
    header.extend(0_u32.to_le_bytes());
    header.extend(length.to_le_bytes());
    header
}

/// Sends what it can of `bytes`: the daemon may have hung up, or not want more.
fn send(stream: &mut UnixStream, bytes: &[u8]) {
    let _ = stream.write_all(bytes);
}

/// Bothers the daemon in one way until `is_over`.
fn bother(way: u64, path: &Path, is_over: &AtomicBool) {
    let mut dice = Dice::new(way);
    let mut kept = Vec::new();
    let question = Request {
        kind: Kind::Json,
        command: 0,
        payload: serde_json::to_vec(&JsonRequest::Dump { keys: false }).unwrap(),
    };
    while !is_over.load(Ordering::SeqCst) {
        let mut stream = connect(path);
        match way {
            // Says nothing.
            0 => {}
            // Noise.
            1 => {
                let len = 1 + dice.below(2000) as usize;
                send(&mut stream, &dice.bytes(len));
            }
            // Half a header.
            2 => send(&mut stream, &header(1, 64)[..7]),
            // Half of the longest message.
            3 => {
                send(&mut stream, &header(1, 64 << 20));
                send(&mut stream, &vec![0; 32 << 20]);
            }
            // A message that is longer than any, and one that is no JSON.
            4 => {
                send(&mut stream, &header(2, u32::MAX));
                send(&mut stream, &header(2, 4));
                send(&mut stream, b"{{{{");
            }
            // Questions whose answers are not read.
            _ => while frame::write_request(&mut stream, &question).is_ok() {},
        }
        kept.push(stream);
        if kept.len() >= FLOOD / 4 {
            let gone = dice.below(kept.len() as u64) as usize;
            kept.swap_remove(gone);
            thread::sleep(Duration::from_millis(1));
        }
    }
}

#[test]
fn who_floods_the_socket_holds_up_nobody_and_takes_little_memory() {
    let watchdog = Watchdog::of_seconds(120);
    allow_many_files();
    let mount = Mount::start();
    watchdog.mind(&mount);
    let file = mount.backing("file", MIB);
    mount.create("d", &format!("0 2048 linear {} 0\n", file.display()));
    for index in 0..100 {
        mount.create(&format!("z{index}"), "0 8 zero\n");
    }
    let path = socket(&mount);
    let is_over = AtomicBool::new(false);
    let mut asked = 0;
    thread::scope(|scope| {
        for way in 0..6 {
            let (path, is_over) = (&path, &is_over);
            scope.spawn(move || bother(way, path, is_over));
        }
        let begun = Instant::now();
        let device = mount.open("d");
        let mut ledger = Ledger::new(0, 16);
        while begun.elapsed() < Duration::from_secs(8) {
            let before = Instant::now();
            assert_eq!(mount.dmfs(&["ls"]).must().lines().count(), 101);
            mount.create("new", "0 8 zero\n");
            mount.dmfs(&["remove", "new"]).must();
            let took = before.elapsed();
            assert!(
                took < Duration::from_secs(20),
                "three commands took {took:?}"
            );
            ledger.write(&device).unwrap();
            asked += 3;
        }
        is_over.store(true, Ordering::SeqCst);
        ledger.check(&device);
    });
    let most = memory(&mount, "VmHWM");
    println!("{asked} commands answered; {most} KiB at most");
    assert!(most < 512 << 10, "{most} KiB");
    assert_eq!(mount.dmfs(&["ls"]).must().lines().count(), 101);
    mount.stop();
}

#[test]
fn a_thousand_clients_at_once_are_all_served() {
    const CLIENTS: usize = 1000;
    let watchdog = Watchdog::of_seconds(180);
    allow_many_files();
    let mount = Mount::start();
    watchdog.mind(&mount);
    let file = mount.backing("file", CLIENTS as u64 * 8192);
    mount.create(
        "d",
        &format!("0 {} linear {} 0\n", CLIENTS * 16, file.display()),
    );
    let barrier = Barrier::new(CLIENTS);
    let ledgers = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for index in 0..CLIENTS {
            let (mount, barrier, ledgers) = (&mount, &barrier, &ledgers);
            let client = move || {
                let mut control = Control::connect(mount);
                let device = mount.open("d");
                barrier.wait();
                // All have a connection and the device open.
                let mut ledger = Ledger::new(index as u64 * 2, 2);
                for _ in 0..3 {
                    ledger.write(&device).unwrap();
                    match control.ask(&JsonRequest::MountInfo {}) {
                        JsonReply::Mount(about) => assert_eq!(about.devices, 1),
                        other => panic!("{other:?}"),
                    }
                }
                barrier.wait();
                ledger.check(&device);
                ledgers.lock().unwrap().push(ledger);
            };
            thread::Builder::new()
                .stack_size(256 << 10)
                .spawn_scoped(scope, client)
                .unwrap();
        }
    });
    let below = fs::File::open(&file).unwrap();
    let ledgers = ledgers.into_inner().unwrap();
    assert_eq!(ledgers.len(), CLIENTS);
    for ledger in &ledgers {
        ledger.check(&below);
    }
    mount.stop();
}

#[test]
fn ten_thousand_devices_are_made_used_and_removed_in_little_time_and_memory() {
    const DEVICES: u64 = 10_000;
    let watchdog = Watchdog::of_seconds(180);
    let mount = Mount::start();
    watchdog.mind(&mount);
    let file = mount.backing("file", DEVICES * 512);
    mount.create("first", "0 8 zero\n");
    let before = memory(&mount, "VmRSS");
    let begun = Instant::now();
    let spec: Vec<String> = (0..DEVICES)
        .map(|index| format!("d{index},,,rw,0 1 linear {} {index}", file.display()))
        .collect();
    mount
        .dmfs_fed(&["create", "--concise"], &spec.join(";"))
        .must();
    let listed = mount.dmfs(&["ls"]).must().lines().count();
    assert_eq!(listed as u64, DEVICES + 1);
    let made = begun.elapsed();
    let each = (memory(&mount, "VmRSS") - before) * 1024 / DEVICES;
    for index in (0..DEVICES).step_by(101) {
        use std::os::unix::fs::FileExt;
        let device = mount.open(&format!("d{index}"));
        let data = [index as u8 | 1; 512];
        device.write_all_at(&data, 0).unwrap();
        assert_eq!(read(&device, 0, 512), data);
        assert_eq!(device.metadata().unwrap().len(), 512);
    }
    let below = fs::read(&file).unwrap();
    for index in 0..DEVICES {
        let expected = if index % 101 == 0 { index as u8 | 1 } else { 0 };
        assert_eq!(below[index as usize * 512], expected, "device {index}");
    }
    let begun = Instant::now();
    mount.dmfs(&["remove_all"]).must();
    assert_eq!(fs::read_dir(mount.at()).unwrap().count(), 0);
    let removed = begun.elapsed();
    println!("made and listed in {made:?}, removed in {removed:?}, {each} bytes each");
    // Much more than it takes without optimisation, on a busy machine.
    assert!(
        made + removed < Duration::from_secs(60),
        "{made:?}, {removed:?}"
    );
    assert!(each < 16 << 10, "{each} bytes each");
    mount.stop();
}

#[test]
fn without_descriptors_a_table_is_refused_and_the_mount_lives_on() {
    const LIMIT: usize = 64;
    let watchdog = Watchdog::of_seconds(120);
    let (folder, at) = new_folder();
    let under = ["prlimit", &format!("--nofile={LIMIT}:{LIMIT}")].map(str::to_owned);
    let mount = Mount::launch(
        folder,
        at.clone(),
        &under,
        &["mount", word(&at)].map(str::to_owned),
    );
    watchdog.mind(&mount);
    let table = |index: usize| {
        let file = mount.backing(&format!("file{index}"), MIB);
        format!("0 2048 linear {} 0\n", file.display())
    };
    mount.create("d", &table(0));
    let device = mount.open("d");
    let mut ledger = Ledger::new(0, 16);
    ledger.write(&device).unwrap();
    let mut made = 0;
    let refused = loop {
        let said = mount.dmfs_fed(&["create", &format!("d{made}")], &table(made + 1));
        if !said.status.success() {
            break said.err;
        }
        made += 1;
        assert!(made < LIMIT, "there is no end of descriptors");
    };
    assert!(made > 4, "only {made}: {refused}");
    assert!(refused.contains("Too many open files"), "{refused}");
    assert!(refused.contains(&format!("({LIMIT})")), "{refused}");
    // Commands and I/O go on, several at a time and with callers who stay.
    let idle: Vec<UnixStream> = (0..LIMIT).map(|_| connect(&socket(&mount))).collect();
    let controls: Vec<Control> = (0..3).map(|_| Control::connect(&mount)).collect();
    for _ in 0..16 {
        ledger.write(&device).unwrap();
        assert_eq!(mount.dmfs(&["ls"]).must().lines().count(), made + 1);
    }
    let refused = mount
        .dmfs_fed(&["create", "more"], &table(LIMIT))
        .must_fail();
    assert!(refused.contains("Too many open files"), "{refused}");
    drop((idle, controls));
    // Descriptors that come back are used again.
    mount.dmfs(&["remove", "d0"]).must();
    mount.dmfs(&["remove", "d1"]).must();
    crate::files::wait_until(|| {
        let said = mount.dmfs_fed(&["create", "d0"], &table(1));
        said.status.success()
    });
    ledger.check(&device);
    drop(device);
    mount.stop();
}
