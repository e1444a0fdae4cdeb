//! A supervised mount outlives its daemon: killed at random, upgraded, killed again and again.

use crate::files::wait_until;
use crate::fio::job;
use crate::model::read;
use crate::support::loop_device::{LoopDevice, Mounted, detach_below};
use crate::support::mount::{Mount, Said, is_mounted, new_folder, size};
use crate::support::tools::{command, missing, run, text, word};
use crate::support::watchdog::Watchdog;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
/// How often the daemon is killed where it is killed at random.
const KILLS: u32 = 20;

/// A supervised mount without devices.
fn supervised() -> Mount {
    Mount::start_with(&["--supervised"])
}

/// A supervised mount with a linear device `d` of `mib` MiB.
fn linear(mib: u64) -> Mount {
    let mount = supervised();
    let file = mount.backing("d.img", mib * MIB);
    let sectors = mib * 2048;
    mount.create("d", &format!("0 {sectors} linear {} 0\n", file.display()));
    mount
}

/// The daemon that the mount's supervisor has started last, if it lives.
fn daemon(mount: &Mount) -> Option<u32> {
    let supervisor = mount.pid();
    let children = fs::read_to_string(format!("/proc/{supervisor}/task/{supervisor}/children"));
    let children = children.unwrap_or_default();
    let lives = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    };
    let pids = children.split_whitespace().map(|pid| pid.parse().unwrap());
    pids.rev().find(lives)
}

fn kill(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.try_into().unwrap()).unwrap();
    // It may be gone already.
    let _ = kill_process(pid, signal);
}

/// Kills the daemon, which has served for a while, and waits for the next one to answer.
fn kill_and_wait(mount: &Mount) {
    thread::sleep(Duration::from_millis(150));
    let before = daemon(mount).unwrap();
    kill(before, Signal::KILL);
    wait_until(|| daemon(mount).is_some_and(|now| now != before));
    mount.dmfs(&["ls"]).must();
}

fn info(mount: &Mount) -> serde_json::Value {
    let said = mount.dmfs(&["mounts", "--json"]).must();
    let mounts: Vec<serde_json::Value> = serde_json::from_str(&said).unwrap();
    let here = |info: &&serde_json::Value| info["mountpoint"] == word(mount.at());
    mounts.iter().find(here).unwrap().clone()
}

/// Numbers that look random and are the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

#[test]
fn what_messages_have_made_of_a_target_outlives_the_daemon() {
    let watchdog = Watchdog::of_seconds(60);
    let mount = supervised();
    watchdog.mind(&mount);
    let (a, b) = (mount.backing("a", MIB), mount.backing("b", MIB));
    let (a, b) = (word(&a), word(&b));
    mount.create("switch", &format!("0 2048 switch 2 64 0 {a} 0 {b} 0"));
    mount.create("dust", "0 2048 dust mem:1M:dust 0 512");
    mount.create(
        "flakey",
        "0 2048 flakey dmfs:clock=messages mem:1M:flakey 0 5 1",
    );
    let moved = [
        "message",
        "switch",
        "0",
        "set_region_mappings",
        "0:1",
        ":0",
        ":0",
    ];
    mount.dmfs(&moved).must();
    for words in ["addbadblock 7 2", "addbadblock 9", "enable", "quiet"] {
        let words = [
            &["message", "dust", "0"],
            &words.split(' ').collect::<Vec<_>>()[..],
        ];
        mount.dmfs(&words.concat()).must();
    }
    mount
        .dmfs(&["message", "flakey", "0", "dmfs:tick", "5"])
        .must();
    mount.open("switch").write_all_at(&[7; 512], 0).unwrap();

    kill_and_wait(&mount);

    let mut seen = [0; 512];
    File::open(b).unwrap().read_exact_at(&mut seen, 0).unwrap();
    assert_eq!(seen, [7; 512]);
    assert_eq!(read(&mount.open("switch"), 0, 512), [7; 512]);
    let said = mount
        .dmfs(&["message", "dust", "0", "listbadblocks"])
        .must();
    assert_eq!(said.trim(), "7\n9");
    let status = mount.dmfs(&["status", "dust"]).must();
    assert!(
        status.ends_with(" fail_read_on_bad_block quiet\n"),
        "{status}"
    );
    assert!(mount.open("dust").read_at(&mut [0; 512], 7 * 512).is_err());
    assert!(mount.open("flakey").read_at(&mut [0; 512], 0).is_err());
    mount.stop();
}

/// Kills daemon after daemon, each some time after it began. Every other one has served before: too many that have not,
/// one after the other, are the end of the mount.
fn kill_at_random(mount: &Mount, seed: u64) {
    println!("seed {seed}");
    let mut random = Random(seed);
    let mut killed = None;
    for number in 0..KILLS {
        let mut next = None;
        wait_until(|| {
            next = daemon(mount).filter(|pid| Some(*pid) != killed);
            next.is_some()
        });
        if number % 2 == 0 {
            mount.dmfs(&["ls"]).must();
        }
        thread::sleep(Duration::from_millis(150 + random.below(250)));
        kill(next.unwrap(), Signal::KILL);
        killed = next;
    }
}

/// Says that something is over when it goes, even with a panic: whoever waits for that ends then.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn start_fio(words: &[String]) -> Child {
    let started = command("fio")
        .args(words)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    started.unwrap_or_else(|error| panic!("{}", missing("fio", &error)))
}

fn finish_fio(fio: Child) {
    let said = fio.wait_with_output().unwrap();
    let (out, err) = (text(&said.stdout), text(&said.stderr));
    assert!(said.status.success(), "{out}{err}");
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["jobs"][0]["error"], 0, "{out}");
}

/// Runs fio again and again, which must find every byte, until `work` is done.
fn during_fio(file: &Path, size: u64, rest: &[&str], work: impl FnOnce() + Send) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let fio = scope.spawn(|| {
            let mut runs = 0;
            while !done.load(Ordering::Relaxed) || runs == 0 {
                finish_fio(start_fio(&job(file, "libaio", size, rest)));
                runs += 1;
            }
            runs
        });
        let over = Over(&done);
        work();
        drop(over);
        println!("fio ran {} times", fio.join().unwrap());
    });
}

#[test]
fn twenty_kills_under_fio_lose_nothing_on_the_file() {
    let mount = linear(32);
    let watchdog = Watchdog::of_seconds(180);
    watchdog.mind(&mount);
    during_fio(&mount.device("d"), 32 * MIB, &["--direct=1"], || {
        kill_at_random(&mount, 0x9e37_79b9);
    });
    assert_eq!(info(&mount)["restarts"], KILLS, "{}", mount.log());
    mount.stop();
}

#[test]
fn twenty_kills_under_fio_lose_nothing_on_a_loop_device_with_ext4() {
    let mount = linear(96);
    let watchdog = Watchdog::of_seconds(240);
    watchdog.mind(&mount);
    let attached = LoopDevice::attach(&mount.device("d"), &["--direct-io=on"]);
    run("mkfs.ext4", &["-q", "-F", attached.word()]);
    let folder = mount.folder().join("ext4");
    fs::create_dir(&folder).unwrap();
    let ext4 = Mounted::new(attached.path(), &folder, "errors=remount-ro");
    during_fio(
        &folder.join("file"),
        32 * MIB,
        &["--direct=1", "--fsync=64"],
        || kill_at_random(&mount, 0x1234_5678),
    );
    // Still writable: no error has made the file system read-only.
    fs::write(folder.join("last"), "word").unwrap();
    ext4.unmount();
    run("e2fsck", &["-f", "-n", attached.word()]);
    assert_eq!(info(&mount)["restarts"], KILLS, "{}", mount.log());
    drop(attached);
    mount.stop();
}

/// What the tools show of every device.
fn shown(mount: &Mount) -> Vec<String> {
    let verbs: [&[&str]; 10] = [
        &["info"],
        &["info", "--inactive"],
        &["table"],
        &["table", "--inactive"],
        &["status"],
        &["deps"],
        &["deps", "--inactive"],
        &["ls", "--tree"],
        &["info", "-c"],
        &["targets"],
    ];
    let mut shown: Vec<_> = verbs
        .iter()
        .map(|words| mount.dmsetup(words).must())
        .collect();
    shown.push(mount.dmfs(&["table"]).must());
    shown.push(mount.dmfs(&["table", "--inactive"]).must());
    shown
}

#[test]
fn every_state_of_a_device_is_as_it_was() {
    let mount = supervised();
    let watchdog = Watchdog::of_seconds(60);
    watchdog.mind(&mount);
    let (a, b) = (mount.backing("a b", 4 * MIB), mount.backing("b", 4 * MIB));
    let a = a.display().to_string().replace(' ', "\\ ");
    let b = b.display();
    // Numbers of files and devices that are gone are not used again.
    mount.create("gone", &format!("0 8 linear {b} 0\n"));
    mount.create("plain", &format!("0 1000 linear {a} 8\n1000 24 error\n"));
    mount.dmfs(&["remove", "gone"]).must();
    mount.create("stripes", &format!("0 1024 striped 2 16 {a} 2048 {b} 0\n"));
    mount.create("memory", "0 2048 linear mem:1M:kept 0\n");
    mount.create(
        "nameless",
        "0 16 linear mem:8K 0\n0 0\n".split("0 0").next().unwrap(),
    );
    let over = |name: &str| format!("/dev/mapper/{name}");
    mount.create("upper", &format!("0 512 linear {} 100\n", over("stripes")));
    mount
        .dmfs(&["create", "bare", "--notable", "-u", "UUID-1"])
        .must();
    mount
        .dmfs_fed(
            &["create", "readonly", "-r"],
            &format!("0 8 linear {b} 64\n"),
        )
        .must();
    // A lower device that is younger than the upper one, and shorter than the upper one needs by now.
    mount.create("young", "0 512 zero\n");
    mount
        .dmfs_fed(
            &["load", "upper"],
            &format!("0 512 linear {} 0\n", over("young")),
        )
        .must();
    mount.dmfs(&["resume", "upper"]).must();
    mount.dmfs_fed(&["load", "young"], "0 256 error\n").must();
    mount.dmfs(&["resume", "young"]).must();
    mount
        .dmfs_fed(&["load", "plain"], &format!("0 64 linear {b} 0\n"))
        .must();
    mount.dmfs(&["suspend", "stripes"]).must();
    mount.dmfs(&["suspend", "--noflush", "readonly"]).must();
    mount.dmfs(&["rename", "bare", "renamed"]).must();
    mount.dmfs(&["rename", "plain", "plain2"]).must();
    mount
        .dmfs(&["setgeometry", "plain2", "1", "2", "3", "4"])
        .must();
    // A file that is not in its place any more is still the same file.
    let deleted = mount.backing("deleted", MIB);
    mount.create(
        "orphan",
        &format!("0 2048 linear {} 0\n", deleted.display()),
    );
    fs::remove_file(&deleted).unwrap();
    fs::write(&deleted, "another file").unwrap();
    mount.open("orphan").write_all_at(b"orphan", 0).unwrap();
    mount.open("memory").write_all_at(b"memory", 4096).unwrap();
    chown(mount.device("memory"), Some(12), Some(34)).unwrap();
    fs::set_permissions(mount.device("memory"), fs::Permissions::from_mode(0o640)).unwrap();
    // Open files, one of a device that is to go with its last close.
    let (held, leaving) = (mount.open("memory"), mount.open("nameless"));
    let again = held.try_clone().unwrap();
    let other = mount.open("memory");
    mount.dmfs(&["remove", "--deferred", "nameless"]).must();
    let stat = |name: &str| {
        let stat = fs::metadata(mount.device(name)).unwrap();
        (stat.ino(), stat.uid(), stat.gid(), stat.mode(), stat.len())
    };
    let (before, file) = (shown(&mount), stat("memory"));
    for round in 0..3 {
        kill_and_wait(&mount);
        assert_eq!(shown(&mount), before, "round {round}");
        assert_eq!(stat("memory"), file);
        assert_eq!(read(&held, 4096, 6), b"memory");
        assert_eq!(read(&mount.open("orphan"), 0, 6), b"orphan");
    }
    // What the first daemon let in, the last one lets out.
    drop((held, again));
    let open_count = || {
        let said = mount.dmsetup(&["info", "-c", "--noheadings", "-o", "open", "memory"]);
        said.must().trim().to_owned()
    };
    wait_until(|| open_count() == "1");
    kill_and_wait(&mount);
    assert_eq!(open_count(), "1");
    drop(other);
    wait_until(|| open_count() == "0");
    drop(leaving);
    wait_until(|| !mount.device("nameless").exists());
    kill_and_wait(&mount);
    assert!(!mount.dmfs(&["ls"]).must().contains("nameless"));
    mount.dmfs(&["resume", "stripes"]).must();
    mount.dmfs(&["resume", "plain2"]).must();
    assert_eq!(size(&mount.device("plain2")), 64 * 512);
    kill_and_wait(&mount);
    assert_eq!(size(&mount.device("plain2")), 64 * 512);
    mount.dmfs(&["remove", "memory"]).must();
    mount.create("memory", "0 2048 linear mem:1M:kept 0\n");
    assert_eq!(
        read(&mount.open("memory"), 4096, 6),
        [0; 6],
        "memory was given back"
    );
    // New devices do not get the number of one that has been.
    let last = fs::metadata(mount.device("memory")).unwrap().ino();
    mount.dmfs(&["remove", "memory"]).must();
    kill_and_wait(&mount);
    mount.create("next", "0 8 zero\n");
    assert!(fs::metadata(mount.device("next")).unwrap().ino() > last);
    mount.stop();
}

#[test]
fn a_request_to_a_suspended_device_waits_through_the_death_of_the_daemon() {
    let mount = linear(1);
    let watchdog = Watchdog::of_seconds(60);
    watchdog.mind(&mount);
    mount.dmfs(&["suspend", "d"]).must();
    let device = mount.open("d");
    thread::scope(|scope| {
        // More than there are workers, and a flush among them.
        let writers: Vec<_> = (0..16_u64)
            .map(|index| {
                let device = &device;
                scope.spawn(move || {
                    device
                        .write_all_at(&[index as u8 + 1; 512], index * 512)
                        .unwrap();
                    device.sync_data().unwrap();
                })
            })
            .collect();
        for _ in 0..3 {
            thread::sleep(Duration::from_millis(150));
            kill_and_wait(&mount);
            assert!(mount.dmsetup(&["info", "d"]).must().contains("SUSPENDED"));
            assert!(writers.iter().all(|writer| !writer.is_finished()));
        }
        mount.dmfs(&["resume", "d"]).must();
    });
    let file = fs::read(mount.folder().join("d.img")).unwrap();
    for index in 0..16 {
        assert_eq!(file[index * 512], index as u8 + 1);
    }
    drop(device);
    mount.stop();
}

#[test]
fn a_daemon_that_waits_for_itself_when_it_is_killed_is_followed_all_the_same() {
    let mount = linear(1);
    let watchdog = Watchdog::of_seconds(60);
    watchdog.mind(&mount);
    mount.dmfs(&["suspend", "d"]).must();
    let before = daemon(&mount).unwrap();
    thread::scope(|scope| {
        // The loop driver flushes the file on behalf of the daemon's thread, which nothing but an answer ends.
        let attaches = scope.spawn(|| mount.dmfs(&["attach", "d"]));
        let waits = || {
            let threads = fs::read_dir(format!("/proc/{before}/task"))
                .unwrap()
                .flatten();
            let mut places = threads.map(|thread| fs::read_to_string(thread.path().join("wchan")));
            places.any(|place| place.is_ok_and(|place| place == "request_wait_answer"))
        };
        wait_until(waits);
        kill(before, Signal::KILL);
        wait_until(|| daemon(&mount).is_some_and(|now| now != before));
        assert!(mount.dmsetup(&["info", "d"]).must().contains("SUSPENDED"));
        assert!(
            Path::new(&format!("/proc/{before}")).exists(),
            "it did not wait"
        );
        mount.dmfs(&["resume", "d"]).must();
        // With its last thread it lets go of whoever called it.
        assert!(!attaches.join().unwrap().status.success());
    });
    wait_until(|| !Path::new(&format!("/proc/{before}")).exists());
    mount.open("d").write_all_at(b"on", 0).unwrap();
    detach_below(mount.at());
    mount.stop();
}

#[test]
fn a_table_swap_under_kills_happens_or_does_not_and_loses_nothing() {
    let mount = linear(8);
    let watchdog = Watchdog::of_seconds(180);
    watchdog.mind(&mount);
    let file = mount.folder().join("d.img");
    let tables = [
        format!("0 16384 linear {} 0\n", file.display()),
        format!(
            "0 77 linear {0} 0\n77 16307 linear {0} 77\n",
            file.display()
        ),
    ];
    during_fio(
        &mount.device("d"),
        8 * MIB,
        &["--direct=1", "--verify_backlog=64"],
        || {
            let over = AtomicBool::new(false);
            thread::scope(|scope| {
                let swapper = scope.spawn(|| {
                    let (mut done, mut cut) = (0_usize, 0);
                    while !over.load(Ordering::Relaxed) || done <= 5 {
                        let table = &tables[(done + cut) % 2];
                        let steps = [
                            mount.dmfs_fed(&["load", "d"], table),
                            mount.dmfs(&["suspend", "d"]),
                            mount.dmfs(&["resume", "d"]),
                        ];
                        let well = |said: &Said| said.status.success();
                        match steps.iter().all(well) {
                            true => done += 1,
                            false => cut += 1,
                        }
                        // Whatever was cut off can be done now.
                        wait_until(|| mount.dmfs(&["resume", "d"]).status.success());
                    }
                    (done, cut)
                });
                let killed = Over(&over);
                kill_at_random(&mount, 0xfeed_beef);
                drop(killed);
                let (done, cut) = swapper.join().unwrap();
                println!("{done} swaps, {cut} cut off");
            });
        },
    );
    let table = mount.dmfs(&["table", "d"]).must();
    assert!(matches!(table.lines().count(), 1 | 2), "{table}");
    mount.stop();
}

#[test]
fn what_was_written_through_the_new_table_is_found_again() {
    let mount = supervised();
    let watchdog = Watchdog::of_seconds(120);
    watchdog.mind(&mount);
    let files = ["a", "b"].map(|name| mount.backing(name, MIB));
    let over = |file: &Path| format!("0 2048 linear {} 0\n", file.display());
    mount.create("d", &over(&files[0]));
    let device = mount.open("d");
    for round in 1..=20_u8 {
        mount
            .dmfs_fed(&["load", "d"], &over(&files[usize::from(round) % 2]))
            .must();
        // Killed somewhere in the resume: whatever an acknowledged write met is live from then on.
        let daemon = daemon(&mount).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| mount.dmfs(&["resume", "d"]));
            thread::sleep(Duration::from_micros(u64::from(round) * 400));
            device.write_all_at(&[round; 512], 0).unwrap();
            kill(daemon, Signal::KILL);
        });
        let read_back = read(&device, 0, 1)[0];
        mount.dmfs(&["resume", "d"]).must();
        let table = mount.dmfs(&["table", "d"]).must();
        let live = files
            .iter()
            .find(|file| table.contains(word(file)))
            .unwrap();
        let other = files
            .iter()
            .find(|file| !table.contains(word(file)))
            .unwrap();
        let first = |file: &Path| fs::read(file).unwrap()[0];
        assert!(
            first(live) == round || first(other) == round,
            "round {round}"
        );
        if read_back != round {
            // The swap came after the write.
            assert_eq!(first(other), round, "round {round}: lost");
        }
        device.write_all_at(&[round; 512], 0).unwrap();
        wait_until(|| info(&mount)["restarts"] == u32::from(round));
        thread::sleep(Duration::from_millis(110));
    }
    drop(device);
    mount.stop();
}

#[test]
fn an_upgrade_under_load_is_not_noticed() {
    let mount = linear(16);
    let watchdog = Watchdog::of_seconds(120);
    watchdog.mind(&mount);
    let program = mount.folder().join("dmfs-new");
    run("cp", &[word(&mount.folder().join("dmfs")), word(&program)]);
    during_fio(&mount.device("d"), 16 * MIB, &["--direct=1"], || {
        for round in 1..=5_u64 {
            let before = info(&mount);
            let program = match round % 2 {
                0 => mount.folder().join("dmfs"),
                _ => program.clone(),
            };
            let at = word(mount.at());
            let upgrade = ["upgrade", "--program", word(&program), at];
            mount.dmfs(&upgrade).must();
            let now = info(&mount);
            assert_ne!(before["pid"], now["pid"]);
            assert_eq!(now["program"], word(&program));
            assert_eq!(now["restarts"], round);
            thread::sleep(Duration::from_millis(200));
        }
        // A daemon that dies after an upgrade is followed by one of the new program.
        kill_and_wait(&mount);
        assert_eq!(info(&mount)["program"], word(&program));
    });
    mount.stop();
}

#[test]
fn a_program_that_cannot_go_on_is_refused_or_taken_back() {
    let mount = linear(1);
    let watchdog = Watchdog::of_seconds(60);
    watchdog.mind(&mount);
    mount.open("d").write_all_at(b"kept", 0).unwrap();
    let upgrade = |program: &Path| {
        let at = word(mount.at());
        mount.dmfs(&["upgrade", "--program", word(program), at])
    };
    let script = |name: &str, lines: &str| {
        let path = mount.folder().join(name);
        fs::write(&path, format!("#!/bin/sh\n{lines}\n")).unwrap();
        run("chmod", &["755", word(&path)]);
        path
    };
    let before = info(&mount);
    let refused = upgrade(Path::new("/bin/true"));
    assert!(
        refused.err.contains("/bin/true is no dmfs"),
        "{}",
        refused.err
    );
    let other = script("other", "echo 4711");
    let refused = upgrade(&other).must_fail();
    assert!(
        refused.contains("format 4711") && refused.contains("format 1"),
        "{refused}"
    );
    // Nothing has happened so far.
    assert_eq!(info(&mount), before);
    let failing = script("failing", "[ \"$1\" = generate ] && echo 1 && exit; exit 1");
    let refused = upgrade(&failing).must_fail();
    assert!(refused.contains("did not come to serving"), "{refused}");
    assert_eq!(info(&mount)["program"], before["program"]);
    assert_eq!(read(&mount.open("d"), 0, 4), b"kept");
    mount.stop();
    let plain = Mount::start();
    let refused = plain.dmfs(&["upgrade", word(plain.at())]).must_fail();
    assert!(refused.contains("not --supervised"), "{refused}");
    plain.stop();
}

#[test]
fn daemons_that_die_at_once_are_the_end_and_nobody_waits() {
    let mut mount = linear(1);
    let watchdog = Watchdog::of_seconds(60);
    watchdog.mind(&mount);
    mount.dmfs(&["suspend", "d"]).must();
    let device = mount.open("d");
    thread::scope(|scope| {
        let waits = scope.spawn(|| device.write_all_at(b"x", 0));
        thread::sleep(Duration::from_millis(150));
        let deadline = Instant::now() + Duration::from_secs(20);
        while !waits.is_finished() {
            assert!(
                Instant::now() < deadline,
                "it goes on for ever:\n{}",
                mount.log()
            );
            if let Some(pid) = daemon(&mount) {
                kill(pid, Signal::KILL);
            }
        }
        assert!(waits.join().unwrap().is_err());
    });
    assert!(!mount.wait().success());
    let log = mount.log();
    assert!(log.contains("daemons in a row have died"), "{log}");
    // As after the death of a daemon that nobody supervises: it is told from an empty folder.
    assert!(File::open(mount.device("d")).is_err());
    drop(device);
    mount.run_daemon(&["mount", word(mount.at())].map(str::to_owned));
    mount.stop();
}

#[test]
fn the_death_of_the_supervisor_is_said_and_survived() {
    let mut mount = linear(1);
    let watchdog = Watchdog::of_seconds(60);
    watchdog.mind(&mount);
    assert_eq!(info(&mount)["supervision"], "supervised");
    let serving = daemon(&mount).unwrap();
    mount.signal(Signal::KILL);
    assert!(!mount.wait().success());
    wait_until(|| info(&mount)["supervision"] == "lost");
    assert_eq!(info(&mount)["pid"], serving);
    let said = mount.dmfs(&["mounts"]).must();
    assert!(said.contains("its supervisor has died"), "{said}");
    assert!(
        mount.log().contains("the supervisor has died"),
        "{}",
        mount.log()
    );
    mount.open("d").write_all_at(b"on", 0).unwrap();
    mount.create("more", "0 8 linear mem:4K 0\n");
    let refused = mount.dmfs(&["upgrade", word(mount.at())]).must_fail();
    assert!(refused.contains("supervisor has died"), "{refused}");
    wait_until(|| mount.dmfs(&["umount", word(mount.at())]).status.success());
    wait_until(|| !is_mounted(mount.at()));
    wait_until(|| !Path::new(&format!("/proc/{serving}")).exists());
}

#[test]
fn a_supervised_mount_ends_as_any_other() {
    // SIGTERM to the daemon rather than to the supervisor.
    let mut mount = linear(1);
    kill_and_wait(&mount);
    kill(daemon(&mount).unwrap(), Signal::TERM);
    assert!(mount.wait().success(), "{}", mount.log());
    assert!(!is_mounted(mount.at()));
    // The command, from the mount file's word.
    let mut mount =
        Mount::from_toml("supervised = true\n[[device]]\nname = \"z\"\ntable = \"0 8 zero\"\n");
    assert_eq!(info(&mount)["supervision"], "supervised");
    kill_and_wait(&mount);
    mount.dmfs(&["umount", word(mount.at())]).must();
    assert!(mount.wait().success(), "{}", mount.log());
    // A second signal ends what is in use.
    let mut mount = linear(1);
    kill_and_wait(&mount);
    let held = mount.open("d");
    mount.signal(Signal::TERM);
    wait_until(|| !is_mounted(mount.at()));
    mount.signal(Signal::TERM);
    mount.wait();
    drop(held);
    assert!(daemon_of(mount.at()).is_none());
}

/// A process that has `at` among its words.
fn daemon_of(at: &Path) -> Option<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    let mut lines = lines.map(|line| text(&line));
    lines.find(|line| line.contains(word(at)) && line.contains("mount"))
}

#[test]
fn in_the_background_it_says_when_it_stands() {
    let (folder, at) = new_folder();
    let words = ["mount", "--supervised", word(&at)].map(str::to_owned);
    // The harness starts it in the foreground; this one goes there by itself.
    let mount = Mount::launch(folder, at.clone(), &[], &words);
    let (other_folder, other) = (
        mount.folder().join("other"),
        mount.folder().join("other/mnt"),
    );
    fs::create_dir(&other_folder).unwrap();
    // Whoever starts it has a lock meanwhile, which does not outlive him.
    let lock = mount.folder().join("lock");
    let started = mount.shell(&format!(
        "flock {} dmfs mount --background --supervised {}",
        lock.display(),
        other.display()
    ));
    started.must();
    assert!(is_mounted(&other));
    mount
        .shell(&format!("flock -n {} true", lock.display()))
        .must();
    let of_other = |words: &str| mount.shell(&format!("dmfs {words} --mount {}", other.display()));
    of_other("create z --table '0 8 zero'").must();
    let find = || {
        let said = mount.dmfs(&["mounts", "--json"]).must();
        let mounts: Vec<serde_json::Value> = serde_json::from_str(&said).unwrap();
        let there = |info: &serde_json::Value| info["mountpoint"] == word(&other);
        mounts.into_iter().find(there)
    };
    let pid = find().unwrap()["pid"].as_u64().unwrap();
    kill(pid.try_into().unwrap(), Signal::KILL);
    wait_until(|| find().is_some_and(|info| info["restarts"] == 1));
    assert!(of_other("ls").must().contains('z'));
    of_other("umount").must();
    wait_until(|| !is_mounted(&other));
    // It was made for the mount and goes with it.
    wait_until(|| !other.exists());
    mount.stop();
}
